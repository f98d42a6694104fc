/* nfc.c - see nfc.h.
 *
 * Text that is in NFC already is only looked at: every character below U+0300 is, and so
 * is each character that neither decomposes nor attaches to the one before it.  Around the
 * others a span is cut out, from the character that they may attach to up to the next that
 * attaches to nothing, and brought to NFC by the book: decompose, sort marks by combining
 * class, compose.  utf8proc knows the properties; the sorting is ours, because utf8proc's
 * takes quadratic time on a long run of marks.
 *
 * SPDX-License-Identifier: MIT */
#include "tokenizer/nfc.h"

#include <stdbool.h>
#include <utf8proc.h>

#include "base/sys.h"
#include "base/utf8.h"

enum {
    DECOMPOSED_MAX = 4, /* code points of the longest canonical decomposition */
    FIRST_LEAD = 0xCC   /* the first byte of U+0300; lower characters never change */
};

/* Assigned after Unicode 9 and changed by today's NFC (Unicode 18), widened to ranges with
 * nothing else of interest in them. */
static const struct {
    int32_t first, last;
} newer[] = {
    {0x05C8, 0x05C9},   {0x07FD, 0x07FD},   {0x0897, 0x08D3},   {0x09FE, 0x09FE},
    {0x0C3C, 0x0C3C},   {0x0D3B, 0x0D3C},   {0x0EBA, 0x0EBA},   {0x1715, 0x1715},
    {0x1ABF, 0x1AF0},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0x105C9, 0x105E4},
    {0x10D24, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x11383, 0x113D0},
    {0x1145E, 0x1145E}, {0x11839, 0x11A99}, {0x11D42, 0x1612F}, {0x16D67, 0x16FF1},
    {0x1D127, 0x1D128}, {0x1D250, 0x1D281}, {0x1E08F, 0x1E6F5},
};

typedef enum kind {
    SETTLED,  /* stays, whatever comes before it */
    ATTACHES, /* may change or be changed by its neighbours */
    APART     /* newer than the reference: a wall on both sides */
} kind;

static bool is_newer(int32_t cp) {
    size_t lo = 0, hi = sizeof newer / sizeof newer[0];
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        if (newer[mid].last < cp) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < sizeof newer / sizeof newer[0] && newer[lo].first <= cp;
}

static size_t decompose(int32_t cp, int32_t out[DECOMPOSED_MAX]) {
    int boundclass = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char(
        cp, out, DECOMPOSED_MAX, UTF8PROC_STABLE | UTF8PROC_COMPOSE, &boundclass);
    TUG_CHECK(n > 0 && n <= DECOMPOSED_MAX);
    return (size_t)n;
}

/* Most characters that decompose are made whole again; some are only old names of others,
 * or excluded from composition. */
static bool composes_back(int32_t cp) {
    int32_t parts[DECOMPOSED_MAX];
    const size_t n = decompose(cp, parts);
    return utf8proc_normalize_utf32(parts, (utf8proc_ssize_t)n,
                                    UTF8PROC_STABLE | UTF8PROC_COMPOSE) == 1 &&
           parts[0] == cp;
}

static kind kind_of(int32_t cp) {
    if (cp < 0x300) return SETTLED;
    if ((cp >= 0x3400 && cp < 0xA000) || (cp >= 0xAC00 && cp < 0xD7A4)) {
        return SETTLED; /* ideographs and whole Hangul syllables, in a hurry */
    }
    if (is_newer(cp)) return APART;
    const utf8proc_property_t *p = utf8proc_get_property(cp);
    /* Marks, and the vowels and finals of Hangul, may attach to the left. */
    if (p->combining_class != 0 ||
        (p->category >= UTF8PROC_CATEGORY_MN && p->category <= UTF8PROC_CATEGORY_ME)) {
        return ATTACHES;
    }
    if (cp >= 0x1160 && cp < 0x1200) return ATTACHES;
    if (p->decomp_seqindex == UINT16_MAX || p->decomp_type != 0) return SETTLED;
    return composes_back(cp) ? SETTLED : ATTACHES;
}

/* ---- one span ------------------------------------------------------------------ */

static int class_of(int32_t cp) {
    return utf8proc_get_property(cp)->combining_class;
}

/* Stable counting sort of a run of marks. */
static void sort_marks(int32_t *marks, int32_t *scratch, size_t n) {
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++) start[class_of(marks[i]) + 1]++;
    for (int c = 1; c < 257; c++) start[c] += start[c - 1];
    for (size_t i = 0; i < n; i++) scratch[start[class_of(marks[i])]++] = marks[i];
    memcpy(marks, scratch, n * sizeof *marks);
}

static void order_marks(tug_nfc *nfc, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t end = i;
        bool sorted = true;
        int before = 0, class;
        while (end < n && (class = class_of(nfc->span[end])) != 0) {
            sorted = sorted && before <= class;
            before = class;
            end++;
        }
        if (!sorted) sort_marks(nfc->span + i, nfc->by_class, end - i);
        i = end + 1;
    }
}

static tug_status reserve(tug_nfc *nfc, size_t n, tug_err *err) {
    if (n <= nfc->cap) return TUG_OK;
    const size_t cap = n + n / 2 + 64;
    tug_free(nfc->span);
    tug_free(nfc->by_class);
    nfc->span = tug_alloc_array(cap, sizeof *nfc->span);
    nfc->by_class = tug_alloc_array(cap, sizeof *nfc->by_class);
    nfc->cap = nfc->span && nfc->by_class ? cap : 0;
    if (nfc->cap) return TUG_OK;
    return TUG_FAIL(err, TUG_ENOMEM,
                    "out of memory for %zu combining characters in a row", n);
}

/* Appends the NFC of one span to nfc->out. */
static tug_status compose(tug_nfc *nfc, tug_str span, tug_err *err) {
    TUG_TRY(reserve(nfc, span.n * 2 + DECOMPOSED_MAX, err));
    size_t n = 0;
    for (size_t i = 0; i < span.n;) {
        const int len = tug_utf8_next(span.p + i, span.n - i);
        n += decompose((int32_t)tug_utf8_decode(span.p + i, len), nfc->span + n);
        i += (size_t)len;
    }
    order_marks(nfc, n);
    const utf8proc_ssize_t n_composed = utf8proc_normalize_utf32(
        nfc->span, (utf8proc_ssize_t)n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    TUG_CHECK(n_composed > 0 && (size_t)n_composed <= n);
    for (utf8proc_ssize_t i = 0; i < n_composed; i++) {
        char utf8[4];
        const int len = tug_utf8_encode((uint32_t)nfc->span[i], utf8);
        tug_buf_append(&nfc->out, utf8, (size_t)len);
    }
    return tug_buf_ok(&nfc->out, err);
}

/* ---- the text ------------------------------------------------------------------ */

static int length_at(tug_str text, size_t i) {
    return tug_utf8_next(text.p + i, text.n - i);
}

static kind kind_at(tug_str text, size_t i) {
    return kind_of((int32_t)tug_utf8_decode(text.p + i, length_at(text, i)));
}

/* Start of the first character at or after i that is no SETTLED one, or text.n. */
static size_t find_unsettled(tug_str text, size_t i) {
    while (i < text.n) {
        if ((unsigned char)text.p[i] < FIRST_LEAD) {
            i++;
        } else {
            if (kind_at(text, i) == ATTACHES) return i;
            i += (size_t)length_at(text, i);
        }
    }
    return text.n;
}

/* The span around the character at `at`: it starts with what that may attach to, if that
 * is in reach, and ends where nothing attaches any more. */
static size_t span_start(tug_str text, size_t from, size_t at) {
    size_t before = at;
    while (before > from && ((unsigned char)text.p[--before] & 0xC0) == 0x80) {
    }
    return before < at && kind_at(text, before) == SETTLED ? before : at;
}

static size_t span_end(tug_str text, size_t at) {
    while (at < text.n && kind_at(text, at) == ATTACHES) {
        at += (size_t)length_at(text, at);
    }
    return at;
}

tug_status tug_nfc_apply(tug_nfc *nfc, tug_str text, tug_str *out, tug_err *err) {
    size_t at = find_unsettled(text, 0), copied = 0;
    if (at == text.n) {
        *out = text;
        return TUG_OK;
    }
    tug_buf_clear(&nfc->out);
    for (; at < text.n; at = find_unsettled(text, copied)) {
        const size_t start = span_start(text, copied, at), end = span_end(text, at);
        tug_buf_append(&nfc->out, text.p + copied, start - copied);
        TUG_TRY(compose(nfc, tug_str_make(text.p + start, end - start), err));
        copied = end;
    }
    tug_buf_append(&nfc->out, text.p + copied, text.n - copied);
    *out = tug_buf_view(&nfc->out);
    return tug_buf_ok(&nfc->out, err);
}

void tug_nfc_deinit(tug_nfc *nfc) {
    tug_buf_free(&nfc->out);
    tug_free(nfc->span);
    tug_free(nfc->by_class);
    *nfc = (tug_nfc){0};
}
