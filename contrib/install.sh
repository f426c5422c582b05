#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
set -eu
umask 022

usage() {
    cat <<'END'
contrib/install.sh [--build]
contrib/install.sh --uninstall

Installs what contrib/build.sh has built: the hook, the runtime wrapper, the hook's descriptors, manual pages, documents and
examples. Of a static build and a plain one (cargo build --release) it takes the newer.

  --build      runs contrib/build.sh before, as the user to whom this directory belongs
  --uninstall  removes what it installs, from the same DESTDIR, PREFIX and LIBEXECDIR

Environment:
  PREFIX      where to; /usr by default. podman and CRI-O must be told of descriptors elsewhere, by hooks_dir
  LIBEXECDIR  for the hook; PREFIX/libexec by default
  DESTDIR     put in front of every path that is written, for packages
  STAGES      the stages at which the descriptors call the hook: "createRuntime poststop", or "createRuntime createContainer
              poststop". By default the latter if at least one of runc and crun is found, and each crun found is 1.27 or newer
  PRECREATE   yes installs descriptors for podman's stage precreate as well, in a directory of their own, since CRI-O doesn't
              start with them; no by default
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
[ "$work$build" != uninstallyes ] || wrong "--build and --uninstall exclude each other"

: "${DESTDIR:=}" "${PREFIX:=/usr}" "${LIBEXECDIR:=$PREFIX/libexec}" "${PRECREATE:=no}" "${STAGES:=}"
for directory in "$PREFIX" "$LIBEXECDIR"; do
    case $directory in
    */../* | */..) stop "\"$directory\": PREFIX and LIBEXECDIR must have no .." ;;
    *[\"\&\\\|]*) stop "\"$directory\": PREFIX and LIBEXECDIR must have none of \" & \\ |" ;;
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

# What is installed, a line each: how, from where, to where. Descriptors come last, since engines use them at once.
files() {
    echo "program $built/oci-systemd-hook $hook"
    echo "program $built/oci-hooks-runtime $wrapper"
    echo "link $hook $PREFIX/bin/oci-systemd-hook"
    for page in share/man/man*/*; do
        echo "text $page $PREFIX/$page"
    done
    for document in README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT .github/SECURITY.md; do
        echo "document $document $documents/${document##*/}"
    done
    (cd contrib && find runc-hooks.json containerd crio docker images quadlet system-container systemd -type f) |
        while read -r example; do
            echo "text contrib/$example $documents/examples/$example"
        done
    for template in share/containers/oci/hooks.d/*.json.in; do
        name=${template##*/}
        echo "descriptor $template $hooks_dir/${name%.in}"
    done
    [ "$PRECREATE$work" = noinstall ] || for template in share/oci-systemd-hook/precreate.d/*.json.in; do
        name=${template##*/}
        echo "descriptor $template $precreate_dir/${name%.in}"
    done
}

# real FILE: a text with the paths of this installation.
real() {
    # Manual pages have \- for -.
    sed -e "s|/usr/libexec/oci|$LIBEXECDIR/oci|g" -e "s|/usr/bin/oci|$PREFIX/bin/oci|g" \
        -e "s|/usr/share/containers/oci/hooks.d/oci|$hooks_dir/oci|g" \
        -e "s|/usr/share/\(oci[\]*-systemd[\]*-hook/\)|$PREFIX/share/\1|g" \
        -e "s|/usr/share/doc/oci-systemd-hook|$documents|g" "$1"
}

# links FILE: a document whose links lead to where things are once installed.
links() {
    real "$1" | sed -e 's|](\(\.\./\)*share/man/|](../../man/|g' -e 's|](\(\.\./\)*\.github/|](|g' \
        -e 's|\[\([^]]*\)](\(\.\./\)*\(contrib/HACKING.md\))|\1 (\3 in the sources)|g' \
        -e 's|\[\([^]]*\)](\(\.\./\)*\(contrib/machine/[^)]*\))|\1 (in the sources)|g' \
        -e 's|](\(\.\./\)*contrib/|](examples/|g'
}

# descriptor TEMPLATE: with the stages that were chosen. Those of podman's precreate are left as they are.
descriptor() {
    list=$(echo "\"$stages\"" | sed 's| |", "|g')
    sed -e "s|@LIBEXECDIR@|$LIBEXECDIR|" -e "s|\"createRuntime\", \"createContainer\", \"poststop\"|$list|" "$1"
}

# put TARGET: writes standard input by rename: a program may be running, and engines watch the directory of descriptors,
# where half of one is an error to them.
put() {
    cat >"$1.new"
    chmod 644 "$1.new"
    mv -f "$1.new" "$1"
}

# runtimes NAME: all programs of this name on PATH.
runtimes() {
    echo "$PATH" | tr : '\n' | sort -u | while read -r directory; do
        [ ! -x "$directory/$1" ] || [ -d "$directory/$1" ] || echo "$directory/$1"
    done
}

# choose_stages: sets stages and reason. crun before 1.27 runs no hook at createContainer whose program is in a directory
# that is closed to the container's root.
choose_stages() {
    stages="createRuntime poststop"
    if [ -n "$STAGES" ]; then
        stages=$STAGES reason="STAGES says so"
        return
    fi
    all=$(runtimes crun)
    if [ -z "$all$(runtimes runc)" ]; then
        reason="neither runc nor crun is found"
        return
    fi
    for crun in $all; do
        version=$("$crun" --version 2>/dev/null | sed -n 's/^crun version //p')
        minor=${version#*.}
        if ! [ "${version%%.*}" -gt 1 ] 2>/dev/null && ! [ "${minor%%.*}" -ge 27 ] 2>/dev/null; then
            reason="$crun is ${version:-of an unknown version}; from 1.27 on crun can call hooks at createContainer, too"
            return
        fi
    done
    stages="createRuntime createContainer poststop"
    reason="each runtime found can call hooks at createContainer${all:+ (crun since 1.27)}"
}

install_all() {
    choose_stages
    files | while read -r how from to; do
        mkdir -p "$DESTDIR${to%/*}"
        case $how in
        program)
            cp "$from" "$DESTDIR$to.new"
            chmod 755 "$DESTDIR$to.new"
            mv -f "$DESTDIR$to.new" "$DESTDIR$to"
            ;;
        link)
            # A relative one is right in whatever directory DESTDIR is.
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
        echo "install.sh: warning: these programs are linked dynamically, and an image could have them load its code" \
            "($documents/SECURITY.md); contrib/build.sh builds static ones" >&2
    [ ! -e /sys/fs/selinux/enforce ] || ! grep -q 'without SELinux)' "$built/oci-systemd-hook" ||
        echo "install.sh: warning: SELinux is on here, and these programs were built without it (SELINUX=no)" >&2
    [ -n "$DESTDIR" ] || next
}

# next: what to do now, a line for each engine that is here.
next() {
    directories="\"$hooks_dir\""
    [ "$PREFIX" = /usr ] || directories="\"/usr/share/containers/oci/hooks.d\", $directories"
    [ "$PRECREATE" = no ] || precreate=", \"$precreate_dir\""
    echo
    echo "What to do next ($documents/README.md has the details):"
    found=
    if command -v podman >/dev/null; then
        found=yes
        if [ "$PREFIX$PRECREATE" = /usrno ]; then
            echo "  podman: nothing; podman run -d IMAGE /sbin/init"
        else
            echo "  podman: in /etc/containers/containers.conf, below [engine]: hooks_dir = [$directories${precreate:-}]"
        fi
    fi
    if command -v crio >/dev/null; then
        found=yes
        if [ "$PREFIX" = /usr ]; then
            echo "  CRI-O: nothing"
        else
            echo "  CRI-O: in /etc/crio/crio.conf.d/, below [crio.runtime]: hooks_dir = [$directories]; systemctl restart crio"
        fi
    fi
    if command -v dockerd >/dev/null; then
        found=yes
        echo "  Docker: put \"runtimes\" of $documents/examples/docker/daemon.json into /etc/docker/daemon.json;" \
            "systemctl reload docker; docker run -d --runtime=systemd IMAGE /sbin/init"
    fi
    if command -v containerd >/dev/null; then
        found=yes
        echo "  containerd: put $documents/examples/containerd/config.toml or, for containerd 2, config-v3.toml into" \
            "/etc/containerd/config.toml; systemctl restart containerd"
    fi
    if [ -n "$(runtimes runc)$(runtimes crun)" ]; then
        found=yes
        echo "  runc, crun: put \"hooks\" of $documents/examples/runc-hooks.json into config.json, and look at:" \
            "oci-systemd-hook plan BUNDLE"
    fi
    [ -n "$found" ] || echo "  no engine is found: install podman, Docker, containerd or CRI-O"
}

# Descriptors go first, so that no engine calls a hook that is gone.
uninstall_all() {
    files | sort -k 1,1 | while read -r how from to; do
        : "$how" "$from"
        [ -e "$DESTDIR$to" ] || [ -L "$DESTDIR$to" ] || continue
        rm -f "$DESTDIR$to"
        echo "removed $DESTDIR$to"
    done
    for directory in "$documents" "${precreate_dir%/*}"; do
        [ ! -d "$DESTDIR$directory" ] || find "$DESTDIR$directory" -depth -type d -empty -delete
    done
    [ -n "$DESTDIR" ] || echo "What you wrote yourself is still there: the runtime in /etc/docker/daemon.json and the like," \
        "hooks_dir in containers.conf and crio.conf, /etc/oci-hooks-runtime.json."
}

target=${CARGO_TARGET_DIR:-target}
[ "$build" = no ] || contrib/build.sh
# The newer of both: target/static leads to the static build.
built=
for directory in "$target/static" "$target/release"; do
    if [ ! -e "$directory/oci-systemd-hook" ] || [ ! -e "$directory/oci-hooks-runtime" ]; then
        continue
    fi
    # find(1) prints nothing if the other one is as new.
    if [ -z "$built" ] || [ -n "$(find "$directory/oci-systemd-hook" -newer "$built/oci-systemd-hook")" ]; then
        built=$directory
    fi
done
case $work in
install)
    [ -n "$built" ] || stop "nothing is built yet: run contrib/build.sh, as an ordinary user, or add --build"
    install_all
    ;;
uninstall) uninstall_all ;;
esac
