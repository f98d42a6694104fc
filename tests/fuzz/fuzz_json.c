/* fuzz_json.c - any bytes: the JSON reader refuses them, or reads what its writer then
 * writes and reads back unchanged, in every style.  SPDX-License-Identifier: MIT */
#include <stdint.h>

#include "base/utf8.h"
#include "json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write(const tug_json *v, tug_json_style style, tug_buf *out) {
    tug_json_writer w = tug_json_writer_make(out, style);
    tug_json_write_value(&w, v);
    TUG_CHECK(tug_buf_ok(out, NULL) == TUG_OK);
    TUG_CHECK(tug_utf8_valid(out->p, out->n, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tug_arena arena = {0};
    const tug_json *v;
    tug_buf first = {0};
    const tug_str in = tug_str_make((const char *)data, size);
    if (tug_json_parse(in, &arena, &v, NULL) == TUG_OK) {
        write(v, TUG_JSON_COMPACT, &first);
        for (tug_json_style style = TUG_JSON_COMPACT; style <= TUG_JSON_PRETTY; style++) {
            tug_buf styled = {0}, again = {0};
            const tug_json *back;
            write(v, style, &styled);
            TUG_CHECK(tug_json_parse(tug_buf_view(&styled), &arena, &back, NULL) ==
                      TUG_OK);
            write(back, TUG_JSON_COMPACT, &again);
            TUG_CHECK(tug_str_eq(tug_buf_view(&first), tug_buf_view(&again)));
            tug_buf_free(&styled);
            tug_buf_free(&again);
        }
    }
    tug_buf_free(&first);
    tug_arena_free(&arena);
    return 0;
}
