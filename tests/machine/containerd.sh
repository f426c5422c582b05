#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Tests containerd: its CRI plugin with contrib's configuration, and containers whose shim calls the wrapper as the
# runtime, by the option that nerdctl's --runtime also sets.
set -eu
. ./lib.sh
name=service-trial-shim

ask() { ctr task exec --exec-id "ask-$(cat /proc/sys/kernel/random/uuid)" "$name" "$@" </dev/null; }

# run OPTION...: runs a container with the same config.json as the other runtimes get.
run() {
    mkdir "$work/bundle"
    root_in "$work/bundle"
    write_config ".root.path = \"$work/bundle/rootfs\" | .linux.cgroupsPath = \"/$name\"" "$work/bundle"
    ctr run --detach "$@" --config "$work/bundle/config.json" "$name" </dev/null >"$work/console" 2>&1
}

has_stopped() { [ "$(ctr task ls | awk -v name="$name" '$1 == name { print $3 }')" = STOPPED ]; }
# ends: waits until the container ends by itself, and sets $code to its exit code, which is empty for 0.
ends() {
    until_ 60 has_stopped || wrong "it runs"
    ctr task delete "$name" >"$work/deleted" 2>&1
    code=$(sed -n 's/.*non-zero exit code \([0-9]*\).*/\1/p' "$work/deleted")
    ctr container delete "$name"
    umount "$work/bundle/rootfs"
    rm -r "$work/bundle"
}

# loads FILE: checks that a separate containerd starts with that configuration.
answers() { ctr --address "$work/own/socket" version >/dev/null 2>&1; }
loads() {
    mkdir "$work/own"
    containerd --config "$examples/containerd/$1" --root "$work/own/root" --state "$work/own/state" \
        --address "$work/own/socket" >"$work/own/log" 2>&1 &
    own=$!
    until_ 60 answers || wrong "containerd doesn't start with $1: $(cat "$work/own/log")"
    plugins=$(ctr --address "$work/own/socket" plugins ls | awk '$2 ~ /^(cri|nri)$/ { print $2, $NF }' | sort)
    kill "$own"
    wait "$own" || true # Of a signal.
    same "the plugins with $1" "$plugins" "cri ok
nri ok"
    rm -r "$work/own"
}

begin "the configuration of CRI"
loads config.toml
loads nri.toml
finish

begin "the wrapper as the shim's runtime, stopped by SIGTERM"
run --runc-binary /usr/bin/oci-hooks-runtime
boots
says_nothing
ctr task kill --signal SIGTERM "$name"
ends
case $code in '' | 130) ;; *) wrong "it stopped with $code" ;; esac
finish

begin "runc as the shim's runtime"
run
ends
same "the exit code" "$code" 255
finish
all_passed
