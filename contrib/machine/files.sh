# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Run as root in the machine before the session begins. The second disk is a tar archive of what is installed, and the
# third one has the session user's files.
set -eu
setting() { sed -n "s/.*\<machine\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }

want=$(setting selinux)
is=$(getenforce)
case $want,$is in
enforcing,Enforcing | off,Disabled) ;;
*)
    echo "SELinux is $is, and should be $want" >&2
    exit 1
    ;;
esac

# The mount options can be changed only in the first mount namespace.
want=$(setting cgroup)
if [ "$want" = no-nsdelegate ]; then
    options=$(findmnt -n -o OPTIONS /sys/fs/cgroup | sed 's/,nsdelegate//')
    # If the source and the type are given, mount(8) doesn't add the options that are already set.
    mount -t cgroup2 -o "remount,$options" cgroup2 /sys/fs/cgroup
fi
is=nsdelegate
grep -q '^cgroup2 /sys/fs/cgroup .*[, ]nsdelegate' /proc/mounts || is=no-nsdelegate
[ "$is" = "$want" ] || {
    echo "cgroup2 is mounted with $is, and should be with $want" >&2
    exit 1
}

chmod 666 /dev/ttyS1 /dev/ttyS2
for line in ttyS1 ttyS2; do stty -F /dev/$line raw -echo; done

# udev would do this, but isn't installed.
modprobe -a tun fuse
chmod 666 /dev/net/tun /dev/fuse

# pasta, which rootless podman calls, gives a container the host's own addresses and routes.
ip link add eth0 type veth peer name eth1
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip link set eth1 up
ip route add default via 10.0.2.2

# A file's label depends on the process that creates it, but the hook must have the label of an installed program.
tar -C / --no-overwrite-dir -xvf /dev/ubdb >/run/machine-files
sed 's,^\.,,' /run/machine-files | xargs restorecon
user=$(setting user)
home=$(getent passwd "$user" | cut -d : -f 6)
tar -C "$home" --no-overwrite-dir --no-same-owner -xvf /dev/ubdc >/run/machine-files
(cd "$home" && xargs chown "$user:" </run/machine-files)
rm /run/machine-files
restorecon -R "$home"

# On a busy host, systemd-logind has been seen to run without a connection to dbus-daemon. It doesn't reconnect by
# itself, and a user who then logs in gets no session and no /run/user/UID.
tries=0
until busctl status org.freedesktop.login1 >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" = 100 ]; then
        echo "systemd-logind is not on the bus, and is restarted" >&2
        systemctl restart systemd-logind
    elif [ "$tries" = 600 ]; then
        echo "systemd-logind still is not on the bus after its restart" >&2
        exit 1
    fi
    sleep 0.1
done
