# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Powers the machine off: with an orderly shutdown if its disk is kept, otherwise immediately.
if grep -q '\<machine\.disk=kept' /proc/cmdline; then
    systemctl poweroff
else
    systemctl poweroff --force --force
fi
