#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Sourced by check.sh, demo.sh and machine.sh: what they need of a Debian machine. Sets AS_ROOT and
# defines say and image; installs the packages that are given as arguments to need.

say() { printf '\n== %s\n' "$*"; }

stop() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

if [ "$(id -u)" = 0 ]; then
    AS_ROOT=
else
    command -v sudo >/dev/null || stop "run this as root, or install sudo"
    AS_ROOT="sudo"
fi

command -v cargo >/dev/null ||
    stop "cargo is missing: install Rust 1.85 or newer, by 'apt install cargo' on Debian 13 and newer or from https://rustup.rs"
command -v apt-get >/dev/null || stop "this needs a Debian machine: it installs packages by apt"

# need PACKAGE...: installs what is missing.
need() {
    missing=
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "installing$missing"
    log=$(mktemp)
    # shellcheck disable=SC2086 # one word a package
    if ! { $AS_ROOT apt-get update && $AS_ROOT env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        stop "apt-get could not install$missing; the whole log is $log"
    fi
    rm -f "$log"
}

# image SUITE DIRECTORY [PACKAGES]: makes the root file system of a small Debian with systemd, once; with these, too, if
# there are any, a comma before each.
image() {
    [ -e "$2/lib/systemd/systemd" ] && return 0
    echo "making a Debian $1 with systemd (half a minute, some 250 MB in $2)"
    $AS_ROOT rm -rf "$2" "$2.new"
    mkdir -p "$(dirname "$2")"
    log=$(mktemp)
    # A mirror's unstable suite may be older than it says it may be.
    # Made beside its place, so that an interrupted run leaves no half image.
    if ! $AS_ROOT mmdebstrap --aptopt='Acquire::Check-Valid-Until "false"' \
        --variant=minbase --include="systemd,systemd-sysv,dbus${3:-}" "$1" "$2.new" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        stop "mmdebstrap could not make a Debian $1; the whole log is $log"
    fi
    rm -f "$log"
    $AS_ROOT mv "$2.new" "$2"
}
