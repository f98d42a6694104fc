/* gguf.h - read GGUF files (versions 2 and 3, little endian, split or whole).
 *
 * The reader maps the file(s) read-only, checks everything once at open (every length,
 * offset, type and name; every tensor lies inside its file, none overlap) and then hands
 * out borrowed views.  It holds no opinion about models: which keys and tensors must be
 * there is src/model's business.
 *
 * OWNERSHIP  everything a getter returns is borrowed from the tug_gguf and dies with it.
 * HOSTILE    any bytes whatsoever give TUG_OK or one sentence; memory used while parsing
 *            stays below the file's size plus 1 MiB.
 * Layout of the format: docs/MODEL.md, section GGUF.  SPDX-License-Identifier: MIT */
#ifndef TUG_GGUF_GGUF_H
#define TUG_GGUF_GGUF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"
#include "quant/types.h"

typedef struct tug_gguf tug_gguf;

/* Value types as numbered by the format. */
typedef enum tug_gguf_vtype {
    TUG_GGUF_U8 = 0,
    TUG_GGUF_I8 = 1,
    TUG_GGUF_U16 = 2,
    TUG_GGUF_I16 = 3,
    TUG_GGUF_U32 = 4,
    TUG_GGUF_I32 = 5,
    TUG_GGUF_F32 = 6,
    TUG_GGUF_BOOL = 7,
    TUG_GGUF_STRING = 8,
    TUG_GGUF_ARRAY = 9,
    TUG_GGUF_U64 = 10,
    TUG_GGUF_I64 = 11,
    TUG_GGUF_F64 = 12,
    TUG_GGUF_VTYPE_COUNT = 13
} tug_gguf_vtype;

/* One metadata entry.  Integers of every width are widened: unsigned into u, signed into
 * i; both float widths into f. */
typedef struct tug_gguf_kv {
    tug_str key;
    tug_gguf_vtype type;
    union {
        uint64_t u;
        int64_t i;
        double f;
        bool b;
    } v;
    tug_str s; /* type STRING */
    /* type ARRAY: n elements of elem_type; raw little-endian bytes as in the file
     * (strings: u64 length + bytes, back to back). Arrays of arrays are refused. */
    tug_gguf_vtype elem_type;
    uint64_t n;
    tug_str raw;
} tug_gguf_kv;

typedef struct tug_gguf_tensor {
    tug_str name;
    tug_type type; /* one the format defines; tug_type_get()->can_decode may be false */
    int n_dims;    /* 1..4 */
    int64_t ne[4]; /* ne[0] contiguous; unused dimensions are 1; all >= 1 */
    uint64_t n_bytes;     /* size of the data */
    int part;             /* which file of a split set, 0-based */
    uint64_t file_offset; /* of the data inside that file */
    const uint8_t *data;  /* mapped, read-only, (n_bytes,) */
} tug_gguf_tensor;

/* Opens `path`; for the first part of a split set (name-00001-of-0000N.gguf) also all the
 * others, found beside it.  Any later part given as `path` is refused with the name of
 * the first. */
TUG_NODISCARD tug_status tug_gguf_open(tug_gguf **out, const char *path, tug_err *err);

/* The same over memory that the caller keeps (one part, not split); `name` stands for the
 * path in sentences.  Tensor data is as well aligned as `data` is. */
TUG_NODISCARD tug_status tug_gguf_open_memory(tug_gguf **out, const char *name,
                                              const void *data, uint64_t size,
                                              tug_err *err);
void tug_gguf_close(tug_gguf **g); /* nulls the pointer; NULL is fine */

const char *tug_gguf_path(const tug_gguf *g);
uint32_t tug_gguf_version(const tug_gguf *g);
int tug_gguf_n_parts(const tug_gguf *g);
uint64_t tug_gguf_file_bytes(const tug_gguf *g); /* all parts together */

/* Of part `part`; NULL when its bytes are in memory that the caller keeps. */
const char *tug_gguf_part_path(const tug_gguf *g, int part);
/* Where in which part's file a byte of tensor data lies. */
uint64_t tug_gguf_locate(const tug_gguf *g, const uint8_t *data, int *part);

uint64_t tug_gguf_n_kv(const tug_gguf *g);
tug_gguf_kv tug_gguf_kv_at(const tug_gguf *g, uint64_t i);
bool tug_gguf_find(const tug_gguf *g, const char *key, tug_gguf_kv *out);

/* Steps through an array: *at is 0 before the first element and belongs to this call.
 * *elem gets type and value, no key.  false after the last. */
bool tug_gguf_next_elem(const tug_gguf_kv *array, uint64_t *at, tug_gguf_kv *elem);

/* Tensors in file order, parts one after the other. */
uint64_t tug_gguf_n_tensors(const tug_gguf *g);
tug_gguf_tensor tug_gguf_tensor_at(const tug_gguf *g, uint64_t i);
bool tug_gguf_find_tensor(const tug_gguf *g, const char *name, tug_gguf_tensor *out);

/* Typed reads.  A missing key returns TUG_OK and leaves *out alone (so set the default
 * first); *found, when not NULL, tells.  A key of another kind, or a number that does not
 * fit, is an error that names the key.  Any integer type of the format is accepted. */
TUG_NODISCARD tug_status tug_gguf_get_u32(const tug_gguf *g, const char *key,
                                          uint32_t *out, bool *found, tug_err *err);
TUG_NODISCARD tug_status tug_gguf_get_f32(const tug_gguf *g, const char *key, float *out,
                                          bool *found, tug_err *err);
TUG_NODISCARD tug_status tug_gguf_get_bool(const tug_gguf *g, const char *key, bool *out,
                                           bool *found, tug_err *err);
TUG_NODISCARD tug_status tug_gguf_get_str(const tug_gguf *g, const char *key,
                                          tug_str *out, bool *found, tug_err *err);

/* All strings of an array of strings: *out gets n views, (n,) owned by the caller
 * (tug_free), each borrowed from g. */
TUG_NODISCARD tug_status tug_gguf_get_strings(const tug_gguf *g, const char *key,
                                              tug_str **out, uint64_t *n, bool *found,
                                              tug_err *err);
/* All numbers of an array of integers that fit int32. Owned by the caller (tug_free). */
TUG_NODISCARD tug_status tug_gguf_get_i32s(const tug_gguf *g, const char *key,
                                           int32_t **out, uint64_t *n, bool *found,
                                           tug_err *err);

#endif
