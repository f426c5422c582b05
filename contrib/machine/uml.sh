# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Sourced by machine.sh. Starts and ends a User Mode Linux, prepares its disks and reads its output. Uses $run, a
# private directory of this run, and $kernel.

: "${run:?}" "${kernel:?}"
machine=

# keep FILE: keeps a log of this run, and prints where it is.
keep() {
    mv "$1" target/machine/failed.log
    echo "the whole log is target/machine/failed.log"
}

# archives INSTALLED [DIRECTORY COMMAND]: packs the machine's second disk, which is unpacked to /, and its third,
# which is unpacked to the user's home directory. Without a command the user gets a shell.
archives() {
    tar -C "$1" --owner=0 --group=0 -cf "$run/installed.tar" .
    rm -rf "${run:?}/home"
    mkdir "$run/home"
    if [ $# -gt 1 ]; then
        cp -a "$2" "$run/home/test"
        # Output goes through a pipe, because scripts and engines behave differently on a terminal. An engine's
        # processes may keep the pipe open for longer than the script does, so a special line marks the end.
        end=$(cat /proc/sys/kernel/random/uuid)
        cat >"$run/home/session" <<END
rm -f ~/session ~/status
{
    cd test
    status=0
    { $3; } </dev/null 2>&1 || status=\$?
    echo \$status >~/status
    echo $end
} | sed -u '/$end\$/{ s///; /./p; Q }' >/dev/ttyS1
cat ~/status >/dev/ttyS2
END
    fi
    tar -C "$run/home" --owner=0 --group=0 -cf "$run/home.tar" .
}

# start_machine DISK USER SELINUX CGROUP [SETTING...]: boots, and logs USER in. What the script prints goes
# to file descriptor 5. A shell has its terminal on the file descriptors 3 and 5, because dash would give
# it /dev/null as standard input.
start_machine() {
    ubd0=$1
    case $3 in
    enforcing) lsm="lsm=selinux enforcing=1" ;;
    off) lsm="lsm=yama" ;;
    esac
    settings="machine.user=$2 machine.selinux=$3 machine.cgroup=$4 systemd.wants=machine-login@$2.service"
    shift 4
    if [ -e "$run/home/session" ]; then
        lines="ssl0=null,fd:4 ssl1=null,fd:5" time_limit=1800
    else
        lines="ssl0=fd:0,fd:5" time_limit=0
    fi
    # The machine's memory is a file in /dev/shm. If this shell is killed, setpriv makes the kernel kill the machine
    # as well. A machine that hangs is ended after half an hour.
    # shellcheck disable=SC2086 # one word a setting
    env -u TMPDIR -u TMP -u TEMP setpriv --pdeathsig KILL timeout --foreground --signal KILL "$time_limit" \
        setpriv --pdeathsig KILL "$kernel/usr/bin/linux.uml" "uml_dir=$run/" seccomp=auto mem=2048M noreboot panic=1 \
        con=null con0=null,fd:7 ssl=null $lines ssl2=null,fd:6 \
        "ubd0=$ubd0" "ubd1r=$run/installed.tar" "ubd2r=$run/home.tar" root=/dev/ubda rw $lsm $settings "$@" \
        >"$run/uml.log" 2>&1 4>"$run/login" 6>"$run/status" 7>"$run/console" 8>&- 9>&- <&3 3<&- &
    machine=$!
}

# wait_for_session: waits until the machine has ended, and sets $status to the script's exit status.
wait_for_session() {
    wait "$machine" || true # The status of the machine says nothing about the script.
    machine=
    status=$(cat "$run/status")
    [ -n "$status" ] || machine_failed "it ended before the script"
}

end_machine() {
    [ -n "$machine" ] || return 0
    kill "$machine" 2>/dev/null || true # It may have ended by itself.
    wait "$machine" 2>/dev/null || true # It was killed, so its status does not matter.
    machine=
}

# machine_failed WHY: prints the machine's logs and fails.
machine_failed() {
    tail -n 40 "$run/uml.log" "$run/login" "$run/console" >&2 2>/dev/null || true # There may be none yet.
    stop "the virtual machine: $*"
}
