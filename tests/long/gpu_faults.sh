#!/bin/sh
# gpu_faults.sh - a failure at every driver call of a model on the emulated GPU, and the protocols
# of handoff and slots in larger worlds.
#
#   tests/long/gpu_faults.sh     (from the repository root, after `make gpu-tests`)
set -u
b=${B:-build}
export LD_LIBRARY_PATH=$b/tests/cuda_emu
"$b/tests/cuda/test_gpu_faults" --all 0 2 &
half=$!
"$b/tests/cuda/test_gpu_faults" --all 1 2
odd=$?
wait $half
even=$?
python3 tests/cuda/protocols.py --larger && [ $odd = 0 ] && [ $even = 0 ]
