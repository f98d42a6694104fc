/* cmd_render.c - `tug render`: the prompt that a chat request becomes.
 * SPDX-License-Identifier: MIT */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "chat/chat.h"
#include "chat/chat_request.h"
#include "cli/cli.h"
#include "gguf/gguf.h"
#include "json/json.h"

static const char help[] =
    "usage: tug render -m FILE [--json] < request.json\n"
    "\n"
    "Reads an OpenAI-style chat request (messages, tools, add_generation_prompt) and\n"
    "prints the exact text the model is given, without a newline of its own.\n"
    "\n"
    "  -m FILE   the model (GGUF) to render for\n"
    "  --json    {\"prompt\": ..., \"segments\": [{\"text\": ..., \"control\": ...}, "
    "...]},\n"
    "            where the control segments are the control tokens\n"
    "\n"
    "example:\n"
    "  echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}' |\n"
    "      tug render -m model.gguf\n";

/* A request is at most this long: far more than any context holds. */
enum { REQUEST_LIMIT = 256 << 20 };

/* Is FILE a model whose chats look like this?  A chat template of its own that we do not
 * know is worth a note: most such edits change nothing, some do. */
static tug_status check_model(const char *path, tug_err *err) {
    tug_gguf *g;
    TUG_TRY(tug_gguf_open(&g, path, err));
    tug_str arch = {0}, template = {0};
    tug_status s = tug_gguf_get_str(g, "general.architecture", &arch, NULL, err);
    if (s == TUG_OK && !tug_str_is(arch, "qwen3next")) {
        s = TUG_FAIL(err, TUG_EUNSUPPORTED,
                     "%s is a model of architecture '%.*s'; tug renders for qwen3next",
                     path, (int)(arch.n < 64 ? arch.n : 64), arch.p ? arch.p : "");
    }
    bool found = false;
    if (s == TUG_OK) {
        s = tug_gguf_get_str(g, "tokenizer.chat_template", &template, &found, err);
    }
    if (s == TUG_OK && found && !tug_chat_template_known(template)) {
        (void)fprintf(stderr,
                      "tug: note: %s carries an edited chat template; rendering with the "
                      "built-in one of Qwen3-Coder-Next\n",
                      path);
    }
    tug_gguf_close(&g);
    return s;
}

static void write_json(tug_buf *out, const tug_chat_prompt *prompt) {
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_SPACED);
    tug_json_begin_object(&w);
    tug_json_write_key(&w, tug_str_of("prompt"));
    tug_json_write_str(&w, tug_buf_view(&prompt->text));
    tug_json_write_key(&w, tug_str_of("segments"));
    tug_json_begin_array(&w);
    for (size_t i = 0; i < prompt->n_segments; i++) {
        tug_json_begin_object(&w);
        tug_json_write_key(&w, tug_str_of("text"));
        tug_json_write_str(&w, tug_chat_segment_text(prompt, i));
        tug_json_write_key(&w, tug_str_of("control"));
        tug_json_write_bool(&w, prompt->segments[i].control);
        tug_json_end_object(&w);
    }
    tug_json_end_array(&w);
    tug_json_end_object(&w);
    tug_buf_char(out, '\n');
}

static tug_status print(const tug_chat_prompt *prompt, bool as_json, tug_err *err) {
    tug_buf json = {0};
    if (as_json) write_json(&json, prompt);
    tug_status s = tug_buf_ok(&json, err);
    if (s == TUG_OK) {
        const tug_buf *const out = as_json ? &json : &prompt->text;
        (void)fwrite(out->p, 1, out->n, stdout); /* cli_flush reports a failure */
        s = cli_flush(err);
    }
    tug_buf_free(&json);
    return s;
}

static tug_status render(tug_str text, bool as_json, tug_err *err) {
    tug_arena arena = {0};
    tug_chat_prompt prompt = {0};
    tug_chat chat;
    const tug_json *request;
    tug_status s = tug_json_parse(text, &arena, &request, err);
    if (s == TUG_OK) s = tug_chat_from_json(request, &arena, &chat, err);
    if (s == TUG_OK) s = tug_chat_render(&chat, &prompt, err);
    if (s == TUG_OK) s = print(&prompt, as_json, err);
    tug_chat_prompt_free(&prompt);
    tug_arena_free(&arena);
    return s;
}

int cmd_render(int argc, char **argv) {
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *model = NULL;
    bool as_json = false;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "m:h", options, NULL)) != -1;) {
        switch (c) {
        case 'm': model = optarg; break;
        case 'j': as_json = true; break;
        case 'h': (void)fputs(help, stdout); return CLI_OK;
        default:
            return cli_usage("render", "unknown or incomplete option '%s'",
                             argv[optind - 1]);
        }
    }
    if (optind < argc) return cli_usage("render", "unexpected '%s'", argv[optind]);
    if (!model) return cli_usage("render", "which model? -m FILE is missing");
    tug_err err;
    tug_buf text = {0};
    tug_status s = check_model(model, &err);
    if (s == TUG_OK) {
        s = tug_read_all(STDIN_FILENO, "standard input", REQUEST_LIMIT, &text, &err);
    }
    if (s == TUG_OK) s = render(tug_buf_view(&text), as_json, &err);
    tug_buf_free(&text);
    return s == TUG_OK ? CLI_OK : cli_fail(&err);
}
