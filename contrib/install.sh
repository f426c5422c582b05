#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
set -eu
umask 022

usage() {
    cat <<'END'
contrib/install.sh [--build]
contrib/install.sh --uninstall

Installs what contrib/build.sh has built: the hook, the runtime wrapper, the hook's descriptors, manual pages, documents and
examples. If there are a static build and a plain one (cargo build --release), the newer one is installed.

  --build      runs contrib/build.sh first, as the owner of this directory
  --uninstall  removes what it installs, from the same DESTDIR, PREFIX and LIBEXECDIR

Environment:
  PREFIX      installation prefix, /usr by default; for another prefix, podman and CRI-O need the option hooks_dir
  LIBEXECDIR  directory of the hook, PREFIX/libexec by default
  DESTDIR     staging directory for packages, prepended to every path that is written
  STAGES      the stages at which the descriptors call the hook: "createRuntime poststop", or "createRuntime createContainer
              poststop". By default the latter if at least one of runc and crun is found, and each crun found is 1.27 or newer
  PRECREATE   yes also installs descriptors for podman's stage precreate, in a separate directory, since CRI-O doesn't start
              with them; no by default
END
}

stop() {
    echo "install.sh: $*" >&2
    exit 1
}

wrong() {
    echo "install.sh: $*; see --help" >&2
    exit 2
}

work=install build=no
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        usage
        exit
        ;;
    --build) build=yes ;;
    --uninstall) work=uninstall ;;
    *) wrong "unexpected argument \"$1\"" ;;
    esac
    shift
done
[ "$work$build" != uninstallyes ] || wrong "--build and --uninstall are mutually exclusive"

: "${DESTDIR:=}" "${PREFIX:=/usr}" "${PRECREATE:=no}" "${STAGES:=}"
PREFIX=${PREFIX%/}
: "${LIBEXECDIR:=$PREFIX/libexec}"
for directory in "$PREFIX" "$LIBEXECDIR"; do
    case $directory in
    */../* | */..) stop "\"$directory\": PREFIX and LIBEXECDIR must not contain .." ;;
    *[\"\&\\\|[:space:]]*) stop "\"$directory\": PREFIX and LIBEXECDIR must contain no white space and none of \" & \\ |" ;;
    /*) ;;
    *) stop "\"$directory\": PREFIX and LIBEXECDIR must be absolute paths" ;;
    esac
done
case $PRECREATE in
yes | no) ;;
*) stop "PRECREATE is \"$PRECREATE\"; it must be yes or no" ;;
esac
case $STAGES in
'' | "createRuntime poststop" | "createRuntime createContainer poststop") ;;
*) stop "STAGES is \"$STAGES\"; it must be \"createRuntime poststop\" or \"createRuntime createContainer poststop\"" ;;
esac
cd "$(dirname "$0")/.."

hook=$LIBEXECDIR/oci/hooks.d/oci-systemd-hook
wrapper=$PREFIX/bin/oci-hooks-runtime
hooks_dir=$PREFIX/share/containers/oci/hooks.d
precreate_dir=$PREFIX/share/oci-systemd-hook/precreate.d
documents=$PREFIX/share/doc/oci-systemd-hook

# Lists what is installed, one file per line: how|from where|to where. Descriptors come last,
# because engines use them immediately.
files() {
    echo "program|$built/oci-systemd-hook|$hook"
    echo "program|$built/oci-hooks-runtime|$wrapper"
    echo "link|$hook|$PREFIX/bin/oci-systemd-hook"
    for page in share/man/man*/*; do
        echo "text|$page|$PREFIX/$page"
    done
    for document in README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT .github/SECURITY.md share/doc/*.md; do
        echo "document|$document|$documents/${document##*/}"
    done
    (cd contrib && find runc-hooks.json containerd crio docker images quadlet system-container systemd -type f) |
        while read -r example; do
            echo "text|contrib/$example|$documents/examples/$example"
        done
    for template in share/containers/oci/hooks.d/*.json.in; do
        name=${template##*/}
        echo "descriptor|$template|$hooks_dir/${name%.in}"
    done
    [ "$PRECREATE$work" = noinstall ] || for template in share/oci-systemd-hook/precreate.d/*.json.in; do
        name=${template##*/}
        echo "descriptor|$template|$precreate_dir/${name%.in}"
    done
}

# real FILE: prints a file with the paths of this installation.
real() {
    # Manual pages have \- instead of -.
    sed -e "s|/usr/libexec/oci|$LIBEXECDIR/oci|g" -e "s|/usr/bin/oci|$PREFIX/bin/oci|g" \
        -e "s|/usr/share/containers/oci/hooks.d/oci|$hooks_dir/oci|g" \
        -e "s|/usr/share/\(oci[\]*-systemd[\]*-hook/\)|$PREFIX/share/\1|g" \
        -e "s|/usr/share/doc/oci-systemd-hook|$documents|g" "$1" |
        # Engines read descriptors in /usr regardless of the prefix.
        if [ "$PREFIX" = /usr ]; then cat; else sed "s|\"/usr/share/containers/oci/hooks.d\", \"|&$hooks_dir\", \"|"; fi
}

# links FILE: prints a document with links that are valid where it is installed.
links() {
    # Pages link to the manual pages by ../man, and all documents are in one directory.
    real "$1" | sed -e 's|](\(\.\./\)*share/doc/|](|g' -e 's|](\.\./\.\./README\.md|](README.md|g' \
        -e 's|](\.\./man/|](../../man/|g' \
        -e 's|](\(\.\./\)*share/man/|](../../man/|g' -e 's|](\(\.\./\)*\.github/|](|g' \
        -e 's|\[\([^]]*\)](\(\.\./\)*\(contrib/HACKING.md\))|\1 (\3 in the sources)|g' \
        -e 's|\[\([^]]*\)](\(\.\./\)*\(contrib/machine/[^)]*\))|\1 (in the sources)|g' \
        -e 's|](\(\.\./\)*contrib/|](examples/|g' \
        -e "s| contrib/images/| $documents/examples/images/|g" -e "s| contrib/docker/| $documents/examples/docker/|g"
}

# descriptor TEMPLATE: prints a descriptor with the chosen stages. The descriptors for
# podman's stage precreate keep theirs.
descriptor() {
    list=$(echo "\"$stages\"" | sed 's| |", "|g')
    sed -e "s|@LIBEXECDIR@|$LIBEXECDIR|" -e "s|\"createRuntime\", \"createContainer\", \"poststop\"|$list|" "$1"
}

# put TARGET: writes standard input to a new file and renames it, because a program may be running, and because
# engines watch the directory of descriptors and report an error if they see half a descriptor.
put() {
    cat >"$1.new"
    chmod 644 "$1.new"
    mv -f "$1.new" "$1"
}

# runtimes NAME: prints all programs of this name, on PATH and in the other directories that engines search.
runtimes() {
    echo "$PATH:/usr/local/sbin:/usr/local/bin:/usr/libexec/crio:/usr/lib/crio:/usr/libexec/podman" | tr : '\n' | sort -u |
        while read -r directory; do
            [ ! -x "$directory/$1" ] || [ -d "$directory/$1" ] || echo "$directory/$1"
        done
}

# is_new VERSION: checks whether a crun is 1.27 or newer. Older ones run no hook at createContainer whose program is
# in a directory that the container's root user can't access.
is_new() {
    minor=${1#*.}
    [ "${1%%.*}" -gt 1 ] 2>/dev/null || { [ "${1%%.*}" = 1 ] && [ "${minor%%.*}" -ge 27 ] 2>/dev/null; }
}

# choose_stages: sets $stages and $reason.
choose_stages() {
    stages="createRuntime poststop"
    if [ -n "$STAGES" ]; then
        stages=$STAGES reason="set by STAGES"
        return
    fi
    all=$(runtimes crun)
    if [ -z "$all$(runtimes runc)" ]; then
        reason="neither runc nor crun was found"
        return
    fi
    # Even for --version, crun creates the directory of its containers, by default /run/crun.
    scratch=$(mktemp -d)
    for crun in $all; do
        version=$("$crun" --root "$scratch" --version 2>/dev/null | sed -n 's/^crun version //p')
        if ! is_new "$version"; then
            reason="$crun is ${version:-of an unknown version}; crun can call hooks at createContainer since 1.27"
            rm -rf "$scratch"
            return
        fi
    done
    rm -rf "$scratch"
    stages="createRuntime createContainer poststop"
    reason="each runtime found can call hooks at createContainer${all:+ (crun since 1.27)}"
}

install_all() {
    choose_stages
    files | while IFS='|' read -r how from to; do
        mkdir -p "$DESTDIR${to%/*}"
        case $how in
        program)
            cp "$from" "$DESTDIR$to.new"
            chmod 755 "$DESTDIR$to.new"
            mv -f "$DESTDIR$to.new" "$DESTDIR$to"
            ;;
        link)
            # A relative link is valid in whatever directory DESTDIR is.
            case $from in "$PREFIX"/*) from=..${from#"$PREFIX"} ;; esac
            ln -sf "$from" "$DESTDIR$to"
            ;;
        text) real "$from" | put "$DESTDIR$to" ;;
        document) links "$from" | put "$DESTDIR$to" ;;
        descriptor) descriptor "$from" | put "$DESTDIR$to" ;;
        esac
        echo "installed $DESTDIR$to"
    done
    echo "The descriptors call the hook at $(echo "$stages" | sed 's/ /, /g'): $reason."
    ! grep -q '(dynamically linked' "$built/oci-systemd-hook" ||
        echo "install.sh: warning: these programs are linked dynamically, so an image could make them load its code" \
            "($documents/SECURITY.md); contrib/build.sh builds static ones" >&2
    [ ! -e /sys/fs/selinux/enforce ] || ! grep -q 'without SELinux)' "$built/oci-systemd-hook" ||
        echo "install.sh: warning: SELinux is enabled on this host, and these programs were built without it (SELINUX=no)" >&2
    [ -n "$DESTDIR" ] || next
}

# listed DIRECTORY...: prints the directories that exist as a TOML array. podman fails if one
# of its hooks_dir is missing.
listed() {
    list=
    for directory in "$@"; do
        [ ! -d "$directory" ] || list="$list${list:+, }\"$directory\""
    done
    echo "[$list]"
}

# next: prints what to do next, with a line for each engine that is installed.
next() {
    echo
    echo "What to do next ($documents/README.md has the details):"
    set -- /usr/share/containers/oci/hooks.d
    [ "$PREFIX" = /usr ] || set -- "$@" "$hooks_dir"
    [ "$PRECREATE" = no ] || set -- "$@" "$precreate_dir"
    if [ "$PREFIX$PRECREATE" = /usrno ]; then
        podman="nothing to configure; podman run -d IMAGE /sbin/init"
    else
        podman="in the [engine] section of /etc/containers/containers.conf: hooks_dir = $(listed "$@" /etc/containers/oci/hooks.d)"
    fi
    if [ "$PREFIX" = /usr ]; then
        crio="nothing to configure"
    else
        crio="in the [crio.runtime] section of a file in /etc/crio/crio.conf.d: hooks_dir = $(listed \
            /usr/share/containers/oci/hooks.d "$hooks_dir" /etc/containers/oci/hooks.d); systemctl restart crio"
    fi
    # With another prefix, these lines are printed even if the engines aren't installed yet.
    if [ "$PREFIX" != /usr ] || command -v podman >/dev/null; then echo "  podman: $podman"; fi
    if [ "$PREFIX" != /usr ] || command -v crio >/dev/null; then echo "  CRI-O: $crio"; fi
    if command -v dockerd >/dev/null; then
        echo "  Docker: add the \"runtimes\" of $documents/examples/docker/daemon.json to /etc/docker/daemon.json;" \
            "systemctl reload docker; docker run -d --runtime=systemd IMAGE /sbin/init"
    elif command -v containerd >/dev/null; then
        echo "  containerd: add $documents/examples/containerd/config.toml or, for containerd 2, config-v3.toml to" \
            "/etc/containerd/config.toml; systemctl restart containerd"
    fi
    if ! command -v podman >/dev/null && ! command -v crio >/dev/null && ! command -v containerd >/dev/null &&
        ! command -v dockerd >/dev/null; then
        echo "  no engine was found; for plain runc or crun add the \"hooks\" of $documents/examples/runc-hooks.json to" \
            "config.json, and check the plan: oci-systemd-hook plan BUNDLE"
    fi
}

# Descriptors are removed first, so that no engine calls a hook that is gone.
uninstall_all() {
    files | sort | while IFS='|' read -r how from to; do
        : "$how" "$from"
        [ -e "$DESTDIR$to" ] || [ -L "$DESTDIR$to" ] || continue
        rm -f "$DESTDIR$to"
        echo "removed $DESTDIR$to"
    done
    for directory in "$documents" "${precreate_dir%/*}" "$LIBEXECDIR/oci" "$PREFIX/share/containers/oci"; do
        [ ! -d "$DESTDIR$directory" ] || find "$DESTDIR$directory" -depth -type d -empty -delete
    done
    [ -n "$DESTDIR" ] || echo "Your own configuration is kept: the runtime in /etc/docker/daemon.json and similar files," \
        "hooks_dir in containers.conf and crio.conf, /etc/oci-hooks-runtime.json."
}

target=${CARGO_TARGET_DIR:-target}
[ "$build" = no ] || contrib/build.sh
# The newer of the two builds is installed. target/static is a link to the static build.
built=
for directory in "$target/static" "$target/release"; do
    if [ ! -e "$directory/oci-systemd-hook" ] || [ ! -e "$directory/oci-hooks-runtime" ]; then
        continue
    fi
    # find(1) prints nothing if the two builds are equally old.
    if [ -z "$built" ] || [ -n "$(find "$directory/oci-systemd-hook" -newer "$built/oci-systemd-hook")" ]; then
        built=$directory
    fi
done
case $work in
install)
    [ -n "$built" ] || stop "nothing is built in $target yet: run contrib/build.sh, as an ordinary user, or add --build"
    [ -n "$DESTDIR" ] || [ ! -d "$PREFIX" ] || [ -w "$PREFIX" ] || stop "no permission to write to $PREFIX: run this as root, for example with sudo"
    install_all
    ;;
uninstall) uninstall_all ;;
esac
