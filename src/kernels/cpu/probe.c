/* probe.c - chooses the probes for a CPU level.  SPDX-License-Identifier: MIT */
#include "kernels/cpu/probe.h"

tug_probe_kernels tug_probe_kernels_of(tug_cpu_level level) {
#if defined(__x86_64__)
    if (level >= TUG_CPU_AVX512) {
        return (tug_probe_kernels){tug_peak_int8_avx512, tug_peak_f32_avx512,
                                   tug_read_avx512};
    }
    if (level >= TUG_CPU_AVX2) {
        return (tug_probe_kernels){tug_peak_int8_avx2, tug_peak_f32_avx2, tug_read_avx2};
    }
#else
    (void)level;
#endif
    return (tug_probe_kernels){tug_peak_f32_ref, tug_peak_f32_ref, tug_read_ref};
}
