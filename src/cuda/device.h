/* device.h - one GPU: memory under a ceiling, three streams, launches.
 *
 * FAILURES  What is set up (open, memory, events) returns a status.  What is enqueued
 * (launches, copies, waits of streams) returns nothing: the first failure is kept, nothing
 * is enqueued after it, and every tug_device_wait and tug_device_status from then on reports
 * it.  So a forward pass is written without looking, and asked once at its end.  A device
 * that failed stays failed: close it.  Only what fails while a graph is captured harms
 * nothing but that graph.
 *
 * THREADS  One at a time; not always the same one.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CUDA_DEVICE_H
#define TUG_CUDA_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct tug_device tug_device;
typedef struct tug_device_event tug_device_event;
typedef struct tug_device_graph tug_device_graph;

typedef struct tug_device_info {
    int index;
    char name[64];
    char pci[24]; /* "00000000:01:00.0", as nvidia-smi names it */
    int cc;       /* compute capability: 86 is 8.6 */
    int n_sm;
    int driver;      /* 13010: for CUDA 13.1 */
    uint64_t total;  /* bytes of VRAM */
    uint64_t budget; /* bytes that tug_device_alloc gives out at most, all together */
    bool waits_for_words; /* see tug_device_after_word */
} tug_device_info;

/* What runs in one stream runs in order; they run beside each other: PCIe has two ways. */
typedef enum tug_device_stream {
    TUG_STREAM_COMPUTE = 0,
    TUG_STREAM_COPY, /* to the device */
    TUG_STREAM_BACK  /* from it */
} tug_device_stream;
enum { TUG_DEVICE_STREAMS = 3 };

/* GPU `index` of this machine.  ceiling: bytes that may be allocated, 0: what is free but for
 * a margin; the driver's own context comes on top (some hundred MB).  TUG_EUNSUPPORTED: no
 * driver, no GPU of that number, one that is too old, or a tug without kernels; TUG_EDEVICE:
 * the driver failed. */
TUG_NODISCARD tug_status tug_device_open(tug_device **out, int index, uint64_t ceiling,
                                         tug_err *err);
/* Waits for what runs.  All memory and events must be gone. */
void tug_device_close(tug_device **d);

const tug_device_info *tug_device_get_info(const tug_device *d);
uint64_t tug_device_used(const tug_device *d); /* of the budget */

/* Since it was opened. */
typedef struct tug_device_counters {
    uint64_t in_bytes, out_bytes; /* copied from and to the host; graphs as they run */
    uint64_t launches;
    uint64_t peak_used; /* the most of the budget */
} tug_device_counters;
const tug_device_counters *tug_device_get_counters(const tug_device *d);

/* ---- memory ------------------------------------------------------------------------------ */

/* Device memory, 256-byte aligned, not cleared, for `what` (a sentence's object: "the KV
 * cache").  An address of the device: the host must not touch it.  TUG_ENOMEM: above the
 * budget, or the driver has none. */
TUG_NODISCARD tug_status tug_device_alloc(tug_device *d, void **out, size_t bytes,
                                          const char *what, tug_err *err);
void tug_device_free(tug_device *d, void *p, size_t bytes);

/* Host memory that the device copies from and to beside everything. */
TUG_NODISCARD tug_status tug_device_alloc_pinned(tug_device *d, void **out, size_t bytes,
                                                 const char *what, tug_err *err);
void tug_device_free_pinned(tug_device *d, void *p);

/* The address at which the device reads and writes pinned memory where it lies; NULL after a
 * failure. */
void *tug_device_address_of(tug_device *d, void *pinned);

/* Host memory of the caller's becomes such memory, until unpin.  false: it stays as it was,
 * for a reason that matters to nobody (the system has its limits). */
bool tug_device_pin(tug_device *d, void *p, size_t bytes);
void tug_device_unpin(tug_device *d, void *p);

/* ---- enqueued ------------------------------------------------------------------------------ */

/* Kernel `name`, a constant string that stays, with a copy of its one argument. */
void tug_device_launch(tug_device *d, const char *name, const uint32_t grid[3],
                       uint32_t block, uint32_t shared_bytes, const void *args);
/* From pageable memory the bytes are taken before this returns; pinned memory must stay
 * as it is until the copy has run. */
void tug_device_copy_in(tug_device *d, tug_device_stream s, void *dst, const void *src,
                        size_t bytes);
/* Counts what a kernel reads from and writes to pinned memory. */
void tug_device_count(tug_device *d, size_t in_bytes, size_t out_bytes);
/* dst may be read after a wait. */
void tug_device_copy_out(tug_device *d, tug_device_stream s, void *dst, const void *src,
                         size_t bytes);
void tug_device_copy(tug_device *d, tug_device_stream s, void *dst, const void *src,
                     size_t bytes);
void tug_device_clear(tug_device *d, tug_device_stream s, void *dst, size_t bytes);

/* ---- order and the end ----------------------------------------------------------------------- */

TUG_NODISCARD tug_status tug_device_event_create(tug_device *d, tug_device_event **out,
                                                 tug_err *err);
void tug_device_event_destroy(tug_device *d, tug_device_event **e);
/* The event happens when what is in the stream now has run. */
void tug_device_record(tug_device *d, tug_device_event *e, tug_device_stream s);
/* What comes into the stream from now on runs after the event. */
void tug_device_after(tug_device *d, tug_device_stream s, tug_device_event *e);
/* ... once the word of pinned memory whose device address this is has come to `value`:
 * (int32_t)(*word - value) >= 0.  Whoever enqueues this must get it there whatever happens, or
 * the stream never ends.  If info->waits_for_words. */
void tug_device_after_word(tug_device *d, tug_device_stream s, const void *word,
                           uint32_t value);

/* Has it happened?  Does not wait; false after a failure. */
bool tug_device_happened(tug_device *d, tug_device_event *e);

/* The host waits for the event, for all of the stream. */
TUG_NODISCARD tug_status tug_device_wait_event(tug_device *d, tug_device_event *e,
                                               tug_err *err);
TUG_NODISCARD tug_status tug_device_wait(tug_device *d, tug_device_stream s,
                                         tug_err *err);

/* Has all of the stream run?  Does not wait. */
TUG_NODISCARD tug_status tug_device_poll(tug_device *d, tug_device_stream s, bool *done,
                                         tug_err *err);

/* The failure that is kept, or TUG_OK; does not wait. */
TUG_NODISCARD tug_status tug_device_status(const tug_device *d, tug_err *err);

/* ---- graphs ---------------------------------------------------------------------------------- */

/* Between the two, what is enqueued in the compute stream becomes a graph and does not run:
 * launches, copies to and from pinned memory, words.  Kernels must have run before, so that
 * they are loaded.  A failure in between is the graph's alone, and end reports it. */
void tug_device_capture(tug_device *d);
TUG_NODISCARD tug_status tug_device_end_capture(tug_device *d, tug_device_graph **out,
                                                tug_err *err);
/* All of it, in the compute stream. */
void tug_device_launch_graph(tug_device *d, tug_device_graph *g);
void tug_device_graph_destroy(tug_device *d, tug_device_graph **g);

#endif
