/* utf8.c - see utf8.h.  SPDX-License-Identifier: MIT */
#include "base/utf8.h"

int tug_utf8_next(const char *s, size_t n) {
    const unsigned char *p = (const unsigned char *)s;
    const unsigned c = p[0];
    if (c < 0x80) return 1;
    if (c < 0xC2 || c > 0xF4) return -1;
    const int len = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    /* The second byte's range is narrower after E0, ED, F0 and F4 (Unicode table 3-7). */
    const unsigned lo = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    const unsigned hi = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    for (int i = 1; i < len; i++) {
        if ((size_t)i >= n) return 0;
        if (i == 1 ? p[1] < lo || p[1] > hi : (p[i] & 0xC0) != 0x80) return -i;
    }
    return len;
}

bool tug_utf8_valid(const char *p, size_t n, size_t *bad_at) {
    size_t i = 0;
    while (i < n) {
        const int len = tug_utf8_next(p + i, n - i);
        if (len <= 0) {
            if (bad_at) *bad_at = i;
            return false;
        }
        i += (size_t)len;
    }
    return true;
}

uint32_t tug_utf8_decode(const char *s, int len) {
    const unsigned char *p = (const unsigned char *)s;
    if (len == 1) return p[0];
    uint32_t cp = p[0] & (0x7Fu >> len);
    for (int i = 1; i < len; i++) cp = cp << 6 | (p[i] & 0x3Fu);
    return cp;
}

int tug_utf8_encode(uint32_t cp, char *out) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    const int len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (int i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80u | (cp & 0x3Fu));
        cp >>= 6;
    }
    out[0] = (char)((0xF00u >> len & 0xFFu) | cp);
    return len;
}
