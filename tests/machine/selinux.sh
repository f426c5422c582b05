#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Tests podman, Docker, and bundles under runc and crun with the hook, as root and with SELinux enforcing.
set -eu
. ./lib.sh
hook=/usr/libexec/oci/hooks.d/oci-systemd-hook

same "enforce" "$(cat /sys/fs/selinux/enforce)" 1
podman_trials podman

# What the policy permits with podman as the engine.

lacks_capabilities podman container_use_host_all_caps "chown, dac_override, fowner, kill, setgid, setpcap, setuid"
lacks_capabilities "podman, a user namespace" container_use_userns_all_caps setpcap --uidmap 0:100000:65536

setsebool container_manage_cgroup off
begin "podman, its own systemd mode, a type that may not manage cgroups"
run --annotation oci-systemd-hook=disabled
fails
remove
end_of_wrong_labels

lives_by_label podman
lives_by_label "podman, a user namespace" --uidmap 0:100000:65536
lives_by_label "podman, the host's cgroup namespace" --cgroupns=host
lives_by_label "podman, a cgroup of v1" --annotation oci-systemd-hook.cgroup=legacy
setsebool container_manage_cgroup on

begin "podman, containers of its own in it"
by_mount=
run --systemd=false --stop-signal=RTMIN+3 --security-opt label=nested
boots
has_labels
says_nothing
# The policy denies this. On a file system with context=, there would be no labels of individual files.
relabelled=$(ask chcon -t container_ro_file_t /tmp/by-a-service 2>&1) || true # It fails; the words tell by what.
case $relabelled in *"Permission denied"*) ;; *) wrong "chcon says '$relabelled'" ;; esac
stops
remove
by_mount=yes
end_but "container_t: relabelto container_ro_file_t:file"

# The commands of share/doc/selinux.md, one after the other.

# plain: removes what differs between two runs or two kernels.
plain() { sed -E 's/^ +//; s/:c[0-9]+,c[0-9]+/:c_,c_/g; s/,inode64//; s/size=[0-9]+k/size=_/; s/^[0-9a-f]{64}$/ID/'; }

begin "the commands of selinux.md"
ask() { podman exec web "$@" </dev/null; }
awk -v shown="$work/shown" '
    /^```/ { output = "" }
    /^\$ / {
        name = sprintf("%s.%02d", shown, ++count)
        output = name ".output"
        print substr($0, 3) >(name ".command")
        printf "" >output
        next
    }
    output { print >output }' "$documents/selinux.md"
for command in "$work"/shown.*.command; do
    # The output goes through a pipe, because setsebool may not write to a file of this script. A command
    # that fails prints something else.
    sh "$command" 2>&1 </dev/null | cat >"$work/printed"
    same "what '$(cat "$command")' prints" "$(plain <"$work/printed")" "$(plain <"${command%.command}.output")"
    case $(cat "$command") in "podman run "*) boots ;; esac
done
end

# Docker: a config.json that lists the hook

hooked_docker
engine docker

begin "docker"
lives --runtime systemd

begin "docker, without the hook"
dies

# Under Docker, hooks may not query this policy, and can only compare the labels.
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

# make_bundle RUNTIME PROCESS-LABEL MOUNT-LABEL HOOK [on-disk]: creates a bundle whose image has a file of each type
# in /run. With on-disk, the mount of the image has no label that applies to all its files.
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
        # The engines do this without CAP_SYS_ADMIN. It applies before SELinux is asked.
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

start_bundle() {
    rm -f "$work/code"
    # The output goes through a pipe, because a container may not write to a file that it isn't given. It doesn't go
    # to this script's own output, which would stay open as long as the container runs.
    {
        code=0
        "$runtime" run --bundle "$bundle" selinux-test </dev/null 2>&1 || code=$?
        echo "$code" >"$work/code"
    } 2>/dev/null | cat >"$work/console" 2>/dev/null &
}

# bundle RUNTIME PROCESS-LABEL MOUNT-LABEL HOOK: creates and starts a bundle.
bundle() {
    make_bundle "$@"
    start_bundle
}

# ended: waits until the container has ended, and sets $code to its exit code.
ended() {
    until_ 120 test -s "$work/code" || wrong "it does not end: $(cat "$work/console")"
    wait $!
    code=$(cat "$work/code")
    remove_bundle
}

copies="/run/app /run/app/file /run/app/link /run/app/fifo /run/app/deeper /run/app/deeper/name"

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
warns "a process at level s0:c1,c2 is not allowed to write files at level s0:c10,c20"
end_of_wrong_labels

# The kernel is made to refuse the option context=, which is the second one that the hook sets on any tmpfs.
refused=$work/refused
printf '#!/bin/sh\nexec strace -qq -o /dev/null -e trace=fsconfig -e inject=fsconfig:error=EACCES:when=2 %s\n' \
    "$hook" >"$refused"
chmod +x "$refused"
chcon -t bin_t "$refused"
chmod 755 "$work"
# A volume in /run keeps its labels, because it isn't part of the image, and so does the target of
# a link in the image.
volume=$work/volume
mkdir "$volume"
echo text >"$volume/file"
chcon -R -t etc_t "$volume"
kept=$(stat --format %C "$volume")
begin "a bundle where each file is labelled on its own"
make_bundle runc "$process_label" "$files_label" "$refused"
ln -s /run/app/volume/file "$bundle/rootfs/run/app/link-to-volume"
jq --arg source "$volume" '.mounts += [{destination: "/run/app/volume", source: $source, options: ["bind"]}]' \
    "$bundle/config.json" >"$bundle/config.json.new"
mv "$bundle/config.json.new" "$bundle/config.json"
start_bundle
boots
is_labelled "$kept" /run/app/volume /run/app/volume/file
is_labelled "$files_label" /run/app/link-to-volume
by_mount= # Otherwise the kernel was not made to refuse it.
labels "$process_label" "$files_label"
by_mount=yes
# shellcheck disable=SC2086 # one word a path
is_labelled "$files_label" $copies
runc kill selinux-test 37
ended
end

# Neither way of labeling is possible, so systemd will be denied access to its own files.
printf '#!/bin/sh\nexec strace -qq -o /dev/null -e trace=fsconfig,setxattr -e inject=fsconfig:error=EACCES:when=2 %s %s\n' \
    "-e inject=setxattr:error=EPERM" "$hook" >"$refused"
begin "a bundle that gets no label"
make_bundle runc "$process_label" "$files_label" "$refused"
runc create --bundle "$bundle" selinux-test </dev/null >"$work/console" 2>&1 || wrong "runc: $(cat "$work/console")"
warns "new files don't get the label $files_label, so SELinux may deny the container access to them"
kill_and_delete runc selinux-test
remove_bundle
end_of_wrong_labels

begin "a bundle on disk that lacks mount points"
make_bundle runc "$process_label" "$files_label" "$hook" on-disk
rm "$bundle/rootfs/etc/machine-id"
rmdir "$bundle/rootfs/tmp"
runc create --bundle "$bundle" selinux-test </dev/null >"$work/console" 2>&1 || wrong "runc: $(cat "$work/console")"
for made in etc/machine-id tmp; do
    same "the label of $made" "$(stat --format %C "$bundle/rootfs/$made")" "$files_label"
done
kill_and_delete runc selinux-test
[ ! -e "$bundle/rootfs/tmp" ] || wrong "what the hook made in the image's root is still there"
remove_bundle
end

# The mount of the machine ID fails after the cgroup has been labeled.
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

# Without either label, what the hook creates has the policy's own labels.
begin "a bundle without labels"
bundle runc "" "" "$hook"
boots
warns "SELinux doesn't confine this container"
runc kill selinux-test 37
ended
end_of_wrong_labels

all_passed
