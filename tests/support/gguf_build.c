/* gguf_build.c - see gguf_build.h.  SPDX-License-Identifier: MIT */
#include "support/gguf_build.h"

#include <stdlib.h>

#include "quant/types.h"

/* Value types, as numbered by the format. */
enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };

/* gguf_field.section: what its offset counts from until the file is finished. */
enum { IN_HEADER, IN_KV, IN_INFOS };

static void put(tug_buf *b, const void *bytes, size_t n) {
    if (n) tug_buf_append(b, bytes, n);
    if (b->failed) abort();
}

static void put_u32(tug_buf *b, uint32_t v) {
    put(b, &v, sizeof v); /* the tests run on little-endian machines only */
}

static void put_u64(tug_buf *b, uint64_t v) {
    put(b, &v, sizeof v);
}

static void mark(gguf_build *b, const tug_buf *section, int bytes, const char *what) {
    if (b->n_fields == GGUF_BUILD_FIELDS) return;
    b->fields[b->n_fields++] =
        (gguf_field){section->n, section == &b->infos ? IN_INFOS : IN_KV, bytes, what};
}

static void put_name(gguf_build *b, tug_buf *section, tug_str name, const char *what) {
    mark(b, section, 8, what);
    put_u64(section, name.n);
    put(section, name.p, name.n);
}

void gguf_build_init(gguf_build *b) {
    memset(b, 0, sizeof *b);
    memcpy(b->magic, "GGUF", 4);
    b->version = 3;
    b->alignment = 32;
    b->fields[0] = (gguf_field){4, IN_HEADER, 4, "version"};
    b->fields[1] = (gguf_field){8, IN_HEADER, 8, "n_tensors"};
    b->fields[2] = (gguf_field){16, IN_HEADER, 8, "n_kv"};
    b->n_fields = 3;
}

/* ---- metadata --------------------------------------------------------------------- */

static void put_key(gguf_build *b, tug_str key, uint32_t type) {
    put_name(b, &b->kv, key, "key length");
    mark(b, &b->kv, 4, "value type");
    put_u32(&b->kv, type);
    b->n_kv++;
}

void gguf_build_kv(gguf_build *b, tug_str key, uint32_t type, const void *value,
                   size_t n) {
    put_key(b, key, type);
    if (type == BOOL && n == 1) mark(b, &b->kv, 1, "bool");
    put(&b->kv, value, n);
}

static void scalar(gguf_build *b, const char *key, uint32_t type, const void *v,
                   size_t n) {
    gguf_build_kv(b, tug_str_of(key), type, v, n);
}

void gguf_build_u8(gguf_build *b, const char *key, uint8_t v) {
    scalar(b, key, U8, &v, sizeof v);
}
void gguf_build_i8(gguf_build *b, const char *key, int8_t v) {
    scalar(b, key, I8, &v, sizeof v);
}
void gguf_build_u16(gguf_build *b, const char *key, uint16_t v) {
    scalar(b, key, U16, &v, sizeof v);
}
void gguf_build_i16(gguf_build *b, const char *key, int16_t v) {
    scalar(b, key, I16, &v, sizeof v);
}
void gguf_build_u32(gguf_build *b, const char *key, uint32_t v) {
    scalar(b, key, U32, &v, sizeof v);
}
void gguf_build_i32(gguf_build *b, const char *key, int32_t v) {
    scalar(b, key, I32, &v, sizeof v);
}
void gguf_build_u64(gguf_build *b, const char *key, uint64_t v) {
    scalar(b, key, U64, &v, sizeof v);
}
void gguf_build_i64(gguf_build *b, const char *key, int64_t v) {
    scalar(b, key, I64, &v, sizeof v);
}
void gguf_build_f32(gguf_build *b, const char *key, float v) {
    scalar(b, key, F32, &v, sizeof v);
}
void gguf_build_f64(gguf_build *b, const char *key, double v) {
    scalar(b, key, F64, &v, sizeof v);
}
void gguf_build_bool(gguf_build *b, const char *key, bool v) {
    const uint8_t byte = v;
    scalar(b, key, BOOL, &byte, 1);
}

void gguf_build_str(gguf_build *b, const char *key, const char *v) {
    put_key(b, tug_str_of(key), STRING);
    put_name(b, &b->kv, tug_str_of(v), "string length");
}

static void array_head(gguf_build *b, const char *key, uint32_t elem_type,
                       uint64_t count) {
    put_key(b, tug_str_of(key), ARRAY);
    mark(b, &b->kv, 4, "element type");
    put_u32(&b->kv, elem_type);
    mark(b, &b->kv, 8, "element count");
    put_u64(&b->kv, count);
}

void gguf_build_array(gguf_build *b, const char *key, uint32_t elem_type, uint64_t count,
                      const void *elems, size_t n) {
    array_head(b, key, elem_type, count);
    put(&b->kv, elems, n);
}

void gguf_build_strs(gguf_build *b, const char *key, const char *const *v, size_t n) {
    array_head(b, key, STRING, n);
    for (size_t i = 0; i < n; i++) {
        if (n <= 16) mark(b, &b->kv, 8, "element length"); /* not for vocabularies */
        put_u64(&b->kv, strlen(v[i]));
        put(&b->kv, v[i], strlen(v[i]));
    }
}

void gguf_build_i32s(gguf_build *b, const char *key, const int32_t *v, size_t n) {
    gguf_build_array(b, key, I32, n, v, n * sizeof *v);
}

void gguf_build_f32s(gguf_build *b, const char *key, const float *v, size_t n) {
    gguf_build_array(b, key, F32, n, v, n * sizeof *v);
}

/* ---- tensors ---------------------------------------------------------------------- */

void gguf_build_info(gguf_build *b, tug_str name, uint32_t n_dims, const uint64_t *ne,
                     size_t n_ne, uint32_t type, uint64_t offset) {
    put_name(b, &b->infos, name, "tensor name length");
    mark(b, &b->infos, 4, "n_dims");
    put_u32(&b->infos, n_dims);
    for (size_t i = 0; i < n_ne; i++) {
        mark(b, &b->infos, 8, "dimension");
        put_u64(&b->infos, ne[i]);
    }
    mark(b, &b->infos, 4, "tensor type");
    put_u32(&b->infos, type);
    mark(b, &b->infos, 8, "tensor offset");
    put_u64(&b->infos, offset);
    b->n_tensors++;
}

static void pad(tug_buf *b, uint64_t position, uint64_t alignment) {
    static const char zeros[64];
    for (uint64_t n = (alignment - position % alignment) % alignment; n > 0;) {
        const size_t now = n < sizeof zeros ? (size_t)n : sizeof zeros;
        put(b, zeros, now);
        n -= now;
    }
}

void gguf_build_tensor(gguf_build *b, const char *name, uint32_t type, const int64_t *ne,
                       int n_dims, const void *data) {
    uint64_t dims[4] = {1, 1, 1, 1}, row = 0;
    for (int d = 0; d < n_dims; d++) dims[d] = (uint64_t)ne[d];
    if (!tug_type_row_bytes(type, dims[0], &row)) abort();
    const size_t bytes = (size_t)(row * dims[1] * dims[2] * dims[3]);

    pad(&b->data, b->data.n, b->alignment);
    gguf_build_info(b, tug_str_of(name), (uint32_t)n_dims, dims, (size_t)n_dims, type,
                    b->data.n);
    if (data) {
        put(&b->data, data, bytes);
    } else {
        for (size_t i = 0; i < bytes; i++) put(&b->data, "", 1);
    }
}

/* ----------------------------------------------------------------------------------- */

/* Fields were noted relative to their sections. */
static void place_fields(gguf_build *b, size_t kv_at, size_t infos_at) {
    for (size_t i = 0; i < b->n_fields; i++) {
        gguf_field *f = &b->fields[i];
        if (f->section == IN_KV) f->at += kv_at;
        if (f->section == IN_INFOS) f->at += infos_at;
    }
}

void gguf_build_finish(gguf_build *b, tug_buf *file) {
    tug_buf_clear(file);
    put(file, b->magic, sizeof b->magic);
    put_u32(file, b->version);
    put_u64(file, b->n_tensors);
    put_u64(file, b->n_kv);
    const size_t kv_at = file->n;
    put(file, b->kv.p, b->kv.n);
    const size_t infos_at = file->n;
    put(file, b->infos.p, b->infos.n);
    place_fields(b, kv_at, infos_at);
    if (b->data.n > 0) pad(file, file->n, b->alignment);
    put(file, b->data.p, b->data.n);
    tug_buf_free(&b->kv);
    tug_buf_free(&b->infos);
    tug_buf_free(&b->data);
}

void gguf_build_sample(gguf_build *b, tug_buf *file) {
    static const char *const words[] = {"a", "", "\xc4\xa0the", "<|im_start|>"};
    static const int32_t kinds[] = {1, 1, 1, 3};
    static const uint8_t flags[] = {0, 1, 1};
    static const uint16_t halves[] = {1, 2, 65535};
    static const uint64_t longs[] = {0, UINT64_MAX};
    static const double doubles[] = {0.5, -1e300};
    static const float floats[] = {1.0f, -0.0f};
    gguf_build_init(b);
    gguf_build_str(b, "general.architecture", "qwen3next");
    gguf_build_u32(b, "general.alignment", 32);
    gguf_build_u8(b, "t.u8", 255);
    gguf_build_i8(b, "t.i8", -128);
    gguf_build_u16(b, "t.u16", 65535);
    gguf_build_i16(b, "t.i16", -32768);
    gguf_build_u32(b, "t.u32", 4294967295u);
    gguf_build_i32(b, "t.i32", -7);
    gguf_build_u64(b, "t.u64", UINT64_MAX);
    gguf_build_i64(b, "t.i64", INT64_MIN);
    gguf_build_f32(b, "t.f32", 1e-6f);
    gguf_build_f64(b, "t.f64", 5e6);
    gguf_build_bool(b, "t.bool", true);
    gguf_build_strs(b, "tokenizer.ggml.tokens", words, 4);
    gguf_build_i32s(b, "tokenizer.ggml.token_type", kinds, 4);
    gguf_build_array(b, "a.bool", BOOL, 3, flags, sizeof flags);
    gguf_build_array(b, "a.u16", U16, 3, halves, sizeof halves);
    gguf_build_array(b, "a.u64", U64, 2, longs, sizeof longs);
    gguf_build_array(b, "a.f64", F64, 2, doubles, sizeof doubles);
    gguf_build_f32s(b, "a.f32", floats, 2);
    gguf_build_array(b, "a.none", STRING, 0, NULL, 0);
    gguf_build_tensor(b, "token_embd.weight", TUG_TYPE_Q4_K, (int64_t[]){256, 1}, 2,
                      NULL);
    gguf_build_tensor(b, "output_norm.weight", TUG_TYPE_F32, (int64_t[]){8}, 1, NULL);
    gguf_build_tensor(b, "blk.0.ffn_gate_exps.weight", TUG_TYPE_Q8_0,
                      (int64_t[]){32, 2, 3}, 3, NULL);
    gguf_build_tensor(b, "blk.0.ssm_a", TUG_TYPE_F16, (int64_t[]){2, 1, 2, 2}, 4, NULL);
    gguf_build_tensor(b, "blk.0.odd", TUG_TYPE_IQ2_XXS, (int64_t[]){256}, 1, NULL);
    gguf_build_finish(b, file);
}
