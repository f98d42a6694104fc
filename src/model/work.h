/* work.h - what a forward pass must move and multiply, from the tensors it touches.
 *
 * The least a pass over a batch can do: every weight once (experts: those that were
 * chosen, see below), every row of the KV cache it attends to once, the recurrent state
 * read once and written once.  Activations are left out: they stay in caches.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_MODEL_WORK_H
#define TUG_MODEL_WORK_H

#include "model/forward.h"
#include "tug_profile.h"

/* Adds to work (TUG_STAGE_COUNT,) a pass of n_tok tokens that begins with `pos` tokens in
 * the state.  Of the routed experts only multiplications: which ones are read is known to
 * the backend alone (tug_stage_enter_experts). */
void tug_work_add_pass(tug_work *work, const tug_net *net, const tug_state *st,
                       int64_t pos, int64_t n_tok);

/* Adds the head for n rows at once. */
void tug_work_add_head(tug_work *work, const tug_net *net, int64_t n);

#endif
