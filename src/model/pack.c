/* pack.c - see pack.h.
 *
 * DESIGN
 * First every matrix is asked what should become of it and gets its place in the pages.
 * Then all of them go by in pieces of some rows: a few dozen buffers are being read while
 * the threads pack the one that arrived.  Only when everything is there do the weights
 * change over to the new bytes.
 * SPDX-License-Identifier: MIT */
#include "model/pack.h"

#include <string.h>

#include "base/sys.h"
#include "memory/reader.h"
#include "quant/packed.h"

enum {
    ALIGN = 64, /* where a packed matrix may begin */
    BUFFERS = 24,
    PIECE_BYTES = 1 << 20,
    SMALL_BYTES = 8 << 20 /* a small file is sooner looked at in its map */
};

typedef enum treatment { KEEP, PACK, COPY, NARROW } treatment;

typedef struct item {
    tug_weight *w;
    treatment what;
    uint8_t *dst;
} item;

/* Rows [row, row + n_rows) of a matrix of an item. */
typedef struct piece {
    const item *of;
    int64_t mat, row, n_rows;
} piece;

typedef struct packer {
    tug_weights *w;
    const tug_gguf *g;
    tug_backend *be;
    tug_pack_scope scope;
    tug_pack_progress_fn *progress;
    void *ud;
    tug_err *err;
    item *items; /* owned */
    int n_items;
    uint64_t total; /* bytes of pages */

    /* The stream of pieces. */
    piece next;
    uint64_t done, to_do; /* bytes of matrices */
    tug_reader *reader;   /* owned; NULL: the bytes are in memory already */
    uint8_t *buffers;     /* owned, (BUFFERS, buffer_bytes) */
    uint64_t buffer_bytes;
    piece in_flight[BUFFERS];
    int unused[BUFFERS], n_unused;
} packer;

/* ---- what becomes of a matrix --------------------------------------------------------- */

/* An F32 matrix whose every value ends in 16 zero bits is a BF16 matrix. */
static bool is_really_bf16(const tug_weight *w) {
    if (w->type != TUG_TYPE_F32 || w->n_mat != 1 || w->n_rows == 0) return false;
    for (int64_t r = 0; r < w->n_rows; r++) {
        const uint8_t *row = tug_weight_row(w, 0, r);
        for (int64_t c = 0; c < w->n_cols; c++) {
            if (row[4 * c] != 0 || row[4 * c + 1] != 0) return false;
        }
    }
    return true;
}

static uint64_t matrix_bytes(const tug_weight *w) {
    return (uint64_t)w->n_mat * (uint64_t)w->n_rows * w->row_bytes;
}

static treatment choose(const tug_backend *be, tug_pack_scope scope,
                        const tug_weight *w) {
    if (w->n_rows == 0) return KEEP;
    if (tug_backend_packs(be, w)) return PACK;
    if (is_really_bf16(w)) return NARROW;
    return scope == TUG_PACK_DENSE ? COPY : KEEP;
}

static uint64_t room_for(const tug_weight *w, treatment what) {
    if (what == KEEP) return 0;
    const uint64_t bytes = what == NARROW ? matrix_bytes(w) / 2 : matrix_bytes(w);
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static void add(packer *p, tug_weight *w, treatment what) {
    if (what == KEEP) return;
    if (p->items) p->items[p->n_items] = (item){.w = w, .what = what};
    p->n_items++;
    p->total += room_for(w, what);
    if (what != NARROW) p->to_do += matrix_bytes(w);
}

/* Counts the items, and lists them if there is a list. */
static void list_items(packer *p) {
    p->n_items = 0;
    p->total = p->to_do = 0;
    const bool dense = p->scope != TUG_PACK_EXPERTS;
    for (int i = 0; i < p->w->n_layer; i++) {
        tug_layer *l = &p->w->layer[i];
        for (int j = 0; dense && j < l->n_mix_in; j++) {
            add(p, &l->mix_in[j].w, choose(p->be, p->scope, &l->mix_in[j].w));
        }
        tug_weight *const others[] = {&l->mix_out.w, &l->router.w, &l->moe.sh_gate,
                                      &l->moe.sh_up, &l->moe.sh_down};
        for (size_t j = 0; dense && j < sizeof others / sizeof *others; j++) {
            add(p, others[j], choose(p->be, p->scope, others[j]));
        }
        if (p->scope == TUG_PACK_DENSE) continue;
        tug_weight *const experts[] = {&l->moe.gate, &l->moe.up, &l->moe.down};
        for (size_t j = 0; j < sizeof experts / sizeof *experts; j++) {
            add(p, experts[j], choose(p->be, p->scope, experts[j]));
        }
    }
    if (dense) add(p, &p->w->head.w, choose(p->be, p->scope, &p->w->head.w));
    if (p->scope == TUG_PACK_DENSE) add(p, &p->w->embedding, COPY);
}

uint64_t tug_weights_packed_bytes(const tug_weights *w, const tug_backend *be,
                                  tug_pack_scope scope) {
    /* Only listed, never changed. */
    tug_weights view = *w;
    packer p = {.w = &view, .be = (tug_backend *)(uintptr_t)be, .scope = scope};
    list_items(&p);
    return p.total;
}

/* ---- pieces --------------------------------------------------------------------------- */

static uint64_t piece_bytes(const piece *p) {
    return (uint64_t)p->n_rows * p->of->w->row_bytes;
}

/* Rows of one piece: whole groups. */
static int64_t piece_rows(const tug_weight *w) {
    const int64_t n = (int64_t)(PIECE_BYTES / w->row_bytes) / TUG_PACK_ROWS;
    return TUG_PACK_ROWS * (n > 1 ? n : 1);
}

/* The next piece of those that are packed or copied; false: there is none. */
static bool next_piece(packer *p, piece *out) {
    piece *n = &p->next;
    const item *const end = p->items + p->n_items;
    while (n->of < end && (n->of->what == NARROW || n->mat == n->of->w->n_mat)) {
        *n = (piece){.of = n->of + 1};
    }
    if (n->of == end) return false;
    const int64_t left = n->of->w->n_rows - n->row, most = piece_rows(n->of->w);
    n->n_rows = left < most ? left : most;
    *out = *n;
    n->row += n->n_rows;
    if (n->row == n->of->w->n_rows) {
        n->row = 0;
        n->mat++;
    }
    return true;
}

static tug_status take_piece(packer *p, const piece *of, const uint8_t *src) {
    const tug_weight *w = of->of->w;
    uint8_t *dst = of->of->dst + (uint64_t)(of->mat * w->n_rows + of->row) * w->row_bytes;
    if (of->of->what == PACK) {
        tug_backend_pack(p->be, w->type, w->row_bytes, of->n_rows, dst, src);
    } else {
        memcpy(dst, src, piece_bytes(of));
    }
    p->done += piece_bytes(of);
    if (!p->progress || p->progress(p->ud, p->done, p->to_do + 1)) return TUG_OK;
    return TUG_FAIL(p->err, TUG_ECANCELED, "loading was canceled");
}

/* ---- from the disk -------------------------------------------------------------------- */

static void ask_for(packer *p, const piece *of) {
    const int i = p->unused[--p->n_unused];
    int file = 0;
    const uint64_t offset =
        tug_gguf_locate(p->g, tug_weight_row(of->of->w, of->mat, of->row), &file);
    p->in_flight[i] = *of;
    const tug_read read = {.file = file,
                           .offset = offset,
                           .n = piece_bytes(of),
                           .memory = p->buffers + (uint64_t)i * p->buffer_bytes,
                           .tag = (uint64_t)i << 12 | tug_reader_skip(offset)};
    TUG_CHECK(tug_reader_submit(p->reader, &read));
}

static tug_status stream_pieces(packer *p) {
    piece of;
    bool more = true;
    for (int i = 0; i < BUFFERS; i++) p->unused[p->n_unused++] = i;
    for (;;) {
        while (more && p->n_unused > 0) {
            more = next_piece(p, &of);
            if (more) ask_for(p, &of);
        }
        tug_read_done done;
        if (tug_reader_wait(p->reader, &done, 1, true) == 0) return TUG_OK;
        if (done.status != TUG_OK) {
            return TUG_FAIL(p->err, TUG_EIO, "%s", tug_reader_error(p->reader));
        }
        const int i = (int)(done.tag >> 12);
        TUG_TRY(take_piece(p, &p->in_flight[i],
                           p->buffers + (uint64_t)i * p->buffer_bytes +
                               (done.tag & (TUG_READER_BLOCK - 1))));
        p->unused[p->n_unused++] = i;
    }
}

static tug_status open_reader(packer *p) {
    const int n = tug_gguf_n_parts(p->g);
    const char **paths = tug_alloc_array((size_t)n, sizeof *paths);
    if (!paths) return TUG_FAIL(p->err, TUG_ENOMEM, "out of memory for file names");
    for (int i = 0; i < n; i++) paths[i] = tug_gguf_part_path(p->g, i);
    const tug_reader_params r = {.paths = paths, .n_files = n, .depth = BUFFERS};
    const tug_status s = tug_reader_create(&p->reader, &r, p->err);
    tug_free(paths);
    return s;
}

static tug_status open_buffers(packer *p) {
    for (int i = 0; i < p->n_items; i++) {
        const tug_weight *w = p->items[i].w;
        const uint64_t room = tug_reader_room((uint64_t)piece_rows(w) * w->row_bytes);
        if (room > p->buffer_bytes) p->buffer_bytes = room;
    }
    p->buffers = tug_alloc_aligned(TUG_READER_BLOCK, BUFFERS * p->buffer_bytes);
    if (p->buffers) return TUG_OK;
    return TUG_FAIL(p->err, TUG_ENOMEM, "out of memory for reading the weights");
}

static tug_status read_pieces(packer *p) {
    if (!tug_gguf_part_path(p->g, 0) || p->to_do < SMALL_BYTES) {
        for (piece of; next_piece(p, &of);) {
            TUG_TRY(take_piece(p, &of, tug_weight_row(of.of->w, of.mat, of.row)));
        }
        return TUG_OK;
    }
    TUG_TRY(open_reader(p));
    TUG_TRY(open_buffers(p));
    return stream_pieces(p);
}

/* ---- the whole ------------------------------------------------------------------------ */

/* Little-endian f32: the upper two bytes are the BF16. */
static void narrow(const tug_weight *w, uint8_t *dst) {
    for (int64_t r = 0; r < w->n_rows; r++) {
        const uint8_t *row = tug_weight_row(w, 0, r);
        for (int64_t c = 0; c < w->n_cols; c++) {
            memcpy(dst + 2 * (r * w->n_cols + c), row + 4 * c + 2, 2);
        }
    }
    tug_forget_pages(w->data, matrix_bytes(w));
}

static void place_items(packer *p) {
    uint64_t at = 0;
    for (int i = 0; i < p->n_items; i++) {
        p->items[i].dst = p->w->packed + at;
        at += room_for(p->items[i].w, p->items[i].what);
    }
}

/* From now on the weights are the new bytes. */
static void change_over(const packer *p) {
    for (int i = 0; i < p->n_items; i++) {
        tug_weight *w = p->items[i].w;
        if (p->items[i].what == NARROW) {
            narrow(w, p->items[i].dst);
            w->type = TUG_TYPE_BF16;
            w->row_bytes = 2 * (uint64_t)w->n_cols;
        }
        w->data = p->items[i].dst;
        w->mat_bytes = (uint64_t)w->n_rows * w->row_bytes;
        w->packed = p->items[i].what == PACK;
    }
}

static tug_status pack_all(packer *p) {
    list_items(p);
    p->items = tug_alloc_array((size_t)p->n_items, sizeof *p->items);
    if (!p->items) return TUG_FAIL(p->err, TUG_ENOMEM, "out of memory for the weights");
    list_items(p);
    p->next.of = p->items;
    if (p->total == 0) return TUG_OK;
    p->w->packed = tug_alloc_pages(p->total);
    p->w->packed_bytes = p->total;
    if (!p->w->packed) {
        return TUG_FAIL(p->err, TUG_ENOMEM, "out of memory for %.1f GB of weights",
                        (double)p->total * 1e-9);
    }
    place_items(p);
    TUG_TRY(read_pieces(p));
    change_over(p);
    return TUG_OK;
}

tug_status tug_weights_pack(tug_weights *w, const tug_gguf *g, tug_backend *be,
                            tug_pack_scope scope, tug_pack_progress_fn *progress,
                            void *ud, tug_err *err) {
    packer p = {.w = w,
                .g = g,
                .be = be,
                .scope = scope,
                .progress = progress,
                .ud = ud,
                .err = err};
    TUG_CHECK(w->packed == NULL);
    const tug_status s = pack_all(&p);
    tug_reader_destroy(&p.reader);
    tug_free(p.buffers);
    tug_free(p.items);
    if (s != TUG_OK) {
        tug_free_pages(w->packed, w->packed_bytes);
        w->packed = NULL;
        return s;
    }
    if (progress && !progress(ud, p.to_do + 1, p.to_do + 1)) {
        return TUG_FAIL(err, TUG_ECANCELED, "loading was canceled");
    }
    return TUG_OK;
}
