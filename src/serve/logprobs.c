/* logprobs.c - see logprobs.h.  SPDX-License-Identifier: MIT */
#include "serve/logprobs.h"

#include <math.h>

/* log of the sum of exp(logits), stable. */
static double log_sum(const float *logits, int64_t n) {
    double largest = -INFINITY, sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        if ((double)logits[i] > largest) largest = (double)logits[i];
    }
    for (int64_t i = 0; i < n; i++) sum += exp((double)logits[i] - largest);
    return largest + log(sum);
}

tug_answer_token tug_logprobs(const tug_tokenizer *vocab, const float *logits,
                              int64_t n_vocab, int32_t id, int32_t n_top,
                              tug_token_logprob top[TUG_TOP_LOGPROBS]) {
    const double all = log_sum(logits, n_vocab);
    int32_t best[TUG_TOP_LOGPROBS];
    int32_t n = 0;
    for (int32_t i = 0; n_top > 0 && i < n_vocab; i++) {
        if (n == n_top && !(logits[i] > logits[best[n - 1]])) continue;
        int32_t at = n < n_top ? n++ : n - 1;
        for (; at > 0 && logits[i] > logits[best[at - 1]]; at--) best[at] = best[at - 1];
        best[at] = i;
    }
    for (int32_t i = 0; i < n; i++) {
        top[i] = (tug_token_logprob){tug_tokenizer_bytes(vocab, best[i]),
                                     (float)((double)logits[best[i]] - all)};
    }
    return (tug_answer_token){
        .chosen = {tug_tokenizer_bytes(vocab, id), (float)((double)logits[id] - all)},
        .top = top,
        .n_top = n};
}
