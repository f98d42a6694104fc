/* inspect_json.c - `tug inspect --json`, for programs.
 *
 * Numbers are exact; a 32-bit float is the shortest decimal that reads back as the same
 * 32-bit float, and null when it is infinite or no number.  Of an array there is the full
 * count and the first elements.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/inspect.h"
#include "json/json.h"

enum { ARRAY_ELEMS = 8 };

static void member(tug_json_writer *w, const char *key) {
    tug_json_write_key(w, tug_str_of(key));
}

static void member_text(tug_json_writer *w, const char *key, const char *text) {
    member(w, key);
    tug_json_write_str(w, tug_str_of(text));
}

static void member_u64(tug_json_writer *w, const char *key, uint64_t v) {
    member(w, key);
    tug_json_write_u64(w, v);
}

/* The double whose shortest decimal is also the float's. */
static double shortest_of_f32(double v) {
    char text[32];
    for (int digits = 6; isfinite(v) && digits < 9; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, v);
        const double shorter = strtod(text, NULL);
        if ((float)shorter == (float)v) return shorter;
    }
    return v;
}

static void write_scalar(tug_json_writer *w, const tug_gguf_kv *kv) {
    switch (kv->type) {
    case TUG_GGUF_STRING: tug_json_write_str(w, kv->s); break;
    case TUG_GGUF_BOOL: tug_json_write_bool(w, kv->v.b); break;
    case TUG_GGUF_F32: tug_json_write_f64(w, shortest_of_f32(kv->v.f)); break;
    case TUG_GGUF_F64: tug_json_write_f64(w, kv->v.f); break;
    case TUG_GGUF_I8:
    case TUG_GGUF_I16:
    case TUG_GGUF_I32:
    case TUG_GGUF_I64: tug_json_write_i64(w, kv->v.i); break;
    default: tug_json_write_u64(w, kv->v.u); break;
    }
}

static void write_array(tug_json_writer *w, const tug_gguf_kv *kv) {
    member_text(w, "elements", inspect_vtype_name(kv->elem_type));
    member_u64(w, "count", kv->n);
    member(w, "first");
    tug_json_begin_array(w);
    tug_gguf_kv elem;
    uint64_t at = 0;
    for (int i = 0; i < ARRAY_ELEMS && tug_gguf_next_elem(kv, &at, &elem); i++) {
        write_scalar(w, &elem);
    }
    tug_json_end_array(w);
}

static void write_metadata(tug_json_writer *w, const tug_gguf *g) {
    member(w, "metadata");
    tug_json_begin_object(w);
    for (uint64_t i = 0; i < tug_gguf_n_kv(g); i++) {
        const tug_gguf_kv kv = tug_gguf_kv_at(g, i);
        tug_json_write_key(w, kv.key);
        tug_json_begin_object(w);
        member_text(w, "type", inspect_vtype_name(kv.type));
        if (kv.type == TUG_GGUF_ARRAY) {
            write_array(w, &kv);
        } else {
            member(w, "value");
            write_scalar(w, &kv);
        }
        tug_json_end_object(w);
    }
    tug_json_end_object(w);
}

static void write_tensor(tug_json_writer *w, const tug_gguf_tensor *t) {
    tug_json_begin_object(w);
    member(w, "name");
    tug_json_write_str(w, t->name);
    member_text(w, "type", tug_type_get(t->type)->name);
    member(w, "shape");
    tug_json_begin_array(w);
    for (int d = 0; d < t->n_dims; d++) tug_json_write_i64(w, t->ne[d]);
    tug_json_end_array(w);
    member_u64(w, "bytes", t->n_bytes);
    member_u64(w, "part", (uint64_t)t->part + 1);
    member_u64(w, "offset", t->file_offset);
    tug_json_end_object(w);
}

static void write_sum(tug_json_writer *w, const char *name, const inspect_sum *s) {
    if (s->n_tensors == 0) return;
    member(w, name);
    tug_json_begin_object(w);
    member_u64(w, "tensors", s->n_tensors);
    member_u64(w, "values", s->n_values);
    member_u64(w, "bytes", s->n_bytes);
    tug_json_end_object(w);
}

static void write_sums(tug_json_writer *w, const inspect_sums *sums) {
    member(w, "by_type");
    tug_json_begin_object(w);
    for (uint32_t type = 0; type < TUG_TYPE_COUNT; type++) {
        const tug_type_info *info = tug_type_get(type);
        if (info->name) write_sum(w, info->name, &sums->by_type[type]);
    }
    tug_json_end_object(w);
    member(w, "by_component");
    tug_json_begin_object(w);
    for (int c = 0; c < INSPECT_COMPONENTS; c++) {
        write_sum(w, inspect_component_name((inspect_component)c),
                  &sums->by_component[c]);
    }
    tug_json_end_object(w);
}

void inspect_json(const tug_gguf *g, inspect_parts parts, tug_buf *out) {
    inspect_sums sums;
    inspect_add_up(g, &sums);
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_PRETTY);
    tug_json_begin_object(&w);
    member_text(&w, "file", tug_gguf_path(g));
    member_u64(&w, "version", tug_gguf_version(g));
    member_u64(&w, "parts", (uint64_t)tug_gguf_n_parts(g));
    member_u64(&w, "bytes", tug_gguf_file_bytes(g));
    if (parts.metadata) write_metadata(&w, g);
    if (parts.tensors) {
        member(&w, "tensors");
        tug_json_begin_array(&w);
        for (uint64_t i = 0; i < tug_gguf_n_tensors(g); i++) {
            const tug_gguf_tensor t = tug_gguf_tensor_at(g, i);
            write_tensor(&w, &t);
        }
        tug_json_end_array(&w);
        write_sums(&w, &sums);
    }
    tug_json_end_object(&w);
    tug_buf_char(out, '\n');
}
