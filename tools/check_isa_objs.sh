#!/bin/sh
# An object compiled for one instruction set may define only kernels of that set: the
# linker could pick an inline helper compiled for AVX-512 for the whole program and crash
# an older processor.   usage: tools/check_isa_objs.sh [BUILD_DIR]
bad=0
for isa in avx2 avx512; do
    for obj in $(find "${1:-build}/src" -name "*_$isa.o"); do
        extra=$(nm -g --defined-only "$obj" | awk '{print $3}' | grep -v "_$isa\$")
        [ -n "$extra" ] && echo "$obj defines: $extra" && bad=1
    done
done
[ $bad = 0 ] && echo "isa objects ok"
exit $bad
