#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# podman, Docker, and bundles under runc and crun with the hook, as root, enforcing.
set -eu
. ./lib.sh
hook=/usr/libexec/oci/hooks.d/oci-systemd-hook

same "enforce" "$(cat /sys/fs/selinux/enforce)" 1
podman_trials podman

# What the policy says when podman is the engine.

begin "podman, a type without its capabilities"
setsebool container_use_host_all_caps off
run --systemd=false --stop-signal=RTMIN+3
warns "SELinux denies container_t the capabilities that services need, though config.json grants them: chown, dac_override, fowner, kill, setgid, setuid; turn that on for all containers by 'setsebool -P container_use_host_all_caps on'"
remove
setsebool container_use_host_all_caps on
end_of_wrong_labels

setsebool container_manage_cgroup off
begin "podman, its own systemd mode, a type that may not manage cgroups"
run --annotation oci-systemd-hook=disabled
fails
remove
end_of_wrong_labels

begin "podman, the hook, a type that may not manage cgroups"
run --systemd=false --stop-signal=RTMIN+3
boots
has_labels
says_nothing
mount_label=$(podman inspect --format '{{.MountLabel}}' podman-trial)
is_labelled "$mount_label" /sys/fs/cgroup /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/cgroup.subtree_control
# And no more than that: not what sets a limit.
for path in /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cgroup.freeze; do
    case $(ask stat --format %C $path) in
    *:cgroup_t:*) ;;
    *) wrong "$path was labelled" ;;
    esac
done
stops
remove
end_but "container_t: watch container_file_t:file"
setsebool container_manage_cgroup on

# Docker: a config.json that lists the hook

hooked_docker
engine docker

begin "docker"
lives --runtime systemd

begin "docker, without the hook"
dies

# Docker's hooks may not ask this policy, and are left to compare.
begin "docker, labels that disagree in level"
run --runtime mislabelled || true # systemd may not even be read.
warns "linux.mountLabel in config.json disagree"
remove
end_of_wrong_labels

# Bundles

process_label=system_u:system_r:container_t:s0:c10,c20
files_label=system_u:object_r:container_file_t:s0:c10,c20
ask() { "$runtime" exec selinux-test "$@" </dev/null; }
pid() { "$runtime" state selinux-test | jq .pid; }

# make_bundle RUNTIME PROCESS-LABEL MOUNT-LABEL HOOK [on-disk]: the image has something of each kind in
# /run, and no label for all that is on it if it is on-disk.
bundle=$work/bundle
make_bundle() {
    runtime=$1
    context=${3:+,context=\"$3\"}
    [ "${5:-}" != on-disk ] || context=
    mkdir -p "$bundle/upper/run/app/deeper" "$bundle/scratch" "$bundle/rootfs"
    echo text >"$bundle/upper/run/app/file"
    ln "$bundle/upper/run/app/file" "$bundle/upper/run/app/deeper/name"
    ln -s file "$bundle/upper/run/app/link"
    mkfifo "$bundle/upper/run/app/fifo"
    mknod "$bundle/upper/run/app/null" c 1 3
    mount -t overlay overlay "$bundle/rootfs" \
        -o "lowerdir=/srv/systemd,upperdir=$bundle/upper,workdir=$bundle/scratch$context"
    runc spec --bundle "$bundle"
    jq --arg process "$2" --arg files "$3" --arg hook "$4" '
        (["AUDIT_WRITE","KILL","NET_BIND_SERVICE","MKNOD","CHOWN","DAC_OVERRIDE","FSETID","FOWNER","NET_RAW",
          "SETGID","SETUID","SETFCAP","SETPCAP","SYS_CHROOT"] | map("CAP_" + .)) as $granted
        | .process.args = ["/sbin/init"] | .process.terminal = false | .root.readonly = false
        | .process.capabilities = {bounding: $granted, effective: $granted, permitted: $granted}
        | if $process == "" then . else .process.selinuxLabel = $process | .linux.mountLabel = $files end
        | .linux.cgroupsPath = "/selinux-test"
        # As the engines do without CAP_SYS_ADMIN, before SELinux is asked.
        | .linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", syscalls: [{names: ["bpf"], action: "SCMP_ACT_ERRNO"}]}
        | .linux.namespaces |= (map(select(.type != "cgroup")) + [{type: "cgroup"}])
        | if $hook == "" then . else
            reduce ("createRuntime", "poststop") as $stage (.; .hooks[$stage] += [{path: $hook}])
          end' "$bundle/config.json" >"$bundle/config.json.new"
    mv "$bundle/config.json.new" "$bundle/config.json"
}

remove_bundle() {
    umount "$bundle/rootfs"
    rm -r "$bundle"
}

# bundle RUNTIME PROCESS-LABEL MOUNT-LABEL HOOK: made and started.
bundle() {
    make_bundle "$@"
    # Through a pipe: a container may not write a file that it isn't given.
    {
        code=0
        "$runtime" run --bundle "$bundle" selinux-test </dev/null 2>&1 || code=$?
        echo "$code" >"$work/code"
    } | cat >"$work/console" &
}

# ended: sets code.
ended() {
    wait $!
    code=$(cat "$work/code")
    remove_bundle
}

copies="/run/app /run/app/file /run/app/link /run/app/fifo /run/app/null /run/app/deeper /run/app/deeper/name"

for each in runc crun; do
    begin "a labelled bundle, $each"
    bundle "$each" "$process_label" "$files_label" "$hook"
    boots
    labels "$process_label" "$files_label"
    # shellcheck disable=SC2086 # one word a path
    is_labelled "$files_label" $copies
    says_nothing
    "$each" kill selinux-test 37
    ended
    case $code in 0 | 130) ;; *) wrong "it stopped with $code: $(cat "$work/console")" ;; esac
    end

    begin "a labelled bundle, $each, without the hook"
    bundle "$each" "$process_label" "$files_label" ""
    ended
    same "the exit code" "$code" 255
    end
done

begin "a bundle whose labels disagree in level"
bundle runc system_u:system_r:container_t:s0:c1,c2 "$files_label" "$hook"
ended
[ "$code" != 0 ] || wrong "it ran"
warns "a process at level s0:c1,c2 may not write files at s0:c10,c20"
end_of_wrong_labels

# The kernel refuses the option context=, which is the second that the hook gives to any tmpfs.
refused=$work/refused
printf '#!/bin/sh\nexec strace -qq -o /dev/null -e trace=fsconfig -e inject=fsconfig:error=EACCES:when=2 %s\n' \
    "$hook" >"$refused"
chmod +x "$refused"
chcon -t bin_t "$refused"
chmod 755 "$work"
begin "a bundle where each file is labelled on its own"
bundle runc "$process_label" "$files_label" "$refused"
boots
case $(ask findmnt --noheadings --output OPTIONS /run) in
*context=*) wrong "the kernel was not made to refuse the option" ;;
esac
labels "$process_label" "$files_label"
# shellcheck disable=SC2086 # one word a path
is_labelled "$files_label" $copies
runc kill selinux-test 37
ended
end

begin "a bundle on disk that lacks mount points"
make_bundle runc "$process_label" "$files_label" "$hook" on-disk
rm "$bundle/rootfs/etc/machine-id"
rmdir "$bundle/rootfs/tmp"
runc create --bundle "$bundle" selinux-test </dev/null >"$work/console" 2>&1 || wrong "runc: $(cat "$work/console")"
for made in etc/machine-id tmp; do
    same "the label of $made" "$(stat --format %C "$bundle/rootfs/$made")" "$files_label"
done
runc delete --force selinux-test
[ ! -e "$bundle/rootfs/tmp" ] || wrong "what the hook made in the image's root is still there"
remove_bundle
end

# The machine id can't be mounted, when the cgroup has its label already.
setsebool container_manage_cgroup off
cat >"$work/fails" <<END
#!/bin/sh
strace -qq -A -o $work/trace -e trace=open_tree,setxattr -e inject=open_tree:error=EIO:when=2 $hook
code=\$?
[ \$code = 0 ] || stat --format %C /sys/fs/cgroup/selinux-test /sys/fs/cgroup/selinux-test/cgroup.procs >$work/undone
exit \$code
END
chmod +x "$work/fails"
chcon -t bin_t "$work/fails"
begin "a bundle whose cgroup gets its label back"
make_bundle runc "$process_label" "$files_label" "$work/fails"
if runc create --bundle "$bundle" selinux-test </dev/null >"$work/console" 2>&1; then
    wrong "the hook was not made to fail"
fi
grep -q 'setxattr.*container_file' "$work/trace" || wrong "nothing was labelled: $(cat "$work/trace" "$work/console")"
[ "$(wc -l <"$work/undone")" = 2 ] || wrong "the labels were not asked"
if grep -v ':cgroup_t:' "$work/undone" >&2; then
    wrong "a label was not undone"
fi
remove_bundle
end
setsebool container_manage_cgroup on

# Neither label: the policy's own are on what the hook makes.
begin "a bundle without labels"
bundle runc "" "" "$hook"
boots
warns "SELinux doesn't confine this container"
runc kill selinux-test 37
ended
end_of_wrong_labels

echo "all passed"
