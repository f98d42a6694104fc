/* api_text.h - JSON in the texts of tests: ' stands for ", so that it can be read.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_API_TEXT_H
#define TUG_TESTS_API_TEXT_H

#include "api/request.h"
#include "base/str.h"

/* Owned by the caller. */
tug_buf api_quoted(const char *text);
void api_replace(tug_buf *b, const char *old, const char *by);

typedef struct api_parsed {
    tug_arena arena;
    tug_api_request r;
} api_parsed;

/* Fails the test when the body is refused.  tug_arena_free(&p->arena) in the end. */
void api_parse(api_parsed *p, tug_api api, const char *body);

#define MSG(more) "{'messages':[{'role':'user','content':'x'}]" more "}"

/* Six tools of responses: two functions and a custom tool, one of each in a namespace, and
 * the shell. */
#define RESPONSES_TOOLS                                                              \
    "'tools':[{'type':'function','name':'f','description':'D','strict':false,"       \
    "'parameters':{'type':'object'}},"                                               \
    "{'type':'namespace','name':'ns','description':'N','tools':[{'type':'function'," \
    "'name':'f','strict':false,'parameters':{}},{'type':'custom','name':'h'}]},"     \
    "{'type':'function','name':'ns__f'},{'type':'web_search'},"                      \
    "{'type':'custom','name':'patch','description':'P','format':{'type':'grammar',"  \
    "'syntax':'lark','definition':'start: x'}},{'type':'local_shell'},"              \
    "{'type':'function','name':'f','description':'again'}]"

#endif
