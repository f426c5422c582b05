#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Makes the machine that machine.sh boots. As root: it writes labels and owners.
#
#   image.sh DIRECTORY ROOTS
#
# DIRECTORY gets disk.raw, vmlinuz, initrd.img, the key that opens root's and tester's doors and the
# known_hosts that goes with it. ROOTS has the containers' root file systems by the names of Debian's
# suites: trixie becomes the engines' image.
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
made=$1 roots=$2
root=$made/root
suite=trixie

packages=linux-image-cloud-amd64,initramfs-tools,zstd,kmod
packages=$packages,systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,openssh-server,sudo
packages=$packages,selinux-basics,selinux-policy-default,policycoreutils,setools,auditd
packages=$packages,podman,crun,runc,docker.io,docker-cli,netavark,passt,slirp4netns,uidmap,nftables,iptables,ca-certificates
packages=$packages,attr,jq,less,procps,strace

mkdir -p "$made"
ssh-keygen -q -t ed25519 -N '' -C machine -f "$made/key"

# The initrd carries the few modules that find the disk: unpacking the usual one takes TCG a long time.
# shellcheck disable=SC2016 # $1 is mmdebstrap's
mmdebstrap --variant=minbase --include="$packages" \
    --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"' \
    --essential-hook='echo MODULES=list >"$1/etc/initramfs-tools/conf.d/machine"' \
    --essential-hook='printf "virtio_pci\nvirtio_blk\next4\n" >"$1/usr/share/initramfs-tools/modules.d/machine"' \
    "$suite" "$root"

cp "$here/policy.cil" "$made/key.pub" "$root/root/"
cp "$here/in-image.sh" "$root/root/"
chroot "$root" /root/in-image.sh
rm "$root/root/in-image.sh" "$root/root/key.pub" "$root/root/policy.cil"
mv "$root"/boot/vmlinuz-* "$made/vmlinuz"
mv "$root"/boot/initrd.img-* "$made/initrd.img"
echo "machine $(cut -d ' ' -f 1,2 "$root/etc/ssh/ssh_host_ed25519_key.pub")" >"$made/known_hosts"

cp -a "$roots/trixie" "$root/srv/systemd"
cp -a "$roots/bullseye" "$roots/bookworm" "$root/srv/"
# Without device nodes, which the rootless podman could not make.
tar -C "$root/srv/systemd" --exclude='./dev/*' -cf "$root/srv/systemd.tar" .

# The labels are written here, so that the machine need not boot once to relabel itself.
chroot "$root" setfiles -m -F /etc/selinux/default/contexts/files/file_contexts /
# A journal would protect a file system that is thrown away after each run.
mkfs.ext4 -q -O '^has_journal' -L machine -d "$root" "$made/disk.raw" 8G
debugfs -R 'ea_get /usr/bin/podman security.selinux' "$made/disk.raw" 2>/dev/null | grep -q :object_r: || {
    echo "image.sh: mkfs.ext4 did not keep the SELinux labels" >&2
    exit 1
}
rm -rf "$root"
