#!/bin/sh
# embed_fatbins.sh FILE... - assembly with the bytes of every file and the table of src/cuda/images.h.
# SPDX-License-Identifier: MIT
set -eu
echo '    .section .rodata'
i=0
for f in "$@"; do
    printf '    .balign 16\n.L%d: .incbin "%s"\n.L%dend:\n' $i "$f" $i
    i=$((i + 1))
done
printf '    .section .data.rel.ro,"aw"\n    .balign 8\n'
printf '    .globl tug_cuda_images\n    .hidden tug_cuda_images\ntug_cuda_images:\n'
i=0
for f in "$@"; do
    printf '    .quad .L%d\n    .quad .L%dend - .L%d\n' $i $i $i
    i=$((i + 1))
done
echo '    .quad 0, 0'
echo '    .section .note.GNU-stack,"",@progbits'
