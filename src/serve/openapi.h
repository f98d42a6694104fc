/* openapi.h - the document at /openapi.json: every path, what it takes, what it answers.
 * openapi.json becomes part of the program when it is built (tools/embed_file.sh);
 * tests/cli/test_openapi.py holds it against routes.c, src/api and a running server.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_OPENAPI_H
#define TUG_SERVE_OPENAPI_H

#include "base/str.h"

/* OpenAPI 3.1, JSON. */
tug_str tug_openapi_json(void);

#endif
