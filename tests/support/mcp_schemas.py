#!/usr/bin/env python3
"""The tool schemas of MCP servers, asked of the servers themselves over stdio, as a list
for constraint_schemas.py --more.  Servers are npm packages that were installed (by name)
into a folder outside of the repository; one that does not answer is named and left out.

    npm install --prefix FOLDER --ignore-scripts @modelcontextprotocol/server-filesystem ...
    python3 tests/support/mcp_schemas.py FOLDER OUT.json
"""
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

SECONDS = 20
ENV = {k: "x" for k in (
    "BRAVE_API_KEY", "GITHUB_PERSONAL_ACCESS_TOKEN", "GITLAB_PERSONAL_ACCESS_TOKEN",
    "GOOGLE_MAPS_API_KEY", "SLACK_BOT_TOKEN", "SLACK_TEAM_ID", "FIRECRAWL_API_KEY",
    "TAVILY_API_KEY", "NOTION_TOKEN")}


def send(proc, message):
    proc.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    proc.stdin.flush()


def answer(proc, wanted):
    for line in proc.stdout:
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if message.get("id") == wanted:
            return message.get("result", {})
    return {}


def tools_of(command, folder):
    proc = subprocess.Popen(command, cwd=folder, env={**os.environ, **ENV}, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL)
    timer = threading.Timer(SECONDS, proc.kill)
    timer.start()
    tools, cursor = [], None
    try:
        send(proc, {"id": 1, "method": "initialize", "params": {
            "protocolVersion": "2024-11-05", "capabilities": {},
            "clientInfo": {"name": "schemas", "version": "1"}}})
        answer(proc, 1)
        send(proc, {"method": "notifications/initialized"})
        for page in range(2, 20):
            send(proc, {"id": page, "method": "tools/list",
                        "params": {"cursor": cursor} if cursor else {}})
            result = answer(proc, page)
            tools += result.get("tools", [])
            cursor = result.get("nextCursor")
            if not cursor:
                break
    except OSError:
        pass
    finally:
        timer.cancel()
        proc.kill()
        proc.wait()
    return tools


def servers(folder):
    """(package, command) of every installed package that the folder's package.json names."""
    wanted = json.loads((folder / "package.json").read_text()).get("dependencies", {})
    for name in sorted(wanted):
        root = folder / "node_modules" / name
        about = json.loads((root / "package.json").read_text())
        programs = about.get("bin", {})
        programs = [programs] if isinstance(programs, str) else list(programs.values())
        if programs:
            yield f"{name} {about['version']}", ["node", str(root / programs[0]), str(folder)]


def main():
    folder, out = Path(sys.argv[1]).resolve(), []
    for name, command in servers(folder):
        tools = tools_of(command, folder)
        print(f"{name}: {len(tools)} tools" if tools else f"{name}: no answer, left out")
        out += [{"name": f"{name}:{t['name']}", "inputSchema": t["inputSchema"]} for t in tools]
    Path(sys.argv[2]).write_text(json.dumps(out))
    print(f"{len(out)} tools in {sys.argv[2]}")


if __name__ == "__main__":
    main()
