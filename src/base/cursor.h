/* cursor.h - a bounded reader over bytes we do not trust (little endian).
 *
 * Every number of a GGUF file passes through here.  A read past the end returns false
 * and does not move the cursor; nothing is ever read outside [data, data + size).
 * The cursor borrows the bytes.  SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_CURSOR_H
#define TUG_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct tug_cursor {
    const uint8_t *data; /* borrowed, (size,) */
    uint64_t size;       /* bytes */
    uint64_t at;         /* next byte to read, <= size */
} tug_cursor;

static inline tug_cursor tug_cursor_make(const void *data, uint64_t size) {
    const tug_cursor c = {(const uint8_t *)data, size, 0};
    return c;
}

static inline uint64_t tug_cursor_left(const tug_cursor *c) {
    return c->size - c->at;
}

/* Points *out at the next n bytes (borrowed) and steps over them. */
static inline bool tug_cursor_bytes(tug_cursor *c, uint64_t n, const uint8_t **out) {
    if (n > tug_cursor_left(c)) return false;
    *out = c->data + c->at;
    c->at += n;
    return true;
}

static inline bool tug_cursor_skip(tug_cursor *c, uint64_t n) {
    const uint8_t *ignored;
    return tug_cursor_bytes(c, n, &ignored);
}

static inline bool tug_cursor_u8(tug_cursor *c, uint8_t *out) {
    const uint8_t *p;
    if (!tug_cursor_bytes(c, 1, &p)) return false;
    *out = p[0];
    return true;
}

static inline bool tug_cursor_u16(tug_cursor *c, uint16_t *out) {
    const uint8_t *p;
    if (!tug_cursor_bytes(c, 2, &p)) return false;
    *out = (uint16_t)(p[0] | p[1] << 8);
    return true;
}

static inline bool tug_cursor_u32(tug_cursor *c, uint32_t *out) {
    const uint8_t *p;
    if (!tug_cursor_bytes(c, 4, &p)) return false;
    *out = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
    return true;
}

static inline bool tug_cursor_u64(tug_cursor *c, uint64_t *out) {
    if (tug_cursor_left(c) < 8) return false;
    uint32_t lo = 0, hi = 0;
    (void)tug_cursor_u32(c, &lo);
    (void)tug_cursor_u32(c, &hi);
    *out = (uint64_t)hi << 32 | lo;
    return true;
}

static inline bool tug_cursor_f32(tug_cursor *c, float *out) {
    uint32_t bits;
    if (!tug_cursor_u32(c, &bits)) return false;
    memcpy(out, &bits, sizeof bits);
    return true;
}

static inline bool tug_cursor_f64(tug_cursor *c, double *out) {
    uint64_t bits;
    if (!tug_cursor_u64(c, &bits)) return false;
    memcpy(out, &bits, sizeof bits);
    return true;
}

#endif
