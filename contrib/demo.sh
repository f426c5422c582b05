#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Boots systemd in an ordinary, unprivileged container under plain runc, with the hook, and stops it.
# For a Debian machine, as root or with sudo. Everything it makes is below target/.
set -eu
cd "$(dirname "$0")/.."
. contrib/prerequisites.sh

work=$PWD/target/demo
id=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
hook=$work/usr/libexec/oci/hooks.d/oci-systemd-hook
started=

in_demo() { $AS_ROOT runc --root "$work/state" "$@"; }

clean_up() {
    [ -z "$started" ] || in_demo delete --force "$id" || true # Worst case: it never got that far.
    ! mountpoint -q "$work/demo/rootfs" || $AS_ROOT umount "$work/demo/rootfs"
    $AS_ROOT rm -rf "$work/demo" "$work/state"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

# until_ STATE SECONDS COMMAND...: waits until the command prints one of the states (a | b).
until_() {
    states=$1 seconds=$2
    shift 2
    deadline=$(($(date +%s) + seconds))
    while :; do
        now=$("$@" 2>/dev/null) || true # It prints a state and fails until the last one.
        case " $states " in *" $now "*) return 0 ;; esac
        [ "$(date +%s)" -lt "$deadline" ] || stop "waited $seconds s for '$states', it is still '$now'"
        sleep 0.2
    done
}

say "1. packages"
need gcc libc6-dev runc mmdebstrap jq

say "2. build"
# Its containers have no labels.
DESTDIR=$work SELINUX=no contrib/install.sh
"$hook" --version

say "3. an image"
image bookworm "$PWD/target/roots/bookworm"

say "4. a bundle: what 'runc spec' writes, the capabilities that Docker grants, and the hook"
clean_up
mkdir -p "$work/demo/upper" "$work/demo/scratch" "$work/demo/rootfs"
$AS_ROOT mount -t overlay overlay \
    -o "lowerdir=$PWD/target/roots/bookworm,upperdir=$work/demo/upper,workdir=$work/demo/scratch" "$work/demo/rootfs"
runc spec --bundle "$work/demo"
capabilities='["AUDIT_WRITE","KILL","NET_BIND_SERVICE","MKNOD","CHOWN","DAC_OVERRIDE","FSETID","FOWNER","NET_RAW",
    "SETGID","SETUID","SETFCAP","SETPCAP","SYS_CHROOT"] | map("CAP_" + .)'
jq --arg hook "$hook" "
    .process.args = [\"/sbin/init\"] | .process.terminal = false | .root.readonly = false | del(.process.rlimits)
    | ($capabilities) as \$granted
    | .process.capabilities = {bounding: \$granted, effective: \$granted, permitted: \$granted}
    | .linux.cgroupsPath = \"/oci-systemd-hook-demo\"
    | .linux.namespaces |= (map(select(.type != \"cgroup\")) + [{type: \"cgroup\"}])
    | .hooks = ([\"createRuntime\", \"poststop\"] | map({(.): [{path: \$hook, env: [\"PATH=/usr/bin:/bin\"], timeout: 60}]}) | add)
" "$work/demo/config.json" >"$work/demo/config.json.new"
mv "$work/demo/config.json.new" "$work/demo/config.json"
echo "$work/demo/config.json"

say "5. the plan: oci-systemd-hook plan $work/demo"
$AS_ROOT "$hook" plan "$work/demo"

say "6. boot"
started=yes
in_demo create --bundle "$work/demo" "$id" </dev/null >"$work/console" 2>&1 || {
    cat "$work/console" >&2
    stop "runc could not create the container"
}
in_demo start "$id"
until_ "running degraded" 120 in_demo exec "$id" systemctl is-system-running
echo "systemd says: $(in_demo exec "$id" systemctl is-system-running)"

say "7. systemctl status, inside"
in_demo exec "$id" systemctl --no-pager status
in_demo exec "$id" systemctl --no-pager list-units --failed

say "8. stop, by SIGRTMIN+3"
# runc 1.1 has no name for it; SIGRTMIN is 34 on Linux.
in_demo kill "$id" 37
until_ stopped 60 sh -c "$AS_ROOT runc --root '$work/state' state $id | jq -r .status"
in_demo delete "$id"
started=
echo "stopped; nothing is left but target/"
