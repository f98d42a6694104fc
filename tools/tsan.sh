#!/bin/sh
# tsan.sh - what has threads under ThreadSanitizer: the golden model, the reader, streamed experts, the servers.
set -eu
cd "$(dirname "$0")/.."
make -s -j2 SAN=tsan build-tsan/tests/golden/test_golden build-tsan/tests/unit/test_threads \
    build-tsan/tests/unit/test_reader build-tsan/tests/unit/test_streaming build-tsan/tests/unit/test_http build-tsan/tests/serve/http_echo
build-tsan/tests/unit/test_threads
build-tsan/tests/unit/test_reader
build-tsan/tests/unit/test_streaming
build-tsan/tests/golden/test_golden "$(ls tests/golden/data/*.gold | head -n 1)"
build-tsan/tests/unit/test_http
make -s -j2 SAN=tsan build-tsan/tug build-tsan/tests/tug-scripted
TUG=build-tsan/tug python3 tests/cli/test_serve.py
TUG=build-tsan/tug python3 tests/serve/scripted.py queue one_bad
TUG=build-tsan/tug python3 tests/serve/load.py requests streams
HTTP_ECHO=build-tsan/tests/serve/http_echo python3 tests/cli/test_http.py H1 H4 S1 S4 tls
