#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# What root does in the machine's first boot, before the snapshot is taken.
set -eu

state=$(systemctl is-system-running --wait) || {
    echo "the machine is $state:"
    systemctl --no-pager list-units --failed
    exit 1
}
# Side by side, since each keeps one processor busy for half a minute.
docker import /srv/systemd.tar systemd:latest &
podman import --quiet /srv/systemd.tar localhost/systemd:latest
wait $!
# Each engine's first container loads modules and reads its binaries: the snapshot has that behind it.
docker run --rm systemd true
podman run --rm systemd true
