/* bench_tokenizer.c - how fast text becomes token ids, on one core.
 *
 *     build/bench/bench_tokenizer MODEL.gguf FILE...
 *
 * Encodes each file as one text, once with an empty cache of pieces and then again and
 * again for two seconds.  Times are of the processor, not of the clock on the wall, so that
 * other work on the machine disturbs less.  SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/file.h"
#include "base/sys.h"
#include "engine/vocab.h"

static void must(tug_status s, const tug_err *err) {
    if (s == TUG_OK) return;
    (void)fprintf(stderr, "bench_tokenizer: %s\n", err->msg);
    exit(1);
}

static double cpu_seconds(void) {
    return (double)clock() / CLOCKS_PER_SEC;
}

static tug_buf read_file(const char *path) {
    tug_err err;
    tug_file f;
    tug_buf text = {0};
    must(tug_file_open(&f, path, &err), &err);
    must(tug_read_all(f.fd, path, SIZE_MAX, &text, &err), &err);
    tug_file_close(&f);
    return text;
}

/* Encodes all texts; returns the seconds that it took. */
static double encode_all(tug_encoder *e, const tug_buf *texts, int n, tug_ids *ids) {
    tug_err err;
    const double start = cpu_seconds();
    ids->n = 0;
    for (int i = 0; i < n; i++) {
        must(tug_encode(e, tug_buf_view(&texts[i]), TUG_CONTROL_IS_TEXT, ids, &err),
             &err);
    }
    return cpu_seconds() - start;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        (void)fprintf(stderr, "usage: bench_tokenizer MODEL.gguf FILE...\n");
        return 2;
    }
    tug_err err;
    tug_gguf *g = NULL;
    tug_tokenizer *tk = NULL;
    tug_encoder *e = NULL;
    must(tug_gguf_open(&g, argv[1], &err), &err);
    const double start = cpu_seconds();
    must(tug_vocab_load(&tk, g, &err), &err);
    const double load_s = cpu_seconds() - start;
    must(tug_encoder_create(&e, tk, &err), &err);

    const int n = argc - 2;
    tug_buf *texts = tug_alloc_array((size_t)n, sizeof *texts);
    if (!texts) return 1;
    double mb = 0;
    for (int i = 0; i < n; i++) {
        texts[i] = read_file(argv[i + 2]);
        mb += 1e-6 * (double)texts[i].n;
    }
    tug_ids ids = {0};
    const double cold_s = encode_all(e, texts, n, &ids);
    double warm_s = 0;
    int rounds = 0;
    for (; warm_s < 2; rounds++) warm_s += encode_all(e, texts, n, &ids);
    printf("load %.1f ms; %.2f MB, %zu ids (%.2f bytes each); first pass %.1f MB/s, "
           "then %.1f MB/s\n",
           1e3 * load_s, mb, ids.n, 1e6 * mb / (double)ids.n, mb / cold_s,
           mb * rounds / warm_s);

    for (int i = 0; i < n; i++) tug_buf_free(&texts[i]);
    tug_free(texts);
    tug_ids_free(&ids);
    tug_encoder_destroy(&e);
    tug_tokenizer_destroy(&tk);
    tug_gguf_close(&g);
    return 0;
}
