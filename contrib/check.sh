#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The whole test suite with its set-up, on a Debian machine: as root, or with sudo.
set -eu
cd "$(dirname "$0")/.."
. contrib/prerequisites.sh

say "packages"
need gcc libc6-dev mmdebstrap runc crun shellcheck util-linux

say "form"
cargo fmt --check
cargo clippy --quiet --locked --all-targets -- -D warnings
shellcheck -x .ci/run contrib/*.sh

say "units and plans"
cargo test --quiet --locked --lib --test golden

say "installation"
stage=$PWD/target/stage
rm -rf "$stage"
DESTDIR=$stage contrib/install.sh
export OCI_SYSTEMD_HOOK="$stage/usr/libexec/oci/hooks.d/oci-systemd-hook"
export OCI_SYSTEMD_HOOK_STAGE="$stage"
cargo test --quiet --locked --test installed

say "all passed"
