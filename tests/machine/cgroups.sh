#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Cgroup tests that need a machine with only cgroup v2.
#
#   cgroups.sh limits|memory|layouts...
#
# limits: containers keep the limits of runtimes and engines, with nsdelegate or without.
# memory: the right cgroup is charged for the copy of an image's content.
# layouts: v1's named hierarchy, which is not mounted on this machine, is created for old versions of systemd.
set -eu
. ./lib.sh
hook=/usr/libexec/oci/hooks.d/oci-systemd-hook
bundle=$work/bundle
limit_bytes=314572800 limit_tasks=300
# shellcheck disable=SC2034 # used by lib.sh
waits=

finish_in() {
    [ "$1" = private ] || renew_options
    finish
}

# make_bundle NAME SUITE RUNTIME private|host HOOK LAYOUT: creates a bundle. HOOK and LAYOUT may be empty.
make_bundle() {
    mkdir -p "$bundle/$1/upper" "$bundle/$1/scratch" "$bundle/$1/rootfs"
    mount -t overlay overlay "$bundle/$1/rootfs" \
        -o "lowerdir=/srv/$2,upperdir=$bundle/$1/upper,workdir=$bundle/$1/scratch"
    runc spec --bundle "$bundle/$1"
    jq --arg name "$1" --arg namespace "$4" --arg hook "$5" --arg layout "$6" --arg said "$work/said" \
        --argjson bytes "$limit_bytes" --argjson tasks "$limit_tasks" '
        (["AUDIT_WRITE","KILL","NET_BIND_SERVICE","MKNOD","CHOWN","DAC_OVERRIDE","FSETID","FOWNER","NET_RAW",
          "SETGID","SETUID","SETFCAP","SETPCAP","SYS_CHROOT"] | map("CAP_" + .)) as $granted
        | .process.args = ["/sbin/init"] | .process.terminal = false | .root.readonly = false
        | .process.capabilities = {bounding: $granted, effective: $granted, permitted: $granted}
        | .linux.cgroupsPath = "/cgroup-test-" + $name
        | .linux.resources = {memory: {limit: $bytes}, pids: {limit: $tasks}}
        | .linux.namespaces |= map(select(.type != "cgroup"))
        | if $namespace == "private" then .linux.namespaces += [{type: "cgroup"}] else . end
        | if $layout == "" then . else .annotations["oci-systemd-hook.cgroup"] = $layout end
        | .annotations["run.oci.hooks.stderr"] = $said
        | if $hook == "" then . else
            reduce ("createRuntime", "poststop") as $stage (.; .hooks[$stage] += [{path: $hook}])
          end' "$bundle/$1/config.json" >"$bundle/$1/config.json.new"
    mv "$bundle/$1/config.json.new" "$bundle/$1/config.json"
}

remove_bundle() {
    umount "$bundle/$1/rootfs"
    rm -r "${bundle:?}/$1"
}

# start NAME SUITE RUNTIME private|host HOOK LAYOUT: starts another bundle, to which the checks then apply.
start() {
    name=$1 runtime=$3
    make_bundle "$@"
    rm -f "$work/code-$name"
    {
        code=0
        "$runtime" run --bundle "$bundle/$name" "cgroup-test-$name" </dev/null 2>&1 || code=$?
        echo "$code" >"$work/code-$name"
        # The output must not go to this script's own, which would stay open as long as the container runs.
    } 2>/dev/null | cat >"$work/console-$name" 2>/dev/null &
}

# shellcheck disable=SC2317 # pid is called by lib.sh
bundles() {
    ask() { "$runtime" exec "cgroup-test-$name" "$@" </dev/null; }
    pid() { "$runtime" state "cgroup-test-$name" | jq .pid; }
}

# ended: waits until the container has ended, and sets $code to its exit code.
ended() {
    until_ 120 test -s "$work/code-$name" || wrong "it does not end: $(cat "$work/console-$name")"
    wait
    code=$(cat "$work/code-$name")
    remove_bundle "$name"
}

stops_in_order() {
    "$runtime" kill "cgroup-test-$name" 37
    ended
    case $code in 0 | 130) ;; *) wrong "it stopped with $code: $(cat "$work/console-$name" "$work/said")" ;; esac
}

# has_layout legacy|unified: checks that systemd finds this layout, with its own cgroup at the expected path, and that
# this cgroup is all that is writable below /sys/fs/cgroup.
has_layout() {
    case $1 in
    legacy) fs=tmpfs top=/sys/fs/cgroup/systemd line='.*:name=systemd:' ;;
    unified) fs=cgroup2fs top=/sys/fs/cgroup line='0::' ;;
    esac
    same "the file system of /sys/fs/cgroup" "$(ask stat -f -c %T /sys/fs/cgroup)" "$fs"
    own=$top$(ask sed -n "s/^$line//p" /proc/1/cgroup)
    ask grep -q -x 1 "$own/cgroup.procs" || wrong "process 1 is not in $own"
    own=${own%/init.scope}
    more=$(ask find /sys/fs/cgroup ! -type l -writable ! -path "$own" ! -path "$own/*") ||
        wrong "not all of /sys/fs/cgroup can be looked at"
    same "what else is writable" "$more" ""
}

# keeps_limits CGROUP: checks that the limits of a cgroup on the host stay as they are, whatever the container writes.
keeps_limits() {
    # shellcheck disable=SC2016 # for the container
    ask sh -c 'find /sys/fs/cgroup -name memory.max -o -name pids.max |
        while read -r file; do echo max >"$file"; done 2>/dev/null; true' 2>/dev/null
    same "memory.max" "$(cat "/sys/fs/cgroup$1/memory.max")" "$limit_bytes"
    same "pids.max" "$(cat "/sys/fs/cgroup$1/pids.max")" "$limit_tasks"
}

# nests_namespace: tries to change the limits from a nested cgroup namespace. A process there is not bound by
# nsdelegate, because the root of its cgroup namespace is further below.
nests_namespace() {
    # shellcheck disable=SC2016 # for the container
    tried=$(ask sh -c 'own=$(find /sys/fs/cgroup -type d -writable | head -n 1)
        mkdir "$own/nested" && echo $$ >"$own/nested/cgroup.procs" && exec unshare --user --map-root-user --cgroup sh -c "
            find /sys/fs/cgroup -name memory.max -o -name pids.max | while read -r file; do echo max >\$file; done 2>/dev/null
            cat /proc/self/cgroup"')
    case $tried in
    *0::/) ;;
    *) wrong "no process in a cgroup namespace of its own, but $tried" ;;
    esac
}

# limits_services: checks that services can be limited by the controllers that the container has.
limits_services() {
    # shellcheck disable=SC2016 # for the service
    limit=$(ask systemd-run --quiet --wait --pipe --property MemoryMax=64M \
        sh -c 'cat "/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/memory.max"')
    same "a service's memory.max" "$limit" 67108864
}

# scope: prints the scope of an engine's container, as the host sees it.
scope() { sed -n 's/^0:://; s,\(\.scope\).*,\1,p' "/proc/$(pid)/cgroup"; }

# has_limits OPTION...: checks the limits of an engine's container.
has_limits() {
    run --memory "$limit_bytes" --pids-limit "$limit_tasks" "$@"
    boots
    has_layout unified
    keeps_limits "$(scope)"
    limits_services
    stops
    remove
}

limits() {
    nsdelegate=without
    ! grep -q '^cgroup2 /sys/fs/cgroup .*nsdelegate' /proc/mounts || nsdelegate=with
    bundles
    for each in runc crun; do
        for namespace in private host; do
            begin "limits, $each, $namespace cgroup namespace, $nsdelegate nsdelegate"
            start limits systemd "$each" "$namespace" "$hook" ""
            boots
            has_layout unified
            nests_namespace
            keeps_limits /cgroup-test-limits
            limits_services
            stops_in_order
            finish_in "$namespace"
        done
    done
    engine podman
    for each in runc crun; do
        begin "limits, podman, $each, $nsdelegate nsdelegate"
        has_limits --systemd=false --stop-signal=RTMIN+3 --runtime "$each"
        finish
    done
    engine docker
    for namespace in private host; do
        begin "limits, docker, $namespace cgroup namespace, $nsdelegate nsdelegate"
        has_limits --runtime systemd --cgroupns "$namespace"
        finish_in "$namespace"
    done
}

# shmem CGROUP: prints the tmpfs pages that are charged to a cgroup, in whole MiB.
shmem() { sed -n 's/^shmem //p' "/sys/fs/cgroup/$1/memory.stat" | awk '{ print int($1 / 1048576) }'; }

# copies RUNTIME NAMESPACE MIB: creates a container whose image has this much in /tmp, from the engine's cgroup.
copies() {
    name=memory runtime=$1
    make_bundle memory systemd "$1" "$2" "$hook" ""
    head -c "$3M" /dev/zero | tr '\0' x >"$bundle/memory/rootfs/tmp/large"
    mkdir /sys/fs/cgroup/cgroup-test-engine
    # shellcheck disable=SC2016 # for the engine
    sh -c 'echo $$ >/sys/fs/cgroup/cgroup-test-engine/cgroup.procs && exec "$0" create --bundle "$1" cgroup-test-memory' \
        "$1" "$bundle/memory" </dev/null >"$work/console" 2>&1 ||
        wrong "it was not created: $(cat "$work/console" "$work/said")"
}

# pays CGROUP FROM TO: checks what is charged to a cgroup, in whole MiB. A runtime's in-memory copy of its own
# program, of some 10 MiB, may be charged to either cgroup.
pays() {
    is=$(shmem "$1")
    if [ "$is" -lt "$2" ] || [ "$is" -gt "$3" ]; then wrong "$1 pays for $is MiB, not for $2 to $3"; fi
}

no_copies() {
    same "how many were killed" "$(sed -n 's/^oom_kill //p' /sys/fs/cgroup/cgroup-test-memory/memory.events)" 0
    kill_and_delete "$runtime" cgroup-test-memory
    until_ 5 rmdir /sys/fs/cgroup/cgroup-test-engine 2>/dev/null || wrong "the engine's cgroup stays"
    remove_bundle memory
}

memory() {
    bundles
    for each in runc crun; do
        for namespace in private host; do
            begin "memory of what is copied, $each, $namespace cgroup namespace"
            copies "$each" "$namespace" 60
            pays cgroup-test-memory 60 80
            pays cgroup-test-engine 0 20
            no_copies
            finish_in "$namespace"
        done
    done
    begin "memory of what is copied, more than the limit"
    limit_bytes=67108864
    copies runc private 100
    pays cgroup-test-memory 0 20
    pays cgroup-test-engine 0 20
    no_copies
    limit_bytes=314572800
    finish
}

# named: prints v1's hierarchies without a controller.
named() { cut -d : -f 2 /proc/self/cgroup | grep name= || true; }

has_no_named() { [ -z "$(named)" ]; }

# again NAME: creates and deletes a container several times.
again() {
    for round in 1 2 3 4 5 6; do
        runc create --bundle "$bundle/$1" "cgroup-test-$1" </dev/null >"$work/console-$1" 2>&1 ||
            wrong "$1, round $round: $(cat "$work/console-$1")"
        kill_and_delete runc "cgroup-test-$1"
    done
}

layouts() {
    same "v1's named hierarchies" "$(named)" ""
    bundles
    for suite in bullseye bookworm; do
        for each in runc crun; do
            for namespace in private host; do
                begin "legacy on a host of v2, $suite, $each, $namespace cgroup namespace"
                start legacy "$suite" "$each" "$namespace" "$hook" legacy
                boots
                has_layout legacy
                same "v1's named hierarchies" "$(named)" name=systemd
                keeps_limits /cgroup-test-legacy
                stops_in_order
                finish_in "$namespace"
            done
        done
    done

    begin "legacy on a host of v2, without the hook"
    start legacy bookworm runc private "" legacy
    ended
    same "the exit code" "$code" 255
    finish

    begin "legacy on a host of v2, two that don't see each other"
    start other bookworm runc private "$hook" legacy
    boots
    start legacy bookworm runc private "$hook" legacy
    boots
    seen=$(ask find /sys/fs/cgroup -name '*cgroup-test-other*') || wrong "not all of /sys/fs/cgroup can be looked at"
    same "what is seen of the other" "$seen" ""
    runc kill cgroup-test-other KILL
    until_ 20 test -s "$work/code-other" || wrong "the other does not end"
    # The hierarchy is kept for the remaining container.
    boots
    runc kill cgroup-test-legacy KILL
    ended
    remove_bundle other
    finish

    begin "legacy on a host of v2, two that start and stop together"
    for name in one two; do
        make_bundle "$name" bookworm runc private "$hook" legacy
    done
    again one &
    first=$!
    again two
    wait "$first"
    for name in one two; do
        remove_bundle "$name"
    done
    finish

    begin "legacy on a host of v2, killed while it boots"
    start legacy bookworm runc private "$hook" legacy
    until_ 60 ask test -d /run/systemd/system 2>/dev/null || wrong "it doesn't start"
    runc kill cgroup-test-legacy KILL
    ended
    finish

    # After the cgroup has been created and the process is in it, the hook's first mount of it fails,
    # or the hook is killed.
    for each in runc crun; do
        for how in error=EIO signal=KILL; do
            begin "legacy on a host of v2, $each, the hook fails by $how"
            printf '#!/bin/sh\nexec strace -qq -A -o %s -e trace=mkdirat,open_tree -e inject=open_tree:%s:when=1 %s\n' \
                "$work/trace" "$how" "$hook" >"$work/fails"
            chmod +x "$work/fails"
            make_bundle fails bookworm "$each" private "$work/fails" legacy
            # The hook recognizes itself by the file that runs.
            jq --arg hook "$hook" '.hooks.poststop[0].path = $hook' "$bundle/fails/config.json" >"$work/config.json"
            mv "$work/config.json" "$bundle/fails/"
            if "$each" create --bundle "$bundle/fails" cgroup-test-fails </dev/null >"$work/console" 2>&1; then
                wrong "it was created"
            fi
            grep -q 'mkdirat.*"oci-systemd-hook-cgroup-test-fails".* = 0' "$work/trace" || wrong "it failed too early"
            # After an error, the hook removes everything immediately. If it was killed, this is left to poststop.
            if [ "$how" = error=EIO ]; then
                same "what is noted" "$(ls -A /run/oci-systemd-hook 2>/dev/null)" ""
                until_ 5 has_no_named || wrong "a cgroup is left: $(named)"
            fi
            "$each" delete --force cgroup-test-fails >>"$work/console" 2>&1 || true # It may be gone.
            # crun doesn't run poststop for a container that it could not create. podman does, and so does any
            # later container with this name.
            [ "$each" = runc ] || echo '{"id": "cgroup-test-fails", "status": "stopped"}' | "$hook"
            rm "$work/trace"
            remove_bundle fails
            finish
        done
    done

    engine podman
    begin "legacy on a host of v2, podman"
    run --systemd=false --stop-signal=RTMIN+3 --annotation oci-systemd-hook.cgroup=legacy
    boots
    has_layout legacy
    stops
    remove
    finish

    engine docker
    begin "legacy on a host of v2, docker"
    run --runtime systemd --annotation oci-systemd-hook.cgroup=legacy
    boots
    has_layout legacy
    stops
    remove
    finish

    # The kernel creates hierarchies of v1 only in its first cgroup namespace.
    begin "legacy in an engine that is in a container itself"
    make_bundle nested bookworm runc private "$hook" legacy
    jq 'del(.linux.resources)' "$bundle/nested/config.json" >"$work/config.json"
    mv "$work/config.json" "$bundle/nested/"
    engine=/sys/fs/cgroup/cgroup-test-engine
    mkdir "$engine"
    # shellcheck disable=SC2016 # for the engine
    if sh -c 'echo $$ >"$1/cgroup.procs" && exec unshare --cgroup --mount sh -c "
        mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec runc create --bundle \"\$1\" cgroup-test-nested" sh "$2"' \
        sh "$engine" "$bundle/nested" </dev/null >"$work/console" 2>&1; then
        wrong "it was created"
    fi
    rmdir "$engine"
    grep -q "v1 can only be mounted on the host itself, in the initial cgroup namespace" "$work/console" ||
        wrong "it was refused in other words: $(cat "$work/console")"
    remove_bundle nested
    finish
}

[ $# != 0 ] || wrong "say what: limits, memory, layouts"
hooked_docker
for each; do
    case $each in
    limits) limits ;;
    memory) memory ;;
    layouts) layouts ;;
    *) wrong "there is no $each" ;;
    esac
done
all_passed
