/* inspect.h - the pieces of `tug inspect`: sums over the tensors, and two ways to write.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_INSPECT_H
#define TUG_CLI_INSPECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "gguf/gguf.h"

/* What a tensor does in the model, judged by its name. */
typedef enum inspect_component {
    INSPECT_EMBEDDING,
    INSPECT_HEAD,
    INSPECT_ATTENTION,
    INSPECT_DELTANET,
    INSPECT_ROUTER,
    INSPECT_EXPERTS,
    INSPECT_SHARED_EXPERT,
    INSPECT_DENSE_FFN,
    INSPECT_NORMS,
    INSPECT_OTHER,
    INSPECT_COMPONENTS
} inspect_component;

const char *inspect_component_name(inspect_component c);

typedef struct inspect_sum {
    uint64_t n_tensors, n_values, n_bytes;
} inspect_sum;

typedef struct inspect_sums {
    inspect_sum all;
    inspect_sum by_type[TUG_TYPE_COUNT];
    inspect_sum by_component[INSPECT_COMPONENTS];
} inspect_sums;

void inspect_add_up(const tug_gguf *g, inspect_sums *sums);

uint64_t inspect_n_values(const tug_gguf_tensor *t);

/* "u32", "string", "array", ... */
const char *inspect_vtype_name(tug_gguf_vtype type);

/* What is asked for; both are true without a flag. */
typedef struct inspect_parts {
    bool metadata, tensors;
} inspect_parts;

/* Append to *out, whose failures are sticky. */
void inspect_text(const tug_gguf *g, inspect_parts parts, tug_buf *out);
void inspect_json(const tug_gguf *g, inspect_parts parts, tug_buf *out);

#endif
