#!/usr/bin/env bash
# On a machine with an H200: whether training there is right, what it costs, and PyTorch beside it, in one go.
#
#     benchmarks/h200.sh PROGRAM FOLDER
#
# PROGRAM is `patchstream` built with CUDA (README, "On CUDA"); it needs a driver for CUDA 13.0 and cuBLAS 13, which is taken
# from PyTorch's packages where the system has none. python3 must have torch and Pillow. Leaves in FOLDER: card.txt,
# selfcheck.json, step-64.json, step-256.json, torch.jsonl. It should take some eight minutes, most of them for torch.compile; it has
# not been run on such a machine yet. `strip` makes the program half as large where it has to travel.
set -euo pipefail
program=$(realpath "${1:?the program}") folder=${2:?a folder for the results}
cd "$(dirname "$0")/.."
mkdir -p "$folder"
folder=$(realpath "$folder")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

{ date -u; nvidia-smi; "$program" --version; } >"$folder/card.txt"
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

# What is wrong shows in the file; what comes after is worth having all the same.
"$program" selfcheck --device cuda:0 --data "$work/shards" --batch 256,64 --steps 20 --out "$folder/selfcheck.json" || true
for batch in 64 256; do
    "$program" bench-step --device cuda:0 --model vit_base --batch $batch --steps 20 --json >"$folder/step-$batch.json" || true
done
: >"$folder/torch.jsonl"
for precision in fp32 tf32 bf16; do
    for batch in 64 256; do
        python3 benchmarks/torch_mae_step.py --model vit_base --batch $batch --device cuda --precision $precision \
            --warmup 5 --steps 20 --compile | tee -a "$folder/torch.jsonl" || true
    done
done
