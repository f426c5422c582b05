# shellcheck shell=sh disable=SC2317 # pid and ask are called by labels and boots
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Sourced by the scripts in this directory, which contrib/machine.sh runs in a virtual machine. A trial starts one
# container; this file has the checks for it. The first check that fails ends the script.

PATH=$PATH:/usr/sbin # A user's has it not.
work=$(mktemp -d)
trial=

# as_root COMMAND...: runs a command as root.
if [ "$(id -u)" = 0 ]; then
    as_root() { "$@"; }
else
    as_root() { sudo "$@"; }
fi

told=
wrong() {
    told=yes
    echo "FAILED: $trial: $*" >&2
    as_root journalctl --no-pager --lines 5 --identifier oci-systemd-hook >&2
    exit 1
}

# If a command other than a check fails, what the hook logged is also printed, because it is
# likely to explain the failure.
trap '[ $? = 0 ] || [ -n "$told" ] || wrong "a command failed"' EXIT

# same WHAT IS WANTED: fails unless the value IS of WHAT is WANTED.
same() { [ "$2" = "$3" ] || wrong "$1 is '$2', not '$3'"; }

# until_ SECONDS COMMAND...: waits until the command succeeds.
until_() {
    deadline=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -lt "$deadline" ] || return 1
        sleep 0.3
    done
}

# An engine's process in the container is unconfined_t until it executes its command. systemd, which inspects the
# processes in its cgroup when it starts, and an early systemctl, which inspects process 1, may find it in /proc. Such
# a denial is caused by these checks, not by the hook.
met_in_proc='{ search } .* name="[0-9][0-9]*" dev="proc" .*:container_t:[^ ]* tcontext=[^ ]*:unconfined_t:[^ ]* tclass=dir '

# denials: prints what was denied since the last call, one kind per line: the subject, the permissions and the object.
# $work/records has each record after its kind.
seen_bytes=0
denials() {
    # The kernel's records go through one queue, in which this mark follows them. The mark also shows that there is a
    # process that writes the records.
    mark=$(cat /proc/sys/kernel/random/uuid)
    as_root auditctl -m "$mark" >/dev/null || wrong "auditctl can't write"
    until_ 20 as_root grep -q "$mark" /var/log/audit/audit.log || wrong "auditd doesn't write"
    [ "$(as_root stat --format %s /var/log/audit/audit.log)" -ge "$seen_bytes" ] || wrong "the audit log was rotated"
    as_root cat /var/log/audit/audit.log | tail -c "+$((seen_bytes + 1))" >"$work/audit"
    seen_bytes=$((seen_bytes + $(wc -c <"$work/audit")))
    status=0
    ausearch --input "$work/audit" --raw -m avc >"$work/avc" 2>"$work/ausearch" || status=$?
    # The status is 1 if nothing was found.
    [ "$status" -le 1 ] || wrong "ausearch: $(cat "$work/ausearch")"
    # A line that doesn't match this pattern stays as it is, and so is unlike any other denial. The machine's own
    # getty has nothing to do with containers.
    grep 'avc: *denied' "$work/avc" | grep -v -e ':getty_t:' -e "$met_in_proc" |
        sed 'h
            s/.*{ \(.*\) } .* scontext=[^:]*:[^:]*:\([^: ]*\)[: ].* tcontext=[^:]*:[^:]*:\([^: ]*\)[: ].*tclass=\([a-z_0-9]*\).*/\2: \1 \3:\4/
            G
            s/\n/\t/' >"$work/records"
    cut -f 1 "$work/records" | sort -u
}

# host: prints what the hook may have changed on the host.
host() {
    echo "mounts:"
    # The mounts of login sessions come and go.
    findmnt --noheadings --raw --output TARGET,FSTYPE | grep -v '^/run/user/[0-9]* ' | sort
    findmnt --noheadings --output TARGET,OPTIONS /sys/fs/cgroup
    echo "cgroups:"
    find /sys/fs/cgroup -type d \( -name '*libpod*' -o -name 'docker-*' -o -name 'selinux-test*' -o -name 'cgroup-test*' \
        -o -name '*service-trial*' -o -name 'oci-systemd-hook*' \)
    cut -d : -f 2 /proc/self/cgroup
    echo "directories:"
    for directory in /run/oci-systemd-hook /run/user/*/oci-systemd-hook; do
        as_root find "$directory" 2>/dev/null || true # As it should be.
    done
    find /tmp /run/lock /var/log/journal -maxdepth 1 | sort
    [ -e /sys/fs/selinux/enforce ] || return 0
    echo "labels:"
    find / /srv/systemd /sys/fs/cgroup -maxdepth 1 -printf '%p %Z\n' | sort
}

is_as_before() {
    host >"$work/after"
    cmp -s "$work/before" "$work/after"
}

# When runc 1.1 and crun 1.21 mount v2 for a container with the host's cgroup namespace, they remove v2's options,
# including nsdelegate, from the whole machine, with or without the hook.
cgroup2_options=$(findmnt --noheadings --output OPTIONS /sys/fs/cgroup)
renew_options() { mount -t cgroup2 -o "remount,$cgroup2_options" cgroup2 /sys/fs/cgroup; }

# begin NAME: starts a trial.
begin() {
    trial=$1
    host >"$work/before"
    cursor=$(as_root journalctl --quiet --lines 0 --show-cursor | sed -n 's/^-- cursor: //p')
    began=$(date +%s)
}

# passes: reports that this trial has passed.
trials=0
passes() {
    trials=$((trials + 1))
    echo "ok: $trial ($(($(date +%s) - began)) s)"
}

# The number of containers that had to boot, which determines how long the trials take.
booted=0
all_passed() { echo "all passed: $trials trials, $booted boots"; }

# unchanged: checks that the host is as before.
unchanged() {
    until_ 20 is_as_before || wrong "the host is not as before: $(diff "$work/before" "$work/after")"
}

# finish: ends a trial without checking SELinux's denials.
finish() {
    unchanged
    passes
}

# end_but DENIAL: ends a trial in which nothing may be denied except DENIAL, and what podman's
# own mode was also denied.
end_but() {
    unchanged
    denials >"$work/denials"
    new=$(comm -13 "$work/baseline" "$work/denials" | grep -v -x -F "$1") || true # There is none.
    [ -z "$new" ] || wrong "SELinux denied what it doesn't deny to podman's own mode:
$new
$(grep -F "$new" "$work/records" | cut -f 2)"
    passes
}

end() { end_but nothing; }

# end_of_wrong_labels: ends a trial in which SELinux is expected to deny something.
end_of_wrong_labels() {
    unchanged
    denials >"$work/denials"
    passes
}

# said: prints what the hook logged in this trial.
said() { as_root journalctl --quiet --no-pager --output cat --identifier oci-systemd-hook --after-cursor "$cursor"; }

has_said() {
    case $(said) in *"$1"*) ;; *) return 1 ;; esac
}

# warns TEXT: checks that the hook logs TEXT. The journal may lag behind for a moment.
warns() { until_ 20 has_said "$1" || wrong "the hook does not say '$1' but: $(said)"; }

says_nothing() {
    heard=$(said) || wrong "the journal can't be read"
    same "what the hook says" "$heard" ""
}

# The documents that contrib/install.sh installs beside the programs: the README, and contrib's fragments.
documents=/usr/share/doc/oci-systemd-hook
# shellcheck disable=SC2034 # used by who sources this
examples=$documents/examples

# root_in DIRECTORY: mounts the image in DIRECTORY, in which everything written to it is kept separately.
root_in() {
    mkdir -p "$1/upper" "$1/scratch" "$1/rootfs"
    mount -t overlay overlay -o "lowerdir=/srv/systemd,upperdir=$1/upper,workdir=$1/scratch" "$1/rootfs"
}

# write_config FILTER DIRECTORY: writes what `runc spec` writes, changed by FILTER, for systemd and with
# the capabilities that Docker grants.
write_config() {
    runc spec --bundle "$2"
    jq '(["AUDIT_WRITE","KILL","NET_BIND_SERVICE","MKNOD","CHOWN","DAC_OVERRIDE","FSETID","FOWNER","NET_RAW",
          "SETGID","SETUID","SETFCAP","SETPCAP","SYS_CHROOT"] | map("CAP_" + .)) as $granted
        | .process.args = ["/sbin/init"] | .process.terminal = false | .root.readonly = false
        | del(.process.rlimits)
        | .process.capabilities = {bounding: $granted, effective: $granted, permitted: $granted}
        | .linux.namespaces |= map(select(.type != "cgroup")) + [{type: "cgroup"}]
        | '"$1" "$2/config.json" >"$2/config.json.new"
    mv "$2/config.json.new" "$2/config.json"
}

# manager ARGUMENT...: runs systemctl for the manager that has the units of the user who runs this.
if [ "$(id -u)" = 0 ]; then
    manager() { systemctl "$@"; }
else
    manager() { systemctl --user "$@"; }
fi

# starts_unit UNIT: starts a unit, and checks that its container boots.
starts_unit() {
    manager start "$1" || wrong "$1 was not started: $(manager --no-pager --full status "$1")"
    boots
}

# stops_unit UNIT: stops a unit, and checks that the container's systemd ended by itself.
stops_unit() {
    manager stop "$1"
    is=$(manager show --property ActiveState --property Result --value "$1" | sort | tr '\n' ' ')
    [ "$is" = "inactive success " ] || wrong "$1 is $is: $(manager --no-pager --full status "$1")"
}

is_in_state() { [ "$("$1" state "$2" | jq -r .status)" = "$3" ]; }

# kill_and_delete RUNTIME CONTAINER: works in two steps, because `delete --force` gives up on a cgroup
# whose processes are still exiting.
kill_and_delete() {
    "$1" kill "$2" KILL
    until_ 20 is_in_state "$1" "$2" stopped || wrong "$2 survives SIGKILL"
    "$1" delete "$2"
}

# Each engine defines two functions: ask COMMAND... runs a command in the container, and pid prints the
# PID of its first process.

# Empty if no process may wait in the container, because its cgroup gets no controllers below it as long as
# a process is in it.
waits=--wait

has_booted() {
    # On a slow machine, each query takes resources from the boot, so once systemd answers, this waits in the
    # container. The command prints nothing if it is killed, and fails unless systemd is running.
    # shellcheck disable=SC2086 # one word or none
    state=$(ask timeout 20 systemctl is-system-running $waits 2>/dev/null) || [ -n "$state" ] ||
        state=$(ask systemctl is-system-running 2>/dev/null) || true # The state is looked at below, not the status.
    case $state in running | degraded) ;; *) return 1 ;; esac
}

boots() {
    booted=$((booted + 1))
    until_ 120 has_booted || wrong "systemd says '$state' after 120 s"
    failed=$(ask systemctl list-units --failed --no-legend --plain) || wrong "systemctl can't tell the failed units"
    same "failed units" "$failed" ""
    same "the state" "$state" running
    # A service must be able to write where the hook has mounted something.
    ask systemd-run --quiet --wait touch /run/by-a-service /run/lock/by-a-service /tmp/by-a-service ||
        wrong "a service may not write"
}

# is_labelled LABEL PATH...: checks the labels of paths in the container.
is_labelled() {
    label=$1
    shift
    # The shell captures the output, because a container may not write to a file that it isn't given.
    labels=$(ask stat --format '%C %n' "$@") || wrong "not each of $* is there"
    same "the labels of $*" "$labels" "$(printf "$label %s\n" "$@")"
}

# Empty if the mounts must not have the option context=.
by_mount=yes

# labels PROCESS MOUNT: checks the labels of the container's processes, and of what the
# hook creates in each container.
labels() {
    cgroup=/sys/fs/cgroup$(sed -n 's,/init.scope$,,; s/^0:://p' "/proc/$(pid)/cgroup")
    find "$cgroup" -name cgroup.procs -exec cat {} + >"$work/processes"
    count=0
    while read -r process; do
        # The process may have ended in the meantime.
        label=$(tr -d '\0' <"/proc/$process/attr/current" 2>/dev/null) || continue
        same "the label of process $process" "$label" "$1"
        count=$((count + 1))
    done <"$work/processes"
    [ "$count" -ge 3 ] || wrong "only $count processes in $cgroup"
    mounts=$(ask findmnt --noheadings --raw --output TARGET,OPTIONS) || wrong "findmnt can't tell the mounts"
    for path in /run /run/lock /tmp /etc/machine-id; do
        options=,$(printf '%s\n' "$mounts" | sed -n "s,^$path ,,p"),
        [ "$options" != ,, ] || wrong "nothing is mounted on $path"
        case $by_mount$options in
        yes*",context=\"$2\","*) ;;
        yes* | ,*,context=*) wrong "the options of $path are $options" ;;
        esac
    done
    is_labelled "$2" /run /run/lock /tmp /etc/machine-id /run/host /run/host/container-manager \
        /run/host/os-release /run/host/inaccessible /run/host/inaccessible/reg /run/host/inaccessible/dir \
        /run/host/inaccessible/fifo /run/host/inaccessible/sock \
        /run/systemd/system/systemd-machine-id-commit.service /run/by-a-service /tmp/by-a-service
}

# podman and docker

# no_conmon: checks whether podman has finished cleaning up: no conmon and no cgroup of a container is left.
no_conmon() { ! pgrep -x conmon >/dev/null && [ -z "$(find /sys/fs/cgroup -name 'libpod*')" ]; }

# engine podman|docker: selects the engine for what follows. The first container since the boot leaves files in /run,
# so it is started here.
engine() {
    engine=$1
    "$engine" run --rm localhost/systemd:latest true
    until_ 20 no_conmon || wrong "the first container of $engine does not end"
    ask() { "$engine" exec "$engine-trial" "$@" </dev/null; }
    pid() { "$engine" inspect --format '{{.State.Pid}}' "$engine-trial"; }
}

# run OPTION...: runs a container of the systemd image.
run() {
    "$engine" run --detach --name "$engine-trial" "$@" localhost/systemd:latest /sbin/init >/dev/null
}

# has_labels: checks that the container has the labels that the engine gave it.
has_labels() {
    labels "$("$engine" inspect --format '{{.ProcessLabel}}' "$engine-trial")" \
        "$("$engine" inspect --format '{{.MountLabel}}' "$engine-trial")"
}

# hooked_docker: configures Docker with the runtime wrapper, as the README describes, and with one that gives a
# container's processes another level than its files.
hooked_docker() {
    docker tag systemd:latest localhost/systemd:latest
    install mislabelled-runc /usr/local/bin/
    [ ! -e /sys/fs/selinux/enforce ] || restorecon /usr/local/bin/mislabelled-runc
    jq -s '.[0] * .[1] | .runtimes.mislabelled.path = "/usr/local/bin/mislabelled-runc"' \
        /etc/docker/daemon.json "$examples/docker/daemon.json" >"$work/daemon.json"
    cat "$work/daemon.json" >/etc/docker/daemon.json
    systemctl restart docker
}

exit_code() { "$engine" inspect --format '{{.State.ExitCode}}' "$engine-trial"; }

stops() {
    "$engine" stop --time 60 "$engine-trial" >/dev/null
    # These are systemd's exit codes after an orderly shutdown; 137 would mean that it was killed.
    case $(exit_code) in 0 | 130) ;; *) wrong "it stopped with $(exit_code)" ;; esac
}

is_stopped() { [ "$("$engine" inspect --format '{{.State.Running}}' "$engine-trial")" = false ]; }

# fails: checks that the container fails as a systemd does for which nothing was prepared.
fails() {
    until_ 60 is_stopped || wrong "it runs"
    same "the exit code" "$(exit_code)" 255
}

remove() { "$engine" rm --force "$engine-trial" >/dev/null; }

# lives OPTION...: tests a container that the hook prepares, from its start to its end.
lives() {
    run "$@"
    boots
    has_labels
    says_nothing
    stops
    remove
    end
}

# own_cgroup: prints the path of the container's cgroup, as the container sees it.
own_cgroup() {
    top=/sys/fs/cgroup line=0::
    [ "$(ask stat --file-system --format %T /sys/fs/cgroup)" != tmpfs ] || top=/sys/fs/cgroup/systemd line='.*:name=systemd:'
    ask sed -n "s,/init.scope$,,; s,^$line,$top,p" /proc/1/cgroup
}

# lives_by_label NAME OPTION...: tests a container while the policy doesn't let containers manage cgroups with the
# default label. Where systemd writes in the container's own cgroup, the files must have the container's label, but
# not those that set a limit.
lives_by_label() {
    begin "$1, a type that may not manage cgroups"
    shift
    run --systemd=false --stop-signal=RTMIN+3 "$@"
    boots
    has_labels
    says_nothing
    own=$(own_cgroup)
    is_labelled "$("$engine" inspect --format '{{.MountLabel}}' "$engine-trial")" "$own" "$own/cgroup.procs"
    limits=$(ask find "$own" -maxdepth 1 \( -name '*.max' -o -name cgroup.freeze -o -name notify_on_release \) \
        -exec stat --format '%C %n' {} +) || wrong "$own can't be looked at"
    [ -n "$limits" ] || wrong "$own has nothing that sets a limit"
    labelled=$(printf '%s\n' "$limits" | grep -v ':cgroup_t:') || true # There is none.
    same "what else was labelled" "$labelled" ""
    stops
    remove
    case $* in *--cgroupns=host*) renew_options ;; esac
    case $own in
    # On v1, systemd makes /sys/fs/cgroup read-only itself, or tries to.
    /sys/fs/cgroup/systemd*) end_but "container_t: remount container_file_t:filesystem" ;;
    *) end ;;
    esac
}

# lacks_capabilities NAME BOOLEAN CAPABILITIES OPTION...: tests a container while that boolean is off.
lacks_capabilities() {
    begin "$1, a type without its capabilities"
    boolean=$2 capabilities=$3
    shift 3
    as_root setsebool "$boolean" off
    run --systemd=false --stop-signal=RTMIN+3 "$@"
    warns "SELinux denies container_t the capabilities that services need, although config.json grants them: $capabilities; allow it for all containers with 'setsebool -P $boolean on'"
    # A boot must fail, which shows that the capabilities that are denied are needed.
    if (boots) 2>"$work/failed"; then wrong "it boots"; fi
    remove
    as_root setsebool "$boolean" on
    end_of_wrong_labels
}

# dies OPTION...: tests that a container that nothing prepares fails.
dies() {
    run "$@"
    fails
    remove
    end
}

# podman_trials NAME: runs the trials that are the same for podman as root and as a user. NAME is put in
# front of the trials' names.
podman_trials() {
    engine podman

    denials >"$work/denials" # What was before doesn't count.
    begin "$1, its own systemd mode, without the hook"
    run --annotation oci-systemd-hook=disabled
    boots
    stops
    remove
    unchanged
    denials >"$work/baseline"
    [ -s "$work/baseline" ] || wrong "nothing is denied: is this being audited?"
    passes
    # Prints what even podman's own systemd mode was denied.
    sed 's/^/    denied there: /' "$work/baseline"

    begin "$1, the hook alone"
    lives --systemd=false --stop-signal=RTMIN+3

    begin "$1, its own systemd mode, with the hook"
    lives

    begin "$1, neither"
    dies --systemd=false --annotation oci-systemd-hook=disabled

    begin "$1, labelling disabled"
    run --systemd=false --stop-signal=RTMIN+3 --security-opt label=disable
    boots
    warns "SELinux doesn't confine this container"
    stops
    remove
    end
}
