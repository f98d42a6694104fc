/* arena.c - see arena.h.  SPDX-License-Identifier: MIT */
#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>

#include "base/sys.h"

/* Blocks double from 4 KiB (a short chat request fits in one) to 1 MiB (beyond which
 * fewer, larger blocks would save no time and waste the last one's tail). */
enum { BLOCK_MIN = 4096, BLOCK_MAX = 1 << 20 };

typedef struct tug_arena_block {
    struct tug_arena_block *older; /* owned or NULL */
    size_t used, size;             /* bytes of `data` */
    alignas(max_align_t) unsigned char data[];
} tug_arena_block;

static tug_arena_block *add_block(tug_arena *a, size_t at_least) {
    size_t size = a->newest ? a->newest->size * 2 : BLOCK_MIN;
    if (size > BLOCK_MAX) size = BLOCK_MAX;
    if (size < at_least) size = at_least;
    if (size > SIZE_MAX - sizeof(tug_arena_block)) return NULL;
    tug_arena_block *b = tug_alloc(sizeof *b + size);
    if (!b) return NULL;
    *b = (tug_arena_block){.older = a->newest, .size = size};
    a->newest = b;
    return b;
}

void *tug_arena_array(tug_arena *a, size_t n, size_t elem_bytes) {
    const size_t align = alignof(max_align_t);
    size_t bytes;
    if (__builtin_mul_overflow(n, elem_bytes, &bytes) || bytes > SIZE_MAX - align) {
        return NULL;
    }
    bytes = (bytes + align - 1) & ~(align - 1);
    tug_arena_block *b = a->newest;
    if (!b || bytes > b->size - b->used) b = add_block(a, bytes);
    if (!b) return NULL;
    void *p = b->data + b->used;
    b->used += bytes;
    return p;
}

tug_str tug_arena_copy(tug_arena *a, tug_str s) {
    char *p = s.n < SIZE_MAX ? tug_arena_array(a, s.n + 1, 1) : NULL;
    if (!p) return tug_str_make(NULL, 0);
    if (s.n) memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return tug_str_make(p, s.n);
}

void tug_arena_free(tug_arena *a) {
    while (a->newest) {
        tug_arena_block *b = a->newest;
        a->newest = b->older;
        tug_free(b);
    }
}
