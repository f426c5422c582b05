#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Tests rootless podman with the hook and with SELinux enforcing.
set -eu
. ./lib.sh

same "enforce" "$(cat /sys/fs/selinux/enforce)" 1
podman_trials "rootless podman"

lacks_capabilities "rootless podman" container_use_userns_all_caps setpcap

sudo setsebool container_manage_cgroup off
lives_by_label "rootless podman"
sudo setsebool container_manage_cgroup on

begin "rootless podman, the host's cgroup namespace"
lives --systemd=false --stop-signal=RTMIN+3 --cgroupns=host

begin "rootless podman, a cgroup layout that only root can make"
if run --systemd=false --annotation oci-systemd-hook.cgroup=legacy 2>/dev/null; then
    wrong "it was created"
fi
warns "run the engine as root, because only the host's root can create one"
remove
end
all_passed
