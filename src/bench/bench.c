/* bench.c - see bench.h: the schedule and the measurement of one case.
 * SPDX-License-Identifier: MIT */
#include "bench/bench.h"

#include "base/rng.h"
#include "base/sys.h"

/* Tokens before anything is timed: caches, threads and lazily touched pages. */
enum { WARM_UP_TOKENS = 16 };

typedef struct runner {
    tug_bench *b;
    tug_model *model;     /* borrowed */
    tug_session *session; /* borrowed */
    const tug_bench_host *host;
    tug_limits_probe *probe;                   /* owned */
    tug_sampler *sampler;                      /* owned */
    tug_session_mark *marks[TUG_BENCH_DEPTHS]; /* owned; NULL: not filled that far */
    int32_t *ids;                              /* owned: of one call */
    tug_rng rng;
    int64_t n_vocab;
    uint64_t done, total; /* tokens, for the progress */
} runner;

/* ---- cases --------------------------------------------------------------------------- */

int64_t tug_bench_context(const tug_bench_spec *s) {
    int64_t longest = s->n_decode;
    for (int i = 0; i < s->n_prompts; i++) {
        if (s->prompts[i] > longest) longest = s->prompts[i];
    }
    const int64_t deepest = s->depths[s->n_depths - 1];
    const int64_t need = deepest + longest;
    return need > WARM_UP_TOKENS ? need : WARM_UP_TOKENS;
}

tug_status tug_bench_init(tug_bench *b, const tug_bench_spec *spec, tug_err *err) {
    *b = (tug_bench){.spec = *spec};
    b->cases = tug_alloc_zero(TUG_BENCH_CASES * sizeof *b->cases);
    if (!b->cases) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the results");
    for (int d = 0; d < spec->n_depths; d++) {
        const int64_t depth = spec->depths[d];
        if (spec->contexts) {
            b->cases[b->n_cases++] = (tug_bench_case){.n_tokens = depth, .filling = true};
        }
        for (int p = 0; p < spec->n_prompts; p++) {
            b->cases[b->n_cases++] =
                (tug_bench_case){.depth = depth, .n_tokens = spec->prompts[p]};
        }
        if (spec->n_decode > 0) {
            b->cases[b->n_cases++] = (tug_bench_case){
                .kind = TUG_BENCH_DECODE, .depth = depth, .n_tokens = spec->n_decode};
        }
    }
    return TUG_OK;
}

void tug_bench_free(tug_bench *b) {
    tug_free(b->cases);
    *b = (tug_bench){0};
}

/* ---- one measurement ----------------------------------------------------------------- */

static bool canceled(runner *r) {
    if (r->host->canceled && r->host->canceled(r->host->ud)) r->b->interrupted = true;
    return r->b->interrupted;
}

bool tug_bench_on_prefill(void *ud, uint64_t done, uint64_t total) {
    const tug_bench_host *host = ud;
    (void)done, (void)total;
    return !(host->canceled && host->canceled(host->ud));
}

static void report(runner *r, const char *what, int64_t n) {
    r->done += (uint64_t)n;
    if (r->host->progress) r->host->progress(r->host->ud, what, r->done, r->total);
}

/* n new random ids, any that the model knows. */
static void random_ids(runner *r, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        r->ids[i] = (int32_t)(tug_rng_u64(&r->rng) % (uint64_t)r->n_vocab);
    }
}

/* Appends n random tokens.  A cancelled one ends like a finished one, with
 * b->interrupted. */
static tug_status append(runner *r, int64_t n, tug_err *err) {
    tug_err why = {0};
    random_ids(r, n);
    const tug_status s = tug_session_append(r->session, r->ids, n, &why);
    if (s == TUG_ECANCELED) {
        r->b->interrupted = true;
        return TUG_OK;
    }
    if (s != TUG_OK && err) *err = why;
    return s;
}

/* n tokens one by one, each sampled as in real use; the ids that go on are random all the
 * same, because a model that was left to itself soon repeats itself. */
static tug_status decode(runner *r, int64_t n, tug_err *err) {
    for (int64_t i = 0; i < n && !canceled(r); i++) {
        TUG_TRY(append(r, 1, err));
        tug_model_profile_stage(r->model, TUG_STAGE_SAMPLING);
        (void)tug_sampler_pick(r->sampler, tug_session_logits(r->session));
        tug_model_profile_stage(r->model, TUG_STAGE_OTHER);
    }
    return TUG_OK;
}

static void add_profile(tug_profile *sum, const tug_profile *p) {
    sum->n_threads = p->n_threads;
    sum->n_tokens += p->n_tokens;
    sum->n_batches += p->n_batches;
    sum->model_bytes = p->model_bytes;
    for (int i = 0; i < TUG_STAGE_COUNT; i++) {
        tug_stage_profile *to = &sum->stage[i];
        const tug_stage_profile *from = &p->stage[i];
        to->seconds += from->seconds;
        to->busy_s += from->busy_s;
        to->wait_s += from->wait_s;
        to->alone_s += from->alone_s;
        to->work.bytes += from->work.bytes;
        to->work.macs_int8 += from->work.macs_int8;
        to->work.macs_f32 += from->work.macs_f32;
    }
    double *const to[] = {&sum->streaming.wanted,    &sum->streaming.hits,
                          &sum->streaming.early,     &sum->streaming.read_bytes,
                          &sum->streaming.reading_s, &sum->streaming.waited_s};
    const double from[] = {p->streaming.wanted,    p->streaming.hits,
                           p->streaming.early,     p->streaming.read_bytes,
                           p->streaming.reading_s, p->streaming.waited_s};
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) *to[i] += from[i];
}

/* What one measurement gave. */
typedef struct taken {
    double seconds;
    tug_limits limits;
    tug_profile profile;
    tug_load before, after;
    tug_gpu_now gpu_before, gpu_after; /* when b->on_gpu */
    tug_gpu_limits gpu_limits;
} taken;

/* n tokens, timed and profiled; both are added to t. */
static tug_status time_tokens(runner *r, tug_bench_kind kind, int64_t n, taken *t,
                              tug_err *err) {
    tug_profile profile;
    TUG_TRY(tug_model_profile_start(r->model, err));
    const double start = tug_now();
    const tug_status s = kind == TUG_BENCH_DECODE ? decode(r, n, err) : append(r, n, err);
    t->seconds += tug_now() - start;
    tug_model_profile_stop(r->model, &profile);
    add_profile(&t->profile, &profile);
    return s;
}

/* Decode of a model in memory, with the bandwidth measured between its tokens: memory that
 * is shared with others changes its speed within the second that this takes. */
static tug_status decode_beside_reading(runner *r, int64_t n, taken *t, tug_err *err) {
    enum { READ_EVERY = 8 };
    double read[TUG_STATS_MAX];
    int n_reads = 0;
    for (int64_t at = 0; at < n && !canceled(r); at += READ_EVERY) {
        read[n_reads++ % TUG_STATS_MAX] = tug_limits_probe_read(r->probe);
        const int64_t some = n - at < READ_EVERY ? n - at : READ_EVERY;
        TUG_TRY(time_tokens(r, TUG_BENCH_DECODE, some, t, err));
    }
    const int n_kept = n_reads < TUG_STATS_MAX ? n_reads : TUG_STATS_MAX;
    if (n_kept > 0) t->limits.read_bytes_s = tug_spread_of(read, n_kept).median;
    return TUG_OK;
}

/* Does nothing go on between tokens, neither reading from the disk nor copying to a GPU,
 * that a pause would give an advantage? */
static bool is_quiet_between_tokens(const runner *r) {
    return !r->b->on_gpu && tug_model_expert_memory(r->model).slots == 0;
}

static tug_status take(runner *r, tug_bench_kind kind, int64_t n, taken *t,
                       tug_err *err) {
    *t = (taken){.limits = tug_limits_probe_run(r->probe)};
    if (r->b->on_gpu) TUG_TRY(tug_model_gpu_limits(r->model, &t->gpu_limits, err));
    (void)tug_model_gpu_now(r->model, true, &t->gpu_before);
    t->before = tug_load_now();
    const tug_status s = kind == TUG_BENCH_DECODE && is_quiet_between_tokens(r)
                             ? decode_beside_reading(r, n, t, err)
                             : time_tokens(r, kind, n, t, err);
    t->after = tug_load_now();
    (void)tug_model_gpu_now(r->model, true, &t->gpu_after);
    tug_profile_split_shared(&t->profile, &t->limits);
    return s;
}

/* All of a measurement but its speed. */
static void add_taken(tug_bench *b, tug_bench_case *c, const taken *t) {
    if (c->n_limits < TUG_BENCH_REPS) {
        c->read_bytes_s[c->n_limits] = t->limits.read_bytes_s;
        c->int8_macs_s[c->n_limits] = t->limits.int8_macs_s;
        c->f32_macs_s[c->n_limits++] = t->limits.f32_macs_s;
    }
    c->cache_bytes = t->limits.cache_bytes;
    add_profile(&c->profile, &t->profile);
    tug_load_add(&c->load, &t->before, &t->after);
    if (!b->on_gpu) return;
    tug_gpu_load_add(&c->gpu, &t->gpu_before, &t->gpu_after, t->seconds,
                     (double)t->profile.n_tokens);
    tug_gpu_load_limits(&c->gpu, &t->gpu_limits);
    b->gpu = t->gpu_after;
}

static void record(tug_bench *b, tug_bench_case *c, const taken *t) {
    const int i = c->n++;
    const double sampling = t->profile.stage[TUG_STAGE_SAMPLING].seconds;
    c->tok_s[i] = (double)c->n_tokens / t->seconds;
    c->model_tok_s[i] = (double)c->n_tokens / (t->seconds - sampling);
    add_taken(b, c, t);
}

/* ---- filling ------------------------------------------------------------------------- */

/* Parts of a filling, so that the machine's limits are measured on the way. */
enum { FILL_PART = 8192 };

/* On to `depth`; what it took is added to c (a whole prompt so far), if there is one. */
static tug_status fill_to(runner *r, int64_t depth, tug_bench_case *c, double *seconds,
                          tug_err *err) {
    for (int64_t at = tug_session_n_tokens(r->session); at < depth;) {
        const int64_t n = depth - at < FILL_PART ? depth - at : FILL_PART;
        taken t;
        report(r, "filling the context", 0);
        TUG_TRY(take(r, TUG_BENCH_PREFILL, n, &t, err));
        if (canceled(r)) return TUG_OK;
        at += n;
        *seconds += t.seconds;
        add_taken(r->b, c, &t);
        report(r, "filling the context", n);
    }
    return TUG_OK;
}

/* Fills the session from nothing to each depth and saves it there. */
static tug_status fill(runner *r, tug_err *err) {
    const tug_bench_spec *spec = &r->b->spec;
    tug_bench_case so_far = {.filling = true};
    double seconds = 0.0;
    for (int d = 0; d < spec->n_depths; d++) {
        TUG_TRY(fill_to(r, spec->depths[d], &so_far, &seconds, err));
        if (canceled(r)) return TUG_OK;
        TUG_TRY(tug_session_save(r->session, &r->marks[d], err));
        for (int i = 0; i < r->b->n_cases; i++) {
            tug_bench_case *c = &r->b->cases[i];
            if (!c->filling || c->n_tokens != spec->depths[d]) continue;
            so_far.n_tokens = c->n_tokens;
            *c = so_far;
            c->n = 1;
            c->tok_s[0] = c->model_tok_s[0] = (double)c->n_tokens / seconds;
        }
    }
    return TUG_OK;
}

/* ---- the schedule -------------------------------------------------------------------- */

static tug_session_mark *mark_at(const runner *r, int64_t depth) {
    for (int d = 0; d < r->b->spec.n_depths; d++) {
        if (r->b->spec.depths[d] == depth) return r->marks[d];
    }
    return NULL;
}

static tug_status measure(runner *r, tug_bench_case *c, tug_err *err) {
    taken t;
    report(r, c->kind == TUG_BENCH_DECODE ? "decode" : "prefill", 0);
    TUG_TRY(tug_session_restore(r->session, mark_at(r, c->depth), err));
    TUG_TRY(take(r, c->kind, c->n_tokens, &t, err));
    if (canceled(r)) return TUG_OK;
    record(r->b, c, &t);
    r->b->rss = tug_rss_now();
    report(r, c->kind == TUG_BENCH_DECODE ? "decode" : "prefill", c->n_tokens);
    return TUG_OK;
}

static tug_status run_all(runner *r, tug_err *err) {
    const tug_bench *b = r->b;
    TUG_TRY(append(r, WARM_UP_TOKENS, err));
    tug_session_reset(r->session);
    TUG_TRY(fill(r, err));
    r->b->rss = tug_rss_now();
    for (int rep = 0; rep < b->spec.n_reps; rep++) {
        for (int i = 0; i < b->n_cases; i++) {
            if (canceled(r)) return TUG_OK;
            if (!b->cases[i].filling) TUG_TRY(measure(r, &b->cases[i], err));
        }
    }
    return TUG_OK;
}

static uint64_t tokens_of_all(const tug_bench *b) {
    uint64_t total = (uint64_t)b->spec.depths[b->spec.n_depths - 1];
    for (int i = 0; i < b->n_cases; i++) {
        if (b->cases[i].filling) continue;
        total += (uint64_t)b->cases[i].n_tokens * (uint64_t)b->spec.n_reps;
    }
    return total;
}

static tug_status prepare(runner *r, tug_err *err) {
    int64_t longest = FILL_PART;
    for (int i = 0; i < r->b->spec.n_prompts; i++) {
        if (r->b->spec.prompts[i] > longest) longest = r->b->spec.prompts[i];
    }
    r->n_vocab = tug_model_get_info(r->model).n_vocab;
    tug_rng_seed(&r->rng, r->b->spec.seed);
    r->ids = tug_alloc_array((size_t)longest, sizeof *r->ids);
    if (!r->ids) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the token ids");
    const tug_sampler_params sampling = tug_sampler_defaults(r->model);
    TUG_TRY(tug_sampler_create(&r->sampler, r->n_vocab, &sampling, err));
    TUG_TRY(tug_limits_probe_create(&r->probe, r->model, err));
    r->b->probe_bytes = tug_limits_probe_bytes(r->probe);
    r->b->on_gpu = tug_model_gpu_now(r->model, true, &r->b->gpu);
    return TUG_OK;
}

/* The plan knows a prompt from its beginning, and one token at any depth. */
static void predict(const runner *r, tug_bench_case *c) {
    const bool decode = c->kind == TUG_BENCH_DECODE;
    const tug_limits cpu = tug_bench_limits(c);
    tug_prediction p;
    if (c->n == 0 || (!decode && c->depth > 0)) return;
    const int64_t n_ctx = decode ? (c->depth > 0 ? c->depth : 1) : c->n_tokens;
    const tug_gpu_limits *gpu = r->b->on_gpu ? &c->gpu.limits : NULL;
    if (!tug_model_predict(r->model, n_ctx, &cpu, gpu, &p)) return;
    c->predicted_tok_s = decode ? p.decode_tok_s : p.prefill_tok_s;
}

tug_status tug_bench_run(tug_bench *b, tug_model *model, tug_session *session,
                         const tug_bench_host *host, tug_err *err) {
    runner r = {.b = b,
                .model = model,
                .session = session,
                .host = host,
                .total = tokens_of_all(b)};
    tug_status s = prepare(&r, err);
    if (s == TUG_OK) s = run_all(&r, err);
    for (int i = 0; s == TUG_OK && i < b->n_cases; i++) predict(&r, &b->cases[i]);
    for (int d = 0; d < TUG_BENCH_DEPTHS; d++) tug_session_mark_destroy(&r.marks[d]);
    tug_limits_probe_destroy(&r.probe);
    tug_sampler_destroy(&r.sampler);
    tug_free(r.ids);
    return s;
}
