#!/usr/bin/env python3
"""The OpenAPI document at /openapi.json is true: held against routes.c, against what src/api
reads, and against a running server, value by value.

    TUG=build/tug tests/cli/test_openapi.py [NAME ...]      only tests whose name contains NAME
"""
import http.client
import json
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from tug_server import MODEL, ROOT, SANITIZED, Server, run_tests, small_model  # noqa: E402

with open(os.path.join(ROOT, "src/serve/openapi.json"), encoding="utf-8") as f:
    DOC = json.load(f)
SCHEMAS = DOC["components"]["schemas"]
server = None

HELLO = [{"role": "user", "content": "Hi"}]
# API: (what counts or answers it quickly, its request, a smallest body, who reads it)
APIS = {
    "chat": ("/v1/chat/completions/input_tokens", "ChatRequest",
             {"messages": HELLO, "tools": [{"function": {"name": "f"}}]},
             ["src/api/request_chat.c", "src/chat/chat_request.c"]),
    "completions": ("/v1/completions", "CompletionRequest", {"prompt": "Hi", "max_tokens": 1},
                    ["src/api/request_completions.c"]),
    "responses": ("/v1/responses/input_tokens", "ResponseRequest", {"input": "Hi", "tools": [{"name": "f"}, {"type": "local_shell"}]},
                  ["src/api/request_responses.c", "src/api/tool_forms.c", "src/api/turns.c"]),
    "messages": ("/v1/messages/count_tokens", "MessagesRequest",
                 {"messages": HELLO, "tools": [{"name": "f"}]}, ["src/api/request_messages.c", "src/api/turns.c"]),
    "tokenize": ("/tokenize", "TokenizeRequest", {"content": "Hi"}, []),
    "detokenize": ("/detokenize", "DetokenizeRequest", {"tokens": [1]}, []),
}
VALUES = [None, True, False, 0, 1, -1, -2, 2, 9, 21, 101, 0.5, -0.5, 1.0, 2**64, "", "abc", "auto", "required",
          [], {}, [1], ["x"], ["x"] * 64, ["x"] * 65, [[1]], [["x"]], [-1], {"a": 1}, {"5": 1}, {"5": 101},
          {"type": "function"}, {"type": "text"}, {"type": "any"}, {"type": "nothing"}, {"type": "local_shell"},
          {"type": "allowed_tools", "tools": []}, {"name": "f"}, {"name": 1}, {"function": {"name": "f"}},
          {"function": {"name": 1}}, {"include_usage": True}, {"include_usage": 1}, [{"role": "user", "content": "x"}],
          [{"role": "nobody", "content": "x"}], [{"type": "function", "name": "g", "function": {"name": "g"}}]]
# What depends on other fields: tools win over the old functions; an empty prompt needs a suffix.
WITHOUT = {("chat", "functions"): "tools"}
EXCEPT = {("completions", "prompt"): [""]}


# ---- JSON Schema, as much as the document uses -------------------------------------------

KINDS = {"null": type(None), "boolean": bool, "string": str, "array": list, "object": dict}
KNOWN = {"type", "enum", "const", "anyOf", "allOf", "not", "$ref", "properties", "required", "items", "minItems",
         "maxItems", "maxProperties", "minimum", "maximum", "minLength", "pattern", "propertyNames",
         "additionalProperties", "description"}


def is_kind(value, kind):
    if kind in ("number", "integer"):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and (kind == "number" or value == int(value))
    return isinstance(value, KINDS[kind])


def same(a, b):
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def resolve(schema):
    return SCHEMAS[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def fits_parts(value, schema):
    if isinstance(value, str):
        return len(value) >= schema.get("minLength", 0) and re.search(schema.get("pattern", ""), value)
    if isinstance(value, list):
        return schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)) and all(
            fits(v, schema.get("items", {})) for v in value)
    if isinstance(value, dict):
        inner, other = schema.get("properties", {}), schema.get("additionalProperties", {})
        return (all(k in value for k in schema.get("required", [])) and
                len(value) <= schema.get("maxProperties", len(value)) and
                all(fits(k, schema.get("propertyNames", {})) and fits(v, inner.get(k, other)) for k, v in value.items()))
    if is_kind(value, "number"):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    return True


def fits(value, schema):
    schema = resolve(schema)
    assert set(schema) <= KNOWN, set(schema) - KNOWN
    kinds = schema.get("type", [])
    if kinds and not any(is_kind(value, k) for k in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    return bool(all(fits(value, s) for s in schema.get("allOf", [])) and
                ("anyOf" not in schema or any(fits(value, s) for s in schema["anyOf"])) and
                ("not" not in schema or not fits(value, schema["not"])) and
                ("enum" not in schema or any(same(value, v) for v in schema["enum"])) and
                ("const" not in schema or same(value, schema["const"])) and fits_parts(value, schema))


def fields(name):
    """{field: schema} of a request."""
    schema, found = SCHEMAS[name], {}
    for part in [schema, *schema.get("allOf", [])]:
        found.update(resolve(part).get("properties", {}))
    return found


def names_in(schema):
    """Every name of a property in it, however deep."""
    schema, found = resolve(schema), set()
    for key, value in schema.items():
        if key == "properties":
            found |= set(value)
            for v in value.values():
                found |= names_in(v)
        elif key in ("anyOf", "allOf"):
            for v in value:
                found |= names_in(v)
        elif key in ("items", "not") and value:
            found |= names_in(value)
    return found


# ---- paths -----------------------------------------------------------------------------

def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def test_it_is_served():
    assert server.get("/openapi.json").json() == DOC == server.get("/v1/openapi.json").json()
    assert DOC["openapi"].startswith("3.1")


def test_every_path_and_no_other():
    served = {(path.replace("*", "{id}"), method.lower()) for path, method in
              re.findall(r'\{"(/[^"]*)", "(GET|POST)", TUG_API', read("src/serve/routes.c"))}
    assert len(served) > 15
    assert served == {(path, method) for path, item in DOC["paths"].items() for method in item}


def test_every_reference_has_its_end():
    named = set(re.findall(r'"#/components/(schemas|responses)/(\w+)"', json.dumps(DOC)))
    there = {(kind, name) for kind in ("schemas", "responses") for name in DOC["components"][kind]}
    assert named == there, named ^ there


# ---- what is read ------------------------------------------------------------------------

CALL = re.compile(r"\btug_(?:field_(?:str|bool|i64|f32|array|object|text)|json_get|api_read_\w+)\(([^;{]*)")
TABLE = re.compile(r'\{"(\w+)", [-0-9.]+, [-0-9.]+, &')


def functions_of(path):
    """{name: text} of a C file in our style: a definition starts and ends in column 0."""
    return {m.group(1): m.group(0) for m in re.finditer(r"^\w[^\n;]*?\b(\w+)\((?:[^;{}]|\n)*?\) \{\n.*?^\}", read(path), re.M | re.S)}


def keys_read(text):
    keys = set(TABLE.findall(text))
    for call in CALL.findall(text):
        keys |= set(re.findall(r'"([a-z]\w*)"', call))
    for names in re.findall(r"\bstored\[\] = \{([^}]*)\}", text):
        keys |= set(re.findall(r'"(\w+)"', names))
    return keys


def test_every_field_that_is_read_is_in_it():
    """Fields that several APIs share count for those that call their reader."""
    shared = functions_of("src/api/request_fields.c")
    assert "tug_api_read_sampling" in shared and "temperature" in keys_read(shared["tug_api_read_sampling"])
    n_keys = 0
    for api, (_, request, _, sources) in APIS.items():
        text = "".join(map(read, sources))
        if not sources:
            continue
        todo = [name for name in shared if name in text]
        for name in todo:  # readers call readers
            todo += [n for n in shared if n not in todo and n + "(" in shared[name]]
        keys = keys_read(text + "".join(shared[name] for name in todo))
        if api == "chat":  # the answer of completions has no format
            assert {"response_format", "json_schema", "seed", "stream_options", "functions"} <= keys
        missing = keys - names_in(SCHEMAS[request])
        assert not missing, (api, missing)
        n_keys += len(keys)
    text = read("src/serve/ep_text.c")
    found = set(re.findall(r'(?:tug_json_get|flag)\(body, "(\w+)"', text))
    assert found == set(fields("TokenizeRequest")) | set(fields("DetokenizeRequest")), found
    assert n_keys > 100, n_keys


def test_the_server_takes_what_it_says():
    """Each field of each request with many values: taken where its schema fits, else a 400
    whose sentence begins with the field."""
    c = server.connect()
    n, wrong = 0, []
    for api, (path, request, body, _) in APIS.items():
        for key, schema in fields(request).items():
            beside = {k: v for k, v in body.items() if k != WITHOUT.get((api, key))}
            for value in VALUES:
                if value in EXCEPT.get((api, key), []):
                    continue
                c.request("POST", path, json.dumps({**beside, key: value}), {"Content-Type": "application/json"})
                answer = c.getresponse()
                text = answer.read().decode()
                n += 1
                good = answer.status == 200 if fits(value, schema) else (
                    answer.status == 400 and json.loads(text)["error"]["message"].startswith(key))
                if not good:
                    wrong.append(f"{api}.{key} = {json.dumps(value)[:60]}: {answer.status} {text[:150]}")
    assert not wrong, "\n".join([f"{len(wrong)} of {n}:", *wrong[:40]])
    assert n > 4000, n


# ---- what is answered ----------------------------------------------------------------------

def schema_of(path, method, status, content_type="application/json"):
    answer = DOC["paths"][path][method]["responses"][str(status)]
    if "$ref" in answer:
        answer = DOC["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
    return answer["content"][content_type]["schema"]


def hold(method, path, status, body=None, documented=None):
    answer = server.request(method.upper(), "/v1" + path, body and json.dumps(body), {"Content-Type": "application/json"})
    assert answer.status == status, (path, answer.status, answer.body)
    schema = schema_of(documented or path, method, status)
    assert fits(answer.json(), schema), (path, answer.body)
    # whether this can fail: no schema fits an answer that lacks what it must have
    for name in resolve(schema).get("required", []):
        assert not fits({k: v for k, v in answer.json().items() if k != name}, schema), (path, name)
    return answer.json()


def test_answers_fit():
    few = {"temperature": 0, "max_tokens": 3}
    hold("post", "/chat/completions", 200, {"messages": HELLO, **few, "logprobs": True, "top_logprobs": 2, "n": 2})
    hold("post", "/completions", 200, {"prompt": "Hi", **few, "logprobs": 2})
    hold("post", "/responses", 200, {"input": "Hi", "max_output_tokens": 3, "tools": [{"name": "f"}]})
    hold("post", "/messages", 200, {"messages": HELLO, **few})
    for path, body in (("/chat/completions/input_tokens", {"messages": HELLO}), ("/responses/input_tokens", {"input": "x"}),
                       ("/messages/count_tokens", {"messages": HELLO}), ("/apply-template", {"messages": HELLO}),
                       ("/tokenize", {"content": "a b"}), ("/tokenize", {"content": "é🙂", "with_pieces": True}),
                       ("/detokenize", {"tokens": [1, 2]})):
        hold("post", path, 200, body)
    name = hold("get", "/models", 200)["data"][0]["id"]
    hold("get", "/models/" + name, 200, documented="/models/{id}")
    hold("get", "/models/none", 404, documented="/models/{id}")
    for path in ("/health", "/props", "/status"):
        hold("get", path, 200)


def test_refusals_fit():
    for path in ("/chat/completions", "/completions", "/responses", "/messages", "/tokenize", "/detokenize"):
        hold("post", path, 400, {"n": "x"})
    hold("post", "/embeddings", 501, {})
    too_long = [{"role": "user", "content": "word " * 20000}]
    assert hold("post", "/chat/completions", 400, {"messages": too_long})["error"]["n_ctx"] > 0
    hold("post", "/messages", 400, {"messages": too_long})


def test_types_of_answers():
    for path, item in DOC["paths"].items():
        content = item.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if content and "{" not in path:
            assert server.get(path).headers["content-type"] in content, path
    for path, body in (("/chat/completions", {"messages": HELLO}), ("/completions", {"prompt": "x"}),
                       ("/responses", {"input": "x"}), ("/messages", {"messages": HELLO})):
        a = server.post(path, {**body, "max_tokens": 1, "max_output_tokens": 1, "stream": True})
        types = DOC["paths"][path]["post"]["responses"]["200"]["content"]
        assert a.headers["content-type"].split(";")[0] in types, (path, a.headers)


def main():
    global server
    with tempfile.TemporaryDirectory() as folder:
        with Server("-t", "1", "-c", "2048", model=small_model(folder) if SANITIZED else MODEL) as server:
            return run_tests(globals(), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
