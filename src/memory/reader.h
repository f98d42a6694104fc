/* reader.h - many reads of files at once, around the page cache.
 *
 * Files are opened O_DIRECT where the file system can: no second copy in the page cache, and
 * the disk's own speed; elsewhere they are read as usual and the pages dropped behind.
 * Direct reads want offsets, lengths and memory in whole blocks, so a read of n bytes gets
 * tug_reader_room(n) bytes of block-aligned memory and its first byte lands at
 * tug_reader_skip(offset) in it.
 *
 *     tug_reader_submit(r, &read);              // up to `depth` in flight
 *     n = tug_reader_wait(r, done, max, true);  // one or more that ended
 *
 * THREADS  one owner submits and waits.  ERRORS  each read has its own: a sentence with the
 * file's name, for example when the file is shorter than it was.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_MEMORY_READER_H
#define TUG_MEMORY_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { TUG_READER_BLOCK = 4096 };

typedef struct tug_reader tug_reader;

typedef struct tug_reader_params {
    const char *const *paths; /* (n_files,) borrowed during create */
    int n_files;
    int depth; /* reads in flight, >= 1 */
} tug_reader_params;

typedef struct tug_read {
    int file;
    uint64_t offset, n; /* n >= 1, inside the file as it was at create */
    uint8_t *memory;    /* (tug_reader_room(n),) aligned to TUG_READER_BLOCK; the reader's
                           until the read has ended */
    uint64_t tag;       /* the caller's */
} tug_read;

typedef struct tug_read_done {
    uint64_t tag;
    tug_status status; /* TUG_OK, or TUG_EIO */
} tug_read_done;

typedef struct tug_reader_stats {
    uint64_t n_reads, n_bytes; /* that ended well; bytes as asked for */
    double busy_s;             /* seconds in which at least one was in flight */
    double waited_s;           /* of the owner, in tug_reader_wait */
    bool direct;               /* all files are read around the page cache */
} tug_reader_stats;

static inline size_t tug_reader_skip(uint64_t offset) {
    return (size_t)(offset % TUG_READER_BLOCK);
}
static inline uint64_t tug_reader_room(uint64_t n) {
    return (n + 2 * TUG_READER_BLOCK - 1) / TUG_READER_BLOCK * TUG_READER_BLOCK;
}

TUG_NODISCARD tug_status tug_reader_create(tug_reader **out, const tug_reader_params *p,
                                           tug_err *err);
/* Waits for what the disk is busy with; what only queued is not read. */
void tug_reader_destroy(tug_reader **r);

/* false: `depth` are in flight already. */
bool tug_reader_submit(tug_reader *r, const tug_read *read);
int tug_reader_in_flight(const tug_reader *r);

/* Up to max reads that ended; `block` waits for the first.  0 only if none is in flight, or
 * without `block`. */
int tug_reader_wait(tug_reader *r, tug_read_done *done, int max, bool block);

/* The sentence of the last read that failed; "" if none did. */
const char *tug_reader_error(const tug_reader *r);

/* Are the files still those that were opened, as large and as old?  Cheap: one fstat each.
 * TUG_EIO with a sentence. */
TUG_NODISCARD tug_status tug_reader_check(const tug_reader *r, tug_err *err);

tug_reader_stats tug_reader_get_stats(tug_reader *r);

#endif
