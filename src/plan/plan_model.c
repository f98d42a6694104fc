/* plan_model.c - see plan_model.h.  SPDX-License-Identifier: MIT */
#include "plan/plan_model.h"

#include <stdio.h>

#include "plan/plan_near.h"

/* Of a file that is not there: the vocabulary and the other metadata. */
enum { METADATA_BYTES = 6 << 20 };

/* ---- tensors ---------------------------------------------------------------------- */

typedef enum kind { EMBEDDING, EXPERT, PART } kind;

typedef struct role {
    kind kind;
    tug_plan_part part;
    bool two_digits; /* its activations have two int8 digits (docs/performance.md) */
} role;

static bool starts(tug_str s, const char *prefix) {
    return tug_str_starts(s, tug_str_of(prefix));
}

/* The name inside its layer; *layer is -1 outside of all. */
static tug_str inside(tug_str name, int *layer) {
    *layer = -1;
    if (!starts(name, "blk.")) return name;
    size_t i = 4;
    int n = 0;
    for (; i < name.n && i < 9 && name.p[i] >= '0' && name.p[i] <= '9'; i++) {
        n = 10 * n + (name.p[i] - '0');
    }
    if (i == 4 || i >= name.n || name.p[i] != '.') return name;
    *layer = n;
    return tug_str_make(name.p + i + 1, name.n - i - 1);
}

static bool contains(tug_str s, const char *part) {
    const size_t n = strlen(part);
    for (size_t i = 0; i + n <= s.n; i++) {
        if (memcmp(s.p + i, part, n) == 0) return true;
    }
    return false;
}

static role role_of(tug_str name) {
    static const struct {
        const char *prefix;
        role role;
    } rules[] = {
        {"token_embd.", {EMBEDDING, 0, false}},
        {"output.", {PART, TUG_PLAN_HEAD, false}},
        {"attn_qkv.", {PART, TUG_PLAN_DELTANET, false}},
        {"attn_gate.", {PART, TUG_PLAN_DELTANET, false}},
        {"ssm_out.", {PART, TUG_PLAN_DELTANET, true}},
        {"ssm_", {PART, TUG_PLAN_DELTANET, false}},
        {"attn_output.", {PART, TUG_PLAN_ATTENTION, true}},
        {"ffn_gate_inp_shexp", {PART, TUG_PLAN_SHARED, false}},
        {"ffn_gate_inp", {PART, TUG_PLAN_ROUTER, false}},
        {"attn_", {PART, TUG_PLAN_ATTENTION, false}},
    };
    if (contains(name, "_exps.")) return (role){EXPERT, 0, false};
    if (contains(name, "_shexp.")) return (role){PART, TUG_PLAN_SHARED, false};
    if (contains(name, "_norm.") && !starts(name, "ssm_")) {
        return (role){PART, TUG_PLAN_NORMS, false};
    }
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (starts(name, rules[i].prefix)) return rules[i].role;
    }
    return (role){PART, TUG_PLAN_NORMS, false};
}

static tug_plan_kind kind_of(tug_type t) {
    switch (t) {
    case TUG_TYPE_F32:
    case TUG_TYPE_F16:
    case TUG_TYPE_BF16: return TUG_PLAN_F32;
    case TUG_TYPE_Q2_K:
    case TUG_TYPE_Q3_K: return TUG_PLAN_Q3_K;
    case TUG_TYPE_Q5_0:
    case TUG_TYPE_Q5_1:
    case TUG_TYPE_Q5_K: return TUG_PLAN_Q5_K;
    case TUG_TYPE_Q6_K: return TUG_PLAN_Q6_K;
    case TUG_TYPE_Q8_0: return TUG_PLAN_Q8_0;
    default: return TUG_PLAN_Q4_K;
    }
}

static void add_macs(double macs, tug_type type, bool twice,
                     double work[TUG_PLAN_KINDS]) {
    const tug_plan_kind k = kind_of(type);
    work[k] += macs * (twice && k != TUG_PLAN_F32 ? 2.0 : 1.0);
}

static void add_tensor(tug_plan_model *m, tug_str full, tug_type type,
                       const int64_t ne[4], uint64_t bytes) {
    int layer;
    const tug_str name = inside(full, &layer);
    const role r = role_of(name);
    const double matrix = (double)ne[0] * (double)ne[1];
    m->file_bytes += bytes;
    if (r.kind == EMBEDDING) {
        m->embedding += bytes;
    } else if (r.kind == EXPERT) {
        if (layer < 0 || layer >= m->spec.n_layer) return;
        const uint64_t n_expert = (uint64_t)m->spec.n_expert, each = bytes / n_expert;
        m->expert[layer] += each;
        m->vram_expert[layer] += (each + 255) / 256 * 256;
        m->experts += n_expert * each;
        const double share = 1.0 / (double)m->spec.n_layer; /* a mean over layers */
        m->expert_macs += matrix * share;
        add_macs(matrix * share, type, false, m->expert_work);
    } else {
        m->dense[r.part] += bytes;
        if (r.part != TUG_PLAN_HEAD) m->dense_macs += matrix;
        add_macs(matrix, type, r.two_digits, m->part_work[r.part]);
    }
}

/* ---- what no tensor tells --------------------------------------------------------- */

static void set_cache(tug_plan_model *m) {
    const tug_synth_spec *s = &m->spec;
    const uint64_t values = 2 * (uint64_t)(m->n_attn_layer * s->n_kv_head * s->head_dim);
    m->kv_token[TUG_PLAN_KV_F16] = 2 * values;
    m->kv_token[TUG_PLAN_KV_Q8_0] = values / 32 * 34;
    m->kv_token[TUG_PLAN_KV_F32] = 4 * values;
    const int64_t channels = 2 * s->n_k_head * s->dk + s->n_v_head * s->dv;
    const int64_t n_delta = s->n_layer - m->n_attn_layer;
    m->state = sizeof(float) * (uint64_t)(n_delta * (s->n_v_head * s->dk * s->dv +
                                                     (s->conv_width - 1) * channels));
    m->checkpoint = m->state + sizeof(float) * (uint64_t)s->n_vocab;
}

/* The delta rule: three products with the state; attention: one with keys, one with
 * values.  Elements: what is normalised, gated, convolved, activated, added. */
static void set_work(tug_plan_model *m) {
    const tug_synth_spec *s = &m->spec;
    const double n_attn = m->n_attn_layer, n_delta = (double)s->n_layer - n_attn;
    const double v = (double)(s->n_v_head * s->dv);
    const double channels = 2.0 * (double)(s->n_k_head * s->dk) + v;
    const double delta_rule = n_delta * 3.0 * v * (double)s->dk;
    m->delta_rule = delta_rule;
    m->dense_macs += delta_rule;
    m->attn_row = n_attn * 2.0 * (double)(s->n_head * s->head_dim);
    m->delta_elements = n_delta * (2.0 * channels + 2.0 * v);
    m->expert_elements =
        (double)(s->n_layer *
                 (s->n_expert_used * (s->dim + 2 * s->expert_dim) + s->n_expert));
    m->elements = n_attn * 3.0 * (double)(s->n_head * s->head_dim) +
                  6.0 * (double)(s->n_layer * s->dim);
}

static tug_status begin(tug_plan_model *m, const tug_synth_spec *s, tug_err *err) {
    if (s->n_layer > TUG_PLAN_LAYERS) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "a model of %lld layers cannot be planned: %d is the most",
                        (long long)s->n_layer, TUG_PLAN_LAYERS);
    }
    *m = (tug_plan_model){.spec = *s};
    return TUG_OK;
}

/* ---- from sizes ------------------------------------------------------------------- */

static void on_tensor(void *ud, const char *name, tug_type type, const int64_t ne[4]) {
    uint64_t row = 0;
    if (!tug_type_row_bytes(type, (uint64_t)ne[0], &row)) return; /* spec_check refused */
    add_tensor(ud, tug_str_of(name), type, ne, row * (uint64_t)(ne[1] * ne[2] * ne[3]));
}

tug_status tug_plan_model_make(tug_plan_model *m, const tug_synth_spec *s, tug_err *err) {
    TUG_TRY(begin(m, s, err));
    TUG_TRY(tug_synth_spec_check(s, err));
    tug_synth_each_tensor(s, on_tensor, m);
    m->n_attn_layer = (int)s->n_layer / TUG_SYNTH_INTERVAL;
    m->file_bytes += METADATA_BYTES;
    set_cache(m);
    set_work(m);
    (void)snprintf(m->name, sizeof m->name, "%lld layers, %s", (long long)s->n_layer,
                   tug_synth_mix_name(s->mix));
    return TUG_OK;
}

static tug_status unknown_model(const char *name, tug_err *err) {
    static const char *const known[] = {"qwen3-coder-next", "tiny", NULL};
    char near[64];
    tug_plan_near_words(known, name, near, sizeof near);
    return TUG_FAIL(err, TUG_EUSAGE,
                    "no model is known as '%.60s': %s, or -m FILE for a file", name,
                    near);
}

static tug_status unknown_mix(const char *name, tug_err *err) {
    const char *known[32] = {NULL};
    for (int i = 0; i < 31 && tug_synth_mix_at(i); i++) {
        known[i] = tug_synth_mix_name(tug_synth_mix_at(i));
    }
    char near[64];
    tug_plan_near_words(known, name, near, sizeof near);
    return TUG_FAIL(err, TUG_EUSAGE, "no quantisation is known as '%.40s': %s", name,
                    near);
}

tug_status tug_plan_model_named(tug_plan_model *m, const char *name, tug_err *err) {
    char base[64];
    const char *colon = strchr(name, ':');
    const size_t n = colon ? (size_t)(colon - name) : strlen(name);
    tug_synth_spec s;
    if (n >= sizeof base) return unknown_model(name, err);
    memcpy(base, name, n);
    base[n] = '\0';
    if (!tug_synth_spec_like(&s, base)) return unknown_model(base, err);
    if (colon) s.mix = tug_synth_mix_find(colon + 1);
    if (!s.mix) return unknown_mix(colon + 1, err);
    TUG_TRY(tug_plan_model_make(m, &s, err));
    (void)snprintf(m->name, sizeof m->name, "%s:%s", base, tug_synth_mix_name(s.mix));
    return TUG_OK;
}

/* ---- from a file ------------------------------------------------------------------ */

static tug_status size_key(const tug_gguf *g, const char *key, int64_t fallback,
                           int64_t max, int64_t *out, tug_err *err) {
    char name[96];
    (void)snprintf(name, sizeof name, "qwen3next.%s", key);
    bool found = false;
    uint32_t v = 0;
    TUG_TRY(tug_gguf_get_u32(g, name, &v, &found, err));
    *out = found ? v : fallback;
    if (*out >= 1 && *out <= max) return TUG_OK;
    return TUG_FAIL(err, TUG_EFORMAT,
                    "%s: the key %s is missing or is no size: this model cannot be "
                    "planned",
                    tug_gguf_path(g), name);
}

static tug_status read_sizes(tug_synth_spec *s, const tug_gguf *g, tug_err *err) {
    int64_t inner = 0;
    const struct {
        const char *key;
        int64_t *out, max, fallback;
    } keys[] = {
        {"block_count", &s->n_layer, 4096, 0},
        {"embedding_length", &s->dim, 1 << 20, 0},
        {"context_length", &s->n_ctx, 1 << 30, 0},
        {"attention.head_count", &s->n_head, 4096, 0},
        {"attention.head_count_kv", &s->n_kv_head, 4096, 0},
        {"attention.key_length", &s->head_dim, 1024, 0},
        {"ssm.conv_kernel", &s->conv_width, 64, 0},
        {"ssm.state_size", &s->dk, 1024, 0},
        {"ssm.group_count", &s->n_k_head, 4096, 0},
        {"ssm.time_step_rank", &s->n_v_head, 4096, 0},
        {"ssm.inner_size", &inner, 1 << 20, 0},
        {"expert_count", &s->n_expert, 65536, 0},
        {"expert_used_count", &s->n_expert_used, 64, 0},
        {"expert_feed_forward_length", &s->expert_dim, 1 << 20, 0},
        {"expert_shared_feed_forward_length", &s->shared_dim, 1 << 20, 1},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        TUG_TRY(
            size_key(g, keys[i].key, keys[i].fallback, keys[i].max, keys[i].out, err));
    }
    if (s->n_expert_used > s->n_expert) {
        return TUG_FAIL(
            err, TUG_EFORMAT, "%s: a token uses %lld experts, but there are only %lld",
            tug_gguf_path(g), (long long)s->n_expert_used, (long long)s->n_expert);
    }
    s->dv = inner / s->n_v_head;
    s->skew = TUG_SYNTH_SKEW;
    return TUG_OK;
}

static tug_status check_arch(const tug_gguf *g, tug_err *err) {
    tug_str arch = tug_str_of("");
    TUG_TRY(tug_gguf_get_str(g, "general.architecture", &arch, NULL, err));
    if (tug_str_is(arch, "qwen3next")) return TUG_OK;
    return TUG_FAIL(err, TUG_EUNSUPPORTED,
                    "%s holds a model of architecture '%.*s'; tug plans qwen3next",
                    tug_gguf_path(g), (int)(arch.n < 60 ? arch.n : 60), arch.p);
}

/* The preset that the file says it was made with; NULL: none that is known. */
static const tug_synth_mix *mix_of(const tug_gguf *g) {
    uint32_t type = UINT32_MAX;
    if (tug_gguf_get_u32(g, "general.file_type", &type, NULL, NULL) != TUG_OK)
        return NULL;
    for (int i = 0; tug_synth_mix_at(i); i++) {
        if (tug_synth_mix_file_type(tug_synth_mix_at(i)) == type) {
            return tug_synth_mix_at(i);
        }
    }
    return NULL;
}

/* Layers that have an attn_q are attention's; the vocabulary is the embedding's rows. */
static void read_tensors(tug_plan_model *m, const tug_gguf *g) {
    for (uint64_t i = 0; i < tug_gguf_n_tensors(g); i++) {
        const tug_gguf_tensor t = tug_gguf_tensor_at(g, i);
        int layer;
        const tug_str name = inside(t.name, &layer);
        if (layer >= 0 && starts(name, "attn_q.")) m->n_attn_layer++;
        if (starts(name, "token_embd.")) m->spec.n_vocab = t.ne[1];
        add_tensor(m, t.name, t.type, t.ne, t.n_bytes);
    }
}

/* A file without a head uses the embedding as one. */
static void share_embedding(tug_plan_model *m) {
    if (m->dense[TUG_PLAN_HEAD] > 0) return;
    m->dense[TUG_PLAN_HEAD] = m->embedding;
    m->embedding = 0;
}

static void name_file(tug_plan_model *m, const tug_gguf *g) {
    const char *path = tug_gguf_path(g), *slash = strrchr(path, '/');
    (void)snprintf(m->name, sizeof m->name, "%s", slash ? slash + 1 : path);
}

tug_status tug_plan_model_of_file(tug_plan_model *m, const tug_gguf *g, tug_err *err) {
    tug_synth_spec s = {.router_type = TUG_TYPE_F32};
    TUG_TRY(check_arch(g, err));
    TUG_TRY(read_sizes(&s, g, err));
    s.mix = mix_of(g);
    TUG_TRY(begin(m, &s, err));
    read_tensors(m, g);
    m->file_bytes = tug_gguf_file_bytes(g);
    share_embedding(m);
    if (m->experts == 0) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "%s has no routed experts: there is nothing to place",
                        tug_gguf_path(g));
    }
    set_cache(m);
    set_work(m);
    name_file(m, g);
    return TUG_OK;
}
