#!/bin/sh
# The whole recipe: tokenizer, data, training, export, evaluation. Usage: train.sh WORKDIR [MINUTES] [OUTPUT.gguf]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:?usage: train.sh WORKDIR [MINUTES] [OUTPUT.gguf]}
minutes=${2:-85}
out=${3:-$work/tug-tiny-coder-q8_0.gguf}
py=${PYTHON:-python3}
mkdir -p "$work"
# glibc returns large blocks to the system at every step otherwise
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
[ -f "$work/tokenizer.json" ] || "$py" "$here/tokenizer.py" --out "$work/tokenizer.json"
[ -f "$work/pools.pt" ] || "$py" "$here/data.py" --tokenizer "$work/tokenizer.json" --out "$work/pools.pt"
resume=
[ -f "$work/ckpt.pt" ] && [ ! -f "$work/final.pt" ] && resume="--resume $work/ckpt.pt"
[ -f "$work/final.pt" ] || "$py" "$here/train.py" --pools "$work/pools.pt" --out "$work" --minutes "$minutes" --tokens 2048 $resume
"$py" "$here/export.py" --checkpoint "$work/final.pt" --tokenizer "$work/tokenizer.json" --out "$out"
"$py" "$here/evaluate.py" --model "$out" --json "$work/evaluation.json"
