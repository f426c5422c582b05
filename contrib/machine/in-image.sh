#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Run by image.sh in the machine's root file system, before it ever boots.
set -eu
umask 022

echo machine >/etc/hostname
printf '127.0.0.1 localhost machine\n' >/etc/hosts
printf '/dev/ubda / ext4 defaults 0 0\n' >/etc/fstab
rm -f /etc/machine-id # A first boot would enable and start what is disabled here.
systemd-id128 new >/etc/machine-id

# Whoever logs in at the first line runs what machine.sh put there, or has a shell.
mv /usr/local/lib/machine/login.service /etc/systemd/system/machine-login@.service
mv /usr/local/lib/machine/files.service /etc/systemd/system/machine-files.service
systemctl enable --quiet auditd machine-files
# Nobody needs a terminal or a network. The timers would slow a test down.
systemctl mask --quiet getty.target systemd-networkd.service systemd-networkd.socket \
    systemd-network-generator.service systemd-networkd-wait-online.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer podman-auto-update.timer systemd-tmpfiles-clean.timer

useradd --create-home --shell /bin/bash tester
echo 'tester ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/tester
for home in /root /home/tester; do
    # The script's output does not go to the terminal of the login, ttyS0: it goes to ttyS1, and its exit status to ttyS2.
    echo '[ ! -e ~/session ] || exec sh ~/session' >"$home/.bash_profile"
    touch "$home/.hushlogin"
done
chown tester: /home/tester/.bash_profile /home/tester/.hushlogin

# The kernel has no nftables for IPv4. No container needs a port.
mkdir -p /etc/containers /etc/docker
printf '[network]\nfirewall_driver = "none"\n' >/etc/containers/containers.conf
# And Docker confines containers only when it is told to.
printf '{"selinux-enabled": true, "iptables": false, "ip6tables": false}\n' >/etc/docker/daemon.json

printf 'SELINUX=enforcing\nSELINUXTYPE=default\n' >/etc/selinux/config
semodule --noreload --install /root/policy.cil
setsebool -P -N container_manage_cgroup=on container_use_host_all_caps=on container_use_userns_all_caps=on
# Who logs in without categories may hand pipes to containers: a pipe has its maker's highest level,
# and conmon's are its caller's.
sed -i 's/:s0-s0:c0.c1023$/:s0/' /etc/selinux/default/seusers /var/lib/selinux/default/active/seusers
