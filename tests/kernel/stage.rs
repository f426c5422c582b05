// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that a state is refused if it doesn't match the namespaces from which runtimes call hooks, so that nothing
//! is mounted outside a container.

use std::fs;

use rustix::mount::{MountFlags, UnmountFlags, unmount};
use serde_json::{Value, json};

use crate::Check;
use crate::bundle::{Bundle, Cgroup, bind, with_bundle};
use crate::hook::{Finished, How};
use crate::namespace::Realm;
use crate::runtime::Container;

/// A runtime whose child is the hook. The state may contain the PID of either, or that of a process
/// in another mount namespace.
const RUNTIME: &str = r#"runtime=$$ sh -c 'sed "s/\"@RUNTIME\"/$runtime/; s/\"@HOOK\"/$$/" >"$STATE"; exec "$0" "$@" <"$STATE"' "$0" "$@"; exit"#;

/// The PIDs that a runtime, or a user who calls the hook manually, may write into the state. An empty one stands
/// for a missing field.
const PIDS: [&str; 13] = [
    "",
    "null",
    "0",
    "-5",
    "1",
    r#""@RUNTIME""#,
    r#""@HOOK""#,
    r#""@OTHER""#,
    "4194304",
    "99999999",
    "99999999999",
    "9223372036854775808",
    "1.5",
];

const WORDS: [Option<&str>; 4] = [None, Some("createRuntime"), Some("createContainer"), Some("prestart")];

const STATUSES: [&str; 3] = ["creating", "created", "running"];

/// The namespaces that distinguish a container from its runtime.
const NAMESPACES: [&[&str]; 4] = [&["mount", "pid"], &["mount", "ipc"], &["mount", "uts", "cgroup"], &["mount"]];

/// The runtime may have a private mount namespace that isn't that of process 1, and in which the
/// root is also mounted.
pub fn bad_states(realm: Realm) -> Check {
    let cases = NAMESPACES.into_iter().flat_map(|kinds| WORDS.into_iter().map(move |word| (kinds, word)));
    crate::all(cases.map(|(kinds, word)| {
        let each =
            || PIDS.into_iter().map(|pid| (pid, with_bundle(realm, |bundle| is_refused(bundle, kinds, word, pid))));
        (format!("{kinds:?}, {word:?}"), crate::all(each()))
    }))
}

fn is_refused(bundle: &mut Bundle, kinds: &[&str], word: Option<&str>, pid: &str) -> Check {
    let other = Container::start_as(bundle, as_engines_mount)?;
    as_engines_mount(bundle);
    // Each kind of evidence must be sufficient by itself: the container's own namespaces, or the mounts for it.
    if !matches!(kinds, ["mount"] | ["mount", "uts", ..]) {
        bundle.config["mounts"] = json!([]);
    }
    has_namespaces(bundle, kinds);
    let watch = bundle.watch();
    let before = other.mounts();
    // Not all combinations are tested, since the status has no effect.
    let status = STATUSES[pid.len() % STATUSES.len()];
    let finished = by_runtime(bundle, RUNTIME, status, &pid.replace(r#""@OTHER""#, &other.id().to_string()), word)?;
    let is_own = [r#""@RUNTIME""#, r#""@HOOK""#].contains(&pid) && matches!(word, Some("createRuntime" | "prestart"));
    let words = if is_own { &["the mount namespace of this process"][..] } else { &[] };
    finished.refused(words).map_err(|message| format!("pid {pid:?}: {message}"))?;
    ensure!(before == other.mounts(), "pid {pid:?}: something was mounted for the other process");
    watch.everything(bundle).and_then(|()| watch.image(bundle)).map_err(|message| format!("pid {pid:?}: {message}"))
}

/// Engines mount the root before a container exists. The root alone would look like a container that
/// needs no cgroup mount.
fn as_engines_mount(bundle: &mut Bundle) {
    bind(&bundle.image(""), &bundle.root(""));
    bundle.config["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
    bundle.write_config();
}

fn has_namespaces(bundle: &mut Bundle, kinds: &[&str]) {
    bundle.config["linux"]["namespaces"] = kinds.iter().map(|kind| json!({"type": kind})).collect();
    bundle.write_config();
}

/// Calls the hook through a shell script.
fn by_runtime(bundle: &Bundle, script: &str, status: &str, pid: &str, word: Option<&str>) -> Result<Finished, String> {
    let mut state = bundle.state.clone();
    state["status"] = json!(status);
    let mut state = state.to_string();
    if !pid.is_empty() {
        // The PID is inserted as a string, since serde_json can't represent some of these numbers.
        state.insert_str(1, &format!(r#""pid":{pid},"#));
    }
    let script = script.replace("$STATE", bundle.host("../state").to_str().unwrap());
    let under = ["sh".to_owned(), "-c".to_owned(), script];
    bundle.call(state.as_bytes(), &How { under: &under, word, ..How::default() })
}

/// A PID namespace alone doesn't indicate a container.
pub fn with_runtime(realm: Realm) -> Check {
    const SCRIPT: &str = r#"unshare --pid --fork --kill-child -- sh -c '"$0" "$@"; exit' "$0" "$@"; exit"#;
    with_bundle(realm, |bundle| {
        as_engines_mount(bundle);
        bundle.config["mounts"] = json!([]);
        has_namespaces(bundle, &["mount", "pid"]);
        let watch = bundle.watch();
        for word in [None, Some("createContainer")] {
            by_runtime(bundle, SCRIPT, "creating", "1", word)?.refused(&["in the mount namespace of process"])?;
        }
        watch.everything(bundle)?;
        watch.image(bundle)
    })
}

/// Tests the mount namespace of process 1, which is the host's, or that of a container in which an engine runs. The
/// runtime's caller may be in yet another one.
pub fn with_process_1(realm: Realm) -> Check {
    const INIT: &str = "unshare --pid --fork --kill-child --mount-proc --propagation unchanged -- sh -c";
    let cases = [
        ("createContainer", format!(r#"{INIT} '"$0" "$@"; exit' "$0" "$@"; exit"#)),
        (
            "createRuntime",
            format!(
                r#"{INIT} 'mkfifo "$STATE-alive"; cat "$STATE-alive" & exec 4>"$STATE-alive"; sed "s/\"@FIRST\"/$!/" >"$STATE"
                unshare --mount --propagation unchanged -- "$0" "$@" <"$STATE"; exit' "$0" "$@"; exit"#
            ),
        ),
    ];
    crate::all(cases.into_iter().map(|(word, script)| {
        let check = |bundle: &mut Bundle| {
            as_engines_mount(bundle);
            bundle.config["mounts"] = json!([]);
            has_namespaces(bundle, &["mount"]);
            let watch = bundle.watch();
            let pid = if word == "createRuntime" { r#""@FIRST""# } else { "0" };
            by_runtime(bundle, &script, "creating", pid, Some(word))?.refused(&["process 1"])?;
            watch.everything(bundle)?;
            watch.image(bundle)
        };
        (word, with_bundle(realm, check))
    }))
}

/// The root isn't a mount point, because no runtime has prepared anything.
pub fn no_root(realm: Realm) -> Check {
    crate::all(WORDS.into_iter().map(|word| {
        let check = |bundle: &mut Bundle| {
            bundle.config["root"]["path"] = json!(bundle.image(""));
            bundle.config["mounts"] = json!([]);
            bundle.config["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
            bundle.write_config();
            let other = Container::start_as(bundle, |_| {})?;
            let watch = bundle.watch();
            for pid in ["0".to_owned(), other.id().to_string()] {
                by_runtime(bundle, RUNTIME, "creating", &pid, word)?.refused(&[])?;
            }
            watch.everything(bundle)?;
            watch.image(bundle)
        };
        (format!("{word:?}"), with_bundle(realm, check))
    }))
}

/// The commands that start the container's first process, which calls the hook, with or without a PID namespace, a
/// user namespace and another program in between. Each case has the namespaces in config.json, and the process's PID
/// in its own namespace.
const INSIDE: [(&str, &[&str], &str); 5] = [
    (r#"exec sh "$FIRST" "$0" "$@""#, &["mount"], r#""@FIRST""#),
    (
        r#"unshare --pid --fork --kill-child -- unshare --mount --propagation unchanged -- sh "$FIRST" "$0" "$@"; exit"#,
        &["mount", "pid"],
        "1",
    ),
    (
        r#"unshare --pid --fork --kill-child -- unshare --mount --ipc --uts --propagation unchanged -- sh "$FIRST" sh -c '"$0" "$@"; exit' "$0" "$@"; exit"#,
        &["mount", "pid", "ipc", "uts"],
        "1",
    ),
    (
        r#"unshare --user --map-root-user --mount --propagation unchanged -- sh "$FIRST" "$0" "$@"; exit"#,
        &["mount", "user"],
        "0",
    ),
    (
        r#"unshare --pid --fork --kill-child -- unshare --user --map-root-user --mount --propagation unchanged -- sh "$FIRST" "$0" "$@"; exit"#,
        &["mount", "user", "pid"],
        "1",
    ),
];

/// The states that runtimes write at createContainer are accepted if the hook is in the right place.
pub fn inside(realm: Realm) -> Check {
    let words = [None, Some("createContainer")];
    let cases = INSIDE.into_iter().flat_map(|case| words.into_iter().map(move |word| (case, word)));
    crate::all(cases.map(|((script, kinds, own), word)| {
        let check = || {
            for pid in [own, "0", ""] {
                with_bundle(realm, |bundle| is_prepared(bundle, script, kinds, word, pid))
                    .map_err(|message| format!("pid {pid:?}: {message}"))?;
            }
            Ok(())
        };
        (format!("{kinds:?}, {word:?}"), check())
    }))
}

fn is_prepared(bundle: &mut Bundle, script: &str, kinds: &[&str], word: Option<&str>, pid: &str) -> Check {
    // There is no cgroup namespace and no cgroup mount, since the user namespace would have to own them.
    bundle.start(Cgroup::Nowhere);
    has_namespaces(bundle, kinds);
    // The first process must see what the hook mounts, even if this process doesn't.
    let first = bundle.host("../first");
    fs::write(&first, "\"$@\"; code=$?; [ -d run/host ] || echo 'nothing is mounted on /run' >&2; exit $code").unwrap();
    let script = script.replace("$FIRST", first.to_str().unwrap());
    let script = format!(r#"sed "s/\"@FIRST\"/$$/" >"$STATE"; exec <"$STATE"; {script}"#);
    let finished = by_runtime(bundle, &script, "creating", pid, word)?;
    // The hook warns that the user namespace has only one ID.
    finished.in_order()?;
    ensure!(finished.code == Some(0), "{finished:?}");
    Ok(())
}

/// If /proc hides the runtime from the container's root user, nothing is mounted.
pub fn hidden_runtime(realm: Realm) -> Check {
    const IN_USER_NAMESPACE: &str =
        r#"unshare --user --map-root-user --mount --propagation unchanged -- sh -c '"$0" "$@"; exit' "$0" "$@"; exit"#;
    if realm == Realm::User {
        // The mounts on its /proc are locked, so another user namespace can't mount a /proc that uncovers them.
        return Ok(());
    }
    with_bundle(realm, |bundle| {
        bundle.start(Cgroup::Nowhere);
        has_namespaces(bundle, &["mount", "user"]);
        let watch = bundle.watch();
        // Without `gid`, root would be in the group that sees all processes.
        rustix::mount::mount("proc", "/proc", "proc", MountFlags::empty(), c"hidepid=2,gid=4294").unwrap();
        let finished = by_runtime(bundle, IN_USER_NAMESPACE, "creating", "0", None);
        unmount("/proc", UnmountFlags::DETACH).unwrap();
        finished?.refused(&["cannot prove", "createRuntime instead", "/proc/"])?;
        watch.everything(bundle)?;
        watch.image(bundle)
    })
}

/// An engine in a user namespace with the host's IDs, as systemd's `PrivateUsers=full` creates it. Its runtime is in
/// the same user namespace, with a private mount namespace.
const FULL: &str = r#"exec 3<&0
unshare --user --mount --propagation unchanged -- sh -c 'until grep -q 4294967295 /proc/self/gid_map; do :; done; @RUN' "$0" "$@" <&3 &
until [ "$(readlink /proc/$!/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do :; done
echo "0 0 4294967295" >/proc/$!/uid_map
echo "0 0 4294967295" >/proc/$!/gid_map
wait $!"#;

/// The stages at which the runtime in this namespace calls the hook, with the shell commands for it.
const FULL_STAGES: [(&str, &str); 2] = [
    ("createContainer", r#"unshare --mount --propagation unchanged -- "$0" "$@"; exit"#),
    (
        "createRuntime",
        r#"mkfifo "$STATE-alive"; unshare --mount --propagation unchanged -- cat "$STATE-alive" & exec 4>"$STATE-alive"; own=$(readlink /proc/self/ns/mnt); until its=$(readlink /proc/$!/ns/mnt) && [ "$its" != "$own" ]; do :; done; sed "s/\"@FIRST\"/$!/" >"$STATE"; "$0" "$@" <"$STATE"; exit"#,
    ),
];

/// In such a namespace the hook doesn't try anything that only the host's root may do, and it stores the record where
/// poststop looks for it.
pub fn hosts_ids(realm: Realm) -> Check {
    if realm == Realm::User {
        return Ok(());
    }
    crate::all(FULL_STAGES.into_iter().map(|(word, run)| (word, with_bundle(realm, |bundle| full(bundle, word, run)))))
}

fn full(bundle: &mut Bundle, word: &str, run: &str) -> Check {
    fs::remove_file(bundle.image("etc/machine-id")).unwrap();
    let log = bundle.elsewhere("strace").join("log");
    bundle.start(Cgroup::Nowhere);
    has_namespaces(bundle, &["mount"]);
    let traced = format!(r#"strace -f -qq -e trace=mknod,mknodat -o {} "$0" "$@""#, log.display());
    let script = FULL.replace("@RUN", &run.replace(r#""$0" "$@""#, &traced));
    let pid = if word == "createRuntime" { r#""@FIRST""# } else { "0" };
    by_runtime(bundle, &script, "creating", pid, Some(word))?.silently()?;
    let tried = fs::read_to_string(&log).unwrap();
    ensure!(!tried.contains("S_IFCHR") && !tried.contains("S_IFBLK"), "it tried to make devices: {tried}");
    // Sockets and FIFOs can be created there.
    ensure!(tried.contains("S_IFIFO"), "nothing was traced: {tried}");
    ensure!(bundle.records().is_dir(), "there is no record");
    bundle.poststop()?.silently()?;
    ensure!(!bundle.records().exists() && !bundle.image("etc/machine-id").exists(), "not everything was undone");
    Ok(())
}

/// A hierarchy can't be created in this namespace, and the hook reports this before it tries anything.
pub fn hosts_ids_and_cgroup(realm: Realm) -> Check {
    if realm == Realm::User {
        return Ok(());
    }
    with_bundle(realm, |bundle| {
        bundle.config["annotations"] = json!({"oci-systemd-hook.cgroup": "legacy"});
        bundle.config["hooks"] = json!({"poststop": [{"path": crate::hook::program()}]});
        bundle.start(Cgroup::Mounted);
        bundle.config["process"]["capabilities"]["bounding"] = Value::Array(Vec::new());
        has_namespaces(bundle, &["mount"]);
        let watch = bundle.watch();
        let (word, run) = FULL_STAGES[1];
        let script = FULL.replace("@RUN", run);
        let finished = by_runtime(bundle, &script, "creating", r#""@FIRST""#, Some(word))?;
        finished.refused(&["only the host's root can create one"])?;
        watch.everything(bundle)
    })
}
