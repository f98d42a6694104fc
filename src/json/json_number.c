/* json_number.c - decimal text and doubles, in any locale.
 * SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "json/json.h"

bool tug_json_is_integer(const tug_json *v) {
    for (size_t i = 0; i < v->n; i++) {
        const char c = v->v.text[i];
        if (c == '.' || c == 'e' || c == 'E') return false;
    }
    return true;
}

double tug_json_f64(const tug_json *v) {
    /* The host program may run in a locale that writes 1,5.  newlocale("C") allocates
     * nothing and never fails: it names the built-in locale. */
    return strtod_l(v->v.text, NULL, newlocale(LC_ALL_MASK, "C", (locale_t)0));
}

/* A positive double as 0.d1 d2 ... dn x 10^point. */
typedef struct decimal {
    char digit[18]; /* (n,) and a 0 */
    int n;
    int point;
} decimal;

/* d rounded correctly to n digits. */
static decimal round_to(double d, int n) {
    char text[40];
    (void)snprintf(text, sizeof text, "%.*e", n - 1, d);
    decimal r = {.n = 0};
    const char *p = text;
    for (; *p != 'e'; p++) { /* steps over the decimal separator, whatever it is */
        if (isdigit((unsigned char)*p)) r.digit[r.n++] = *p;
    }
    r.point = (int)strtol(p + 1, NULL, 10) + 1;
    return r;
}

static bool reads_back(const decimal *r, double d) {
    char text[40]; /* written as an integer with exponent, which every locale reads */
    (void)snprintf(text, sizeof text, "%se%d", r->digit, r->point - r->n);
    return strtod(text, NULL) == d;
}

/* The fewest digits that read back as d, and of those the nearest to d. */
static decimal shortest(double d) {
    for (int n = 1; n < 17; n++) {
        decimal r = round_to(d, n);
        if (reads_back(&r, d)) return r;
        /* Above a power of two the doubles lie twice as far apart as below it, so there
         * the next decimal up may read back when the nearest, below, does not.  (A 9
         * would carry into a shorter number, which was tried before.) */
        if (r.digit[n - 1] < '9') {
            r.digit[n - 1]++;
            if (reads_back(&r, d)) return r;
        }
    }
    return round_to(d, 17);
}

/* Python's repr: plain digits for 1e-4 <= d < 1e16, otherwise an exponent. */
static int layout(const decimal *r, char *out, size_t size) {
    const int exponent = r->point - 1;
    if (exponent < -4 || exponent >= 16) {
        return snprintf(out, size, "%c%s%se%+03d", r->digit[0], r->n > 1 ? "." : "",
                        r->digit + 1, exponent);
    }
    if (r->point <= 0) {
        return snprintf(out, size, "0.%.*s%s", -r->point, "000", r->digit);
    }
    if (r->n > r->point) {
        return snprintf(out, size, "%.*s.%s", r->point, r->digit, r->digit + r->point);
    }
    return snprintf(out, size, "%s%.*s.0", r->digit, r->point - r->n, "000000000000000");
}

int tug_json_format_f64(double d, char out[TUG_JSON_F64_MAX]) {
    const char *sign = signbit(d) ? "-" : "";
    if (isnan(d)) return snprintf(out, TUG_JSON_F64_MAX, "nan");
    if (isinf(d)) return snprintf(out, TUG_JSON_F64_MAX, "%sinf", sign);
    if (d == 0) return snprintf(out, TUG_JSON_F64_MAX, "%s0.0", sign);
    const decimal r = shortest(fabs(d));
    const int n_sign = snprintf(out, TUG_JSON_F64_MAX, "%s", sign);
    return n_sign + layout(&r, out + n_sign, (size_t)(TUG_JSON_F64_MAX - n_sign));
}
