# The two commands of the README: `make demo` runs the main job, `make test` runs the tests.
# Each sets up what it needs first.

PATCHSTREAM = target/release/patchstream
PHOTOS = tests/data/photos
export CARGO_TARGET_DIR = $(CURDIR)/target

.PHONY: demo test test-cuda test-python test-python-light lint setup build

demo: build
	@echo "--- photographs become Parquet shards"
	$(PATCHSTREAM) convert $(PHOTOS) demo/shards --pixel-stats 100 --overwrite
	@echo "--- what is in them"
	$(PATCHSTREAM) inspect demo/shards
	@echo "--- a small masked autoencoder learns from them, for about two minutes"
	rm -rf demo/run
	$(PATCHSTREAM) pretrain --config trainer/configs/photos.toml --data demo/shards --out demo/run
	@echo "--- what it makes of the hidden patches"
	$(PATCHSTREAM) reconstruct --checkpoint demo/run --data demo/shards --images 12 --out demo/reconstructions.png
	@echo "--- done: look at demo/reconstructions.png. To try next:"
	@echo "  $(PATCHSTREAM) convert YOUR/PHOTOS shards --check decode"
	@echo "  $(PATCHSTREAM) pretrain --data shards --model vit_tiny --out run"
	@echo "  $(PATCHSTREAM) bench --data shards --workers 2"

# Optimised, since the tests train: the same build serves `demo`.
test: setup
	cargo test --workspace --release --locked

# The CUDA backend on a driver that computes on the CPU: no GPU and no toolkit, but g++ and a build of its own.
test-cuda: setup
	tests/cuda/run

# What other programs make of our files: pinned Python packages in an environment of their own.
test-python: build
	@.ci/setup python
	tests/python/run all
	tests/python/run exchange

test-python-light: build
	@.ci/setup python
	tests/python/run light

lint: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --release --locked -- --deny warnings
	cargo clippy --workspace --release --locked --features patchstream-trainer/cuda-check -- --deny warnings

build: setup
	cargo build --release --locked

setup:
	@.ci/setup
