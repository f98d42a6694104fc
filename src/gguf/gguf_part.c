/* gguf_part.c - decoding and checking the records of one GGUF file.
 *
 * Everything a file says passes through a tug_cursor (never a read outside the file) and
 * base/checked.h (never a wrapped size).  Order of the file: header, metadata, tensor
 * infos, padding, tensor data; docs/MODEL.md has the layout.
 * SPDX-License-Identifier: MIT */
#include "gguf/gguf_part.h"

#include "base/checked.h"
#include "base/sys.h"
#include "base/utf8.h"

enum {
    MAGIC = 0x46554747, /* "GGUF" */
    MAX_KEY_BYTES = 65535,
    MAX_TENSOR_NAME_BYTES = 64,
    DEFAULT_ALIGNMENT = 32,
    MIN_ALIGNMENT = 8 /* the format asks for a multiple of 8: blocks stay aligned */
};

static const uint8_t scalar_bytes[TUG_GGUF_VTYPE_COUNT] = {
    [TUG_GGUF_U8] = 1,  [TUG_GGUF_I8] = 1,  [TUG_GGUF_U16] = 2, [TUG_GGUF_I16] = 2,
    [TUG_GGUF_U32] = 4, [TUG_GGUF_I32] = 4, [TUG_GGUF_F32] = 4, [TUG_GGUF_BOOL] = 1,
    [TUG_GGUF_U64] = 8, [TUG_GGUF_I64] = 8, [TUG_GGUF_F64] = 8,
};

static tug_cursor cursor_at(const tug_gguf_part *p, uint64_t at) {
    tug_cursor c = tug_cursor_make(p->data, p->size);
    c.at = at;
    return c;
}

static tug_status cut_off(const tug_gguf_part *p, const char *what, uint64_t at,
                          tug_err *err) {
    return TUG_FAIL(err, TUG_EFORMAT,
                    "%s ends inside %s (byte %llu of %llu): the file is incomplete or "
                    "damaged, download it again",
                    p->name, what, (unsigned long long)at, (unsigned long long)p->size);
}

static bool read_string(tug_cursor *c, tug_str *s) {
    uint64_t n;
    const uint8_t *bytes;
    if (!tug_cursor_u64(c, &n) || !tug_cursor_bytes(c, n, &bytes)) return false;
    *s = tug_str_make((const char *)bytes, (size_t)n);
    return true;
}

static tug_status read_name(const tug_gguf_part *p, tug_cursor *c, const char *what,
                            uint64_t max_bytes, tug_str *name, tug_err *err) {
    const uint64_t at = c->at;
    if (!read_string(c, name)) return cut_off(p, what, at, err);
    if (name->n == 0 || name->n > max_bytes) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s: %s at byte %llu is %zu bytes long, the format allows 1 to "
                        "%llu: the file is damaged",
                        p->name, what, (unsigned long long)at, name->n,
                        (unsigned long long)max_bytes);
    }
    if (!tug_utf8_valid(name->p, name->n, NULL)) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s: %s at byte %llu is not UTF-8: the file is damaged", p->name,
                        what, (unsigned long long)at);
    }
    return TUG_OK;
}

/* ---- metadata --------------------------------------------------------------------- */

bool tug_gguf_read_scalar(tug_cursor *c, tug_gguf_kv *kv) {
    uint8_t u8 = 0;
    uint16_t u16 = 0;
    uint32_t u32 = 0;
    float f32 = 0;
    kv->v.u = 0;
    switch (kv->type) {
    case TUG_GGUF_U8:
    case TUG_GGUF_BOOL:
        if (!tug_cursor_u8(c, &u8)) return false;
        kv->v.u = u8;
        return true;
    case TUG_GGUF_I8:
        if (!tug_cursor_u8(c, &u8)) return false;
        kv->v.i = (int8_t)u8;
        return true;
    case TUG_GGUF_U16:
        if (!tug_cursor_u16(c, &u16)) return false;
        kv->v.u = u16;
        return true;
    case TUG_GGUF_I16:
        if (!tug_cursor_u16(c, &u16)) return false;
        kv->v.i = (int16_t)u16;
        return true;
    case TUG_GGUF_U32:
        if (!tug_cursor_u32(c, &u32)) return false;
        kv->v.u = u32;
        return true;
    case TUG_GGUF_I32:
        if (!tug_cursor_u32(c, &u32)) return false;
        kv->v.i = (int32_t)u32;
        return true;
    case TUG_GGUF_U64:
    case TUG_GGUF_I64: return tug_cursor_u64(c, &kv->v.u); /* the union keeps the bits */
    case TUG_GGUF_F32:
        if (!tug_cursor_f32(c, &f32)) return false;
        kv->v.f = (double)f32;
        return true;
    case TUG_GGUF_F64: return tug_cursor_f64(c, &kv->v.f);
    case TUG_GGUF_STRING: return read_string(c, &kv->s);
    default: return false;
    }
}

bool tug_gguf_as_i64(const tug_gguf_kv *kv, int64_t *out) {
    switch (kv->type) {
    case TUG_GGUF_U8:
    case TUG_GGUF_U16:
    case TUG_GGUF_U32:
    case TUG_GGUF_U64:
        if (kv->v.u > INT64_MAX) return false;
        *out = (int64_t)kv->v.u;
        return true;
    case TUG_GGUF_I8:
    case TUG_GGUF_I16:
    case TUG_GGUF_I32:
    case TUG_GGUF_I64: *out = kv->v.i; return true;
    default: return false;
    }
}

static tug_status bad_bool(const tug_gguf_part *p, const tug_gguf_kv *kv, unsigned value,
                           tug_err *err) {
    return TUG_FAIL(err, TUG_EFORMAT,
                    "%s: key '%.*s' has %u where a bool is 0 or 1: the file is damaged",
                    p->name, TUG_GGUF_SHOW(kv->key), value);
}

/* Steps over kv->n elements; what may stand in them is checked here, once. */
static tug_status walk_array(const tug_gguf_part *p, tug_cursor *c, tug_gguf_kv *kv,
                             tug_err *err) {
    const uint64_t at = c->at;
    if (kv->elem_type == TUG_GGUF_STRING) {
        tug_str ignored;
        for (uint64_t i = 0; i < kv->n; i++) {
            if (!read_string(c, &ignored)) return cut_off(p, "an array", c->at, err);
        }
    } else {
        uint64_t bytes;
        if (!tug_mul_u64(kv->n, scalar_bytes[kv->elem_type], &bytes) ||
            !tug_cursor_skip(c, bytes)) {
            return cut_off(p, "an array", at, err);
        }
    }
    kv->raw = tug_str_make((const char *)p->data + at, (size_t)(c->at - at));
    if (kv->elem_type == TUG_GGUF_BOOL) {
        for (size_t i = 0; i < kv->raw.n; i++) {
            const unsigned value = (unsigned char)kv->raw.p[i];
            if (value > 1) return bad_bool(p, kv, value, err);
        }
    }
    return TUG_OK;
}

static tug_status read_array(const tug_gguf_part *p, tug_cursor *c, tug_gguf_kv *kv,
                             tug_err *err) {
    uint32_t elem_type;
    if (!tug_cursor_u32(c, &elem_type) || !tug_cursor_u64(c, &kv->n)) {
        return cut_off(p, "an array", c->at, err);
    }
    if (elem_type == TUG_GGUF_ARRAY) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "%s: key '%.*s' is an array of arrays, which tug does not read",
                        p->name, TUG_GGUF_SHOW(kv->key));
    }
    if (elem_type >= TUG_GGUF_VTYPE_COUNT) {
        return TUG_FAIL(
            err, TUG_EFORMAT,
            "%s: key '%.*s' is an array of type %u, which GGUF does not have: "
            "the file is damaged",
            p->name, TUG_GGUF_SHOW(kv->key), elem_type);
    }
    kv->elem_type = (tug_gguf_vtype)elem_type;
    return walk_array(p, c, kv, err);
}

static tug_status read_value(const tug_gguf_part *p, tug_cursor *c, tug_gguf_kv *kv,
                             tug_err *err) {
    const uint64_t at = c->at;
    if (kv->type == TUG_GGUF_ARRAY) return read_array(p, c, kv, err);
    if (!tug_gguf_read_scalar(c, kv)) return cut_off(p, "a metadata value", at, err);
    if (kv->type == TUG_GGUF_BOOL) {
        if (kv->v.u > 1) return bad_bool(p, kv, (unsigned)kv->v.u, err);
        kv->v.b = kv->v.u == 1;
    }
    return TUG_OK;
}

tug_status tug_gguf_part_kv(const tug_gguf_part *p, uint64_t *at, tug_gguf_kv *kv,
                            tug_err *err) {
    *kv = (tug_gguf_kv){0};
    tug_cursor c = cursor_at(p, *at);
    TUG_TRY(read_name(p, &c, "a metadata key", MAX_KEY_BYTES, &kv->key, err));
    uint32_t type;
    if (!tug_cursor_u32(&c, &type)) return cut_off(p, "a metadata type", c.at, err);
    if (type >= TUG_GGUF_VTYPE_COUNT) {
        return TUG_FAIL(
            err, TUG_EFORMAT,
            "%s: key '%.*s' has type %u, which GGUF does not have: the file is "
            "damaged",
            p->name, TUG_GGUF_SHOW(kv->key), type);
    }
    kv->type = (tug_gguf_vtype)type;
    TUG_TRY(read_value(p, &c, kv, err));
    *at = c.at;
    return TUG_OK;
}

/* The name at the beginning of a record that has been checked before. */
tug_str tug_gguf_part_name_at(const tug_gguf_part *p, uint64_t at) {
    tug_cursor c = cursor_at(p, at);
    tug_str name = {0};
    (void)read_string(&c, &name);
    return name;
}

static bool key_less(const void *ud, uint32_t a, uint32_t b) {
    const tug_gguf_part *p = ud;
    return tug_gguf_name_cmp(tug_gguf_part_name_at(p, p->kv_at[a]),
                             tug_gguf_part_name_at(p, p->kv_at[b])) < 0;
}

static tug_status index_keys(tug_gguf_part *p, tug_err *err) {
    for (uint64_t i = 0; i < p->n_kv; i++) p->by_key[i] = (uint32_t)i;
    tug_gguf_sort(p->by_key, p->n_kv, key_less, p);
    for (uint64_t i = 1; i < p->n_kv; i++) {
        const tug_str key = tug_gguf_part_name_at(p, p->kv_at[p->by_key[i]]);
        if (tug_str_eq(key, tug_gguf_part_name_at(p, p->kv_at[p->by_key[i - 1]]))) {
            return TUG_FAIL(err, TUG_EFORMAT,
                            "%s: key '%.*s' occurs twice: the file is damaged", p->name,
                            TUG_GGUF_SHOW(key));
        }
    }
    return TUG_OK;
}

bool tug_gguf_part_find(const tug_gguf_part *p, tug_str key, tug_gguf_kv *kv) {
    uint64_t lo = 0, hi = p->n_kv;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        uint64_t at = p->kv_at[p->by_key[mid]];
        const int order = tug_gguf_name_cmp(key, tug_gguf_part_name_at(p, at));
        if (order == 0) return tug_gguf_part_kv(p, &at, kv, NULL) == TUG_OK;
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return false;
}

/* ---- header ----------------------------------------------------------------------- */

static tug_status check_version(const tug_gguf_part *p, tug_err *err) {
    if (p->version == 2 || p->version == 3) return TUG_OK;
    if (p->version == 1) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "%s is GGUF version 1 of 2023; tug reads versions 2 and 3: "
                        "download a newer conversion of the model",
                        p->name);
    }
    if (p->version != 0 && (p->version & 0xFFFF) == 0) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "%s is a big-endian GGUF file; tug reads little-endian ones: "
                        "download the ordinary file of this model",
                        p->name);
    }
    return TUG_FAIL(err, TUG_EUNSUPPORTED,
                    "%s says it is GGUF version %u; tug reads versions 2 and 3: the file "
                    "is damaged or newer than this tug",
                    p->name, p->version);
}

static tug_status read_header(tug_gguf_part *p, tug_cursor *c, tug_err *err) {
    uint32_t magic;
    if (!tug_cursor_u32(c, &magic) || magic != MAGIC) {
        return tug_gguf_not_gguf(p->name, p->data, p->size, err);
    }
    if (!tug_cursor_u32(c, &p->version)) return cut_off(p, "its header", c->at, err);
    TUG_TRY(check_version(p, err));
    if (!tug_cursor_u64(c, &p->n_tensors) || !tug_cursor_u64(c, &p->n_kv)) {
        return cut_off(p, "its header", c->at, err);
    }
    /* The counts decide allocations: what cannot be in the file is refused first. */
    const uint64_t left = tug_cursor_left(c);
    if (p->n_kv > left / TUG_GGUF_KV_MIN_BYTES || p->n_kv > UINT32_MAX ||
        p->n_tensors > left / TUG_GGUF_INFO_MIN_BYTES || p->n_tensors > UINT32_MAX) {
        return TUG_FAIL(
            err, TUG_EFORMAT,
            "%s claims %llu metadata entries and %llu tensors, more than its "
            "%llu bytes can hold: the file is incomplete or damaged, download "
            "it again",
            p->name, (unsigned long long)p->n_kv, (unsigned long long)p->n_tensors,
            (unsigned long long)p->size);
    }
    return TUG_OK;
}

static tug_status read_alignment(tug_gguf_part *p, tug_err *err) {
    p->alignment = DEFAULT_ALIGNMENT;
    tug_gguf_kv kv;
    if (!tug_gguf_part_find(p, tug_str_of("general.alignment"), &kv)) return TUG_OK;
    if (kv.type != TUG_GGUF_U32 || kv.v.u < MIN_ALIGNMENT ||
        (kv.v.u & (kv.v.u - 1)) != 0) {
        return TUG_FAIL(
            err, TUG_EFORMAT,
            "%s: general.alignment must be an unsigned 32-bit power of two of "
            "at least %d: the file is damaged",
            p->name, MIN_ALIGNMENT);
    }
    p->alignment = (uint32_t)kv.v.u;
    return TUG_OK;
}

tug_status tug_gguf_part_meta(tug_gguf_part *p, tug_err *err) {
    tug_cursor c = cursor_at(p, 0);
    TUG_TRY(read_header(p, &c, err));
    p->kv_at = tug_alloc_array((size_t)p->n_kv, sizeof *p->kv_at);
    p->by_key = tug_alloc_array((size_t)p->n_kv, sizeof *p->by_key);
    if (!p->kv_at || !p->by_key) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the metadata of %s", p->name);
    }
    uint64_t at = c.at;
    for (uint64_t i = 0; i < p->n_kv; i++) {
        p->kv_at[i] = at;
        tug_gguf_kv kv;
        TUG_TRY(tug_gguf_part_kv(p, &at, &kv, err));
    }
    p->infos_at = at;
    TUG_TRY(index_keys(p, err));
    return read_alignment(p, err);
}

void tug_gguf_part_free(tug_gguf_part *p) {
    tug_free(p->kv_at);
    tug_free(p->by_key);
    tug_map_close(&p->map);
    tug_free(p->path);
    *p = (tug_gguf_part){0};
}

/* ---- tensors ---------------------------------------------------------------------- */

static tug_status read_dims(const tug_gguf_part *p, tug_cursor *c, tug_gguf_tensor *t,
                            tug_err *err) {
    uint32_t n_dims;
    if (!tug_cursor_u32(c, &n_dims)) return cut_off(p, "a tensor info", c->at, err);
    if (n_dims < 1 || n_dims > 4) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s: tensor '%.*s' has %u dimensions, the format allows 1 to 4: "
                        "the file is damaged",
                        p->name, TUG_GGUF_SHOW(t->name), n_dims);
    }
    t->n_dims = (int)n_dims;
    for (int d = 0; d < 4; d++) {
        uint64_t ne = 1;
        if (d < t->n_dims && !tug_cursor_u64(c, &ne)) {
            return cut_off(p, "a tensor info", c->at, err);
        }
        if (ne < 1 || ne > INT64_MAX) {
            return TUG_FAIL(
                err, TUG_EFORMAT,
                "%s: tensor '%.*s' has a dimension of %llu: the file is damaged", p->name,
                TUG_GGUF_SHOW(t->name), (unsigned long long)ne);
        }
        t->ne[d] = (int64_t)ne;
    }
    return TUG_OK;
}

/* n_bytes from shape and type, no product unchecked. */
static tug_status measure(const tug_gguf_part *p, uint32_t type, tug_gguf_tensor *t,
                          tug_err *err) {
    const tug_type_info *info = tug_type_get(type);
    if (!info->name) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "%s: tensor '%.*s' has type number %u, which this tug does not "
                        "know: the file is damaged, or newer than tug",
                        p->name, TUG_GGUF_SHOW(t->name), type);
    }
    t->type = (tug_type)type;
    if (t->ne[0] % info->block_elems != 0) {
        return TUG_FAIL(
            err, TUG_EFORMAT,
            "%s: tensor '%.*s' has rows of %lld values, but %s comes in blocks "
            "of %d: the file is damaged",
            p->name, TUG_GGUF_SHOW(t->name), (long long)t->ne[0], info->name,
            info->block_elems);
    }
    uint64_t rows, n_elems;
    if (!tug_mul_u64((uint64_t)t->ne[1], (uint64_t)t->ne[2], &rows) ||
        !tug_mul_u64(rows, (uint64_t)t->ne[3], &rows) ||
        !tug_mul_u64(rows, (uint64_t)t->ne[0], &n_elems) || n_elems > INT64_MAX ||
        !tug_type_row_bytes(type, (uint64_t)t->ne[0], &t->n_bytes) ||
        !tug_mul_u64(rows, t->n_bytes, &t->n_bytes)) {
        return TUG_FAIL(
            err, TUG_ERANGE,
            "%s: tensor '%.*s' has %lld x %lld x %lld x %lld values, more than "
            "any file can hold: the file is damaged",
            p->name, TUG_GGUF_SHOW(t->name), (long long)t->ne[0], (long long)t->ne[1],
            (long long)t->ne[2], (long long)t->ne[3]);
    }
    return TUG_OK;
}

/* One info; t->file_offset still counts from the beginning of the data. */
static tug_status read_info(const tug_gguf_part *p, uint64_t *at, tug_gguf_tensor *t,
                            tug_err *err) {
    *t = (tug_gguf_tensor){0};
    tug_cursor c = cursor_at(p, *at);
    TUG_TRY(read_name(p, &c, "a tensor name", MAX_TENSOR_NAME_BYTES, &t->name, err));
    TUG_TRY(read_dims(p, &c, t, err));
    uint32_t type;
    if (!tug_cursor_u32(&c, &type) || !tug_cursor_u64(&c, &t->file_offset)) {
        return cut_off(p, "a tensor info", c.at, err);
    }
    TUG_TRY(measure(p, type, t, err));
    if (t->file_offset % p->alignment != 0) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s: tensor '%.*s' starts at %llu, not at a multiple of %u: the "
                        "file is damaged",
                        p->name, TUG_GGUF_SHOW(t->name),
                        (unsigned long long)t->file_offset, p->alignment);
    }
    *at = c.at;
    return TUG_OK;
}

tug_status tug_gguf_part_tensor(const tug_gguf_part *p, uint64_t at, tug_gguf_tensor *t,
                                tug_err *err) {
    TUG_TRY(read_info(p, &at, t, err));
    const uint64_t offset = t->file_offset;
    if (!tug_add_u64(p->data_at, offset, &t->file_offset) ||
        !tug_range_ok(t->file_offset, t->n_bytes, p->size)) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s: tensor '%.*s' needs %llu bytes at %llu + %llu, but the file "
                        "has only %llu: the download is incomplete, resume it",
                        p->name, TUG_GGUF_SHOW(t->name), (unsigned long long)t->n_bytes,
                        (unsigned long long)p->data_at, (unsigned long long)offset,
                        (unsigned long long)p->size);
    }
    t->data = p->data + t->file_offset;
    return TUG_OK;
}

static bool offset_less(const void *ud, uint32_t a, uint32_t b) {
    const tug_gguf_ref *refs = ud;
    return refs[a].offset < refs[b].offset;
}

static tug_status check_overlap(const tug_gguf_part *p, const tug_gguf_ref *refs,
                                uint32_t *order, tug_err *err) {
    for (uint64_t i = 0; i < p->n_tensors; i++) order[i] = (uint32_t)i;
    tug_gguf_sort(order, p->n_tensors, offset_less, refs);
    uint64_t end = 0;
    for (uint64_t i = 0; i < p->n_tensors; i++) {
        tug_gguf_tensor t;
        TUG_TRY(tug_gguf_part_tensor(p, refs[order[i]].info_at, &t, err));
        if (t.file_offset < end) {
            const tug_str before = tug_gguf_part_name_at(p, refs[order[i - 1]].info_at);
            return TUG_FAIL(err, TUG_EFORMAT,
                            "%s: tensors '%.*s' and '%.*s' overlap: the file is damaged",
                            p->name, TUG_GGUF_SHOW(before), TUG_GGUF_SHOW(t.name));
        }
        end = t.file_offset + t.n_bytes;
    }
    return TUG_OK;
}

tug_status tug_gguf_part_tensors(tug_gguf_part *p, tug_gguf_ref *refs, uint32_t part,
                                 tug_err *err) {
    uint64_t at = p->infos_at;
    for (uint64_t i = 0; i < p->n_tensors; i++) {
        refs[i].info_at = at;
        refs[i].part = part;
        tug_gguf_tensor t;
        TUG_TRY(read_info(p, &at, &t, err));
        refs[i].offset = t.file_offset;
    }
    if (!tug_align_up_u64(at, p->alignment, &p->data_at)) {
        return cut_off(p, "its tensor infos", at, err);
    }
    uint32_t *order = tug_alloc_array((size_t)p->n_tensors, sizeof *order);
    if (!order) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the tensors of %s", p->name);
    }
    const tug_status s = check_overlap(p, refs, order, err);
    tug_free(order);
    return s;
}

/* ---- order ------------------------------------------------------------------------ */

int tug_gguf_name_cmp(tug_str a, tug_str b) {
    const size_t n = a.n < b.n ? a.n : b.n;
    const int order = n ? memcmp(a.p, b.p, n) : 0;
    if (order != 0) return order;
    return a.n < b.n ? -1 : a.n > b.n;
}

/* Lets index[root] sink to its place in the heap of n. */
static void sink(uint32_t *index, uint64_t root, uint64_t n, tug_gguf_less_fn *less,
                 const void *ud) {
    for (;;) {
        uint64_t child = 2 * root + 1;
        if (child >= n) return;
        if (child + 1 < n && less(ud, index[child], index[child + 1])) child++;
        if (!less(ud, index[root], index[child])) return;
        const uint32_t swap = index[root];
        index[root] = index[child];
        index[child] = swap;
        root = child;
    }
}

void tug_gguf_sort(uint32_t *index, uint64_t n, tug_gguf_less_fn *less, const void *ud) {
    for (uint64_t root = n / 2; root-- > 0;) sink(index, root, n, less, ud);
    for (uint64_t last = n; last-- > 1;) {
        const uint32_t swap = index[0];
        index[0] = index[last];
        index[last] = swap;
        sink(index, 0, last, less, ud);
    }
}
