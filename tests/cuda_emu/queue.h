// queue.h - streams, events and graphs of the emulated driver.
//
// Every call appends an operation to its stream's queue; when it runs is the schedule's
// choice, as on a device.  All of it runs on the thread that is in a driver call.
// SPDX-License-Identifier: MIT
#ifndef TUG_TESTS_CUDA_EMU_QUEUE_H
#define TUG_TESTS_CUDA_EMU_QUEUE_H

#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda/driver.h"
#include "cuda_emu/emu.h"

namespace emu {

enum op_kind {
    OP_LAUNCH,
    OP_COPY,
    OP_SET,
    OP_RECORD,
    OP_WAIT_EVENT,
    OP_WAIT_VALUE,
    OP_WRITE_VALUE,
    OP_GRAPH
};

struct graph;

struct op {
    op_kind kind;
    // launch
    const kernel *k = nullptr;
    dim grid = {}, block = {};
    unsigned shared_bytes = 0;
    std::vector<char> args;
    // copy, set
    uintptr_t dst = 0, src = 0;
    size_t bytes = 0;
    std::shared_ptr<std::vector<char>> staged; // of a copy from pageable memory
    unsigned value = 0; // also of the stream memory operations, at dst
    // events
    CUevent_st *event = nullptr;
    unsigned long ticket = 0; // of the recording it belongs to
    // graph
    std::shared_ptr<const graph> g;
    std::vector<bool> done; // nodes of this launch
};

struct node {
    op what;
    std::vector<int> after;
};
struct graph {
    std::vector<node> nodes;
};

struct capture {
    std::shared_ptr<graph> g;
    CUstream_st *origin;
    bool ended;
};

} // namespace emu

struct CUstream_st {
    std::deque<emu::op> queue;
    std::shared_ptr<emu::capture> cap; // while capturing
    std::vector<int> cap_after;        // nodes that the next one comes after
};
struct CUevent_st {
    unsigned long recorded = 0, done = 0; // tickets
    double at = 0;                        // seconds
    bool timing = true;
    std::shared_ptr<emu::capture> cap; // when recorded last in a capture
    std::vector<int> cap_after;
};
struct CUgraph_st {
    std::shared_ptr<emu::graph> g;
};
struct CUgraphExec_st {
    std::shared_ptr<const emu::graph> g;
};

namespace emu {

enum schedule { IMMEDIATE, DEFERRED, RANDOM };
struct options {
    int devices = 1, cc = 86, driver = 13000;
    size_t vram = (size_t)16 << 30, others = 0;
    schedule order = IMMEDIATE;
    uint64_t seed = 1;
    bool reversed = false, memops = true;
    double watchdog = 20;
};
extern options opt;
extern std::recursive_mutex lock; // held in every driver call

CUstream_st *stream_create();
bool stream_destroy(CUstream_st *s); // what is queued runs first
bool stream_exists(CUstream_st *s);
size_t stream_count();
void drop_all();           // what is queued never runs: the device failed
bool all_idle(void *);     // nothing is queued anywhere
bool event_unused(void *); // not recorded by what is queued, and nobody waits for it
void end_capture(const std::shared_ptr<capture> &cap); // no stream is part of it any more
void enqueue(CUstream_st *s, op o);                    // or into the capture
void let_run();      // what the schedule allows at a driver call
void run_what_can(); // whatever the schedule says
// Runs until `until` says so; true.  False: nothing can go on and the watchdog is over.
bool run_until(bool (*until)(void *), void *ud);
unsigned long launches(const char *name);
double seconds();

} // namespace emu

#endif
