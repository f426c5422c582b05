#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The test suite with its set-up, on a Debian machine: as root, or with sudo.
#
#   --full  also under load, by fuzzing, and in a virtual machine with SELinux and cgroup v2 alone, which is made in
#           target/: 3 GiB of memory, 10 GB of disk and three quarters of an hour more
set -eu
cd "$(dirname "$0")/.."
. contrib/prerequisites.sh

started=$(date +%s)

# phase WHAT
phase() { say "$*, after $((($(date +%s) - started) / 60)) minutes"; }

full=
case ${1:-} in
'') ;;
--full) full=yes ;;
*) stop "$1 is no option; there is --full" ;;
esac

phase "packages"
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
DESTDIR=$stage PRECREATE=yes contrib/install.sh
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

if [ -n "$full" ]; then
    phase "load, with random kills"
    cargo test --quiet --locked --test e2e -- --ignored load/

    phase "fuzzing"
    contrib/fuzz.sh 15

    phase "SELinux, rootful engines"
    contrib/machine.sh tests/machine/selinux.sh

    phase "SELinux, rootless podman"
    contrib/machine.sh --user tests/machine/selinux-user.sh

    phase "without SELinux"
    contrib/machine.sh --selinux off tests/machine/selinux-off.sh

    phase "podman, rootful"
    contrib/machine.sh --selinux off tests/machine/podman.sh

    phase "podman, rootless"
    contrib/machine.sh --selinux off --user tests/machine/podman.sh

    phase "containerd"
    contrib/machine.sh --selinux off tests/machine/containerd.sh

    phase "runc in services of the host's"
    contrib/machine.sh --selinux off tests/machine/services.sh

    phase "cgroups, as systemd mounts them"
    contrib/machine.sh --selinux off tests/machine/cgroups.sh layouts limits

    phase "cgroups, without nsdelegate"
    contrib/machine.sh --selinux off --cgroup no-nsdelegate tests/machine/cgroups.sh limits
fi

phase "all passed"
