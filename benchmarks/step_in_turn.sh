#!/usr/bin/env bash
# Training steps of Patchstream and of PyTorch on the CPU, in turn, so that a machine that becomes slower or faster meets both.
#
#     benchmarks/step_in_turn.sh PYTHON [MODEL BATCH THREADS ROUNDS STEPS]
#
# PYTHON is an interpreter that has torch. Prints each run as one line of JSON, then the ratio of the fastest steps and of
# the medians of the medians.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:?an interpreter that has torch} model=${2:-vit_micro} batch=${3:-64} threads=${4:-2} rounds=${5:-5} steps=${6:-15}
program=${CARGO_TARGET_DIR:-target}/release/patchstream
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
for _ in $(seq "$rounds"); do
    "$program" bench-step --model "$model" --batch "$batch" --threads "$threads" --steps "$steps" --json |
        python3 -c 'import json, sys; r = json.load(sys.stdin); r.pop("operations"); print(json.dumps({"peer": "patchstream", **r}))' |
        tee -a "$lines"
    "$python" benchmarks/torch_mae_step.py --device cpu --threads "$threads" --precision fp32 --model "$model" \
        --batch "$batch" --warmup 3 --steps "$steps" | tee -a "$lines"
done
python3 - "$lines" <<'PYTHON'
import json, statistics, sys
runs = [json.loads(line) for line in open(sys.argv[1])]
ours, theirs = ([r for r in runs if r["peer"] == peer] for peer in ("patchstream", "torch"))
fastest = [min(r["ms_min"] for r in part) for part in (ours, theirs)]
median = [statistics.median(r["ms_per_step"] for r in part) for part in (ours, theirs)]
print(f"fastest step: {fastest[0]:.1f} and {fastest[1]:.1f} ms, ratio {fastest[0] / fastest[1]:.2f}")
print(f"median of medians: {median[0]:.1f} and {median[1]:.1f} ms, ratio {median[0] / median[1]:.2f}")
PYTHON
