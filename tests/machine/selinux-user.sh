#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Rootless podman with the hook, enforcing.
set -eu
. ./lib.sh

same "enforce" "$(cat /sys/fs/selinux/enforce)" 1
podman_trials "rootless podman"
echo "all passed"
