/* file.h - whole-file reading and read-only maps, with one clear sentence on failure.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_FILE_H
#define TUG_BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"

/* A regular file, opened read-only. */
typedef struct tug_file {
    int fd;        /* owned; -1 when closed */
    uint64_t size; /* bytes, when it was opened */
} tug_file;

TUG_NODISCARD tug_status tug_file_open(tug_file *f, const char *path, tug_err *err);
void tug_file_close(tug_file *f);

/* Reads exactly n bytes at offset `at` (retries short reads and EINTR). */
TUG_NODISCARD tug_status tug_file_read_at(const tug_file *f, void *dst, size_t n,
                                          uint64_t at, const char *path, tug_err *err);

/* The first cap - 1 bytes of a small file of the kernel's (/proc, /sys), zero-terminated;
 * false when it cannot be read or is empty. */
bool tug_read_small(const char *path, char *buf, size_t cap);

/* Read-only private map of the whole file; valid after tug_file_close. */
typedef struct tug_map {
    const uint8_t *data; /* owned (munmap), (size,); NULL when size == 0 */
    uint64_t size;
} tug_map;

TUG_NODISCARD tug_status tug_map_open(tug_map *m, const char *path, tug_err *err);
void tug_map_close(tug_map *m);

/* Appends everything that can be read from `fd`, at most `limit` bytes, to *out.
 * `name` is for the sentence ("standard input"). */
TUG_NODISCARD tug_status tug_read_all(int fd, const char *name, size_t limit,
                                      tug_buf *out, tug_err *err);

#endif
