#!/bin/sh
# `make demo`, `make test` and `make install` as on a fresh machine: in a root of Debian that holds a
# C compiler, make and python3 and nothing else, as an ordinary user, warnings being errors. Wants to
# be root, and debootstrap; where either is missing it says so and ends with status 77.
#
#     test/builds/bare.sh [SUITE]      # trixie, unless another is named
#
# BARE_ROOT=FOLDER keeps the root there, and uses it again; MIRROR=URL has its packages.
set -eu
umask 022
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin
suite=${1:-trixie}

[ "$(id -u)" -eq 0 ] || { echo "bare.sh: only root can make a root folder" >&2; exit 77; }
command -v debootstrap >/dev/null || { echo "bare.sh: debootstrap is not installed" >&2; exit 77; }

work=$(mktemp -d)
root=${BARE_ROOT:-$work/root}
log=$work/log
clean() {
    # debootstrap mounts these for itself; one that was interrupted may have left them
    for folder in proc sys; do umount "$root/$folder" 2>/dev/null || true; done
    rm -rf --one-file-system "$work" "$root/home/user/lape"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM

# The user is made last, so a root that has one is whole.
if ! [ -d "$root/home/user" ]; then
    # Packages come from where this machine's own do; without such a place, debootstrap knows one.
    : "${MIRROR=$(apt-get indextargets --no-release-info --format '$(REPO_URI)' 'COMPONENT: main' \
        "RELEASE: $(. /etc/os-release && echo "${VERSION_CODENAME:-}")" 2>/dev/null | head -n 1)}"
    eval "$(apt-config shell http_proxy Acquire::http::Proxy 2>/dev/null)"
    [ -z "${http_proxy:-}" ] || export http_proxy
    debootstrap --variant=minbase --include=gcc,libc6-dev,make,python3 "$suite" "$root" \
        ${MIRROR:+"$MIRROR"} >"$log" 2>&1 || { cat "$log"; exit 1; }
    chroot "$root" useradd --create-home user
fi

rm -rf "$root/home/user/lape"
mkdir "$root/home/user/lape"
git archive HEAD | tar x -C "$root/home/user/lape"
chroot "$root" chown -R user:user /home/user/lape

# Python's warnings are all shown, not raised: raised, the program would take some for errors of its
# input, and refuse that. But not those of what is closed only at the end, which Python never shows.
status=0
chroot "$root" su - user -c '
    cd lape || exit
    export PYTHONWARNINGS=default,ignore::ResourceWarning
    status=0
    for target in demo test; do
        make $target WARN="-Wall -Wextra -Wpedantic -Werror" && continue
        echo "bare.sh: make $target failed"
        status=1
    done
    # What is installed works, and nothing of it is left behind.
    there=$PWD/installed
    for target in install uninstall; do
        make $target WARN="-Wall -Wextra -Wpedantic -Werror" PREFIX=/usr DESTDIR="$there" &&
            { [ $target = uninstall ] || "$there/usr/bin/lape" --version; } && continue
        echo "bare.sh: make $target failed"
        status=1
    done
    left=$(find "$there" ! -type d)
    [ -z "$left" ] || { echo "bare.sh: make uninstall leaves $left"; status=1; }
    exit $status' >"$log" 2>&1 </dev/null || status=1
warned=$(grep -m 1 '[A-Z][A-Za-z]*Warning: ' "$log" || true)
[ -z "$warned" ] || status=1

if [ $status -eq 0 ]; then grep '^skipped: ' "$log" || true; else cat "$log"; fi
[ -z "$warned" ] || echo "bare.sh: Python warns: $warned"
grep '^[0-9]* passed, [0-9]* failed$' "$log" | tail -n 1
exit $status
