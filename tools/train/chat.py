#!/usr/bin/env python3
"""Render conversations in the Qwen3-Coder-Next chat format.

A small rule-based renderer: the training dialogues are produced with it, with a flag for every
piece of text that says whether the assistant wrote it (those pieces carry the training loss).
`python3 chat.py --selftest TEMPLATE.jinja` compares it with a Jinja template on generated dialogues.
"""
import argparse
import json

DEFAULT_SYSTEM = ("You are Qwen, a helpful AI assistant that can interact with a computer "
                  "to solve tasks.")

_EXAMPLE = [
    "<tool_call>", "<function=example_function_name>", "<parameter=example_parameter_1>", "value_1",
    "</parameter>", "<parameter=example_parameter_2>",
    "This is the value for the second parameter", "that can span", "multiple lines",
    "</parameter>", "</function>", "</tool_call>"]
_REMINDERS = [
    "Function calls MUST follow the specified format: an inner <function=...></function> block must "
    "be nested within <tool_call></tool_call> XML tags",
    "Required parameters MUST be specified",
    "You may provide optional reasoning for your function call in natural language BEFORE the "
    "function call, but NOT after",
    "If there is no function call available, answer the question like normal with your current "
    "knowledge and do not tell the user about function calls"]
INSTRUCTIONS = (
    "\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    + "\n".join(_EXAMPLE) + "\n\n<IMPORTANT>\nReminder:\n"
    + "\n".join("- " + r for r in _REMINDERS) + "\n</IMPORTANT>")


def to_json(value):
    return json.dumps(value, ensure_ascii=False)


def _text(value):
    return value if isinstance(value, str) else to_json(value)


def _extra(fields, handled):
    if not isinstance(fields, dict):
        return ""
    return "".join(f"\n<{k}>{_text(v)}</{k}>" for k, v in fields.items() if k not in handled)


def render_tools(tools):
    """The '# Tools' section that follows the system text."""
    out = ["\n\n# Tools\n\nYou have access to the following functions:\n\n<tools>"]
    for tool in tools:
        tool = tool.get("function", tool)
        out.append(f"\n<function>\n<name>{tool['name']}</name>")
        if "description" in tool:
            out.append(f"\n<description>{str(tool['description']).strip()}</description>")
        out.append("\n<parameters>")
        params = tool.get("parameters")
        props = params.get("properties") if isinstance(params, dict) else None
        for name, fields in (props.items() if isinstance(props, dict) else ()):
            out.append(f"\n<parameter>\n<name>{name}</name>")
            if isinstance(fields, dict):
                if "type" in fields:
                    out.append(f"\n<type>{fields['type']}</type>")
                if "description" in fields:
                    out.append(f"\n<description>{str(fields['description']).strip()}</description>")
            out.append(_extra(fields, ("name", "type", "description")))
            out.append("\n</parameter>")
        out.append(_extra(params, ("type", "properties")))
        out.append("\n</parameters>")
        out.append(_extra(tool, ("type", "name", "description", "parameters")))
        out.append("\n</function>")
    return "".join(out) + "\n</tools>" + INSTRUCTIONS


def render_call(call):
    call = call.get("function", call)
    args = "".join(f"<parameter={k}>\n{_text(v)}\n</parameter>\n"
                   for k, v in call.get("arguments", {}).items())
    return f"<tool_call>\n<function={call['name']}>\n{args}</function>\n</tool_call>"


def render(messages, tools=None, add_generation_prompt=False):
    """Return a list of (text, is_assistant) pieces; their concatenation is the prompt."""
    pieces = []
    system = None
    if messages and messages[0]["role"] == "system":
        system, messages = messages[0]["content"], messages[1:]
    if system is not None or tools:
        head = "<|im_start|>system\n" + (DEFAULT_SYSTEM if system is None else system)
        pieces.append((head + (render_tools(tools) if tools else "") + "<|im_end|>\n", False))
    for i, m in enumerate(messages):
        role = m["role"]
        if role == "assistant" and m.get("tool_calls"):
            content = m.get("content")
            lead = ""
            if isinstance(content, str) and content.strip():
                lead = content.strip() + "\n\n"
            body = lead + "\n".join(render_call(c) for c in m["tool_calls"])
            pieces += [("<|im_start|>assistant\n", False), (body + "<|im_end|>", True), ("\n", False)]
        elif role == "tool":
            prev = messages[i - 1]["role"] if i else None
            nxt = messages[i + 1]["role"] if i + 1 < len(messages) else None
            text = "<|im_start|>user" if prev is not None and prev != "tool" else ""
            text += f"\n<tool_response>\n{m['content']}\n</tool_response>"
            pieces.append((text + ("<|im_end|>\n" if nxt != "tool" else ""), False))
        elif role == "assistant":
            pieces += [("<|im_start|>assistant\n", False), (m["content"] + "<|im_end|>", True), ("\n", False)]
        else:
            pieces.append((f"<|im_start|>{role}\n{m['content']}<|im_end|>\n", False))
    if add_generation_prompt:
        pieces.append(("<|im_start|>assistant\n", False))
    return pieces


def render_text(messages, tools=None, add_generation_prompt=False):
    return "".join(t for t, _ in render(messages, tools, add_generation_prompt))


def jinja_render(template_text, messages, tools=None, add_generation_prompt=False):
    """Render with Jinja in the environment that transformers uses."""
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[jinja2.ext.loopcontrols])
    env.filters["tojson"] = lambda x, **kw: json.dumps(x, ensure_ascii=False, **kw)
    return env.from_string(template_text).render(
        messages=messages, tools=tools, add_generation_prompt=add_generation_prompt)


def selftest(template_path, count=2000, seed=1):
    import random
    import dialogues
    text = open(template_path, encoding="utf-8").read()
    rng = random.Random(seed)
    for i in range(count):
        conv = dialogues.conversation(rng, dialogues.TRAIN)
        a = render_text(conv["messages"], conv.get("tools"), bool(i & 1))
        b = jinja_render(text, conv["messages"], conv.get("tools"), bool(i & 1))
        if a != b:
            raise SystemExit(f"conversation {i} differs:\n{a!r}\n{b!r}")
    print(f"{count} conversations render identically")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--selftest", metavar="TEMPLATE", required=True)
    p.add_argument("--count", type=int, default=2000)
    a = p.parse_args()
    selftest(a.selftest, a.count)
