#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The same hook in the same machine, where the kernel has SELinux off.
set -eu
. ./lib.sh

[ ! -e /sys/fs/selinux ] || wrong "the kernel has SELinux"
engine podman
begin "podman without SELinux"
run --systemd=false --stop-signal=RTMIN+3
boots
says_nothing
stops
remove
unchanged
echo "ok: $trial"
echo "all passed"
