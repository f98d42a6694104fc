/* find_model.c - see find_model.h.  SPDX-License-Identifier: MIT */
#include "cli/find_model.h"

#include <dirent.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"

static bool is_model(const char *name) {
    static const char suffix[] = ".gguf";
    const size_t n = strlen(name), k = sizeof suffix - 1;
    if (n <= k || strcmp(name + n - k, suffix) != 0) return false;
    /* Of a split model, the first part stands for all. */
    return !strstr(name, "-of-") || strstr(name, "-00001-of-");
}

/* The newest model of a folder goes to *path; false when there is none. */
static bool newest_in(const char *folder, tug_buf *path) {
    DIR *dir = opendir(folder);
    time_t newest = 0;
    bool found = false;
    if (!dir) return false;
    for (const struct dirent *e; (e = readdir(dir));) {
        struct stat st;
        if (!is_model(e->d_name) || fstatat(dirfd(dir), e->d_name, &st, 0) != 0) continue;
        if (!S_ISREG(st.st_mode) || (found && st.st_mtime <= newest)) continue;
        found = true;
        newest = st.st_mtime;
        tug_buf_clear(path);
        tug_buf_printf(path, "%s/%s", folder, e->d_name);
    }
    (void)closedir(dir);
    return found && !path->failed;
}

static bool in_home(tug_buf *path) {
    const char *data = tug_env("XDG_DATA_HOME"), *home = tug_env("HOME");
    tug_buf folder = {0};
    if (data) {
        tug_buf_printf(&folder, "%s/tug/models", data);
    } else if (home) {
        tug_buf_printf(&folder, "%s/.local/share/tug/models", home);
    }
    const bool found = folder.n > 0 && newest_in(folder.p, path);
    tug_buf_free(&folder);
    return found;
}

/* .../build/tug stands beside .../models. */
static bool in_source_tree(tug_buf *path) {
    char exe[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0) return false;
    exe[n] = '\0';
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(exe, '/');
        if (!slash) return false;
        *slash = '\0';
    }
    tug_buf folder = {0};
    tug_buf_printf(&folder, "%s/models", exe);
    const bool found = !folder.failed && newest_in(folder.p, path);
    tug_buf_free(&folder);
    return found;
}

tug_status cli_find_model(tug_buf *path, tug_err *err) {
    if (in_home(path) || in_source_tree(path)) return TUG_OK;
    return TUG_FAIL(err, TUG_EUSAGE,
                    "there is no model: give one with -m FILE, or put a .gguf into "
                    "~/.local/share/tug/models");
}
