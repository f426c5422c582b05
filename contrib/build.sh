#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
set -eu

usage() {
    cat <<'END'
contrib/build.sh

Builds oci-systemd-hook and oci-hooks-runtime, linked statically, into target/static. Run it as an ordinary user; root has
it done by the user to whom this directory belongs. contrib/install.sh installs what is built.

Needs Rust 1.85 or newer, a C compiler, a static libselinux and libclang.

Environment:
  SELINUX=no  builds without libselinux, for hosts without SELinux; libclang isn't needed then either
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

# Whatever root makes in target/, its owner can't replace.
owner=$(stat -c %U .)
if [ "$(id -u)" = 0 ] && [ "$owner" != root ]; then
    # shellcheck disable=SC2016 # expanded by the other shell
    exec su -s /bin/sh "$owner" -c 'SELINUX=$0 exec contrib/build.sh' "$SELINUX"
fi

. contrib/rust.sh

# links LIBRARY...: whether a static C program can be linked with these.
links() {
    echo 'int main(void) { return 0; }' | cc -static -o /dev/null -x c - "$@" >/dev/null 2>&1
}
compiler=$(packages "gcc libc6-dev" "gcc glibc-static" "gcc glibc-devel-static" gcc "gcc musl-dev")
command -v cc >/dev/null || stop "a C compiler is missing: $compiler"
links || stop "the C library can't be linked statically: $compiler"
case $SELINUX in
yes)
    without="or set SELINUX=no for hosts without SELinux"
    links -lselinux || stop "libselinux can't be linked statically: $(packages libselinux1-dev \
        "libselinux-devel libselinux-static pcre2-static" "libselinux-devel libselinux-devel-static" \
        "(has no static libselinux)" "libselinux-dev libselinux-static"), $without"
    [ -n "${LIBCLANG_PATH:-}" ] || command -v clang >/dev/null || ldconfig -p 2>/dev/null | grep -q libclang ||
        stop "libclang is missing, which reads libselinux's headers: $(packages clang clang clang clang clang-dev), $without"
    export SELINUX_STATIC=1 # For the crate selinux-sys.
    set --
    ;;
no) set -- --no-default-features ;;
esac

# A static program starts in two thirds of the time of a dynamic one, and loads nothing that an image brings:
# .github/SECURITY.md. With --target these flags aren't those of build scripts and procedural macros, which can't be static.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" cargo build --release --locked --bins --target "$host_triple" "$@"
ln -sfn "$host_triple/release" "${CARGO_TARGET_DIR:-target}/static"
