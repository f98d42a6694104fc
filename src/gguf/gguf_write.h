/* gguf_write.h - write a GGUF file (version 3) from beginning to end, in little memory.
 *
 *     tug_gguf_writer *w = NULL;
 *     tug_gguf_writer_create(&w, &params, &err);
 *     tug_gguf_put_str(tug_gguf_writer_meta(w), "general.architecture", name);
 *     tug_gguf_writer_tensor(w, "output.weight", TUG_TYPE_Q6_K, ne, 2, &err);  ...
 *     tug_gguf_writer_begin(w, &err);              the header goes out
 *     tug_gguf_writer_write(w, bytes, n, &err);    tensor data, in the order declared
 *     tug_gguf_writer_finish(w, &err);             the file gets its name
 *     tug_gguf_writer_destroy(&w);                 removes what was not finished
 *
 * NAMES     the data goes to "<path>.partial" and gets its name when it is complete: a
 *           reader never meets half a file.  A split set is NAME-00001-of-0000N.gguf.
 * MEMORY    metadata and tensor names; data is passed through.
 * FAILURES  one sentence each; the writer can then only be destroyed.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_GGUF_GGUF_WRITE_H
#define TUG_GGUF_GGUF_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"
#include "gguf/gguf.h"
#include "quant/types.h"

enum { TUG_GGUF_MAX_PARTS = 240 }; /* of a set that this program also opens */

typedef struct tug_gguf_writer tug_gguf_writer;

typedef struct tug_gguf_write_params {
    const char *path;     /* ends in .gguf; of a split set, what NAME is taken from */
    uint64_t split_bytes; /* tensor data of one part at most (but a part has at least
                           * one tensor); 0: one file */
    bool overwrite;       /* replaces a regular file of that name */
} tug_gguf_write_params;

TUG_NODISCARD tug_status tug_gguf_writer_create(tug_gguf_writer **out,
                                                const tug_gguf_write_params *params,
                                                tug_err *err);
void tug_gguf_writer_destroy(tug_gguf_writer **w); /* nulls the pointer; NULL is fine */

/* ---- metadata --------------------------------------------------------------------- */

/* Records that have been put, as they will lie in the file.  Running out of memory is
 * sticky and reported by tug_gguf_writer_begin. */
typedef struct tug_gguf_meta {
    tug_buf bytes;
    uint64_t n; /* records */
} tug_gguf_meta;

/* Borrowed from w; put everything before tug_gguf_writer_begin.  A key is put once: that
 * is the caller's business. */
tug_gguf_meta *tug_gguf_writer_meta(tug_gguf_writer *w);

void tug_gguf_put_u16(tug_gguf_meta *m, const char *key, uint16_t v);
void tug_gguf_put_u32(tug_gguf_meta *m, const char *key, uint32_t v);
void tug_gguf_put_i32(tug_gguf_meta *m, const char *key, int32_t v);
void tug_gguf_put_f32(tug_gguf_meta *m, const char *key, float v);
void tug_gguf_put_bool(tug_gguf_meta *m, const char *key, bool v);
void tug_gguf_put_str(tug_gguf_meta *m, const char *key, tug_str v);

/* An array of n elements, which must follow at once: n times tug_gguf_add_str or _i32. */
void tug_gguf_put_array(tug_gguf_meta *m, const char *key, tug_gguf_vtype elem_type,
                        uint64_t n);
void tug_gguf_add_str(tug_gguf_meta *m, tug_str v);
void tug_gguf_add_i32(tug_gguf_meta *m, int32_t v);

/* ---- tensors ---------------------------------------------------------------------- */

/* Declares the next tensor, ne[0] contiguous, 1 to 4 dimensions, all at least 1; ne[0] a
 * multiple of the type's block. */
TUG_NODISCARD tug_status tug_gguf_writer_tensor(tug_gguf_writer *w, const char *name,
                                                tug_type type, const int64_t *ne,
                                                int n_dims, tug_err *err);

/* Fixes what was declared: refuses a name that is taken and a disk with too little room,
 * opens the first file. */
TUG_NODISCARD tug_status tug_gguf_writer_begin(tug_gguf_writer *w, tug_err *err);

/* The next n bytes of tensor data, cut as the caller likes; the padding between tensors
 * is put by the writer. */
TUG_NODISCARD tug_status tug_gguf_writer_write(tug_gguf_writer *w, const void *bytes,
                                               uint64_t n, tug_err *err);

/* All data must have been written. */
TUG_NODISCARD tug_status tug_gguf_writer_finish(tug_gguf_writer *w, tug_err *err);

/* After begin: bytes of all files, headers included, and how many files there are. */
uint64_t tug_gguf_writer_bytes(const tug_gguf_writer *w);
int tug_gguf_writer_n_parts(const tug_gguf_writer *w);

/* After begin: where the file, or part `part` of the set, will be.  Borrowed from w. */
const char *tug_gguf_writer_path(const tug_gguf_writer *w, int part);

#endif
