/* backend_cuda_carrier.h - what experts move with: between the host and slots in VRAM, and for
 * one batch only.  A part of backend_cuda_impl.h.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BACKEND_BACKEND_CUDA_CARRIER_H
#define TUG_BACKEND_BACKEND_CUDA_CARRIER_H

#include "backend/backend_cuda.h"
#include "kernels/cuda/args.h"

enum {
    TUG_CUDA_MATRICES = 3, /* gate, up, down */
    TUG_CUDA_HALVES = 2    /* of what is on its way: one is filled while one is used */
};

/* One expert on its way into a slot, and who loses it. */
typedef struct tug_cuda_seat {
    tug_cuda_experts *to;
    int expert, slot, loser;
    bool held;  /* by its source: the copy engine reads it where it lies */
    bool trade; /* its place there is for the loser, which is on its way back */
} tug_cuda_seat;

/* An expert and its tokens of a batch. */
typedef struct tug_cuda_load {
    int32_t expert, tokens;
} tug_cuda_load;

typedef struct tug_cuda_span {
    uint8_t *p;
    size_t bytes;
} tug_cuda_span;

/* Room on the device for experts as the host has them, and what brings them there. */
typedef struct tug_cuda_carrier {
    int n;         /* experts of a half; 0: there is no room, nothing moves */
    size_t stride; /* bytes of an expert of the layer with the largest */
    uint8_t *raw[TUG_CUDA_HALVES];    /* owned, device, (n, stride): as on the host */
    uint8_t *made;                    /* owned, device, (n, stride): as in the file */
    uint8_t *pinned[TUG_CUDA_HALVES]; /* owned, host, (TUG_CUDA_COPIED, stride) */
    tug_device_event *arrived[TUG_CUDA_HALVES];  /* owned: raw is filled */
    tug_device_event *used[TUG_CUDA_HALVES];     /* owned: raw may be filled again, or
                                                   holds losers that may set out */
    tug_device_event *returned[TUG_CUDA_HALVES]; /* owned: losers are on the host */
    /* Host memory that the copy engine reads by itself. */
    tug_cuda_span *spans; /* owned, (n_spans,) by address */
    int n_spans, spans_cap;
    tug_cuda_seat seat[TUG_CUDA_HALVES][TUG_CUDA_CARRIED];
    int n_seat[TUG_CUDA_HALVES]; /* > 0: that half is on its way into slots, */
    bool
        landed[TUG_CUDA_HALVES]; /* or has come there, and losers are on their way back */
    /* Of the layer that runs, with many tokens: */
    uint64_t *tables; /* owned, device, (4, n_expert): of gates, ups and downs in `made`;
                            of whose pairs are computed here */
    tug_cuda_load *load; /* owned, (TUG_CUDA_MAX_EXPERTS,): carried ones first */
    uint8_t *elsewhere;  /* owned, (TUG_CUDA_MAX_EXPERTS,) */
} tug_cuda_carrier;

/* Experts of a half that come from memory that is not pinned: the calling thread copies
 * their bytes, 0.2 ms each, while nothing waits for it. */
#define TUG_CUDA_COPIED 2

/* A chunk that crosses, of experts that their source must not move meanwhile. */
typedef struct tug_cuda_flight {
    int32_t at[TUG_CUDA_CARRIED]; /* (n,): positions in the step */
    int n;
    tug_device_event *gone; /* owned: the copies have run */
} tug_cuda_flight;
enum { TUG_CUDA_FLIGHTS = 8 }; /* at a time: 7 ms of PCIe 5 x8, and queues stay short */

/* One step of a source, in which some experts are the CPU's and others cross. */
typedef struct tug_cuda_crossing {
    struct tug_cuda_moe_job *job;
    const tug_expert_source *from;
    tug_expert_source source; /* what the CPU sees */
    int n, n_named;           /* experts of the step; named by `from` */
    int n_ready, n_given;     /* of the CPU's: named; given to it */
    int n_waiting, n_sent;    /* of those that cross: named; in a chunk */
    int first, n_flight;      /* of the ring */
    tug_cuda_flight flight[TUG_CUDA_FLIGHTS];
    int32_t tokens[TUG_CUDA_MAX_EXPERTS]; /* of each expert that crosses */
    /* By position in the step: */
    int32_t experts[TUG_CUDA_MAX_EXPERTS], counts[TUG_CUDA_MAX_EXPERTS];
    int32_t cpu[TUG_CUDA_MAX_EXPERTS];  /* position among the CPU's, -1: crosses */
    int32_t step[TUG_CUDA_MAX_EXPERTS]; /* the other way round */
    int32_t named[TUG_CUDA_MAX_EXPERTS], ready[TUG_CUDA_MAX_EXPERTS],
        waiting[TUG_CUDA_MAX_EXPERTS];
} tug_cuda_crossing;

#endif
