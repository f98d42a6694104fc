/* gguf_probe.h - one attempt to open bytes as GGUF, held against the reader's contract.
 *
 * The bytes end at a page that must not be touched.  Whatever they are, opening gives
 * TUG_OK or a status with a sentence, asks for no more memory than the bytes plus 1 MiB
 * (one request, and all together), and leaks nothing.  After TUG_OK everything that the
 * file holds is read once through the public calls.  A breach aborts, so that a fuzzer
 * and a unit test see it alike.  SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_GGUF_PROBE_H
#define TUG_TESTS_GGUF_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { GGUF_PROBE_MAX = 1 << 20 }; /* bytes a probe takes */

/* What tug_gguf_open_memory said; *err (may be NULL) holds the sentence. */
tug_status gguf_probe(const void *bytes, size_t n, tug_err *err);

/* The same in place: `bytes` lie in the guarded buffer already (gguf_probe_room). */
tug_status gguf_probe_here(const uint8_t *bytes, size_t n, tug_err *err);

/* Where n bytes that end at the forbidden page begin. */
uint8_t *gguf_probe_room(size_t n);

#endif
