/* plan_machine.h - the machine to plan for: this one, or one described in words.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_PLAN_PLAN_MACHINE_H
#define TUG_PLAN_PLAN_MACHINE_H

#include "base/cpu.h"
#include "plan/plan.h"

/* This machine: RAM as it is, speeds assumed from the processor (m->assumed) until
 * plan_probe.h measures them.  `total`, `available`: of src/memory/meminfo.h. */
void tug_plan_machine_here(tug_plan_machine *m, uint64_t total, uint64_t available);

/* A GPU of this machine: what its driver tells; 0: not told. */
typedef struct tug_plan_gpu_here {
    const char *name; /* "NVIDIA GeForce RTX 5060 Ti" */
    int n_sm, sm_mhz;
    int bus_bits, memory_mhz;
    int pcie_gen, pcie_lanes; /* as the link can run in this slot */
    uint64_t vram_total, vram_available;
} tug_plan_gpu_here;

/* Adds it, with the speeds of the table when it is there, else with those that follow from
 * its clocks; what remains is assumed. */
void tug_plan_machine_gpu(tug_plan_machine *m, const tug_plan_gpu_here *gpu);

/* "rtx5060ti,ddr5-6000,32G,pcie4x8,nvme4,7700x", and numbers: "ram-bw=60,disk=1.2".
 * docs/PLAN.md has the words.  `here` as the first word begins with this machine as it is
 * in *m; without it everything in *m is replaced. */
TUG_NODISCARD tug_status tug_plan_machine_parse(tug_plan_machine *m, const char *text,
                                                tug_err *err);

/* ---- the table of parts (plan_hardware.c) ------------------------------------------ */

typedef struct tug_plan_gpu {
    const char *name;
    int vram_mib;
    double vram_gb_s, tflops; /* f32, as rated */
    int pcie_gen, pcie_lanes, watts;
} tug_plan_gpu;

typedef struct tug_plan_cpu {
    const char *name;
    int n_cores;      /* fast ones */
    double ghz;       /* all cores at work */
    double most_gb_s; /* of RAM that the cores can read; 0: all of it */
    tug_cpu_level level;
    int watts;
} tug_plan_cpu;

typedef struct tug_plan_disk {
    const char *name;
    double gb_s, latency_ms; /* 1.5 MB reads, 8 at a time */
} tug_plan_disk;

typedef struct tug_plan_memory {
    const char *name; /* followed by "-6000" */
    int least, most;  /* MT/s */
} tug_plan_memory;

/* Row i, NULL after the last. */
const tug_plan_gpu *tug_plan_gpu_at(int i);
const tug_plan_cpu *tug_plan_cpu_at(int i);
const tug_plan_disk *tug_plan_disk_at(int i);
const tug_plan_memory *tug_plan_memory_at(int i);

/* What parts mean for a machine. */
void tug_plan_use_gpu(tug_plan_machine *m, const tug_plan_gpu *gpu);
void tug_plan_use_cpu(tug_plan_machine *m, const tug_plan_cpu *cpu);
void tug_plan_use_disk(tug_plan_machine *m, const tug_plan_disk *disk);

/* Bytes a second to the GPU over so many lanes of a generation (1 to 6). */
double tug_plan_pcie_bytes_s(int gen, int lanes);

#endif
