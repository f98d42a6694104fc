/* line_edit.h - messages typed at a terminal, with editing keys and a history.
 *
 * The history is $XDG_STATE_HOME/tug/history, or ~/.local/state/tug/history; where it
 * cannot be read or written, there is simply none.  SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_LINE_EDIT_H
#define TUG_CLI_LINE_EDIT_H

#include "base/status.h"
#include "base/str.h"

typedef struct line_edit line_edit;

typedef enum line_result {
    LINE_MESSAGE,  /* one or several lines */
    LINE_CANCELED, /* Ctrl-C */
    LINE_END       /* Ctrl-D, or the terminal is gone */
} line_result;

TUG_NODISCARD tug_status line_edit_create(line_edit **out, tug_err *err);
void line_edit_destroy(line_edit **edit);

/* Reads until a line that does not end with a backslash; *out gets the message without
 * the backslashes and the last newline.  Ctrl-C before and during it is used up. */
line_result line_edit_read(line_edit *edit, tug_buf *out);

#endif
