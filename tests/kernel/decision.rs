// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests for which containers the hook acts, and that it silently leaves all others alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mount::{UnmountFlags, unmount};
use serde_json::{Value, json};

use crate::Check;
use crate::bundle::{Bundle, Cgroup, ELF, tmpfs, with_bundle};
use crate::namespace::{Realm, isolated};
use crate::table;

/// The properties of a container that matter for the decision.
struct Case {
    args: &'static [&'static str],
    config: Option<&'static str>,
    state: Option<&'static str>,
    env: Option<&'static str>,
    /// Further annotations in config.json.
    more: &'static [(&'static str, &'static str)],
    is_ours: bool,
}

const fn run(args: &'static [&'static str], is_ours: bool) -> Case {
    Case { args, config: None, state: None, env: None, more: &[], is_ours }
}

const INIT: &[&str] = &["/sbin/init"];
const OTHER: &[&str] = &["nginx"];
const DISABLED: Option<&str> = Some("disabled");
const ENABLED: Option<&str> = Some("enabled");
/// The annotations that CRI-O writes for a container in a pod. [`SANDBOX`] is for the container that holds the pod.
const IN_POD: &[(&str, &str)] =
    &[("io.kubernetes.cri-o.ContainerType", "container"), ("io.kubernetes.container.name", "web")];
const FORCED: &[(&str, &str)] = &[
    ("io.kubernetes.cri-o.ContainerType", "container"),
    ("io.kubernetes.container.name", "web"),
    ("oci-systemd-hook/web", "enabled"),
];
const FORCED_BESIDE: &[(&str, &str)] = &[
    ("io.kubernetes.cri-o.ContainerType", "container"),
    ("io.kubernetes.container.name", "db"),
    ("oci-systemd-hook/web", "enabled"),
];
const SANDBOX: &[(&str, &str)] = &[("io.kubernetes.cri-o.ContainerType", "sandbox")];

const CASES: [Case; 51] = [
    run(INIT, true),
    run(&["/usr/lib/systemd/systemd"], true),
    run(&["/lib/systemd/systemd", "--system"], true),
    run(&["init"], true),
    run(&["systemd"], true),
    run(&["sbin/init"], true),
    run(&["/bin/sh", "-c", "exec /sbin/init"], true),
    run(&["/bin/sh", "-c", "exec /sbin/init --log-level=debug"], true),
    run(&["/bin/bash", "-ec", "exec init"], true),
    run(&["/sbin/../sbin/init"], true),
    run(OTHER, false),
    run(&["/init"], false),
    run(&["/script/init"], false),
    run(&["/script/systemd/systemd"], false),
    run(&["/copy/init"], false),
    run(&["/dev/init"], false),
    run(&["/nowhere/init"], false),
    run(&["/srv/inside/init"], false),
    run(&["/usr/lib/systemd/systemd-journald"], false),
    run(&["/bin/sh", "-c", "/sbin/init"], false),
    run(&["/bin/sh", "-c", "exec /sbin/init; true"], false),
    run(&["/bin/sh", "-c", "sleep 1 && exec /sbin/init"], false),
    run(&["/bin/sh", "-c", "exec $INIT"], false),
    run(&["/usr/bin/env", "/sbin/init"], false),
    run(&[""], false),
    run(&["/"], false),
    Case { config: ENABLED, ..run(OTHER, true) },
    Case { state: ENABLED, ..run(OTHER, true) },
    Case { config: ENABLED, ..run(&["/init"], true) },
    Case { config: DISABLED, ..run(INIT, false) },
    Case { state: DISABLED, ..run(INIT, false) },
    Case { env: DISABLED, ..run(INIT, false) },
    Case { env: DISABLED, config: ENABLED, ..run(INIT, false) },
    Case { env: DISABLED, state: ENABLED, ..run(OTHER, false) },
    Case { config: DISABLED, state: ENABLED, ..run(INIT, false) },
    Case { config: ENABLED, state: DISABLED, ..run(INIT, false) },
    Case { env: Some(""), ..run(INIT, true) },
    Case { env: ENABLED, ..run(OTHER, false) },
    Case { more: IN_POD, ..run(INIT, true) },
    Case { more: IN_POD, config: ENABLED, ..run(INIT, true) },
    Case { more: IN_POD, config: ENABLED, ..run(OTHER, false) },
    Case { more: IN_POD, config: ENABLED, ..run(&["/init"], false) },
    Case { more: IN_POD, ..run(&["/usr/bin/pid1"], false) },
    Case { more: IN_POD, config: ENABLED, ..run(&["/usr/bin/pid1"], true) },
    Case { more: IN_POD, config: DISABLED, ..run(INIT, false) },
    Case { more: FORCED, ..run(OTHER, true) },
    Case { more: FORCED, config: DISABLED, ..run(OTHER, true) },
    Case { more: FORCED_BESIDE, ..run(OTHER, false) },
    Case { more: SANDBOX, ..run(INIT, false) },
    Case { more: SANDBOX, config: ENABLED, ..run(INIT, false) },
    // Even an invalid value doesn't keep a pod from starting.
    Case { more: SANDBOX, config: Some("yes"), ..run(&[], false) },
];

pub fn all(realm: Realm) -> Check {
    crate::all(CASES.iter().map(|case| {
        let Case { args, config, state, env, more, .. } = case;
        let name = format!("{args:?}, config {config:?}, state {state:?}, environment {env:?}, {more:?}");
        (name, with_bundle(realm, |bundle| check(bundle, case)))
    }))
}

fn check(bundle: &mut Bundle, case: &Case) -> Check {
    furnish(bundle);
    bundle.config["process"]["args"] = json!(case.args);
    if let Some(value) = case.config {
        bundle.config["annotations"]["oci-systemd-hook"] = json!(value);
    }
    for (key, value) in case.more {
        bundle.config["annotations"][*key] = json!(value);
    }
    if let Some(value) = case.state {
        bundle.state["annotations"]["oci-systemd-hook"] = json!(value);
    }
    if let (Some(value), Value::Array(env)) = (case.env, &mut bundle.config["process"]["env"]) {
        env.push(json!(format!("oci-systemd-hook={value}")));
    }
    bundle.start(Cgroup::Mounted);
    let watch = bundle.watch();
    let finished = bundle.create()?;
    finished.silently()?;
    if case.is_ours {
        ensure!(table::at(&bundle.root("run")).is_some(), "the container was skipped");
        watch.image(bundle)
    } else {
        watch.everything(bundle)?;
        watch.image(bundle)
    }
}

/// Creates programs with names like that of an init, and names for systemd.
fn furnish(bundle: &Bundle) {
    const SCRIPT: &str = "#!/bin/sh\nexec s6-svscan\n";
    for directory in ["script/systemd", "copy"] {
        fs::create_dir_all(bundle.image(directory)).unwrap();
    }
    for path in ["init", "script/init", "script/systemd/systemd"] {
        fs::write(bundle.image(path), SCRIPT).unwrap();
    }
    fs::write(bundle.image("copy/init"), ELF).unwrap();
    fs::write(bundle.image("dev/init"), ELF).unwrap();
    fs::write(bundle.image("usr/lib/systemd/systemd-journald"), ELF).unwrap();
    symlink("usr/lib", bundle.image("lib")).unwrap();
    for link in ["usr/bin/systemd", "usr/bin/pid1"] {
        symlink("../lib/systemd/systemd", bundle.image(link)).unwrap();
    }
}

/// For a container that the hook leaves alone, neither its root nor anything else has to exist.
pub fn nothing_is_opened(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        bundle.config["process"]["args"] = json!(OTHER);
        bundle.config["root"]["path"] = json!("nowhere");
        bundle.config["mounts"] = json!("not even read");
        bundle.write_config();
        let watch = bundle.watch();
        bundle.create()?.silently()?;
        watch.everything(bundle)
    })
}

/// While other processes mount, openat2(2) fails with EAGAIN and must be repeated. The hook must not mistake this for
/// an image without systemd.
pub fn while_others_mount(realm: Realm) -> Check {
    const CALLS: u32 = 40;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                isolated(|| {
                    let place = crate::bundle::BASE.get().unwrap();
                    while !done.load(Ordering::Relaxed) {
                        tmpfs(place, "mode=755");
                        unmount(place, UnmountFlags::DETACH).unwrap();
                    }
                    Ok(())
                })
            });
        }
        let result = (0..CALLS).try_for_each(|call| {
            with_bundle(realm, |bundle| {
                bundle.start(Cgroup::Mounted);
                bundle.create()?.silently()?;
                ensure!(table::at(&bundle.root("run")).is_some(), "the container was skipped");
                Ok(())
            })
            .map_err(|message| format!("call {call}: {message}"))
        });
        done.store(true, Ordering::Relaxed);
        result
    })
}
