/* tug.h - the public interface of libtug.
 *
 * A tug_model is a loaded file: weights, tokenizer, the threads that compute.  A
 * tug_session is one conversation over it: the tokens so far and the state they left
 * (KV cache and recurrent state).  The session only grows by tug_session_append; what a
 * token computes does not depend on how the tokens were cut into calls, nor on what other
 * sessions did in between.  Sessions share the model's work space: a further one costs its
 * own state only (tug_session_get_memory).
 *
 *     tug_model *model = NULL;
 *     tug_session *session = NULL;
 *     tug_err err;
 *     if (tug_model_open(&model, &(tug_model_params){.path = "m.gguf"}, &err) ||
 *         tug_session_create(&session, model, NULL, &err) ||
 *         tug_session_append(session, ids, n_ids, &err)) { puts(err.msg); ... }
 *     const float *logits = tug_session_logits(session);   // of the last token
 *
 * THREADS    a model and its sessions belong to one thread at a time.
 * OWNERSHIP  _open/_create hand over an object, _close/_destroy takes it back and nulls
 *            the pointer; a model must outlive its sessions.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_H
#define TUG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tug_status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tug_model tug_model;
typedef struct tug_session tug_session;
typedef struct tug_sampler tug_sampler;

/* Long work reports here; `done` of `total` (bytes or tokens).  Returning false cancels:
 * the call ends with TUG_ECANCELED and everything before it is kept.  Prefill reports after
 * every batch and, when experts come from the file, after every layer; what was computed of
 * a batch that is canceled is lost. */
typedef bool tug_progress_fn(void *ud, uint64_t done, uint64_t total);

/* ---- model --------------------------------------------------------------------------- */

/* I16: int16 and one scale per row, as large as f16 and, for rows without outliers, more
 * precise; made for AVX-512, right but slow elsewhere.
 * AUTO: i16 at the level "avx512", f16 at "avx2", f32 at "ref", the specification. */
typedef enum tug_kv_cache_type {
    TUG_KV_CACHE_AUTO = 0,
    TUG_KV_CACHE_F16,
    TUG_KV_CACHE_Q8_0,
    TUG_KV_CACHE_F32,
    TUG_KV_CACHE_I16
} tug_kv_cache_type;

typedef struct tug_model_params {
    const char *path;      /* first (or only) part of the GGUF */
    int n_threads;         /* 0: all processors this process may use */
    const char *cpu_level; /* NULL or "auto", "ref", "avx2", "avx512" */
    /* The GPU that computes with the CPU: its number, "0"; NULL or "none": the CPU alone. */
    const char *gpu;
    uint64_t vram_bytes; /* the most to take of its memory, beside what the driver itself
                            takes; 0: what is free.  What is left beside the dense weights
                            and the sessions holds copies of experts */
    int n_sessions; /* that will be open at a time with that GPU; 0: 1.  So many get room in
                       its memory, or as many as fit: tug_model_info */
    tug_progress_fn *on_load; /* may be NULL; bytes */
    void *ud;
    /* When not all weights fit beside what sessions will need, experts are read from the
     * file as they are wanted (docs/EXPERTS.md). */
    uint64_t ram_bytes;        /* the most that all takes together; 0: what is free */
    uint64_t session_bytes;    /* of these for sessions; 0: as the next three ask for */
    int64_t n_ctx;             /* context of the session to come; 0: 32768 */
    int64_t n_batch;           /* as in tug_session_params */
    tug_kv_cache_type kv_type; /* as in tug_session_params */
} tug_model_params;

typedef struct tug_model_info {
    const char *arch;      /* "qwen3next" */
    const char *name;      /* general.name, or "" */
    const char *cpu_level; /* in use */
    int n_threads;
    int64_t n_vocab, n_ctx_train, n_layer;
    int64_t n_expert, n_expert_used; /* of each layer; of each layer by a token */
    uint64_t n_params, n_bytes;      /* of all tensors */
    bool streamed;          /* experts are read from the file as they are wanted */
    uint64_t session_bytes; /* then: what was left free for sessions */
    const char *gpu;        /* name of the GPU that computes; NULL: none */
    uint64_t vram_bytes, vram_used; /* what may be taken of its memory, and is now */
    int64_t n_experts_on_gpu;       /* of all layers: the others are the CPU's */
    int n_sessions;         /* that have room there, of the context that was planned, */
    uint64_t vram_sessions; /* and the bytes of it */
    /* Sampling the file recommends; the model family's own where it does not. */
    float temperature, top_p;
    int32_t top_k;
} tug_model_info;

TUG_NODISCARD tug_status tug_model_open(tug_model **out, const tug_model_params *params,
                                        tug_err *err);
/* After TUG_EDEVICE, when all sessions are gone: gives the GPU up and loads the model again
 * from its file, for the CPU alone; params as for tug_model_open, path and gpu are not
 * looked at.  Tokenizer, name and chat template stay where they are.  After a failure the
 * model can only be closed, or this tried again. */
TUG_NODISCARD tug_status tug_model_leave_gpu(tug_model *model,
                                             const tug_model_params *params,
                                             tug_err *err);
void tug_model_close(tug_model **model);
tug_model_info tug_model_get_info(const tug_model *model);

/* When experts are streamed or on a GPU: where the bytes are and what speed to expect, in
 * three lines, or in the tables of `tug plan`; NULL when all weights are in RAM. */
const char *tug_model_plan(const tug_model *model, bool tables);

/* Borrowed; use it through src/tokenizer/tokenizer.h. */
const struct tug_tokenizer *tug_model_tokenizer(const tug_model *model);

/* The chat template text of the file, (n,), or NULL when it has none. */
const char *tug_model_chat_template(const tug_model *model, size_t *n);

/* ---- session ------------------------------------------------------------------------- */

typedef struct tug_session_params {
    int64_t n_ctx;   /* tokens; 0: what the model was trained for, as far as it fits */
    int64_t n_batch; /* tokens computed at once in prefill; 0: what the model was opened
                        for: 2048, or as memory is */
    tug_kv_cache_type kv_type;
    tug_progress_fn *on_prefill; /* may be NULL; tokens of the current append */
    void *ud;
    bool
        unchecked; /* n_ctx is not compared with the memory that is free: for sessions that
                       are never all full, which the caller watches (get_memory) */
} tug_session_params;

/* params may be NULL.  A context that does not fit in memory is refused with the largest
 * one that does. */
TUG_NODISCARD tug_status tug_session_create(tug_session **out, tug_model *model,
                                            const tug_session_params *params,
                                            tug_err *err);
void tug_session_destroy(tug_session **session);

/* Computes n >= 1 more tokens.  TUG_ERANGE when they do not fit in the context or an id is
 * no token (TUG_ENOMEM: see save points); then nothing has changed.  After TUG_ECANCELED,
 * tug_session_n_tokens says how many were kept, and the logits are those of the last one
 * kept.  TUG_EIO: weights could not be read from the file; the session has no tokens any
 * more, its save points are as good as before.  TUG_EDEVICE: the GPU failed, and the model
 * with it: close it and open it again, or go on with tug_model_leave_gpu. */
TUG_NODISCARD tug_status tug_session_append(tug_session *session, const int32_t *ids,
                                            int64_t n, tug_err *err);

/* The same, and calls `fn` with the logits of every token from the `first`-th of this call
 * on, in order: logits (n_vocab,), valid during the call. */
typedef void tug_logits_fn(void *ud, int64_t index, const float *logits);
TUG_NODISCARD tug_status tug_session_append_each(tug_session *session, const int32_t *ids,
                                                 int64_t n, int64_t first,
                                                 tug_logits_fn *fn, void *ud,
                                                 tug_err *err);

/* Logits of the last token, (n_vocab,), valid until this session's next append, restore or
 * reset.  NULL before the first token. */
const float *tug_session_logits(const tug_session *session);

/* The tokens so far, (*n,), valid until the session changes. */
const int32_t *tug_session_tokens(const tug_session *session, int64_t *n);

int64_t tug_session_n_tokens(const tug_session *session); /* so far */
int64_t tug_session_n_ctx(const tug_session *session);
int64_t tug_session_n_batch(const tug_session *session);
void tug_session_reset(tug_session *session); /* back to zero tokens, memory is kept */

/* Gives cache memory behind the present place back to the system; save points there are
 * lost. */
void tug_session_trim(tug_session *session);

/* Bytes that a session holds.  The cache counts as far as it was written: the rest of the
 * context is address space only. */
typedef struct tug_session_memory {
    uint64_t kv;                  /* cache, tokens, and rows kept for save points */
    uint64_t recurrent;           /* recurrent state and logits */
    uint64_t marks;               /* its save points */
    uint64_t per_token, per_mark; /* what one more takes */
} tug_session_memory;
tug_session_memory tug_session_get_memory(const tug_session *session);

/* ---- save points ---------------------------------------------------------------------- */

/* A place in a session to come back to.  The recurrent state cannot be shortened, so a save
 * point holds a copy of it (75 MB for the 80B model) and of the logits; the KV cache is
 * shared with the session.
 *
 *     tug_session_save(session, &mark, &err);
 *     tug_session_append(session, some, n, &err);
 *     tug_session_restore(session, mark, &err);      // as if `some` had never been there
 *
 * Save points of a session form one line.  After a restore to an early one, appending keeps
 * a copy of what later ones need of the cache, row by row, so that these can still be
 * restored; destroy those that are not wanted any more first and it keeps nothing.  Saving
 * there makes a new line: later save points are lost (restoring one is TUG_ESTATE). */
typedef struct tug_session_mark tug_session_mark;

/* *mark NULL: makes one; otherwise it is moved here.  On failure it is as it was. */
TUG_NODISCARD tug_status tug_session_save(tug_session *session, tug_session_mark **mark,
                                          tug_err *err);
/* TUG_ESTATE when the mark is another session's or lost; then nothing has changed. */
TUG_NODISCARD tug_status tug_session_restore(tug_session *session,
                                             const tug_session_mark *mark, tug_err *err);
/* Makes dst, another session of the model with the same cache type, be where `mark` of src
 * is, or where src is now (NULL): a copy of the cache, not a computation.  Save points of
 * dst are lost.  TUG_ESTATE, TUG_ERANGE: nothing has changed. */
TUG_NODISCARD tug_status tug_session_fork(tug_session *dst, const tug_session *src,
                                          const tug_session_mark *mark, tug_err *err);
void tug_session_mark_destroy(tug_session_mark **mark); /* before or after its session */
int64_t tug_session_mark_n_tokens(const tug_session_mark *mark);

/* Is it of this session, not lost, and are the tokens before it those that the session has
 * now?  (Not after a restore to an earlier one.) */
bool tug_session_mark_is_here(const tug_session *session, const tug_session_mark *mark);

/* ---- sampling ------------------------------------------------------------------------ */

typedef struct tug_logit_bias {
    int32_t id;
    float bias; /* -INFINITY bans the token */
} tug_logit_bias;

typedef struct tug_sampler_params {
    float temperature;    /* <= 0: greedy */
    int32_t top_k;        /* <= 0: off */
    float top_p;          /* >= 1: off */
    float min_p;          /* <= 0: off */
    float repeat_penalty; /* 1: off; divides positive logits, multiplies negative ones */
    float presence_penalty;  /* 0: off; subtracted once from every token seen */
    float frequency_penalty; /* 0: off; subtracted per occurrence */
    int32_t penalty_last_n;  /* tokens that the penalties look back on; -1: all */
    uint64_t seed;
    const tug_logit_bias *bias; /* (n_bias,) added to logits first; copied; ids checked */
    size_t n_bias;
} tug_sampler_params;

/* All off, temperature, top_k and top_p from the model's file. */
tug_sampler_params tug_sampler_defaults(const tug_model *model);

TUG_NODISCARD tug_status tug_sampler_create(tug_sampler **out, int64_t n_vocab,
                                            const tug_sampler_params *params,
                                            tug_err *err);
void tug_sampler_destroy(tug_sampler **sampler);

/* Tells the sampler of a token of the text (prompt or answer), for the penalties. */
TUG_NODISCARD tug_status tug_sampler_accept(tug_sampler *sampler, int32_t id,
                                            tug_err *err);

/* Picks the next token from logits (n_vocab,): penalties, then temperature, top-k, top-p,
 * min-p (in this order), then one draw.  Does not accept it. */
int32_t tug_sampler_pick(tug_sampler *sampler, const float *logits);

/* The same under a rule over tokens.  The draw is made as always; only where the rule
 * refuses it, the next of the candidates are drawn, then all others in order of their
 * logits.  -1 when the rule refuses every token. */
typedef bool tug_token_rule_fn(void *ud, int32_t id);
int32_t tug_sampler_pick_where(tug_sampler *sampler, const float *logits,
                               tug_token_rule_fn *rule, void *ud);

/* ---- generation ---------------------------------------------------------------------- */

typedef struct tug_generation tug_generation;

typedef enum tug_finish {
    TUG_FINISH_NONE = 0, /* goes on */
    TUG_FINISH_EOS,      /* the model ended its text */
    TUG_FINISH_STOP,     /* a stop string came; the text ends before it */
    TUG_FINISH_LENGTH,   /* max_tokens were sampled */
    TUG_FINISH_CONTEXT,  /* the session is full */
    TUG_FINISH_CANCELED
} tug_finish;

/* "none", "eos", "stop", "length", "context", "canceled". */
const char *tug_finish_name(tug_finish finish);

typedef struct tug_generation_params {
    int64_t max_tokens;      /* 0: until the session is full */
    const char *const *stop; /* (n_stop,) texts, none empty; copied */
    size_t n_stop;
    tug_token_rule_fn *rule; /* or NULL; asked before a token is taken */
    void *rule_ud;
} tug_generation_params;

/* One step's result. */
typedef struct tug_generated {
    int32_t id; /* the sampled token; -1 when canceled before there was one */
    const char
        *text;     /* (n_text,) UTF-8 that is safe to show, valid until the next call */
    size_t n_text; /* often 0: half a character, or a stop string that may be coming */
    tug_finish finish; /* once it is not NONE, there is no further step */
} tug_generated;

/* Continues the text of a session that has logits.  All three must outlive it; params may
 * be NULL.  The prompt's tokens are the caller's to accept. */
TUG_NODISCARD tug_status tug_generation_create(tug_generation **out, tug_model *model,
                                               tug_session *session, tug_sampler *sampler,
                                               const tug_generation_params *params,
                                               tug_err *err);
void tug_generation_destroy(tug_generation **generation);

/* Samples one token from the session's logits; the token before it is appended first. */
TUG_NODISCARD tug_status tug_generation_step(tug_generation *generation,
                                             tug_generated *out, tug_err *err);

/* Ends it from outside and hands over text that was held back. */
TUG_NODISCARD tug_status tug_generation_cancel(tug_generation *generation,
                                               tug_generated *out, tug_err *err);

/* The last sampled token, which the session does not contain: computing it is left to
 * whoever appends next, together with what follows.  -1 when there is none. */
int32_t tug_generation_pending(const tug_generation *generation);

#ifdef __cplusplus
}
#endif

#endif
