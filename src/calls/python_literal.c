/* python_literal.c - see python_literal.h.  SPDX-License-Identifier: MIT */
#include "calls/python_literal.h"

#include "base/utf8.h"
#include "json/json.h"

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
static tug_str skip(tug_str s, size_t n) {
    return tug_str_make(s.p + n, s.n - n);
}
static size_t count_digits(tug_str s) {
    size_t n = 0;
    while (n < s.n && is_digit(s.p[n])) n++;
    return n;
}

/* ---- numbers ---------------------------------------------------------------------- */

/* Length of the exponent at the start of s: 0 for none. */
static size_t exponent_length(tug_str s) {
    if (s.n == 0 || (*s.p != 'e' && *s.p != 'E')) return 0;
    const size_t sign = s.n > 1 && (s.p[1] == '+' || s.p[1] == '-') ? 1 : 0;
    const size_t digits = count_digits(skip(s, 1 + sign));
    return digits > 0 ? 1 + sign + digits : 0;
}

bool tug_number_to_json(tug_str text, tug_buf *out) {
    tug_str s = text;
    const bool negative = s.n > 0 && *s.p == '-';
    if (s.n > 0 && (*s.p == '-' || *s.p == '+')) s = skip(s, 1);
    tug_str whole = tug_str_make(s.p, count_digits(s));
    s = skip(s, whole.n);
    tug_str fraction = {0};
    const bool point = s.n > 0 && *s.p == '.';
    if (point) {
        s = skip(s, 1);
        fraction = tug_str_make(s.p, count_digits(s));
        s = skip(s, fraction.n);
    }
    if (whole.n + fraction.n == 0 || exponent_length(s) != s.n) return false;
    while (whole.n > 1 && *whole.p == '0') whole = skip(whole, 1);
    if (negative) tug_buf_char(out, '-');
    if (whole.n > 0) tug_buf_str(out, whole);
    if (whole.n == 0) tug_buf_char(out, '0');
    if (point) tug_buf_char(out, '.');
    if (fraction.n > 0) tug_buf_str(out, fraction);
    if (point && fraction.n == 0) tug_buf_char(out, '0');
    if (s.n > 0) tug_buf_str(out, s);
    return true;
}

/* ---- strings ---------------------------------------------------------------------- */

/* \xHH and \UHHHHHHHH name a character by `digits` hexadecimal digits; false when they do
 * not.  (\uHHHH is JSON's own.) */
static bool write_hex_escape(tug_str s, size_t digits, tug_buf *out) {
    uint32_t cp = 0;
    if (s.n < 2 + digits) return false;
    for (size_t i = 2; i < 2 + digits; i++) {
        static const char hex[] = "0123456789abcdef";
        const char lower = (char)(s.p[i] | 0x20);
        const char *const at = memchr(hex, is_digit(s.p[i]) ? s.p[i] : lower, 16);
        if (!at || (!is_digit(s.p[i]) && !is_letter(s.p[i]))) return false;
        cp = cp << 4 | (uint32_t)(at - hex);
    }
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF)) cp = 0xFFFD;
    char utf8[4];
    tug_json_escape(out, tug_str_make(utf8, (size_t)tug_utf8_encode(cp, utf8)));
    return true;
}

/* The escape at the start of s; returns how many bytes it has. */
static size_t write_escape(tug_str s, tug_buf *out) {
    if (s.n < 2) {
        tug_buf_text(out, "\\\\");
        return 1;
    }
    switch (s.p[1]) {
    case '\n': return 2; /* Python joins the lines */
    case '\'': tug_buf_char(out, '\''); return 2;
    case 'a': tug_buf_text(out, "\\u0007"); return 2;
    case 'v': tug_buf_text(out, "\\u000b"); return 2;
    case 'x':
        if (write_hex_escape(s, 2, out)) return 4;
        break;
    case 'U':
        if (write_hex_escape(s, 8, out)) return 10;
        break;
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
    case 'u': tug_buf_append(out, s.p, 2); return 2;
    default: break;
    }
    tug_buf_text(out, "\\\\"); /* Python keeps the backslash of an unknown escape */
    return 1;
}

/* The string at the start of s, in either kind of quotes; returns its length. */
static size_t write_string(tug_str s, tug_buf *out) {
    const char quote = *s.p;
    tug_buf_char(out, '"');
    size_t i = 1;
    while (i < s.n && s.p[i] != quote) {
        if (s.p[i] == '\\') {
            i += write_escape(skip(s, i), out);
            continue;
        }
        size_t n = 1;
        while (i + n < s.n && s.p[i + n] != quote && s.p[i + n] != '\\') n++;
        tug_json_escape(out, tug_str_make(s.p + i, n));
        i += n;
    }
    if (i < s.n) tug_buf_char(out, '"'); /* else open: no JSON */
    return i < s.n ? i + 1 : i;
}

/* ---- the rest --------------------------------------------------------------------- */

static size_t write_word(tug_str s, tug_buf *out) {
    static const char *const words[][2] = {
        {"True", "true"}, {"False", "false"}, {"None", "null"}};
    size_t n = 0;
    while (n < s.n && (is_letter(s.p[n]) || is_digit(s.p[n]))) n++;
    const tug_str word = tug_str_make(s.p, n);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!tug_str_is(word, words[i][0])) continue;
        tug_buf_text(out, words[i][1]);
        return n;
    }
    tug_buf_str(out, word);
    return n;
}

static size_t write_number(tug_str s, tug_buf *out) {
    size_t n = 0;
    while (n < s.n && (is_digit(s.p[n]) || is_letter(s.p[n]) || strchr("+-.", s.p[n]))) {
        if (s.p[n] == '\0') break;
        n++;
    }
    const tug_str text = tug_str_make(s.p, n);
    if (!tug_number_to_json(text, out)) tug_buf_str(out, text);
    return n;
}

/* Is the comma at the start of s the last thing in its list? */
static bool is_trailing_comma(tug_str s) {
    size_t i = 1;
    while (i < s.n && strchr(" \t\r\n", s.p[i]) && s.p[i] != '\0') i++;
    return i < s.n && (s.p[i] == ']' || s.p[i] == '}');
}

void tug_python_to_json(tug_str in, tug_buf *out) {
    tug_str s = in;
    while (s.n > 0) {
        const char c = *s.p;
        size_t n = 1;
        if (c == '\'' || c == '"') {
            n = write_string(s, out);
        } else if (is_letter(c)) {
            n = write_word(s, out);
        } else if (is_digit(c) || c == '+' || c == '-' || c == '.') {
            n = write_number(s, out);
        } else if (c != ',' || !is_trailing_comma(s)) {
            tug_buf_char(out, c);
        }
        s = skip(s, n);
    }
}
