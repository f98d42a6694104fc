/* cmd_inspect.c - `tug inspect`: what is in a GGUF file, whatever model it is.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/inspect.h"
#include "cli/options.h"

static const char help[] =
    "usage: tug inspect [--metadata | --tensors] [--json] FILE\n"
    "\n"
    "Checks a GGUF file of any model and prints its metadata, its tensors, and the "
    "bytes\n"
    "that each type and each component takes.  FILE is the first part of a split one.\n"
    "\n"
    "  --metadata  only the metadata\n"
    "  --tensors   only the tensors and their sums\n"
    "  --json      for programs: exact numbers, whole texts; of an array its count and\n"
    "              first elements\n"
    "\n"
    "example: tug inspect --json model.gguf | jq .by_component\n";

typedef struct options {
    inspect_parts parts;
    bool json;
    const char *path;
} options;

/* Returns -1 to go on, else the exit code. */
static int parse(options *o, int argc, char **argv) {
    static const struct option flags[] = {{"metadata", no_argument, NULL, 'm'},
                                          {"tensors", no_argument, NULL, 't'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    for (int c; (c = cli_getopt(argc, argv, ":h", flags)) != -1;) {
        switch (c) {
        case 'm': o->parts.metadata = true; break;
        case 't': o->parts.tensors = true; break;
        case 'j': o->json = true; break;
        case 'h': (void)fputs(help, stdout); return CLI_OK;
        default: return cli_getopt_failed(argv[0], c, argv);
        }
    }
    if (optind == argc) return cli_usage(argv[0], "the GGUF file is missing");
    if (optind + 1 < argc) {
        return cli_usage(argv[0],
                         "'%s' is one too many: one file, or the first part of it",
                         argv[optind + 1]);
    }
    o->path = argv[optind];
    if (!o->parts.metadata && !o->parts.tensors) {
        o->parts = (inspect_parts){.metadata = true, .tensors = true};
    }
    return -1;
}

static tug_status print(const tug_gguf *g, const options *o, tug_buf *out, tug_err *err) {
    if (o->json)
        inspect_json(g, o->parts, out);
    else
        inspect_text(g, o->parts, out);
    TUG_TRY(tug_buf_ok(out, err));
    (void)fwrite(out->p, 1, out->n, stdout);
    return cli_flush(err);
}

int cmd_inspect(int argc, char **argv) {
    options o = {0};
    const int code = parse(&o, argc, argv);
    if (code >= 0) return code;
    tug_gguf *g = NULL;
    tug_buf out = {0};
    tug_err err = {0};
    tug_status s = tug_gguf_open(&g, o.path, &err);
    if (s == TUG_OK) s = print(g, &o, &out, &err);
    tug_buf_free(&out);
    tug_gguf_close(&g);
    return s == TUG_OK ? CLI_OK : cli_fail(&err);
}
