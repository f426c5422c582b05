#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Tests a current podman on a host with systemd and logind, as the user who runs this: root, or a
# user with a login session.
set -eu
. ./lib.sh
engine podman

# run_image IMAGE OPTION...: runs a container of that image.
run_image() {
    image=$1
    shift
    podman run --detach --name podman-trial "$@" "$image" /sbin/init >/dev/null
}

machine_id() { ask cat /etc/machine-id; }

# These options test the hook alone, because the engine then does nothing for systemd.
alone="--systemd=false --stop-signal=RTMIN+3"

begin "restart three times"
# shellcheck disable=SC2086 # one word an option
run $alone
boots
id=$(machine_id)
same "the machine id" "$id" "$(podman inspect --format '{{.Id}}' podman-trial | cut -c 1-32)"
for _ in 1 2 3; do
    podman restart --time 60 podman-trial >/dev/null
    boots
    same "the machine id after a restart" "$(machine_id)" "$id"
done
says_nothing
stops
remove
finish

begin "its own systemd mode, completed"
run
boots
same "the machine id" "$(machine_id)" "$(podman inspect --format '{{.Id}}' podman-trial | cut -c 1-32)"
# podman provides /run/.containerenv and `container`; the rest, in /run/host, is this hook's.
for path in /run/.containerenv /run/host/container-manager /run/host/os-release /run/host/inaccessible/reg; do
    ask test -e $path || wrong "there is no $path"
done
mounts=$(ask findmnt --noheadings --raw --output TARGET) || wrong "findmnt can't tell the mounts"
same "what is mounted twice" "$(printf '%s\n' "$mounts" | sort | uniq --repeated)" ""
says_nothing
stops
remove
finish

begin "its own systemd mode, without the hook"
run --annotation oci-systemd-hook=disabled
until_ 120 has_booted || wrong "systemd says '$state' after 120 s"
if ask test -e /run/host/os-release; then wrong "there is a /run/host/os-release"; fi
remove
finish

begin "an entry point of the image's own, by the annotation"
# shellcheck disable=SC2086 # one word an option
podman run --detach --name podman-trial $alone --annotation oci-systemd-hook=enabled localhost/systemd:latest \
    sh -c 'echo an entry point >/made; exec /sbin/init' >/dev/null
boots
same "what the entry point made" "$(ask cat /made)" "an entry point"
stops
remove
finish

begin "the same without the annotation"
# shellcheck disable=SC2086 # one word an option
podman run --detach --name podman-trial $alone localhost/systemd:latest \
    sh -c 'echo an entry point >/made; exec /sbin/init' >/dev/null
fails
remove
finish

begin "commit, and a container of what was committed"
# shellcheck disable=SC2086 # one word an option
run $alone
boots
first=$(machine_id)
stops
podman commit --quiet podman-trial localhost/committed >/dev/null
remove
original=$(podman run --rm --entrypoint cat localhost/systemd /etc/machine-id) || wrong "the image can't be asked"
committed=$(podman run --rm --entrypoint cat localhost/committed /etc/machine-id) || wrong "what was committed can't be asked"
same "the machine id in the image" "$committed" "$original"
# shellcheck disable=SC2086 # one word an option
run_image localhost/committed $alone
boots
[ "$(machine_id)" != "$first" ] || wrong "the machine id was committed"
stops
remove
podman rmi localhost/committed >/dev/null
finish

begin "removed in the middle of the boot"
# shellcheck disable=SC2086 # one word an option
run $alone
case $(ask systemctl is-system-running 2>/dev/null) in running | degraded) wrong "it has booted already" ;; esac
remove
finish

begin "a user namespace of its own"
# shellcheck disable=SC2086 # one word an option
run $alone --uidmap 0:1:65000
boots
stops
remove
finish

begin "read-only"
# shellcheck disable=SC2086 # one word an option
run $alone --read-only --read-only-tmpfs=false --tmpfs /var
boots
stops
remove
finish

begin "a stop signal that systemd doesn't stop on"
run --systemd=false
warns 'the engine will stop this container with the signal "15"'
remove
finish

begin "a wrong option"
if run --systemd=false --annotation oci-systemd-hook.run-size=much 2>/dev/null; then wrong "it was created"; fi
warns 'the annotation oci-systemd-hook.run-size is "much": it must be a number of bytes'
remove
finish

# quadlet FRAGMENT...: creates a unit from web.container and these drop-ins.
if [ "$(id -u)" = 0 ]; then quadlets=/etc/containers/systemd; else quadlets=$HOME/.config/containers/systemd; fi
quadlet() {
    mkdir -p "$quadlets/web.container.d"
    cp "$examples/quadlet/web.container" "$quadlets"
    for fragment in "$@"; do
        cp "$examples/quadlet/web.container.d/$fragment" "$quadlets/web.container.d"
    done
    printf '[Container]\nImage=localhost/systemd:latest\nContainerName=podman-trial\n' \
        >"$quadlets/web.container.d/trial.conf"
    manager daemon-reload
}

# starts_quadlet: starts the unit, which may count as started only when the container's systemd has booted.
starts_quadlet() {
    manager start web.service || wrong "it was not started: $(manager --no-pager --full status web.service)"
    same "what systemd says first" "$(ask systemctl is-system-running)" running
    boots
}

remove_quadlet() {
    rm -r "$quadlets"
    manager daemon-reload
    same "what is left of the unit" "$(manager show --property LoadState --value web.service)" not-found
}

begin "a Quadlet file"
quadlet
starts_quadlet
ask test -e /run/host/os-release || wrong "the hook did nothing"
says_nothing
stops_unit web.service
remove_quadlet
finish

begin "a Quadlet file, the hook alone"
quadlet hook-alone.conf
starts_quadlet
same "the options of the journal" "$(ask findmnt --noheadings --output OPTIONS /var/log/journal |
    grep -o 'size=[^,]*')" size=65536k
says_nothing
stops_unit web.service
remove_quadlet
finish

begin "precreate"
# shellcheck disable=SC2086 # one word an option
podman --hooks-dir /usr/share/containers/oci/hooks.d --hooks-dir /usr/share/oci-systemd-hook/precreate.d \
    run --detach --name podman-trial $alone localhost/systemd:latest /sbin/init >/dev/null
boots
as_root cat "/proc/$(podman inspect --format '{{.State.Pid}}' podman-trial)/environ" | tr '\0' '\n' >"$work/environ"
grep -q -x "container_uuid=$(machine_id)" "$work/environ" || wrong "no container_uuid: $(cat "$work/environ")"
grep -q -x container_host_id=debian "$work/environ" || wrong "no container_host_id: $(cat "$work/environ")"
case $(ask findmnt --noheadings --output PROPAGATION /run) in
shared) ;;
*) wrong "/run is not shared, though precreate has set a root propagation" ;;
esac
stops
remove
finish
all_passed
