#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Tests the same hook in the same machine, with SELinux off in the kernel.
set -eu
. ./lib.sh

[ ! -e /sys/fs/selinux ] || wrong "the kernel has SELinux"
engine podman
begin "podman without SELinux"
run --systemd=false --stop-signal=RTMIN+3
boots
says_nothing
stops
remove
finish

# The hook looks for selinuxfs. libselinux, which would also look elsewhere, must not run.
begin "what is opened without SELinux"
hook=/usr/libexec/oci/hooks.d/oci-systemd-hook
mv "$hook" "$hook.traced"
printf '#!/bin/sh\nexec strace -qq -A -o %s -e trace=%%file,statfs %s\n' "$work/trace" "$hook.traced" >"$hook"
chmod 755 "$hook"
run --systemd=false --stop-signal=RTMIN+3
boots
remove
mv "$hook.traced" "$hook"
looked_at=$(grep -E 'selinux|/proc/filesystems' "$work/trace" | grep -v '^statfs("/sys/fs/selinux", ') || true # There is none.
same "what else was looked at" "$looked_at" ""
grep -q '^statfs("/sys/fs/selinux", ' "$work/trace" || wrong "selinuxfs was not looked for: $(cat "$work/trace")"
finish
all_passed
