#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs a script with this project in a virtual machine, with SELinux enforcing or off. The machine is User Mode
# Linux, a kernel that runs as a program and needs no KVM, with Debian 13. Run it as root or with sudo. Everything
# that it creates is below target/.
set -eu

usage() {
    cat <<'END'
contrib/machine.sh [OPTION...] SCRIPT [ARGUMENT...]
contrib/machine.sh [OPTION...] --shell

Copies the script's directory into the machine, runs the script there and exits with its status.
Every run starts from the same state, and its changes are discarded.

  --selinux enforcing|off            enforcing
  --cgroup nsdelegate|no-nsdelegate  how the machine's cgroup2 is mounted: nsdelegate
  --user                             as an ordinary user, tester; otherwise as root
  --shell                            a shell instead of a script

In the machine: podman with localhost/systemd:latest (root's and tester's), docker with systemd:latest,
the same as a directory in /srv/systemd, older ones in /srv/bookworm and /srv/bullseye, runc, crun.
There is no network, and one processor. Root and tester have login sessions; tester may use sudo.

  OCI_SYSTEMD_HOOK_STAGE  the DESTDIR of an installation by contrib/install.sh; by default, the project is built
END
    exit
}

# wrong WHAT: reports a wrong command line.
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
    -*) wrong "invalid option $1" ;;
    *) break ;;
    esac
    shift
done
case $selinux_mode in enforcing | off) ;; *) wrong "--selinux $selinux_mode is neither enforcing nor off" ;; esac
case $cgroup in nsdelegate | no-nsdelegate) ;; *) wrong "--cgroup $cgroup is neither nsdelegate nor no-nsdelegate" ;; esac
if [ -n "$shell" ]; then
    [ $# = 0 ] || wrong "--shell takes no script, but was given $1"
else
    [ $# -gt 0 ] || wrong "no script was given"
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
    wrong "OCI_SYSTEMD_HOOK_STAGE: $stage has no usr/libexec/oci/hooks.d/oci-systemd-hook; contrib/build.sh and DESTDIR=… contrib/install.sh make one"

# This script's messages go to stderr. On stdout there is only the output of the script in the machine.
exec 3<&0 5>&1 >&2
cd "$(dirname "$0")/.."
. contrib/prerequisites.sh
need_for_machine

# Paths from here on are relative and have no spaces, whatever the project's directory is called, because they are
# part of the machine's kernel command line.
mkdir -p target/machine
# The lock is held until the machine runs, because a process that makes a new machine removes the old one.
exec 9>target/machine/lock
flock -n 9 || {
    say "waiting for another run that is starting the machine"
    flock 9
}

# What this run creates is in a separate directory until it is complete. The directory is locked as
# long as this script runs.
for run in target/machine/run.*; do
    [ ! -d "$run" ] || flock -n "$run" $AS_ROOT rm -rf "$run" || true # The directory of another run.
done
run=$(mktemp -d target/machine/run.XXXXXX)
exec 8<"$run"
flock 8
kernel=target/roots/kernel
. contrib/machine/uml.sh
trap 'end_machine; $AS_ROOT rm -rf "$run"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -z "$stage" ]; then
    stage=$PWD/$run/stage
    contrib/build.sh
    PRECREATE=yes STAGES="createRuntime poststop" DESTDIR=$stage contrib/install.sh
fi

kernel "$kernel" 3<&- 5>&- 8>&- 9>&-
for suite in bullseye bookworm trixie; do
    image "$suite" "target/roots/$suite" 3<&- 5>&- 8>&- 9>&-
done
# The key is a checksum of everything that the machine is made from.
key=$({
    cat contrib/machine.sh contrib/machine/* contrib/prerequisites.sh "$kernel/usr/bin/linux.uml"
    for suite in bullseye bookworm trixie; do cat "target/roots/$suite/var/lib/dpkg/status"; done
} | sha256sum | cut -c 1-16)
made=target/machine/$key

disk=$made/$selinux_mode.raw

if [ ! -d "$made" ]; then
    room 10 target/machine
    say "creating the machine (a minute or two)"
    # mmdebstrap fails if its own file descriptors have two digits, so others are closed.
    if ! $AS_ROOT contrib/machine/image.sh "$run/made" "$kernel" target/roots >"$run/log" 2>&1 3<&- 5>&- 6>&- 7>&- 8>&- 9>&-; then
        tail -n 20 "$run/log" >&2
        stop "the virtual machine could not be created; $(keep "$run/log")"
    fi
    $AS_ROOT chown -R "$(id -u):$(id -g)" "$run/made"
    for old in target/machine/*; do
        case $old in */lock | */run.* | */failed.*) ;; *) rm -rf "$old" ;; esac
    done
    mv -T "$run/made" "$made"
fi

# Two first boots, one as root and one as tester, import the image into the engines. With SELinux, the
# imported files have labels, which keep a rootless container from working without SELinux. Therefore there is
# a separate disk for each.
if [ ! -e "$disk" ]; then
    room 5 target/machine
    say "booting it with SELinux $selinux_mode for the first time (half a minute, some 3 GB in target/machine)"
    cp --sparse=always "$made/disk.raw" "$run/disk.raw"
    mkdir "$run/nothing"
    for user in root tester; do
        archives "$run/nothing" contrib/machine ./first-boot.sh
        start_machine "$run/disk.raw" "$user" "$selinux_mode" nsdelegate machine.disk=kept 5>"$run/log"
        wait_for_session
        [ "$status" = 0 ] || {
            tail -n 20 "$run/log" >&2
            machine_failed "the first boot as $user failed; $(keep "$run/log")"
        }
    done
    # A machine that ended before its shutdown was complete may have left half of a file.
    dumpe2fs -h "$run/disk.raw" 2>/dev/null | grep -q '^Filesystem state: *clean$' || machine_failed "it did not shut down cleanly"
    mv "$run/disk.raw" "$disk"
fi

if [ -z "$shell" ]; then
    archives "$stage" "$directory" "$command"
else
    archives "$stage"
    terminal=$(stty -g)
    trap 'stty "$terminal"; end_machine; $AS_ROOT rm -rf "$run"' EXIT
    stty raw -echo
fi
ln "$disk" "$run/disk.raw" # A second name, since a process that creates a new machine removes the first.
exec 9>&-
start_machine "$run/changes,$run/disk.raw" "$login" "$selinux_mode" "$cgroup"
[ -z "$shell" ] || { wait "$machine"; exit 0; }
wait_for_session
exit "$status"
