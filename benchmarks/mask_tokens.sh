#!/usr/bin/env bash
# What leaving mask tokens out of the encoder saves (the paper's Table 1c: 3.7 times with one decoder block, 2.8 with eight):
# steps of both kinds in turn.
#
#     benchmarks/mask_tokens.sh [MODEL BATCH THREADS ROUNDS STEPS]
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:-vit_tiny} batch=${2:-16} threads=${3:-2} rounds=${4:-3} steps=${5:-6}
program=${CARGO_TARGET_DIR:-target}/release/patchstream
for depth in 1 8; do
    lines=$(mktemp)
    for _ in $(seq "$rounds"); do
        for input in visible with_mask_tokens; do
            "$program" bench-step --model "$model" --batch "$batch" --threads "$threads" --steps "$steps" --warm-up 1 --json \
                --set model.decoder.depth=$depth --set model.encoder_input=$input >>"$lines"
        done
    done
    python3 - "$lines" "$depth" <<'PYTHON'
import json, sys
text, runs = open(sys.argv[1]).read(), []
while text.strip():
    run, end = json.JSONDecoder().raw_decode(text.lstrip())
    runs.append(run)
    text = text.lstrip()[end:]
def of(kind):
    return [run for run in runs if run["encoder_input"] == kind]
for kind in ("visible", "with_mask_tokens"):
    times = ", ".join(f'{run["ms_per_step"]:.1f} ({run["ms_min"]:.1f})' for run in of(kind))
    print(f"decoder of {sys.argv[2]}, {kind}: {times} ms a step, median (fastest)")
ratio = min(r["ms_min"] for r in of("with_mask_tokens")) / min(r["ms_min"] for r in of("visible"))
pairs = [b["ms_per_step"] / a["ms_per_step"] for a, b in zip(of("visible"), of("with_mask_tokens"))]
flops = of("with_mask_tokens")[0]["gflop_per_step"] / of("visible")[0]["gflop_per_step"]
print(f"decoder of {sys.argv[2]}: {ratio:.2f} times by the fastest steps, {', '.join(f'{p:.2f}' for p in pairs)} by rounds; "
      f"{flops:.2f} times the operations")
PYTHON
    rm -f "$lines"
done
