#!/bin/sh
# fuzz_calls.sh - the parser of tool calls on millions of inputs.
#
#   tests/long/fuzz_calls.sh [RUNS [SECONDS [FUZZ_SECONDS [SEED]]]]    (from the repository root)
#   tests/long/fuzz_calls.sh 100000000 1800 600 $RANDOM                a hundred million, new ones
#
# Two ways, one target (tests/fuzz/fuzz_calls.c: the same for any cuts, no byte lost):
# inputs that many_calls.c makes, in two processes without sanitizers, as many as RUNS
# says; and libFuzzer's, guided by coverage, under ASan and UBSan, for FUZZ_SECONDS.  Fewer
# than RUNS within SECONDS is a failure: the number is what this test promises.
set -u
runs=${1:-20000000}
seconds=${2:-600}
fuzz_seconds=${3:-30}
seed=${4:-1} # a fixed one: what lands must not depend on luck
work=build-fuzz/calls
rm -rf "$work" && mkdir -p "$work/corpus" build-fuzz/findings
passed=0
failed=0

# shellcheck disable=SC2046
${CC:-cc} -O3 -flto -D_GNU_SOURCE -Isrc -Iinclude -Itests -o "$work/many" \
    tests/long/many_calls/many_calls.c tests/fuzz/fuzz_calls.c tests/support/call_log.c \
    $(ls src/calls/*.c src/json/*.c src/base/*.c) -lm -lpthread || {
    echo "fuzz_calls: 0 passed, 1 failed, 0 skipped"
    exit 1
}
half=$(((runs + 1) / 2))
"$work/many" "$half" "$seconds" "$seed" >"$work/1.log" 2>&1 & first=$!
"$work/many" "$half" "$seconds" "$((seed + 1))" >"$work/2.log" 2>&1 & second=$!
wait "$first"; code1=$?
wait "$second"; code2=$?
for n in 1 2; do
    eval "code=\$code$n"
    count=$(tail -n 1 "$work/$n.log")
    echo "made inputs, seed $((seed + n - 1)): $count, exit $code"
    if [ "$code" = 0 ] && [ "$count" -ge "$half" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
done

if ! command -v clang >/dev/null; then
    echo "skipped: clang is missing"
    echo "fuzz_calls: $passed passed, $failed failed, 1 skipped"
    [ "$failed" = 0 ]
    exit
fi
if make -s -j2 SAN=fuzz CC=clang build-fuzz/tests/fuzz/fuzz_calls >"$work/make.log" 2>&1 &&
    build-fuzz/tests/fuzz/fuzz_calls -seed="$seed" -max_total_time="$fuzz_seconds" -max_len=160 \
        -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix=build-fuzz/findings/calls- "$work/corpus" >"$work/fuzz.log" 2>&1
then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    tail -n 30 "$work/make.log" "$work/fuzz.log"
fi
sed -n 's/^stat::number_of_executed_units: */libFuzzer inputs: /p' "$work/fuzz.log"
echo "fuzz_calls: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
