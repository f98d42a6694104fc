#!/usr/bin/env python3
"""schemathesis against `tug serve`: requests that fit the OpenAPI document and requests that
do not, each path, streams too, with a key.

    tools/clients.sh sdk-py; tests/long/openapi_fuzz.py [SECONDS [SEED]]       default 40, 1

Held, of every answer: no 5xx; a status, a content type and a body that the document has; what
does not fit the document is refused; without a key nothing is answered.  Not held: that what
fits is taken, because fields depend on each other and on the model (a tool_choice needs tools,
ids belong to a vocabulary).  The two paths that are 501 by design are left out.
"""
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from clients import FOLDER, installed  # noqa: E402
from tug_server import Server  # noqa: E402

KEY = "a-key-for-this-test"
LEAST = 100  # cases; a run that tried fewer shows little (a quiet machine: 3000)


def command(program, url, seconds, seed):
    return [program, "run", url + "/openapi.json", "--url", url + "/v1", "-H", "Authorization: Bearer " + KEY,
            "--checks", "all", "--exclude-checks", "positive_data_acceptance,allow_header_conformance",
            "--exclude-operation-id", "embed", "--exclude-operation-id", "rerank",
            "--phases", "examples,coverage,fuzzing", "--max-time", str(seconds), "--seed", str(seed),
            "--no-shrink", "--continue-on-failure", "--request-timeout", "300", "--max-response-time", "300",
            "--warnings", "off", "--no-color"]


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    program = installed("sdk-py/bin/schemathesis")
    if not program:
        print(f"skip openapi_fuzz: no schemathesis in {FOLDER} (tools/clients.sh)")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        keys = os.path.join(folder, "keys")
        with open(os.open(keys, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as f:
            f.write(KEY + "\n")
        # A short context: many of the answers have no limit of their own.
        with Server("-t", "1", "-c", "128", "--api-key-file", keys) as s:
            env = {**os.environ, "DO_NOT_TRACK": "1", "NO_PROXY": "127.0.0.1", "HOME": folder}
            done = subprocess.run(command(program, s.url, seconds, seed), cwd=folder, env=env, timeout=seconds + 600,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            text = done.stdout.decode("utf-8", "replace")
            after = s.post("/v1/completions", {"prompt": "def f(", "max_tokens": 2}, {"x-api-key": KEY})
    found = re.search(r"(\d+) generated", text)
    n = int(found.group(1)) if found else 0
    good = done.returncode == 0 and n >= LEAST and after.status == 200
    print(text[-6000:] if not good else f"{n} cases, seed {seed}")
    print("1 passed, 0 failed" if good else "0 passed, 1 failed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
