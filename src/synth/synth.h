/* synth.h - write a qwen3next model of random weights, of any size and type mix.
 *
 * What it is good for and what not: docs/SYNTH.md.  The same spec and seed give the same
 * bytes on any machine and with any number of threads.  SPDX-License-Identifier: MIT */
#ifndef TUG_SYNTH_SYNTH_H
#define TUG_SYNTH_SYNTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/threads.h"
#include "gguf/gguf_write.h"
#include "synth/mix.h"

/* Every so many layers one has attention, the others DeltaNet. */
enum { TUG_SYNTH_INTERVAL = 4 };

/* Fits what is known of real models: docs/SYNTH.md. */
#define TUG_SYNTH_SKEW 4.4

/* Names as in docs/MODEL.md. */
typedef struct tug_synth_spec {
    int64_t n_layer, dim, n_vocab, n_ctx;
    int64_t n_head, n_kv_head, head_dim, n_rot;
    int64_t n_k_head, n_v_head, dk, dv, conv_width;
    int64_t n_expert, n_expert_used, expert_dim, shared_dim;
    const tug_synth_mix *mix;
    tug_type router_type; /* F32, BF16 or F16 */
    double skew;          /* of the experts' popularity: tug_synth_popularity */
    uint64_t seed;
    const char *vocab_path; /* borrowed: a tokenizer.json; NULL: a generated vocabulary */
} tug_synth_spec;

/* "qwen3-coder-next" or "tiny" (a model for tests, 8 MB in Q3_K_M); false: neither.  The mix is
 * Q3_K_M, the router F32, the seed 1. */
bool tug_synth_spec_like(tug_synth_spec *s, const char *name);

/* One sentence for a shape that no model can have, or that this type mix cannot store.
 * TUG_EUSAGE names the option of `tug synth` to change. */
TUG_NODISCARD tug_status tug_synth_spec_check(const tug_synth_spec *s, tug_err *err);

/* Every tensor of such a model, in the order of the file, without its values.  ne: as in
 * tug_gguf_tensor.  The spec has passed tug_synth_spec_check and has an n_vocab. */
typedef void tug_synth_tensor_fn(void *ud, const char *name, tug_type type,
                                 const int64_t ne[4]);
void tug_synth_each_tensor(const tug_synth_spec *s, tug_synth_tensor_fn *fn, void *ud);

typedef struct tug_synth_result {
    uint64_t bytes;    /* of all files */
    uint64_t n_params; /* values in tensors */
    uint64_t n_tensors;
    int n_parts;
} tug_synth_result;

/* Called now and then with bytes of tensor data; false ends the work with TUG_ECANCELED
 * and removes what was written. */
typedef bool tug_synth_progress(void *ud, uint64_t done, uint64_t total);

/* Checks the spec and writes the file.  `progress` may be NULL.  path, when not NULL, gets
 * the name of the (first) file, owned by the caller (tug_free).  With a vocab_path,
 * n_vocab 0 means as many tokens as the file has, rounded up to a multiple of 128. */
TUG_NODISCARD tug_status tug_synth_write(const tug_synth_spec *s,
                                         const tug_gguf_write_params *out, tug_pool *pool,
                                         tug_synth_progress *progress, void *ud,
                                         tug_synth_result *result, char **path,
                                         tug_err *err);

#endif
