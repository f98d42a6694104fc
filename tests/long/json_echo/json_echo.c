/* json_echo.c - for json_vs_python.py: one document per line in hexadecimal; answers the
 * document written compactly, in hexadecimal, or "refused".  SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "json/json.h"

static void answer(tug_str in) {
    tug_arena arena = {0};
    tug_buf out = {0};
    const tug_json *v;
    if (tug_json_parse(in, &arena, &v, NULL) == TUG_OK) {
        tug_json_writer w = tug_json_writer_make(&out, TUG_JSON_COMPACT);
        tug_json_write_value(&w, v);
        for (size_t i = 0; i < out.n; i++) printf("%02x", (unsigned char)out.p[i]);
        printf("\n");
    } else {
        printf("refused\n");
    }
    tug_buf_free(&out);
    tug_arena_free(&arena);
}

static int digit(int c) {
    return c >= 'a' ? c - 'a' + 10 : c - '0';
}

int main(void) {
    tug_buf in = {0};
    for (int c; (c = getchar()) != EOF;) {
        if (c == '\n') {
            answer(tug_buf_view(&in));
            tug_buf_clear(&in);
        } else {
            tug_buf_char(&in, (char)(digit(c) << 4 | digit(getchar())));
        }
    }
    tug_buf_free(&in);
    return 0;
}
