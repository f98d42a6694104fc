/* page.h - the page at `/`.  index.html becomes part of the program when it is built
 * (tools/embed_page.sh), so that it needs no file at run time.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_PAGE_H
#define TUG_SERVE_PAGE_H

#include "base/str.h"

/* The whole document, UTF-8; content type "text/html; charset=utf-8". */
tug_str tug_page_html(void);

/* Value of its Content-Security-Policy header: it may run its own script and use its own
 * style, both named by their hashes, and talk to this server.  Nothing else. */
tug_str tug_page_policy(void);

#endif
