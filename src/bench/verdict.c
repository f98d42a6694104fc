/* verdict.c - see verdict.h.  SPDX-License-Identifier: MIT */
#include "bench/verdict.h"

#include <math.h>

/* A tenth of the threads' time gone to others changes every other number too. */
static const double STARVED = 0.10;
/* Waiting that matters, and only when it is more than the limits explain. */
static const double WAITING = 0.25;
/* A disk that is waited for so long decides more than memory or processors can. */
static const double DISK = 0.40;
/* A limit that explains less of the time than this bounds nothing.  Low, because a kernel
 * far from its limit is bounded by that limit's side all the same: cores that unpack and
 * multiply in cache are busy computing at a fifth of the peak. */
static const double NEAR = 0.10;
/* More bytes than the memory can deliver came from a cache. */
static const double CACHED = 1.10;

const char *tug_bound_name(tug_bound bound) {
    static const char *const names[TUG_BOUND_COUNT] = {
        "compute", "bandwidth", "starved", "disk", "pcie", "synchronisation", "overhead"};
    return names[bound];
}

double tug_work_bandwidth_s(const tug_work *w, const tug_limits *l) {
    return l->read_bytes_s > 0.0 ? w->bytes / l->read_bytes_s : 0.0;
}

double tug_work_compute_s(const tug_work *w, const tug_limits *l) {
    const double i8 = l->int8_macs_s > 0.0 ? w->macs_int8 / l->int8_macs_s : 0.0;
    const double f32 = l->f32_macs_s > 0.0 ? w->macs_f32 / l->f32_macs_s : 0.0;
    return i8 + f32;
}

static double least_s(const tug_work *w, const tug_limits *l) {
    const double b = tug_work_bandwidth_s(w, l), c = tug_work_compute_s(w, l);
    return b > c ? b : c;
}

void tug_profile_split_shared(tug_profile *p, const tug_limits *l) {
    tug_stage_profile *e = &p->stage[TUG_STAGE_EXPERTS], *s = &p->stage[TUG_STAGE_SHARED];
    const double ours = least_s(&s->work, l), both = ours + least_s(&e->work, l);
    const double part = both > 0.0 ? ours / both : 0.0;
    double *const from[] = {&e->seconds, &e->busy_s, &e->wait_s, &e->alone_s};
    double *const to[] = {&s->seconds, &s->busy_s, &s->wait_s, &s->alone_s};
    for (int i = 0; i < 4; i++) {
        *to[i] += *from[i] * part;
        *from[i] *= 1.0 - part;
    }
}

static double share(double part, double whole) {
    return whole > 0.0 ? part / whole : 0.0;
}

tug_verdict tug_verdict_of(const tug_profile *p, const tug_load *load,
                           const tug_limits *limits) {
    tug_verdict v = {0};
    double seconds = 0, by_bandwidth = 0, by_compute = 0, wait = 0, alone = 0, most = -1;
    for (int i = 0; i < TUG_STAGE_COUNT; i++) {
        const tug_stage_profile *s = &p->stage[i];
        const double b = tug_work_bandwidth_s(&s->work, limits);
        const double c = tug_work_compute_s(&s->work, limits);
        seconds += s->seconds;
        v.bandwidth += b;
        v.compute += c;
        *(b > c ? &by_bandwidth : &by_compute) += b > c ? b : c;
        wait += s->wait_s;
        alone += s->alone_s;
        if (s->seconds <= most) continue;
        most = s->seconds;
        v.stage = (tug_stage)i;
        v.stage_limit = share(least_s(&s->work, limits), s->seconds);
    }
    const double threads_s = seconds * p->n_threads;
    /* Of the time that threads waited for a processor, what tug's own had is no other's. */
    const double processors_s = load->wall_s * p->n_threads;
    v.bandwidth = share(v.bandwidth, seconds);
    v.compute = share(v.compute, seconds);
    v.wait = share(wait, threads_s);
    v.alone = share(alone, threads_s);
    v.stage_time = share(most, seconds);
    v.starved = share(fmin(load->run_delay_s, fmax(0.0, processors_s - load->cpu_s)) +
                          load->steal_s,
                      processors_s);

    v.disk = share(p->streaming.waited_s, seconds);
    v.disk_bytes_s = share(p->streaming.read_bytes, p->streaming.reading_s);
    v.cached = v.bandwidth > CACHED || p->model_bytes < limits->cache_bytes;
    if (v.cached) {
        by_bandwidth = 0.0;
        by_compute = v.compute * seconds;
    }
    const double explained = share(by_bandwidth + by_compute, seconds);
    const double nearest = by_bandwidth > by_compute ? by_bandwidth : by_compute;
    const double idle = v.wait + v.alone;
    if (v.starved >= STARVED) {
        v.bound = TUG_BOUND_STARVED;
    } else if (v.disk >= DISK) {
        v.bound = TUG_BOUND_DISK;
    } else if (idle >= WAITING && idle > explained) {
        v.bound = TUG_BOUND_SYNC;
    } else if (share(nearest, seconds) < NEAR) {
        v.bound = TUG_BOUND_OVERHEAD;
    } else {
        v.bound = by_bandwidth > by_compute ? TUG_BOUND_BANDWIDTH : TUG_BOUND_COMPUTE;
    }
    return v;
}

static void say_stage(const tug_verdict *v, double limit, tug_buf *out) {
    if (limit < 0.5) {
        tug_buf_text(out, ", and other instructions of the kernels more than that");
    }
    tug_buf_printf(out, "; most time goes to %s (%.0f %%, at %.0f %% of its limit)",
                   tug_stage_name(v->stage), 100 * v->stage_time, 100 * v->stage_limit);
}

/* The host's clock does not see the GPU's stages: only its limits are known. */
static void say_on_gpu(const tug_verdict *v, tug_buf *out) {
    static const char *const what[TUG_BOUND_COUNT] = {
        [TUG_BOUND_BANDWIDTH] = "bandwidth-bound on the GPU",
        [TUG_BOUND_LINK] = "bound by PCIe",
        [TUG_BOUND_OVERHEAD] = "bound by neither the GPU's memory nor PCIe"};
    tug_buf_printf(
        out,
        "%s: weights, cache and state without experts need %.0f %% of the time "
        "at the GPU's measured bandwidth, most of it %s; what crosses PCIe "
        "needs %.0f %%",
        what[v->bound], 100 * v->gpu_read, tug_stage_name(v->stage), 100 * v->gpu_link);
}

void tug_verdict_say(const tug_verdict *v, const tug_limits *l, tug_buf *out) {
    if (v->on_gpu && v->bound != TUG_BOUND_STARVED && v->bound != TUG_BOUND_DISK) {
        say_on_gpu(v, out);
        return;
    }
    switch (v->bound) {
    case TUG_BOUND_COMPUTE:
        tug_buf_printf(out,
                       "compute-bound: the multiplications alone need %.0f %% of the "
                       "time at the measured peaks (%.0f GMAC/s int8, %.0f f32)",
                       100 * v->compute, l->int8_macs_s * 1e-9, l->f32_macs_s * 1e-9);
        say_stage(v, v->compute, out);
        break;
    case TUG_BOUND_BANDWIDTH:
        tug_buf_printf(out,
                       "bandwidth-bound: reading weights, cache and state alone needs "
                       "%.0f %% of the time at the measured %.1f GB/s",
                       100 * v->bandwidth, l->read_bytes_s * 1e-9);
        say_stage(v, v->bandwidth, out);
        break;
    case TUG_BOUND_STARVED:
        tug_buf_printf(out,
                       "starved: for %.0f %% of the time its threads were ready but "
                       "other processes had the processors, so no other number here "
                       "is tug's; end them and measure again",
                       100 * v->starved);
        break;
    case TUG_BOUND_DISK:
        tug_buf_printf(out,
                       "disk-bound: for %.0f %% of the time there was nothing to "
                       "compute until experts had been read, at %.2f GB/s; more memory "
                       "for experts helps most (tug plan)",
                       100 * v->disk, v->disk_bytes_s * 1e-9);
        break;
    case TUG_BOUND_SYNC:
        tug_buf_printf(out,
                       "bound by synchronisation: threads waited for each other %.0f %% "
                       "of the time and for work that one does alone %.0f %%; try a "
                       "smaller -t",
                       100 * v->wait, 100 * v->alone);
        break;
    case TUG_BOUND_OVERHEAD:
    case TUG_BOUND_LINK:
    case TUG_BOUND_COUNT:
        if (v->cached) {
            tug_buf_printf(out,
                           "bound by overhead: a cache holds the model, and the "
                           "multiplications need only %.0f %% of the time",
                           100 * v->compute);
        } else {
            tug_buf_printf(out,
                           "bound by overhead: neither the memory (%.0f %%) nor the "
                           "multipliers (%.0f %%) are near their limit",
                           100 * v->bandwidth, 100 * v->compute);
        }
        say_stage(v, 1.0, out);
        break;
    }
}
