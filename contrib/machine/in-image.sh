#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Run by image.sh in the machine's root file system, before it ever boots.
set -eu
umask 022

echo machine >/etc/hostname
printf '127.0.0.1 localhost machine\n' >/etc/hosts
printf 'nameserver 10.0.2.3\n' >/etc/resolv.conf
printf '/dev/vda / ext4 defaults 0 0\n' >/etc/fstab
rm -f /etc/machine-id # A first boot would enable and start what is disabled here.
systemd-id128 new >/etc/machine-id

mkdir -p /etc/systemd/network
cat >/etc/systemd/network/machine.network <<'END'
[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
LinkLocalAddressing=no
IPv6AcceptRA=no
END
systemctl enable --quiet systemd-networkd ssh auditd
# The first fails under this policy and is not needed. Nobody waits for a network with a fixed address.
# The timers would all be due at once when a snapshot's clock is set, and slow a test down.
systemctl mask --quiet systemd-network-generator.service systemd-networkd-wait-online.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer podman-auto-update.timer systemd-tmpfiles-clean.timer

useradd --create-home --shell /bin/bash tester
echo 'tester ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/tester
for home in /root /home/tester; do
    mkdir -p "$home/.ssh" # root's is there already.
    chmod 700 "$home/.ssh"
    cp /root/key.pub "$home/.ssh/authorized_keys"
done
chown -R tester: /home/tester/.ssh

# Docker confines containers only when it is told to.
mkdir -p /etc/docker
printf '{"selinux-enabled": true}\n' >/etc/docker/daemon.json

printf 'SELINUX=enforcing\nSELINUXTYPE=default\n' >/etc/selinux/config
semodule --noreload --install /root/policy.cil
setsebool -P -N container_manage_cgroup=on container_use_host_all_caps=on container_use_userns_all_caps=on
# Who logs in without categories may hand pipes to containers: a pipe has its maker's highest level,
# and conmon's are its caller's.
sed -i 's/:s0-s0:c0.c1023$/:s0/' /etc/selinux/default/seusers /var/lib/selinux/default/active/seusers
