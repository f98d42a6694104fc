/* gguf_sniff.c - what a file is that is not GGUF: the mistakes people make.
 *
 * Only runs on the way to an error; looks at the first bytes and never guesses beyond
 * what they prove.  SPDX-License-Identifier: MIT */
#include <ctype.h>

#include "base/cursor.h"
#include "gguf/gguf_part.h"

static bool starts(const uint8_t *data, uint64_t size, const char *text) {
    const size_t n = strlen(text);
    return size >= n && memcmp(data, text, n) == 0;
}

/* A letter of HTML in either case after any white space: "<!DOCTYPE", "<html". */
static bool is_web_page(const uint8_t *data, uint64_t size) {
    uint64_t i = 0;
    while (i < size && i < 64 && isspace(data[i])) i++;
    return i + 1 < size && data[i] == '<' &&
           (data[i + 1] == '!' || data[i + 1] == 'h' || data[i + 1] == 'H');
}

/* safetensors: the length of a JSON header, then the header. */
static bool is_safetensors(const uint8_t *data, uint64_t size) {
    tug_cursor c = tug_cursor_make(data, size);
    uint64_t n;
    return tug_cursor_u64(&c, &n) && n <= tug_cursor_left(&c) && n >= 2 &&
           data[c.at] == '{';
}

static bool begins_with_zeros(const uint8_t *data, uint64_t size) {
    for (uint64_t i = 0; i < size && i < 16; i++) {
        if (data[i] != 0) return false;
    }
    return true;
}

tug_status tug_gguf_not_gguf(const char *name, const uint8_t *data, uint64_t size,
                             tug_err *err) {
    static const struct {
        const char *magic, *what;
    } known[] = {
        {"version https://git-lfs",
         "a Git LFS pointer, not the model itself: run `git lfs pull` beside it"},
        {"PK\x03\x04",
         "a zip archive, perhaps a PyTorch checkpoint: tug needs the GGUF of this model"},
        {"\x1f\x8b", "compressed with gzip: decompress it first"},
        {"\xfd"
         "7zXZ",
         "compressed with xz: decompress it first"},
        {"\x28\xb5\x2f\xfd", "compressed with zstd: decompress it first"},
        {"lmgg", "a GGML file from before GGUF: download the GGUF of this model"},
        {"fmgg", "a GGML file from before GGUF: download the GGUF of this model"},
        {"tjgg", "a GGML file from before GGUF: download the GGUF of this model"},
        {"{", "a JSON text, perhaps an index or an error message: download the .gguf "
              "itself"},
    };
    if (size == 0) {
        return TUG_FAIL(err, TUG_EFORMAT, "%s is empty: download it again", name);
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (!starts(data, size, known[i].magic)) continue;
        return TUG_FAIL(err, TUG_EFORMAT, "%s is %s", name, known[i].what);
    }
    const char *what = "no GGUF file: its first bytes are not \"GGUF\"";
    if (is_web_page(data, size)) {
        what = "a web page: the link led to a page about the file; use its download link";
    } else if (is_safetensors(data, size)) {
        what = "a safetensors file: tug needs the GGUF of this model";
    } else if (begins_with_zeros(data, size)) {
        what = "zeros at its beginning: the download is incomplete, resume it";
    }
    return TUG_FAIL(err, TUG_EFORMAT, "%s is %s", name, what);
}
