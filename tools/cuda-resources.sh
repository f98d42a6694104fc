#!/bin/sh
# cuda-resources.sh - registers, shared memory and spills of the GPU kernels, as ptxas counted
# them when they were built (`make cuda` leaves a .ptxas beside every .fatbin).
#
#   tools/cuda-resources.sh [--all | --check] [FOLDER]      default: build/src/kernels/cuda
#
# A Markdown table, a row for every kernel family: of the kernels that differ in the type of
# weights or the head size only, the largest number.  --all: a row for every kernel.  --check: no
# table; fails when a kernel spills that is not in tools/cuda-spills.txt, or more than there, or
# when the images together are above 30 MB, which is what they may add to the program.
# SPDX-License-Identifier: MIT
set -eu
cd "$(dirname "$0")/.."
mode=
case ${1-} in --all | --check) mode=$1; shift ;; esac
folder=${1:-build/src/kernels/cuda}
max_mb=30
ls "$folder"/*.ptxas >/dev/null 2>&1 || { echo "cuda-resources: no kernels in $folder; make cuda" >&2; exit 2; }

bytes=$(cat "$folder"/*.fatbin | wc -c)
if [ "$bytes" -gt $((max_mb * 1000 * 1000)) ]; then
    echo "cuda-resources: the images are $((bytes / 1000000)) MB, more than $max_mb" >&2
    exit 1
fi

cat "$folder"/*.ptxas | awk -v mode="$mode" -v bytes="$bytes" -v list=tools/cuda-spills.txt '
BEGIN { while ((getline line < list) > 0) if (split(line, w, " ") == 3 && line !~ /^#/) allowed[w[1], w[2]] = w[3] }
function family(name) {
    if (mode == "--all") return name
    sub(/_(f32|f16|bf16|q8_0|q4_0|q4_1|q5_0|q5_1|iq4_nl|iq4_xs|q[2-6]_k)(_|$)/, "_TYPE&", name)
    sub(/_TYPE_(f32|f16|bf16|q8_0|q4_0|q4_1|q5_0|q5_1|iq4_nl|iq4_xs|q[2-6]_k)/, "_TYPE", name)
    if (name ~ /^tug_attn_(decode|prefill)/) sub(/_[0-9]+$/, "_SIZE", name)
    return name
}
/Compiling entry function/ {
    split($0, q, "\047"); kernel = q[2]; arch = q[4]; name = family(kernel)
    if (!(name in seen)) { seen[name] = 1; order[++n] = name }
    if (!(arch in known)) { known[arch] = 1; archs[++k] = arch }
    count[arch, name]++; kernels++
}
/bytes stack frame/ {
    spills[name] += $5 + $9; total += $5 + $9
    if ($5 + $9 > allowed[kernel, arch]) which = which "\n  " kernel " " arch " " $5 + $9
}
/Used [0-9]+ registers/ {
    match($0, /Used [0-9]+/); r = substr($0, RSTART + 5, RLENGTH - 5) + 0
    if (r > registers[arch, name]) registers[arch, name] = r
    if (match($0, /[0-9]+ bytes smem/)) { s = substr($0, RSTART, RLENGTH) + 0; if (s > shared[name]) shared[name] = s }
}
function before(a, b) { return substr(a, 4) + 0 < substr(b, 4) + 0 }
function sort_archs(  i, j, t) {
    for (i = 2; i <= k; i++) for (j = i; j > 1 && before(archs[j], archs[j - 1]); j--) {
        t = archs[j]; archs[j] = archs[j - 1]; archs[j - 1] = t
    }
}
END {
    sort_archs()
    if (mode == "--check") {
        if (which) { print "cuda-resources: kernels spill more bytes than cuda-spills.txt allows:" which; exit 1 }
        printf "cuda-resources: %d kernels of %d architectures, %d bytes of spills, %.1f MB\n", kernels / k, k, total, bytes / 1e6
        exit 0
    }
    printf "| kernel | of them |"; for (i = 1; i <= k; i++) printf " %s |", archs[i]; print " shared, static | spills |"
    printf "|---|---|"; for (i = 1; i <= k; i++) printf "---|"; print "---|---|"
    for (j = 1; j <= n; j++) {
        f = order[j]; printf "| %s | %d |", f, count[archs[1], f]
        for (i = 1; i <= k; i++) printf " %d |", registers[archs[i], f]
        printf " %d | %d |\n", shared[f], spills[f]
    }
}'
