/* cmd_tokenize.c - `tug tokenize`: text to token ids and back, to look at and to test.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sys.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "engine/vocab.h"
#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"
#include "json/json.h"

enum { INPUT_MAX_BYTES = 512 << 20 };

static const char help[] =
    "usage: tug tokenize -m FILE [--special] [--json] < text\n"
    "       tug tokenize -m FILE --decode [--special] [--json] < ids\n"
    "\n"
    "Prints the token ids of standard input on one line, separated by spaces.\n"
    "Nothing is added in front or behind.\n"
    "\n"
    "  -m, --model FILE  the GGUF whose tokenizer is used\n"
    "      --special     turn the text of control tokens, such as <|im_end|>, into\n"
    "                    these tokens; with --decode, write them out\n"
    "      --json        {\"n\": .., \"ids\": [..], \"pieces\": [..]}, where half\n"
    "                    characters show as U+FFFD\n"
    "      --decode      read ids, separated by spaces or commas, and print the text\n"
    "\n"
    "example: printf 'int main(void)' | tug tokenize -m model.gguf --json\n";

typedef struct options {
    const char *model;
    bool special, json, decode;
} options;

/* Returns -1 to go on, else the exit code. */
static int parse(options *o, int argc, char **argv) {
    static const struct option flags[] = {
        {"model", required_argument, NULL, 'm'}, {"special", no_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},        {"decode", no_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0}};
    for (int c; (c = cli_getopt(argc, argv, ":m:h", flags)) != -1;) {
        switch (c) {
        case 'm': o->model = optarg; break;
        case 's': o->special = true; break;
        case 'j': o->json = true; break;
        case 'd': o->decode = true; break;
        case 'h': (void)fputs(help, stdout); return CLI_OK;
        default: return cli_getopt_failed("tokenize", c, argv);
        }
    }
    if (optind < argc) {
        return cli_usage("tokenize",
                         "'%s' is one too many: text comes from standard input",
                         argv[optind]);
    }
    if (!o->model) return cli_usage("tokenize", "which model? -m FILE is missing");
    return -1;
}

static void append_json(const tug_tokenizer *tk, const tug_ids *ids, tug_buf *out) {
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_SPACED);
    tug_json_begin_object(&w);
    tug_json_write_key(&w, tug_str_of("n"));
    tug_json_write_u64(&w, ids->n);
    tug_json_write_key(&w, tug_str_of("ids"));
    tug_json_begin_array(&w);
    for (size_t i = 0; i < ids->n; i++) tug_json_write_i64(&w, ids->p[i]);
    tug_json_end_array(&w);
    tug_json_write_key(&w, tug_str_of("pieces"));
    tug_json_begin_array(&w);
    for (size_t i = 0; i < ids->n; i++) {
        tug_json_write_str(&w, tug_tokenizer_bytes(tk, ids->p[i]));
    }
    tug_json_end_array(&w);
    tug_json_end_object(&w);
    tug_buf_char(out, '\n');
}

static void append_line(const tug_ids *ids, tug_buf *out) {
    for (size_t i = 0; i < ids->n; i++) {
        tug_buf_printf(out, "%s%d", i ? " " : "", ids->p[i]);
    }
    tug_buf_char(out, '\n');
}

static tug_status text_to_ids(const options *o, const tug_tokenizer *tk, tug_str text,
                              tug_ids *ids, tug_err *err) {
    tug_encoder *e = NULL;
    TUG_TRY(tug_encoder_create(&e, tk, err));
    const tug_status s = tug_encode(
        e, text, o->special ? TUG_CONTROL_PARSED : TUG_CONTROL_IS_TEXT, ids, err);
    tug_encoder_destroy(&e);
    return s;
}

/* *ids gets the ids, all of them in the vocabulary. */
static tug_status read_ids(const tug_tokenizer *tk, tug_str in, tug_ids *ids,
                           tug_err *err) {
    if (in.n == 0) return TUG_OK;
    if (strlen(in.p) != in.n) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "standard input is no list of ids: byte %zu is 0", strlen(in.p));
    }
    int64_t n = 0;
    TUG_TRY(cli_parse_ids(in.p, &ids->p, &n, err));
    ids->n = ids->cap = (size_t)n;
    for (size_t i = 0; i < ids->n; i++) {
        if (ids->p[i] < 0 || ids->p[i] >= tug_tokenizer_size(tk)) {
            return TUG_FAIL(err, TUG_ERANGE, "id %d is outside the vocabulary, 0 to %d",
                            ids->p[i], tug_tokenizer_size(tk) - 1);
        }
    }
    return TUG_OK;
}

static tug_status append_text(const options *o, const tug_tokenizer *tk,
                              const tug_ids *ids, tug_buf *out, tug_err *err) {
    tug_detok d = tug_detok_start(tk, o->special);
    for (size_t i = 0; i < ids->n; i++) {
        TUG_TRY(tug_detok_add(&d, ids->p[i], out, err));
    }
    return tug_detok_finish(&d, out, err);
}

static tug_status convert(const options *o, const tug_tokenizer *tk, tug_str in,
                          tug_ids *ids, tug_buf *out, tug_err *err) {
    if (o->decode) {
        TUG_TRY(read_ids(tk, in, ids, err));
    } else {
        TUG_TRY(text_to_ids(o, tk, in, ids, err));
    }
    if (o->json) {
        append_json(tk, ids, out);
    } else if (o->decode) {
        TUG_TRY(append_text(o, tk, ids, out, err));
    } else {
        append_line(ids, out);
    }
    return tug_buf_ok(out, err);
}

static tug_status load(tug_tokenizer **tk, const char *path, tug_err *err) {
    tug_gguf *g = NULL;
    TUG_TRY(tug_gguf_open(&g, path, err));
    const tug_status s = tug_vocab_load(tk, g, err);
    tug_gguf_close(&g);
    return s;
}

int cmd_tokenize(int argc, char **argv) {
    options o = {0};
    const int code = parse(&o, argc, argv);
    if (code >= 0) return code;

    tug_err err = {0};
    tug_tokenizer *tk = NULL;
    tug_buf in = {0}, out = {0};
    tug_ids ids = {0};
    tug_status s = load(&tk, o.model, &err);
    if (s == TUG_OK) {
        s = tug_read_all(STDIN_FILENO, "standard input", INPUT_MAX_BYTES, &in, &err);
    }
    if (s == TUG_OK) s = convert(&o, tk, tug_buf_view(&in), &ids, &out, &err);
    if (s == TUG_OK) {
        if (out.n > 0) (void)fwrite(out.p, 1, out.n, stdout);
        s = cli_flush(&err);
    }
    tug_ids_free(&ids);
    tug_buf_free(&out);
    tug_buf_free(&in);
    tug_tokenizer_destroy(&tk);
    return s == TUG_OK ? CLI_OK : cli_fail(&err);
}
