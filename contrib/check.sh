#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck disable=SC2046,SC2086 # lists of packages, parts and processes are split into words
set -eu

usage() {
    cat <<'END'
contrib/check.sh [--full]
contrib/check.sh PART...
contrib/check.sh --list

Runs the test suite on a Debian machine, as root or with sudo: all parts that need no virtual machine, or all with --full,
or those named, two at a time, until one fails. Packages are installed with apt; everything else is created below target/ (5 GB,
18 GB with --full, for which amd64 and 5 GiB of memory are needed; KVM isn't).

  --list  prints the parts, which option chooses each, what it needs, and what it tests. Every part needs the programs that
          build the project. "lint" stands for shellcheck, codespell and groff, "man" for groff, "engines" for the container
          engines, "hook" for an installed hook, "images" for root file systems, "suites" for those with other projects'
          tests, "readme" for those in which the README is followed, "machine" for the virtual machine, and "fuzzer" for
          cargo-fuzz.

kernel/FILTER, runtime/FILTER, e2e/FILTER and suites/FILTER are the trials of these parts whose names contain FILTER, such as
e2e/docker.
END
}

# Lists the parts in the order in which they start, which is such that no long one is the last: the name, the option
# that chooses the part, what it needs, and what it tests.
parts() {
    cat <<'END'
form|default|lint|formatting and lints of the sources
units|default|build containerd man|unit tests, plans of example containers, and properties of random ones
installed|default|hook|what contrib/install.sh installs
e2e|default|engines images hook|runc, crun, podman, Docker and containerd, with real images
machine/selinux|full|machine hook|SELinux enforcing, engines as root
machine/cgroups|full|machine hook|cgroup v2 as systemd mounts it: layouts, limits, memory
machine/podman|full|machine hook|podman as root
machine/podman-user|full|machine hook|podman as a user
machine/selinux-user|full|machine hook|SELinux enforcing, podman as a user
machine/no-nsdelegate|full|machine hook|the same limits without the mount option nsdelegate
machine/services|full|machine hook|runc in services of the host
machine/containerd|full|machine hook|containerd
machine/selinux-off|full|machine hook|a kernel without SELinux
kernel|default|engines hook|the hook on real mounts and cgroups, as root and in a user namespace
demo|full|engines|the README's first command
readme/trixie|full|engines images readme|the README's installation on Debian 13, with its Rust, without libselinux and with it
readme/bookworm|full|engines images readme|the same on Debian 12, with rustup's Rust
suites|full|engines images hook suites|other projects' test suites in a container with the hook: one of each kind, drawn by a seed
load|full|engines images hook|1,000 containers, 100 at a time, with random kills
fuzz|full|fuzzer|the parsers and the plan
older-kernels|default|engines hook|the hook without some system calls, as on older kernels
runtime|default|engines hook|the runtime wrapper
END
}

# needs NAME: prints what a part needs. NAME may also name trials of the part.
needs() {
    name=$1
    case $name in machine/* | readme/*) ;; *) name=${name%%/*} ;; esac
    parts | awk -F '|' -v name="$name" '$1 == name { print $3 }'
}

# wrong WHAT: reports a wrong command line.
wrong() {
    echo "check.sh: $*" >&2
    exit 2
}

# chosen default|full: prints the names of the parts that an option chooses.
chosen() {
    case $1 in
    default) parts | awk -F '|' '$2 == "default" { print $1 }' ;;
    full) parts | cut -d '|' -f 1 ;;
    esac
}

# is_part NAME: checks whether this names a part or trials of a part.
is_part() {
    case $1 in
    e2e/load* | e2e/suites*) return 1 ;; # They are parts of their own.
    kernel/?* | runtime/?* | e2e/?* | suites/?*) return 0 ;;
    esac
    chosen full | grep -qxF -e "$1"
}

# Debian packages, by what needs them.
BUILD="clang gcc libc6-dev libselinux1-dev"
ENGINES="runc crun podman catatonit containerd docker.io jq uidmap debian-archive-keyring mmdebstrap strace systemd util-linux"

SUITES="autopkgtest"

# Installs the hook for the parts that run it, into a directory that several parts share.
stage() {
    if [ -n "${OCI_SYSTEMD_HOOK_STAGE:-}" ]; then
        stage=$OCI_SYSTEMD_HOOK_STAGE
    else
        stage=$PWD/target/stage
        rm -rf "$stage"
        CARGO_TERM_QUIET=true contrib/build.sh
        # An administrator may have this umask. Rootless engines must be able to read what is installed all the same.
        (umask 077 && DESTDIR=$stage PRECREATE=yes STAGES="createRuntime poststop" contrib/install.sh >/dev/null)
    fi
    export OCI_SYSTEMD_HOOK_STAGE="$stage"
    export OCI_SYSTEMD_HOOK="$stage/usr/libexec/oci/hooks.d/oci-systemd-hook"
    export OCI_HOOKS_RUNTIME="$stage/usr/bin/oci-hooks-runtime"
}

# Makes cargo run test programs as root.
as_root() {
    [ -n "$AS_ROOT" ] || return 0
    export "CARGO_TARGET_$(echo "$host_triple" | tr 'a-z-' 'A-Z_')_RUNNER=sudo -E"
}

# A systemd and its services use six inotify instances. The kernel allows root's processes 128 in total,
# including those in containers. The limit applies to the whole machine, so the last check.sh that needs more
# restores it from the file.
limit=/proc/sys/fs/inotify/max_user_instances
limit_file=/run/lock/oci-systemd-hook-check
set_limit() { echo "$1" | $AS_ROOT tee $limit >/dev/null; }
raise_limit() {
    exec 7>>$limit_file
    flock 7
    if [ ! -s $limit_file ]; then
        cat $limit >$limit_file
        [ "$(cat $limit)" -ge 1024 ] || set_limit 1024
    fi
    flock -s 7
}
restore_limit() {
    # Each check.sh that is running holds the lock.
    flock -n 7 || return 0
    set_limit "$(cat $limit_file)"
    rm $limit_file
}

images() {
    export OCI_SYSTEMD_HOOK_ROOTS="$PWD/target/roots"
    for suite in bullseye bookworm trixie sid; do
        image "$suite" "$OCI_SYSTEMD_HOOK_ROOTS/$suite"
    done
    image bookworm "$OCI_SYSTEMD_HOOK_ROOTS/web" ,nginx-light,curl
    # The same as the base image of contrib/images/debian.
    base=$OCI_SYSTEMD_HOOK_ROOTS/base
    once "$base" "creating a Debian trixie without systemd" bootstrap trixie "$base.new" "" --variant=minbase
}

# Makes an image with packages whose own tests exercise their services. What most of these tests need is installed and
# the sources are in /srv, so that they run without a network.
services() {
    # shellcheck disable=SC2016 # for the shell of mmdebstrap
    image bookworm "$OCI_SYSTEMD_HOOK_ROOTS/services" \
        ,dpkg-dev,redis,redis-sentinel,memcached,iproute2,libtest-simple-perl,dovecot-core,lighttpd,media-types,curl \
        'sed -n "s/^deb /deb-src /p" "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/sources.list" &&
        chroot "$1" sh -c "apt-get update && cd /srv && apt-get source --download-only redis memcached dovecot lighttpd"' \
        http://deb.debian.org/debian
}

# reader_root SUITE: makes a minimal Debian with a user who may use sudo.
reader_root() {
    # shellcheck disable=SC2016 # for the shell of mmdebstrap
    image "$1" "$OCI_SYSTEMD_HOOK_ROOTS/$1-reader" ,sudo,ca-certificates \
        'chroot "$1" useradd --create-home --shell /bin/bash reader
        echo "reader ALL=(ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/reader"
        echo "Binary::apt::APT::Keep-Downloaded-Packages \"true\";" >"$1/etc/apt/apt.conf.d/90reader"'
}

# readme SUITE: installs as the README describes, and boots a container with what was installed.
readme() {
    installed=$PWD/target/readme/$1
    ${AS_ROOT:+$AS_ROOT -E env "PATH=$PATH"} tests/readme/install.sh "$OCI_SYSTEMD_HOOK_ROOTS/$1-reader" "$installed"
    for installed in "$installed"*/usr; do
        OCI_SYSTEMD_HOOK=$installed/libexec/oci/hooks.d/oci-systemd-hook OCI_HOOKS_RUNTIME=$installed/bin/oci-hooks-runtime \
            trials e2e "boot/runc/unified/private/$1"
    done
}

# prepare NAME: sets up what a part needs.
prepare() {
    for what in $(needs "$1"); do
        case $what in
        lint)
            need $BUILD codespell groff-base shellcheck
            need_lints
            ;;
        build) need $BUILD ;;
        containerd) need containerd ;;
        man) need groff-base ;;
        engines)
            need $BUILD $ENGINES
            as_root
            ;;
        hook)
            need $BUILD
            stage
            ;;
        images) images ;;
        suites)
            need $SUITES
            for suite in bullseye bookworm trixie sid; do
                # All packages come from one archive, so that both packages of systemd have the same version.
                image "$suite" "$OCI_SYSTEMD_HOOK_ROOTS/$suite-tests" ,systemd-tests true http://deb.debian.org/debian
            done
            services
            ;;
        readme)
            need git
            for suite in bookworm trixie; do reader_root "$suite"; done
            ;;
        machine) need_for_machine ;;
        fuzzer) need $BUILD g++ ;;
        esac
    done
}

# names SUITE FILTER: prints the names of the trials of tests/SUITE that contain FILTER.
names() { cargo test --quiet --locked --test "$1" -- --list "$2" | sed -n 's/: test$//p'; }

# trials SUITE [FILTER [OPTION...]]: runs the trials of tests/SUITE, or those whose names contain FILTER.
trials() {
    if [ $# -gt 1 ] && [ -z "$(names "$1" "$2")" ]; then
        stop "no trial of $1 has $2 in its name"
    fi
    test=$1
    shift
    cargo test --quiet --locked --test "$test" -- "$@"
}

# draw FILTER: prints the name of one trial of e2e, which the seed determines.
draw() {
    names e2e "$1" | awk -v seed="$seed" '{ names[NR] = $0 } END { if (NR) print names[seed % NR + 1] }'
}

suites() {
    seed=${OCI_SYSTEMD_HOOK_SUITES_SEED:-$(od -A n -N 2 -t u2 /dev/urandom | tr -d ' ')}
    echo "to repeat this choice, set OCI_SYSTEMD_HOOK_SUITES_SEED=$seed"
    for kind in systemd-tests autopkgtest; do
        drawn=$(draw "suites/$kind/")
        [ -n "$drawn" ] || stop "there is no trial suites/$kind/"
        trials e2e "$drawn" --ignored || stop "$drawn failed; to run only this: contrib/check.sh $drawn"
    done
}

# in_machine [OPTION...] SCRIPT [ARGUMENT...]: runs a script in the virtual machine, which is
# stopped when this process ends.
in_machine() {
    setpriv --pdeathsig TERM contrib/machine.sh "$@"
}

# The Rust release whose warnings are errors, which is also CI's. Newer releases may have lints
# that nobody has seen yet.
LINTS=1.95

# need_rust SUBCOMMAND PACKAGE COMPONENT: makes sure that a subcommand of cargo is
# available, which is packaged separately.
need_rust() {
    ! cargo "$1" --version >/dev/null 2>&1 || return 0
    ! command -v rustup >/dev/null || stop "cargo $1 is missing: rustup component add $3"
    need "$2"
}

need_lints() {
    need_rust fmt rustfmt rustfmt
    need_rust clippy rust-clippy clippy
}

form() {
    cargo fmt --check
    case $(rustc --version) in
    "rustc $LINTS."*) set -- -D warnings ;;
    *) set -- ;;
    esac
    cargo clippy --quiet --locked --all-targets -- "$@"
    cargo clippy --quiet --locked --all-targets --no-default-features -- "$@"
    cargo fmt --check --manifest-path contrib/fuzz/Cargo.toml
    shellcheck -x .ci/run contrib/*.sh contrib/machine/*.sh
    shellcheck -x tests/readme/*.sh
    (cd tests/machine && shellcheck -x ./*.sh mislabelled-runc)
    codespell
    groff -man -ww -z share/man/man*/*
}

units() {
    cargo test --quiet --locked --lib --test golden --test plan --test precreate --test hooksd --test documents --test fragments --test man --test prose --test set_up --test workflow
    # This uses a separate directory, because another part may be running the programs in the usual one.
    cargo test --quiet --locked --target-dir target/no-selinux --no-default-features --lib --test golden --test plan --test precreate --test hooksd
    cargo test --quiet --locked --test properties -- --nocapture
}

older_kernels() {
    # Runs the hook as on a kernel that lacks a system call, or in which the call lacks a feature.
    older=$PWD/target/older-kernel
    for lack in openat2:error=ENOSYS mount_setattr:error=ENOSYS open_tree:error=EINVAL:when=2 fsconfig:retval=1:when=1; do
        printf '#!/bin/sh\nexec strace -qq -o /dev/null -e trace=%s -e inject=%s '\''%s'\'' "$@"\n' \
            "${lack%%:*}" "$lack" "$stage/usr/libexec/oci/hooks.d/oci-systemd-hook" >"$older"
        chmod +x "$older"
        OCI_SYSTEMD_HOOK=$older OCI_SYSTEMD_HOOK_TRIALS='plain submounts lasting copy-up undo propagation' trials kernel
    done
}

# part NAME: runs one part in this process.
part() {
    prepare "$1"
    case $1 in
    form) form ;;
    units) units ;;
    installed) trials installed ;;
    older-kernels) older_kernels ;;
    kernel | runtime | e2e) trials "$1" ;;
    kernel/* | runtime/* | e2e/*) trials "${1%%/*}" "${1#*/}" ;;
    load) trials e2e load/ --ignored ;;
    demo) contrib/demo.sh ;;
    readme/*) readme "${1#*/}" ;;
    suites) suites ;;
    suites/*) trials e2e "$1" --ignored ;;
    fuzz) contrib/fuzz.sh 5 ;;
    machine/selinux) in_machine tests/machine/selinux.sh ;;
    machine/selinux-user) in_machine --user tests/machine/selinux-user.sh ;;
    machine/selinux-off) in_machine --selinux off tests/machine/selinux-off.sh ;;
    machine/podman) in_machine --selinux off tests/machine/podman.sh ;;
    machine/podman-user) in_machine --selinux off --user tests/machine/podman.sh ;;
    machine/containerd) in_machine --selinux off tests/machine/containerd.sh ;;
    machine/services) in_machine --selinux off tests/machine/services.sh ;;
    machine/cgroups) in_machine --selinux off tests/machine/cgroups.sh layouts limits memory ;;
    machine/no-nsdelegate) in_machine --selinux off --cgroup no-nsdelegate tests/machine/cgroups.sh limits ;;
    esac
}

# next: takes the first part off the queue; fails if there is none.
next() {
    exec 4>target/check/lock
    flock 4
    name=$(head -n 1 target/check/queue) || exit 1
    sed -i 1d target/check/queue
    exec 4>&-
    [ -n "$name" ]
}

# in_turn ROW: runs parts of the queue one after the other, each in a separate process, until one fails. Writes how
# long each took to target/check/ROW.times, and, at the end, whether all passed to target/check/ROW.result.
in_turn() {
    row=target/check/$1
    result=failed # Also if this is ended by a signal.
    trap 'echo $result >"$row.new"; mv "$row.new" "$row.result"' EXIT
    while next; do
        say "$name"
        start=$(date +%s)
        status=0
        # The output goes to a file first, because the output of two rows would be mixed.
        log=target/check/$(echo "$name" | tr / -).log
        contrib/check.sh "$name" >"$log" 2>&1 || status=$?
        echo "$(($(date +%s) - start)) $name" >>"$row.times"
        say "$name, after $(($(date +%s) - start)) s"
        cat "$log"
        if [ "$status" != 0 ]; then
            echo "check.sh: $name failed; to run only this part: contrib/check.sh $name" >&2
            exit 1
        fi
    done
    result=passed
}

# These traps make each process wait for its children before it ends.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

which=default
case ${1:-} in
--help)
    usage
    exit
    ;;
--list)
    parts | awk -F '|' '{ printf "%-22s %-8s %-28s %s\n", $1, $2, $3, $4 }'
    exit
    ;;
--full)
    [ $# = 1 ] || wrong "--full takes no arguments, but was given $2"
    which=full
    shift
    ;;
--in-turn)
    # check.sh calls itself with this option.
    shift
    cd "$(dirname "$0")/.."
    . contrib/prerequisites.sh
    in_turn "$1"
    exit
    ;;
-*) wrong "invalid option $1; see contrib/check.sh --help" ;;
esac
for name in "$@"; do
    is_part "$name" || wrong "there is no part $name; contrib/check.sh --list shows the parts"
done

cd "$(dirname "$0")/.."
. contrib/prerequisites.sh
. contrib/rust.sh
export PATH

# If another check.sh runs this part, everything that the part needs has been set up.
if [ -n "${OCI_SYSTEMD_HOOK_STAGE:-}" ] && [ $# = 1 ]; then
    part "$1"
    exit
fi

mkdir -p target
exec 6>target/check.lock
flock -n 6 || stop "another contrib/check.sh is running in $PWD"
if [ $# = 1 ]; then
    raise_limit
    trap restore_limit EXIT
    part "$1"
    exit
fi

started=$(date +%s)
[ $# -gt 0 ] || set -- $(chosen "$which")
case " $* " in
*" machine/"*)
    need_for_machine
    # Two machines run at a time.
    [ "$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)" -ge 5 ] ||
        stop "two virtual machines need 5 GiB of memory, and less is available"
    room 4 /dev/shm
    ;;
esac
# This is checked now, so that the run doesn't fail after half an hour.
[ "$which" = default ] || ls target/machine/*/*.raw >/dev/null 2>&1 || room 14 "$PWD"
[ -z "$AS_ROOT" ] || setsid -w sudo -n true || stop "parts have no terminal, so sudo must not ask for a password"
say "packages and the hook"
case " $* " in *" form "*) need_lints ;; esac
need $BUILD $ENGINES $SUITES g++ git groff-base shellcheck
stage
raise_limit
mkdir -p target/check
rm -f target/check/*
printf '%s\n' "$@" >target/check/queue

# Each row has a separate session, so that one signal reaches all its processes. There are two rows,
# because a boot mostly waits.
rows="first second" processes=''
stop_rows() {
    trap '' HUP INT TERM
    : >target/check/queue # Should a row not have begun yet.
    for process in $processes; do
        $AS_ROOT kill -s TERM -- "-$process" 2>/dev/null || true # It has ended.
    done
    wait
    restore_limit
}
trap stop_rows EXIT
for row in $rows; do
    setsid contrib/check.sh --in-turn "$row" 6>&- 7>&- &
    processes="$processes $!"
done

# is_over: checks whether both rows have ended, or one has failed.
is_over() {
    running=0 results=0
    for process in $processes; do
        ! kill -0 "$process" 2>/dev/null || running=$((running + 1))
    done
    for row in $rows; do
        case $(cat "target/check/$row.result" 2>/dev/null) in
        passed) results=$((results + 1)) ;;
        failed) return 0 ;;
        esac
    done
    # A row that was killed leaves no result.
    [ "$results" = 2 ] || [ $((running + results)) -lt 2 ]
}
until is_over; do sleep 1; done

say "how long each part took"
cat target/check/*.times | awk '{ printf "%5d s  %s\n", $1, $2 }'
total=$(($(date +%s) - started))
if [ "$results" != 2 ]; then
    say "FAILED after $total s"
    exit 1
fi
say "all passed in $total s"
