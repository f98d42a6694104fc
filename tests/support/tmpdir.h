/* tmpdir.h - files for tests that need real ones.  SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_TMPDIR_H
#define TUG_TESTS_TMPDIR_H

#include "base/str.h"

/* A new empty folder (aborts when there can be none); tmpdir_remove deletes it again
 * with the files directly in it. */
typedef struct tmpdir {
    char path[64];
} tmpdir;

tmpdir tmpdir_make(void);
void tmpdir_remove(const tmpdir *d);

/* "<folder>/<name>", in one of four static buffers used in turn. */
const char *tmpdir_path(const tmpdir *d, const char *name);

/* Writes a whole file; returns its path as tmpdir_path does. */
const char *tmpdir_write(const tmpdir *d, const char *name, tug_str bytes);

#endif
