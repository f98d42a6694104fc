// driver.cc - the functions of libcuda.so.1 that src/cuda/driver.h lists.
// SPDX-License-Identifier: MIT
#include "cuda/driver.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <unistd.h>

#include "cuda_emu/control.h"
#include "cuda_emu/queue.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

#define DECLARE(name, params) EXPORT tug_cu_result name params;
TUG_CU_FUNCTIONS(DECLARE)

struct CUctx_st {
    int n;
};
struct CUmod_st {
    std::vector<CUfunc_st *> functions;
};
struct CUfunc_st {
    const emu::kernel *k;
    int max_shared;
};

namespace {

using namespace emu;

bool started;
CUctx_st context; // the primary one of device 0
int retained;
std::set<CUevent_st *> events;
std::set<CUmod_st *> modules;
size_t n_graphs;
unsigned long n_calls, fail_at;
tug_cu_result fail_code, sticky;
bool has_failed;
std::string lost_file;
CUctx_st *current;

enum { SHARED_DEFAULT = 48 << 10, SHARED_OPTIN = 99 << 10 };

size_t size_of(const std::string &text) {
    char *end;
    const double n = strtod(text.c_str(), &end);
    const size_t unit = *end == 'K'   ? 1 << 10
                        : *end == 'M' ? 1 << 20
                        : *end == 'G' ? 1 << 30
                                      : 1;
    return (size_t)(n * (double)unit);
}

void set_option(const std::string &key, const std::string &value) {
    if (key == "devices") {
        opt.devices = atoi(value.c_str());
    } else if (key == "cc") {
        opt.cc = atoi(value.c_str());
    } else if (key == "driver") {
        opt.driver = atoi(value.c_str());
    } else if (key == "vram") {
        opt.vram = size_of(value);
    } else if (key == "others") {
        opt.others = size_of(value);
    } else if (key == "memops") {
        opt.memops = atoi(value.c_str()) != 0;
    } else if (key == "watchdog") {
        opt.watchdog = atof(value.c_str());
    } else if (key == "order") {
        opt.reversed = value == "reversed";
    } else if (key == "schedule") {
        opt.order = value == "immediate"  ? IMMEDIATE
                    : value == "deferred" ? DEFERRED
                                          : RANDOM;
        if (value.compare(0, 7, "random:") == 0) {
            opt.seed = strtoull(value.c_str() + 7, nullptr, 10) * 0x9e3779b97f4a7c15u + 1;
        } else if (opt.order == RANDOM) {
            broken("schedule=%s", value.c_str());
        }
    } else if (key == "fail") {
        const size_t colon = value.find(':');
        fail_at = n_calls + strtoul(value.c_str(), nullptr, 10);
        fail_code =
            colon == std::string::npos ? TUG_CU_UNKNOWN : atoi(value.c_str() + colon + 1);
        has_failed = false;
    } else if (key == "lost") {
        lost_file = value;
    } else {
        broken("unknown option %s=%s", key.c_str(), value.c_str());
    }
}

void configure(const char *text) {
    for (const char *p = text; *p;) {
        const char *end = strchr(p, ' ');
        const std::string word = end ? std::string(p, end) : std::string(p);
        p = end ? end + 1 : p + word.size();
        const size_t eq = word.find('=');
        if (word.empty()) continue;
        if (eq == std::string::npos) broken("option %s has no value", word.c_str());
        set_option(word.substr(0, eq), word.substr(eq + 1));
    }
}

// A kernel that went wrong takes the context with it.
void fail_with(tug_cu_result code) {
    has_failed = true;
    if (code != TUG_CU_ILLEGAL_ADDRESS && code != TUG_CU_LAUNCH_FAILED) return;
    sticky = code;
    drop_all();
}

// Every function begins with one: counts the call, makes it fail if it is its turn, opens
// device memory, lets the streams go on.
class call {
  public:
    tug_cu_result failure;
    explicit call(bool needs_context = true) : failure(TUG_CU_SUCCESS) {
        lock.lock();
        static bool configured;
        if (!configured) {
            configured = true;
            if (getenv("TUG_EMU")) configure(getenv("TUG_EMU"));
        }
        if (!sticky && !lost_file.empty() && ::access(lost_file.c_str(), F_OK) == 0) {
            fail_with(TUG_CU_LAUNCH_FAILED);
        }
        if (++n_calls == fail_at) {
            failure = fail_code;
            fail_with(fail_code);
        } else if (sticky) {
            failure = sticky;
        } else if (needs_context && !started) {
            failure = TUG_CU_NOT_INITIALIZED;
        } else if (needs_context && !current) {
            failure = 201; // invalid context: none is current
        }
        open_device_memory();
        if (!failure) let_run();
    }
    ~call() {
        close_device_memory();
        lock.unlock();
    }
};

#define CALL()    \
    const call c; \
    if (c.failure) return c.failure
#define CALL_WITHOUT_CONTEXT() \
    const call c(false);       \
    if (c.failure) return c.failure

void need_stream(const char *what, CUstream_st *s) {
    if (!s) broken("%s on the default stream, which tug does not use", what);
    if (!stream_exists(s)) broken("%s on a stream that does not exist", what);
}

tug_cu_result wait_for(bool (*until)(void *), void *ud) {
    if (run_until(until, ud)) return sticky;
    fprintf(stderr, "cuda_emu: a stream waits for a value that nobody writes\n");
    sticky = TUG_CU_LAUNCH_FAILED;
    return sticky;
}

bool stream_idle(void *s) {
    return static_cast<CUstream_st *>(s)->queue.empty();
}
bool event_done(void *e) {
    const CUevent_st *event = static_cast<CUevent_st *>(e);
    return event->done >= event->recorded;
}

uintptr_t number(const void *p) {
    return reinterpret_cast<uintptr_t>(p);
}

} // namespace

// ---- control ---------------------------------------------------------------------------

EXPORT void tug_emu_configure(const char *options) {
    configure(options);
}
EXPORT unsigned long tug_emu_calls(void) {
    return n_calls;
}
EXPORT int tug_emu_failed(void) {
    return has_failed;
}
EXPORT void tug_emu_recover(void) {
    sticky = 0;
    fail_at = 0;
    has_failed = false;
}
EXPORT void tug_emu_get_live(tug_emu_live *out) {
    *out = {device_live(),  host_live(), stream_count(),  events.size(),
            modules.size(), n_graphs,    (size_t)retained};
}
EXPORT unsigned long tug_emu_launches(const char *name) {
    return launches(name);
}

EXPORT int tug_emu_finds_races(void) {
    return race_build;
}
EXPORT int tug_emu_finds_overruns(void) {
#ifdef __SANITIZE_ADDRESS__
    return 1;
#else
    return 0;
#endif
}

// ---- start, devices ------------------------------------------------------------------------

tug_cu_result cuInit(unsigned) {
    CALL_WITHOUT_CONTEXT();
    if (opt.devices == 0) return TUG_CU_NO_DEVICE;
    started = true;
    return TUG_CU_SUCCESS;
}

tug_cu_result cuDriverGetVersion(int *version) {
    CALL_WITHOUT_CONTEXT();
    *version = opt.driver;
    return TUG_CU_SUCCESS;
}

tug_cu_result cuGetErrorName(tug_cu_result r, const char **text) {
    *text =
        r == TUG_CU_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_EMULATED";
    return TUG_CU_SUCCESS;
}

tug_cu_result cuGetErrorString(tug_cu_result r, const char **text) {
    *text = r == TUG_CU_OUT_OF_MEMORY ? "out of memory" : "an emulated failure";
    return TUG_CU_SUCCESS;
}

tug_cu_result cuDeviceGetCount(int *n) {
    CALL_WITHOUT_CONTEXT();
    *n = opt.devices;
    return TUG_CU_SUCCESS;
}

tug_cu_result cuDeviceGet(tug_cu_device *dev, int i) {
    CALL_WITHOUT_CONTEXT();
    if (i < 0 || i >= opt.devices) return TUG_CU_INVALID_DEVICE;
    *dev = i;
    return TUG_CU_SUCCESS;
}

tug_cu_result cuDeviceGetName(char *name, int size, tug_cu_device) {
    CALL_WITHOUT_CONTEXT();
    snprintf(name, (size_t)size, "emulated GPU");
    return TUG_CU_SUCCESS;
}

tug_cu_result cuDeviceGetAttribute(int *value, int attribute, tug_cu_device) {
    CALL_WITHOUT_CONTEXT();
    switch (attribute) {
    case TUG_CU_ATTR_MAX_SHARED_PER_BLOCK: *value = SHARED_DEFAULT; break;
    case TUG_CU_ATTR_MAX_SHARED_OPTIN: *value = SHARED_OPTIN; break;
    case TUG_CU_ATTR_N_SM: *value = 4; break;
    case TUG_CU_ATTR_CC_MAJOR: *value = opt.cc / 10; break;
    case TUG_CU_ATTR_CC_MINOR: *value = opt.cc % 10; break;
    case TUG_CU_ATTR_STREAM_MEM_OPS: *value = opt.memops; break;
    default: *value = 0;
    }
    return TUG_CU_SUCCESS;
}

tug_cu_result cuDeviceTotalMem_v2(size_t *bytes, tug_cu_device) {
    CALL_WITHOUT_CONTEXT();
    *bytes = opt.vram;
    return TUG_CU_SUCCESS;
}

tug_cu_result cuDevicePrimaryCtxRetain(tug_cu_context *ctx, tug_cu_device) {
    CALL_WITHOUT_CONTEXT();
    if (!started) return TUG_CU_NOT_INITIALIZED;
    retained++;
    *ctx = &context;
    return TUG_CU_SUCCESS;
}

tug_cu_result cuDevicePrimaryCtxRelease_v2(tug_cu_device) {
    const call c(false);
    if (retained == 0) return TUG_CU_INVALID_VALUE;
    if (--retained == 0) current = nullptr;
    return c.failure;
}

tug_cu_result cuCtxSetCurrent(tug_cu_context ctx) {
    CALL_WITHOUT_CONTEXT();
    current = ctx;
    return TUG_CU_SUCCESS;
}

tug_cu_result cuCtxSynchronize(void) {
    CALL();
    return wait_for(all_idle, nullptr);
}

// ---- memory --------------------------------------------------------------------------------

tug_cu_result cuMemGetInfo_v2(size_t *free, size_t *total) {
    CALL();
    const size_t used = opt.others + device_used();
    *free = used < opt.vram ? opt.vram - used : 0;
    *total = opt.vram;
    return TUG_CU_SUCCESS;
}

tug_cu_result cuMemAlloc_v2(tug_cu_ptr *p, size_t bytes) {
    CALL();
    if (bytes == 0) return TUG_CU_INVALID_VALUE;
    const uintptr_t at =
        device_alloc(bytes, opt.vram > opt.others ? opt.vram - opt.others : 0);
    if (!at) return TUG_CU_OUT_OF_MEMORY;
    *p = at;
    return TUG_CU_SUCCESS;
}

// A call that gives something back does so even when it reports the failure of another.
// As on a device, freeing waits for everything that runs.

tug_cu_result cuMemFree_v2(tug_cu_ptr p) {
    const call c;
    run_until(all_idle, nullptr);
    if (!device_free(p))
        broken("cuMemFree of %#llx, which is no allocation", (unsigned long long)p);
    return c.failure;
}

tug_cu_result cuMemHostAlloc(void **p, size_t bytes, unsigned) {
    CALL();
    *p = host_alloc(bytes);
    return *p ? TUG_CU_SUCCESS : TUG_CU_OUT_OF_MEMORY;
}

tug_cu_result cuMemFreeHost(void *p) {
    const call c;
    if (!host_free(p)) broken("cuMemFreeHost of %p, which is no allocation", p);
    return c.failure;
}

tug_cu_result cuMemHostGetDevicePointer_v2(tug_cu_ptr *dev, void *host, unsigned) {
    CALL();
    if (!host_is_pinned(number(host), 1)) return TUG_CU_INVALID_VALUE;
    *dev = number(host);
    return TUG_CU_SUCCESS;
}

tug_cu_result cuMemHostRegister_v2(void *p, size_t bytes, unsigned) {
    CALL();
    return host_register(p, bytes) ? TUG_CU_SUCCESS : 712;
}

tug_cu_result cuMemHostUnregister(void *p) {
    const call c;
    if (!host_unregister(p))
        broken("cuMemHostUnregister of %p, which is not registered", p);
    return c.failure;
}

static void need_device(const char *what, uintptr_t at) {
    if (!in_device_range(at)) broken("%s: %#zx is no address of the device", what, at);
}
static void need_host(const char *what, const void *p) {
    if (in_device_range(number(p))) broken("%s: %p is an address of the device", what, p);
}

tug_cu_result cuMemcpyHtoDAsync_v2(tug_cu_ptr dst, const void *src, size_t bytes,
                                   tug_cu_stream s) {
    CALL();
    need_stream("a copy", s);
    need_device("cuMemcpyHtoD", dst);
    need_host("cuMemcpyHtoD", src);
    op o = {};
    o.kind = OP_COPY;
    o.dst = dst;
    o.src = number(src);
    o.bytes = bytes;
    // Pageable memory is read before the call returns, pinned memory whenever the copy runs.
    if (!host_is_pinned(number(src), bytes)) {
        if (s->cap) broken("a copy from pageable memory in a capture");
        const char *from = static_cast<const char *>(src);
        o.staged = std::make_shared<std::vector<char>>(from, from + bytes);
    }
    enqueue(s, std::move(o));
    return TUG_CU_SUCCESS;
}

tug_cu_result cuMemcpyDtoHAsync_v2(void *dst, tug_cu_ptr src, size_t bytes,
                                   tug_cu_stream s) {
    CALL();
    need_stream("a copy", s);
    need_device("cuMemcpyDtoH", src);
    need_host("cuMemcpyDtoH", dst);
    op o = {};
    o.kind = OP_COPY;
    o.dst = number(dst);
    o.src = src;
    o.bytes = bytes;
    const bool pinned = host_is_pinned(number(dst), bytes);
    if (!pinned && s->cap) broken("a copy to pageable memory in a capture");
    enqueue(s, std::move(o));
    // To pageable memory the call returns when the bytes are there.
    return pinned ? TUG_CU_SUCCESS : wait_for(stream_idle, s);
}

tug_cu_result cuMemcpyDtoDAsync_v2(tug_cu_ptr dst, tug_cu_ptr src, size_t bytes,
                                   tug_cu_stream s) {
    CALL();
    need_stream("a copy", s);
    need_device("cuMemcpyDtoD", dst);
    need_device("cuMemcpyDtoD", src);
    op o = {};
    o.kind = OP_COPY;
    o.dst = dst;
    o.src = src;
    o.bytes = bytes;
    enqueue(s, std::move(o));
    return TUG_CU_SUCCESS;
}

tug_cu_result cuMemsetD8Async(tug_cu_ptr dst, unsigned char value, size_t bytes,
                              tug_cu_stream s) {
    CALL();
    need_stream("a fill", s);
    need_device("cuMemsetD8", dst);
    op o = {};
    o.kind = OP_SET;
    o.dst = dst;
    o.value = value;
    o.bytes = bytes;
    enqueue(s, std::move(o));
    return TUG_CU_SUCCESS;
}

// ---- streams, events -------------------------------------------------------------------------

tug_cu_result cuStreamCreate(tug_cu_stream *s, unsigned) {
    CALL();
    *s = stream_create();
    return TUG_CU_SUCCESS;
}

tug_cu_result cuStreamDestroy_v2(tug_cu_stream s) {
    const call c;
    if (!stream_destroy(s)) broken("a stream is destroyed that does not exist");
    return c.failure;
}

tug_cu_result cuStreamSynchronize(tug_cu_stream s) {
    CALL();
    need_stream("a wait", s);
    return wait_for(stream_idle, s);
}

tug_cu_result cuStreamQuery(tug_cu_stream s) {
    CALL();
    need_stream("a query", s);
    // Who asks again and again must get on: the device works by itself.
    if (opt.order == DEFERRED) run_what_can();
    return s->queue.empty() ? TUG_CU_SUCCESS : TUG_CU_NOT_READY;
}

tug_cu_result cuEventCreate(tug_cu_event *e, unsigned flags) {
    CALL();
    *e = new CUevent_st();
    (*e)->timing = !(flags & TUG_CU_EVENT_NO_TIMING);
    events.insert(*e);
    return TUG_CU_SUCCESS;
}

static void need_event(CUevent_st *e) {
    if (!events.count(e)) broken("an event that does not exist");
}

tug_cu_result cuEventDestroy_v2(tug_cu_event e) {
    const call c;
    need_event(e);
    run_until(event_unused, e);
    events.erase(e);
    delete e;
    return c.failure;
}

tug_cu_result cuEventRecord(tug_cu_event e, tug_cu_stream s) {
    CALL();
    need_stream("an event", s);
    need_event(e);
    e->cap = s->cap;
    e->cap_after = s->cap_after;
    if (s->cap) return TUG_CU_SUCCESS;
    op o = {};
    o.kind = OP_RECORD;
    o.event = e;
    o.ticket = ++e->recorded;
    enqueue(s, std::move(o));
    return TUG_CU_SUCCESS;
}

tug_cu_result cuStreamWaitEvent(tug_cu_stream s, tug_cu_event e, unsigned) {
    CALL();
    need_stream("a wait", s);
    need_event(e);
    if (e->cap || s->cap) {
        if (!e->cap || e->cap->ended || (s->cap && s->cap != e->cap))
            return 905; // dependency on another capture
        if (!s->cap) s->cap = e->cap;
        s->cap_after.insert(s->cap_after.end(), e->cap_after.begin(), e->cap_after.end());
        return TUG_CU_SUCCESS;
    }
    op o = {};
    o.kind = OP_WAIT_EVENT;
    o.event = e;
    o.ticket = e->recorded;
    enqueue(s, std::move(o));
    return TUG_CU_SUCCESS;
}

tug_cu_result cuEventQuery(tug_cu_event e) {
    CALL();
    need_event(e);
    return event_done(e) ? TUG_CU_SUCCESS : TUG_CU_NOT_READY;
}

tug_cu_result cuEventSynchronize(tug_cu_event e) {
    CALL();
    need_event(e);
    return wait_for(event_done, e);
}

tug_cu_result cuEventElapsedTime(float *ms, tug_cu_event from, tug_cu_event to) {
    CALL();
    need_event(from);
    need_event(to);
    if (!from->timing || !to->timing) return TUG_CU_INVALID_HANDLE;
    if (!event_done(from) || !event_done(to)) return TUG_CU_NOT_READY;
    *ms = (float)((to->at - from->at) * 1e3);
    return TUG_CU_SUCCESS;
}

static tug_cu_result value_op(op_kind kind, tug_cu_stream s, tug_cu_ptr p,
                              uint32_t value) {
    need_stream("a memory operation", s);
    if (p % 4 || (!in_device_range(p) && !host_is_pinned(p, 4))) {
        broken("a stream memory operation at %#llx", (unsigned long long)p);
    }
    op o = {};
    o.kind = kind;
    o.dst = p;
    o.value = value;
    enqueue(s, std::move(o));
    return TUG_CU_SUCCESS;
}

tug_cu_result cuStreamWaitValue32_v2(tug_cu_stream s, tug_cu_ptr p, uint32_t value,
                                     unsigned flags) {
    CALL();
    if (flags != TUG_CU_WAIT_GEQ) return TUG_CU_INVALID_VALUE;
    return value_op(OP_WAIT_VALUE, s, p, value);
}

tug_cu_result cuStreamWriteValue32_v2(tug_cu_stream s, tug_cu_ptr p, uint32_t value,
                                      unsigned) {
    CALL();
    return value_op(OP_WRITE_VALUE, s, p, value);
}

// ---- graphs ----------------------------------------------------------------------------------

tug_cu_result cuStreamBeginCapture_v2(tug_cu_stream s, int) {
    CALL();
    need_stream("a capture", s);
    if (s->cap) return 901;
    s->cap = std::make_shared<capture>();
    s->cap->g = std::make_shared<graph>();
    s->cap->origin = s;
    s->cap->ended = false;
    s->cap_after.clear();
    return TUG_CU_SUCCESS;
}

tug_cu_result cuStreamEndCapture(tug_cu_stream s, tug_cu_graph *out) {
    const call c;
    need_stream("a capture's end", s);
    *out = nullptr;
    const std::shared_ptr<capture> cap = s->cap;
    if (!cap || cap->origin != s) return c.failure ? c.failure : TUG_CU_INVALID_VALUE;
    // Every node must lie before the last ones of the stream that began.
    std::vector<bool> joined(cap->g->nodes.size());
    std::vector<int> list = s->cap_after;
    while (!list.empty()) {
        const int n = list.back();
        list.pop_back();
        if (joined[(size_t)n]) continue;
        joined[(size_t)n] = true;
        for (int before : cap->g->nodes[(size_t)n].after) list.push_back(before);
    }
    end_capture(cap);
    if (c.failure) return c.failure;
    for (bool j : joined) {
        if (!j) return 904; // a stream that was forked was not joined
    }
    *out = new CUgraph_st{cap->g};
    n_graphs++;
    return TUG_CU_SUCCESS;
}

tug_cu_result cuGraphInstantiateWithFlags(tug_cu_graph_exec *exec, tug_cu_graph g,
                                          unsigned long long) {
    CALL();
    *exec = new CUgraphExec_st{g->g};
    n_graphs++;
    return TUG_CU_SUCCESS;
}

tug_cu_result cuGraphLaunch(tug_cu_graph_exec exec, tug_cu_stream s) {
    CALL();
    need_stream("a graph", s);
    op o = {};
    o.kind = OP_GRAPH;
    o.g = exec->g;
    enqueue(s, std::move(o));
    return TUG_CU_SUCCESS;
}

tug_cu_result cuGraphExecDestroy(tug_cu_graph_exec exec) {
    const call c;
    if (!exec) broken("cuGraphExecDestroy of no graph");
    delete exec;
    n_graphs--;
    return c.failure;
}

tug_cu_result cuGraphDestroy(tug_cu_graph g) {
    const call c;
    delete g;
    n_graphs--;
    return c.failure;
}

// ---- kernels ---------------------------------------------------------------------------------

tug_cu_result cuModuleLoadData(tug_cu_module *module, const void *image) {
    CALL();
    if (!image) return TUG_CU_INVALID_IMAGE;
    *module = new CUmod_st();
    modules.insert(*module);
    return TUG_CU_SUCCESS;
}

tug_cu_result cuModuleUnload(tug_cu_module module) {
    const call c;
    if (!modules.erase(module)) broken("a module is unloaded that does not exist");
    for (CUfunc_st *f : module->functions) delete f;
    delete module;
    return c.failure;
}

tug_cu_result cuModuleGetFunction(tug_cu_function *f, tug_cu_module module,
                                  const char *name) {
    CALL();
    const kernel *k = find_kernel(name);
    if (!k) return TUG_CU_NOT_FOUND;
    *f = new CUfunc_st{k, SHARED_DEFAULT};
    module->functions.push_back(*f);
    return TUG_CU_SUCCESS;
}

tug_cu_result cuFuncSetAttribute(tug_cu_function f, int attribute, int value) {
    CALL();
    if (attribute != TUG_CU_FUNC_MAX_SHARED || value < 0 || value > SHARED_OPTIN) {
        return TUG_CU_INVALID_VALUE;
    }
    f->max_shared = value > SHARED_DEFAULT ? value : SHARED_DEFAULT;
    return TUG_CU_SUCCESS;
}

tug_cu_result cuLaunchKernel(tug_cu_function f, unsigned gx, unsigned gy, unsigned gz,
                             unsigned bx, unsigned by, unsigned bz, unsigned shared_bytes,
                             tug_cu_stream s, void **params, void **extra) {
    CALL();
    need_stream("a launch", s);
    const unsigned long threads = (unsigned long)bx * by * bz;
    if (!gx || !gy || !gz || !threads || threads > 1024 || gy > 65535 || gz > 65535 ||
        gx > 0x7fffffff || bz > 64 || extra) {
        return TUG_CU_INVALID_VALUE;
    }
    if (threads > f->k->max_threads) return TUG_CU_LAUNCH_OUT_OF_RESOURCES;
    if (shared_bytes > (unsigned)f->max_shared) return TUG_CU_INVALID_VALUE;
    op o = {};
    o.kind = OP_LAUNCH;
    o.k = f->k;
    o.grid = {gx, gy, gz};
    o.block = {bx, by, bz};
    o.shared_bytes = shared_bytes;
    const char *args = static_cast<const char *>(params[0]);
    o.args.assign(args, args + f->k->args_bytes);
    enqueue(s, std::move(o));
    return TUG_CU_SUCCESS;
}

namespace emu {

static const kernel *kernels;

kernel::kernel(const char *name_, size_t args_bytes_, unsigned max_threads_,
               void (*body_)(const void *))
    : name(name_), args_bytes(args_bytes_), max_threads(max_threads_), body(body_),
      next(kernels) {
    kernels = this;
}

const kernel *all_kernels() {
    return kernels;
}

const kernel *find_kernel(const char *name) {
    for (const kernel *k = kernels; k; k = k->next) {
        if (strcmp(k->name, name) == 0) return k;
    }
    return nullptr;
}

} // namespace emu
