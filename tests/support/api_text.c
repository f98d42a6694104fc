/* api_text.c - see api_text.h.  SPDX-License-Identifier: MIT */
#include "support/api_text.h"

#include <stdio.h>

#include "base/status.h"

tug_buf api_quoted(const char *text) {
    tug_buf b = {0};
    for (; *text; text++) tug_buf_char(&b, *text == '\'' ? '"' : *text);
    TUG_CHECK(!b.failed);
    return b;
}

void api_replace(tug_buf *b, const char *old, const char *by) {
    tug_buf out = {0};
    const char *rest = b->p;
    for (const char *at; (at = strstr(rest, old)); rest = at + strlen(old)) {
        tug_buf_append(&out, rest, (size_t)(at - rest));
        tug_buf_text(&out, by);
    }
    tug_buf_text(&out, rest);
    TUG_CHECK(!out.failed);
    tug_buf_free(b);
    *b = out;
}

void api_parse(api_parsed *p, tug_api api, const char *body) {
    tug_err err = {0};
    *p = (api_parsed){0};
    tug_buf b = api_quoted(body);
    const tug_status accepted =
        tug_api_parse(api, tug_buf_view(&b), &p->arena, &p->r, &err);
    if (accepted != TUG_OK) (void)fprintf(stderr, "%s: %s\n", body, err.msg);
    TUG_CHECK(accepted == TUG_OK);
    tug_buf_free(&b);
}
