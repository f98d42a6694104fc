/* trace_file.c - traces as files; the format is in docs/TRACE.md.
 *
 * An id is written as its distance from the one before it, in a byte when it is below 128:
 * about one byte an expert.  SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/checked.h"
#include "base/cursor.h"
#include "base/file.h"
#include "base/outfile.h"
#include "trace/trace.h"

static const char magic[8] = {'T', 'U', 'G', 'T', 'R', 'A', 'C', 'E'};
enum { VERSION = 1, HEADER = 40, CHECKSUM = 8 };

/* FNV-1a, 64 bits: against accidents, not against forgers. */
static uint64_t checksum(const uint8_t *p, uint64_t n) {
    uint64_t h = 0xCBF29CE484222325u;
    for (uint64_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001B3u;
    return h;
}

/* ---- writing --------------------------------------------------------------------------- */

static void put_u64(tug_buf *out, uint64_t v, int n_bytes) {
    for (int i = 0; i < n_bytes; i++) tug_buf_char(out, (char)(v >> 8 * i & 0xFF));
}

static void put_small(tug_buf *out, unsigned v) {
    for (; v >= 128; v >>= 7) tug_buf_char(out, (char)(v | 128));
    tug_buf_char(out, (char)v);
}

void tug_trace_encode(const tug_trace *t, tug_buf *out) {
    const size_t start = out->n;
    tug_buf_append(out, magic, sizeof magic);
    put_u64(out, VERSION, 4);
    put_u64(out, (uint64_t)t->n_layer, 4);
    put_u64(out, (uint64_t)t->n_expert, 4);
    put_u64(out, (uint64_t)t->n_used, 4);
    put_u64(out, (uint64_t)t->n_batches, 8);
    put_u64(out, (uint64_t)t->n_tokens, 8);
    for (int64_t i = 0; i < t->n_batches; i++) {
        put_u64(out, (uint64_t)t->batches[i], 4);
    }
    const int64_t n_lists = t->n_tokens * t->n_layer;
    for (int64_t i = 0; i < n_lists; i++) {
        const uint16_t *ids = t->ids + i * t->n_used;
        put_small(out, ids[0]);
        for (int k = 1; k < t->n_used; k++) put_small(out, ids[k] - ids[k - 1] - 1u);
    }
    if (!out->failed) {
        put_u64(out, checksum((const uint8_t *)out->p + start, out->n - start), 8);
    }
}

tug_status tug_trace_write(const tug_trace *t, const char *path, tug_err *err) {
    tug_buf out = {0};
    tug_trace_encode(t, &out);
    tug_status s = tug_buf_ok(&out, err);
    if (s == TUG_OK) s = tug_outfile_write(path, tug_buf_view(&out), err);
    tug_buf_free(&out);
    return s;
}

/* ---- reading --------------------------------------------------------------------------- */

typedef struct reader {
    tug_cursor in;
    const char *name;
    uint64_t n_batches, n_tokens;
} reader;

static tug_status damaged(const reader *r, const char *what, tug_err *err) {
    return TUG_FAIL(err, TUG_EFORMAT, "%s is damaged (%s): record it again", r->name,
                    what);
}

static tug_status check_frame(reader *r, tug_err *err) {
    const tug_cursor *in = &r->in;
    if (in->size < sizeof magic || memcmp(in->data, magic, sizeof magic) != 0) {
        return TUG_FAIL(err, TUG_EFORMAT, "%s is no trace of `tug trace`", r->name);
    }
    if (in->size < HEADER + CHECKSUM) return damaged(r, "cut off", err);
    tug_cursor end = tug_cursor_make(in->data, in->size);
    uint64_t sum = 0;
    (void)tug_cursor_skip(&end, in->size - CHECKSUM);
    (void)tug_cursor_u64(&end, &sum);
    if (sum != checksum(in->data, in->size - CHECKSUM)) {
        return damaged(r, "wrong checksum", err);
    }
    r->in = tug_cursor_make(in->data, in->size - CHECKSUM);
    return TUG_OK;
}

static tug_status read_header(reader *r, tug_trace *t, tug_err *err) {
    uint32_t version = 0, n_layer = 0, n_expert = 0, n_used = 0;
    (void)tug_cursor_skip(&r->in, sizeof magic);
    (void)tug_cursor_u32(&r->in, &version);
    (void)tug_cursor_u32(&r->in, &n_layer);
    (void)tug_cursor_u32(&r->in, &n_expert);
    (void)tug_cursor_u32(&r->in, &n_used);
    (void)tug_cursor_u64(&r->in, &r->n_batches);
    (void)tug_cursor_u64(&r->in, &r->n_tokens);
    if (version != VERSION) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s has version %u of the format; this tug reads version %d",
                        r->name, version, VERSION);
    }
    if (n_layer > TUG_TRACE_MAX_LAYER || n_expert > TUG_TRACE_MAX_EXPERT ||
        n_used > n_expert || r->n_tokens == 0) {
        return damaged(r, "impossible sizes", err);
    }
    return tug_trace_set_shape(t, r->name, (int)n_layer, (int)n_expert, (int)n_used, err);
}

/* Every batch and every id takes bytes, so the file's size bounds what is allocated. */
static tug_status check_sizes(const reader *r, const tug_trace *t, tug_err *err) {
    uint64_t list_bytes = 0, id_bytes = 0, need = 0;
    if (!tug_mul_u64(r->n_batches, 4, &list_bytes) ||
        !tug_mul_u64(r->n_tokens, (uint64_t)(t->n_layer * t->n_used), &id_bytes) ||
        !tug_add_u64(list_bytes, id_bytes, &need) || need > tug_cursor_left(&r->in)) {
        return damaged(r, "shorter than it says", err);
    }
    return TUG_OK;
}

static tug_status read_batches(reader *r, tug_trace *t, tug_err *err) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < r->n_batches; i++) {
        uint32_t n_tok = 0;
        int64_t first = 0;
        (void)tug_cursor_u32(&r->in, &n_tok);
        sum += n_tok;
        if (n_tok == 0 || n_tok > INT32_MAX || sum > r->n_tokens) {
            return damaged(r, "batches that do not add up", err);
        }
        TUG_TRY(tug_trace_add_batch(t, (int32_t)n_tok, &first, err));
    }
    return sum == r->n_tokens ? TUG_OK : damaged(r, "batches that do not add up", err);
}

/* The shortest form only, so that a trace has one encoding. */
static bool read_small(tug_cursor *in, uint32_t *out) {
    uint8_t b = 128;
    *out = 0;
    for (int shift = 0; b & 128; shift += 7) {
        if (shift > 14 || !tug_cursor_u8(in, &b)) return false;
        if (b == 0 && shift > 0) return false;
        *out |= (uint32_t)(b & 127) << shift;
    }
    return true;
}

static tug_status read_ids(reader *r, tug_trace *t, int64_t first, tug_err *err) {
    const int64_t n_lists = (t->n_tokens - first) * t->n_layer;
    uint16_t *ids = t->ids + first * t->n_layer * t->n_used;
    for (int64_t i = 0; i < n_lists; i++) {
        uint32_t next = 0, step = 0; /* the least the id can be */
        for (int k = 0; k < t->n_used; k++, next++) {
            if (!read_small(&r->in, &step)) return damaged(r, "an id cut off", err);
            next += step;
            if (next >= (uint32_t)t->n_expert) {
                return damaged(r, "an expert that is not there", err);
            }
            *ids++ = (uint16_t)next;
        }
    }
    return tug_cursor_left(&r->in) == 0 ? TUG_OK : damaged(r, "longer than it says", err);
}

static tug_status decode(reader *r, tug_trace *t, tug_err *err) {
    TUG_TRY(check_frame(r, err));
    TUG_TRY(read_header(r, t, err));
    TUG_TRY(check_sizes(r, t, err));
    const int64_t first = t->n_tokens;
    TUG_TRY(read_batches(r, t, err));
    return read_ids(r, t, first, err);
}

tug_status tug_trace_decode(tug_trace *t, tug_str bytes, const char *name, tug_err *err) {
    const tug_trace before = *t;
    reader r = {.in = tug_cursor_make(bytes.p, bytes.n), .name = name};
    const tug_status s = decode(&r, t, err);
    if (s != TUG_OK) {
        t->n_tokens = before.n_tokens;
        t->n_batches = before.n_batches;
        t->n_layer = before.n_layer;
        t->n_expert = before.n_expert;
        t->n_used = before.n_used;
        if (before.n_layer == 0) tug_trace_free(t); /* rows of a shape that is no more */
    }
    return s;
}

tug_status tug_trace_read(tug_trace *t, const char *path, tug_err *err) {
    tug_map map;
    TUG_TRY(tug_map_open(&map, path, err));
    const tug_str bytes = tug_str_make((const char *)map.data, (size_t)map.size);
    const tug_status s = tug_trace_decode(t, bytes, path, err);
    tug_map_close(&map);
    return s;
}
