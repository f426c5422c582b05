#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Boots systemd in an ordinary, unprivileged container under plain runc or crun, with the hook, and stops it. Run
# it as root or with sudo. Needs Rust, a C compiler with a static C library, jq, runc or crun, and mmdebstrap,
# podman or skopeo for the image; on Debian and its derivatives it installs what is missing. Everything else that
# it creates is below target/.
set -eu
cd "$(dirname "$0")/.."
. contrib/prerequisites.sh
. contrib/rust.sh

work=$PWD/target/demo
id=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
hook=$work/usr/libexec/oci/hooks.d/oci-systemd-hook
started=''
teller=''

in_demo() { $AS_ROOT "$runtime" --root "$work/state" "$@"; }

clean_up() {
    [ -z "$teller" ] || kill "$teller"
    [ -z "$started" ] || in_demo delete --force "$id" || true # At worst, the container was never created.
    ! mountpoint -q "$work/demo/rootfs" || $AS_ROOT umount "$work/demo/rootfs"
    $AS_ROOT rm -rf "$work/demo" "$work/state"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

# until_ STATES SECONDS COMMAND...: waits until the command prints one of the states, which are separated by spaces.
until_() {
    states=$1 seconds=$2
    shift 2
    deadline=$(($(date +%s) + seconds))
    while :; do
        now=$("$@" 2>/dev/null) || true # It prints a state and fails until the last one.
        case " $states " in *" $now "*) return 0 ;; esac
        [ "$(date +%s)" -lt "$deadline" ] || stop "waited $seconds s for the state '$states', but it is still '$now'"
        sleep 0.2
    done
}

# podmans ARGUMENT...: runs a podman that doesn't touch the user's images.
podmans() { $AS_ROOT podman --root "$work/storage" --runroot "$work/storage-run" --tmpdir "$work/storage-tmp" "$@"; }

# unpacked DIRECTORY: creates the root file system of an image with systemd, with podman or skopeo.
unpacked() {
    [ ! -e "$1" ] || return 0
    $AS_ROOT rm -rf "$1.new"
    $AS_ROOT mkdir -p "$1.new"
    if command -v podman >/dev/null; then
        podmans build --tag localhost/systemd contrib/images/debian
        container=$(podmans create localhost/systemd)
        podmans export "$container" | $AS_ROOT tar -C "$1.new" -xf -
        podmans rm -f "$container"
        podmans rmi -af
        ! mountpoint -q "$work/storage/overlay" || $AS_ROOT umount "$work/storage/overlay"
        $AS_ROOT rm -rf "$work/storage" "$work/storage-run" "$work/storage-tmp"
    else
        skopeo copy docker://registry.access.redhat.com/ubi9/ubi-init:latest "dir:$work/image"
        # Layers are unpacked in order. Before each one, the files that it removes from earlier layers are
        # deleted (whiteouts, OCI image-spec layer.md).
        for layer in $(jq -r '.layers[].digest | ltrimstr("sha256:")' "$work/image/manifest.json"); do
            tar -tf "$work/image/$layer" | sed -n 's|\(.*/\)*\.wh\.\(.*\)|\1\2|p' | while read -r removed; do
                $AS_ROOT rm -rf "$1.new/$removed"
            done
            $AS_ROOT tar -C "$1.new" --exclude '.wh.*' -xf "$work/image/$layer"
        done
        rm -rf "$work/image"
    fi
    $AS_ROOT mv -T "$1.new" "$1"
}

# slowly WHAT COMMAND...: runs a command, and reports every five seconds that it is still running.
slowly() {
    what=$1
    shift
    (
        begun=$(date +%s)
        while sleep 5; do echo "... $what, for $(($(date +%s) - begun)) s"; done
    ) &
    teller=$!
    "$@"
    kill "$teller"
    teller=
}

say "1. packages"
need gcc libc6-dev jq
runtime=runc
if is_there crun && ! is_there runc; then
    runtime=crun
fi
need "$runtime"
if is_debian; then
    need mmdebstrap debian-archive-keyring
elif ! is_there mmdebstrap && ! is_there podman; then
    is_there skopeo || stop "the image needs mmdebstrap, podman or skopeo: install one of them"
fi

say "2. build"
# The demo's containers have no labels. The build uses a separate directory, because install.sh
# installs what is in target/static.
export CARGO_TARGET_DIR="$PWD/target/no-selinux"
SELINUX=no slowly building contrib/build.sh
DESTDIR=$work contrib/install.sh >/dev/null
"$hook" --version

say "3. an image"
root=$PWD/target/roots/bookworm
if is_there mmdebstrap; then
    slowly "creating the image" image bookworm "$root"
else
    root=$PWD/target/roots/demo
    mkdir -p "$work" "$PWD/target/roots"
    slowly "creating the image" unpacked "$root"
fi

say "4. a bundle: what '$runtime spec' writes, the capabilities that Docker grants, and the hook"
clean_up
mkdir -p "$work/demo/upper" "$work/demo/scratch" "$work/demo/rootfs"
$AS_ROOT mount -t overlay overlay \
    -o "lowerdir=$root,upperdir=$work/demo/upper,workdir=$work/demo/scratch" "$work/demo/rootfs"
"$runtime" spec --bundle "$work/demo"
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
    stop "$runtime could not create the container"
}
in_demo start "$id"
until_ "running degraded" 120 in_demo exec "$id" systemctl is-system-running
echo "systemd says: $(in_demo exec "$id" systemctl is-system-running)"

say "7. systemctl status, inside"
in_demo exec "$id" systemctl --no-pager status
in_demo exec "$id" systemctl --no-pager list-units --failed

say "8. stop, by SIGRTMIN+3"
# runc 1.1 has no name for this signal. SIGRTMIN is 34 on Linux.
in_demo kill "$id" 37
until_ stopped 60 sh -c "$AS_ROOT '$runtime' --root '$work/state' state $id | jq -r .status"
in_demo delete "$id"
started=
echo "stopped; only target/ is left"
