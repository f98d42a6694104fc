/* device.c - see device.h.  SPDX-License-Identifier: MIT */
#include "cuda/device.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/sys.h"
#include "cuda/driver.h"
#include "cuda/images.h"

/* Kernels by the address of their name: open addressing, never full (see find_function). */
enum { MAX_IMAGES = 64, FUNCTIONS = 1024 };

typedef struct function_slot {
    const char *name;
    tug_cu_function f;
    uint32_t shared; /* bytes of dynamic shared memory it may use already */
} function_slot;

struct tug_device {
    tug_cu cu;
    tug_cu_device dev;
    tug_cu_context context;
    unsigned long serial; /* of this open, see enter() */
    tug_cu_stream stream[TUG_DEVICE_STREAMS];
    tug_cu_module module[MAX_IMAGES];
    int n_module;
    function_slot function[FUNCTIONS];
    int n_function;
    uint64_t used;
    tug_device_info info;
    tug_device_counters counters;
    tug_err failure; /* the first; code TUG_OK: none */
    bool capturing;
    tug_err capture_failure; /* the same, of the graph that is captured */
    tug_device_counters before_capture;
};

struct tug_device_graph {
    tug_cu_graph_exec exec;
    tug_device_counters work; /* of one launch; no peak */
};

/* An event is the driver's, under a type of ours. */
static tug_cu_event cu_event(tug_device_event *e) {
    return (tug_cu_event)(void *)e;
}

static tug_cu_ptr address(const void *p) {
    return (tug_cu_ptr)(uintptr_t)p;
}

/* ---- failures ------------------------------------------------------------------------------ */

static tug_status driver_failed(const tug_device *d, tug_cu_result r, const char *what,
                                tug_err *err) {
    const char *name = NULL, *text = NULL;
    d->cu.cuGetErrorName(r, &name);
    d->cu.cuGetErrorString(r, &text);
    return TUG_FAIL(err, TUG_EDEVICE, "GPU %d failed at %s: %s (%s, %d)", d->info.index,
                    what, text ? text : "?", name ? name : "?", r);
}

static tug_status checked(const tug_device *d, tug_cu_result r, const char *what,
                          tug_err *err) {
    return r == TUG_CU_SUCCESS ? TUG_OK : driver_failed(d, r, what, err);
}

static void keep(tug_device *d, tug_cu_result r, const char *what) {
    tug_err *first = d->capturing ? &d->capture_failure : &d->failure;
    if (r != TUG_CU_SUCCESS && first->code == TUG_OK) {
        first->code = driver_failed(d, r, what, first);
    }
}

tug_status tug_device_status(const tug_device *d, tug_err *err) {
    if (d->failure.code != TUG_OK && err) *err = d->failure;
    return d->failure.code;
}

/* The driver keeps one current context per thread; ours is set once per thread. */
static tug_cu_result enter(tug_device *d) {
    static _Thread_local unsigned long entered;
    if (entered == d->serial) return TUG_CU_SUCCESS;
    const tug_cu_result r = d->cu.cuCtxSetCurrent(d->context);
    if (r == TUG_CU_SUCCESS) entered = d->serial;
    return r;
}

/* True when something may be enqueued. */
static bool ready(tug_device *d) {
    if (d->failure.code != TUG_OK) return false;
    keep(d, enter(d), "its start in a thread");
    return d->failure.code == TUG_OK &&
           !(d->capturing && d->capture_failure.code != TUG_OK);
}

/* ---- open ------------------------------------------------------------------------------------ */

static tug_status attribute(const tug_device *d, int which, int *value, tug_err *err) {
    return checked(d, d->cu.cuDeviceGetAttribute(value, which, d->dev),
                   "asking what it is", err);
}

static tug_status name_place(tug_device *d, tug_err *err) {
    int domain = 0, bus = 0, slot = 0;
    TUG_TRY(attribute(d, TUG_CU_ATTR_PCI_DOMAIN, &domain, err));
    TUG_TRY(attribute(d, TUG_CU_ATTR_PCI_BUS, &bus, err));
    TUG_TRY(attribute(d, TUG_CU_ATTR_PCI_DEVICE, &slot, err));
    (void)snprintf(d->info.pci, sizeof d->info.pci, "%08x:%02x:%02x.0", (unsigned)domain,
                   (unsigned)bus & 0xff, (unsigned)slot & 0xff);
    return TUG_OK;
}

static tug_status identify(tug_device *d, int index, tug_err *err) {
    int n = 0, major = 0, minor = 0, mem_ops = 0;
    TUG_TRY(checked(d, d->cu.cuDeviceGetCount(&n), "counting the GPUs", err));
    if (index < 0 || index >= n) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED, "there is no GPU %d: this machine has %d",
                        index, n);
    }
    TUG_TRY(checked(d, d->cu.cuDeviceGet(&d->dev, index), "finding it", err));
    TUG_TRY(checked(d,
                    d->cu.cuDeviceGetName(d->info.name, (int)sizeof d->info.name, d->dev),
                    "asking its name", err));
    d->info.name[sizeof d->info.name - 1] = '\0';
    TUG_TRY(attribute(d, TUG_CU_ATTR_CC_MAJOR, &major, err));
    TUG_TRY(attribute(d, TUG_CU_ATTR_CC_MINOR, &minor, err));
    TUG_TRY(attribute(d, TUG_CU_ATTR_N_SM, &d->info.n_sm, err));
    TUG_TRY(name_place(d, err));
    TUG_TRY(attribute(d, TUG_CU_ATTR_STREAM_MEM_OPS, &mem_ops, err));
    d->info.cc = 10 * major + minor;
    d->info.waits_for_words = mem_ops != 0;
    d->info.driver = d->cu.version;
    if (d->info.cc < 80) {
        return TUG_FAIL(
            err, TUG_EUNSUPPORTED,
            "GPU %d (%s) has compute capability %d.%d; tug's kernels need 8.0 "
            "(RTX 30 series, A100) or later",
            index, d->info.name, major, minor);
    }
    return TUG_OK;
}

static tug_status start_context(tug_device *d, tug_err *err) {
    const tug_cu_result r = d->cu.cuDevicePrimaryCtxRetain(&d->context, d->dev);
    if (r == TUG_CU_OUT_OF_MEMORY) {
        d->context = NULL;
        return TUG_FAIL(err, TUG_ENOMEM,
                        "GPU %d (%s) has no room for the driver's own memory: other "
                        "programs use it",
                        d->info.index, d->info.name);
    }
    if (r != TUG_CU_SUCCESS) {
        d->context = NULL;
        return driver_failed(d, r, "its start", err);
    }
    TUG_TRY(checked(d, enter(d), "its start", err));
    for (int i = 0; i < TUG_DEVICE_STREAMS; i++) {
        TUG_TRY(checked(d,
                        d->cu.cuStreamCreate(&d->stream[i], TUG_CU_STREAM_NON_BLOCKING),
                        "making a stream", err));
    }
    return TUG_OK;
}

static tug_status load_kernels(tug_device *d, tug_err *err) {
    if (!tug_cuda_images[0].data) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "this tug has no GPU kernels: it was built without nvcc");
    }
    for (int i = 0; tug_cuda_images[i].data; i++) {
        TUG_CHECK(i < MAX_IMAGES);
        const tug_cu_result r =
            d->cu.cuModuleLoadData(&d->module[i], tug_cuda_images[i].data);
        if (r == TUG_CU_NO_BINARY_FOR_GPU) {
            return TUG_FAIL(err, TUG_EUNSUPPORTED,
                            "this tug has no GPU kernels for GPU %d (%s, compute "
                            "capability %d.%d)",
                            d->info.index, d->info.name, d->info.cc / 10,
                            d->info.cc % 10);
        }
        TUG_TRY(checked(d, r, "loading the kernels", err));
        d->n_module++;
    }
    return TUG_OK;
}

/* Left to the driver and to whoever else draws on this GPU. */
static uint64_t margin(uint64_t free_bytes) {
    const uint64_t most = 256u << 20;
    return free_bytes / 32 < most ? free_bytes / 32 : most;
}

static tug_status set_budget(tug_device *d, uint64_t ceiling, tug_err *err) {
    size_t free_bytes = 0, total = 0;
    TUG_TRY(
        checked(d, d->cu.cuMemGetInfo_v2(&free_bytes, &total), "asking its memory", err));
    d->info.total = total;
    d->info.budget = free_bytes - margin(free_bytes);
    if (ceiling && ceiling < d->info.budget) d->info.budget = ceiling;
    return TUG_OK;
}

tug_status tug_device_open(tug_device **out, int index, uint64_t ceiling, tug_err *err) {
    static atomic_ulong serials;
    *out = NULL;
    tug_device *d = tug_alloc_zero(sizeof *d);
    if (!d) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for a GPU");
    d->info.index = index;
    d->serial = atomic_fetch_add(&serials, 1) + 1;
    tug_status s = tug_cu_load(&d->cu, err);
    if (s == TUG_OK) s = identify(d, index, err);
    if (s == TUG_OK) s = start_context(d, err);
    if (s == TUG_OK) s = load_kernels(d, err);
    if (s == TUG_OK) s = set_budget(d, ceiling, err);
    if (s != TUG_OK) {
        tug_device_close(&d);
        return s;
    }
    *out = d;
    return TUG_OK;
}

/* Failures no longer matter to anybody here. */
void tug_device_close(tug_device **device) {
    tug_device *d = *device;
    if (!d) return;
    if (d->context) {
        (void)enter(d);
        for (int i = 0; i < TUG_DEVICE_STREAMS; i++) {
            if (!d->stream[i]) continue;
            (void)d->cu.cuStreamSynchronize(d->stream[i]);
            (void)d->cu.cuStreamDestroy_v2(d->stream[i]);
        }
        for (int i = 0; i < d->n_module; i++) (void)d->cu.cuModuleUnload(d->module[i]);
        (void)d->cu.cuDevicePrimaryCtxRelease_v2(d->dev);
    }
    TUG_CHECK(d->used == 0);
    tug_cu_unload(&d->cu);
    tug_free(d);
    *device = NULL;
}

const tug_device_info *tug_device_get_info(const tug_device *d) {
    return &d->info;
}

uint64_t tug_device_used(const tug_device *d) {
    return d->used;
}

const tug_device_counters *tug_device_get_counters(const tug_device *d) {
    return &d->counters;
}

/* ---- memory ------------------------------------------------------------------------------------ */

static uint64_t rounded(size_t bytes) {
    return ((uint64_t)bytes + 255) / 256 * 256;
}

static tug_status no_room(const tug_device *d, size_t bytes, const char *what,
                          tug_err *err) {
    return TUG_FAIL(err, TUG_ENOMEM,
                    "GPU %d has no room for %s: %.1f MB wanted, %.1f of %.1f MB are used",
                    d->info.index, what, (double)bytes / 1e6, (double)d->used / 1e6,
                    (double)d->info.budget / 1e6);
}

tug_status tug_device_alloc(tug_device *d, void **out, size_t bytes, const char *what,
                            tug_err *err) {
    *out = NULL;
    TUG_TRY(tug_device_status(d, err));
    if (bytes == 0) bytes = 1;
    if (bytes > d->info.budget || rounded(bytes) > d->info.budget - d->used) {
        return no_room(d, bytes, what, err);
    }
    TUG_TRY(checked(d, enter(d), "its start in a thread", err));
    tug_cu_ptr p = 0;
    const tug_cu_result r = d->cu.cuMemAlloc_v2(&p, bytes);
    if (r == TUG_CU_OUT_OF_MEMORY) return no_room(d, bytes, what, err);
    TUG_TRY(checked(d, r, "giving memory", err));
    d->used += rounded(bytes);
    if (d->used > d->counters.peak_used) d->counters.peak_used = d->used;
    *out = (void *)(uintptr_t)p;
    return TUG_OK;
}

/* After a failure the driver may refuse even this; closing gives everything back. */
void tug_device_free(tug_device *d, void *p, size_t bytes) {
    if (!p) return;
    if (bytes == 0) bytes = 1;
    (void)enter(d);
    (void)d->cu.cuMemFree_v2(address(p));
    d->used -= rounded(bytes);
}

tug_status tug_device_alloc_pinned(tug_device *d, void **out, size_t bytes,
                                   const char *what, tug_err *err) {
    *out = NULL;
    TUG_TRY(tug_device_status(d, err));
    TUG_TRY(checked(d, enter(d), "its start in a thread", err));
    const tug_cu_result r = d->cu.cuMemHostAlloc(
        out, bytes ? bytes : 1, TUG_CU_HOST_PORTABLE | TUG_CU_HOST_MAPPED);
    if (r == TUG_CU_OUT_OF_MEMORY) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of pinned memory for %s: %.1f MB wanted",
                        what, (double)bytes / 1e6);
    }
    return checked(d, r, "giving pinned memory", err);
}

void *tug_device_address_of(tug_device *d, void *pinned) {
    tug_cu_ptr p = 0;
    if (!ready(d)) return NULL;
    keep(d, d->cu.cuMemHostGetDevicePointer_v2(&p, pinned, 0), "mapping pinned memory");
    return d->failure.code == TUG_OK ? (void *)(uintptr_t)p : NULL;
}

/* The owner of pinned memory waited for its copies, but after a failure a wait does not. */
static void let_copies_end(tug_device *d) {
    (void)enter(d);
    for (int i = 0; i < TUG_DEVICE_STREAMS && d->failure.code != TUG_OK; i++) {
        (void)d->cu.cuStreamSynchronize(d->stream[i]);
    }
}

void tug_device_free_pinned(tug_device *d, void *p) {
    if (!p) return;
    let_copies_end(d);
    (void)d->cu.cuMemFreeHost(p);
}

bool tug_device_pin(tug_device *d, void *p, size_t bytes) {
    return ready(d) &&
           d->cu.cuMemHostRegister_v2(p, bytes, TUG_CU_HOST_PORTABLE) == TUG_CU_SUCCESS;
}

void tug_device_unpin(tug_device *d, void *p) {
    if (!p) return;
    let_copies_end(d);
    (void)d->cu.cuMemHostUnregister(p);
}

/* ---- enqueued ------------------------------------------------------------------------------------ */

static tug_cu_result look_up(tug_device *d, const char *name, tug_cu_function *f) {
    for (int i = 0; i < d->n_module; i++) {
        const tug_cu_result r = d->cu.cuModuleGetFunction(f, d->module[i], name);
        if (r != TUG_CU_NOT_FOUND) return r;
    }
    return TUG_CU_NOT_FOUND;
}

/* NULL after a failure. */
static function_slot *find_function(tug_device *d, const char *name) {
    size_t at = ((uintptr_t)name >> 3) * 0x9E3779B97F4A7C15u % FUNCTIONS;
    while (d->function[at].name && d->function[at].name != name)
        at = (at + 1) % FUNCTIONS;
    function_slot *slot = &d->function[at];
    if (slot->name) return slot;
    TUG_CHECK(d->n_function < FUNCTIONS / 2);
    const tug_cu_result r = look_up(d, name, &slot->f);
    if (r != TUG_CU_SUCCESS) {
        keep(d, r, name);
        return NULL;
    }
    slot->name = name;
    slot->shared = 48u << 10; /* allowed without asking */
    d->n_function++;
    return slot;
}

void tug_device_launch(tug_device *d, const char *name, const uint32_t grid[3],
                       uint32_t block, uint32_t shared_bytes, const void *args) {
    if (!ready(d)) return;
    function_slot *f = find_function(d, name);
    if (!f) return;
    if (shared_bytes > f->shared) {
        keep(d, d->cu.cuFuncSetAttribute(f->f, TUG_CU_FUNC_MAX_SHARED, (int)shared_bytes),
             name);
        f->shared = shared_bytes;
    }
    d->counters.launches++;
    union {
        const void *ro;
        void *rw;
    } a = {.ro = args}; /* the driver only reads it */
    void *params[] = {a.rw};
    keep(d,
         d->cu.cuLaunchKernel(f->f, grid[0], grid[1], grid[2], block, 1, 1, shared_bytes,
                              d->stream[TUG_STREAM_COMPUTE], params, NULL),
         name);
}

void tug_device_copy_in(tug_device *d, tug_device_stream s, void *dst, const void *src,
                        size_t bytes) {
    if (bytes == 0 || !ready(d)) return;
    d->counters.in_bytes += bytes;
    keep(d, d->cu.cuMemcpyHtoDAsync_v2(address(dst), src, bytes, d->stream[s]),
         "a copy to it");
}

void tug_device_copy_out(tug_device *d, tug_device_stream s, void *dst, const void *src,
                         size_t bytes) {
    if (bytes == 0 || !ready(d)) return;
    d->counters.out_bytes += bytes;
    keep(d, d->cu.cuMemcpyDtoHAsync_v2(dst, address(src), bytes, d->stream[s]),
         "a copy from it");
}

void tug_device_copy(tug_device *d, tug_device_stream s, void *dst, const void *src,
                     size_t bytes) {
    if (bytes == 0 || !ready(d)) return;
    keep(d, d->cu.cuMemcpyDtoDAsync_v2(address(dst), address(src), bytes, d->stream[s]),
         "a copy in it");
}

void tug_device_count(tug_device *d, size_t in_bytes, size_t out_bytes) {
    if (!ready(d)) return;
    d->counters.in_bytes += in_bytes;
    d->counters.out_bytes += out_bytes;
}

void tug_device_clear(tug_device *d, tug_device_stream s, void *dst, size_t bytes) {
    if (bytes == 0 || !ready(d)) return;
    keep(d, d->cu.cuMemsetD8Async(address(dst), 0, bytes, d->stream[s]),
         "clearing memory");
}

/* ---- order and the end ----------------------------------------------------------------------------- */

tug_status tug_device_event_create(tug_device *d, tug_device_event **out, tug_err *err) {
    *out = NULL;
    TUG_TRY(tug_device_status(d, err));
    TUG_TRY(checked(d, enter(d), "its start in a thread", err));
    tug_cu_event e = NULL;
    TUG_TRY(checked(d, d->cu.cuEventCreate(&e, TUG_CU_EVENT_NO_TIMING), "making an event",
                    err));
    *out = (void *)e;
    return TUG_OK;
}

void tug_device_event_destroy(tug_device *d, tug_device_event **e) {
    if (!*e) return;
    (void)enter(d);
    (void)d->cu.cuEventDestroy_v2(cu_event(*e));
    *e = NULL;
}

void tug_device_record(tug_device *d, tug_device_event *e, tug_device_stream s) {
    if (ready(d)) keep(d, d->cu.cuEventRecord(cu_event(e), d->stream[s]), "an event");
}

void tug_device_after(tug_device *d, tug_device_stream s, tug_device_event *e) {
    if (!ready(d)) return;
    keep(d, d->cu.cuStreamWaitEvent(d->stream[s], cu_event(e), 0), "an event");
}

void tug_device_after_word(tug_device *d, tug_device_stream s, const void *word,
                           uint32_t value) {
    if (!ready(d)) return;
    keep(
        d,
        d->cu.cuStreamWaitValue32_v2(d->stream[s], address(word), value, TUG_CU_WAIT_GEQ),
        "a wait for the host");
}

bool tug_device_happened(tug_device *d, tug_device_event *e) {
    if (!ready(d)) return false;
    const tug_cu_result r = d->cu.cuEventQuery(cu_event(e));
    if (r != TUG_CU_NOT_READY) keep(d, r, "its work");
    return r == TUG_CU_SUCCESS;
}

tug_status tug_device_wait_event(tug_device *d, tug_device_event *e, tug_err *err) {
    if (ready(d)) keep(d, d->cu.cuEventSynchronize(cu_event(e)), "its work");
    return tug_device_status(d, err);
}

tug_status tug_device_wait(tug_device *d, tug_device_stream s, tug_err *err) {
    if (ready(d)) keep(d, d->cu.cuStreamSynchronize(d->stream[s]), "its work");
    return tug_device_status(d, err);
}

tug_status tug_device_poll(tug_device *d, tug_device_stream s, bool *done, tug_err *err) {
    *done = false;
    if (ready(d)) {
        const tug_cu_result r = d->cu.cuStreamQuery(d->stream[s]);
        *done = r == TUG_CU_SUCCESS;
        if (r != TUG_CU_NOT_READY) keep(d, r, "its work");
    }
    return tug_device_status(d, err);
}

/* ---- graphs ---------------------------------------------------------------------------------------- */

void tug_device_capture(tug_device *d) {
    TUG_CHECK(!d->capturing);
    d->capture_failure.code = TUG_OK;
    d->before_capture = d->counters;
    d->capturing = true;
    if (!ready(d)) return;
    keep(d,
         d->cu.cuStreamBeginCapture_v2(d->stream[TUG_STREAM_COMPUTE],
                                       TUG_CU_CAPTURE_THREAD_LOCAL),
         "capturing a graph");
}

/* Also after a failure: the stream must leave the capture. */
static tug_status end_capture(tug_device *d, tug_cu_graph *graph, tug_err *err) {
    const tug_cu_result r =
        d->cu.cuStreamEndCapture(d->stream[TUG_STREAM_COMPUTE], graph);
    d->capturing = false;
    TUG_TRY(tug_device_status(d, err));
    if (d->capture_failure.code != TUG_OK) {
        if (err) *err = d->capture_failure;
        return d->capture_failure.code;
    }
    return checked(d, r, "capturing a graph", err);
}

/* What was counted since the capture began did not run: it is the graph's. */
static tug_device_counters take_counters(tug_device *d) {
    const tug_device_counters before = d->before_capture;
    const tug_device_counters work = {.in_bytes = d->counters.in_bytes - before.in_bytes,
                                      .out_bytes =
                                          d->counters.out_bytes - before.out_bytes,
                                      .launches = d->counters.launches - before.launches};
    d->counters.in_bytes = before.in_bytes;
    d->counters.out_bytes = before.out_bytes;
    d->counters.launches = before.launches;
    return work;
}

tug_status tug_device_end_capture(tug_device *d, tug_device_graph **out, tug_err *err) {
    tug_cu_graph graph = NULL;
    TUG_CHECK(d->capturing);
    *out = NULL;
    tug_device_graph *g = tug_alloc_zero(sizeof *g);
    tug_status s = end_capture(d, &graph, err);
    const tug_device_counters work = take_counters(d);
    if (s == TUG_OK && !g) s = TUG_FAIL(err, TUG_ENOMEM, "out of memory for a graph");
    if (s == TUG_OK) {
        s = checked(d, d->cu.cuGraphInstantiateWithFlags(&g->exec, graph, 0),
                    "making a graph", err);
    }
    if (graph) (void)d->cu.cuGraphDestroy(graph);
    if (s != TUG_OK) {
        tug_free(g);
        return s;
    }
    g->work = work;
    *out = g;
    return TUG_OK;
}

void tug_device_launch_graph(tug_device *d, tug_device_graph *g) {
    if (!ready(d)) return;
    d->counters.in_bytes += g->work.in_bytes;
    d->counters.out_bytes += g->work.out_bytes;
    d->counters.launches += g->work.launches;
    keep(d, d->cu.cuGraphLaunch(g->exec, d->stream[TUG_STREAM_COMPUTE]), "a graph");
}

void tug_device_graph_destroy(tug_device *d, tug_device_graph **g) {
    if (!*g) return;
    (void)enter(d);
    (void)d->cu.cuGraphExecDestroy((*g)->exec);
    tug_free(*g);
    *g = NULL;
}
