/* plan_near.c - see plan_near.h.  SPDX-License-Identifier: MIT */
#include "plan/plan_near.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { MOST = 47 };

static size_t length(const char *z) {
    const size_t n = strlen(z);
    return n < MOST ? n : MOST;
}

/* Letters to insert, remove or replace, case ignored; words of more than MOST count as MOST. */
static int distance(const char *a, const char *b) {
    int row[MOST + 1];
    const size_t na = length(a), nb = length(b);
    for (size_t j = 0; j <= nb; j++) row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            const int same =
                tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            const int above = row[j];
            int best = diagonal + !same;
            if (above + 1 < best) best = above + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[nb];
}

static void append(char *out, size_t cap, const char *before, const char *word) {
    const size_t n = strlen(out);
    if (n + strlen(before) + strlen(word) + 1 < cap) {
        (void)snprintf(out + n, cap - n, "%s%s", before, word);
    }
}

/* The beginning of a word is as near as one letter. */
static int farness(const char *known, const char *word) {
    const size_t n = strlen(word);
    const int d = distance(known, word);
    return n >= 3 && d > 1 && strncasecmp(known, word, n) == 0 ? 1 : d;
}

/* The next one after `last` in order of distance, at most `far`; NULL: no more. */
static const char *nearest(const char *const *words, const char *word, int far,
                           const char *but) {
    const char *best = NULL;
    for (int i = 0; words[i]; i++) {
        const int d = farness(words[i], word);
        if (words[i] == but || d > far) continue;
        if (!best || d < farness(best, word)) best = words[i];
    }
    return best;
}

void tug_plan_near_words(const char *const *words, const char *word, char *out,
                         size_t cap) {
    const int far = (int)length(word) / 3 + 1;
    const char *first = nearest(words, word, far, NULL);
    out[0] = '\0';
    if (!first) {
        for (int i = 0; words[i]; i++)
            append(out, cap, i ? ", " : "known are ", words[i]);
        return;
    }
    append(out, cap, "did you mean ", first);
    const char *second = nearest(words, word, far, first);
    if (second) append(out, cap, " or ", second);
    append(out, cap, "?", "");
}
