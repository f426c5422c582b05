#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Tests containers of plain runc as services that the host's systemd starts and stops: with the unit for a bundle, and
# with what `atomic install --system` generates from a system container's files.
set -eu
. ./lib.sh

name=service-trial
bundle=/var/lib/oci-bundles/$name
unit=oci-bundle@$name.service

# shellcheck disable=SC2317 # called by lib.sh
runc_asks() {
    ask() { runc exec "$name" "$@" </dev/null; }
    pid() { runc state "$name" | jq .pid; }
}
runc_asks

# make_bundle FILTER: creates a bundle without hooks and without the path of a cgroup.
make_bundle() {
    root_in "$bundle"
    write_config "$1" "$bundle"
    cp "$examples/systemd/oci-bundle@.service" /etc/systemd/system/
    same "what systemd-analyze says" "$(systemd-analyze --man=no verify /etc/systemd/system/oci-bundle@.service 2>&1)" ""
    systemctl daemon-reload
}

remove_bundle() {
    left=$(runc list --quiet) || wrong "runc can't tell the containers"
    same "the containers" "$left" ""
    rm /etc/systemd/system/oci-bundle@.service
    systemctl daemon-reload
    umount "$bundle/rootfs"
    rm -r /var/lib/oci-bundles
}

# shellcheck disable=SC2317 # called by until_
is_anew() { [ "$(pid 2>/dev/null)" != "$first" ] && has_booted; }

has_failed() { [ "$(systemctl show --property NRestarts --value $unit)" -gt 0 ]; }

begin "a bundle"
make_bundle .
starts_unit $unit
same "the main process" "$(systemctl show --property MainPID --value $unit)" "$(pid)"
own=$(systemctl show --property ControlGroup --value $unit)
same "the cgroup of process 1" "$(sed -n 's/^0:://p' "/proc/$(pid)/cgroup")" "$own/$name/payload/init.scope"
systemctl set-property --runtime $unit MemoryMax=512M
same "the limit above the container" "$(cat "/sys/fs/cgroup$own/memory.max")" 536870912
says_nothing
stops_unit $unit
systemctl --quiet revert $unit
remove_bundle
finish

begin "a bundle whose systemd is killed"
make_bundle .
starts_unit $unit
first=$(pid)
kill -KILL "$first"
until_ 120 is_anew || wrong "it was not started anew: $(systemctl --no-pager --full status $unit)"
boots
stops_unit $unit
remove_bundle
finish

begin "a bundle without the hook"
make_bundle '.annotations["oci-systemd-hook"] = "disabled"'
systemctl start $unit || true # systemd may have ended before it is looked for.
until_ 60 has_failed || wrong "it is $(systemctl show --property ActiveState --value $unit)"
systemctl stop $unit
systemctl reset-failed
remove_bundle
finish

# render FILE: fills in a template like atomic does, with atomic's own variables and the defaults of the manifest.
render() {
    jq -r '(.defaultValues + {
            NAME: $name, DESTDIR: $destination, IMAGE_NAME: "systemd", RUNTIME: "/usr/sbin/runc",
            STATE_DIRECTORY: "/var/lib", RUN_DIRECTORY: "/run", CONF_DIRECTORY: "/etc", HOST_UID: "0", HOST_GID: "0",
            PIDFILE: "/run/container-\($name).pid", EXEC_STOPPOST: "/usr/sbin/runc delete '\''\($name)'\''",
            EXEC_START: ("/usr/sbin/runc  --systemd-cgroup run -d --pid-file /run/container-\($name).pid "
                + "'\''\($name)'\''")
        }) as $values
        | reduce ($values | to_entries[]) as {$key, $value} ($template;
            gsub("\\$(\($key)\\b|\\{\($key)\\})"; $value))' \
        --arg name $name --arg destination "$destination" --rawfile template "$files/$1" "$files/manifest.json" \
        >"$work/rendered"
    if grep -n '\$' "$work/rendered"; then wrong "$1 has a variable without a value"; fi
    cat "$work/rendered"
}

begin "a system container"
files=$examples/system-container
destination=/var/lib/containers/atomic/$name.0
unit=$name.service
root_in "$destination"
render config.json.template >"$destination/config.json"
render tmpfiles.template >/etc/tmpfiles.d/$name.conf
render service.template >/etc/systemd/system/$unit
systemd-tmpfiles --create /etc/tmpfiles.d/$name.conf
same "what systemd-analyze says" "$(systemd-analyze --man=no verify /etc/systemd/system/$unit 2>&1)" ""
systemctl daemon-reload
starts_unit $unit
same "the main process" "$(systemctl show --property MainPID --value $unit)" "$(pid)"
case $(sed -n 's/^0:://p' "/proc/$(pid)/cgroup") in
/system.slice/runc-$name.scope/*) ;;
*) wrong "it is not in its scope: $(cat "/proc/$(pid)/cgroup")" ;;
esac
if ask touch /etc/written 2>/dev/null; then wrong "its root can be written to"; fi
ask touch /var/lib/kept
[ -e /var/lib/$name/lib/kept ] || wrong "its /var is not the host's"
stops_unit $unit
rm /etc/systemd/system/$unit /etc/tmpfiles.d/$name.conf
systemctl daemon-reload
same "what was written to the image" "$(find "$destination/upper" ! -type d)" ""
umount "$destination/rootfs"
rm -r "$destination" /var/lib/$name
finish
all_passed
