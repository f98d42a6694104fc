/* pack.h - weights as the kernels like them best, made once when a model is loaded.
 *
 * Quantised matrices are packed (quant/packed.h) into pages of our own; the file's are
 * forgotten as we go, so there is no second copy.  When that would not fit in memory,
 * everything stays mapped and works more slowly.  Routers that a file stores in F32 though
 * every value is exactly a BF16 are kept as BF16: half the bytes, the same numbers.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_MODEL_PACK_H
#define TUG_MODEL_PACK_H

#include "model/weights.h"

/* Bytes done and in all; false cancels. */
typedef bool tug_pack_progress_fn(void *ud, uint64_t done, uint64_t total);

/* TUG_ECANCELED: `progress` said so, and *w is as good as before.  progress may be NULL;
 * it is called at least once, with done == total, when this succeeds. */
TUG_NODISCARD tug_status tug_weights_pack(tug_weights *w, tug_backend *be,
                                          tug_pack_progress_fn *progress, void *ud,
                                          tug_err *err);

#endif
