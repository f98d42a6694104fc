/* gguf_part.h - one file of a GGUF set: decoding and checking its records.
 *
 * Inside src/gguf only.  The index of a part holds nothing but where each record begins;
 * a record is decoded, with all its checks, every time somebody asks for it.  So the
 * index is smaller than the records that it describes whatever the file claims, and a
 * file that is overwritten while it is mapped can give wrong values but never a read
 * outside the map.  SPDX-License-Identifier: MIT */
#ifndef TUG_GGUF_GGUF_PART_H
#define TUG_GGUF_GGUF_PART_H

#include "base/cursor.h"
#include "base/file.h"
#include "gguf/gguf.h"

/* Smallest records: an 8-byte length, 1 byte of name, and for a key a 4-byte type and a
 * 1-byte value; for a tensor 4 bytes n_dims, 8 bytes dimension, 4 type, 8 offset. */
enum { TUG_GGUF_KV_MIN_BYTES = 14, TUG_GGUF_INFO_MIN_BYTES = 33 };

typedef struct tug_gguf_part {
    char *path;          /* owned */
    const char *name;    /* the end of path that fits into a sentence, borrowed from it */
    tug_map map;         /* owned; empty when the bytes are the caller's */
    const uint8_t *data; /* borrowed from map or from the caller, (size,) */
    uint64_t size;       /* bytes */

    uint32_t version;
    uint32_t alignment; /* of tensor data, a power of two >= 8 */
    uint64_t n_kv, n_tensors;
    uint64_t *kv_at;   /* owned, (n_kv,): where each entry begins */
    uint32_t *by_key;  /* owned, (n_kv,): entries in the order of their keys */
    uint64_t infos_at; /* where the first tensor info begins */
    uint64_t data_at;  /* where tensor data begins; known after tug_gguf_part_tensors */
} tug_gguf_part;

/* One tensor of the whole set. */
typedef struct tug_gguf_ref {
    uint64_t info_at; /* where its info begins in its part */
    uint64_t offset;  /* of its data, from the part's data_at */
    uint32_t part;
} tug_gguf_ref;

/* Header and metadata of p->data.  The caller has set path, name, data and size in a
 * zeroed part and calls tug_gguf_part_free whatever happens. */
TUG_NODISCARD tug_status tug_gguf_part_meta(tug_gguf_part *p, tug_err *err);

/* All tensor infos: fills refs[0..n_tensors) and checks that every tensor lies inside
 * the file and none overlap.  `part` is the number to store. */
TUG_NODISCARD tug_status tug_gguf_part_tensors(tug_gguf_part *p, tug_gguf_ref *refs,
                                               uint32_t part, tug_err *err);

void tug_gguf_part_free(tug_gguf_part *p);

/* Decodes the record at *at and steps over it. */
TUG_NODISCARD tug_status tug_gguf_part_kv(const tug_gguf_part *p, uint64_t *at,
                                          tug_gguf_kv *kv, tug_err *err);
bool tug_gguf_part_find(const tug_gguf_part *p, tug_str key, tug_gguf_kv *kv);

/* The next value of kv->type, which is no array, into kv; a bool is not checked and stays
 * a number in v.u.  false at the end of the bytes. */
bool tug_gguf_read_scalar(tug_cursor *c, tug_gguf_kv *kv);

/* An integer of any width; false for other types and for numbers beyond INT64_MAX. */
bool tug_gguf_as_i64(const tug_gguf_kv *kv, int64_t *out);

/* The tensor whose info begins at `at`; every field but `part`. */
TUG_NODISCARD tug_status tug_gguf_part_tensor(const tug_gguf_part *p, uint64_t at,
                                              tug_gguf_tensor *t, tug_err *err);
/* Its name only. */
tug_str tug_gguf_part_name_at(const tug_gguf_part *p, uint64_t at);

/* A sentence about bytes that are no GGUF file: what they are instead, and what to do. */
TUG_NODISCARD tug_status tug_gguf_not_gguf(const char *name, const uint8_t *data,
                                           uint64_t size, tug_err *err);

/* Sorts indices [0, n) in place by `less`.  In place and n log n for any input, which the
 * C library's qsort is not: it allocates behind our back. */
typedef bool tug_gguf_less_fn(const void *ud, uint32_t a, uint32_t b);
void tug_gguf_sort(uint32_t *index, uint64_t n, tug_gguf_less_fn *less, const void *ud);

/* Order of names: bytes, then length. */
int tug_gguf_name_cmp(tug_str a, tug_str b);

/* "%.*s" arguments for a name of any length. */
#define TUG_GGUF_SHOW(s) (int)((s).n < 64 ? (s).n : 64), (s).p

#endif
