/* mix.c - see mix.h.  SPDX-License-Identifier: MIT */
#include "synth/mix.h"

#include <stddef.h>
#include <strings.h>

/* In which layers a tensor gets more bits than the others. */
typedef enum when {
    NEVER,
    ALWAYS,
    FIRST_2,
    FIRST_4,
    FIRST_8TH,
    FIRST_16TH,
    SPREAD /* the first and the last eighth, and every third between */
} when;

struct tug_synth_mix {
    const char *name;
    uint32_t file_type;
    tug_type base;
    struct {
        when when;
        tug_type then, otherwise;
    } v, down;
    tug_type v_few; /* for v when fewer than 4 query heads share a key/value head */
    tug_type out;
};

/* clang-format off */
#define T(name) TUG_TYPE_##name
static const struct tug_synth_mix mixes[] = {
    {"Q2_K",   10, T(Q2_K),   {ALWAYS, T(Q4_K), T(Q4_K)},     {ALWAYS, T(Q3_K), T(Q3_K)},        T(Q3_K),   T(Q3_K)},
    {"Q3_K_S", 11, T(Q3_K),   {NEVER, T(Q3_K), T(Q3_K)},      {NEVER, T(Q3_K), T(Q3_K)},         T(Q3_K),   T(Q3_K)},
    {"Q3_K_M", 12, T(Q3_K),   {FIRST_2, T(Q5_K), T(Q4_K)},    {FIRST_16TH, T(Q5_K), T(Q4_K)},    T(Q4_K),   T(Q4_K)},
    {"Q3_K_L", 13, T(Q3_K),   {ALWAYS, T(Q5_K), T(Q5_K)},     {ALWAYS, T(Q5_K), T(Q5_K)},        T(Q5_K),   T(Q5_K)},
    {"Q4_K_S", 14, T(Q4_K),   {FIRST_4, T(Q5_K), T(Q4_K)},    {FIRST_8TH, T(Q5_K), T(Q4_K)},     T(Q4_K),   T(Q4_K)},
    {"Q4_K_M", 15, T(Q4_K),   {SPREAD, T(Q6_K), T(Q4_K)},     {SPREAD, T(Q6_K), T(Q4_K)},        T(Q4_K),   T(Q4_K)},
    {"Q5_K_S", 16, T(Q5_K),   {NEVER, T(Q5_K), T(Q5_K)},      {NEVER, T(Q5_K), T(Q5_K)},         T(Q5_K),   T(Q5_K)},
    {"Q5_K_M", 17, T(Q5_K),   {SPREAD, T(Q6_K), T(Q5_K)},     {SPREAD, T(Q6_K), T(Q5_K)},        T(Q5_K),   T(Q5_K)},
    {"Q6_K",   18, T(Q6_K),   {NEVER, T(Q6_K), T(Q6_K)},      {NEVER, T(Q6_K), T(Q6_K)},         T(Q6_K),   T(Q6_K)},
    {"Q8_0",    7, T(Q8_0),   {NEVER, T(Q8_0), T(Q8_0)},      {NEVER, T(Q8_0), T(Q8_0)},         T(Q8_0),   T(Q8_0)},
    {"IQ4_XS", 30, T(IQ4_XS), {ALWAYS, T(Q5_K), T(Q5_K)},     {FIRST_8TH, T(Q5_K), T(IQ4_XS)},   T(IQ4_XS), T(IQ4_XS)},
    {"IQ4_NL", 25, T(IQ4_NL), {ALWAYS, T(Q5_K), T(Q5_K)},     {FIRST_8TH, T(Q5_K), T(IQ4_NL)},   T(IQ4_NL), T(IQ4_NL)},
    {"Q4_0",    2, T(Q4_0),   {NEVER, T(Q4_0), T(Q4_0)},      {NEVER, T(Q4_0), T(Q4_0)},         T(Q4_0),   T(Q4_0)},
    {"BF16",   32, T(BF16),   {NEVER, T(BF16), T(BF16)},      {NEVER, T(BF16), T(BF16)},         T(BF16),   T(BF16)},
    {"F16",     1, T(F16),    {NEVER, T(F16), T(F16)},        {NEVER, T(F16), T(F16)},           T(F16),    T(F16)},
    {"F32",     0, T(F32),    {NEVER, T(F32), T(F32)},        {NEVER, T(F32), T(F32)},           T(F32),    T(F32)},
};
#undef T
/* clang-format on */

enum { N_MIXES = sizeof mixes / sizeof mixes[0] };

const tug_synth_mix *tug_synth_mix_find(const char *name) {
    for (int i = 0; i < N_MIXES; i++) {
        if (strcasecmp(name, mixes[i].name) == 0) return &mixes[i];
    }
    return NULL;
}

const tug_synth_mix *tug_synth_mix_at(int i) {
    return i < N_MIXES ? &mixes[i] : NULL;
}

const char *tug_synth_mix_name(const tug_synth_mix *m) {
    return m->name;
}

uint32_t tug_synth_mix_file_type(const tug_synth_mix *m) {
    return m->file_type;
}

static bool is_float(tug_type t) {
    return t == TUG_TYPE_F32 || t == TUG_TYPE_F16 || t == TUG_TYPE_BF16;
}

/* All but Q8_0 mix in K-quants, the head at least. */
int64_t tug_synth_mix_block(const tug_synth_mix *m) {
    if (is_float(m->base)) return 1;
    return m->base == TUG_TYPE_Q8_0 ? 32 : 256;
}

static bool holds(when w, int i, int n) {
    switch (w) {
    case NEVER: return false;
    case ALWAYS: return true;
    case FIRST_2: return i < 2;
    case FIRST_4: return i < 4;
    case FIRST_8TH: return i < n / 8;
    case FIRST_16TH: return i < n / 16;
    case SPREAD: return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    }
    return false;
}

/* Models of exactly eight experts have rules of their own: attention is small there. */
static bool eight_experts(const tug_synth_mix *m, tug_synth_role role, tug_type *type) {
    if (role == TUG_SYNTH_ATTN_V || role == TUG_SYNTH_ATTN_K) {
        *type = TUG_TYPE_Q8_0;
        return true;
    }
    if (role != TUG_SYNTH_ATTN_OUT) return false;
    static const uint32_t five_bits[] = {10, 11, 12, 14, 15, 25, 30}; /* file types */
    *type = m->base;
    for (size_t i = 0; i < sizeof five_bits / sizeof *five_bits; i++) {
        if (m->file_type == five_bits[i]) *type = TUG_TYPE_Q5_K;
    }
    return true;
}

tug_type tug_synth_mix_type(const tug_synth_mix *m, const tug_synth_mix_model *model,
                            tug_synth_role role, int layer) {
    tug_type type;
    if (is_float(m->base)) return m->base;
    if (model->n_expert == 8 && eight_experts(m, role, &type)) return type;
    switch (role) {
    case TUG_SYNTH_HEAD: return m->base == TUG_TYPE_Q8_0 ? TUG_TYPE_Q8_0 : TUG_TYPE_Q6_K;
    case TUG_SYNTH_ATTN_V:
        if (m->v.when == ALWAYS && model->heads_per_kv < 4) return m->v_few;
        return holds(m->v.when, layer, model->n_layer) ? m->v.then : m->v.otherwise;
    case TUG_SYNTH_DOWN:
        return holds(m->down.when, layer, model->n_layer) ? m->down.then
                                                          : m->down.otherwise;
    case TUG_SYNTH_ATTN_OUT: return m->out;
    case TUG_SYNTH_EMBEDDING:
    case TUG_SYNTH_ATTN_K:
    case TUG_SYNTH_OTHER: break;
    }
    return m->base;
}
