/* pytext.h - values as the reference template engine, a Python program, prints them.
 *
 * The model was trained on prompts that Jinja rendered, so a schema's 1e-7 must become
 * 1e-07 and a type list ['string', 'null'].  Numbers follow Python's json module:
 * integers exact, anything with a fraction or exponent through a double.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CHAT_PYTEXT_H
#define TUG_CHAT_PYTEXT_H

#include "base/str.h"
#include "json/json.h"

/* str(v): a string as it is; None, True, 1e-07; lists and dicts with quoted strings. */
void tug_py_str(tug_buf *out, const tug_json *v);

/* json.dumps(v, ensure_ascii=False), the template's tojson. */
void tug_py_tojson(tug_buf *out, const tug_json *v);

/* s.strip(), over Unicode white space. */
tug_str tug_py_strip(tug_str s);

#endif
