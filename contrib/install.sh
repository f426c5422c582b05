#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Builds the hook and the runtime wrapper, and installs them with the hook's descriptors and the manual pages.
#
#   DESTDIR     put in front of every path that is written (for packages)
#   PREFIX      /usr; podman and CRI-O look for descriptors in /usr/share alone
#   LIBEXECDIR  $PREFIX/libexec
#   SELINUX     yes; no builds without libselinux, for hosts without SELinux
#   PRECREATE   no; yes installs descriptors for podman's stage precreate as well, in a directory of their own:
#               in the shared one they would keep CRI-O from starting
set -eu
umask 022
: "${DESTDIR:=}" "${PREFIX:=/usr}" "${LIBEXECDIR:=$PREFIX/libexec}" "${SELINUX:=yes}" "${PRECREATE:=no}"
case $PRECREATE in
yes | no) ;;
*)
    echo "install.sh: PRECREATE must be yes or no" >&2
    exit 1
    ;;
esac

cd "$(dirname "$0")/.."
command -v cargo >/dev/null || {
    echo "install.sh: cargo is missing: install Rust 1.85 or newer from your distribution or https://rustup.rs" >&2
    exit 1
}

# A static binary starts in two thirds of the time of a dynamic one, and a hook is started for every
# container; contrib/HACKING.md has the figures.
set -- -C target-feature=+crt-static
case $SELINUX in
yes)
    printf '#include <selinux/selinux.h>\nint main(void) { return !freecon; }\n' |
        cc -static -o /dev/null -x c - -lselinux >/dev/null 2>&1 || {
        echo "install.sh: libselinux is missing: install libselinux1-dev and clang (on Fedora libselinux-devel," \
            "libselinux-static, glibc-static and clang), or set SELINUX=no for hosts without SELinux" >&2
        exit 1
    }
    export SELINUX_STATIC=1 # For selinux-sys.
    set -- -- "$@" -C link-arg=-T -C "link-arg=$PWD/src/sys/libselinux.ld"
    ;;
no) set -- --no-default-features -- "$@" ;;
*)
    echo "install.sh: SELINUX must be yes or no" >&2
    exit 1
    ;;
esac
for name in oci-systemd-hook oci-hooks-runtime; do
    cargo rustc --release --locked --quiet --bin "$name" "$@"
done

release=${CARGO_TARGET_DIR:-target}/release
install -D -m 755 "$release/oci-systemd-hook" "$DESTDIR$LIBEXECDIR/oci/hooks.d/oci-systemd-hook"
install -D -m 755 "$release/oci-hooks-runtime" "$DESTDIR$PREFIX/bin/oci-hooks-runtime"
for page in man1/oci-systemd-hook.1 man8/oci-hooks-runtime.8; do
    install -D -m 644 "share/man/$page" "$DESTDIR$PREFIX/share/man/$page"
done

# descriptors DIRECTORY: those of share/DIRECTORY. By rename: engines watch the directory, and a half-written
# descriptor is an error to them.
descriptors() {
    to=$DESTDIR$PREFIX/share/$1
    mkdir -p "$to"
    for template in "share/$1"/*.json.in; do
        name=$(basename "$template" .in)
        sed "s|@LIBEXECDIR@|$LIBEXECDIR|" "$template" >"$to/.$name.new"
        chmod 644 "$to/.$name.new"
        mv -f "$to/.$name.new" "$to/$name"
    done
}
descriptors containers/oci/hooks.d
[ "$PRECREATE" = no ] || descriptors oci-systemd-hook/precreate.d

documents=$DESTDIR$PREFIX/share/doc/oci-systemd-hook
install -D -m 644 README.md "$documents/README.md"
# What goes into the configuration of other programs.
examples=$documents/examples
mkdir -p "$examples"
(cd contrib && tar -cf - runc-hooks.json containerd crio docker quadlet system-container systemd) |
    tar --no-same-owner -C "$examples" -xf -
chmod -R u=rwX,go=rX "$examples"
