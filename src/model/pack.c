/* pack.c - see pack.h.  SPDX-License-Identifier: MIT */
#include "model/pack.h"

#include <string.h>

#include "base/sys.h"
#include "memory/meminfo.h"

/* Where a packed matrix may begin. */
#define ALIGN 64
/* Share of the memory that is available which the weights may take; the rest is for the
 * caches of sessions and for other programs. */
#define FITS(bytes) ((bytes) < tug_memory_available() / 10 * 9)

typedef struct packer {
    tug_weights *w;
    tug_backend *be;
    tug_pack_progress_fn *progress;
    void *ud;
    tug_err *err;
    uint64_t at, total; /* bytes of w->packed that are filled, and of all */
} packer;

typedef tug_status visit_fn(packer *p, tug_weight *w);

static tug_status for_each_matrix(packer *p, visit_fn *fn) {
    for (int i = 0; i < p->w->n_layer; i++) {
        tug_layer *l = &p->w->layer[i];
        for (int j = 0; j < l->n_mix_in; j++) TUG_TRY(fn(p, &l->mix_in[j].w));
        tug_weight *const others[] = {&l->mix_out.w, &l->router.w,   &l->moe.gate,
                                      &l->moe.up,    &l->moe.down,   &l->moe.sh_gate,
                                      &l->moe.sh_up, &l->moe.sh_down};
        for (size_t j = 0; j < sizeof others / sizeof *others; j++) {
            TUG_TRY(fn(p, others[j]));
        }
    }
    return fn(p, &p->w->head.w);
}

static uint64_t matrix_bytes(const tug_weight *w) {
    return (uint64_t)w->n_mat * (uint64_t)w->n_rows * w->row_bytes;
}

static uint64_t room_for(const tug_weight *w) {
    return (matrix_bytes(w) + ALIGN - 1) / ALIGN * ALIGN;
}

/* ---- routers ------------------------------------------------------------------------- */

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

static tug_status measure(packer *p, tug_weight *w) {
    if (tug_backend_packs(p->be, w)) p->total += room_for(w);
    if (is_really_bf16(w)) p->total += room_for(w) / 2 + ALIGN;
    return TUG_OK;
}

/* Little-endian f32: the upper two bytes are the BF16. */
static void narrow(tug_weight *w, uint8_t *dst) {
    for (int64_t r = 0; r < w->n_rows; r++) {
        const uint8_t *row = tug_weight_row(w, 0, r);
        for (int64_t c = 0; c < w->n_cols; c++) {
            memcpy(dst + 2 * (r * w->n_cols + c), row + 4 * c + 2, 2);
        }
    }
    w->data = dst;
    w->type = TUG_TYPE_BF16;
    w->row_bytes = 2 * (uint64_t)w->n_cols;
    w->mat_bytes = (uint64_t)w->n_rows * w->row_bytes;
}

/* ---- all ----------------------------------------------------------------------------- */

static tug_status place(packer *p, tug_weight *w) {
    uint8_t *dst = p->w->packed + p->at;
    const uint8_t *file = w->data;
    const uint64_t file_bytes = matrix_bytes(w);
    if (tug_backend_packs(p->be, w)) {
        tug_backend_pack(p->be, w, dst);
    } else if (is_really_bf16(w)) {
        narrow(w, dst);
    } else {
        return TUG_OK;
    }
    tug_forget_pages(file, file_bytes);
    p->at += room_for(w);
    if (p->progress && !p->progress(p->ud, p->at, p->total)) {
        return TUG_FAIL(p->err, TUG_ECANCELED, "loading was canceled");
    }
    return TUG_OK;
}

tug_status tug_weights_pack(tug_weights *w, tug_backend *be,
                            tug_pack_progress_fn *progress, void *ud, tug_err *err) {
    packer p = {.w = w, .be = be, .progress = progress, .ud = ud, .err = err};
    TUG_CHECK(w->packed == NULL);
    TUG_TRY(for_each_matrix(&p, measure));
    if (p.total > 0 && FITS(p.total)) {
        w->packed = tug_alloc_pages(p.total);
        w->packed_bytes = p.total;
        if (w->packed) TUG_TRY(for_each_matrix(&p, place));
    }
    if (progress && !progress(ud, p.total, p.total)) {
        return TUG_FAIL(err, TUG_ECANCELED, "loading was canceled");
    }
    return TUG_OK;
}
