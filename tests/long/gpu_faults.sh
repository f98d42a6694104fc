#!/bin/sh
# gpu_faults.sh - failures at driver calls of a model on the emulated GPU.
#
#   tests/long/gpu_faults.sh         at a twentieth of the calls
#   tests/long/gpu_faults.sh all     at every one (half an hour of one core), and the protocols of
#                                    handoff and slots in larger worlds
#
# From the repository root, after `make gpu-tests`.
set -u
b=${B:-build}
parts=20 first=3 # what lands must not depend on luck
[ "${1:-}" = all ] && parts=1 first=0
export LD_LIBRARY_PATH="$b/tests/cuda_emu"
"$b/tests/cuda/test_gpu_faults" --all "$first" $((2 * parts)) & half=$!
"$b/tests/cuda/test_gpu_faults" --all $((first + parts)) $((2 * parts))
odd=$?
wait $half
even=$?
[ $odd = 0 ] && [ $even = 0 ] || exit 1
[ $parts = 20 ] || python3 tests/cuda/protocols.py --larger
