#!/usr/bin/env bash
# gpu-bench.sh - how fast is tug on this machine's GPU?  Kernels against the device's limits, a
# model of full size with and without a ceiling of VRAM, and llama.cpp on the same file.
#
#   tools/gpu-bench.sh [options]
#
#   --gpu N             which GPU (default 0)
#   --vram SIZE         the ceiling (default 15.1G: an RTX 5060 Ti's)
#   --model FILE        measure this one; without: tug synth makes one, as large as disk and time
#                       allow, up to the 38 GB of Qwen3-Coder-Next Q3_K_M
#   --folder DIR        where that goes (default: the report's folder)
#   --contexts LIST     depths of context (default 8192,16384,32768)
#   --llama-bench PATH  llama.cpp's, built with CUDA: measured on the same file and ceiling
#   --llama-moe N       for it: layers whose experts stay on the CPU (default 31)
#   --out FOLDER        where the report goes (default build/gpu-bench)
#   --json              the report as JSON on stdout instead of lines
#   --emulated          on the emulated driver, with a tiny model: tests this script
#
# For a Debian or Ubuntu machine with an NVIDIA driver and CUDA 13.  Takes less than nine minutes:
# what does not fit is counted as skipped.  FOLDER gets report.json, kernels.log, and bench_*.json.
# Two thirds of the time may go into making the model; give it with --model the next time.
#
# example: tools/gpu-bench.sh --folder /mnt/nvme --llama-bench ~/llama.cpp/build/bin/llama-bench
# SPDX-License-Identifier: MIT
set -u
cd "$(dirname "$0")/.."
. tools/gpu-report.sh

gpu=0 vram=15.1G model="" folder="" contexts=8192,16384,32768 llama="" llama_moe=31
out=build/gpu-bench json=0 emulated=0
while [ $# -gt 0 ]; do
    case $1 in
    --gpu | --vram | --model | --folder | --contexts | --llama-bench | --llama-moe | --out)
        [ $# -gt 1 ] || { echo "$1 wants a value" >&2; exit 2; }
        case $1 in
        --gpu) gpu=$2 ;;
        --vram) vram=$2 ;;
        --model) model=$2 ;;
        --folder) folder=$2 ;;
        --contexts) contexts=$2 ;;
        --llama-bench) llama=$2 ;;
        --llama-moe) llama_moe=$2 ;;
        --out) out=$2 ;;
        esac
        shift
        ;;
    --json) json=1 ;;
    --emulated) emulated=1 ;;
    -h | --help) usage "$0"; exit 0 ;;
    *) usage "$0" >&2; exit 2 ;;
    esac
    shift
done
limit=520 patience=150
[ $emulated = 0 ] || limit=7200 patience=1800 # no measure of time
report_begin gpu-bench "$out" $limit "$json"
folder=${folder:-$out}

# The JSON goes to a file of its own, the rest to the log.
bench() {
    local to=$1
    shift
    within $patience "$tug" bench -m "$model" --json "$@" >"$to" || return 1
    python3 - "$to" <<'PY'
import json, sys
with open(sys.argv[1], encoding="utf-8") as f:
    result = json.load(f)
print("JSON with", ", ".join(sorted(result)))
PY
}

# All layers are 38 GB; as many as fit in 90 % of the disk and a third of the time that is left.
layers_that_fit() {
    local free_mb write_mb probe=$folder/probe
    free_mb=$(df -Pm "$folder" | awk 'NR == 2 { print $4 }')
    write_mb=$(dd if=/dev/zero of="$probe" bs=1M count=1024 conv=fdatasync 2>&1 |
        awk '/copied/ { for (i = 1; i <= NF; i++) if ($i == "s,") print int(1024 / $(i - 1)) }')
    rm -f "$probe"
    awk -v mb="$free_mb" -v speed="${write_mb:-100}" -v left=$((report_limit - SECONDS)) 'BEGIN {
        most = 0.9 * mb; if (speed * left / 3 < most) most = speed * left / 3
        n = int(most / (38000 / 48)); n -= n % 4
        print n > 48 ? 48 : n < 4 ? 4 : n }'
}

make_model() {
    model=$folder/synth-$layers.gguf
    [ -f "$model" ] || within "$report_limit" "$tug" synth -o "$model" --quant Q3_K_M --layers "$layers" || {
        rm -f "$model" # a part of one
        return 1
    }
}

if [ $emulated = 1 ]; then
    export LD_LIBRARY_PATH=build/tests/cuda_emu
    tug=build/tests/tug-gpu small=--small work="-p 32 -n 4 -r 1 -b 32 -t 1" vram=20M contexts=64 model=${model:-models/tug-tiny-coder-q8_0.gguf}
    report_fact gpu "emulated"
    step build make -s -j"$jobs" NVCC= emu build/tests/tug-gpu build/bench/bench_cuda || report_end
else
    find_gpu "$gpu" || report_end
    export LD_LIBRARY_PATH=$driver_folder CUDA_VISIBLE_DEVICES=$gpu CUDA_DEVICE_ORDER=PCI_BUS_ID
    gpu=0 tug=build/tug small="" work="-p 512 -n 32 -r 2"
    step packages ./dev deps || report_end
    step build make -s -j"$jobs" CUDA_ARCHS="$arch" build/tug build/bench/bench_cuda || report_end
fi

# shellcheck disable=SC2086
step kernels within $patience build/bench/bench_cuda --gpu="$gpu" --rounds=3 $small

if [ -z "$model" ]; then
    mkdir -p "$folder"
    layers=$(layers_that_fit)
    report_fact layers "$layers of 48"
    step model make_model || report_end
fi
report_fact model "$model, $(du -h "$model" | cut -f 1)"

# shellcheck disable=SC2086
{
    step bench_ceiling bench "$out/bench_ceiling.json" --gpu "$gpu" --vram "$vram" $work -d "$contexts"
    step bench_free bench "$out/bench_free.json" --gpu "$gpu" $work -d "$contexts"
    step bench_cpu bench "$out/bench_cpu.json" $work -d "${contexts%%,*}"
}
if [ -n "$llama" ]; then
    step llama within $patience "$llama" -m "$model" -ngl 99 --n-cpu-moe "$llama_moe" -fa 1 -p 512 -n 32 \
        -d "$contexts" -r 2 -o json
else
    skip llama "no --llama-bench"
fi
report_end
