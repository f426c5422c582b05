#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Sourced by check.sh, demo.sh, fuzz.sh and machine.sh. Provides what they need on a machine. Sets AS_ROOT, and
# defines say, stop, is_debian, is_there, need, need_for_machine, room, once, image, bootstrap and kernel.

say() { printf '\n== %s\n' "$*"; }

stop() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

owner=$(stat -c %U .)
if [ "$(id -u)" = 0 ]; then
    # The owner of target/ can't replace files that root creates there.
    [ -z "${SUDO_UID:-}" ] || [ "$owner" = root ] || stop "run this as $owner, who owns $PWD: it calls sudo itself"
    AS_ROOT=
else
    command -v sudo >/dev/null || stop "run this as root, or install sudo"
    AS_ROOT="sudo"
fi

is_debian() { [ -e /etc/debian_version ] && command -v apt-get >/dev/null; }

# is_there PACKAGE: checks whether what a Debian package is needed for is available, no
# matter which package provides it.
is_there() {
    case $1 in
    debian-archive-keyring | libc6-dev | libselinux1-dev)
        # On other distributions, the build fails if these are missing.
        is_debian || return 0
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
        return
        ;;
    docker.io) program=dockerd ;;
    e2fsprogs) program=mkfs.ext4 ;;
    groff-base) program=groff ;;
    rust-clippy) program=cargo-clippy ;;
    systemd) program=systemd-run ;;
    uidmap) program=newuidmap ;;
    util-linux) program=unshare ;;
    *) program=$1 ;;
    esac
    # /usr/sbin isn't on every user's PATH.
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null
}

# need PACKAGE...: installs missing packages with apt. Nothing is removed or replaced for that,
# and no daemon is started.
need() {
    missing=
    for package in "$@"; do
        is_there "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    is_debian || stop "these packages are missing, by Debian's names:$missing; install them"
    echo "installing with apt:$missing"
    log=$(mktemp)
    if ! install_packages >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        stop "apt-get could not install$missing; the whole log is $log"
    fi
    rm -f "$log"
}

# install_packages: installs $missing with a policy that keeps packages from starting their daemons
# (/usr/share/doc/init-system-helpers/README.policy-rc.d.gz). It is a subshell, so that its trap removes the policy.
# An administrator's policy is kept.
install_packages() (
    policy=/usr/sbin/policy-rc.d
    mark="# oci-systemd-hook: daemons are not started"
    if [ ! -e $policy ] || grep -qxF "$mark" $policy; then
        trap '$AS_ROOT rm -f $policy' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\n%s\nexit 101\n' "$mark" | $AS_ROOT tee $policy || exit
        $AS_ROOT chmod 755 $policy || exit
    fi
    # An unreachable repository matters only if it has one of the packages.
    $AS_ROOT apt-get update || true
    # shellcheck disable=SC2086 # one word a package
    $AS_ROOT env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-remove --no-install-recommends -o DPkg::Lock::Timeout=300 $missing
)

# Provides what machine.sh needs, except for disk space.
need_for_machine() {
    [ "$(dpkg --print-architecture)" = amd64 ] || stop "the virtual machine is made for amd64 only"
    [ "$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)" -ge 3 ] ||
        stop "the virtual machine needs 3 GiB of memory, and less is available"
    room 2 /dev/shm
    need clang debian-archive-keyring e2fsprogs gcc libc6-dev libselinux1-dev mmdebstrap patchelf util-linux
}

# room GIB DIRECTORY: fails if less space is available.
room() {
    [ "$(df --output=avail -B1G "$2" | tail -n 1)" -ge "$1" ] || stop "$2 needs $1 GiB of space, and has less"
}

# once DIRECTORY WHAT COMMAND...: if DIRECTORY doesn't exist, prints WHAT, has the command create DIRECTORY.new,
# and renames that to DIRECTORY.
once() {
    made=$1 what=$2
    shift 2
    mkdir -p "$(dirname "$made")"
    # Another process may be creating it.
    exec 3<"$(dirname "$made")"
    flock 3
    if [ ! -e "$made" ]; then
        echo "$what"
        "$@"
        $AS_ROOT mv -T "$made.new" "$made"
    fi
    exec 3<&-
}

# image SUITE DIRECTORY [PACKAGES [HOOK [MIRROR]]]: makes the root file system of a small Debian with systemd, if it
# doesn't exist. PACKAGES are additional packages, with a comma before each. HOOK is a command for mmdebstrap that
# changes the root file system, whose path is in $1.
image() {
    once "$2" "creating a Debian $1 with systemd (half a minute, some 250 MB in $2)" bootstrap "$1" "$2.new" "${5:-}" \
        --variant=minbase --include="systemd,systemd-sysv,dbus${3:-}" --customize-hook="${4:-true}"
}

# bootstrap SUITE DIRECTORY MIRROR OPTION...: makes a root file system with mmdebstrap. If MIRROR is empty, the mirror
# is the one in DEBIAN_MIRROR, or Debian's. The caller renames the directory, so that an interrupted run doesn't leave
# half of one. It is a subshell, so that its variables are local.
bootstrap() (
    release=$1 root=$2 mirror=${3:-${DEBIAN_MIRROR:-}}
    shift 3
    log=$(mktemp)
    # A release is moved to the archive when its support ends.
    for from in "$mirror" http://archive.debian.org/debian; do
        $AS_ROOT rm -rf "$root"
        # A mirror's unstable suite may be past its Valid-Until date. mmdebstrap fails if its own file descriptors
        # have two digits, so others are closed.
        if $AS_ROOT mmdebstrap --aptopt='Acquire::Check-Valid-Until "false"' "$@" "$release" "$root" ${from:+"$from"} >"$log" 2>&1 3<&- 6>&- 7>&-; then
            rm -f "$log"
            return
        fi
        tail -n 20 "$log" >&2
        echo "mmdebstrap could not create a Debian $release from ${from:-"Debian's mirror"}" >&2
    done
    stop "the log of the last attempt is $log"
)

# kernel DIRECTORY: unpacks User Mode Linux from Debian, if it doesn't exist: Linux as a program, linux.uml, with its
# modules and its libc. The version in Debian 14 is the first that runs on processors with AMX; older ones have no
# room to save its registers.
kernel() {
    once "$1" "unpacking the kernel of the virtual machine (200 MB in $1)" unpack_kernel "$1"
}

unpack_kernel() {
    bootstrap forky "$1.new" "" --variant=extract --include=user-mode-linux
    # The program needs a newer libc than this machine may have.
    libraries=$1/usr/lib/x86_64-linux-gnu
    $AS_ROOT patchelf --set-interpreter "$libraries/ld-linux-x86-64.so.2" --set-rpath "$libraries" "$1.new/usr/bin/linux.uml"
}
