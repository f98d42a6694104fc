/* inspect_text.c - `tug inspect` for people.
 *
 * Texts from the file are shown on one line, without control characters: a file must not
 * be able to send escape sequences to the terminal.  SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>

#include "base/utf8.h"
#include "cli/inspect.h"

enum {
    TEXT_CHARS = 64,
    ARRAY_ELEMS = 6,
    ELEM_CHARS = 16,
    KEY_WIDTH = 44,
    NAME_WIDTH = 36
};

/* At most max_chars characters of s; what is no text, or would move the cursor, as
 * an escape.  Returns the number of columns used, more or less. */
static int put_clean(tug_buf *out, tug_str s, int max_chars) {
    int chars = 0;
    size_t i = 0;
    for (; i < s.n && chars < max_chars; chars++) {
        const int len = tug_utf8_next(s.p + i, s.n - i);
        const uint32_t c = len > 0 ? tug_utf8_decode(s.p + i, len) : 0xFFFD;
        if (c == '\n') {
            tug_buf_text(out, "\\n");
        } else if (c < 0x20 || (c >= 0x7F && c < 0xA0)) {
            tug_buf_printf(out, "\\u%04x", (unsigned)c);
        } else if (len > 0) {
            tug_buf_append(out, s.p + i, (size_t)len);
        } else {
            tug_buf_text(out, "\xEF\xBF\xBD");
        }
        i += len > 0 ? (size_t)len : 1;
    }
    if (i < s.n) tug_buf_text(out, "...");
    return chars;
}

static void pad(tug_buf *out, int from, int to) {
    for (int i = from; i < to; i++) tug_buf_char(out, ' ');
}

/* 1234 B, 5.7 MB, 38.3 GB */
static void put_bytes(tug_buf *out, uint64_t n) {
    if (n < 1000000) {
        tug_buf_printf(out, "%" PRIu64 " B", n);
    } else if (n < 1000000000) {
        tug_buf_printf(out, "%.1f MB", (double)n * 1e-6);
    } else {
        tug_buf_printf(out, "%.2f GB", (double)n * 1e-9);
    }
}

/* ---- metadata ---------------------------------------------------------------------- */

static void put_value(tug_buf *out, const tug_gguf_kv *kv, int max_chars) {
    switch (kv->type) {
    case TUG_GGUF_STRING:
        tug_buf_char(out, '"');
        (void)put_clean(out, kv->s, max_chars);
        tug_buf_char(out, '"');
        break;
    case TUG_GGUF_BOOL: tug_buf_text(out, kv->v.b ? "true" : "false"); break;
    case TUG_GGUF_F32: tug_buf_printf(out, "%.7g", kv->v.f); break;
    case TUG_GGUF_F64: tug_buf_printf(out, "%.15g", kv->v.f); break;
    case TUG_GGUF_I8:
    case TUG_GGUF_I16:
    case TUG_GGUF_I32:
    case TUG_GGUF_I64: tug_buf_printf(out, "%" PRId64, kv->v.i); break;
    default: tug_buf_printf(out, "%" PRIu64, kv->v.u); break;
    }
}

static void put_array(tug_buf *out, const tug_gguf_kv *kv) {
    tug_gguf_kv elem;
    uint64_t at = 0;
    for (int i = 0; i < ARRAY_ELEMS && tug_gguf_next_elem(kv, &at, &elem); i++) {
        if (i > 0) tug_buf_text(out, ", ");
        put_value(out, &elem, ELEM_CHARS);
    }
    if (kv->n > ARRAY_ELEMS) tug_buf_text(out, ", ...");
}

static void put_metadata(tug_buf *out, const tug_gguf *g) {
    tug_buf_printf(out, "\nmetadata (%" PRIu64 ")\n", tug_gguf_n_kv(g));
    for (uint64_t i = 0; i < tug_gguf_n_kv(g); i++) {
        const tug_gguf_kv kv = tug_gguf_kv_at(g, i);
        tug_buf_text(out, "  ");
        pad(out, put_clean(out, kv.key, 256), KEY_WIDTH);
        if (kv.type == TUG_GGUF_ARRAY) {
            tug_buf_printf(out, " %s[%" PRIu64 "]  ", inspect_vtype_name(kv.elem_type),
                           kv.n);
            put_array(out, &kv);
        } else {
            tug_buf_printf(out, " %-7s ", inspect_vtype_name(kv.type));
            put_value(out, &kv, TEXT_CHARS);
        }
        tug_buf_char(out, '\n');
    }
}

/* ---- tensors ----------------------------------------------------------------------- */

static void put_shape(tug_buf *out, const tug_gguf_tensor *t) {
    char shape[4 * 22 + 1];
    int n = 0;
    for (int d = 0; d < t->n_dims; d++) {
        n += snprintf(shape + n, sizeof shape - (size_t)n, "%s%" PRId64, d ? " x " : "",
                      t->ne[d]);
    }
    tug_buf_printf(out, "%-22s", shape);
}

static void put_tensors(tug_buf *out, const tug_gguf *g) {
    tug_buf_printf(out, "\ntensors (%" PRIu64 "), first dimension contiguous\n",
                   tug_gguf_n_tensors(g));
    for (uint64_t i = 0; i < tug_gguf_n_tensors(g); i++) {
        const tug_gguf_tensor t = tug_gguf_tensor_at(g, i);
        tug_buf_text(out, "  ");
        pad(out, put_clean(out, t.name, 64), NAME_WIDTH);
        tug_buf_printf(out, " %-7s ", tug_type_get(t.type)->name);
        put_shape(out, &t);
        tug_buf_printf(out, " %12" PRIu64 " bytes", t.n_bytes);
        if (tug_gguf_n_parts(g) > 1) tug_buf_printf(out, "  part %d", t.part + 1);
        tug_buf_char(out, '\n');
    }
}

/* ---- sums -------------------------------------------------------------------------- */

static void put_sum_head(tug_buf *out, const char *title) {
    tug_buf_printf(out, "\n%-16s %8s %15s %7s %15s %8s\n", title, "tensors", "values",
                   "bits", "bytes", "share");
}

static void put_sum(tug_buf *out, const char *name, const inspect_sum *s,
                    const inspect_sum *all, const char *remark) {
    if (s->n_tensors == 0) return;
    tug_buf_printf(
        out, "  %-14s %8" PRIu64 " %15" PRIu64 " %7.3f %15" PRIu64 " %6.2f %%%s\n", name,
        s->n_tensors, s->n_values, 8.0 * (double)s->n_bytes / (double)s->n_values,
        s->n_bytes, 100.0 * (double)s->n_bytes / (double)all->n_bytes, remark);
}

static void put_sums(tug_buf *out, const inspect_sums *sums) {
    if (sums->all.n_tensors == 0) return;
    put_sum_head(out, "by type");
    for (uint32_t type = 0; type < TUG_TYPE_COUNT; type++) {
        const tug_type_info *info = tug_type_get(type);
        put_sum(out, info->name ? info->name : "?", &sums->by_type[type], &sums->all,
                info->can_decode ? "" : "  tug cannot compute with this type");
    }
    put_sum_head(out, "by component");
    for (int c = 0; c < INSPECT_COMPONENTS; c++) {
        put_sum(out, inspect_component_name((inspect_component)c), &sums->by_component[c],
                &sums->all, "");
    }
}

static void put_head(tug_buf *out, const tug_gguf *g, const inspect_sums *sums) {
    tug_gguf_kv arch;
    (void)put_clean(out, tug_str_of(tug_gguf_path(g)), 4096);
    tug_buf_printf(out, ": GGUF version %u, ", tug_gguf_version(g));
    if (tug_gguf_find(g, "general.architecture", &arch) && arch.type == TUG_GGUF_STRING) {
        (void)put_clean(out, arch.s, TEXT_CHARS);
        tug_buf_text(out, ", ");
    }
    tug_buf_printf(out, "%" PRIu64 " values in %" PRIu64 " tensors, ", sums->all.n_values,
                   sums->all.n_tensors);
    put_bytes(out, tug_gguf_file_bytes(g));
    if (tug_gguf_n_parts(g) > 1) tug_buf_printf(out, " in %d files", tug_gguf_n_parts(g));
    tug_buf_char(out, '\n');
}

void inspect_text(const tug_gguf *g, inspect_parts parts, tug_buf *out) {
    inspect_sums sums;
    inspect_add_up(g, &sums);
    put_head(out, g, &sums);
    if (parts.metadata) put_metadata(out, g);
    if (parts.tensors) {
        put_tensors(out, g);
        put_sums(out, &sums);
    }
}
