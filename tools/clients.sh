#!/usr/bin/env bash
# clients.sh - the real clients that the long tests run against `tug serve`: coding agents,
# the vendors' SDKs, test tools, and a Node 22 for them.
#
#   tools/clients.sh [NAME ...]      all, or those named; what is there already is left alone
#
# They go into $TUG_CLIENTS (default ~/.cache/tug-clients), each into a folder of its own with
# its version in the file `.version`; the tests look for them there (tests/support/agents.py).
# What cannot be installed is said in one line, `skip NAME: ...`, and its tests skip: a client
# that its maker withdrew does not stop our tests.
set -u

# name, kind, packages: the versions the tests passed with.  Aider has a folder of its own
# because it pins older SDKs.
CLIENTS='
node         npm  node@22.23.3 npm@10.9.4
opencode     npm  opencode-ai@1.18.33
codex        npm  @openai/codex@0.169.0
claude-code  npm  @anthropic-ai/claude-code@2.1.330
qwen-code    npm  @qwen-code/qwen-code@0.24.4
sdk-js       npm  openai@7.57.0 @anthropic-ai/sdk@1.12.0
sdk-py       pip  openai==3.54.0 anthropic==2.12.0 schemathesis==4.32.5 jsonschema==4.26.0 playwright==1.65.2
aider        pip  aider-chat==0.86.2
'

root=${TUG_CLIENTS:-$HOME/.cache/tug-clients}
mkdir -p "$root" || exit 1
exec 9>"$root/.lock"
flock 9 # two sessions on one machine

export npm_config_update_notifier=false npm_config_fund=false npm_config_audit=false
export npm_config_loglevel=error NO_UPDATE_NOTIFIER=1 DISABLE_TELEMETRY=1 DO_NOT_TRACK=1
export PIP_DISABLE_PIP_VERSION_CHECK=1 PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1

debian() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >/dev/null
}

# npm of our own Node where it is there, so that a package is chosen for that Node; any other
# npm is good enough to fetch it.
npm_install() {
    local dir=$1 bin=$root/node/node_modules
    shift
    printf '{"private": true}\n' >"$dir/package.json" || return 1
    if [ -x "$bin/node/bin/node" ]; then
        (cd "$dir" && PATH="$bin/node/bin:$PATH" node "$bin/npm/bin/npm-cli.js" install "$@")
    else
        command -v npm >/dev/null || debian npm || { echo "there is no npm" && return 1; }
        (cd "$dir" && npm install "$@")
    fi
}

pip_install() {
    local dir=$1
    shift
    python3 -c 'import venv, ensurepip' 2>/dev/null || debian python3-venv
    python3 -m venv "$dir" && "$dir/bin/pip" install -q "$@"
}

reason() {
    { grep -iE '^(npm err|error)' "$1" | grep -vE ' code |complete log' || tail -n 1 "$1"; } |
        head -n 1 | cut -c 1-200
}

install() {
    local name=$1 kind=$2 dir=$root/$1 log
    shift 2
    [ "$(cat "$dir/.version" 2>/dev/null)" = "$*" ] && return 0
    log=$root/$name.log
    rm -rf "$dir" && mkdir -p "$dir" || return 1
    if "${kind}_install" "$dir" "$@" >"$log" 2>&1; then
        printf '%s\n' "$*" >"$dir/.version" && rm -f "$log"
        printf 'installed %s: %s\n' "$name" "$*"
    else
        rm -rf "$dir"
        printf 'skip %s: could not be installed (%s)\n' "$name" "$(reason "$log")"
    fi
}

while read -r name kind packages; do
    [ -n "$name" ] || continue
    case " ${*:-$name} node " in
    # shellcheck disable=SC2086
    *" $name "*) install "$name" "$kind" $packages </dev/null ;;
    esac
done <<<"$CLIENTS"
exit 0
