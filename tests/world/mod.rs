// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A container and its host as text: the files of a case, which contrib/HACKING.md lists.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use oci_systemd_hook::facts::mounts::tmpfs_devices;
use oci_systemd_hook::facts::options::{CgroupsMax, Key, PREFIX, V1WithSysAdmin};
use oci_systemd_hook::facts::selinux::{CgroupLabel, Confinement, Files, Labeling};
use oci_systemd_hook::facts::{
    CgroupCreation, CgroupOwner, Engine, FollowUp, Found, Image, Mounts, Occupants, Options, Places, Rights, Selinux,
    Stage, Surroundings, UserNamespaces,
};
use oci_systemd_hook::gather::cgroups::{self, Evidence};
use oci_systemd_hook::gather::interpret::{asked_tmpfs, asked_units, interpret};
use oci_systemd_hook::gather::readings::{CgroupFiles, CgroupLook, CgroupPlace, Host, Readings};
use oci_systemd_hook::identity::MachineId;
use oci_systemd_hook::interface::{MANAGE_CGROUP, PATHS, USE_CAPABILITIES};
use oci_systemd_hook::kernel::cgroup::CgroupFile;
use oci_systemd_hook::kernel::memory;
use oci_systemd_hook::kernel::selinux::Label;
use oci_systemd_hook::kernel::statx::FileIdentity;
use oci_systemd_hook::oci::config::{Config, annotations};
use oci_systemd_hook::oci::document::Document;
use oci_systemd_hook::oci::state::State;
use oci_systemd_hook::path::InnerPath;
use oci_systemd_hook::systemd::Version;

pub mod rules;

/// The directory of the files that most cases have in common.
#[allow(dead_code)]
pub const DEFAULT: &str = "tests/cases/default";
/// The root of each container, which is a mount with the ID 10.
pub const ROOT: &str = "/bundle/rootfs";
pub const ROOT_MOUNT: u64 = 10;
const STATE: &str = r#"{"id":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "status":"creating","pid":1,"bundle":"/bundle"}"#;

/// The prefix of the line with a file's name, if all files are printed as one string.
const MARK: &str = "--- ";

/// The contents of the files by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World(BTreeMap<String, String>);

impl World {
    /// Reads a case's directory. Files that it doesn't have are taken from [`DEFAULT`].
    #[allow(dead_code)] // Not by all programs that this file is part of; so with the other functions.
    pub fn read(case: &Path) -> Self {
        let mut world = Self::default();
        for top in [Path::new(DEFAULT), case] {
            let mut directories = vec![top.to_owned()];
            while let Some(directory) = directories.pop() {
                for entry in fs::read_dir(directory).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        directories.push(path);
                    } else {
                        let name = path.strip_prefix(top).unwrap().to_str().unwrap();
                        world.set(name, fs::read_to_string(&path).unwrap());
                    }
                }
            }
        }
        world
    }

    /// Parses the output of [`Display`](fmt::Display).
    #[allow(dead_code)]
    pub fn parse(text: &str) -> Self {
        let mut world = Self::default();
        let mut name = None;
        for line in text.split_inclusive('\n') {
            if let Some(next) = line.strip_prefix(MARK) {
                name = Some(next.trim_end());
                world.set(next.trim_end(), "");
            } else if let Some(text) = name.and_then(|name| world.0.get_mut(name)) {
                text.push_str(line);
            }
        }
        world
    }

    pub fn set(&mut self, name: &str, text: impl Into<String>) {
        self.0.insert(name.to_owned(), text.into());
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn word(&self, name: &str) -> Option<&str> {
        self.get(name).map(str::trim)
    }

    /// Returns the facts that the hook determines from these files, or an error that names the invalid file.
    pub fn facts(&self) -> Result<Surroundings, String> {
        let text = |name: &str| self.get(name).ok_or_else(|| format!("there is no {name}"));
        let state =
            State::parse(self.get("state.json").unwrap_or(STATE).as_bytes()).map_err(|error| error.to_string())?;
        let document = Document::parse(text("config.json")?.into()).map_err(|error| error.to_string())?;
        let config = Config::of(&document).map_err(|error| error.to_string())?;
        let annotations = annotations(&document).map_err(|error| error.to_string())?;
        let stage = match self.word("stage") {
            None => Stage::CreateContainer,
            Some("createRuntime") => Stage::CreateRuntime,
            Some(other) => return Err(format!("stage {other}")),
        };
        let follow_up = match (stage, self.word("follow-up")) {
            (_, None) => FollowUp::None,
            (Stage::CreateRuntime, Some("createContainer")) => FollowUp::CreateContainer,
            (_, Some(other)) => return Err(format!("follow-up {other}")),
        };
        let systemd = match self.word("systemd") {
            Some(number) => Some(Version(number.parse().map_err(|error| format!("systemd {number}: {error}"))?)),
            None => None,
        };
        let rights = self.get("rights").unwrap_or_default();
        let mountinfo = text("mountinfo")?.as_bytes();
        let mut mounts = Mounts::read(mountinfo, Path::new(ROOT), ROOT_MOUNT);
        mounts.prove_own(&asked_tmpfs(&config), &tmpfs_devices(mountinfo));
        let image = image(text("image")?)?;
        let membership = CgroupFiles {
            container: CgroupFile::new(text("cgroup")?.to_owned()),
            inside: CgroupFile::new(self.get("cgroup-inside").unwrap_or(text("cgroup")?).to_owned()),
            runtime: self.get("runtime-cgroup").map(|text| CgroupFile::new(text.to_owned())),
        };
        let namespace = cgroups::namespace(&config, &membership.inside);
        let evidence = Evidence { config: &config, stage, namespace, mounts: &mounts, files: &membership };
        let look = |place: CgroupPlace| {
            let owner = if rights.contains("others own the limits") { 65534 } else { 0 };
            let occupants = match place.owner {
                CgroupOwner::Container => occupants(self.get("occupants").unwrap_or_default(), &place),
                CgroupOwner::Shared(_) => Occupants::Unknown,
            };
            let owner_of_limits = place.seen_at.as_ref().map(|_| owner);
            (place, CgroupLook { inode: None, occupants, room: None, owner_of_limits })
        };
        let inside = |at: InnerPath| memory::limit(self.get(&format!("inside{at}"))?);
        let units = self.get("units").unwrap_or_default();
        let readings = Readings {
            stage,
            host: host(),
            places: places(&mounts, &image, &cgroups::own(&mounts, &membership.inside)),
            namespace,
            cgroups: evidence.places(mountinfo, Path::new(ROOT)).into_iter().map(look).collect(),
            memory_limits: evidence.memory_limits().into_iter().filter_map(inside).collect(),
            follow_up,
            options: options(self.get("options").unwrap_or_default())?,
            creation: match (stage, rights.contains("no poststop"), rights.contains("rootless")) {
                (Stage::CreateContainer, ..) => CgroupCreation::InContainer,
                (Stage::CreateRuntime, _, true) => CgroupCreation::Rootless,
                (Stage::CreateRuntime, true, _) => CgroupCreation::NoPoststop,
                (Stage::CreateRuntime, false, false) => CgroupCreation::Possible,
            },
            rights: Rights {
                over_mounts: !rights.contains("not over the mounts"),
                user_namespaces: UserNamespaces {
                    hook: rights.contains("in a user namespace"),
                    container: config.has_namespace("user"),
                },
                lacking: Rights::USED
                    .into_iter()
                    .filter(|capability| rights.contains(&format!("no {capability}")))
                    .collect(),
            },
            id_maps: [self.get("id-map").unwrap_or("0 0 4294967295"); 2].map(str::to_owned),
            engine: Engine::of(|key| annotations.get(key).map(AsRef::as_ref), state.bundle().ok()),
            stop_signal: self.word("stop-signal").map(str::to_owned),
            units: asked_units(&config, systemd)
                .into_iter()
                .filter(|unit| units.lines().any(|line| line == *unit))
                .collect(),
            image,
            systemd,
            selinux: selinux(&config, self.get("selinux"))?,
            mounts,
            membership,
        };
        Ok(interpret(&state, &config, readings))
    }
}

/// Returns a file with a unique identity for each path of the image and of a mount, and for the directories above it.
fn places(mounts: &Mounts, image: &Image, cgroups: &[InnerPath]) -> Places {
    let found = image.all().filter_map(|(_, found)| match found {
        Found::Directory(at) | Found::EmptyDirectory(at) | Found::File(at) => Some(at.clone()),
        Found::Nothing(at) => missing_above(image, at),
        Found::Other(..) | Found::OnServer(_) | Found::Unreachable(_) => None,
    });
    let mut places = Places::default();
    for at in found.chain(mounts.all().map(|mount| mount.at.clone())).chain(cgroups.iter().cloned()) {
        for at in std::iter::successors(Some(at), InnerPath::parent) {
            let mount = mounts.holding(&at).map_or(0, oci_systemd_hook::facts::Mount::number);
            let inode = at.as_path().as_os_str().len() as u64;
            places.insert(at, FileIdentity { mount, device: 0, inode });
        }
    }
    places
}

/// Returns the nearest directory above a missing path that isn't known to be missing itself.
fn missing_above(image: &Image, at: &InnerPath) -> Option<InnerPath> {
    std::iter::successors(at.parent(), InnerPath::parent)
        .find(|above| !image.all().any(|(_, found)| matches!(found, Found::Nothing(missing) if missing == above)))
}

/// Parses lines with `others`, `container` or `unknown` and a hierarchy, which say that processes other than the
/// container's are, or may be, in its cgroup.
fn occupants(text: &str, place: &CgroupPlace) -> Occupants {
    let says = |word: &str| text.lines().any(|line| line == format!("{word} {}", place.hierarchy));
    match (says("others"), says("unknown")) {
        _ if says("container") => Occupants::AnotherContainer,
        (true, _) => Occupants::Others,
        (false, true) => Occupants::Unknown,
        (false, false) => Occupants::Container,
    }
}

/// Prints the files one after another, so that a world can be printed and made into a case.
impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, text) in &self.0 {
            let end = if text.ends_with('\n') { "" } else { "\n" };
            write!(f, "{MARK}{name}\n{text}{end}")?;
        }
        Ok(())
    }
}

fn host() -> Host {
    Host {
        memory_bytes: 8 << 30,
        machine_id: MachineId::parse(&"a".repeat(32)),
        delegated: ["cgroup.procs", "memory.oom.group"].map(str::to_owned).into(),
        os_release: Some("ID=debian\nVERSION_ID=13\n".to_owned()),
    }
}

/// Parses lines of `KEY VALUE`, or of only `KEY` if the host doesn't allow the option. A container's name may follow
/// the key after a slash. Lines with the administrator's options are as on the command line.
fn options(text: &str) -> Result<Options, String> {
    let mut options = Options::default();
    for line in text.lines() {
        if let Some(policy) = line.strip_prefix("--") {
            match policy.split_once('=') {
                None if policy == "allow-v1-with-cap-sys-admin" => {
                    options.policy.v1_with_sys_admin = V1WithSysAdmin::Allowed;
                }
                Some(("max-cgroups", number)) => {
                    options.policy.cgroups_max = CgroupsMax::parse(number).ok_or_else(|| format!("option {line}"))?;
                }
                _ => return Err(format!("option {line}")),
            }
            continue;
        }
        let (whole, value) = line.split_once(' ').map_or((line, None), |(name, value)| (name, Some(value)));
        let name = whole.split('/').next().unwrap_or_default();
        let option = Key::parse(name).ok_or_else(|| format!("option {line}"))?;
        let key = format!("{PREFIX}{}", with_newlines(whole));
        match value {
            Some(value) => options.set(option, key, value).map_err(|error| error.to_string())?,
            None => options.not_allowed.push(key),
        }
    }
    Ok(options)
}

/// Parses the answers of a SELinux policy, one per line. The labels are in config.json.
fn selinux(config: &Config, policy: Option<&str>) -> Result<Selinux, String> {
    let mount = config.linux.mount_label.as_deref().map(Label::parse);
    let Some(policy) = policy else { return Ok(Selinux::Off { has_label: mount.is_some() }) };
    let mut labeling = Labeling::ByMount;
    let mut cgroup = CgroupLabel {
        label: Label::parse("system_u:object_r:cgroup_t:s0"),
        manageable: Some(true),
        manageable_if_labeled: Some(true),
        boolean: None,
    };
    let mut confinement = Confinement {
        enforcing: Some(true),
        process: config.process.selinux_label.as_deref().map(Label::parse),
        mount: None,
        files: Some(Files::Writable),
        cgroup: None,
        denied_capabilities: Vec::new(),
        capability_boolean: None,
    };
    for line in policy.lines() {
        match line {
            "enforcing" => {}
            "not built" => return Ok(Selinux::NotBuilt),
            "permissive" => confinement.enforcing = Some(false),
            "can't be asked" => {
                (confinement.enforcing, confinement.files) = (None, None);
                (cgroup.manageable, cgroup.manageable_if_labeled) = (None, None);
            }
            "files: denied to the level" => confinement.files = Some(Files::OtherLevel),
            "files: denied to the type" => confinement.files = Some(Files::OtherType),
            "cgroup: denied" => cgroup.manageable = Some(false),
            "cgroup: denied with the mount label" => cgroup.manageable_if_labeled = Some(false),
            "container_manage_cgroup: off" => cgroup.boolean = Some(MANAGE_CGROUP),
            "setuid: denied" => confinement.denied_capabilities.push("setuid"),
            "container_use_host_all_caps: off" => confinement.capability_boolean = Some(USE_CAPABILITIES[0].1),
            "context=: EACCES" => {
                labeling =
                    Labeling::ByFile("the kernel refuses the label as a mount option: fsconfig() = EACCES".to_owned());
            }
            "labels: EPERM" => {
                labeling = Labeling::Refused(
                    "the kernel refuses the label as a mount option: fsconfig() = EACCES; setting it on a file also failed: \
                     fsetfilecon() = EPERM"
                        .to_owned(),
                );
            }
            other => return Err(format!("selinux {other}")),
        }
    }
    confinement.mount = mount.map(|mount| (mount, labeling));
    confinement.cgroup = Some(cgroup);
    Ok(Selinux::On(Box::new(confinement)))
}

/// Parses lines of `kind path`, or `kind path -> path` if symlinks lead elsewhere.
fn image(text: &str) -> Result<Image, String> {
    let mut image = Image::default();
    let mut looked_at = Vec::new();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').ok_or_else(|| format!("image {line}"))?;
        let (path, leads_to) = rest.split_once(" -> ").unwrap_or((rest, rest));
        let at = InnerPath::new(with_newlines(leads_to));
        let found = match kind {
            "dir" => Found::Directory(at),
            "empty" => Found::EmptyDirectory(at),
            "file" => Found::File(at),
            "none" => Found::Nothing(at),
            "fifo" => Found::Other(at, "a FIFO"),
            "loop" => Found::Unreachable(format!("resolve({path:?}) = ELOOP")),
            other => return Err(format!("image {other}")),
        };
        image.insert(InnerPath::new(path), found);
        looked_at.push(path);
    }
    // Paths that a case doesn't mention don't exist.
    for path in PATHS.into_iter().filter(|path| !looked_at.contains(path)) {
        let path = InnerPath::new(path);
        let found = image.infer_missing(&path).unwrap_or(Found::Nothing(path.clone()));
        image.insert(path, found);
    }
    Ok(image)
}

/// Replaces each `\n` by a newline.
fn with_newlines(text: &str) -> String {
    text.replace("\\n", "\n")
}
