// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random worlds: images that link and mount across each other, cgroups of every layout, odd names. Each plan keeps the
//! rules that the cases' plans keep, and what it makes is what the next run wants.
//!
//! A world that fails is printed as the files of a case, see contrib/HACKING.md. `WORLDS=N` is for more of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::cell::Cell;
use std::fmt::Write;

use oci_systemd_hook::kernel::cgroup::Hierarchy;
use oci_systemd_hook::path::InnerPath;
use oci_systemd_hook::plan::{Action, Plan};
use oci_systemd_hook::prepare::prepare;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestError, TestRunner};
use serde_json::json;

use self::model::{File, FileSystem, HOSTS_TMPFS, Member, Model, cgroup_line, file_system_of};
use self::world::rules;

#[path = "world/model.rs"]
mod model;
mod world;

/// So many are a matter of seconds.
const WORLDS: u32 = 2000;

/// Where things are, and where links lead: on what plans are about, above and below it, and beside it. Not on
/// /run/host/inaccessible itself: where that is a link that leads nowhere, the step that makes it fails each time.
const PLACES: [&str; 31] = [
    "/run",
    "/run/lock",
    "/run/lock/below",
    "/run/host",
    "/run/host/container-uuid",
    "/run/host/os-release",
    "/run/host/inaccessible/reg",
    "/run/systemd",
    "/run/systemd/system",
    "/run/systemd/system/console-getty.service",
    "/run/secrets",
    "/run/two\nlines",
    "/run/machine-id",
    "/runner",
    "/tmp",
    "/tmp/run",
    "/tmp/lock",
    "/var",
    "/var/run",
    "/var/lock",
    "/var/tmp",
    "/var/log",
    "/var/log/journal",
    "/var/lib/dbus",
    "/var/lib/dbus/machine-id",
    "/var/log/journal/deep",
    "/etc",
    "/etc/machine-id",
    "/srv",
    "/srv/two\nlines",
    "/srv/machine-id",
];

/// Something that is in the container before the hook comes.
#[derive(Debug, Clone)]
enum Thing {
    File(&'static str, File),
    Mount { at: &'static str, kind: &'static str, is_hosts: bool, read_only: bool, shared: bool },
}

/// Who links from a directory to what is to be a file, or the other way round, harms only himself: where the hook makes
/// both, one of its steps fails.
fn mixes_up(at: &str, file: &File) -> bool {
    let is_file = |at: &str| ["-id", "-uuid", "-release", "service"].iter().any(|end| at.ends_with(end));
    match file {
        File::Link(target) => {
            let target = target.as_path().to_string_lossy();
            // These are made by steps of their own, and the journal's directory is to be the image's.
            let is_made = target.starts_with("/run/host/") || target.ends_with("service");
            is_file(at) != is_file(&target) || is_made || target.starts_with("/var/log/journal/")
        }
        _ => false,
    }
}

fn thing() -> impl Strategy<Value = Thing> {
    let place = || select(&PLACES[..]);
    let file = prop_oneof![
        6 => Just(File::Directory),
        2 => Just(File::Regular),
        1 => Just(File::Else),
        4 => place().prop_map(|target| File::Link(InnerPath::new(target))),
    ];
    let mount = (place(), select(&["tmpfs", "ext4", "nfs"][..]), any::<bool>(), any::<bool>(), any::<bool>());
    prop_oneof![
        3 => (place(), file).prop_filter("a mixed-up link", |(at, file)| !mixes_up(at, file))
            .prop_map(|(at, file)| Thing::File(at, file)),
        1 => mount.prop_map(|(at, kind, is_hosts, read_only, shared)| Thing::Mount { at, kind, is_hosts, read_only, shared }),
    ]
}

/// What there is of cgroups.
#[derive(Debug, Clone)]
struct Cgroups {
    mounted: &'static [(Hierarchy, &'static str)],
    known: Vec<Hierarchy>,
    own: &'static str,
    inside: &'static str,
    mount_root: &'static str,
    read_only: bool,
    runtimes: Option<&'static str>,
    host_mount: Option<&'static str>,
}

fn cgroups() -> impl Strategy<Value = Cgroups> {
    use Hierarchy::{Memory, Systemd, Unified};
    const LAYOUTS: [&[(Hierarchy, &str)]; 4] = [
        &[],
        &[(Unified, "")],
        &[(Systemd, "/systemd"), (Memory, "/memory")],
        &[(Systemd, "/systemd"), (Unified, "/unified")],
    ];
    const PATHS: [&str; 4] = ["/", "/ctr", "/ctr/c1", "/../x"];
    // The same cgroup as the host has it, and from the root of the container's own namespace.
    const OWN: [(&str, &str); 8] = [
        ("/", "/"),
        ("/ctr", "/"),
        ("/ctr/c1", "/"),
        ("/ctr/c1", "/c1"),
        ("/ctr/c1", "/ctr/c1"),
        ("/ctr/c1", "/../x"),
        ("/../x", "/"),
        ("/../x", "/../x"),
    ];
    let runtimes = proptest::option::of(select(&PATHS[..]));
    // One has a name that is no text.
    let host_mount = proptest::option::of(select(&["/sys/fs/cgroup", "/mnt/a\\012b\\377"][..]));
    // Mostly the container's own cgroup is mounted.
    let mount_root = prop_oneof![9 => Just(None), 1 => select(&PATHS[..]).prop_map(Some)];
    let paths = (select(&OWN[..]), mount_root, runtimes);
    let all = vec![Unified, Systemd, Memory];
    let known = prop_oneof![9 => Just(all.clone()), 1 => subsequence(all, 1..=3)];
    (select(&LAYOUTS[..]), known, paths, host_mount, any::<bool>()).prop_map(
        |(mounted, known, ((own, inside), mount_root, runtimes), host_mount, read_only)| Cgroups {
            mounted,
            known,
            own,
            inside,
            mount_root: mount_root.unwrap_or(own),
            read_only,
            runtimes,
            host_mount,
        },
    )
}

/// The files of a case beside those about files, mounts and cgroups; and whether the container is in another cgroup
/// namespace than the hook, so that the two see other paths.
fn texts() -> impl Strategy<Value = (world::World, bool)> {
    let namespaces = subsequence(vec!["pid", "mount", "cgroup", "user", "network"], 0..=5);
    let bounding = subsequence(vec!["CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_SETUID", "CAP_SYS_CHROOT", "CAP_NEW"], 1..=5);
    let env = subsequence(
        vec!["container=docker", "container=a\u{1b}b", "container_uuid=no\nid", "container_uuid=", "LANG=C", "odd"],
        0..=4,
    );
    let labels = subsequence(
        vec![
            ("mountLabel", json!("system_u:object_r:container_file_t:s0:c1,c2")),
            ("mountLabel", json!("u:r:t\nwarn:s0")),
            ("cgroupsPath", json!("/ctr/c1")),
            ("rootfsPropagation", json!("shared")),
            ("uidMappings", json!([{"containerID": 0, "hostID": 100_000, "size": 65536}])),
        ],
        0..=5,
    );
    let mount = (select(&["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/run"][..]), select(&["ro", "rw"][..]))
        .prop_map(|(at, option)| json!({"destination": at, "type": "cgroup", "options": [option]}));
    let mounts = prop::collection::vec(mount, 0..2);
    let config = (namespaces, bounding, env, labels, mounts, any::<(bool, bool)>()).prop_map(
        |(namespaces, bounding, env, labels, mounts, (terminal, readonly))| {
            let is_private = namespaces.contains(&"cgroup");
            let namespaces: Vec<_> = namespaces.iter().map(|kind| json!({ "type": kind })).collect();
            let mut linux = serde_json::Map::new();
            linux.extend(labels.into_iter().map(|(name, value)| (name.to_owned(), value)));
            linux.insert("namespaces".to_owned(), json!(namespaces));
            let label = "system_u:system_r:container_t:s0:c1,c2";
            let process = json!({"args": ["/sbin/init"], "env": env, "terminal": terminal,
                "capabilities": {"bounding": bounding}, "selinuxLabel": label});
            let root = json!({"path": "rootfs", "readonly": readonly});
            let config = json!({"process": process, "root": root, "mounts": mounts, "linux": linux});
            (config.to_string(), is_private)
        },
    );
    let state = select(&[r#"{"id":"web","bundle":"/bundle"}"#, r#"{"id":"c","bundle":"/bundle","root":"rootfs"}"#][..]);
    let options = subsequence(
        vec![
            "cgroup legacy",
            "cgroup unified",
            "cgroup/two\\nlines hybrid",
            "run-size/two\\nlines 64m",
            "run-size 100%",
            "tmp-size 9999g",
            "journal-size/two\\nlines",
        ],
        0..=1,
    );
    let policy = subsequence(
        vec![
            "permissive",
            "can't be asked",
            "files: denied to the level",
            "files: denied to the type",
            "cgroup: denied",
            "context=: EACCES",
            "labels: EPERM",
        ],
        0..=3,
    );
    let rights =
        subsequence(vec!["no poststop", "rootless", "no CAP_MKNOD", "no CAP_CHOWN", "others own the limits"], 0..=2);
    let number = select(&[219, 229, 245, 256, 258, 262][..]);
    let of = proptest::option::of::<BoxedStrategy<String>>;
    let lines = |lines: Vec<&str>| lines.join("\n");
    (
        (config, state, options.prop_map(lines), rights.prop_map(lines)),
        of(policy.prop_map(lines).boxed()),
        of(number.prop_map(|number: u32| number.to_string()).boxed()),
        of(Just("createRuntime".to_owned()).boxed()),
        of(Just("SIGTERM\u{1b}\nx".to_owned()).boxed()),
    )
        .prop_map(|(((config, is_private), state, options, rights), policy, systemd, stage, stop_signal)| {
            let is_elsewhere = is_private && stage.is_some();
            let mut texts = world::World::default();
            let fixed =
                [("config.json", config), ("state.json", state.to_owned()), ("options", options), ("rights", rights)];
            let free = [("selinux", policy), ("systemd", systemd), ("stage", stage), ("stop-signal", stop_signal)];
            let free = free.into_iter().filter_map(|(name, text)| Some((name, text?)));
            for (name, text) in fixed.into_iter().chain(free) {
                texts.set(name, text);
            }
            (texts, is_elsewhere)
        })
}

fn model() -> impl Strategy<Value = Model> {
    (texts(), cgroups(), prop::collection::vec(thing(), 0..12)).prop_map(
        |((texts, is_elsewhere), mut cgroups, things)| {
            if !is_elsewhere {
                cgroups.inside = cgroups.own;
            }
            let mut model = Model::new();
            model.texts = texts;
            for path in ["/run/lock", "/tmp", "/var/log", "/etc"].into_iter().skip(things.len() % 2 * 3) {
                model.make(&InnerPath::new(path), File::Directory);
            }
            for (number, thing) in (50..).zip(things) {
                match thing {
                    Thing::File(at, file) => model.make(&InnerPath::new(at), file),
                    Thing::Mount { at, kind, is_hosts, read_only, shared } => {
                        let device = if is_hosts { HOSTS_TMPFS } else { number };
                        let file_system = FileSystem { kind, device, options: "rw" };
                        model.mount(&InnerPath::new(at), file_system, "/", read_only, shared);
                    }
                }
            }
            add_cgroups(&mut model, &cgroups);
            model
        },
    )
}

fn add_cgroups(model: &mut Model, cgroups: &Cgroups) {
    if let Some(at) = cgroups.host_mount {
        for (number, hierarchy) in (3..).zip([Hierarchy::Systemd, Hierarchy::Unified]) {
            let FileSystem { kind, device, options } = file_system_of(hierarchy);
            writeln!(model.host_mounts, "{number} 1 0:{device} / {at}/{kind} rw - {kind} {kind} {options}").unwrap();
        }
    }
    let base = InnerPath::new("/sys/fs/cgroup");
    if cgroups.mounted.len() > 1 {
        model.mount(&base, FileSystem { kind: "tmpfs", device: 44, options: "rw" }, "/", false, false);
    }
    for (hierarchy, at) in cgroups.mounted {
        let file_system = file_system_of(*hierarchy);
        model.mount(&base.join(at.trim_start_matches('/')), file_system, cgroups.mount_root, cgroups.read_only, false);
    }
    let member = |hierarchy: &Hierarchy| Member {
        hierarchy: *hierarchy,
        path: cgroups.own.to_owned(),
        inside: cgroups.inside.to_owned(),
    };
    model.members = cgroups.known.iter().map(member).collect();
    if let Some(path) = cgroups.runtimes {
        let lines = cgroups.known.iter().map(|hierarchy| cgroup_line(*hierarchy, path));
        model.texts.set("runtime-cgroup", lines.collect::<String>());
    }
}

/// Asks a question of many worlds, which answers with what is wrong; `true` stands for a world that counts.
fn of_all_worlds(question: impl Fn(&Model) -> Result<bool, String>) {
    let cases = std::env::var("WORLDS").map_or(WORLDS, |number| number.parse().expect("WORLDS"));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let counted = Cell::new(0);
    let mut runner = TestRunner::new(config);
    let result = runner.run(&model(), |model| {
        counted.set(counted.get() + u32::from(question(&model).map_err(TestCaseError::fail)?));
        Ok(())
    });
    if let Err(TestError::Fail(why, model)) = result {
        panic!("{why}\n{model:?}");
    }
    println!("{cases} worlds, {} of them with a plan", counted.get());
    assert!(counted.get() > cases / 5, "most worlds are refused, so little was asked");
}

#[test]
fn each_plan_keeps_the_rules() {
    of_all_worlds(|model| {
        let facts = model.world().facts()?;
        rules::broken(&facts).map_or_else(|| Ok(prepare(&facts).is_ok()), Err)
    });
}

/// A second plan gives away the same files and sets the same limit again, since the facts have neither owners nor
/// limits.
#[test]
fn a_second_run_has_nothing_to_do() {
    of_all_worlds(|model| {
        let Ok(plan) = prepare(&model.world().facts()?) else { return Ok(false) };
        let mut after = model.clone();
        after.apply(&plan);
        let again = prepare(&after.world().facts()?).map_err(|refusal| format!("{plan}then refused: {refusal}"))?;
        let is_again = |action: &Action| matches!(action, Action::Delegate { .. } | Action::LimitCgroups { .. });
        let is_done = |plan: &Plan| plan.steps.iter().all(|step| is_again(&step.action));
        if is_done(&again) { Ok(true) } else { Err(format!("{plan}and then\n{again}{after:?}")) }
    });
}
