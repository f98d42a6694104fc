/* gguf_read.c - opening GGUF files, whole or split, and looking things up in them.
 *
 * OWNS   tug_gguf: its parts, the list of all tensors and their order by name.
 * NOT    what a record looks like (gguf_part.c), typed reads (gguf_get.c).
 *
 * MAPPING  The files are mapped read-only, and weights are used where they lie.  Checks
 * hold for the size that a file had when it was opened.  If somebody truncates it later,
 * the kernel answers a read beyond the new end with SIGBUS and the process ends: no check
 * made here can prevent that, and going on with other weights would be worse.  Replacing
 * a file by renaming another over it, as downloaders do, is harmless: the map keeps the
 * old one.  SPDX-License-Identifier: MIT */
#include "gguf/gguf.h"

#include <stdio.h>

#include "base/sys.h"
#include "gguf/gguf_part.h"

enum {
    MAX_PARTS = 240, /* with paths of 4 KiB less than 1 MiB; real sets have some dozen */
    NAME_BYTES = 80, /* of a path that goes into a sentence: the end says most */
    SUFFIX_BYTES = 20,        /* "-00001-of-00003.gguf" */
    SUFFIX_ROOM = 2 * 10 + 32 /* the same with the widest numbers, for snprintf */
};

struct tug_gguf {
    tug_gguf_part *parts; /* owned, (n_parts,) */
    int n_parts;
    uint64_t n_tensors;
    tug_gguf_ref *refs; /* owned, (n_tensors,): parts one after the other */
    uint32_t *by_name;  /* owned, (n_tensors,): refs in the order of their names */
};

static const char *end_of_path(const char *path) {
    const size_t n = strlen(path);
    if (n <= NAME_BYTES) return path;
    const char *end = path + n - NAME_BYTES;
    const char *slash = strchr(end, '/');
    return slash && slash[1] ? slash + 1 : end;
}

static tug_status set_path(tug_gguf_part *p, const char *path, size_t n, tug_err *err) {
    p->path = tug_alloc_array(n + 1, 1);
    if (!p->path) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for a file name");
    memcpy(p->path, path, n);
    p->path[n] = '\0';
    p->name = end_of_path(p->path);
    return TUG_OK;
}

static tug_status map_part(tug_gguf_part *p, tug_err *err) {
    TUG_TRY(tug_map_open(&p->map, p->path, err));
    p->data = p->map.data;
    p->size = p->map.size;
    return tug_gguf_part_meta(p, err);
}

/* ---- split sets ------------------------------------------------------------------- */

/* What the keys of one part say; count is 0 in a file that is not split. */
typedef struct split {
    uint64_t no, count, n_tensors;
} split;

/* A number from 0 to 2^32 - 1 under `key`; `fallback` when the key is absent. */
static tug_status split_number(const tug_gguf_part *p, const char *key, uint64_t fallback,
                               uint64_t *out, tug_err *err) {
    tug_gguf_kv kv;
    int64_t number;
    *out = fallback;
    if (!tug_gguf_part_find(p, tug_str_of(key), &kv)) return TUG_OK;
    if (!tug_gguf_as_i64(&kv, &number) || number < 0 || number > UINT32_MAX) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s: key '%s' is not a number that counts: the file is damaged",
                        p->name, key);
    }
    *out = (uint64_t)number;
    return TUG_OK;
}

static tug_status read_split(const tug_gguf_part *p, split *s, tug_err *err) {
    TUG_TRY(split_number(p, "split.count", 0, &s->count, err));
    TUG_TRY(split_number(p, "split.no", 0, &s->no, err));
    TUG_TRY(split_number(p, "split.tensors.count", UINT32_MAX, &s->n_tensors, err));
    if (s->count > MAX_PARTS) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s says it is one of %llu parts; tug opens at most %d: merge "
                        "them, if the file is not damaged",
                        p->name, (unsigned long long)s->count, MAX_PARTS);
    }
    if (s->count > 0 && s->no >= s->count) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s says it is part %llu of %llu: the file is damaged", p->name,
                        (unsigned long long)s->no + 1, (unsigned long long)s->count);
    }
    return TUG_OK;
}

/* The text that ends the name of part `no` (0-based) of `count`. */
static void split_suffix(char out[SUFFIX_ROOM], int no, int count) {
    (void)snprintf(out, SUFFIX_ROOM, "-%05d-of-%05d.gguf", no + 1, count);
}

/* Does the path end as the name of part `no` must?  *stem gets the bytes before. */
static bool has_suffix(const char *path, int no, int count, size_t *stem) {
    char suffix[SUFFIX_ROOM];
    split_suffix(suffix, no, count);
    const size_t n = strlen(path);
    if (n < SUFFIX_BYTES || strcmp(path + n - SUFFIX_BYTES, suffix) != 0) return false;
    *stem = n - SUFFIX_BYTES;
    return true;
}

/* Refuses a set that cannot be completed from this file, with what to do about it. */
static tug_status check_first(const tug_gguf_part *p, const split *s, size_t *stem,
                              tug_err *err) {
    const int no = (int)s->no, count = (int)s->count;
    char first[SUFFIX_ROOM], own[SUFFIX_ROOM];
    split_suffix(first, 0, count);
    split_suffix(own, no, count);
    if (!has_suffix(p->path, no, count, stem)) {
        return TUG_FAIL(
            err, TUG_EFORMAT,
            "%s is part %d of %d of a split model, so its name must end in %s: "
            "give all parts their original names again",
            p->name, no + 1, count, own);
    }
    if (no == 0) return TUG_OK;
    const size_t shown = strlen(p->name) - SUFFIX_BYTES;
    return TUG_FAIL(err, TUG_EFORMAT,
                    "%s is part %d of %d of a split model: open the first, %.*s%s",
                    p->name, no + 1, count, (int)shown, p->name, first);
}

static tug_status check_part(const tug_gguf_part *p, const split *first, int no,
                             tug_err *err) {
    split s;
    TUG_TRY(read_split(p, &s, err));
    if (s.no == (uint64_t)no && s.count == first->count) return TUG_OK;
    return TUG_FAIL(err, TUG_EFORMAT,
                    "%s says it is part %llu of %llu, but its name says %d of %llu: the "
                    "parts are mixed up, download this one again",
                    p->name, (unsigned long long)s.no + 1, (unsigned long long)s.count,
                    no + 1, (unsigned long long)first->count);
}

static tug_status open_part(tug_gguf *g, int no, const split *first, size_t stem,
                            tug_err *err) {
    tug_gguf_part *p = &g->parts[no];
    TUG_TRY(set_path(p, g->parts[0].path, stem + SUFFIX_BYTES, err));
    char suffix[SUFFIX_ROOM];
    split_suffix(suffix, no, g->n_parts);
    memcpy(p->path + stem, suffix, SUFFIX_BYTES);
    const tug_status s = map_part(p, err);
    if (s == TUG_EIO) {
        return TUG_FAIL(err, s,
                        "%s, part %d of %d of this model, is missing or unreadable: "
                        "download it into the folder of the first part",
                        p->name, no + 1, g->n_parts);
    }
    TUG_TRY(s);
    return check_part(p, first, no, err);
}

/* Opens parts 2.. of the set whose first part is open. */
static tug_status open_rest(tug_gguf *g, const split *first, tug_err *err) {
    size_t stem = 0;
    TUG_TRY(check_first(&g->parts[0], first, &stem, err));
    tug_gguf_part *parts =
        tug_realloc_array(g->parts, (size_t)first->count, sizeof *parts);
    if (!parts)
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the parts of a model");
    memset(parts + 1, 0, (size_t)(first->count - 1) * sizeof *parts);
    g->parts = parts;
    g->n_parts = (int)first->count;
    for (int no = 1; no < g->n_parts; no++) TUG_TRY(open_part(g, no, first, stem, err));
    return TUG_OK;
}

/* ---- open and close --------------------------------------------------------------- */

static tug_str ref_name(const tug_gguf *g, uint64_t i) {
    const tug_gguf_ref *r = &g->refs[i];
    return tug_gguf_part_name_at(&g->parts[r->part], r->info_at);
}

static bool name_less(const void *ud, uint32_t a, uint32_t b) {
    return tug_gguf_name_cmp(ref_name(ud, a), ref_name(ud, b)) < 0;
}

static tug_status index_names(tug_gguf *g, tug_err *err) {
    for (uint64_t i = 0; i < g->n_tensors; i++) g->by_name[i] = (uint32_t)i;
    tug_gguf_sort(g->by_name, g->n_tensors, name_less, g);
    for (uint64_t i = 1; i < g->n_tensors; i++) {
        const tug_str name = ref_name(g, g->by_name[i]);
        if (tug_str_eq(name, ref_name(g, g->by_name[i - 1]))) {
            return TUG_FAIL(
                err, TUG_EFORMAT, "%s: tensor '%.*s' occurs twice: the file is damaged",
                g->parts[g->refs[g->by_name[i]].part].name, TUG_GGUF_SHOW(name));
        }
    }
    return TUG_OK;
}

static tug_status open_tensors(tug_gguf *g, const split *s, tug_err *err) {
    for (int no = 0; no < g->n_parts; no++) g->n_tensors += g->parts[no].n_tensors;
    if (s->count > 1 && s->n_tensors != UINT32_MAX && s->n_tensors != g->n_tensors) {
        return TUG_FAIL(
            err, TUG_EFORMAT,
            "%s: the %d parts hold %llu tensors, but split.tensors.count says "
            "%llu: a part is from another model, download all again",
            g->parts[0].name, g->n_parts, (unsigned long long)g->n_tensors,
            (unsigned long long)s->n_tensors);
    }
    g->refs = tug_alloc_array((size_t)g->n_tensors, sizeof *g->refs);
    g->by_name = tug_alloc_array((size_t)g->n_tensors, sizeof *g->by_name);
    if (!g->refs || !g->by_name || g->n_tensors > UINT32_MAX) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the tensors of %s",
                        g->parts[0].name);
    }
    tug_gguf_ref *refs = g->refs;
    for (int no = 0; no < g->n_parts; no++) {
        TUG_TRY(tug_gguf_part_tensors(&g->parts[no], refs, (uint32_t)no, err));
        refs += g->parts[no].n_tensors;
    }
    return index_names(g, err);
}

/* An object with one part that has a path and nothing else. */
static tug_status create(tug_gguf **out, const char *path, tug_err *err) {
    tug_gguf *g = tug_alloc_zero(sizeof *g);
    *out = g;
    if (g) g->parts = tug_alloc_zero(sizeof *g->parts);
    if (!g || !g->parts)
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for a model file");
    g->n_parts = 1;
    return set_path(&g->parts[0], path, strlen(path), err);
}

static tug_status open_files(tug_gguf *g, tug_err *err) {
    TUG_TRY(map_part(&g->parts[0], err));
    split s;
    TUG_TRY(read_split(&g->parts[0], &s, err));
    if (s.count > 1) TUG_TRY(open_rest(g, &s, err));
    return open_tensors(g, &s, err);
}

static tug_status open_bytes(tug_gguf *g, const void *data, uint64_t size, tug_err *err) {
    tug_gguf_part *p = &g->parts[0];
    p->data = data;
    p->size = size;
    TUG_TRY(tug_gguf_part_meta(p, err));
    split s;
    TUG_TRY(read_split(p, &s, err));
    if (s.count > 1) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "%s is part %llu of %llu of a split model, which can only be "
                        "opened from files",
                        p->name, (unsigned long long)s.no + 1,
                        (unsigned long long)s.count);
    }
    return open_tensors(g, &s, err);
}

/* Hands *g out, or nothing when anything failed. */
static tug_status deliver(tug_gguf **out, tug_gguf *g, tug_status s) {
    if (s != TUG_OK) tug_gguf_close(&g);
    *out = g;
    return s;
}

tug_status tug_gguf_open(tug_gguf **out, const char *path, tug_err *err) {
    tug_gguf *g;
    tug_status s = create(&g, path, err);
    if (s == TUG_OK) s = open_files(g, err);
    return deliver(out, g, s);
}

tug_status tug_gguf_open_memory(tug_gguf **out, const char *name, const void *data,
                                uint64_t size, tug_err *err) {
    tug_gguf *g;
    tug_status s = create(&g, name, err);
    if (s == TUG_OK) s = open_bytes(g, data, size, err);
    return deliver(out, g, s);
}

void tug_gguf_close(tug_gguf **g) {
    if (!*g) return;
    for (int no = 0; no < (*g)->n_parts; no++) tug_gguf_part_free(&(*g)->parts[no]);
    tug_free((*g)->parts);
    tug_free((*g)->refs);
    tug_free((*g)->by_name);
    tug_free(*g);
    *g = NULL;
}

/* ---- views ------------------------------------------------------------------------ */

const char *tug_gguf_path(const tug_gguf *g) {
    return g->parts[0].path;
}

uint32_t tug_gguf_version(const tug_gguf *g) {
    return g->parts[0].version;
}

int tug_gguf_n_parts(const tug_gguf *g) {
    return g->n_parts;
}

const char *tug_gguf_part_path(const tug_gguf *g, int part) {
    const tug_gguf_part *p = &g->parts[part];
    return p->data == p->map.data ? p->path : NULL;
}

uint64_t tug_gguf_locate(const tug_gguf *g, const uint8_t *data, int *part) {
    for (int i = 0; i < g->n_parts; i++) {
        const tug_gguf_part *p = &g->parts[i];
        if (data < p->data || data >= p->data + p->size) continue;
        *part = i;
        return (uint64_t)(data - p->data);
    }
    TUG_CHECK(false && "not a tensor of this file");
    return 0;
}

uint64_t tug_gguf_file_bytes(const tug_gguf *g) {
    uint64_t bytes = 0;
    for (int no = 0; no < g->n_parts; no++) bytes += g->parts[no].size;
    return bytes;
}

uint64_t tug_gguf_n_kv(const tug_gguf *g) {
    return g->parts[0].n_kv;
}

/* Records were checked at open; decoding one again fails only if somebody overwrote the
 * file since, and then the view is empty. */
tug_gguf_kv tug_gguf_kv_at(const tug_gguf *g, uint64_t i) {
    const tug_gguf_part *p = &g->parts[0];
    TUG_CHECK(i < p->n_kv);
    tug_gguf_kv kv;
    uint64_t at = p->kv_at[i];
    if (tug_gguf_part_kv(p, &at, &kv, NULL) != TUG_OK) kv = (tug_gguf_kv){0};
    return kv;
}

bool tug_gguf_find(const tug_gguf *g, const char *key, tug_gguf_kv *out) {
    return tug_gguf_part_find(&g->parts[0], tug_str_of(key), out);
}

uint64_t tug_gguf_n_tensors(const tug_gguf *g) {
    return g->n_tensors;
}

static bool tensor_of_ref(const tug_gguf *g, uint64_t i, tug_gguf_tensor *t) {
    const tug_gguf_ref *r = &g->refs[i];
    const bool ok =
        tug_gguf_part_tensor(&g->parts[r->part], r->info_at, t, NULL) == TUG_OK;
    if (!ok) *t = (tug_gguf_tensor){0};
    t->part = (int)r->part;
    return ok;
}

tug_gguf_tensor tug_gguf_tensor_at(const tug_gguf *g, uint64_t i) {
    TUG_CHECK(i < g->n_tensors);
    tug_gguf_tensor t;
    (void)tensor_of_ref(g, i, &t);
    return t;
}

bool tug_gguf_find_tensor(const tug_gguf *g, const char *name, tug_gguf_tensor *out) {
    const tug_str wanted = tug_str_of(name);
    uint64_t lo = 0, hi = g->n_tensors;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        const int order = tug_gguf_name_cmp(wanted, ref_name(g, g->by_name[mid]));
        if (order == 0) return tensor_of_ref(g, g->by_name[mid], out);
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return false;
}
