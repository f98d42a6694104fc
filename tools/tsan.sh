#!/bin/sh
# tsan.sh - the golden model with several threads under ThreadSanitizer.
set -eu
cd "$(dirname "$0")/.."
make -s -j2 SAN=tsan build-tsan/tests/golden/test_golden build-tsan/tests/unit/test_threads
build-tsan/tests/unit/test_threads
build-tsan/tests/golden/test_golden "$(ls tests/golden/data/*.gold | head -n 1)"
