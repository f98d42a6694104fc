// queue.cc - runs what is queued, in the order of the schedule.  SPDX-License-Identifier: MIT
#include "cuda_emu/queue.h"

#include <cstring>
#include <ctime>
#include <map>
#include <string>

namespace emu {

options opt;
std::recursive_mutex lock;

namespace {

std::vector<CUstream_st *> streams;
std::map<std::string, unsigned long> launch_count;
unsigned long launch_total;

uint64_t rnd() {
    opt.seed ^= opt.seed << 13;
    opt.seed ^= opt.seed >> 7;
    opt.seed ^= opt.seed << 17;
    return opt.seed;
}

// Every byte of device memory in one allocation, host memory as it is.
void check_span(const char *what, uintptr_t at, size_t bytes) {
    if (!in_device_range(at)) return;
    const allocation *a = device_find(at);
    if (!a || bytes > a->bytes - (at - a->at)) {
        broken("%s of %zu bytes at %#zx: not inside of an allocation", what, bytes, at);
    }
}

void run_launch(const op &o) {
    launch_total++;
    launch_count[o.k->name]++;
    run({o.k, o.grid, o.block, o.shared_bytes, o.args.data(), opt.reversed});
}

void run_copy(const op &o) {
    const void *src = o.staged ? o.staged->data() : reinterpret_cast<void *>(o.src);
    if (!o.staged) check_span("a copy from", o.src, o.bytes);
    check_span("a copy to", o.dst, o.bytes);
    memmove(reinterpret_cast<void *>(o.dst), src, o.bytes);
    note_filled(o.dst, o.bytes);
}

volatile uint32_t *word(const op &o) {
    return reinterpret_cast<volatile uint32_t *>(o.dst);
}

// True when the operation is complete.
bool run_op(op *o);

bool run_graph(op *o) {
    const graph &g = *o->g;
    o->done.resize(g.nodes.size());
    std::vector<size_t> ready;
    bool all = true;
    for (size_t i = 0; i < g.nodes.size(); i++) {
        if (o->done[i]) continue;
        all = false;
        bool can = true;
        for (int before : g.nodes[i].after) can = can && o->done[(size_t)before];
        if (can) ready.push_back(i);
    }
    if (all) return true;
    const size_t first = opt.order == RANDOM ? rnd() % ready.size() : 0;
    for (size_t i = 0; i < ready.size(); i++) {
        const size_t n = ready[(first + i) % ready.size()];
        op what = g.nodes[n].what;
        if (run_op(&what)) {
            o->done[n] = true;
            o->ticket++; // progress, for the caller
            return false;
        }
    }
    return false;
}

bool run_op(op *o) {
    switch (o->kind) {
    case OP_LAUNCH: run_launch(*o); return true;
    case OP_COPY: run_copy(*o); return true;
    case OP_SET:
        check_span("a fill", o->dst, o->bytes);
        memset(reinterpret_cast<void *>(o->dst), (int)o->value, o->bytes);
        note_filled(o->dst, o->bytes);
        return true;
    case OP_RECORD:
        o->event->done = o->ticket;
        o->event->at = seconds();
        return true;
    case OP_WAIT_EVENT: return o->event->done >= o->ticket;
    case OP_WAIT_VALUE:
        return (int32_t)(__atomic_load_n(word(*o), __ATOMIC_ACQUIRE) - o->value) >= 0;
    case OP_WRITE_VALUE:
        __atomic_store_n(word(*o), o->value, __ATOMIC_RELEASE);
        note_filled(o->dst, 4);
        return true;
    case OP_GRAPH: return run_graph(o);
    }
    return true;
}

// One step of one stream; true when something happened.
bool step(CUstream_st *s) {
    if (s->queue.empty()) return false;
    op *o = &s->queue.front();
    const unsigned long before = o->ticket;
    if (run_op(o)) {
        s->queue.pop_front();
        return true;
    }
    return o->kind == OP_GRAPH && o->ticket != before;
}

bool step_any() {
    const size_t n = streams.size(), first = opt.order == RANDOM && n ? rnd() % n : 0;
    for (size_t i = 0; i < n; i++) {
        if (step(streams[(first + i) % n])) return true;
    }
    return false;
}

} // namespace

double seconds() {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

CUstream_st *stream_create() {
    streams.push_back(new CUstream_st());
    return streams.back();
}

bool stream_exists(CUstream_st *s) {
    for (CUstream_st *t : streams) {
        if (t == s) return true;
    }
    return false;
}

bool stream_destroy(CUstream_st *s) {
    for (size_t i = 0; i < streams.size(); i++) {
        if (streams[i] != s) continue;
        run_until([](void *ud) { return static_cast<CUstream_st *>(ud)->queue.empty(); },
                  s);
        streams.erase(streams.begin() + (long)i);
        delete s;
        return true;
    }
    return false;
}

bool event_unused(void *event) {
    for (const CUstream_st *s : streams) {
        for (const op &o : s->queue) {
            if (o.event == event) return false;
        }
    }
    return true;
}

size_t stream_count() {
    return streams.size();
}

bool all_idle(void *) {
    for (const CUstream_st *s : streams) {
        if (!s->queue.empty()) return false;
    }
    return true;
}

void drop_all() {
    for (CUstream_st *s : streams) {
        for (const op &o : s->queue) {
            if (o.kind == OP_RECORD) o.event->done = o.ticket;
        }
        s->queue.clear();
    }
}

void end_capture(const std::shared_ptr<capture> &cap) {
    cap->ended = true;
    for (CUstream_st *s : streams) {
        if (s->cap != cap) continue;
        s->cap = nullptr;
        s->cap_after.clear();
    }
}

void enqueue(CUstream_st *s, op o) {
    if (s->cap) {
        std::vector<node> &nodes = s->cap->g->nodes;
        nodes.push_back({std::move(o), s->cap_after});
        s->cap_after = {(int)nodes.size() - 1};
        return;
    }
    s->queue.push_back(std::move(o));
    let_run();
}

void run_what_can() {
    while (step_any()) {
    }
}

void let_run() {
    if (opt.order == IMMEDIATE) {
        run_what_can();
    } else if (opt.order == RANDOM) {
        // Mostly nothing, so that work piles up and its order is open.
        for (uint64_t n = rnd() % 4 ? 0 : 1 + rnd() % 4; n > 0 && step_any(); n--) {
        }
    }
}

bool run_until(bool (*until)(void *), void *ud) {
    double since = 0;
    while (!until(ud)) {
        if (step_any()) {
            since = 0;
            continue;
        }
        // A stream waits for a value that another thread of the host may write.
        const double now = seconds();
        if (since == 0) since = now;
        if (now - since > opt.watchdog) return false;
        const struct timespec nap = {0, 20000};
        lock.unlock();
        nanosleep(&nap, nullptr);
        lock.lock();
    }
    return true;
}

unsigned long launches(const char *name) {
    return name ? launch_count[name] : launch_total;
}

} // namespace emu
