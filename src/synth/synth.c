/* synth.c - see synth.h.
 *
 * One walk over the tensors declares them (name, shape, type), a second one in the same
 * order fills them: a buffer of chunks is made by all threads, then written.  What a
 * tensor holds is decided in one place, its row in layer_tensors or in walk.
 * SPDX-License-Identifier: MIT */
#include "synth/synth.h"

#include <stdio.h>
#include <string.h>

#include "base/sys.h"
#include "synth/fill.h"
#include "synth/popularity.h"
#include "synth/synth_vocab.h"

enum { BUFFER_BYTES = 4 << 20 };

/* Of a weight in a matrix with the real model's 2048 inputs: there it is about 0.02. */
static const float WEIGHT_STD = 0.02f;

/* Root mean square of the router's logits. */
static const double LOGIT_SPREAD = 1.8;

typedef struct job {
    const tug_synth_spec *s;
    tug_gguf_writer *w;
    bool declaring;            /* the first walk */
    tug_synth_tensor_fn *each; /* or NULL: a walk that only tells */
    tug_pool *pool;
    tug_synth_progress *progress;
    void *ud;
    tug_err *err;
    uint8_t *buffer;   /* owned, (BUFFER_BYTES,) */
    float *popularity; /* owned, (n_expert,) */
    uint64_t done;
    tug_synth_result result;
    char *path; /* owned: of the first file */
} job;

/* ---- one tensor ------------------------------------------------------------------- */

typedef struct tensor {
    char name[64];
    tug_type type;
    tug_synth_values values;
    float std;
    int n_dims;
    int64_t ne[4];
} tensor;

/* The seed of a part of the model, from the model's and a name. */
static uint64_t seed_of(const tug_synth_spec *s, const char *name) {
    uint64_t h = 0xCBF29CE484222325u ^ s->seed * 0x9E3779B97F4A7C15u; /* FNV-1a */
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return h;
}

typedef struct batch {
    const tug_synth_fill *fill;
    uint8_t *out;
    int64_t first;
    uint64_t chunk_bytes;
} batch;

static void fill_range(void *ud, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const batch *b = ud;
    for (int64_t i = begin; i < end; i++) {
        tug_synth_fill_chunk(b->fill, b->first + i,
                             b->out + (uint64_t)i * b->chunk_bytes);
    }
}

static tug_status fill(job *j, const tensor *t) {
    tug_synth_fill f = {.type = t->type,
                        .values = t->values,
                        .seed = seed_of(j->s, t->name),
                        .std = t->std,
                        .n = t->ne[0] * t->ne[1] * t->ne[2],
                        .n_cols = t->ne[0],
                        .row_std = j->popularity};
    tug_synth_fill_prepare(&f);
    if (t->values == TUG_SYNTH_ROUTER) {
        tug_synth_popularity(j->popularity, (int)j->s->n_expert, (int)j->s->n_expert_used,
                             j->s->skew, LOGIT_SPREAD / __builtin_sqrt((double)t->ne[0]),
                             f.seed + 1);
    }
    uint64_t chunk_bytes = 0, left = 0;
    TUG_CHECK(tug_type_row_bytes(t->type, TUG_SYNTH_CHUNK, &chunk_bytes));
    TUG_CHECK(tug_type_row_bytes(t->type, (uint64_t)f.n, &left));
    const int64_t n_chunks = (f.n + TUG_SYNTH_CHUNK - 1) / TUG_SYNTH_CHUNK;
    const int64_t at_once = (int64_t)(BUFFER_BYTES / chunk_bytes);
    for (int64_t first = 0; first < n_chunks; first += at_once) {
        const int64_t n = n_chunks - first < at_once ? n_chunks - first : at_once;
        batch b = {&f, j->buffer, first, chunk_bytes};
        tug_pool_for(j->pool, n, 1, fill_range, &b);
        const uint64_t bytes =
            (uint64_t)n * chunk_bytes < left ? (uint64_t)n * chunk_bytes : left;
        TUG_TRY(tug_gguf_writer_write(j->w, j->buffer, bytes, j->err));
        left -= bytes;
        j->done += bytes;
        if (j->progress && !j->progress(j->ud, j->done, j->result.bytes)) {
            return TUG_FAIL(j->err, TUG_ECANCELED,
                            "interrupted; nothing of the file is left");
        }
    }
    return TUG_OK;
}

static tug_status visit(job *j, const tensor *t) {
    if (j->each) {
        j->each(j->ud, t->name, t->type, t->ne);
        return TUG_OK;
    }
    if (!j->declaring) return fill(j, t);
    uint64_t n = 1;
    for (int d = 0; d < t->n_dims; d++) n *= (uint64_t)t->ne[d];
    j->result.n_params += n;
    j->result.n_tensors++;
    return tug_gguf_writer_tensor(j->w, t->name, t->type, t->ne, t->n_dims, j->err);
}

/* ---- all tensors ------------------------------------------------------------------ */

static tug_status matrix(job *j, const char *name, tug_synth_role role, int layer,
                         int64_t n_in, int64_t n_out, int64_t n_mat) {
    const tug_synth_spec *s = j->s;
    const tug_synth_mix_model model = {(int)s->n_layer, (int)s->n_expert,
                                       (int)(s->n_head / s->n_kv_head)};
    tensor t = {.type = tug_synth_mix_type(s->mix, &model, role, layer),
                .values = TUG_SYNTH_WEIGHTS,
                .std = WEIGHT_STD * __builtin_sqrtf(2048.0f / (float)s->dim),
                .n_dims = n_mat > 1 ? 3 : 2,
                .ne = {n_in, n_out, n_mat, 1}};
    (void)snprintf(t.name, sizeof t.name, "%s", name);
    return visit(j, &t);
}

static tug_status layer_matrix(job *j, const char *name, tug_synth_role role, int layer,
                               int64_t n_in, int64_t n_out, int64_t n_mat) {
    char full[64];
    (void)snprintf(full, sizeof full, "blk.%d.%s.weight", layer, name);
    return matrix(j, full, role, layer, n_in, n_out, n_mat);
}

/* F32, (n,) or (n, n_rows). */
static tug_status vector(job *j, int layer, const char *name, tug_synth_values values,
                         float std, int64_t n, int64_t n_rows) {
    tensor t = {.type = TUG_TYPE_F32,
                .values = values,
                .std = std,
                .n_dims = n_rows > 1 ? 2 : 1,
                .ne = {n, n_rows, 1, 1}};
    if (layer >= 0)
        (void)snprintf(t.name, sizeof t.name, "blk.%d.%s", layer, name);
    else
        (void)snprintf(t.name, sizeof t.name, "%s", name);
    if (values == TUG_SYNTH_ROUTER) t.type = j->s->router_type;
    return visit(j, &t);
}

static tug_status norm(job *j, int layer, const char *name, int64_t n) {
    return vector(j, layer, name, TUG_SYNTH_NORM, 0.0f, n, 1);
}

static tug_status attention(job *j, int i) {
    const tug_synth_spec *s = j->s;
    const int64_t q = s->n_head * s->head_dim, kv = s->n_kv_head * s->head_dim;
    TUG_TRY(layer_matrix(j, "attn_q", TUG_SYNTH_OTHER, i, s->dim, 2 * q, 1));
    TUG_TRY(layer_matrix(j, "attn_k", TUG_SYNTH_ATTN_K, i, s->dim, kv, 1));
    TUG_TRY(layer_matrix(j, "attn_v", TUG_SYNTH_ATTN_V, i, s->dim, kv, 1));
    TUG_TRY(norm(j, i, "attn_q_norm.weight", s->head_dim));
    TUG_TRY(norm(j, i, "attn_k_norm.weight", s->head_dim));
    return layer_matrix(j, "attn_output", TUG_SYNTH_ATTN_OUT, i, q, s->dim, 1);
}

static tug_status delta(job *j, int i) {
    const tug_synth_spec *s = j->s;
    const int64_t v = s->n_v_head * s->dv, qkv = 2 * s->n_k_head * s->dk + v;
    TUG_TRY(layer_matrix(j, "attn_qkv", TUG_SYNTH_ATTN_V, i, s->dim, qkv, 1));
    TUG_TRY(layer_matrix(j, "attn_gate", TUG_SYNTH_OTHER, i, s->dim, v, 1));
    TUG_TRY(layer_matrix(j, "ssm_ba", TUG_SYNTH_OTHER, i, s->dim, 2 * s->n_v_head, 1));
    TUG_TRY(
        vector(j, i, "ssm_conv1d.weight", TUG_SYNTH_WEIGHTS, 0.3f, s->conv_width, qkv));
    TUG_TRY(vector(j, i, "ssm_dt.bias", TUG_SYNTH_DT, 0.0f, s->n_v_head, 1));
    TUG_TRY(vector(j, i, "ssm_a", TUG_SYNTH_A, 0.0f, s->n_v_head, 1));
    TUG_TRY(norm(j, i, "ssm_norm.weight", s->dv));
    return layer_matrix(j, "ssm_out", TUG_SYNTH_OTHER, i, v, s->dim, 1);
}

static tug_status experts(job *j, int i) {
    const tug_synth_spec *s = j->s;
    const int64_t dim = s->dim, e = s->n_expert, f = s->expert_dim, g = s->shared_dim;
    TUG_TRY(norm(j, i, "post_attention_norm.weight", dim));
    TUG_TRY(vector(j, i, "ffn_gate_inp.weight", TUG_SYNTH_ROUTER, 0.0f, dim, e));
    TUG_TRY(layer_matrix(j, "ffn_gate_exps", TUG_SYNTH_OTHER, i, dim, f, e));
    TUG_TRY(layer_matrix(j, "ffn_up_exps", TUG_SYNTH_OTHER, i, dim, f, e));
    TUG_TRY(layer_matrix(j, "ffn_down_exps", TUG_SYNTH_DOWN, i, f, dim, e));
    TUG_TRY(
        vector(j, i, "ffn_gate_inp_shexp.weight", TUG_SYNTH_WEIGHTS, WEIGHT_STD, dim, 1));
    TUG_TRY(layer_matrix(j, "ffn_gate_shexp", TUG_SYNTH_OTHER, i, dim, g, 1));
    TUG_TRY(layer_matrix(j, "ffn_up_shexp", TUG_SYNTH_OTHER, i, dim, g, 1));
    return layer_matrix(j, "ffn_down_shexp", TUG_SYNTH_DOWN, i, g, dim, 1);
}

static tug_status walk(job *j) {
    const tug_synth_spec *s = j->s;
    TUG_TRY(
        matrix(j, "token_embd.weight", TUG_SYNTH_EMBEDDING, 0, s->dim, s->n_vocab, 1));
    for (int i = 0; i < (int)s->n_layer; i++) {
        TUG_TRY(norm(j, i, "attn_norm.weight", s->dim));
        TUG_TRY((i + 1) % TUG_SYNTH_INTERVAL == 0 ? attention(j, i) : delta(j, i));
        TUG_TRY(experts(j, i));
    }
    TUG_TRY(norm(j, -1, "output_norm.weight", s->dim));
    return matrix(j, "output.weight", TUG_SYNTH_HEAD, 0, s->dim, s->n_vocab, 1);
}

void tug_synth_each_tensor(const tug_synth_spec *s, tug_synth_tensor_fn *fn, void *ud) {
    job j = {.s = s, .each = fn, .ud = ud};
    TUG_CHECK(walk(&j) == TUG_OK);
}

/* ---- metadata --------------------------------------------------------------------- */

static void put_general(const tug_synth_spec *s, tug_gguf_meta *m) {
    char name[96];
    (void)snprintf(name, sizeof name, "random weights, %lld layers, %s, seed %llu",
                   (long long)s->n_layer, tug_synth_mix_name(s->mix),
                   (unsigned long long)s->seed);
    tug_gguf_put_str(m, "general.architecture", tug_str_of("qwen3next"));
    tug_gguf_put_str(m, "general.name", tug_str_of(name));
    tug_gguf_put_str(m, "general.description",
                     tug_str_of("Made by tug synth to measure speed: the text it "
                                "produces means nothing."));
    tug_gguf_put_u32(m, "general.file_type", tug_synth_mix_file_type(s->mix));
    tug_gguf_put_u32(m, "general.quantization_version", 2);
}

static void put_shape(const tug_synth_spec *s, tug_gguf_meta *m) {
    const struct {
        const char *key;
        int64_t v;
    } sizes[] = {
        {"qwen3next.block_count", s->n_layer},
        {"qwen3next.context_length", s->n_ctx},
        {"qwen3next.embedding_length", s->dim},
        {"qwen3next.feed_forward_length", s->expert_dim * s->n_expert_used},
        {"qwen3next.attention.head_count", s->n_head},
        {"qwen3next.attention.head_count_kv", s->n_kv_head},
        {"qwen3next.attention.key_length", s->head_dim},
        {"qwen3next.attention.value_length", s->head_dim},
        {"qwen3next.rope.dimension_count", s->n_rot},
        {"qwen3next.expert_count", s->n_expert},
        {"qwen3next.expert_used_count", s->n_expert_used},
        {"qwen3next.expert_feed_forward_length", s->expert_dim},
        {"qwen3next.expert_shared_feed_forward_length", s->shared_dim},
        {"qwen3next.ssm.conv_kernel", s->conv_width},
        {"qwen3next.ssm.state_size", s->dk},
        {"qwen3next.ssm.group_count", s->n_k_head},
        {"qwen3next.ssm.time_step_rank", s->n_v_head},
        {"qwen3next.ssm.inner_size", s->n_v_head * s->dv},
        {"qwen3next.full_attention_interval", TUG_SYNTH_INTERVAL},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        tug_gguf_put_u32(m, sizes[i].key, (uint32_t)sizes[i].v);
    }
    tug_gguf_put_f32(m, "qwen3next.attention.layer_norm_rms_epsilon", 1e-6f);
    tug_gguf_put_f32(m, "qwen3next.rope.freq_base", 5e6f);
}

/* Puts the vocabulary and takes its size, which a --vocab file may decide. */
static tug_status put_vocab(tug_synth_spec *s, tug_gguf_meta *m, tug_err *err) {
    tug_synth_vocab v = {0};
    tug_status status = s->vocab_path
                            ? tug_synth_vocab_read(&v, s->vocab_path, s->n_vocab, err)
                            : tug_synth_vocab_make(&v, s->n_vocab, err);
    if (status == TUG_OK) {
        s->n_vocab = v.n;
        tug_synth_vocab_put(&v, m);
    }
    tug_synth_vocab_free(&v);
    return status;
}

/* ----------------------------------------------------------------------------------- */

static tug_status copy_path(job *j) {
    const char *from = tug_gguf_writer_path(j->w, 0);
    j->path = tug_alloc_array(strlen(from) + 1, 1);
    if (!j->path) return TUG_FAIL(j->err, TUG_ENOMEM, "out of memory for a file's name");
    memcpy(j->path, from, strlen(from) + 1);
    return TUG_OK;
}

static tug_status write_model(job *j, tug_synth_spec *s) {
    tug_gguf_meta *m = tug_gguf_writer_meta(j->w);
    j->buffer = tug_alloc_array(BUFFER_BYTES, 1);
    j->popularity = tug_alloc_array((size_t)s->n_expert, sizeof *j->popularity);
    if (!j->buffer || !j->popularity) {
        return TUG_FAIL(j->err, TUG_ENOMEM, "out of memory for the weights' buffer");
    }
    put_general(s, m);
    put_shape(s, m);
    TUG_TRY(put_vocab(s, m, j->err));
    j->declaring = true;
    TUG_TRY(walk(j));
    TUG_TRY(tug_gguf_writer_begin(j->w, j->err));
    j->result.bytes = tug_gguf_writer_bytes(j->w);
    j->result.n_parts = tug_gguf_writer_n_parts(j->w);
    TUG_TRY(copy_path(j));
    j->declaring = false;
    TUG_TRY(walk(j));
    return tug_gguf_writer_finish(j->w, j->err);
}

tug_status tug_synth_write(const tug_synth_spec *spec, const tug_gguf_write_params *out,
                           tug_pool *pool, tug_synth_progress *progress, void *ud,
                           tug_synth_result *result, char **path, tug_err *err) {
    TUG_TRY(tug_synth_spec_check(spec, err));
    tug_synth_spec s = *spec;
    job j = {.s = &s, .pool = pool, .progress = progress, .ud = ud, .err = err};
    tug_status status = tug_gguf_writer_create(&j.w, out, err);
    if (status == TUG_OK) status = write_model(&j, &s);
    if (status == TUG_OK) *result = j.result;
    if (status == TUG_OK && path) {
        *path = j.path;
        j.path = NULL;
    }
    tug_gguf_writer_destroy(&j.w);
    tug_free(j.path);
    tug_free(j.buffer);
    tug_free(j.popularity);
    return status;
}
