/* chat_render.c - the Qwen3-Coder-Next template, turn by turn; see chat.h.
 * Read next: chat_tools.c.  SPDX-License-Identifier: MIT */
#include "base/sys.h"
#include "chat/chat.h"
#include "chat/chat_tools.h"
#include "chat/pytext.h"

static const char default_system[] = "You are Qwen, a helpful AI assistant that can "
                                     "interact with a computer to solve tasks.";

/* ---- segments --------------------------------------------------------------------- */

/* Records what the text gained since the last segment, if anything.  Being out of memory
 * is noted in the buffer, whose one check at the end covers both. */
static void end_segment(tug_chat_prompt *p, bool control) {
    size_t at = 0;
    if (p->n_segments > 0) {
        const tug_chat_segment *last = &p->segments[p->n_segments - 1];
        at = last->at + last->n;
    }
    if (p->text.failed || p->text.n == at) return;
    if (p->n_segments == p->cap_segments) {
        const size_t cap = p->cap_segments ? 2 * p->cap_segments : 32;
        tug_chat_segment *grown = tug_realloc_array(p->segments, cap, sizeof *grown);
        if (!grown) {
            p->text.failed = true;
            return;
        }
        p->segments = grown;
        p->cap_segments = cap;
    }
    p->segments[p->n_segments++] = (tug_chat_segment){at, p->text.n - at, control, -1};
}

static void add_control(tug_chat_prompt *p, const char *token) {
    end_segment(p, false);
    tug_buf_text(&p->text, token);
    end_segment(p, true);
}

/* ---- turns ------------------------------------------------------------------------ */

static void open_turn(tug_chat_prompt *p, tug_str role) {
    add_control(p, "<|im_start|>");
    tug_buf_str(&p->text, role);
}

static void close_turn(tug_chat_prompt *p) {
    add_control(p, "<|im_end|>");
    tug_buf_char(&p->text, '\n');
}

static bool is_role(const tug_chat_message *m, const char *role) {
    return tug_str_is(m->role, role);
}

/* The system turn, with the tools inside.  Without either there is none. */
static void add_head(tug_chat_prompt *p, const tug_str *system, const tug_json *tools) {
    const bool has_tools = tug_json_is(tools, TUG_JSON_ARRAY) && tools->n > 0;
    if (!system && !has_tools) return;
    open_turn(p, tug_str_of("system\n"));
    tug_buf_str(&p->text, system ? *system : tug_str_of(default_system));
    if (has_tools) tug_chat_tools_text(&p->text, tools);
    close_turn(p);
}

static void add_call(tug_buf *out, const tug_chat_call *call) {
    tug_buf_text(out, "\n<tool_call>\n<function=");
    tug_buf_str(out, call->name);
    tug_buf_text(out, ">\n");
    const size_t n = call->arguments ? call->arguments->n : 0;
    for (size_t i = 0; i < n; i++) {
        const tug_json *const value = tug_json_value(call->arguments, i);
        tug_buf_text(out, "<parameter=");
        tug_buf_str(out, tug_json_key(call->arguments, i));
        tug_buf_text(out, ">\n");
        if (value->kind == TUG_JSON_STRING) {
            tug_buf_str(out, tug_json_text(value));
        } else {
            tug_py_tojson(out, value);
        }
        tug_buf_text(out, "\n</parameter>\n");
    }
    tug_buf_text(out, "</function>\n</tool_call>");
}

/* The model's own turn that called tools: its text, if any, then the calls. */
static void add_calls(tug_chat_prompt *p, const tug_chat_message *m) {
    open_turn(p, tug_str_of("assistant"));
    const tug_str text = tug_py_strip(m->content);
    if (text.n > 0) {
        tug_buf_char(&p->text, '\n');
        tug_buf_str(&p->text, text);
        tug_buf_char(&p->text, '\n');
    }
    for (size_t i = 0; i < m->n_calls; i++) add_call(&p->text, &m->calls[i]);
    close_turn(p);
}

/* What the model wrote, whatever it was. */
static void add_raw(tug_chat_prompt *p, tug_str raw, size_t i_message) {
    open_turn(p, tug_str_of("assistant\n"));
    end_segment(p, false);
    const size_t n_before = p->n_segments;
    tug_buf_str(&p->text, raw);
    end_segment(p, false);
    if (p->n_segments > n_before) {
        p->segments[n_before].message = (int64_t)i_message;
    }
    close_turn(p);
}

/* Neighbouring tool results share one user turn.  As in the template, a conversation that
 * begins with one has no opening of that turn. */
static void add_tool_result(tug_chat_prompt *p, const tug_chat_message *m, bool first,
                            bool last) {
    if (first) open_turn(p, tug_str_of("user"));
    tug_buf_text(&p->text, "\n<tool_response>\n");
    tug_buf_str(&p->text, m->content);
    tug_buf_text(&p->text, "\n</tool_response>");
    if (last) close_turn(p);
}

static void add_turn(tug_chat_prompt *p, const tug_chat_message *m) {
    open_turn(p, m->role);
    tug_buf_char(&p->text, '\n');
    tug_buf_str(&p->text, m->content);
}

/* Messages [begin, n). */
static void add_messages(tug_chat_prompt *p, const tug_chat_message *m, size_t begin,
                         size_t n, bool open_end) {
    for (size_t i = begin; i < n; i++) {
        if (is_role(&m[i], "assistant") && m[i].raw.p) {
            add_raw(p, m[i].raw, i);
        } else if (is_role(&m[i], "tool")) {
            add_tool_result(p, &m[i], i > begin && !is_role(&m[i - 1], "tool"),
                            i + 1 == n || !is_role(&m[i + 1], "tool"));
        } else if (is_role(&m[i], "assistant") && m[i].n_calls > 0) {
            add_calls(p, &m[i]);
        } else {
            add_turn(p, &m[i]);
            /* What the assistant has already begun, the model goes on writing. */
            if (i + 1 == n && open_end && is_role(&m[i], "assistant")) return;
            close_turn(p);
        }
    }
    if (open_end) open_turn(p, tug_str_of("assistant\n"));
}

tug_status tug_chat_render(const tug_chat *chat, tug_chat_prompt *out, tug_err *err) {
    tug_buf_clear(&out->text);
    out->n_segments = 0;
    const tug_chat_message *m = chat->messages;
    const size_t n = chat->n_messages;
    size_t begin = 0;
    if (n == 0) {
        return TUG_FAIL(err, TUG_EFORMAT, "messages is empty; a chat needs at least one");
    }
    const tug_str *system = NULL;
    if (is_role(m, "system")) {
        if (m->content.p) system = &m->content;
        begin = 1;
    }
    add_head(out, system, chat->tools);
    add_messages(out, m, begin, n, chat->add_generation_prompt);
    end_segment(out, false);
    return tug_buf_ok(&out->text, err);
}

void tug_chat_prompt_free(tug_chat_prompt *prompt) {
    tug_buf_free(&prompt->text);
    tug_free(prompt->segments);
    *prompt = (tug_chat_prompt){0};
}
