/* pack.h - weights as the kernels like them best, made once when a model is loaded.
 *
 * Quantised matrices are packed (quant/packed.h) into pages of our own, straight from the
 * disk (memory/reader.h): no second copy in the page cache.  Routers that a file stores in
 * F32 though every value is exactly a BF16 are kept as BF16: half the bytes, the same
 * numbers.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_MODEL_PACK_H
#define TUG_MODEL_PACK_H

#include "model/weights.h"

typedef enum tug_pack_scope {
    TUG_PACK_ALL,     /* what is better packed; the rest stays in the file's map */
    TUG_PACK_EXPERTS, /* the same of routed experts only: the others are not on the host */
    TUG_PACK_DENSE /* everything but routed experts, which are left alone; nothing that is
                      used per token stays in the map */
} tug_pack_scope;

/* Bytes that it will take. */
uint64_t tug_weights_packed_bytes(const tug_weights *w, const tug_backend *be,
                                  tug_pack_scope scope);

/* Bytes done and in all; false cancels. */
typedef bool tug_pack_progress_fn(void *ud, uint64_t done, uint64_t total);

/* g is what w was bound to.  TUG_ECANCELED: `progress` said so; TUG_EIO: the file could not
 * be read; then *w is as good as before.  progress may be NULL; it is called at least once,
 * with done == total, when this succeeds. */
TUG_NODISCARD tug_status tug_weights_pack(tug_weights *w, const tug_gguf *g,
                                          tug_backend *be, tug_pack_scope scope,
                                          tug_pack_progress_fn *progress, void *ud,
                                          tug_err *err);

#endif
