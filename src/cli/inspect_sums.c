/* inspect_sums.c - how many bytes each type and each component of a model takes.
 * SPDX-License-Identifier: MIT */
#include "cli/inspect.h"

const char *inspect_component_name(inspect_component c) {
    static const char *const names[INSPECT_COMPONENTS] = {
        [INSPECT_EMBEDDING] = "embedding",
        [INSPECT_HEAD] = "head",
        [INSPECT_ATTENTION] = "attention",
        [INSPECT_DELTANET] = "deltanet",
        [INSPECT_ROUTER] = "router",
        [INSPECT_EXPERTS] = "experts",
        [INSPECT_SHARED_EXPERT] = "shared expert",
        [INSPECT_DENSE_FFN] = "dense ffn",
        [INSPECT_NORMS] = "norms",
        [INSPECT_OTHER] = "other",
    };
    return names[c];
}

const char *inspect_vtype_name(tug_gguf_vtype type) {
    static const char *const names[TUG_GGUF_VTYPE_COUNT] = {
        "u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
        "bool", "string", "array", "u64", "i64", "f64"};
    return names[type];
}

static bool contains(tug_str s, const char *part) {
    const tug_str wanted = tug_str_of(part);
    for (size_t i = 0; i + wanted.n <= s.n; i++) {
        if (memcmp(s.p + i, wanted.p, wanted.n) == 0) return true;
    }
    return false;
}

/* The name inside its layer: "blk.17.attn_q.weight" -> "attn_q.weight". */
static bool in_layer(tug_str name, tug_str *rest) {
    if (!tug_str_starts(name, tug_str_of("blk."))) return false;
    size_t i = 4;
    while (i < name.n && name.p[i] >= '0' && name.p[i] <= '9') i++;
    if (i == 4 || i == name.n || name.p[i] != '.') return false;
    *rest = tug_str_make(name.p + i + 1, name.n - i - 1);
    return true;
}

/* In hybrid models attn_qkv and attn_gate belong to the DeltaNet layers; elsewhere they
 * are attention's. */
static inspect_component layer_component(tug_str name, bool hybrid) {
    static const struct {
        const char *prefix;
        inspect_component component;
    } rules[] = {
        {"ssm_", INSPECT_DELTANET},       {"ffn_gate_inp_shexp", INSPECT_SHARED_EXPERT},
        {"ffn_gate_inp", INSPECT_ROUTER}, {"ffn_", INSPECT_DENSE_FFN},
        {"attn_", INSPECT_ATTENTION},
    };
    if (hybrid && (tug_str_starts(name, tug_str_of("attn_qkv.")) ||
                   tug_str_starts(name, tug_str_of("attn_gate.")))) {
        return INSPECT_DELTANET;
    }
    if (contains(name, "_exps.")) return INSPECT_EXPERTS;
    if (contains(name, "_shexp.")) return INSPECT_SHARED_EXPERT;
    if (contains(name, "_norm.") && !tug_str_starts(name, tug_str_of("ssm_"))) {
        return INSPECT_NORMS;
    }
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (tug_str_starts(name, tug_str_of(rules[i].prefix))) return rules[i].component;
    }
    return INSPECT_OTHER;
}

static inspect_component component_of(tug_str name, bool hybrid) {
    tug_str rest;
    if (in_layer(name, &rest)) return layer_component(rest, hybrid);
    if (tug_str_starts(name, tug_str_of("token_embd."))) return INSPECT_EMBEDDING;
    if (tug_str_starts(name, tug_str_of("output."))) return INSPECT_HEAD;
    return contains(name, "_norm.") ? INSPECT_NORMS : INSPECT_OTHER;
}

static bool is_hybrid(const tug_gguf *g) {
    for (uint64_t i = 0; i < tug_gguf_n_tensors(g); i++) {
        tug_str rest;
        if (in_layer(tug_gguf_tensor_at(g, i).name, &rest) &&
            tug_str_starts(rest, tug_str_of("ssm_"))) {
            return true;
        }
    }
    return false;
}

uint64_t inspect_n_values(const tug_gguf_tensor *t) {
    return (uint64_t)(t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]); /* checked at open */
}

static void add(inspect_sum *sum, const tug_gguf_tensor *t) {
    sum->n_tensors++;
    sum->n_values += inspect_n_values(t);
    sum->n_bytes += t->n_bytes;
}

void inspect_add_up(const tug_gguf *g, inspect_sums *sums) {
    *sums = (inspect_sums){0};
    const bool hybrid = is_hybrid(g);
    for (uint64_t i = 0; i < tug_gguf_n_tensors(g); i++) {
        const tug_gguf_tensor t = tug_gguf_tensor_at(g, i);
        add(&sums->all, &t);
        add(&sums->by_type[t.type], &t);
        add(&sums->by_component[component_of(t.name, hybrid)], &t);
    }
}
