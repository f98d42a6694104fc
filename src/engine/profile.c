/* profile.c - the measuring half of tug_profile.h.  SPDX-License-Identifier: MIT */
#include "engine/profile.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/backend_speed.h"
#include "base/cpu.h"
#include "base/sys.h"
#include "memory/meminfo.h"

/* ---- profile ------------------------------------------------------------------------- */

const char *tug_stage_name(tug_stage stage) {
    static const char *const names[TUG_STAGE_COUNT] = {
        [TUG_STAGE_OTHER] = "other",         [TUG_STAGE_EMBEDDING] = "embedding",
        [TUG_STAGE_ATTENTION] = "attention", [TUG_STAGE_DELTANET] = "deltanet",
        [TUG_STAGE_ROUTER] = "router",       [TUG_STAGE_EXPERTS] = "experts",
        [TUG_STAGE_SHARED] = "shared",       [TUG_STAGE_HEAD] = "head",
        [TUG_STAGE_SAMPLING] = "sampling"};
    TUG_CHECK((unsigned)stage < TUG_STAGE_COUNT);
    return names[stage];
}

tug_status tug_model_profile_start(tug_model *m, tug_err *err) {
    if (!m->recorder.clock) {
        TUG_TRY(
            tug_pool_clock_create(&m->recorder.clock, tug_backend_n_threads(m->be), err));
    }
    m->recorder =
        (tug_recorder){.clock = m->recorder.clock, .streaming = tug_model_streaming(m)};
    tug_pool_clock_reset(m->recorder.clock);
    tug_backend_set_clock(m->be, m->recorder.clock);
    return TUG_OK;
}

void tug_model_profile_stage(tug_model *m, tug_stage stage) {
    tug_stage_enter(m->be, stage);
}

static tug_streaming since(tug_streaming now, const tug_streaming *then) {
    now.wanted -= then->wanted;
    now.hits -= then->hits;
    now.early -= then->early;
    now.read_bytes -= then->read_bytes;
    now.reading_s -= then->reading_s;
    now.waited_s -= then->waited_s;
    return now;
}

tug_streaming tug_model_streaming(const tug_model *m) {
    if (!m->experts) return (tug_streaming){0};
    const tug_expert_store_stats s = tug_expert_store_get_stats(m->experts);
    const tug_streaming all = {.wanted = (double)s.experts.wanted,
                               .hits = (double)s.experts.hits,
                               .early = (double)s.experts.early,
                               .read_bytes = (double)s.reads.n_bytes,
                               .reading_s = s.reads.busy_s,
                               .waited_s = s.reads.waited_s};
    return since(all, &m->filled);
}

tug_expert_memory tug_model_expert_memory(const tug_model *m) {
    if (!m->experts) return (tug_expert_memory){0};
    const tug_expert_store_stats s = tug_expert_store_get_stats(m->experts);
    return (tug_expert_memory){.bytes = s.bytes,
                               .dense_bytes = m->net.weights.packed_bytes,
                               .slots = s.slots,
                               .locked = s.locked,
                               .direct = s.reads.direct};
}

void tug_model_profile_stop(tug_model *m, tug_profile *out) {
    const tug_recorder *r = &m->recorder;
    tug_pool_clock *c = r->clock;
    *out = (tug_profile){.n_threads = tug_backend_n_threads(m->be),
                         .n_tokens = r->n_tokens,
                         .n_batches = r->n_batches,
                         .model_bytes = (double)m->n_bytes};
    tug_backend_set_clock(m->be, NULL);
    if (!c) return;
    tug_pool_clock_enter(c, c->stage); /* up to now */
    for (int i = 0; i < TUG_STAGE_COUNT; i++) {
        const double alone = c->wall[i] - c->job[i];
        const double shared_busy = tug_pool_clock_busy(c, i);
        const double wait = out->n_threads * c->job[i] - shared_busy;
        out->stage[i] = (tug_stage_profile){.seconds = c->wall[i],
                                            .busy_s = shared_busy + alone,
                                            .wait_s = wait > 0.0 ? wait : 0.0,
                                            .alone_s = (out->n_threads - 1) * alone,
                                            .work = r->work[i]};
        out->stage[i].work.bytes += c->count[i];
    }
    out->streaming = since(tug_model_streaming(m), &r->streaming);
    tug_recorder_close(&m->recorder);
}

void tug_recorder_close(tug_recorder *r) {
    tug_pool_clock_destroy(&r->clock);
    *r = (tug_recorder){0};
}

void tug_model_on_routes(tug_model *model, tug_routes_fn *fn, void *ud) {
    model->net.on_routes = fn;
    model->net.routes_ud = ud;
}

/* ---- limits -------------------------------------------------------------------------- */

enum {
    MIN_PROBE_BYTES = 256 << 20,
    MAX_PROBE_BYTES = 1 << 30,
};

struct tug_limits_probe {
    tug_backend *be;  /* the model's, or `own` */
    tug_backend *own; /* owned, or NULL */
    tug_model *model; /* borrowed, or NULL */
    uint8_t *memory;  /* owned map, (n_bytes,), touched */
    size_t n_bytes, cache_bytes;
    int next_quarter; /* of the memory, for tug_limits_probe_read */
};

/* Bytes of the last cache level as the kernel tells; 0 when it does not. */
static size_t largest_cache(void) {
    char text[32] = "", unit = 'K';
    unsigned long n = 0;
    const int fd = tug_sys.open("/sys/devices/system/cpu/cpu0/cache/index3/size", 0, 0);
    if (fd < 0) return 0;
    const ssize_t got = tug_sys.read(fd, text, sizeof text - 1);
    (void)tug_sys.close(fd);
    if (got <= 0 || sscanf(text, "%lu%c", &n, &unit) < 1 || n > 1u << 20) return 0;
    return n << (unit == 'M' ? 20 : 10);
}

tug_status tug_limits_probe_create(tug_limits_probe **out, tug_model *model,
                                   tug_err *err) {
    *out = NULL;
    const size_t cache = largest_cache();
    size_t want = 4 * cache;
    if (want < MIN_PROBE_BYTES) want = MIN_PROBE_BYTES;
    if (want > MAX_PROBE_BYTES) want = MAX_PROBE_BYTES;
    const uint64_t available = tug_memory_available();
    if (want > available / 4) want = MIN_PROBE_BYTES;
    if (want > available) {
        return TUG_FAIL(
            err, TUG_ENOMEM,
            "the bandwidth probe needs %zu MB, but only %llu MB are free: end "
            "other programs",
            want >> 20, (unsigned long long)available >> 20);
    }
    tug_limits_probe *p = tug_alloc_zero(sizeof *p);
    if (!p) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the bandwidth probe");
    const tug_status status =
        model ? TUG_OK
              : tug_backend_cpu_create(&p->own, tug_cpu_detect(), tug_cpu_count(), err);
    if (status != TUG_OK) {
        tug_free(p);
        return status;
    }
    void *map = tug_sys.mmap(NULL, want, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        tug_backend_destroy(&p->own);
        tug_free(p);
        return TUG_FAIL(err, TUG_ENOMEM,
                        "out of memory for the bandwidth probe, which needs %zu MB: end "
                        "other programs",
                        want >> 20);
    }
    /* Large pages if there are any: the limit is the memory's, not the page table's. */
    (void)madvise(map, want, MADV_HUGEPAGE);
    memset(map, 1, want); /* unwritten pages would all be one page of zeros */
    p->be = model ? model->be : p->own;
    p->model = model;
    /* Else a bench would measure fewer experts in memory than there are without it. */
    if (model) model->probe_bytes = want;
    p->memory = map;
    p->n_bytes = want;
    p->cache_bytes = cache;
    *out = p;
    return TUG_OK;
}

void tug_limits_probe_destroy(tug_limits_probe **probe) {
    if (!*probe) return;
    if ((*probe)->model) (*probe)->model->probe_bytes = 0;
    (void)tug_sys.munmap((*probe)->memory, (*probe)->n_bytes);
    tug_backend_destroy(&(*probe)->own);
    tug_free(*probe);
    *probe = NULL;
}

uint64_t tug_limits_probe_bytes(const tug_limits_probe *probe) {
    return probe->n_bytes;
}

tug_limits tug_limits_probe_run(tug_limits_probe *probe) {
    tug_limits l = tug_backend_measure_limits(probe->be, probe->memory, probe->n_bytes);
    l.cache_bytes = (double)probe->cache_bytes;
    return l;
}

double tug_limits_probe_read(tug_limits_probe *probe) {
    const size_t quarter = probe->n_bytes / 4;
    const uint8_t *const at = probe->memory + (size_t)probe->next_quarter * quarter;
    probe->next_quarter = (probe->next_quarter + 1) % 4;
    return tug_backend_measure_read(probe->be, at, quarter);
}

tug_status tug_limits_probe_products(tug_limits_probe *probe, tug_product type,
                                     tug_product_speed *out, tug_err *err) {
    static const tug_type types[TUG_PRODUCTS] = {[TUG_PRODUCT_Q3_K] = TUG_TYPE_Q3_K,
                                                 [TUG_PRODUCT_Q4_K] = TUG_TYPE_Q4_K,
                                                 [TUG_PRODUCT_Q5_K] = TUG_TYPE_Q5_K,
                                                 [TUG_PRODUCT_Q6_K] = TUG_TYPE_Q6_K,
                                                 [TUG_PRODUCT_Q8_0] = TUG_TYPE_Q8_0};
    TUG_CHECK(probe->own); /* a model's work space is not for this */
    return tug_backend_measure_products(probe->own, types[type], probe->memory,
                                        probe->n_bytes, out, err);
}

tug_status tug_limits_probe_mixers(tug_limits_probe *probe, tug_mixer_speed *out,
                                   tug_err *err) {
    TUG_CHECK(probe->own);
    return tug_backend_measure_mixers(probe->own, out, err);
}
