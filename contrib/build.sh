#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
set -eu

usage() {
    cat <<'END'
contrib/build.sh

Builds oci-systemd-hook and oci-hooks-runtime, linked statically, into target/static. Run it as an ordinary user; run by sudo,
it switches to the owner of this directory. contrib/install.sh installs what is built.

Needs Rust 1.85 or newer, a C compiler, a static libselinux and libclang.

Environment:
  SELINUX=no  builds without libselinux, for hosts without SELinux; libclang isn't needed in this case
END
}

stop() {
    echo "build.sh: $*" >&2
    exit 1
}

case ${1:-} in
'') ;;
-h | --help)
    usage
    exit
    ;;
*)
    echo "build.sh: unexpected argument \"$1\"; see --help" >&2
    exit 2
    ;;
esac
: "${SELINUX:=yes}"
case $SELINUX in
yes | no) ;;
*) stop "SELINUX is \"$SELINUX\"; it must be yes or no" ;;
esac
cd "$(dirname "$0")/.."

# The owner of target/ can't replace files that root creates there.
owner=$(stat -c %U .)
if [ -n "${SUDO_UID:-}" ] && [ "$(id -u)" = 0 ] && [ "$owner" != root ]; then
    # shellcheck disable=SC2016 # expanded by the other shell
    exec su -s /bin/sh "$owner" -c 'SELINUX=$0 exec contrib/build.sh' "$SELINUX"
fi

. contrib/rust.sh

# links TEXT LIBRARY...: checks whether this C program can be linked statically.
links() {
    text=$1
    shift
    printf '%s\n' "$text" | cc -static -o /dev/null -x c - "$@" >/dev/null 2>&1
}

missing=
# lacks WHAT PACKAGE...: notes what is missing.
lacks() {
    what=$1
    shift
    missing="$missing
  $what: $(packages "$@")"
}
if ! command -v cc >/dev/null; then
    lacks "a C compiler" "gcc libc6-dev" "gcc glibc-static" "gcc glibc-devel-static" gcc "gcc musl-dev"
elif ! links 'int main(void) { return 0; }'; then
    lacks "a static C library" libc6-dev glibc-static glibc-devel-static glibc musl-dev
elif [ "$SELINUX" = yes ] && ! links '#include <selinux/selinux.h>
int main(void) { return !freecon; }' -lselinux; then
    lacks "a static libselinux (or set SELINUX=no for hosts without SELinux)" libselinux1-dev \
        "libselinux-devel libselinux-static pcre2-static" "libselinux-devel libselinux-devel-static pcre2-devel-static" \
        "[Arch has none]" "libselinux-dev libselinux-static"
fi
if [ "$SELINUX" = yes ] && [ -z "${LIBCLANG_PATH:-}" ] && ! command -v clang >/dev/null &&
    ! ldconfig -p 2>/dev/null | grep -q libclang; then
    lacks "libclang, which reads libselinux's headers (or set SELINUX=no)" clang clang clang clang clang-dev
fi
[ -z "$missing" ] || stop "these are missing:$missing"

set --
case $SELINUX in
yes) export SELINUX_STATIC=1 ;; # For the crate selinux-sys.
no) set -- --no-default-features ;;
esac
target=${CARGO_TARGET_DIR:-target}
# A static program starts in two thirds of the time of a dynamic one, and loads no code from an image; see
# .github/SECURITY.md. Because of --target, these flags don't apply to build scripts and procedural
# macros, which can't be static.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
    cargo build --release --locked --bins --target "$host_triple" --target-dir "$target" "$@"
ln -sfn "$host_triple/release" "$target/static"
# cargo doesn't touch what is up to date, and install.sh chooses the newer of two builds.
touch "$target/static/oci-systemd-hook" "$target/static/oci-hooks-runtime"
echo "built $target/static: $("$target/static/oci-systemd-hook" --version), and oci-hooks-runtime"
