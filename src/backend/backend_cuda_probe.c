/* backend_cuda_probe.c - the limits of a GPU and of the way to it, measured.
 *
 * Every figure is the best of some rounds: what the device can do, not what it does today.
 * Nothing is allocated for a backend: between two passes its buffers hold nothing that is
 * needed.  SPDX-License-Identifier: MIT */
#include <string.h>

#include "backend/backend_cuda_impl.h"
#include "base/sys.h"

enum { ROUNDS = 5, COPIES = 16, HANDOFFS = 32, BLOCKS_PER_SM = 8 };
/* As an expert of the 80B model in Q3_K_M. */
enum { PIECE = 3 << 19 };
/* Larger than the last cache of any GPU there is. */
#define READ_BYTES ((size_t)256 << 20)

/* Memory to measure with. */
typedef struct lent {
    const void *data; /* device, (data_bytes,), read */
    size_t data_bytes;
    void *out; /* device, (out_bytes,), written: sums of blocks, copies */
    size_t out_bytes;
    uint8_t *pinned; /* (out_bytes,) */
} lent;

static size_t less(size_t a, size_t b) {
    return a < b ? a : b;
}

static tug_status read_round(tug_device *d, const lent *m, double *bytes_s,
                             tug_err *err) {
    const int64_t most = (int64_t)(m->out_bytes / sizeof(uint32_t));
    const int64_t want = BLOCKS_PER_SM * tug_device_get_info(d)->n_sm;
    const tug_cuda_probe a = {.out = m->out,
                              .data = m->data,
                              .n_bytes = (int64_t)m->data_bytes,
                              .n_block = (int32_t)(want < most ? want : most)};
    const tug_cuda_launch l = tug_cuda_on_probe_read(&a);
    const double start = tug_now();
    tug_device_launch(d, l.kernel, l.grid, l.block, l.shared_bytes, &a);
    TUG_TRY(tug_device_wait(d, TUG_STREAM_COMPUTE, err));
    *bytes_s = (double)m->data_bytes / (tug_now() - start);
    return TUG_OK;
}

static tug_status link_round(tug_device *d, const lent *m, double *bytes_s,
                             tug_err *err) {
    const size_t piece = less(PIECE, m->out_bytes);
    const double start = tug_now();
    for (int i = 0; i < COPIES; i++) {
        tug_device_copy_in(d, TUG_STREAM_COPY, m->out, m->pinned, piece);
    }
    TUG_TRY(tug_device_wait(d, TUG_STREAM_COPY, err));
    *bytes_s = COPIES * (double)piece / (tug_now() - start);
    return TUG_OK;
}

/* A word out, which the host waits for, and one back that the device has to have. */
static tug_status handoff_round(tug_device *d, const lent *m, tug_device_event *e,
                                double *seconds, tug_err *err) {
    const double start = tug_now();
    for (int i = 0; i < HANDOFFS; i++) {
        tug_device_copy_out(d, TUG_STREAM_COMPUTE, m->pinned, m->out, sizeof(uint32_t));
        tug_device_record(d, e, TUG_STREAM_COMPUTE);
        TUG_TRY(tug_device_wait_event(d, e, err));
        tug_device_copy_in(d, TUG_STREAM_COMPUTE, m->out, m->pinned, sizeof(uint32_t));
    }
    TUG_TRY(tug_device_wait(d, TUG_STREAM_COMPUTE, err));
    *seconds = (tug_now() - start) / HANDOFFS;
    return TUG_OK;
}

static tug_status measure(tug_device *d, const lent *m, tug_device_event *e,
                          tug_cuda_limits *out, tug_err *err) {
    *out = (tug_cuda_limits){.read_bytes = (double)m->data_bytes};
    TUG_TRY(tug_device_wait(d, TUG_STREAM_COMPUTE, err));
    for (int i = 0; i < ROUNDS; i++) {
        double read = 0.0, link = 0.0, handoff = 0.0;
        TUG_TRY(read_round(d, m, &read, err));
        TUG_TRY(link_round(d, m, &link, err));
        TUG_TRY(handoff_round(d, m, e, &handoff, err));
        if (read > out->read_bytes_s) out->read_bytes_s = read;
        if (link > out->link_bytes_s) out->link_bytes_s = link;
        if (i == 0 || handoff < out->handoff_s) out->handoff_s = handoff;
    }
    return TUG_OK;
}

tug_status tug_backend_gpu_measure(tug_backend *be, const void *data, size_t bytes,
                                   tug_cuda_limits *out, tug_err *err) {
    tug_cuda *c = tug_cuda_of(be);
    const size_t host = (size_t)(c->limits.n_tok * c->limits.dim) * sizeof(float);
    const lent m = {.data = data,
                    .data_bytes = less(bytes, READ_BYTES) / 16 * 16,
                    .out = c->buffer[TUG_CUDA_SH_OUT],
                    .out_bytes = less(host, c->bytes[TUG_CUDA_SH_OUT]),
                    .pinned = c->pinned[TUG_CUDA_HOST_X]};
    TUG_CHECK(m.out_bytes >= sizeof(uint32_t));
    memset(m.pinned, 0,
           less(PIECE, m.out_bytes)); /* before the first pass nobody wrote it */
    return measure(c->dev, &m, c->routed, out, err);
}

/* ---- a GPU without a model --------------------------------------------------------------- */

/* Kernels and clocks want a first run that does not count; the rounds take the best. */
static tug_status probe(tug_device *d, lent *m, tug_cuda_limits *out, tug_err *err) {
    void *data = NULL, *pinned = NULL;
    tug_device_event *e = NULL;
    tug_status s = tug_device_alloc(d, &data, m->data_bytes, "the probe", err);
    if (s == TUG_OK) s = tug_device_alloc(d, &m->out, m->out_bytes, "the probe", err);
    if (s == TUG_OK)
        s = tug_device_alloc_pinned(d, &pinned, m->out_bytes, "the probe", err);
    if (s == TUG_OK) s = tug_device_event_create(d, &e, err);
    if (s == TUG_OK) {
        m->data = data;
        m->pinned = pinned;
        tug_device_clear(d, TUG_STREAM_COMPUTE, data, m->data_bytes);
        memset(pinned, 0, m->out_bytes);
        s = measure(d, m, e, out, err);
    }
    tug_device_event_destroy(d, &e);
    tug_device_free_pinned(d, pinned);
    tug_device_free(d, m->out, m->out_bytes);
    tug_device_free(d, data, m->data_bytes);
    return s;
}

tug_status tug_cuda_probe_gpu(int gpu, tug_cuda_probed *out, tug_err *err) {
    tug_device *d;
    *out = (tug_cuda_probed){0};
    TUG_TRY(tug_device_open(&d, gpu, 0, err));
    out->info = *tug_device_get_info(d);
    lent m = {.data_bytes = less(READ_BYTES, (size_t)(out->info.budget / 4)) / 16 * 16,
              .out_bytes = less(PIECE, (size_t)(out->info.budget / 4))};
    const tug_status s = probe(d, &m, &out->limits, err);
    tug_nvml *nvml;
    if (tug_nvml_open(&nvml, out->info.pci, NULL) ==
        TUG_OK) { /* right after the copies */
        tug_nvml_get_facts(nvml, &out->facts);
        tug_nvml_get_now(nvml, &out->now);
        tug_nvml_close(&nvml);
    }
    tug_device_close(&d);
    return s;
}
