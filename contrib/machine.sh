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
    exit
}

# wrong WHAT: in the call.
wrong() {
    echo "machine.sh: $*; see contrib/machine.sh --help" >&2
    exit 2
}

selinux_mode=enforcing cgroup=nsdelegate login=root shell=
while [ $# -gt 0 ]; do
    case $1 in
    --selinux | --cgroup) [ $# -gt 1 ] || wrong "$1 needs a value" ;;
    esac
    case $1 in
    --selinux) selinux_mode=$2 && shift ;;
    --cgroup) cgroup=$2 && shift ;;
    --user) login=tester ;;
    --shell) shell=yes ;;
    --help) usage ;;
    -*) wrong "$1 is no option" ;;
    *) break ;;
    esac
    shift
done
case $selinux_mode in enforcing | off) ;; *) wrong "--selinux $selinux_mode is neither enforcing nor off" ;; esac
case $cgroup in nsdelegate | no-nsdelegate) ;; *) wrong "--cgroup $cgroup is neither nsdelegate nor no-nsdelegate" ;; esac
if [ -n "$shell" ]; then
    [ $# = 0 ] || wrong "--shell takes no script, but there is $1"
else
    [ $# -gt 0 ] || wrong "there is no script"
    if [ ! -f "$1" ] || [ ! -x "$1" ]; then
        wrong "$1 is not an executable file"
    fi
    directory=$(cd "$(dirname "$1")" && pwd)
    script=./$(basename "$1")
    shift
    command=
    for argument in "$script" "$@"; do
        command="$command '$(printf '%s\n' "$argument" | sed "s/'/'\\\\''/g")'"
    done
fi

stage=${OCI_SYSTEMD_HOOK_STAGE:-}
case $stage in '' | /*) ;; *) stage=$PWD/$stage ;; esac
[ -z "$stage" ] || [ -x "$stage/usr/libexec/oci/hooks.d/oci-systemd-hook" ] ||
    wrong "OCI_SYSTEMD_HOOK_STAGE: $stage has no usr/libexec/oci/hooks.d/oci-systemd-hook; contrib/install.sh makes one"

# What is said here goes to stderr: on stdout is the script's output alone.
exec 5>&1 >&2
cd "$(dirname "$0")/.."
. contrib/prerequisites.sh
need_for_machine

# Paths from here on are relative and have no spaces, whatever the project's directory is called.
mkdir -p target/machine
# Held until the machine runs: whoever makes a new one removes the old.
exec 9>target/machine/lock
flock -n 9 || {
    say "waiting for somebody else who starts the machine"
    flock 9
}

# What is made lies in a directory of this run, until it is whole. It is locked as long as this runs.
for run in target/machine/run.*; do
    [ ! -d "$run" ] || flock -n "$run" $AS_ROOT rm -rf "$run" || true # Somebody's who runs.
done
run=$(mktemp -d target/machine/run.XXXXXX)
exec 8<"$run"
flock 8
. contrib/machine/vm.sh
trap 'end_vm; $AS_ROOT rm -rf "$run"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -z "$stage" ]; then
    stage=$PWD/$run/stage
    PRECREATE=yes DESTDIR=$stage contrib/install.sh
fi

for suite in bullseye bookworm trixie; do
    image "$suite" "$PWD/target/roots/$suite" 5>&- 8>&- 9>&- # As below.
done
# What the machine is made from. A snapshot is for the qemu that took it.
key=$({
    cat contrib/machine.sh contrib/machine/* contrib/prerequisites.sh
    for suite in bullseye bookworm trixie; do cat "target/roots/$suite/var/lib/dpkg/status"; done
    qemu-system-x86_64 --version
} | sha256sum | cut -c 1-16)
made=target/machine/$key
snapshot=$made/$selinux_mode

if [ ! -d "$made" ]; then
    room 10 target/machine
    say "making the machine (a minute or two)"
    # mmdebstrap fails where its own descriptors get two digits.
    if ! $AS_ROOT contrib/machine/image.sh "$run/machine" target/roots >"$run/log" 2>&1 5>&- 8>&- 9>&-; then
        tail -n 20 "$run/log" >&2
        stop "the virtual machine could not be made; $(keep "$run/log")"
    fi
    $AS_ROOT chown -R "$(id -u):$(id -g)" "$run/machine"
    for old in target/machine/*; do
        case $old in */lock | */run.* | */failed.*) ;; *) rm -rf "$old" ;; esac
    done
    mv -T "$run/machine" "$made"
fi
# They go with the machine, if somebody else makes another.
cp "$made/key" "$made/known_hosts" "$run"

if [ ! -d "$snapshot" ]; then
    room 5 target/machine
    say "booting it once, with SELinux $selinux_mode (two to four minutes, some 3 GB in target/machine)"
    mkdir "$run/snapshot"
    cp --sparse=always "$made/disk.raw" "$run/snapshot/disk.raw"
    start_vm "$selinux_mode" "$run/snapshot/memory" share "file=$run/snapshot/disk.raw"
    vm_answers
    { in_vm root sh <contrib/machine/first-boot.sh &&
        in_vm tester 'podman import --quiet /srv/systemd.tar localhost/systemd:latest && podman run --rm systemd true' &&
        # The user may be gone already.
        in_vm root 'rm /srv/systemd.tar && { loginctl terminate-user tester || true; } && sync'; } </dev/null >"$run/log" 2>&1 || {
        tail -n 20 "$run/log" >&2
        vm_failed "its first boot failed; $(keep "$run/log")"
    }
    save_vm "$run/snapshot/state"
    sync "$run/snapshot"/*
    mv -T "$run/snapshot" "$snapshot"
    rm -f "$run/to" "$run/from"
fi

start_vm "$selinux_mode" "$snapshot/memory" private "file=$snapshot/disk.raw,snapshot=on" -incoming defer
# In case it was damaged, as by a machine that lost its power.
remedy="; if that happens again, 'rm -r $snapshot' makes it boot anew"
resume_vm "$snapshot/state"
vm_answers
remedy=
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

# put USER COMMAND FROM: what is in a directory here, as the standard input of COMMAND.
put() {
    tar -C "$3" --owner=0 --group=0 -cf "$run/files.tar" .
    in_vm "$1" "$2" <"$run/files.tar" || vm_failed "$3 could not be put in"
}

# Files are labelled by who makes them, and the hook is to have the label of an installed program.
put root 'set -e; tar -C / --no-overwrite-dir -xvf - >files; sed "s,^\.,," files | xargs restorecon; rm files' "$stage"

if [ -n "$shell" ]; then
    status=0
    in_vm "$login" -t >&5 2>&5 || status=$?
    exit "$status"
fi
put "$login" 'mkdir test && tar -C test --no-same-owner -xf -' "$directory"
# In the background, since a shell that waits for a program in the foreground ignores TERM. ssh has 255 for whatever
# ends by a signal, and for its own failures.
in_vm "$login" "cd test && $command </dev/null; echo \$? >../status" </dev/null >&5 &
wait $! || true # The script's own status is read below.
status=$(in_vm "$login" 'cat status' </dev/null) || vm_failed "the connection broke"
exit "$status"
