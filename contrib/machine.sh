#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs a script with this project in a virtual machine that enforces SELinux, on a Debian machine that
# need not have KVM: as root, or with sudo. Everything it makes is below target/.
set -eu

usage() {
    cat <<'END'
contrib/machine.sh [OPTION...] SCRIPT [ARGUMENT...]
contrib/machine.sh [OPTION...] --shell

Copies the script's directory into the machine, runs the script there and exits with its status.
Every run starts from the same state and leaves none.

  --selinux enforcing|off            enforcing
  --cgroup nsdelegate|no-nsdelegate  how the machine's cgroup2 is mounted: nsdelegate
  --user                             as an ordinary user, tester, in a login session; else as root
  --shell                            a shell instead of a script

In the machine: podman with localhost/systemd:latest (root's and tester's), docker with systemd:latest,
the same as a directory in /srv/systemd, older ones in /srv/bookworm and /srv/bullseye, runc, crun.
tester may use sudo.

  OCI_SYSTEMD_HOOK_STAGE  what contrib/install.sh made, as DESTDIR; otherwise it is built
END
    exit "$1"
}

selinux_mode=enforcing cgroup=nsdelegate login=root shell=
while [ $# -gt 0 ]; do
    case $1 in
    --selinux) selinux_mode=${2:-} ;;
    --cgroup) cgroup=${2:-} ;;
    --user) login=tester ;;
    --shell) shell=yes ;;
    --help) usage 0 ;;
    -*) usage 2 >&2 ;;
    *) break ;;
    esac
    case $1 in --selinux | --cgroup) shift ;; esac
    [ $# -gt 0 ] || usage 2 >&2
    shift
done
case $selinux_mode in enforcing | off) ;; *) usage 2 >&2 ;; esac
case $cgroup in nsdelegate | no-nsdelegate) ;; *) usage 2 >&2 ;; esac
if [ -n "$shell" ]; then
    [ $# = 0 ] || usage 2 >&2
else
    [ $# -gt 0 ] || usage 2 >&2
    if [ ! -f "$1" ] || [ ! -x "$1" ]; then
        echo "machine.sh: $1 is not an executable file" >&2
        exit 1
    fi
    directory=$(cd "$(dirname "$1")" && pwd)
    script=./$(basename "$1")
    shift
    command="exec"
    for argument in "$script" "$@"; do
        command="$command '$(printf '%s\n' "$argument" | sed "s/'/'\\\\''/g")'"
    done
fi

[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || {
    echo "machine.sh: the machine is made for amd64 only" >&2
    exit 1
}
case ${OCI_SYSTEMD_HOOK_STAGE:-/} in /*) ;; *) OCI_SYSTEMD_HOOK_STAGE=$PWD/$OCI_SYSTEMD_HOOK_STAGE ;; esac

# What is said here goes to stderr: on stdout is the script's output alone.
exec 5>&1 >&2
cd "$(dirname "$0")/.."
. contrib/prerequisites.sh
need e2fsprogs mmdebstrap openssh-client qemu-system-x86 util-linux

# Paths from here on are relative and have no spaces, whatever the project's directory is called.
mkdir -p target/machine
# A snapshot is for the qemu that took it.
key=$({ sha256sum contrib/machine.sh contrib/machine/* && qemu-system-x86_64 --version; } | sha256sum | cut -c 1-16)
made=target/machine/$key
for run in target/machine/run.*; do
    [ -d "/proc/${run##*.}" ] || $AS_ROOT rm -rf "$run" # Its process was killed.
done
run=target/machine/run.$$
mkdir "$run"
. contrib/machine/vm.sh
trap 'end_vm; rm -rf "$run"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

stage=${OCI_SYSTEMD_HOOK_STAGE:-}
if [ -z "$stage" ]; then
    stage=$run/stage
    PRECREATE=yes DESTDIR=$PWD/$stage contrib/install.sh
fi

# Held until the machine runs: whoever makes a new one removes the old.
exec 9>target/machine/lock
flock -n 9 || {
    say "waiting for somebody else who makes the machine"
    flock 9
}

if [ ! -d "$made" ]; then
    say "making the machine (a minute or two)"
    for suite in bullseye bookworm trixie; do
        image "$suite" "$PWD/target/roots/$suite"
    done
    for old in target/machine/*; do
        case $old in */lock | */run.*) ;; *) $AS_ROOT rm -rf "$old" ;; esac
    done
    if ! $AS_ROOT contrib/machine/image.sh "$made.new" target/roots >"$run/log" 2>&1; then
        tail -n 20 "$run/log" >&2
        stop "the virtual machine could not be made"
    fi
    $AS_ROOT chown -R "$(id -u):$(id -g)" "$made.new"
    mv "$made.new" "$made"
fi

snapshot=$made/$selinux_mode
if [ ! -d "$snapshot" ]; then
    say "booting it once, with SELinux $selinux_mode (two to four minutes, some 3 GB in target/machine)"
    rm -rf "$snapshot.new"
    mkdir "$snapshot.new"
    cp --sparse=always "$made/disk.raw" "$snapshot.new/disk.raw"
    start_vm "$selinux_mode" "$snapshot.new/memory" share "file=$snapshot.new/disk.raw"
    vm_answers
    { in_vm root sh <contrib/machine/first-boot.sh &&
        in_vm tester 'podman import --quiet /srv/systemd.tar localhost/systemd:latest && podman run --rm systemd true' &&
        # The user may be gone already.
        in_vm root 'rm /srv/systemd.tar && { loginctl terminate-user tester || true; } && sync'; } </dev/null >"$run/log" 2>&1 || {
        tail -n 20 "$run/log" >&2
        vm_failed "its first boot failed"
    }
    save_vm "$snapshot.new/state"
    mv "$snapshot.new" "$snapshot"
    rm -f "$run/to" "$run/from"
fi

start_vm "$selinux_mode" "$snapshot/memory" private "file=$snapshot/disk.raw,snapshot=on" -incoming defer
resume_vm "$snapshot/state"
vm_answers
exec 9>&-

# The clock stood still; the mount options are the first mount namespace's to change.
in_vm root "sh -s $(date +%s) $selinux_mode $cgroup" <<'END' || vm_failed "it could not be set up"
set -eu
date --set "@$1" >/dev/null
case $2 in enforcing) want=Enforcing ;; off) want=Disabled ;; esac
is=$(getenforce)
[ "$is" = "$want" ] || { echo "SELinux is $is" >&2; exit 1; }
if [ "$3" = no-nsdelegate ]; then
    options=$(findmnt -n -o OPTIONS /sys/fs/cgroup | sed 's/,nsdelegate//')
    # With source and type given, mount(8) does not add the options that are there already.
    mount -t cgroup2 -o "remount,$options" cgroup2 /sys/fs/cgroup
fi
is=nsdelegate
grep -q '^cgroup2 /sys/fs/cgroup .*[, ]nsdelegate' /proc/mounts || is=no-nsdelegate
[ "$is" = "$3" ] || { echo "cgroup2 is mounted with $is" >&2; exit 1; }
END

# Files are labelled by who makes them, and the hook is to have the label of an installed program.
tar -C "$stage" --owner=0 --group=0 -cf - . |
    in_vm root 'tar -C / -xvf - | sed "s,^\.,," | xargs restorecon' || vm_failed "the project could not be put in"

status=0
if [ -n "$shell" ]; then
    in_vm "$login" -t >&5 2>&5 || status=$?
else
    # In the background, since a shell that waits for a program in the foreground ignores TERM.
    tar -C "$directory" -cf - . | in_vm "$login" \
        "mkdir test && cd test && tar --no-same-owner -xf - && { $command </dev/null; }" >&5 &
    wait $! || status=$?
fi
# 255 is the script's, too, if the machine is still there.
[ "$status" != 255 ] || in_vm root true </dev/null || vm_failed "the connection broke"
exit "$status"
