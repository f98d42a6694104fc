/* nvml.h - what NVIDIA's management library tells of a GPU: power, clocks, the PCIe link, who
 * uses its memory.
 *
 * The library comes with the driver and is loaded at run time.  Nothing depends on it: where it
 * is missing or does not answer, a number is "not told" (0, or NOT_TOLD where 0 can be a value).
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CUDA_NVML_H
#define TUG_CUDA_NVML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define TUG_NVML_NOT_TOLD (-1.0)

typedef struct tug_nvml tug_nvml;

/* What does not change. */
typedef struct tug_nvml_facts {
    int bus_bits, memory_mhz, sm_mhz; /* width of the memory's bus, highest clocks */
    int max_gen, max_width;           /* of PCIe: card and slot together */
    double watts_limit;
} tug_nvml_facts;

/* The moment.  An idle GPU lets its link and clocks down: read while it works. */
typedef struct tug_nvml_now {
    int gen, width;         /* of PCIe */
    int sm_mhz, memory_mhz; /* clocks */
    double watts;
    double joules; /* since the driver was loaded */
    double busy;   /* share of the last moments in which a kernel ran; NOT_TOLD */
    double others; /* bytes of its memory that other processes have; NOT_TOLD */
} tug_nvml_now;

/* pci: as tug_device_info.pci.  TUG_EUNSUPPORTED, with the reason in a sentence that begins
 * with "power and PCIe link are not known". */
TUG_NODISCARD tug_status tug_nvml_open(tug_nvml **out, const char *pci, tug_err *err);
void tug_nvml_close(tug_nvml **n);

void tug_nvml_get_facts(const tug_nvml *n, tug_nvml_facts *out);
void tug_nvml_get_now(const tug_nvml *n, tug_nvml_now *out);

/* A link with fewer lanes, or slower ones, than card and slot could have: a sentence without
 * its full stop, and true. */
bool tug_nvml_link_warning(const tug_nvml_facts *f, const tug_nvml_now *now, char *text,
                           size_t cap);

#endif
