// emu.h - between the parts of the emulated CUDA driver: kernels, threads of a block, memory.
//
// shim.h (what a .cu file sees) stands on this; so do the driver's entry points.  Blocks run
// one after another on the host thread that made the driver call; the threads of a block are
// fibers.  docs/CUDA.md says what is checked.  SPDX-License-Identifier: MIT
#ifndef TUG_TESTS_CUDA_EMU_EMU_H
#define TUG_TESTS_CUDA_EMU_EMU_H

#include <cstddef>
#include <cstdint>

namespace emu {

struct dim {
    unsigned x, y, z;
};

// ---- kernels: one static object per TUG_KERNEL adds itself to a list ----------------------

struct kernel {
    const char *name;
    size_t args_bytes;
    unsigned max_threads; // of a block, as __launch_bounds__
    void (*body)(const void *args);
    const kernel *next;
    // What of static_shared() it writes, as far as it was looked at (fiber.cc).
    mutable size_t shared_from = 0, shared_to = 0;
    mutable unsigned long looked = 0;
    kernel(const char *name, size_t args_bytes, unsigned max_threads,
           void (*body)(const void *));
};
const kernel *find_kernel(const char *name);
const kernel *all_kernels();

// ---- a launch (fiber.cc) -------------------------------------------------------------------

struct launch {
    const kernel *k;
    dim grid, block;
    unsigned shared_bytes;
    const void *args;
    bool reversed; // warps and lanes from the last to the first
};
void run(const launch &l);

// Where the running lane is.
extern dim thread_idx, block_idx, block_dim, grid_dim;
unsigned lane_id();
unsigned thread_number(); // in its block
unsigned warp_epoch();    // counts __syncwarp of the lane's warp
bool in_kernel();
void *dynamic_shared();

// All threads of the block.
void barrier();
bool is_argument(uintptr_t address); // in the launch's copy of the arguments

// All lanes of `mask` come here with the same `what`; the last one computes for all:
// args[i] is what lane i brought, NULL outside of the mask.
typedef void compute_fn(void *const args[32], unsigned mask);
void collective(const char *what, unsigned mask, void *args, compute_fn *compute,
                bool orders_memory = false);

// cp.async of this lane: the destination holds poison until wait.
void copy_async(void *dst, const void *src, size_t bytes, size_t src_bytes);
void copy_commit();
void copy_wait(unsigned groups_left);

// A broken rule: says which kernel, block and thread, and ends the process.
[[noreturn]] void broken(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- memory (memory.cc) --------------------------------------------------------------------

struct allocation {
    uintptr_t at;
    size_t bytes;    // as asked for
    uintptr_t pages; // first page; a guard page lies before and behind
    size_t page_bytes;
    bool open; // readable now
};

// Driver calls nest these: device memory can be touched in between only.
void open_device_memory();
void close_device_memory();

// 0: no room.  Filled with poison.
uintptr_t device_alloc(size_t bytes, size_t limit);
bool device_free(uintptr_t at);
size_t device_used();
const allocation *device_find(uintptr_t address); // NULL: in none
size_t device_live();                             // allocations
bool in_device_range(uintptr_t address);          // even if in no allocation

void *host_alloc(size_t bytes);
bool host_free(void *p);
bool host_register(void *p, size_t bytes);
bool host_unregister(void *p);
bool host_is_pinned(uintptr_t address, size_t bytes);
size_t host_live();

// Static __shared__ variables of all kernels: this thread's TLS segment of the library.
struct span {
    uintptr_t at;
    size_t bytes;
};
span static_shared();
span dynamic_shared_pages(); // where dynamic shared memory lies in every launch

enum { POISON = 0xff }; // floats are NaN, integers -1

// ---- races and uninitialised reads (race.cc; does nothing unless built for it) -------------

enum access { READ = 0, WRITE = 1, ATOMIC = 2 };
void note(const void *p, size_t bytes, access a);
void note_range(uintptr_t at, size_t bytes);  // all device memory there will be
void note_launch();                           // a new launch
void note_epoch(bool new_block);              // a barrier, or a block begins
void note_fresh(uintptr_t at, size_t bytes);  // never written
void note_filled(uintptr_t at, size_t bytes); // written from outside of a kernel
void note_stacks(uintptr_t at, size_t bytes); // where fibers live: not looked at
extern const bool race_build;

} // namespace emu

#endif
