/* gguf_write.c - see gguf_write.h.
 *
 * Tensors and parts are planned before the first byte goes out, so every header is
 * complete when it is written and nothing is patched later.  Layout of the format:
 * docs/MODEL.md.  SPDX-License-Identifier: MIT */
#include "gguf/gguf_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/f16.h"
#include "base/sys.h"

enum { ALIGNMENT = 32, MAX_NAME_BYTES = 63, SUFFIX_ROOM = 64 };

static const char partial_suffix[] = ".partial";

typedef struct out_tensor {
    char name[MAX_NAME_BYTES + 1];
    tug_type type;
    int n_dims;
    int64_t ne[4];
    uint64_t n_bytes, offset; /* in the data of its part */
} out_tensor;

typedef struct out_part {
    char *path, *partial; /* owned */
    tug_buf header;       /* up to the first tensor's data, padding included */
    size_t first, n;      /* its tensors */
    uint64_t data_bytes;
    bool exists; /* there is a file of ours under `partial` */
    bool named;  /* and now it has its name */
} out_part;

struct tug_gguf_writer {
    char *path; /* owned; as given */
    uint64_t split_bytes;
    bool overwrite;
    tug_gguf_meta meta;
    out_tensor *tensors; /* owned, (n_tensors,) */
    size_t n_tensors, room;
    out_part *parts; /* owned, (n_parts,); NULL before begin */
    int n_parts;
    uint64_t total_bytes;
    /* where the data has got to */
    int fd; /* of part `part`; -1: none open */
    int part;
    size_t tensor;
    uint64_t done; /* of that tensor */
};

static tug_status no_memory(tug_err *err) {
    return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the header of a GGUF file");
}

static char *join(const char *a, size_t n, const char *b) {
    const size_t m = strlen(b);
    char *s = tug_alloc_array(n + m + 1, 1);
    if (!s) return NULL;
    memcpy(s, a, n);
    memcpy(s + n, b, m + 1);
    return s;
}

tug_status tug_gguf_writer_create(tug_gguf_writer **out,
                                  const tug_gguf_write_params *params, tug_err *err) {
    *out = NULL;
    const size_t n = strlen(params->path);
    if (n < 6 || strcmp(params->path + n - 5, ".gguf") != 0 ||
        params->path[n - 6] == '/') {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "'%s' must end in .gguf, as other programs expect of a model",
                        params->path);
    }
    tug_gguf_writer *w = tug_alloc_zero(sizeof *w);
    if (!w) return no_memory(err);
    w->fd = -1;
    w->split_bytes = params->split_bytes;
    w->overwrite = params->overwrite;
    w->path = join(params->path, n, "");
    if (!w->path) {
        tug_gguf_writer_destroy(&w);
        return no_memory(err);
    }
    *out = w;
    return TUG_OK;
}

void tug_gguf_writer_destroy(tug_gguf_writer **writer) {
    tug_gguf_writer *w = *writer;
    if (!w) return;
    if (w->fd >= 0) (void)tug_sys.close(w->fd);
    for (int i = 0; i < w->n_parts; i++) {
        out_part *p = &w->parts[i];
        if (p->exists) (void)tug_sys.unlink(p->named ? p->path : p->partial);
        tug_free(p->path);
        tug_free(p->partial);
        tug_buf_free(&p->header);
    }
    tug_free(w->parts);
    tug_free(w->tensors);
    tug_buf_free(&w->meta.bytes);
    tug_free(w->path);
    tug_free(w);
    *writer = NULL;
}

/* ---- records ---------------------------------------------------------------------- */

static void put_int(tug_buf *b, uint64_t v, int n_bytes) {
    char le[8];
    for (int i = 0; i < n_bytes; i++) le[i] = (char)(unsigned char)(v >> 8 * i);
    tug_buf_append(b, le, (size_t)n_bytes);
}

static void put_text(tug_buf *b, tug_str s) {
    put_int(b, s.n, 8);
    tug_buf_str(b, s);
}

static void put_key(tug_gguf_meta *m, const char *key, tug_gguf_vtype type) {
    put_text(&m->bytes, tug_str_of(key));
    put_int(&m->bytes, type, 4);
    m->n++;
}

tug_gguf_meta *tug_gguf_writer_meta(tug_gguf_writer *w) {
    return &w->meta;
}

void tug_gguf_put_u16(tug_gguf_meta *m, const char *key, uint16_t v) {
    put_key(m, key, TUG_GGUF_U16);
    put_int(&m->bytes, v, 2);
}

void tug_gguf_put_u32(tug_gguf_meta *m, const char *key, uint32_t v) {
    put_key(m, key, TUG_GGUF_U32);
    put_int(&m->bytes, v, 4);
}

void tug_gguf_put_i32(tug_gguf_meta *m, const char *key, int32_t v) {
    put_key(m, key, TUG_GGUF_I32);
    put_int(&m->bytes, (uint32_t)v, 4);
}

void tug_gguf_put_f32(tug_gguf_meta *m, const char *key, float v) {
    put_key(m, key, TUG_GGUF_F32);
    put_int(&m->bytes, tug_f32_bits(v), 4);
}

void tug_gguf_put_bool(tug_gguf_meta *m, const char *key, bool v) {
    put_key(m, key, TUG_GGUF_BOOL);
    put_int(&m->bytes, v, 1);
}

void tug_gguf_put_str(tug_gguf_meta *m, const char *key, tug_str v) {
    put_key(m, key, TUG_GGUF_STRING);
    put_text(&m->bytes, v);
}

void tug_gguf_put_array(tug_gguf_meta *m, const char *key, tug_gguf_vtype elem_type,
                        uint64_t n) {
    put_key(m, key, TUG_GGUF_ARRAY);
    put_int(&m->bytes, elem_type, 4);
    put_int(&m->bytes, n, 8);
}

void tug_gguf_add_str(tug_gguf_meta *m, tug_str v) {
    put_text(&m->bytes, v);
}

void tug_gguf_add_i32(tug_gguf_meta *m, int32_t v) {
    put_int(&m->bytes, (uint32_t)v, 4);
}

/* ---- planning --------------------------------------------------------------------- */

static tug_status grow_tensors(tug_gguf_writer *w, tug_err *err) {
    if (w->n_tensors < w->room) return TUG_OK;
    const size_t room = w->room ? 2 * w->room : 64;
    out_tensor *t = tug_realloc_array(w->tensors, room, sizeof *t);
    if (!t) return no_memory(err);
    w->tensors = t;
    w->room = room;
    return TUG_OK;
}

tug_status tug_gguf_writer_tensor(tug_gguf_writer *w, const char *name, tug_type type,
                                  const int64_t *ne, int n_dims, tug_err *err) {
    TUG_CHECK(!w->parts && n_dims >= 1 && n_dims <= 4);
    TUG_CHECK(name[0] && strlen(name) <= MAX_NAME_BYTES);
    TUG_TRY(grow_tensors(w, err));
    out_tensor t = {.type = type, .n_dims = n_dims, .ne = {1, 1, 1, 1}};
    (void)snprintf(t.name, sizeof t.name, "%s", name);
    bool fits = tug_type_row_bytes(type, (uint64_t)ne[0], &t.n_bytes);
    for (int d = 0; d < n_dims; d++) {
        TUG_CHECK(ne[d] >= 1);
        t.ne[d] = ne[d];
        if (d > 0) fits = fits && tug_mul_u64(t.n_bytes, (uint64_t)ne[d], &t.n_bytes);
    }
    if (!fits || t.n_bytes > INT64_MAX / 2) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "the tensor %s of type %s cannot be %lld wide and as large as "
                        "asked: choose a smaller shape, rows in whole blocks of %d",
                        name, tug_type_get(type)->name, (long long)ne[0],
                        tug_type_get(type)->block_elems);
    }
    w->tensors[w->n_tensors++] = t;
    return TUG_OK;
}

static uint64_t padding(uint64_t n) {
    return (ALIGNMENT - n % ALIGNMENT) % ALIGNMENT;
}

/* Cuts the tensors into parts: (first, n, data_bytes) of each, and the offsets.  Called
 * with parts == NULL it only counts. */
static tug_status cut(tug_gguf_writer *w, out_part *parts, int *n_parts, tug_err *err) {
    uint64_t used = 0, total = 0;
    int part = 0;
    for (size_t i = 0; i < w->n_tensors; i++) {
        out_tensor *t = &w->tensors[i];
        const uint64_t size = t->n_bytes + padding(t->n_bytes);
        if (w->split_bytes && used > 0 && t->n_bytes > w->split_bytes - used) {
            part++;
            used = 0;
        }
        if (!tug_add_u64(total, size, &total) || total > INT64_MAX / 2) {
            return TUG_FAIL(err, TUG_ERANGE,
                            "a model of this shape has no size that a "
                            "file could have: choose a smaller one");
        }
        if (parts) {
            out_part *p = &parts[part];
            if (used == 0) p->first = i;
            t->offset = used;
            p->n++;
            p->data_bytes = used + size;
        }
        used += size;
        if (w->split_bytes && used > w->split_bytes) used = w->split_bytes;
    }
    *n_parts = part + 1;
    return TUG_OK;
}

static void put_split(tug_gguf_meta *m, const tug_gguf_writer *w, int no) {
    tug_gguf_put_u16(m, "split.no", (uint16_t)no);
    tug_gguf_put_u16(m, "split.count", (uint16_t)w->n_parts);
    tug_gguf_put_i32(m, "split.tensors.count", (int32_t)w->n_tensors);
}

static tug_status build_header(tug_gguf_writer *w, int no, tug_err *err) {
    out_part *p = &w->parts[no];
    tug_gguf_meta split = {0};
    if (w->n_parts > 1) put_split(&split, w, no);
    tug_buf *h = &p->header;
    tug_buf_text(h, "GGUF");
    put_int(h, 3, 4);
    put_int(h, p->n, 8);
    put_int(h, split.n + (no == 0 ? w->meta.n : 0), 8);
    if (no == 0) tug_buf_str(h, tug_buf_view(&w->meta.bytes));
    tug_buf_str(h, tug_buf_view(&split.bytes));
    for (size_t i = p->first; i < p->first + p->n; i++) {
        const out_tensor *t = &w->tensors[i];
        put_text(h, tug_str_of(t->name));
        put_int(h, (uint64_t)t->n_dims, 4);
        for (int d = 0; d < t->n_dims; d++) put_int(h, (uint64_t)t->ne[d], 8);
        put_int(h, t->type, 4);
        put_int(h, t->offset, 8);
    }
    for (uint64_t n = padding(h->n); n > 0; n--) tug_buf_char(h, '\0');
    const bool ok = !h->failed && !split.bytes.failed && !w->meta.bytes.failed;
    tug_buf_free(&split.bytes);
    return ok ? TUG_OK : no_memory(err);
}

static tug_status name_part(tug_gguf_writer *w, int no, tug_err *err) {
    out_part *p = &w->parts[no];
    char suffix[SUFFIX_ROOM] = ".gguf";
    if (w->n_parts > 1) {
        (void)snprintf(suffix, sizeof suffix, "-%05d-of-%05d.gguf", no + 1, w->n_parts);
    }
    p->path = join(w->path, strlen(w->path) - strlen(".gguf"), suffix);
    if (p->path) p->partial = join(p->path, strlen(p->path), partial_suffix);
    return p->partial ? TUG_OK : no_memory(err);
}

static tug_status plan(tug_gguf_writer *w, tug_err *err) {
    int n_parts = 0;
    TUG_TRY(cut(w, NULL, &n_parts, err));
    if (n_parts > TUG_GGUF_MAX_PARTS) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "the set would have %d parts, more than %d: choose larger parts",
                        n_parts, TUG_GGUF_MAX_PARTS);
    }
    w->parts = tug_alloc_zero((size_t)n_parts * sizeof *w->parts);
    if (!w->parts) return no_memory(err);
    w->n_parts = n_parts;
    TUG_TRY(cut(w, w->parts, &n_parts, err));
    for (int i = 0; i < n_parts; i++) {
        TUG_TRY(name_part(w, i, err));
        TUG_TRY(build_header(w, i, err));
        w->total_bytes += w->parts[i].header.n + w->parts[i].data_bytes;
    }
    return TUG_OK;
}

/* ---- checks before the first byte ------------------------------------------------- */

static tug_status check_name(const tug_gguf_writer *w, const char *path, tug_err *err) {
    /* O_PATH looks at a name without opening what is behind it. */
    int fd;
    do fd = tug_sys.open(path, O_PATH | O_CLOEXEC, 0);
    while (fd < 0 && errno == EINTR);
    if (fd < 0 && errno == ENOENT) return TUG_OK;
    if (fd < 0) return TUG_FAIL(err, TUG_EIO, "cannot use %s: %s", path, strerror(errno));
    struct stat st;
    const int bad = tug_sys.fstat(fd, &st);
    const int why = errno;
    (void)tug_sys.close(fd);
    if (bad) return TUG_FAIL(err, TUG_EIO, "cannot examine %s: %s", path, strerror(why));
    if (!S_ISREG(st.st_mode)) {
        return TUG_FAIL(err, TUG_EIO, "%s exists and is not a file: choose another name",
                        path);
    }
    if (w->overwrite) return TUG_OK;
    return TUG_FAIL(err, TUG_EIO, "%s exists: choose another name, or --force", path);
}

static tug_status check_room(const tug_gguf_writer *w, tug_err *err) {
    const char *slash = strrchr(w->path, '/');
    char *folder =
        slash ? join(w->path, (size_t)(slash - w->path) + 1, "") : join(".", 1, "");
    if (!folder) return no_memory(err);
    struct statvfs fs;
    const int bad = tug_sys.statvfs(folder, &fs);
    const int why = errno;
    tug_free(folder);
    if (bad) {
        return TUG_FAIL(err, TUG_EIO, "cannot use the folder of %s: %s", w->path,
                        strerror(why));
    }
    uint64_t room;
    if (!tug_mul_u64((uint64_t)fs.f_bavail, (uint64_t)fs.f_frsize, &room)) return TUG_OK;
    if (w->total_bytes <= room) return TUG_OK;
    return TUG_FAIL(err, TUG_EIO,
                    "%s needs %.2f GB, but its disk has %.2f GB free: make room, or "
                    "choose fewer layers or experts",
                    w->path, (double)w->total_bytes * 1e-9, (double)room * 1e-9);
}

/* ---- data ------------------------------------------------------------------------- */

static tug_status write_all(const tug_gguf_writer *w, const void *bytes, uint64_t n,
                            tug_err *err) {
    const char *p = bytes;
    while (n > 0) {
        const size_t chunk = n < (1u << 30) ? (size_t)n : 1u << 30;
        const ssize_t put = tug_sys.write(w->fd, p, chunk);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            return TUG_FAIL(err, TUG_EIO, "cannot write %s: %s; nothing of it is left",
                            w->parts[w->part].path,
                            put < 0 ? strerror(errno) : "the disk takes no more");
        }
        p += put;
        n -= (uint64_t)put;
    }
    return TUG_OK;
}

static tug_status open_part(tug_gguf_writer *w, int no, tug_err *err) {
    out_part *p = &w->parts[no];
    const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (w->overwrite ? O_TRUNC : O_EXCL);
    w->part = no;
    do w->fd = tug_sys.open(p->partial, flags, 0666);
    while (w->fd < 0 && errno == EINTR);
    if (w->fd < 0 && errno == EEXIST) {
        return TUG_FAIL(err, TUG_EIO,
                        "%s exists: another tug is writing it, or one was killed; delete "
                        "it, or --force",
                        p->partial);
    }
    if (w->fd < 0) {
        return TUG_FAIL(err, TUG_EIO, "cannot create %s: %s", p->partial,
                        strerror(errno));
    }
    p->exists = true;
    return write_all(w, p->header.p, p->header.n, err);
}

static tug_status close_part(tug_gguf_writer *w, tug_err *err) {
    const int fd = w->fd;
    w->fd = -1;
    /* Some file systems first say here that the disk was full. */
    if (tug_sys.close(fd) == 0) return TUG_OK;
    return TUG_FAIL(err, TUG_EIO, "cannot write %s: %s; nothing of it is left",
                    w->parts[w->part].path, strerror(errno));
}

tug_status tug_gguf_writer_begin(tug_gguf_writer *w, tug_err *err) {
    TUG_CHECK(!w->parts && w->n_tensors > 0);
    TUG_TRY(plan(w, err));
    for (int i = 0; i < w->n_parts; i++) {
        TUG_TRY(check_name(w, w->parts[i].path, err));
    }
    TUG_TRY(check_room(w, err));
    return open_part(w, 0, err);
}

/* Behind the last byte of a tensor: padding, and the next part when it is its first. */
static tug_status end_tensor(tug_gguf_writer *w, tug_err *err) {
    static const char zeros[ALIGNMENT];
    TUG_TRY(write_all(w, zeros, padding(w->done), err));
    w->tensor++;
    w->done = 0;
    const out_part *p = &w->parts[w->part];
    if (w->tensor < p->first + p->n) return TUG_OK;
    TUG_TRY(close_part(w, err));
    return w->part + 1 < w->n_parts ? open_part(w, w->part + 1, err) : TUG_OK;
}

tug_status tug_gguf_writer_write(tug_gguf_writer *w, const void *bytes, uint64_t n,
                                 tug_err *err) {
    const char *p = bytes;
    while (n > 0) {
        TUG_CHECK(w->parts && w->tensor < w->n_tensors);
        const uint64_t left = w->tensors[w->tensor].n_bytes - w->done;
        const uint64_t now = n < left ? n : left;
        TUG_TRY(write_all(w, p, now, err));
        w->done += now;
        p += now;
        n -= now;
        if (now == left) TUG_TRY(end_tensor(w, err));
    }
    return TUG_OK;
}

tug_status tug_gguf_writer_finish(tug_gguf_writer *w, tug_err *err) {
    TUG_CHECK(w->parts && w->tensor == w->n_tensors && w->fd < 0);
    for (int i = 0; i < w->n_parts; i++) {
        out_part *p = &w->parts[i];
        if (tug_sys.rename(p->partial, p->path) != 0) {
            return TUG_FAIL(err, TUG_EIO, "cannot rename %s to %s: %s", p->partial,
                            p->path, strerror(errno));
        }
        p->named = true;
    }
    for (int i = 0; i < w->n_parts; i++) w->parts[i].exists = false; /* theirs now */
    return TUG_OK;
}

uint64_t tug_gguf_writer_bytes(const tug_gguf_writer *w) {
    return w->total_bytes;
}

int tug_gguf_writer_n_parts(const tug_gguf_writer *w) {
    return w->n_parts;
}

const char *tug_gguf_writer_path(const tug_gguf_writer *w, int part) {
    return w->parts[part].path;
}
