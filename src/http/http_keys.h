/* http_keys.h - the API keys that open the server.
 *
 * Compared without a branch that depends on a key's bytes, so that the time of an answer
 * tells nothing but a length.  SPDX-License-Identifier: MIT */
#ifndef TUG_HTTP_KEYS_H
#define TUG_HTTP_KEYS_H

#include <stdbool.h>

#include "base/str.h"

enum { TUG_KEY_MAX = 512, TUG_KEYS_MAX = 1024 };

typedef struct tug_keys {
    tug_buf text; /* owned: the keys one after the other */
    size_t *end;  /* owned, (n,): where each ends in text */
    size_t n;
} tug_keys;

/* One key a line; blank lines and lines that begin with # do not count.  Refuses a file
 * that others can read, and one without a key.  Zero-initialise *out. */
TUG_NODISCARD tug_status tug_keys_load(tug_keys *out, const char *path, tug_err *err);
void tug_keys_free(tug_keys *keys);

/* Which key this is, from 0 in the order of the file; -1: none of them. */
int tug_keys_find(const tug_keys *keys, tug_str given);

#endif
