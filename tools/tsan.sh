#!/bin/sh
# tsan.sh - what has threads under ThreadSanitizer: the golden model, the reader, streamed experts, the servers.
set -eu
cd "$(dirname "$0")/.."
b=build-tsan
make -s -j2 SAN=tsan $b/tests/golden/test_golden $b/tests/unit/test_threads $b/tests/unit/test_reader \
    $b/tests/unit/test_streaming $b/tests/unit/test_http $b/tests/serve/http_echo $b/tug $b/tests/tug-scripted
export TUG=$b/tug HTTP_ECHO=$b/tests/serve/http_echo
# Threads that wait for each other by spinning want the processors for themselves.
$b/tests/unit/test_threads
$b/tests/golden/test_golden "$(ls tests/golden/data/*.gold | head -n 1)"

# The servers beside the others: it is one thread of theirs that computes.
servers() {
    python3 tests/cli/test_serve.py && python3 tests/serve/scripted.py queue one_bad &&
        python3 tests/serve/load.py requests streams
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
servers >"$log" 2>&1 & servers=$!
code=0
$b/tests/unit/test_reader && $b/tests/unit/test_streaming && $b/tests/unit/test_http || code=1
wait $servers || code=1
cat "$log"
[ $code = 0 ]
python3 tests/cli/test_http.py H1 H4 S1 S4 tls # its clients have deadlines
