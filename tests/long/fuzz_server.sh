#!/bin/sh
# fuzz_server.sh - what a stranger can send to `tug serve`: request lines and hosts, bodies of
# every API, schemas of tools, JSON; libFuzzer under ASan and UBSan, a while each.
#
#   tests/long/fuzz_server.sh [SECONDS [SEED]]     default 10 each, two at a time, and 1; 0: by chance
#                                                  (from the repository root)
#
# A finding is left in build-fuzz/findings.
set -u
seconds=${1:-10}
seed=${2:-1} # a fixed one: what lands must not depend on luck
targets="http api constraint json"
if ! command -v clang >/dev/null; then
    echo "skipped: clang is missing"
    echo "fuzz_server: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
mkdir -p build-fuzz/findings
set --
for t in $targets; do set -- "$@" "build-fuzz/tests/fuzz/fuzz_$t"; done
make -s -j2 SAN=fuzz CC=clang "$@" >build-fuzz/server.log 2>&1 || {
    tail -n 20 build-fuzz/server.log
    echo "fuzz_server: 0 passed, 1 failed, 0 skipped"
    exit 1
}

job() {
    rm -rf "build-fuzz/$1" && mkdir -p "build-fuzz/$1"
    "build-fuzz/tests/fuzz/fuzz_$1" -seed="$seed" -max_total_time="$seconds" -max_len=4096 -timeout=20 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="build-fuzz/findings/$1-" "build-fuzz/$1" >"build-fuzz/$1.log" 2>&1
    echo $? >"build-fuzz/$1.code"
}

passed=0
failed=0
# shellcheck disable=SC2086
set -- $targets
while [ $# -gt 0 ]; do
    job "$1" & first=$!
    job "$2" & second=$!
    wait "$first" "$second"
    for t in "$1" "$2"; do
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "build-fuzz/$t.log")
        code=$(cat "build-fuzz/$t.code")
        echo "$t: ${runs:-0} inputs, exit $code"
        if [ "$code" = 0 ] && [ "${runs:-0}" -gt 100 ]; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            tail -n 30 "build-fuzz/$t.log"
        fi
    done
    shift 2
done
echo "fuzz_server: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
