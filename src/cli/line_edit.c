/* line_edit.c - see line_edit.h; libedit does the work.  SPDX-License-Identifier: MIT */
#include "cli/line_edit.h"

#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "base/sys.h"
#include "cli/interrupt.h"

enum { HISTORY_LINES = 1000 };

struct line_edit {
    EditLine *el;     /* owned */
    History *history; /* owned */
    tug_buf path;     /* of the history; empty: none is kept */
    bool more;        /* the message goes on: another prompt */
};

static char first_prompt[] = "> ", more_prompt[] = ". ";

static line_edit *edit_of(EditLine *el) {
    void *edit = NULL;
    (void)el_get(el, EL_CLIENTDATA, &edit);
    return edit;
}

static char *prompt(EditLine *el) {
    return edit_of(el)->more ? more_prompt : first_prompt;
}

/* ---- history --------------------------------------------------------------------- */

/* Makes the folders on the way to the file; what is missing shows when it is opened. */
static void make_folders(char *path, size_t from) {
    for (char *p = path + from; *p; p++) {
        if (*p != '/') continue;
        *p = '\0';
        (void)mkdir(path, 0700);
        *p = '/';
    }
}

static void find_history(tug_buf *path) {
    const char *base = tug_env("XDG_STATE_HOME"), *home = tug_env("HOME");
    if (!base && !home) return;
    tug_buf_printf(path, "%s%s/tug/history", base ? base : home,
                   base ? "" : "/.local/state");
    if (path->failed) {
        tug_buf_clear(path);
        return;
    }
    make_folders(path->p, strlen(base ? base : home));
}

static void load_history(line_edit *edit) {
    HistEvent event;
    find_history(&edit->path);
    (void)history(edit->history, &event, H_SETSIZE, HISTORY_LINES);
    (void)history(edit->history, &event, H_SETUNIQUE, 1);
    if (edit->path.n > 0) (void)history(edit->history, &event, H_LOAD, edit->path.p);
}

static void remember(line_edit *edit, const char *line) {
    HistEvent event;
    (void)history(edit->history, &event, H_ENTER, line);
    if (edit->path.n > 0) (void)history(edit->history, &event, H_SAVE, edit->path.p);
}

/* ---- characters ------------------------------------------------------------------ */

/* As libedit's own, but Ctrl-C between the prompt and the read is not lost.  1: a
 * character; 0: the end; -1: interrupted, or the terminal is gone. */
static int next_char(EditLine *el, wchar_t *out) {
    (void)el;
    mbstate_t state = {0};
    for (;;) {
        char byte;
        if (!cli_interrupt_wait_for(STDIN_FILENO)) return -1;
        const ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n <= 0) return (int)n;
        const size_t used = mbrtowc(out, &byte, 1, &state);
        if (used == (size_t)-2) continue;
        if (used != (size_t)-1) return 1;
        state = (mbstate_t){0}; /* not a character: left out */
    }
}

/* ---- life ------------------------------------------------------------------------ */

static void set_up(line_edit *edit) {
    EditLine *el = edit->el;
    (void)el_set(el, EL_CLIENTDATA, edit);
    (void)el_set(el, EL_PROMPT, prompt);
    (void)el_set(el, EL_EDITOR, "emacs");
    (void)el_set(el, EL_GETCFN, next_char);
    (void)el_set(el, EL_HIST, history, edit->history);
    (void)el_set(el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    (void)el_source(el, NULL); /* ~/.editrc, for those who have one */
}

tug_status line_edit_create(line_edit **out, tug_err *err) {
    *out = NULL;
    /* Only the characters: numbers keep their dots. */
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) (void)setlocale(LC_CTYPE, "C.UTF-8");
    line_edit *edit = tug_alloc_zero(sizeof *edit);
    if (!edit) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the line editor");
    edit->history = history_init();
    edit->el =
        el_init("tug", stdin, isatty(STDOUT_FILENO) == 1 ? stdout : stderr, stderr);
    if (!edit->history || !edit->el) {
        line_edit_destroy(&edit);
        return TUG_FAIL(err, TUG_EIO,
                        "cannot set up line editing; check TERM, or use -p");
    }
    load_history(edit);
    set_up(edit);
    *out = edit;
    return TUG_OK;
}

void line_edit_destroy(line_edit **slot) {
    line_edit *edit = *slot;
    if (!edit) return;
    if (edit->el) el_end(edit->el);
    if (edit->history) history_end(edit->history);
    tug_buf_free(&edit->path);
    tug_free(edit);
    *slot = NULL;
}

/* ---- reading --------------------------------------------------------------------- */

static line_result read_message(line_edit *edit, tug_buf *out) {
    for (edit->more = false;; edit->more = true) {
        int n = 0;
        const char *line = el_gets(edit->el, &n);
        if (!line || n <= 0) {
            /* Ctrl-C interrupts the read, and libedit gives up the line: -1, not 0. */
            return n < 0 && cli_interrupt_pending() ? LINE_CANCELED : LINE_END;
        }
        if (n > 1) remember(edit, line);
        size_t len = (size_t)n;
        if (line[len - 1] == '\n') len--;
        const bool more = len > 0 && line[len - 1] == '\\';
        tug_buf_append(out, line, more ? len - 1 : len);
        if (!more) return LINE_MESSAGE;
        tug_buf_char(out, '\n');
    }
}

line_result line_edit_read(line_edit *edit, tug_buf *out) {
    tug_buf_clear(out);
    cli_interrupt_clear();
    const line_result result = read_message(edit, out);
    /* Pressed behind a whole message it is meant for the answer. */
    if (result == LINE_CANCELED) cli_interrupt_clear();
    return result;
}
