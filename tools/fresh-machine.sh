#!/usr/bin/env bash
# fresh-machine.sh - prove that a stranger can run tug: `git clone`, then ./dev demo and
# ./dev check, in a minimal Debian root made by debootstrap, with nothing else done to it.
#
#   usage: tools/fresh-machine.sh [SUITE]        (default bookworm; needs root, a network)
#
# The root is made in a temporary folder and removed afterwards.  TUG_FRESH_CACHE=DIR keeps
# the bare root (before the packages) there for the next run.
set -eu
cd "$(dirname "$0")/.."
suite=${1:-bookworm}
[ "$(id -u)" = 0 ] || { echo "fresh-machine: debootstrap and chroot need root" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "fresh-machine: install debootstrap" >&2; exit 1; }

work=$(mktemp -d)
root=$work/root
cleanup() {
    umount -l "$root/proc" 2>/dev/null || true
    umount -l "$root/dev/pts" 2>/dev/null || true
    umount -l "$root/dev" 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT

# The mirror of this machine, so that a local one is used where there is one.
mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\(http[^ ]*\) .*/\2/p; s/^URIs: *\(http[^ ]*\).*/\1/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v security | head -n 1)
cache=${TUG_FRESH_CACHE:-}
if [ -n "$cache" ] && [ -d "$cache/$suite" ]; then
    cp -a "$cache/$suite" "$root"
else
    debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"} >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log"; echo "fresh-machine: debootstrap failed" >&2; exit 1; }
    [ -z "$cache" ] || { mkdir -p "$cache"; cp -a "$root" "$cache/$suite"; }
fi
# What this machine needs to reach its mirror (proxy, certificates), the root needs too.
cp -a /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount --bind /dev/pts "$root/dev/pts" # a terminal, for the tests of the chat

git clone -q . "$root/root/tug"
in_root() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        chroot "$root" sh -c "cd /root/tug && $1"
}
passed=0
failed=0
for command in demo check; do
    if in_root "./dev $command" >"$work/$command.log" 2>&1; then
        passed=$((passed + 1))
        tail -n 15 "$work/$command.log"
    else
        failed=$((failed + 1))
        tail -n 60 "$work/$command.log"
        echo "fresh-machine: ./dev $command failed" >&2
    fi
done
[ -z "${TOTALS:-}" ] || echo "$passed $failed 0" >>"$TOTALS"
echo "fresh machine ($suite): $passed passed, $failed failed"
[ "$failed" -eq 0 ]
