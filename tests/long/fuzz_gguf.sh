#!/bin/sh
# fuzz_gguf.sh - 10 million inputs for the GGUF reader under ASan and UBSan, two jobs.
#
#   tests/long/fuzz_gguf.sh [RUNS_PER_JOB] [SECONDS]     (from the repository root)
#
# A finding is left in build-fuzz/findings.  A job that runs out of time is a failure:
# the number of inputs is what this test promises.
set -u
runs=${1:-5000000}
seconds=${2:-600}
if ! command -v clang >/dev/null; then
    echo "skipped: clang is missing"
    echo "fuzz_gguf: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
make -s -j2 SAN=fuzz CC=clang build-fuzz/tests/fuzz/fuzz_gguf >build-fuzz.log 2>&1 || {
    tail -n 20 build-fuzz.log
    rm -f build-fuzz.log
    echo "fuzz_gguf: 0 passed, 1 failed, 0 skipped"
    exit 1
}
rm -f build-fuzz.log
work=build-fuzz/gguf
rm -rf "$work" && mkdir -p "$work/job1" "$work/job2" build-fuzz/findings
python3 tests/fuzz/seeds_gguf.py "$work/seeds"

job() {
    build-fuzz/tests/fuzz/fuzz_gguf -runs="$runs" -max_total_time="$seconds" -seed="$1" \
        -max_len=1024 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -dict="$work/seeds.dict" -artifact_prefix=build-fuzz/findings/gguf- \
        "$work/job$1" "$work/seeds" >"$work/job$1.log" 2>&1
}

job 1 & first=$!
job 2 & second=$!
wait "$first"; code1=$?
wait "$second"; code2=$?

passed=0
failed=0
for n in 1 2; do
    eval "code=\$code$n"
    done_runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/job$n.log")
    speed=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$work/job$n.log")
    echo "job $n: ${done_runs:-0} inputs, ${speed:-?} a second, exit $code"
    if [ "$code" = 0 ] && [ "${done_runs:-0}" -ge "$runs" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        tail -n 30 "$work/job$n.log"
    fi
done
echo "fuzz_gguf: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
