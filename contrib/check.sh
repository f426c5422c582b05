#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
set -eu

usage() {
    cat <<'END'
contrib/check.sh [--full]

The test suite with its set-up, on a Debian machine: as root, or with sudo. Packages are installed by apt, all else is made
below target/: 5 GB of disk, half an hour on two processors.

  --full  also under load, by fuzzing, and in a virtual machine (amd64; KVM isn't used) with SELinux enforcing and cgroup v2
          alone: 3 GiB of memory, 9 GB more of disk, 40 minutes more
END
}

# wrong WHAT: in the call.
wrong() {
    echo "check.sh: $*" >&2
    exit 2
}

full=
case $# in
0) ;;
1)
    case $1 in
    --full) full=yes ;;
    --help)
        usage
        exit
        ;;
    *) wrong "$1 is no option; there are --full and --help" ;;
    esac
    ;;
*) wrong "one option is too much: $*" ;;
esac

cd "$(dirname "$0")/.."
. contrib/prerequisites.sh

started=$(date +%s)

# phase WHAT
phase() { say "$*, after $((($(date +%s) - started) / 60)) minutes"; }

phase "packages"
if [ -n "$full" ]; then
    # What takes long to find out.
    need_for_machine
    set -- target/machine/*/disk.raw
    [ -e "$1" ] || room 14 "$PWD"
fi
need clang g++ gcc libc6-dev libselinux1-dev groff-base mmdebstrap runc crun podman catatonit containerd docker.io jq uidmap \
    shellcheck strace systemd util-linux

phase "form"
cargo fmt --check
cargo clippy --quiet --locked --all-targets -- -D warnings
cargo clippy --quiet --locked --all-targets --no-default-features -- -D warnings
cargo fmt --check --manifest-path contrib/fuzz/Cargo.toml
shellcheck -x .ci/run contrib/*.sh contrib/machine/*.sh
(cd tests/machine && shellcheck -x ./*.sh mislabelled-runc)
groff -man -ww -z share/man/man*/*

phase "units and plans"
cargo test --quiet --locked --lib --test golden --test plan --test precreate --test hooksd --test fragments
cargo test --quiet --locked --no-default-features --lib --test golden --test plan --test precreate --test hooksd
cargo test --quiet --locked --test properties -- --nocapture

phase "installation"
stage=$PWD/target/stage
rm -rf "$stage"
# With an administrator's umask; rootless engines are to read what is installed all the same.
(umask 077 && DESTDIR=$stage PRECREATE=yes contrib/install.sh)
export OCI_SYSTEMD_HOOK="$stage/usr/libexec/oci/hooks.d/oci-systemd-hook"
export OCI_HOOKS_RUNTIME="$stage/usr/bin/oci-hooks-runtime"
export OCI_SYSTEMD_HOOK_STAGE="$stage"
cargo test --quiet --locked --test installed

# The rest needs root; it is built without.
if [ -n "$AS_ROOT" ]; then
    triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${triple}_RUNNER=sudo -E"
fi

phase "kernel"
cargo test --quiet --locked --test kernel

phase "the runtime wrapper"
cargo test --quiet --locked --test runtime

phase "older kernels"
# As on a kernel without a system call, or where it can't do something yet: the other way is taken.
older=$PWD/target/older-kernel
for lack in openat2:error=ENOSYS mount_setattr:error=ENOSYS open_tree:error=EINVAL:when=2 fsconfig:retval=1:when=1; do
    printf '#!/bin/sh\nexec strace -qq -o /dev/null -e trace=%s -e inject=%s '\''%s'\'' "$@"\n' \
        "${lack%%:*}" "$lack" "$OCI_SYSTEMD_HOOK" >"$older"
    chmod +x "$older"
    for trials in plain submounts lasting copy-up undo propagation; do
        OCI_SYSTEMD_HOOK=$older cargo test --quiet --locked --test kernel -- "$trials"
    done
done

phase "images"
export OCI_SYSTEMD_HOOK_ROOTS="$PWD/target/roots"
for suite in bullseye bookworm trixie sid; do
    image "$suite" "$OCI_SYSTEMD_HOOK_ROOTS/$suite"
done
image bookworm "$OCI_SYSTEMD_HOOK_ROOTS/web" ,nginx-light,curl

phase "end to end on real runtimes"
cargo test --quiet --locked --test e2e

# in_machine [OPTION...] SCRIPT [ARGUMENT...]: ends with this.
in_machine() { setpriv --pdeathsig TERM contrib/machine.sh "$@"; }

if [ -n "$full" ]; then
    phase "load, with random kills"
    cargo test --quiet --locked --test e2e -- --ignored load/

    phase "fuzzing"
    contrib/fuzz.sh 5

    phase "SELinux, rootful engines"
    in_machine tests/machine/selinux.sh

    phase "SELinux, rootless podman"
    in_machine --user tests/machine/selinux-user.sh

    phase "without SELinux"
    in_machine --selinux off tests/machine/selinux-off.sh

    phase "podman, rootful"
    in_machine --selinux off tests/machine/podman.sh

    phase "podman, rootless"
    in_machine --selinux off --user tests/machine/podman.sh

    phase "containerd"
    in_machine --selinux off tests/machine/containerd.sh

    phase "runc in services of the host's"
    in_machine --selinux off tests/machine/services.sh

    phase "cgroups, as systemd mounts them"
    in_machine --selinux off tests/machine/cgroups.sh layouts limits memory

    phase "cgroups, without nsdelegate"
    in_machine --selinux off --cgroup no-nsdelegate tests/machine/cgroups.sh limits
fi

phase "all passed"
