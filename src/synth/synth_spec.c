/* synth_spec.c - which shapes there are to choose from, and which cannot be.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "synth/synth.h"
#include "synth/synth_vocab.h"

bool tug_synth_spec_like(tug_synth_spec *s, const char *name) {
    static const tug_synth_spec coder_next = {
        .n_layer = 48,
        .dim = 2048,
        .n_vocab = 151936,
        .n_ctx = 262144,
        .n_head = 16,
        .n_kv_head = 2,
        .head_dim = 256,
        .n_rot = 64,
        .n_k_head = 16,
        .n_v_head = 32,
        .dk = 128,
        .dv = 128,
        .conv_width = 4,
        .n_expert = 512,
        .n_expert_used = 10,
        .expert_dim = 512,
        .shared_dim = 512,
    };
    static const tug_synth_spec tiny = {
        .n_layer = 4,
        .dim = 256,
        .n_vocab = 2048,
        .n_ctx = 4096,
        .n_head = 4,
        .n_kv_head = 1,
        .head_dim = 64,
        .n_rot = 16,
        .n_k_head = 2,
        .n_v_head = 4,
        .dk = 64,
        .dv = 64,
        .conv_width = 4,
        .n_expert = 16,
        .n_expert_used = 4,
        .expert_dim = 256,
        .shared_dim = 256,
    };
    if (strcmp(name, "qwen3-coder-next") == 0)
        *s = coder_next;
    else if (strcmp(name, "tiny") == 0)
        *s = tiny;
    else
        return false;
    s->mix = tug_synth_mix_find("Q3_K_M");
    s->router_type = TUG_TYPE_F32;
    s->skew = TUG_SYNTH_SKEW;
    s->seed = 1;
    return true;
}

/* What this program and others take for possible; keeps every product below 2^63. */
static tug_status check_ranges(const tug_synth_spec *s, tug_err *err) {
    const struct {
        const char *option;
        int64_t value, min, max;
    } ranges[] = {
        {"--layers", s->n_layer, 1, 4096},
        {"--dim", s->dim, 32, 1 << 17},
        {"--vocab-size", s->n_vocab, s->vocab_path ? 0 : TUG_SYNTH_MIN_VOCAB, 1 << 23},
        {"--ctx-size", s->n_ctx, 1, 1 << 30},
        {"--heads", s->n_head, 1, 1024},
        {"--kv-heads", s->n_kv_head, 1, 1024},
        {"--head-dim", s->head_dim, 32, 512},
        {"--delta-k-heads", s->n_k_head, 1, 1024},
        {"--delta-v-heads", s->n_v_head, 1, 1024},
        {"--experts", s->n_expert, 2, 65536},
        {"--experts-used", s->n_expert_used, 1, 64},
        {"--expert-dim", s->expert_dim, 32, 1 << 17},
        {"--shared-dim", s->shared_dim, 32, 1 << 17},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (ranges[i].value >= ranges[i].min && ranges[i].value <= ranges[i].max) {
            continue;
        }
        return TUG_FAIL(err, TUG_EUSAGE, "%s must be between %lld and %lld, not %lld",
                        ranges[i].option, (long long)ranges[i].min,
                        (long long)ranges[i].max, (long long)ranges[i].value);
    }
    return TUG_OK;
}

static tug_status check_heads(const tug_synth_spec *s, tug_err *err) {
    if (s->n_head % s->n_kv_head != 0 || s->n_head / s->n_kv_head > 64) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "--heads %lld must be 1 to 64 times --kv-heads %lld",
                        (long long)s->n_head, (long long)s->n_kv_head);
    }
    if (s->head_dim % 32 != 0) {
        return TUG_FAIL(err, TUG_EUSAGE, "--head-dim %lld is no multiple of 32",
                        (long long)s->head_dim);
    }
    if (s->n_v_head % s->n_k_head != 0) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "--delta-v-heads %lld is no multiple of --delta-k-heads %lld",
                        (long long)s->n_v_head, (long long)s->n_k_head);
    }
    if (s->n_expert_used > s->n_expert) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "--experts-used %lld is more than there are: --experts %lld",
                        (long long)s->n_expert_used, (long long)s->n_expert);
    }
    return TUG_OK;
}

/* Rows of matrices are stored in whole blocks. */
static tug_status check_blocks(const tug_synth_spec *s, tug_err *err) {
    const int64_t block = tug_synth_mix_block(s->mix);
    const struct {
        const char *what;
        int64_t n;
    } rows[] = {
        {"--dim", s->dim},
        {"--expert-dim", s->expert_dim},
        {"--shared-dim", s->shared_dim},
        {"--heads times --head-dim,", s->n_head * s->head_dim},
        {"--delta-v-heads times 64 or 128,", s->n_v_head * s->dv},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].n % block == 0) continue;
        return TUG_FAIL(err, TUG_EUSAGE,
                        "%s %lld is no multiple of %lld, the block size of %s",
                        rows[i].what, (long long)rows[i].n, (long long)block,
                        tug_synth_mix_name(s->mix));
    }
    return TUG_OK;
}

tug_status tug_synth_spec_check(const tug_synth_spec *s, tug_err *err) {
    TUG_TRY(check_ranges(s, err));
    TUG_TRY(check_heads(s, err));
    if (!(s->skew >= 0.0 && s->skew <= 16.0)) {
        return TUG_FAIL(err, TUG_EUSAGE, "--skew must be between 0 and 16, not %g",
                        s->skew);
    }
    if (s->router_type != TUG_TYPE_F32 && s->router_type != TUG_TYPE_BF16 &&
        s->router_type != TUG_TYPE_F16) {
        return TUG_FAIL(err, TUG_EUSAGE, "--router is F32, BF16 or F16");
    }
    return check_blocks(s, err);
}
