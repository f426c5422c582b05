# shellcheck shell=sh disable=SC2154 # made is machine.sh's
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Sourced by machine.sh: one qemu, its monitor and its doors. It uses $run, a directory of this run alone, and $made,
# where image.sh left the machine.

: "${run:?}"
vm=

# What may help, said with a failure.
remedy=

# keep FILE: of this run, and says where it is.
keep() {
    mv "$1" target/machine/failed.log
    echo "the whole log is target/machine/failed.log"
}

# start_vm SELINUX MEMORY share|private DISK-OPTIONS QEMU-OPTION...: sets vm, its process id, and port.
start_vm() {
    case $1 in
    enforcing) selinux="selinux=1 security=selinux enforcing=1" ;;
    off) selinux="selinux=0" ;;
    esac
    case $3 in
    share) share=on ;;
    private) share=off ;;
    esac
    memory=$2 disk=$4
    shift 4
    mkfifo "$run/to" "$run/from"
    # restrict=on: the machine reaches nobody. Port 0: the kernel chooses one, so that two machines
    # never want the same. setpriv: should this shell be killed, the machine goes with it.
    TMPDIR=$run setpriv --pdeathsig KILL qemu-system-x86_64 \
        -nodefaults -nographic -no-reboot -qmp stdio -serial "file:$run/console" \
        -M pc,memory-backend=memory -accel tcg,thread=multi -cpu max -smp 2 -m 3072 \
        -object "memory-backend-file,id=memory,size=3072M,mem-path=$memory,share=$share" \
        -kernel "$made/vmlinuz" -initrd "$made/initrd.img" \
        -append "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=-1 $selinux" \
        -drive "format=raw,if=virtio,cache=unsafe,$disk" \
        -netdev user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22 \
        -device virtio-net-pci,netdev=net,romfile= \
        "$@" <"$run/to" >"$run/from" 2>"$run/qemu.log" 8>&- 9>&- &
    vm=$!
    exec 3>"$run/to" 4<"$run/from"
    qmp qmp_capabilities || vm_failed "qemu did not start"
    qmp human-monitor-command '"command-line": "info usernet"' || vm_failed "qemu has no network"
    port=$(printf '%s\n' "$answer" | sed -n 's/.*HOST_FORWARD\] *[0-9]* *127\.0\.0\.1 *\([0-9]*\) .*/\1/p')
    [ -n "$port" ] || vm_failed "qemu has no port"
}

# qmp COMMAND [ARGUMENTS]: sets answer; fails if qemu does or is gone.
qmp() {
    # In a process of its own, since nobody may be reading.
    (printf '{"execute": "%s", "arguments": {%s}}\n' "$1" "${2:-}" >&3) 2>/dev/null || return 1
    while read -r answer <&4; do
        case $answer in
        '{"return"'*) return 0 ;;
        '{"error"'*) return 1 ;;
        esac # What else there is are events.
    done
    return 1
}

# Memory in a file of its own is no part of the migration stream, which is then small.
leave_memory_out() {
    qmp migrate-set-capabilities '"capabilities": [{"capability": "x-ignore-shared", "state": true}]'
}

# save_vm FILE: writes all but its disk and its memory, and ends it.
save_vm() {
    # qemu doesn't ask how the command ended.
    { leave_memory_out && qmp migrate "\"uri\": \"exec:cat >$1.part && mv $1.part $1\""; } || vm_failed "qemu refused a snapshot"
    while :; do
        qmp query-migrate || vm_failed "qemu took no snapshot"
        case $answer in
        *'"status": "completed"'*) break ;;
        *'"status": "failed"'*) vm_failed "qemu failed to take a snapshot" ;;
        esac
        sleep 0.2
    done
    qmp quit || true # It may be gone before it answers.
    wait "$vm" || vm_failed "qemu did not end well"
    vm=
    [ -e "$1" ] || vm_failed "$1 could not be written whole"
}

# resume_vm FILE: goes on where save_vm stopped, in a machine that was started with -incoming defer.
resume_vm() {
    { leave_memory_out && qmp migrate-incoming "\"uri\": \"exec:cat $1\""; } || vm_failed "qemu refused the snapshot"
}

# in_vm USER [SSH-OPTION...] COMMAND
in_vm() {
    user=$1
    shift
    ssh -F none -i "$run/key" -o LogLevel=ERROR -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=10 \
        -o UserKnownHostsFile="$run/known_hosts" -o GlobalKnownHostsFile=none -o HostKeyAlias=machine \
        -o ServerAliveInterval=15 -o ServerAliveCountMax=20 -p "$port" -l "$user" 127.0.0.1 "$@"
}

# Waits until somebody can log in.
vm_answers() {
    deadline=$(($(date +%s) + 300))
    until in_vm root true </dev/null 2>"$run/ssh.log"; do
        kill -0 "$vm" 2>/dev/null || {
            ended=0
            wait "$vm" || ended=$?
            vm=
            vm_failed "qemu ended with status $ended"
        }
        [ "$(date +%s)" -lt "$deadline" ] || vm_failed "nobody could log in for 300 s: $(cat "$run/ssh.log")"
        sleep 1
    done
}

end_vm() {
    [ -n "$vm" ] || return 0
    kill "$vm" 2>/dev/null || true # It may have ended by itself.
    wait "$vm" 2>/dev/null || true # Killed is not a success.
    vm=
}

# vm_failed WHY
vm_failed() {
    tail -n 40 "$run/console" "$run/qemu.log" >&2 2>/dev/null || true # There may be none yet.
    stop "the virtual machine: $*$remedy"
}
