#!/bin/sh
# cuda-resources.sh - registers, shared memory and spills of the GPU kernels, as ptxas counts.
#
#   tools/cuda-resources.sh [--all] [ARCH...]      default: 80 86 89 90 120
#
# A Markdown table, a row for every kernel family: of the kernels that differ in the type of
# weights or the head size only, the largest number.  --all: a row for every kernel.  Fails
# if any kernel spills.  Needs nvcc.  SPDX-License-Identifier: MIT
set -eu
cd "$(dirname "$0")/.."
all=0
if [ "${1-}" = --all ]; then all=1; shift; fi
[ $# -gt 0 ] || set -- 80 86 89 90 120
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for arch in "$@"; do
    for file in src/kernels/cuda/*.cu; do
        "$nvcc" -std=c++17 -O3 -Isrc -arch="sm_$arch" -cubin -Xptxas -v -o "$out/cubin" "$file" \
            2>"$out/log" || { cat "$out/log" >&2; exit 1; }
        sed "s/^/$arch /" "$out/log" >>"$out/all"
    done
done
awk -v all="$all" -v archs="$*" '
function family(name) {
    if (all) return name
    sub(/_(f32|f16|bf16|q8_0|q4_0|q4_1|q5_0|q5_1|iq4_nl|iq4_xs|q[2-6]_k)(_|$)/, "_TYPE&", name)
    sub(/_TYPE_(f32|f16|bf16|q8_0|q4_0|q4_1|q5_0|q5_1|iq4_nl|iq4_xs|q[2-6]_k)/, "_TYPE", name)
    if (name ~ /^tug_attn_(decode|prefill)/) sub(/_[0-9]+$/, "_SIZE", name)
    return name
}
/Compiling entry function/ { split($0, q, "\047"); name = family(q[2]); if (!(name in seen)) order[++n] = name; seen[name] = 1; count[$1, name]++ }
/bytes stack frame/ { spills[name] += $6 + $10 }
/Used [0-9]+ registers/ {
    match($0, /Used [0-9]+/); r = substr($0, RSTART + 5, RLENGTH - 5) + 0
    if (r > registers[$1, name]) registers[$1, name] = r
    if (match($0, /[0-9]+ bytes smem/)) { s = substr($0, RSTART, RLENGTH) + 0; if (s > shared[name]) shared[name] = s }
}
END {
    k = split(archs, a, " ")
    printf "| kernel | of them |"; for (i = 1; i <= k; i++) printf " sm_%s |", a[i]; print " shared, static | spills |"
    printf "|---|---|"; for (i = 1; i <= k; i++) printf "---|"; print "---|---|"
    for (j = 1; j <= n; j++) {
        f = order[j]; printf "| %s | %d |", f, count[a[1], f]
        for (i = 1; i <= k; i++) printf " %d |", registers[a[i], f]
        printf " %d | %d |\n", shared[f], spills[f]; total += spills[f]
    }
    exit total > 0
}' "$out/all"
