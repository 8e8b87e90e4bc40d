#!/usr/bin/env bash
# On a machine with an H200: whether training there is right, what it costs, how long it waits for data, and PyTorch beside it.
#
#     benchmarks/h200.sh PROGRAM FOLDER
#
# PROGRAM is `patchstream` built with CUDA (README, "On CUDA"); it needs a driver for CUDA 13.0 and cuBLAS 13, which is taken
# from PyTorch's packages where the system has none. python3 must have torch and Pillow. Leaves in FOLDER: card.txt,
# selfcheck.json, pretrain.jsonl, torch.jsonl, and log.txt with what went wrong. Ends within 560 seconds, the most important
# first. Where the program has to travel, `strip` and `gzip` make 20 MB of 114.
#
# It has met no GPU yet. MODEL, BATCHES and STEPS make it small enough to be tried with the driver of tests/cuda, where it ran
# up to PyTorch, which wants the real one.
set -euo pipefail
program=$(realpath "${1:?the program}") folder=${2:?a folder for the results}
model=${MODEL:-vit_base} batches=${BATCHES:-256 64} steps=${STEPS:-20} seconds=560
cd "$(dirname "$0")/.."
mkdir -p "$folder"
folder=$(realpath "$folder")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
exec 2> >(tee -a "$folder/log.txt" >&2)

# within LIMIT COMMAND...: stops the command at its limit, or when all time is used up. What fails is written down, and what
# comes after is worth having all the same.
within() {
    local left=$((seconds - SECONDS)) limit=$1
    shift
    if ((left <= 0)); then
        echo "no time left for: $*" >&2
        return
    fi
    timeout --kill-after=10 $((limit < left ? limit : left)) "$@" || echo "exit status $? of: $*" >&2
}

{ date -u; nvidia-smi; "$program" --version; } >"$folder/card.txt" || true
packages=$(python3 -c 'import os, torch; print(os.path.dirname(os.path.dirname(torch.__file__)))')
cublas=$(find "$packages/nvidia" -name libcublas.so.13 -printf '%h\n' -quit 2>/dev/null || true)
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}:$cublas"

# Photographs as ImageNet has them: 3,000 crops of the test photographs, about 500 px long.
python3 - tests/data/photos "$work/images" 3000 <<'PYTHON'
import glob, os, random, sys
from PIL import Image
source, target, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
random.seed(0)
photos = []
for path in sorted(glob.glob(source + "/*/*")):
    try:
        photos.append(Image.open(path).convert("RGB"))
    except OSError:
        continue
photos = [photo for photo in photos if min(photo.size) >= 400]
os.makedirs(target + "/all")
for number in range(count):
    photo = photos[number % len(photos)]
    width, height = (min(side, random.randint(350, 500)) for side in photo.size)
    left, top = random.randint(0, photo.width - width), random.randint(0, photo.height - height)
    photo.crop((left, top, left + width, top + height)).save(f"{target}/all/{number:05}.jpg", quality=90)
PYTHON
"$program" convert "$work/images" "$work/shards" --quiet >/dev/null

within 180 "$program" selfcheck --device cuda:0 --model "$model" --data "$work/shards" --batch "${batches// /,}" \
    --steps "$steps" --out "$folder/selfcheck.json"
# As users train: streamed, in TF32, with checkpoints.
within 60 "$program" pretrain --device cuda:0 --model "$model" --data "$work/shards" --out "$work/run" --quiet \
    --set train.matmul_precision=tf32 --set train.batch_size="${batches%% *}" --set train.steps=$((5 * steps))
cp "$work/run/metrics.jsonl" "$folder/pretrain.jsonl" || true
: >"$folder/torch.jsonl"
for precision in tf32 fp32 bf16; do
    for batch in $batches; do
        within 100 python3 benchmarks/torch_mae_step.py --model "$model" --batch "$batch" --device cuda \
            --precision $precision --warmup 5 --steps "$steps" --compile | tee -a "$folder/torch.jsonl"
    done
done
