// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Each folder of tests/cases is a world: what a container and its host look like as text, and the
//! plan for it. A new case is a new folder; contrib/HACKING.md says what may be in it.
//!
//! `UPDATE_EXPECT=1` writes the expected plans anew. Read what it wrote.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use oci_systemd_hook::facts::options::Key;
use oci_systemd_hook::facts::selinux::{CgroupLabel, Confinement, Labelling};
use oci_systemd_hook::facts::{FollowUp, Found, Image, Making, Options, Rights, Selinux, Stage, Surroundings};
use oci_systemd_hook::gather::interpret::{self, Host, Sources};
use oci_systemd_hook::identity::MachineId;
use oci_systemd_hook::interface::{MANAGE_CGROUP, PATHS, USE_CAPABILITIES};
use oci_systemd_hook::kernel::selinux::Label;
use oci_systemd_hook::oci::config::Config;
use oci_systemd_hook::oci::state::State;
use oci_systemd_hook::path::InnerPath;
use oci_systemd_hook::plan::{Action, Plan};
use oci_systemd_hook::prepare::prepare;
use oci_systemd_hook::systemd::Version;

/// Where each case's root is, on the mount number 10.
const ROOT: &str = "/bundle/rootfs";
const ROOT_MOUNT: u64 = 10;
const STATE: &str = r#"{"id":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "status":"creating","pid":1,"bundle":"/bundle"}"#;

fn host() -> Host {
    Host {
        memory_bytes: 8 << 30,
        machine_id: MachineId::parse(&"a".repeat(32)),
        delegated: ["cgroup.procs", "memory.oom.group"].map(str::to_owned).into(),
        os_release: Some("ID=debian\nVERSION_ID=13\n".to_owned()),
    }
}

fn cases() -> Vec<std::path::PathBuf> {
    let mut cases: Vec<_> =
        fs::read_dir("tests/cases").unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    assert!(cases.len() >= 20, "the cases are gone");
    cases
}

fn facts(case: &Path) -> Surroundings {
    let text = |name: &str| fs::read_to_string(case.join(name)).ok();
    let state = State::parse(text("state.json").unwrap_or_else(|| STATE.to_owned()).as_bytes()).unwrap();
    let config = Config::parse(text("config.json").expect("config.json").as_bytes()).unwrap();
    let stage = match text("stage").as_deref().map(str::trim) {
        None => Stage::CreateContainer,
        Some("createRuntime") => Stage::CreateRuntime,
        Some(other) => panic!("stage {other}"),
    };
    let units = text("units").unwrap_or_default();
    let (id_map, stop_signal) = (text("id-map"), text("stop-signal"));
    let rights = text("rights").unwrap_or_default();
    let mountinfo = text("mountinfo").expect("mountinfo");
    let (cgroup, runtime_cgroup) = (text("cgroup").expect("cgroup"), text("runtime-cgroup"));
    let inside = text("cgroup-inside");
    let sources = Sources {
        stage,
        mountinfo: mountinfo.as_bytes(),
        root_path: Path::new(ROOT),
        root_mount: ROOT_MOUNT,
        cgroup: &cgroup,
        cgroup_inside: inside.as_deref().unwrap_or(&cgroup),
        runtime_cgroup: &|| runtime_cgroup.clone(),
        inside: &|at| fs::read_to_string(case.join("inside").join(at.below(&InnerPath::root()).unwrap())).ok(),
        owner_of: &|_| Some(if rights.contains("others own the limits") { 65534 } else { 0 }),
        follow_up: match (stage, text("follow-up").as_deref().map(str::trim)) {
            (_, None) => FollowUp::None,
            (Stage::CreateRuntime, Some("createContainer")) => FollowUp::CreateContainer,
            (_, Some(other)) => panic!("follow-up {other}"),
        },
        options: options(&text("options").unwrap_or_default()),
        making: match (stage, rights.contains("no poststop"), rights.contains("rootless")) {
            (Stage::CreateContainer, ..) => Making::Inside,
            (Stage::CreateRuntime, _, true) => Making::Rootless,
            (Stage::CreateRuntime, true, _) => Making::Forever,
            (Stage::CreateRuntime, false, false) => Making::Possible,
        },
        rights: Rights {
            over_mounts: !rights.contains("not over the mounts"),
            in_user_namespace: config.has_namespace("user") || rights.contains("in a user namespace"),
            lacking: Rights::USED
                .into_iter()
                .filter(|capability| rights.contains(&format!("no {capability}")))
                .collect(),
        },
        id_maps: [id_map.as_deref().unwrap_or("0 0 4294967295"); 2],
        stop_signal: stop_signal.as_deref().map(str::trim),
        has_unit: &|unit| units.lines().any(|line| line == unit),
        image: image(&text("image").expect("image")),
        systemd: text("systemd").map(|number| Version(number.trim().parse().expect("systemd"))),
        selinux: selinux(&config, text("selinux").as_deref()),
    };
    interpret::live(&state, &config, &host(), sources)
}

/// Lines of `KEY VALUE`, or `KEY` alone where the host doesn't let it count.
fn options(text: &str) -> Options {
    let mut options = Options::default();
    for line in text.lines() {
        let (name, value) = line.split_once(' ').map_or((line, None), |(name, value)| (name, Some(value)));
        let key = Key::parse(name).expect(line);
        match value {
            Some(value) => options.set(key, key.to_string(), value).expect(line),
            None => options.not_allowed.push(key.to_string()),
        }
    }
    options
}

/// What a policy answers, a line each; the labels are in config.json.
fn selinux(config: &Config, policy: Option<&str>) -> Selinux {
    let mount = config.linux.mount_label.as_deref().map(Label::parse);
    let Some(policy) = policy else { return Selinux::Off { has_label: mount.is_some() } };
    let mut labelling = Labelling::ByMount;
    let mut cgroup = CgroupLabel {
        label: Label::parse("system_u:object_r:cgroup_t:s0"),
        manageable: Some(true),
        manageable_if_labelled: Some(true),
        boolean: None,
    };
    let mut confinement = Confinement {
        enforcing: Some(true),
        process: config.process.selinux_label.as_deref().map(Label::parse),
        mount: None,
        files_writable: Some(true),
        cgroup: None,
        denied_capabilities: Vec::new(),
        capability_boolean: None,
    };
    for line in policy.lines() {
        match line {
            "enforcing" => {}
            "not built" => return Selinux::NotBuilt,
            "permissive" => confinement.enforcing = Some(false),
            "can't be asked" => {
                (confinement.enforcing, confinement.files_writable) = (None, None);
                (cgroup.manageable, cgroup.manageable_if_labelled) = (None, None);
            }
            "files: denied" => confinement.files_writable = Some(false),
            "cgroup: denied" => cgroup.manageable = Some(false),
            "cgroup: denied with the mount label" => cgroup.manageable_if_labelled = Some(false),
            "container_manage_cgroup: off" => cgroup.boolean = Some(MANAGE_CGROUP),
            "setuid: denied" => confinement.denied_capabilities.push("setuid"),
            "container_use_host_all_caps: off" => confinement.capability_boolean = Some(USE_CAPABILITIES[0]),
            "context=: EACCES" => labelling = Labelling::ByFile("fsconfig() = EACCES".to_owned()),
            "labels: EPERM" => labelling = Labelling::Refused("fsetfilecon() = EPERM".to_owned()),
            other => panic!("{other}"),
        }
    }
    confinement.mount = mount.map(|mount| (mount, labelling));
    confinement.cgroup = Some(cgroup);
    Selinux::On(Box::new(confinement))
}

/// Lines of `kind path`, or `kind path -> path` where links lead elsewhere.
fn image(text: &str) -> Image {
    let mut image = Image::default();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').expect(line);
        let (path, leads_to) = rest.split_once(" -> ").unwrap_or((rest, rest));
        let at = InnerPath::new(leads_to);
        let found = match kind {
            "dir" => Found::Directory(at),
            "empty" => Found::EmptyDirectory(at),
            "file" => Found::File(at),
            "none" => Found::Nothing(at),
            "fifo" => Found::Else(at, "a fifo"),
            "loop" => Found::Unreachable(format!("resolve({path:?}) = ELOOP")),
            other => panic!("{other} in {line}"),
        };
        image.insert(InnerPath::new(path), found);
    }
    // What a case doesn't say isn't there.
    let looked_at: Vec<_> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    for path in PATHS.into_iter().filter(|path| !looked_at.contains(path)) {
        let path = InnerPath::new(path);
        let found = image.below_nothing(&path).unwrap_or(Found::Nothing(path.clone()));
        image.insert(path, found);
    }
    image
}

fn printed(case: &Path) -> String {
    match prepare(&facts(case)) {
        Ok(plan) => plan.to_string(),
        Err(refusal) => format!("refused: {refusal}\n"),
    }
}

#[test]
fn each_case_has_its_plan() {
    let mut wrong = Vec::new();
    for case in cases() {
        let (path, got) = (case.join("expected.plan"), printed(&case));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, &got).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if got != expected {
            wrong.push(format!("--- {}\n{expected}--- but the plan is\n{got}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Parents first, nothing twice, and every moved mount below what it is moved onto.
#[test]
fn each_plan_is_in_order() {
    for case in cases() {
        let Ok(Plan { steps, .. }) = prepare(&facts(&case)) else { continue };
        let mut seen = BTreeSet::new();
        let mut mounted: Vec<&InnerPath> = Vec::new();
        for step in &steps {
            let line = step.to_string();
            assert!(seen.insert(step.action.to_string()), "{}: twice: {line}", case.display());
            if let Some(at) = step.action.mounts_at() {
                assert!(!mounted.iter().any(|other| other.is_below(at)), "{}: covers: {line}", case.display());
                mounted.push(at);
            }
            if let Action::MakeWritable { at } = &step.action {
                let whole =
                    steps.iter().any(|step| matches!(&step.action, Action::BindHost { at: host, .. } if host == at));
                assert!(!whole, "{}: the host's hierarchy: {line}", case.display());
            }
            if let Action::Tmpfs { at, keep, .. } = &step.action {
                assert!(keep.iter().all(|kept| kept.is_below(at)), "{}: {line}", case.display());
            }
        }
    }
}
