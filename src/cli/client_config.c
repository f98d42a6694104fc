/* client_config.c - see client_config.h.
 *
 * In a text, %name% is a place: %url%, %v1% (the address with /v1), %model%,
 * %tug/model% and %openai/model% (the id with a provider in front) are quoted as the
 * client's format wants it; %ctx% and %output% are numbers; %key% is what the row says for
 * a server with or without a key.  SPDX-License-Identifier: MIT */
#include "cli/client_config.h"

#include <inttypes.h>

#include "base/utf8.h"
#include "json/json.h"

typedef enum quoting {
    QUOTE_JSON, /* "..." with JSON's escapes, which TOML and YAML read as well */
    QUOTE_SHELL /* '...' */
} quoting;

typedef struct client {
    const char *name;
    quoting quote;
    const char *text;
    const char *with_key, *without_key; /* for %key% */
} client;

/* Where a client insists on a key although the server wants none, it is "tug".  Time limits
 * are raised: a long prompt takes minutes on a PC. */
static const client clients[] = {
    {"opencode", QUOTE_JSON,
     "// OpenCode: save as opencode.json in the project, or add it to "
     "~/.config/opencode/opencode.json.\n"
     "{\n"
     "  \"model\": %tug/model%,\n"
     "  \"small_model\": %tug/model%,\n"
     "  \"provider\": {\n"
     "    \"tug\": {\n"
     "      \"npm\": \"@ai-sdk/openai-compatible\",\n"
     "      \"name\": \"tug\",\n"
     "      \"options\": {\n"
     "        \"baseURL\": %v1%,\n"
     "        \"apiKey\": %key%,\n"
     "        \"timeout\": false\n"
     "      },\n"
     "      \"models\": {\n"
     "        %model%: {\n"
     "          \"name\": %model%,\n"
     "          \"limit\": {\"context\": %ctx%, \"output\": %output%}\n"
     "        }\n"
     "      }\n"
     "    }\n"
     "  }\n"
     "}\n",
     "\"{env:TUG_API_KEY}\"", "\"tug\""},
    {"claude-code", QUOTE_SHELL,
     "# Claude Code: save as tug.env, then: . ./tug.env && claude\n"
     "export ANTHROPIC_BASE_URL=%url%\n"
     "export ANTHROPIC_AUTH_TOKEN=%key%\n"
     "export ANTHROPIC_MODEL=%model%\n"
     "export ANTHROPIC_DEFAULT_HAIKU_MODEL=%model%\n"
     "export CLAUDE_CODE_MAX_CONTEXT_TOKENS=%ctx%\n"
     "export CLAUDE_CODE_MAX_OUTPUT_TOKENS=%output%\n"
     "export CLAUDE_CODE_ATTRIBUTION_HEADER=0\n"
     "export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1\n"
     "export API_TIMEOUT_MS=3600000\n",
     "\"$TUG_API_KEY\"", "tug"},
    {"codex", QUOTE_JSON,
     "# Codex: save as ~/.codex/config.toml, or as config.toml in the folder $CODEX_HOME "
     "names.\n"
     "model = %model%\n"
     "model_provider = \"tug\"\n"
     "model_context_window = %ctx%\n"
     "check_for_update_on_startup = false\n"
     "web_search = \"disabled\"\n"
     "\n"
     "[model_providers.tug]\n"
     "name = \"tug\"\n"
     "base_url = %v1%\n"
     "wire_api = \"responses\"\n"
     "%key%"
     "stream_idle_timeout_ms = 3600000\n"
     "\n"
     "[features]\n"
     "plugins = false\n"
     "apps = false\n"
     "\n"
     "[analytics]\n"
     "enabled = false\n"
     "\n"
     "[otel]\n"
     "exporter = \"none\"\n"
     "metrics_exporter = \"none\"\n",
     "env_key = \"TUG_API_KEY\"\n", ""},
    {"qwen-code", QUOTE_JSON,
     "// Qwen Code: save as ~/.qwen/settings.json, or .qwen/settings.json in the "
     "project.\n"
     "{\n"
     "  \"security\": {\"auth\": {\"selectedType\": \"openai\"}},\n"
     "  \"model\": {\"name\": %model%},\n"
     "  \"modelProviders\": {\n"
     "    \"openai\": [\n"
     "      {\n"
     "        \"id\": %model%,\n"
     "        \"name\": %model%,\n"
     "        \"baseUrl\": %v1%,\n"
     "        \"envKey\": \"TUG_API_KEY\",\n"
     "        \"generationConfig\": {\"contextWindowSize\": %ctx%, \"timeout\": "
     "3600000}\n"
     "      }\n"
     "    ]\n"
     "  },\n"
     "%key%"
     "  \"privacy\": {\"usageStatisticsEnabled\": false}\n"
     "}\n",
     "", "  \"env\": {\"TUG_API_KEY\": \"tug\"},\n"},
    {"aider", QUOTE_JSON,
     "# Aider: save as .aider.conf.yml in the project or in the home folder.\n"
     "model: %openai/model%\n"
     "weak-model: %openai/model%\n"
     "openai-api-base: %v1%\n"
     "%key%"
     "max-chat-history-tokens: %output%\n"
     "show-model-warnings: false\n"
     "timeout: 3600\n",
     "# It reads the key from the environment: export OPENAI_API_KEY=\"$TUG_API_KEY\"\n",
     "openai-api-key: tug\n"},
    {"continue", QUOTE_JSON,
     "# Continue: save as ~/.continue/config.yaml, or add the model to the one there.\n"
     "name: tug\n"
     "version: 1.0.0\n"
     "schema: v1\n"
     "models:\n"
     "  - name: %model%\n"
     "    provider: openai\n"
     "    model: %model%\n"
     "    apiBase: %v1%\n"
     "    apiKey: %key%\n"
     "    roles: [chat, edit, apply]\n"
     "    capabilities: [tool_use]\n"
     "    defaultCompletionOptions:\n"
     "      contextLength: %ctx%\n"
     "      maxTokens: %output%\n",
     "${{ secrets.TUG_API_KEY }}", "tug"},
    {"cline", QUOTE_SHELL,
     "# Cline: for its command line, run this; in an editor, enter the same in its "
     "settings\n"
     "# (API Provider: OpenAI Compatible, Context Window Size: %ctx%, Max Output Tokens: "
     "%output%).\n"
     "cline auth --provider openai-compatible --baseurl %v1% --modelid %model% --apikey "
     "%key%\n",
     "\"$TUG_API_KEY\"", "tug"},
    {"zed", QUOTE_JSON,
     "// Zed: merge this into ~/.config/zed/settings.json; %key%.\n"
     "{\n"
     "  \"agent\": {\"default_model\": {\"provider\": \"tug\", \"model\": %model%}},\n"
     "  \"language_models\": {\n"
     "    \"openai_compatible\": {\n"
     "      \"tug\": {\n"
     "        \"api_url\": %v1%,\n"
     "        \"available_models\": [\n"
     "          {\n"
     "            \"name\": %model%,\n"
     "            \"display_name\": %model%,\n"
     "            \"max_tokens\": %ctx%,\n"
     "            \"max_output_tokens\": %output%,\n"
     "            \"capabilities\": {\n"
     "              \"tools\": true,\n"
     "              \"images\": false,\n"
     "              \"parallel_tool_calls\": true,\n"
     "              \"prompt_cache_key\": true\n"
     "            }\n"
     "          }\n"
     "        ]\n"
     "      }\n"
     "    }\n"
     "  }\n"
     "}\n",
     "start it with the key in TUG_API_KEY", "start it with TUG_API_KEY=tug"},
    {"open-webui", QUOTE_SHELL,
     "# Open WebUI: save as tug.env, then: . ./tug.env && open-webui serve\n"
     "# It remembers its first start; later, change this in Settings, Connections.\n"
     "export OPENAI_API_BASE_URL=%v1%\n"
     "export OPENAI_API_KEY=%key%\n"
     "export DEFAULT_MODELS=%model%\n"
     "export ENABLE_OLLAMA_API=False\n"
     "export AIOHTTP_CLIENT_TIMEOUT=3600\n",
     "\"$TUG_API_KEY\"", "tug"},
};
enum { N_CLIENTS = sizeof clients / sizeof clients[0] };

tug_status cli_client_names(tug_buf *out, tug_err *err) {
    for (int i = 0; i < N_CLIENTS; i++)
        tug_buf_printf(out, "%s%s", i > 0 ? ", " : "", clients[i].name);
    return tug_buf_ok(out, err);
}

static tug_status find_client(const char *name, const client **out, tug_err *err) {
    for (int i = 0; i < N_CLIENTS; i++) {
        *out = &clients[i];
        if (strcmp(clients[i].name, name) == 0) return TUG_OK;
    }
    tug_buf names = {0};
    tug_status status = cli_client_names(&names, err);
    if (status == TUG_OK)
        status = TUG_FAIL(err, TUG_EUSAGE, "there is no client \"%.40s\"; known are %s",
                          name, names.p);
    tug_buf_free(&names);
    return status;
}

/* YAML and TOML refuse control characters in any quotes, and what Unicode calls a line or
 * paragraph separator ends a line for some readers. */
static bool can_be_written(tug_str s) {
    for (size_t i = 0; i < s.n;) {
        const int len = tug_utf8_next(s.p + i, s.n - i);
        if (len <= 0) return false;
        const uint32_t c = tug_utf8_decode(s.p + i, len);
        if (c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029 ||
            c == 0xFEFF || (c & 0xFFFE) == 0xFFFE)
            return false;
        i += (size_t)len;
    }
    return s.n > 0;
}

static void put_quoted(tug_buf *out, quoting quote, tug_str s) {
    if (quote == QUOTE_JSON) {
        tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
        tug_json_write_str(&w, s);
    } else {
        tug_buf_char(out, '\'');
        for (size_t i = 0; i < s.n; i++) {
            if (s.p[i] == '\'') tug_buf_text(out, "'\\'");
            tug_buf_char(out, s.p[i]);
        }
        tug_buf_char(out, '\'');
    }
}

/* Agents start to compact when context - output is full, so the answer gets a part of it. */
static int64_t output_tokens(int64_t n_ctx) {
    const int64_t quarter = n_ctx / 4, most = 32000;
    return quarter < most ? quarter : most;
}

typedef struct facts {
    tug_str url, model;
    int64_t n_ctx;
    bool has_key;
} facts;

static void put_place(tug_buf *out, const client *c, const facts *f, tug_str place) {
    tug_buf text = {0};
    if (tug_str_is(place, "ctx")) {
        tug_buf_printf(out, "%" PRId64, f->n_ctx);
    } else if (tug_str_is(place, "output")) {
        tug_buf_printf(out, "%" PRId64, output_tokens(f->n_ctx));
    } else if (tug_str_is(place, "key")) {
        tug_buf_text(out, f->has_key ? c->with_key : c->without_key);
    } else {
        const bool is_url = tug_str_is(place, "url") || tug_str_is(place, "v1");
        TUG_CHECK(is_url || tug_str_is(place, "model") ||
                  tug_str_is(place, "tug/model") || tug_str_is(place, "openai/model"));
        const size_t n_prefix = is_url ? 0 : place.n - strlen("model");
        tug_buf_append(&text, place.p, n_prefix);
        tug_buf_str(&text, is_url ? f->url : f->model);
        if (tug_str_is(place, "v1")) tug_buf_text(&text, "/v1");
        put_quoted(out, c->quote, tug_buf_view(&text));
        if (text.failed) out->failed = true;
    }
    tug_buf_free(&text);
}

static void fill_in(tug_buf *out, const client *c, const facts *f) {
    const char *p = c->text;
    for (const char *mark; (mark = strchr(p, '%')) != NULL;) {
        const char *end = strchr(mark + 1, '%');
        TUG_CHECK(end != NULL);
        tug_buf_append(out, p, (size_t)(mark - p));
        put_place(out, c, f, tug_str_make(mark + 1, (size_t)(end - mark - 1)));
        p = end + 1;
    }
    tug_buf_text(out, p);
}

tug_status cli_client_config(const char *name, const char *url, const char *model,
                             int64_t n_ctx, bool has_key, tug_buf *out, tug_err *err) {
    const facts f = {tug_str_of(url), tug_str_of(model), n_ctx, has_key};
    const client *c = NULL;
    TUG_TRY(find_client(name, &c, err));
    if (!can_be_written(f.model)) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "the model's id is empty or has characters that a configuration "
                        "cannot carry; give it another one with --alias");
    }
    if (!can_be_written(f.url)) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "the server's address is empty or has characters that a "
                        "configuration cannot carry");
    }
    if (n_ctx < 4) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "a client has to know the size of the context; give it with -c");
    }
    fill_in(out, c, &f);
    return tug_buf_ok(out, err);
}
