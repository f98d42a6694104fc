# gpu-report.sh - what gpu-check.sh and gpu-bench.sh share: steps with a log each, a limit of time
# for all, a line and a JSON file at the end.  Sourced by bash, from the root of the repository.
# SPDX-License-Identifier: MIT
# shellcheck shell=bash

jobs=$(nproc 2>/dev/null || echo 1)

# The comment at the head of the script.
usage() {
    sed -n '2,/^# SPDX/p' "$1" | sed '$d; s/^# \{0,1\}//'
}

say() {
    [ "$report_json" = 1 ] || printf '%s\n' "$*"
}

# name, folder, seconds for all, 1: JSON on stdout
report_begin() {
    report_name=$1 report_folder=$2 report_limit=$3 report_json=$4
    report_rows=$report_folder/rows report_passed=0 report_failed=0 report_skipped=0
    mkdir -p "$report_folder" && rm -f "$report_folder"/*.log "$report_rows" || exit 2
    SECONDS=0
    report_fact commit "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
    report_fact date "$(date -u +%Y-%m-%dT%H:%MZ)"
    report_fact cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
}

# name, text: about the machine
report_fact() {
    printf 'fact\t%s\t%s\t\n' "$1" "$2" >>"$report_rows"
}

# name, verdict, seconds, words: what became of a step
report_row() {
    printf 'step\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$report_rows"
    say "$(printf '%-8s %-28s %4d s  %s' "$2" "$1" "$3" "$4")"
}

skip() {
    report_skipped=$((report_skipped + 1))
    report_row "$1" skipped 0 "$2"
}

# name, command...: its output goes to name.log; fails as the command does
step() {
    local name=$1 begin=$SECONDS status last
    shift
    if [ "$SECONDS" -ge "$report_limit" ]; then
        skip "$name" "no time left of $report_limit s"
        return 1
    fi
    "$@" >"$report_folder/$name.log" 2>&1
    status=$?
    last=$(grep -v '^[[:space:]]*$' "$report_folder/$name.log" | tail -n 1 | tr '\t' ' ' | cut -c1-100)
    if [ $status = 0 ] && grep -qi '^skip' "$report_folder/$name.log"; then
        skip "$name" "$last"
    elif [ $status = 0 ]; then
        report_passed=$((report_passed + 1))
        report_row "$name" passed $((SECONDS - begin)) "$last"
    else
        report_failed=$((report_failed + 1))
        [ $status = 124 ] && last="stopped: it took too long"
        report_row "$name" failed $((SECONDS - begin)) "$last"
    fi
    return $status
}

# seconds, command...: at most so long, and not longer than there is time for all.
within() {
    local seconds=$1 left=$((report_limit - SECONDS))
    shift
    [ "$left" -ge "$seconds" ] || seconds=$((left > 0 ? left : 1))
    timeout "$seconds" "$@"
}

# Writes report.json, prints the last line, ends the script.
report_end() {
    local line
    line="$report_name: $report_passed passed, $report_failed failed, $report_skipped skipped in $SECONDS s"
    python3 - "$report_rows" "$report_folder/report.json" "$line" <<'PY'
import json, sys
rows, path, line = sys.argv[1:]
facts, steps = {}, []
with open(rows, encoding="utf-8", errors="replace") as f:
    for kind, *rest in (r.rstrip("\n").split("\t") for r in f):
        if kind == "fact":
            facts[rest[0]] = rest[1]
        else:
            steps.append({"name": rest[0], "verdict": rest[1], "seconds": int(rest[2]), "words": rest[3]})
with open(path, "w", encoding="utf-8") as f:
    json.dump({"summary": line, "machine": facts, "steps": steps}, f, indent=2)
    f.write("\n")
PY
    if [ "$report_json" = 1 ]; then cat "$report_folder/report.json"; else say "$line; $report_folder"; fi
    [ $report_failed = 0 ] && [ $report_passed -gt 0 ]
    exit
}

# A tool of CUDA, in the path or where CUDA is installed.
find_tool() {
    command -v "$1" || ls -d /usr/local/cuda/bin/"$1" /opt/cuda/bin/"$1" 2>/dev/null | head -n 1 | grep .
}

# number of the GPU: sets arch and driver_folder, or says what is missing as a failed step.
find_gpu() {
    step find_gpu look_for_gpu "$1" || return 1
    arch=$(nvidia-smi -i "$1" --query-gpu=compute_cap --format=csv,noheader | tr -d '. ')
    driver_folder=$(dirname "$(ldconfig -p | awk '/libcuda\.so\.1 .*x86-64/ { print $NF; exit }')")
    report_fact gpu "$(nvidia-smi -i "$1" --query-gpu=name --format=csv,noheader)"
    report_fact driver "$(nvidia-smi -i "$1" --query-gpu=driver_version --format=csv,noheader)"
    report_fact link "$(nvidia-smi -i "$1" --query-gpu=pcie.link.gen.max,pcie.link.width.current --format=csv,noheader)"
    report_fact nvcc "$("$(find_tool nvcc)" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')"
}

look_for_gpu() {
    command -v nvidia-smi >/dev/null || { echo "there is no nvidia-smi: install the NVIDIA driver"; return 1; }
    nvidia-smi -i "$1" -L || return 1
    ldconfig -p | grep -q 'libcuda\.so\.1' || { echo "there is no libcuda.so.1"; return 1; }
    find_tool nvcc || { echo "there is no nvcc: install CUDA 13 (package cuda-nvcc-13-0)"; return 1; }
}
