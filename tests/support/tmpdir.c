/* tmpdir.c - see tmpdir.h.  SPDX-License-Identifier: MIT */
#include "support/tmpdir.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

tmpdir tmpdir_make(void) {
    tmpdir d = {"/tmp/tug-test-XXXXXX"};
    if (!mkdtemp(d.path)) abort();
    return d;
}

void tmpdir_remove(const tmpdir *d) {
    DIR *dir = opendir(d->path);
    if (!dir) return;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (e->d_name[0] != '.') (void)remove(tmpdir_path(d, e->d_name));
    }
    (void)closedir(dir);
    (void)rmdir(d->path);
}

const char *tmpdir_path(const tmpdir *d, const char *name) {
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    if (snprintf(path, sizeof paths[0], "%s/%s", d->path, name) >= (int)sizeof paths[0]) {
        abort();
    }
    return path;
}

const char *tmpdir_write(const tmpdir *d, const char *name, tug_str bytes) {
    const char *path = tmpdir_path(d, name);
    FILE *f = fopen(path, "wb");
    if (!f || (bytes.n && fwrite(bytes.p, bytes.n, 1, f) != 1) || fclose(f) != 0) abort();
    return path;
}
