# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Ends the machine: in order where its disk is kept.
if grep -q '\<machine\.disk=kept' /proc/cmdline; then
    systemctl poweroff
else
    systemctl poweroff --force --force
fi
