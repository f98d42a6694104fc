/* fuzz_gguf.c - any bytes as a GGUF file.  A breach of the reader's contract aborts, and
 * an abort is a finding (support/gguf_probe.h).  SPDX-License-Identifier: MIT */
#include <stddef.h>
#include <stdint.h>

#include "support/gguf_probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size <= GGUF_PROBE_MAX) (void)gguf_probe(data, size, NULL);
    return 0;
}
