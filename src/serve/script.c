/* script.c - see script.h.  SPDX-License-Identifier: MIT */
#include "serve/script.h"

#include "base/file.h"
#include "base/sys.h"
#include "serve/serve_impl.h"
#include "json/json.h"

#ifdef TUG_SCRIPTED

struct tug_script_rule {
    tug_str when;
    tug_ids say; /* owned */
    double times, prefill_s, token_s;
    bool always;
};

static double number_or(const tug_json *v, const char *key, double otherwise) {
    const tug_json *n = tug_json_get(v, key);
    return tug_json_is(n, TUG_JSON_NUMBER) ? tug_json_f64(n) : otherwise;
}

static tug_status read_rule(tug_serve *s, const tug_json *v, struct tug_script_rule *rule,
                            tug_err *err) {
    const tug_json *say = tug_json_get(v, "say"), *when = tug_json_get(v, "when");
    if (!tug_json_is(say, TUG_JSON_STRING)) {
        return TUG_FAIL(err, TUG_EFORMAT, "script: every rule needs a text `say`");
    }
    *rule = (struct tug_script_rule){.times = number_or(v, "times", 1.0),
                                     .prefill_s = number_or(v, "prefill_s", 0.0),
                                     .token_s = number_or(v, "token_s", 0.0)};
    rule->always = rule->times == 0.0;
    if (tug_json_is(when, TUG_JSON_STRING)) rule->when = tug_json_text(when);
    return tug_encode(s->encoder, tug_json_text(say), TUG_CONTROL_IS_TEXT, &rule->say,
                      err);
}

static tug_status read_rules(tug_serve *s, tug_str text, tug_err *err) {
    const tug_json *rules = NULL;
    tug_script *script = &s->script;
    TUG_TRY(tug_json_parse(text, &script->arena, &rules, err));
    if (!tug_json_is(rules, TUG_JSON_ARRAY)) {
        return TUG_FAIL(err, TUG_EFORMAT, "script: it must be an array of rules");
    }
    script->rule = tug_arena_array(&script->arena, rules->n, sizeof *script->rule);
    if (!script->rule) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the script");
    for (size_t i = 0; i < rules->n; i++) {
        TUG_TRY(read_rule(s, tug_json_at(rules, i), &script->rule[i], err));
        script->n++;
    }
    return TUG_OK;
}

tug_status tug_script_load(tug_serve *s, const char *path, tug_err *err) {
    tug_file f;
    tug_buf text = {0};
    TUG_TRY(tug_file_open(&f, path, err));
    tug_status status = tug_read_all(f.fd, path, (size_t)64 << 20, &text, err);
    tug_file_close(&f);
    if (status == TUG_OK) status = read_rules(s, tug_buf_view(&text), err);
    tug_buf_free(&text);
    return status;
}

void tug_script_free(tug_script *script) {
    for (size_t i = 0; i < script->n; i++) tug_ids_free(&script->rule[i].say);
    tug_arena_free(&script->arena);
    *script = (tug_script){0};
}

static bool contains(tug_str text, tug_str part) {
    return part.n == 0 || (text.n > 0 && memmem(text.p, text.n, part.p, part.n));
}

tug_scripted tug_script_choose(tug_serve *s, tug_str prompt) {
    tug_scripted found = {0};
    (void)pthread_mutex_lock(&s->front);
    for (size_t i = 0; i < s->script.n && !found.ids; i++) {
        struct tug_script_rule *rule = &s->script.rule[i];
        if ((!rule->always && rule->times < 1.0) || !contains(prompt, rule->when))
            continue;
        rule->times -= 1.0;
        static const int32_t nothing;
        found = (tug_scripted){rule->say.n ? rule->say.p : &nothing, rule->say.n,
                               rule->prefill_s, rule->token_s};
    }
    (void)pthread_mutex_unlock(&s->front);
    return found;
}

#else

tug_status tug_script_load(tug_serve *s, const char *path, tug_err *err) {
    (void)s;
    return TUG_FAIL(err, TUG_EUNSUPPORTED,
                    "%s: scripted answers exist in the test program only (make tests)",
                    path);
}

void tug_script_free(tug_script *script) {
    (void)script;
}

tug_scripted tug_script_choose(tug_serve *s, tug_str prompt) {
    (void)s;
    (void)prompt;
    return (tug_scripted){0};
}

#endif
