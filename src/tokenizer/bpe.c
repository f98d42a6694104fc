/* bpe.c - see bpe.h.
 *
 * A piece starts as one symbol for each byte.  Again and again the pair of neighbours
 * with the lowest rank, the leftmost of equal ones, becomes one symbol.  The candidates
 * wait in a heap; one whose symbols have changed since is recognised when it comes up,
 * because the pair that stands at its place then has another rank or none.
 *
 * SPDX-License-Identifier: MIT */
#include "tokenizer/bpe.h"

#include "base/sys.h"
#include "tokenizer/hash.h"

#define NO_SYMBOL UINT32_MAX
#define NO_PAIR   UINT64_MAX

/* ---- the table of merges ------------------------------------------------------- */

static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The slot that holds the pair, or the free one where it goes. */
static tug_bpe_merge *merge_slot(const tug_bpe *bpe, uint64_t pair) {
    uint64_t i = tug_hash_u64(0, pair) & bpe->mask;
    while (bpe->slots[i].pair != NO_PAIR && bpe->slots[i].pair != pair) {
        i = (i + 1) & bpe->mask;
    }
    return &bpe->slots[i];
}

/* Two thirds full at most: searches end, and end soon. */
static tug_status table_init(tug_bpe *bpe, uint64_t n_merges, tug_err *err) {
    if (n_merges >= UINT32_MAX / 4) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "the vocabulary has %llu merges; no tokenizer has that many",
                        (unsigned long long)n_merges);
    }
    uint64_t size = 8;
    while (size < n_merges + n_merges / 2) size *= 2;
    bpe->slots = tug_alloc_array(size, sizeof *bpe->slots);
    if (!bpe->slots) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for %llu merges",
                        (unsigned long long)n_merges);
    }
    for (uint64_t i = 0; i < size; i++) bpe->slots[i].pair = NO_PAIR;
    bpe->mask = size - 1;
    return TUG_OK;
}

static tug_status bad_merge(uint64_t i, tug_str line, const char *why, tug_err *err) {
    return TUG_FAIL(err, TUG_EFORMAT, "merge %llu, '%.*s', %s; convert the model again",
                    (unsigned long long)i, line.n > 40 ? 40 : (int)line.n, line.p, why);
}

/* Reads "left right".  `bytes` is scratch: it gets what both stand for, back to back. */
static tug_status add_merge(tug_bpe *bpe, const tug_token_table *tokens, uint64_t i,
                            tug_str line, tug_buf *bytes, tug_err *err) {
    const char *space = line.n ? memchr(line.p, ' ', line.n) : NULL;
    if (!space) return bad_merge(i, line, "is not two texts with a space between", err);
    const size_t at = (size_t)(space - line.p);
    tug_buf_clear(bytes);
    bool spelled = tug_token_unspell(tug_str_make(line.p, at), bytes);
    const size_t n_left = bytes->n;
    spelled =
        spelled && tug_token_unspell(tug_str_make(space + 1, line.n - at - 1), bytes);
    TUG_TRY(tug_buf_ok(bytes, err));
    if (!spelled || n_left == 0 || n_left == bytes->n) {
        return bad_merge(i, line, "is not two texts in GPT-2's byte alphabet", err);
    }
    const int32_t left = tug_token_table_normal(tokens, tug_str_make(bytes->p, n_left));
    const int32_t right = tug_token_table_normal(
        tokens, tug_str_make(bytes->p + n_left, bytes->n - n_left));
    const int32_t joined = tug_token_table_normal(tokens, tug_buf_view(bytes));
    if (left == TUG_NO_TOKEN || right == TUG_NO_TOKEN || joined == TUG_NO_TOKEN) {
        return bad_merge(i, line, "needs a token that the vocabulary lacks", err);
    }
    tug_bpe_merge *slot = merge_slot(bpe, pair_of(left, right));
    if (slot->pair != NO_PAIR) {
        return bad_merge(i, line, "is there twice", err);
    }
    *slot = (tug_bpe_merge){pair_of(left, right), (uint32_t)i, joined};
    return TUG_OK;
}

static tug_status find_bytes(tug_bpe *bpe, const tug_token_table *tokens, tug_err *err) {
    for (int b = 0; b < 256; b++) {
        const char byte = (char)(unsigned char)b;
        bpe->byte_id[b] = tug_token_table_normal(tokens, tug_str_make(&byte, 1));
        if (bpe->byte_id[b] == TUG_NO_TOKEN) {
            return TUG_FAIL(err, TUG_EFORMAT,
                            "the vocabulary has no token for byte 0x%02X, so it cannot "
                            "spell every text; convert the model again",
                            b);
        }
    }
    return TUG_OK;
}

tug_status tug_bpe_init(tug_bpe *bpe, const tug_token_table *tokens,
                        const tug_vocab_spec *spec, tug_err *err) {
    *bpe = (tug_bpe){0};
    TUG_TRY(find_bytes(bpe, tokens, err));
    TUG_TRY(table_init(bpe, spec->n_merges, err));
    tug_buf bytes = {0};
    tug_status s = TUG_OK;
    for (uint64_t i = 0; s == TUG_OK && i < spec->n_merges; i++) {
        s = add_merge(bpe, tokens, i, spec->merges[i], &bytes, err);
    }
    tug_buf_free(&bytes);
    if (s != TUG_OK) tug_bpe_deinit(bpe);
    return s;
}

void tug_bpe_deinit(tug_bpe *bpe) {
    tug_free(bpe->slots);
    *bpe = (tug_bpe){0};
}

/* ---- merging ------------------------------------------------------------------- */

/* One symbol of the piece, in a list in text order.  Symbol i begins at byte i. */
typedef struct tug_bpe_symbol {
    int32_t id; /* TUG_NO_TOKEN once it became part of its left neighbour */
    uint32_t prev, next;
} tug_bpe_symbol;

/* The heap holds rank << 32 | index of the left symbol: smallest first is lowest rank,
 * then leftmost. */
typedef struct merger {
    const tug_bpe *bpe;
    tug_bpe_symbol *symbols;
    uint64_t *heap;
    size_t n_heap;
} merger;

static void heap_push(merger *m, uint64_t key) {
    size_t i = m->n_heap++;
    while (i > 0 && m->heap[(i - 1) / 2] > key) {
        m->heap[i] = m->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    m->heap[i] = key;
}

static uint64_t heap_pop(merger *m) {
    const uint64_t top = m->heap[0], last = m->heap[--m->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < m->n_heap; i = child) {
        if (child + 1 < m->n_heap && m->heap[child + 1] < m->heap[child]) child++;
        if (m->heap[child] >= last) break;
        m->heap[i] = m->heap[child];
    }
    m->heap[i] = last;
    return top;
}

/* The merge of symbol i with its right neighbour, or NULL. */
static const tug_bpe_merge *merge_at(const merger *m, uint32_t i) {
    const tug_bpe_symbol *left = &m->symbols[i];
    if (left->id == TUG_NO_TOKEN || left->next == NO_SYMBOL) return NULL;
    const int32_t right = m->symbols[left->next].id;
    const tug_bpe_merge *merge = merge_slot(m->bpe, pair_of(left->id, right));
    return merge->pair == NO_PAIR ? NULL : merge;
}

static void push_candidate(merger *m, uint32_t i) {
    const tug_bpe_merge *merge = merge_at(m, i);
    if (merge) heap_push(m, (uint64_t)merge->rank << 32 | i);
}

static void join(merger *m, uint32_t i, int32_t joined) {
    tug_bpe_symbol *left = &m->symbols[i], *right = &m->symbols[left->next];
    left->id = joined;
    left->next = right->next;
    right->id = TUG_NO_TOKEN;
    if (left->next != NO_SYMBOL) m->symbols[left->next].prev = i;
    if (left->prev != NO_SYMBOL) push_candidate(m, left->prev);
    push_candidate(m, i);
}

/* n bytes give n symbols, at most n - 1 candidates to begin with, and at most 2 new ones
 * for each of at most n - 1 joins, which first took one out: 2 n places are enough. */
static tug_status reserve(tug_bpe_scratch *scratch, size_t n, tug_err *err) {
    if (n <= scratch->cap) return TUG_OK;
    const size_t cap = n < 256 ? 256 : n; /* no slack: a long piece is rare, and large */
    tug_bpe_scratch_deinit(scratch);
    scratch->symbols = tug_alloc_array(cap, sizeof *scratch->symbols);
    scratch->heap = tug_alloc_array(cap, 2 * sizeof *scratch->heap);
    if (!scratch->symbols || !scratch->heap) {
        tug_bpe_scratch_deinit(scratch);
        return TUG_FAIL(err, TUG_ENOMEM,
                        "out of memory for a text of %zu bytes without a word boundary",
                        n);
    }
    scratch->cap = cap;
    return TUG_OK;
}

tug_status tug_bpe_encode(const tug_bpe *bpe, tug_bpe_scratch *scratch, tug_str piece,
                          tug_ids *out, tug_err *err) {
    const uint32_t n = (uint32_t)piece.n;
    TUG_TRY(reserve(scratch, n, err));
    merger m = {bpe, scratch->symbols, scratch->heap, 0};
    for (uint32_t i = 0; i < n; i++) {
        m.symbols[i] = (tug_bpe_symbol){
            .id = bpe->byte_id[(unsigned char)piece.p[i]],
            .prev = i == 0 ? NO_SYMBOL : i - 1,
            .next = i + 1 == n ? NO_SYMBOL : i + 1,
        };
    }
    for (uint32_t i = 0; i < n; i++) push_candidate(&m, i);
    while (m.n_heap > 0) {
        const uint64_t key = heap_pop(&m);
        const uint32_t i = (uint32_t)key;
        const tug_bpe_merge *merge = merge_at(&m, i);
        if (merge && merge->rank == key >> 32) join(&m, i, merge->joined);
    }
    for (uint32_t i = 0; n > 0 && i != NO_SYMBOL; i = m.symbols[i].next) {
        TUG_TRY(tug_ids_push(out, m.symbols[i].id, err));
    }
    return TUG_OK;
}

void tug_bpe_scratch_deinit(tug_bpe_scratch *scratch) {
    tug_free(scratch->symbols);
    tug_free(scratch->heap);
    *scratch = (tug_bpe_scratch){0};
}
