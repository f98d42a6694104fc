/* gguf_build.h - make GGUF files for tests: valid ones, and ones that lie.
 *
 *     gguf_build b;
 *     gguf_build_init(&b);
 *     gguf_build_str(&b, "general.architecture", "qwen3next");
 *     gguf_build_u32(&b, "qwen3next.block_count", 4);
 *     gguf_build_tensor(&b, "output_norm.weight", TUG_TYPE_F32, (int64_t[]){64}, 1, NULL);
 *     tug_buf file = {0};
 *     gguf_build_finish(&b, &file);
 *     ... file.p, file.n ...
 *     tug_buf_free(&file);
 *
 * Independent of src/gguf on purpose.  Every length, count, dimension, offset and type
 * that goes into the file is noted as a field, so that tests can overwrite each (the
 * first 512; larger files are not for such tests).  Running out of memory here
 * aborts.  SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_GGUF_BUILD_H
#define TUG_TESTS_GGUF_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum { GGUF_BUILD_FIELDS = 512 };

/* A number somewhere in the finished file. */
typedef struct gguf_field {
    size_t at;        /* byte offset */
    int section;      /* for the builder */
    int bytes;        /* 1, 4 or 8 */
    const char *what; /* "n_kv", "key length", "dimension", ... */
} gguf_field;

typedef struct gguf_build {
    /* Set any of these between init and finish to make the header lie. */
    char magic[4];
    uint32_t version;
    uint64_t n_tensors, n_kv; /* counted while building */
    uint64_t alignment; /* 32; of tensor data, a key is written only by the caller */

    tug_buf kv, infos, data;
    gguf_field fields[GGUF_BUILD_FIELDS];
    size_t n_fields;
} gguf_build;

void gguf_build_init(gguf_build *b);

/* ---- metadata --------------------------------------------------------------------- */

void gguf_build_u8(gguf_build *b, const char *key, uint8_t v);
void gguf_build_i8(gguf_build *b, const char *key, int8_t v);
void gguf_build_u16(gguf_build *b, const char *key, uint16_t v);
void gguf_build_i16(gguf_build *b, const char *key, int16_t v);
void gguf_build_u32(gguf_build *b, const char *key, uint32_t v);
void gguf_build_i32(gguf_build *b, const char *key, int32_t v);
void gguf_build_u64(gguf_build *b, const char *key, uint64_t v);
void gguf_build_i64(gguf_build *b, const char *key, int64_t v);
void gguf_build_f32(gguf_build *b, const char *key, float v);
void gguf_build_f64(gguf_build *b, const char *key, double v);
void gguf_build_bool(gguf_build *b, const char *key, bool v);
void gguf_build_str(gguf_build *b, const char *key, const char *v);
void gguf_build_strs(gguf_build *b, const char *key, const char *const *v, size_t n);
void gguf_build_i32s(gguf_build *b, const char *key, const int32_t *v, size_t n);
void gguf_build_f32s(gguf_build *b, const char *key, const float *v, size_t n);

/* A key of any bytes, a type number and the value's bytes, all unchecked. */
void gguf_build_kv(gguf_build *b, tug_str key, uint32_t type, const void *value,
                   size_t n);

/* An array whose header says `elem_type` and `count`, followed by these bytes. */
void gguf_build_array(gguf_build *b, const char *key, uint32_t elem_type, uint64_t count,
                      const void *elems, size_t n);

/* ---- tensors ---------------------------------------------------------------------- */

/* A tensor of `n_dims` dimensions (ne[0] contiguous) with its data, or zeros for NULL. */
void gguf_build_tensor(gguf_build *b, const char *name, uint32_t type, const int64_t *ne,
                       int n_dims, const void *data);

/* An info without data: anything goes. */
void gguf_build_info(gguf_build *b, tug_str name, uint32_t n_dims, const uint64_t *ne,
                     size_t n_ne, uint32_t type, uint64_t offset);

/* ----------------------------------------------------------------------------------- */

/* The file; frees what the builder held.  `fields` hold file offsets after this. */
void gguf_build_finish(gguf_build *b, tug_buf *file);

/* A small file with every value type, every kind of array and tensors of several types,
 * split keys excepted: the seed of the exhaustive tests (about 2 KB). */
void gguf_build_sample(gguf_build *b, tug_buf *file);

#endif
