#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Run by image.sh in the machine's root file system, before the first boot.
set -eu
umask 022

echo machine >/etc/hostname
printf '127.0.0.1 localhost machine\n' >/etc/hosts
printf '/dev/ubda / ext4 defaults 0 0\n' >/etc/fstab
rm -f /etc/machine-id # A first boot would enable and start what is disabled here.
systemd-id128 new >/etc/machine-id

# A login on the first serial line runs what machine.sh put there, or a shell.
mv /usr/local/lib/machine/login.service /etc/systemd/system/machine-login@.service
mv /usr/local/lib/machine/files.service /etc/systemd/system/machine-files.service
systemctl enable --quiet auditd machine-files
# Terminals and the network aren't needed. The timers would slow down tests.
systemctl mask --quiet getty.target systemd-networkd.service systemd-networkd.socket \
    systemd-network-generator.service systemd-networkd-wait-online.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer podman-auto-update.timer systemd-tmpfiles-clean.timer

useradd --create-home --shell /bin/bash tester
echo 'tester ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/tester
for home in /root /home/tester; do
    # The script's output goes to ttyS1 and its exit status to ttyS2, not to the login's terminal, ttyS0.
    echo '[ ! -e ~/session ] || exec sh ~/session' >"$home/.bash_profile"
    touch "$home/.hushlogin"
done
chown tester: /home/tester/.bash_profile /home/tester/.hushlogin

# The kernel has no nftables for IPv4, and no container needs a port.
mkdir -p /etc/containers /etc/docker
printf '[network]\nfirewall_driver = "none"\n' >/etc/containers/containers.conf
# Docker confines containers only if it is configured to.
printf '{"selinux-enabled": true, "iptables": false, "ip6tables": false}\n' >/etc/docker/daemon.json

printf 'SELINUX=enforcing\nSELINUXTYPE=default\n' >/etc/selinux/config
semodule --noreload --install /root/policy.cil
setsebool -P -N container_manage_cgroup=on container_use_host_all_caps=on container_use_userns_all_caps=on
# A user who logs in without categories can pass pipes to containers: a pipe has the highest level of the process that
# creates it, and conmon has the level of its caller.
sed -i 's/:s0-s0:c0.c1023$/:s0/' /etc/selinux/default/seusers /var/lib/selinux/default/active/seusers
