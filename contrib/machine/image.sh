#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Makes the disk that machine.sh boots from. Must run as root, because it writes labels and owners.
#
#   image.sh DIRECTORY KERNEL ROOTS
#
# disk.raw is created in DIRECTORY. KERNEL is the directory that the function kernel of prerequisites.sh creates.
# ROOTS has the containers' root file systems, named after Debian's suites; trixie becomes the engines' image.
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
made=$1 kernel=$2 roots=$3
root=$made/root

packages=kmod,systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,sudo
packages=$packages,selinux-basics,selinux-policy-default,policycoreutils,setools,auditd
packages=$packages,podman,crun,runc,docker.io,docker-cli,netavark,passt,slirp4netns,uidmap,nftables,iptables,ca-certificates
packages=$packages,attr,iproute2,jq,less,procps,strace

mkdir -p "$made"
mmdebstrap --variant=minbase --include="$packages" trixie "$root"
cp -a "$kernel/usr/lib/uml/modules/." "$root/usr/lib/modules"
for file in login.service files.service files.sh off.sh; do
    install -D -m 644 "$here/$file" "$root/usr/local/lib/machine/$file"
done
cp "$here/policy.cil" "$here/in-image.sh" "$root/root/"
chroot "$root" sh /root/in-image.sh
rm "$root/root/in-image.sh" "$root/root/policy.cil"

cp -a "$roots/trixie" "$root/srv/systemd"
cp -a "$roots/bullseye" "$roots/bookworm" "$root/srv/"
# Device nodes are left out, because rootless podman can't create them.
tar -C "$root/srv/systemd" --exclude='./dev/*' -cf "$root/srv/systemd.tar" .

# The labels are written here, so that the machine need not boot just to relabel its files.
chroot "$root" setfiles -m -F /etc/selinux/default/contexts/files/file_contexts /
# A journal isn't needed, because the file system is discarded after each run.
mkfs.ext4 -q -O '^has_journal' -L machine -d "$root" "$made/disk.raw" 8G
debugfs -R 'ea_get /usr/bin/podman security.selinux' "$made/disk.raw" 2>/dev/null | grep -q :object_r: || {
    echo "image.sh: mkfs.ext4 did not keep the SELinux labels" >&2
    exit 1
}
rm -rf "$root"
