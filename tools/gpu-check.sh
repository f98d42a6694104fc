#!/usr/bin/env bash
# gpu-check.sh - is tug right on this machine's GPU?  Builds for it and runs every test there is.
#
#   tools/gpu-check.sh [--gpu N] [--out FOLDER] [--json]
#   tools/gpu-check.sh --emulated [...]      the same on the emulated driver, to test this script
#
#   --gpu N       which GPU (default 0)
#   --out FOLDER  where the report goes (default build/gpu-check)
#   --json        the report as JSON on stdout instead of lines
#
# For a Debian or Ubuntu machine with an NVIDIA driver and CUDA 13 (nvcc, compute-sanitizer);
# what else is missing is installed.  Takes less than nine minutes: what does not fit is counted
# as skipped.  FOLDER gets report.json and a log of every step.  Ends with a line
#   gpu-check: 17 passed, 0 failed, 1 skipped in 312 s
# and fails if anything failed.
#
# example: tools/gpu-check.sh --gpu 0 --out /tmp/report
# SPDX-License-Identifier: MIT
set -u
cd "$(dirname "$0")/.."
. tools/gpu-report.sh

gpu=0 out=build/gpu-check json=0 emulated=0
while [ $# -gt 0 ]; do
    case $1 in
    --gpu) gpu=${2:?--gpu wants a number}; shift ;;
    --out) out=${2:?--out wants a folder}; shift ;;
    --json) json=1 ;;
    --emulated) emulated=1 ;;
    -h | --help) usage "$0"; exit 0 ;;
    *) usage "$0" >&2; exit 2 ;;
    esac
    shift
done
# The emulated driver is no measure of time.
limit=520 patience=120
[ $emulated = 0 ] || limit=7200 patience=1800
report_begin gpu-check "$out" $limit "$json"

model=models/tug-tiny-coder-q8_0.gguf
# Tests of what only the emulator has pass by skipping themselves on a real driver.
kernel_tests="rows attn delta experts linear"

build_emulated() {
    make -s -j"$jobs" NVCC= gpu-tests
}
build_real() {
    ./dev deps && make -s -j"$jobs" CUDA_ARCHS="$arch" REAL_DRIVER=1 gpu-tests
}

# The text with the GPU is the text without.
same_text() {
    local with without
    with=$("$1" run -m $model -c 512 -n 32 --temp 0 --gpu "$gpu" "def reverse(s):") || return 1
    without=$("$1" run -m $model -c 512 -n 32 --temp 0 --gpu none "def reverse(s):") || return 1
    [ -n "$with" ] && [ "$with" = "$without" ] || {
        printf 'with the GPU:\n%s\nwithout:\n%s\n' "$with" "$without"
        return 1
    }
}

if [ $emulated = 1 ]; then
    export LD_LIBRARY_PATH=build/tests/cuda_emu
    tug=build/tests/tug-gpu
    report_fact gpu "emulated"
    step build build_emulated || report_end
else
    find_gpu "$gpu" || report_end
    export LD_LIBRARY_PATH=$driver_folder CUDA_VISIBLE_DEVICES=$gpu CUDA_DEVICE_ORDER=PCI_BUS_ID
    gpu=0 # the only one that is visible
    tug=build/tug
    step build build_real || report_end
fi

for t in build/tests/cuda/test_*; do
    [ -x "$t" ] && [ -f "$t" ] && case $t in *.o | *.d) false ;; *) true ;; esac || continue
    step "$(basename "$t")" within $patience "$t"
done
step same_text same_text $tug

# Who reads what was not written, writes where nothing is, or runs a race?
if [ $emulated = 1 ]; then
    for t in $kernel_tests; do
        step "race_$t" within $patience env LD_LIBRARY_PATH=build/tests/cuda_emu/race \
            TUG_EMU=order=reversed "build/tests/cuda/test_cuda_$t"
    done
elif sanitizer=$(find_tool compute-sanitizer); then
    for t in $kernel_tests; do
        for tool in memcheck racecheck; do
            step "${tool}_$t" within 200 "$sanitizer" --tool $tool --error-exitcode 9 \
                "build/tests/cuda/test_cuda_$t"
        done
    done
else
    skip compute-sanitizer "it is not installed"
fi
report_end
