/* utf8.h - strict UTF-8 (RFC 3629): no surrogates, no overlong forms, at most U+10FFFF.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_UTF8_H
#define TUG_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What begins at p (n >= 1 bytes):
 *   > 0  a complete, valid character of that many bytes
 *   = 0  the valid beginning of a character that is cut off by the end
 *   < 0  bytes that are no UTF-8: -k says that the first k cannot be used */
int tug_utf8_next(const char *p, size_t n);

/* Is all of [p, p + n) valid?  If not and bad_at is not NULL, it gets the offset. */
bool tug_utf8_valid(const char *p, size_t n, size_t *bad_at);

/* Code point of a character that tug_utf8_next called valid with length `len`. */
uint32_t tug_utf8_decode(const char *p, int len);

/* Writes the UTF-8 form of cp (a valid scalar value) into out[4]; returns its length. */
int tug_utf8_encode(uint32_t cp, char *out);

#endif
