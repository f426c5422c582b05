// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parts of a bundle's config.json that decide whether and how to act.
//!
//! Two readers, since most calls are for containers that are not ours: [`Peek`] borrows the few
//! fields of the decision, [`Config`] owns what the plan needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Error, IgnoredAny};

use super::edit::Document;
use super::environment::Environment;
use super::mount_options::MountOptions;
use super::{Text, few};

/// The fields that decide whether this container is ours.
#[derive(Debug, Default, Deserialize)]
pub struct Peek<'a> {
    #[serde(default, borrow)]
    process: Option<PeekProcess<'a>>,
    #[serde(default, borrow, deserialize_with = "few::map")]
    annotations: BTreeMap<Text<'a>, Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct PeekProcess<'a> {
    #[serde(default, borrow, deserialize_with = "few::first")]
    args: Vec<Text<'a>>,
    #[serde(default, deserialize_with = "super::or_default")]
    env: Environment,
    #[serde(default, borrow)]
    cwd: Option<Text<'a>>,
}

impl<'a> Peek<'a> {
    /// Reads the few fields, and skips the rest unread.
    pub fn parse(text: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text)
    }

    /// The same of a text whose fields are known already.
    pub fn of(document: &Document<'a>) -> serde_json::Result<Self> {
        let annotations = field(document, "annotations")?.map(|few::Map(annotations)| annotations);
        Ok(Self { process: field(document, "process")?, annotations: annotations.unwrap_or_default() })
    }

    /// The command of the container's first process, as much of it as tells which program that is.
    #[must_use]
    pub fn args(&self) -> &[Text<'a>] {
        self.process.as_ref().map(|process| process.args.as_slice()).unwrap_or_default()
    }

    /// Whether there is one.
    #[must_use]
    pub fn has_process(&self) -> bool {
        self.process.is_some()
    }

    /// The working directory of that process.
    #[must_use]
    pub fn cwd(&self) -> Option<&str> {
        self.process.as_ref()?.cwd.as_ref().map(AsRef::as_ref)
    }

    /// A variable of that process's environment.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&str> {
        self.process.as_ref()?.env.get(name)
    }

    /// An annotation's value.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(AsRef::as_ref)
    }

    /// All annotations, as keys and values.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.annotations.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }
}

/// What the plan needs of config.json.
#[derive(Debug, Default, Deserialize)]
pub struct Config {
    /// The container's first process.
    #[serde(default, deserialize_with = "super::or_default")]
    pub process: Process,
    /// The root file system.
    #[serde(default, deserialize_with = "super::or_default")]
    pub root: Root,
    /// What the runtime mounts, in its order; once that is done, the kernel knows better.
    #[serde(default, deserialize_with = "few::list")]
    pub mounts: Vec<Mount>,
    /// The hooks that the runtime runs.
    #[serde(default, deserialize_with = "super::or_default")]
    pub hooks: Hooks,
    /// What only Linux has.
    #[serde(default, deserialize_with = "super::or_default")]
    pub linux: Linux,
}

/// `root`.
#[derive(Debug, Default, Deserialize)]
pub struct Root {
    #[serde(default)]
    path: Option<PathBuf>,
    /// Whether the container shall not write to it.
    #[serde(default)]
    pub readonly: bool,
}

/// `process`.
#[derive(Debug, Default, Deserialize)]
pub struct Process {
    /// Whether /dev/console is a terminal.
    #[serde(default)]
    pub terminal: bool,
    #[serde(default, deserialize_with = "super::or_default")]
    env: Environment,
    /// Sets of capabilities.
    #[serde(default, deserialize_with = "super::or_default")]
    pub capabilities: Capabilities,
    /// Whether set-user-id programs have no effect.
    #[serde(default, rename = "noNewPrivileges", deserialize_with = "super::or_default")]
    pub no_new_privileges: bool,
    /// The SELinux context of the container's processes.
    #[serde(default, rename = "selinuxLabel")]
    pub selinux_label: Option<String>,
}

/// `process.capabilities`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Capabilities {
    /// What the container's processes can ever have; names as in `CAP_SYS_ADMIN`.
    #[serde(default, deserialize_with = "few::list")]
    pub bounding: Vec<String>,
    #[serde(default, deserialize_with = "few::list")]
    effective: Vec<String>,
    #[serde(default, deserialize_with = "few::list")]
    permitted: Vec<String>,
    #[serde(default, deserialize_with = "few::list")]
    inheritable: Vec<String>,
    #[serde(default, deserialize_with = "few::list")]
    ambient: Vec<String>,
}

impl Capabilities {
    /// Whether the container's processes can ever have this one.
    #[must_use]
    pub fn may_have(&self, capability: &str) -> bool {
        self.bounding.iter().any(|name| name == capability)
    }

    /// Whether any set may contain the capability. All sets count, because the first process starts with the permitted
    /// ones even if they are not in the bounding set. So do numbers and lower case, because crun accepts both.
    #[must_use]
    pub fn is_in_any_set(&self, capability: &str) -> bool {
        let sets = [&self.bounding, &self.effective, &self.permitted, &self.inheritable, &self.ambient];
        let may_be = |name: &String| {
            name.eq_ignore_ascii_case(capability) || name.trim_start().starts_with(|c: char| c.is_ascii_digit())
        };
        sets.into_iter().flatten().any(may_be)
    }
}

/// One of `mounts`.
#[derive(Debug, Default, Deserialize)]
pub struct Mount {
    /// The path in the container.
    pub destination: PathBuf,
    /// What is mounted; of a bind mount, the path on the host.
    #[serde(default)]
    pub source: Option<PathBuf>,
    /// The file system's type; none for a bind mount.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// As in mount(8), with the runtimes' own additions.
    #[serde(default, deserialize_with = "super::or_default")]
    pub options: MountOptions,
}

/// `hooks`; runtimes know more stages than these.
#[derive(Debug, Default, Deserialize)]
pub struct Hooks {
    /// The stage in the container's namespaces.
    #[serde(default, rename = "createContainer", deserialize_with = "few::list")]
    pub create_container: Vec<Hook>,
    /// After the container is gone.
    #[serde(default, deserialize_with = "few::list")]
    pub poststop: Vec<Hook>,
}

/// One hook.
#[derive(Debug, Deserialize)]
pub struct Hook {
    /// The executable, on the host.
    pub path: PathBuf,
}

/// `linux`.
#[derive(Debug, Default, Deserialize)]
pub struct Linux {
    /// The namespaces that the container has of its own or joins.
    #[serde(default, deserialize_with = "few::list")]
    pub namespaces: Vec<Namespace>,
    /// From container ids to host ids.
    #[serde(default, rename = "uidMappings", deserialize_with = "few::list")]
    pub uid_mappings: Vec<IdMapping>,
    /// As `uid_mappings`, of groups.
    #[serde(default, rename = "gidMappings", deserialize_with = "few::list")]
    pub gid_mappings: Vec<IdMapping>,
    /// What the container may use.
    #[serde(default, deserialize_with = "super::or_default")]
    pub resources: Resources,
    /// The cgroup that the engine asks for; without one the runtime chooses, or makes none.
    #[serde(default, rename = "cgroupsPath")]
    pub cgroups_path: Option<String>,
    /// The SELinux context of the container's files.
    #[serde(default, rename = "mountLabel")]
    pub mount_label: Option<String>,
    #[serde(default, rename = "maskedPaths", deserialize_with = "few::list")]
    masked_paths: Vec<IgnoredAny>,
    #[serde(default, rename = "readonlyPaths", deserialize_with = "few::list")]
    readonly_paths: Vec<IgnoredAny>,
    /// `shared`, `slave`, `private`, … or nothing.
    #[serde(default, rename = "rootfsPropagation")]
    pub rootfs_propagation: Option<String>,
}

/// `linux.resources`.
#[derive(Debug, Default, Deserialize)]
pub struct Resources {
    /// Of memory.
    #[serde(default, deserialize_with = "super::or_default")]
    pub memory: MemoryLimit,
}

/// `linux.resources.memory`.
#[derive(Debug, Default, Deserialize)]
pub struct MemoryLimit {
    /// In bytes; -1 is none.
    #[serde(default)]
    pub limit: Option<i64>,
}

/// One of `linux.namespaces`.
#[derive(Debug, Deserialize)]
pub struct Namespace {
    /// `pid`, `mount`, `cgroup`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose it joins; none: its own.
    #[serde(default)]
    pub path: Option<PathBuf>,
}

/// One of `linux.uidMappings` or `linux.gidMappings`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct IdMapping {
    /// First id in the container.
    #[serde(rename = "containerID")]
    pub container: u32,
    /// First id on the host.
    #[serde(rename = "hostID")]
    pub host: u32,
    /// How many ids.
    pub size: u32,
}

impl Mount {
    /// Whether it is to be read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.options.is_read_only()
    }

    /// Whether it says how mounts below it are passed on, mount_namespaces(7).
    #[must_use]
    pub fn has_propagation(&self) -> bool {
        self.options.propagation
    }

    /// Whether it shows what is mounted elsewhere.
    #[must_use]
    pub fn is_bind(&self) -> bool {
        self.kind.as_deref() == Some("bind") || self.options.bind
    }

    /// Whether it is one of a container's cgroups, in the runtimes' own way.
    #[must_use]
    pub fn is_cgroup(&self) -> bool {
        matches!(self.kind.as_deref(), Some("cgroup" | "cgroup2")) && !self.is_bind()
    }
}

/// The mounts of a text whose fields are known already.
pub fn mounts(document: &Document<'_>) -> serde_json::Result<Vec<Mount>> {
    Ok(field(document, "mounts")?.map(|few::List(mounts)| mounts).unwrap_or_default())
}

fn field<'a, T: Deserialize<'a>>(document: &Document<'a>, name: &str) -> serde_json::Result<Option<T>> {
    let read = document.written(name).map(serde_json::from_str::<Option<T>>).transpose();
    // Its place is one in the field's text.
    read.map(Option::flatten).map_err(|error| Error::custom(format!("{name}: {error} of that field")))
}

impl Config {
    /// Reads what the plan needs.
    pub fn parse(text: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text)
    }

    /// Where the root file system is, for a bundle in `bundle`.
    #[must_use]
    pub fn root(&self, bundle: &Path) -> Option<PathBuf> {
        self.root.path.as_ref().filter(|path| !path.as_os_str().is_empty()).map(|path| bundle.join(path))
    }

    /// A variable of the first process's environment.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&str> {
        self.process.env.get(name)
    }

    /// Whether the engine asks for a cgroup for the container, and for a cgroup namespace to go with it.
    #[must_use]
    pub fn has_cgroup_of_its_own(&self) -> bool {
        let mut namespaces = self.linux.namespaces.iter();
        let is_new = namespaces.any(|namespace| namespace.kind == "cgroup" && namespace.path.is_none());
        is_new && self.linux.cgroups_path.as_deref().is_some_and(|path| !path.is_empty())
    }

    /// Whether the container looks like what engines call privileged, and so can do everything to the host that its
    /// root can.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        /// Each of these capabilities is enough to become the host's root.
        const MARKS: [&str; 4] = ["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_DAC_READ_SEARCH"];
        let has_all = MARKS.iter().all(|mark| self.process.capabilities.may_have(mark));
        let hides_nothing = self.linux.masked_paths.is_empty() && self.linux.readonly_paths.is_empty();
        let sysfs = self.mounts.iter().rev().find(|mount| mount.destination == Path::new("/sys"));
        has_all && hides_nothing && sysfs.is_some_and(|mount| !mount.is_read_only())
    }

    /// Whether the container gets a new namespace of this kind.
    #[must_use]
    pub fn has_new_namespace(&self, kind: &str) -> bool {
        self.has_namespace(kind) && self.joined_namespace(kind).is_none()
    }

    /// The namespace of this kind that the container joins.
    #[must_use]
    pub fn joined_namespace(&self, kind: &str) -> Option<&Path> {
        let namespace = self.linux.namespaces.iter().find(|namespace| namespace.kind == kind)?;
        namespace.path.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// Whether the container has, or joins, a namespace of its own of this kind.
    #[must_use]
    pub fn has_namespace(&self, kind: &str) -> bool {
        self.linux.namespaces.iter().any(|namespace| namespace.kind == kind)
    }
}

/// The host's id for the container's id 0; none without a mapping of it.
#[must_use]
pub fn host_id_of_root(mappings: &[IdMapping]) -> Option<u32> {
    mappings.iter().find(|map| map.container == 0 && map.size > 0).map(|map| map.host)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_runtimes_accept_is_never_an_error() {
        let text = br#"{"ociVersion":"9.9","process":{"args":["/sbin/init"],"env":null,
            "capabilities":{"bounding":["CAP_FROM_THE_FUTURE"]},"rlimits":[{"type":"RLIMIT_NEW"}]},
            "mounts":[{"destination":"proc","type":"proc","options":["nosuch"]}],
            "linux":{"namespaces":[{"type":"time"}],"uidMappings":null},"annotations":null,"x":1.5e400}"#;
        let peek = Peek::parse(text).unwrap();
        assert_eq!(peek.args().iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["/sbin/init"]);
        let config = Config::parse(text).unwrap();
        assert_eq!(config.root(Path::new("/b")), None);
        assert!(config.has_namespace("time") && !config.has_namespace("cgroup"));
        assert!(config.process.capabilities.may_have("CAP_FROM_THE_FUTURE"));
    }

    #[test]
    fn a_capability_in_any_set_counts() {
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            for (name, expected) in
                [("CAP_SYS_ADMIN", true), ("cap_sys_admin", true), ("21", true), ("CAP_SYS_ADMINX", false)]
            {
                let text = format!(r#"{{"process":{{"capabilities":{{"{set}":["CAP_CHOWN","{name}"]}}}}}}"#);
                let config = Config::parse(text.as_bytes()).unwrap();
                assert_eq!(config.process.capabilities.is_in_any_set("CAP_SYS_ADMIN"), expected, "{text}");
            }
        }
    }

    #[test]
    fn privileged_mode_has_all_its_marks() {
        let privileged = r#"{"process":{"capabilities":{"bounding":["CAP_SYS_ADMIN","CAP_SYS_MODULE","CAP_SYS_RAWIO",
            "CAP_DAC_READ_SEARCH"]}},"mounts":[{"destination":"/sys","type":"sysfs","options":["rw"]}],
            "linux":{"maskedPaths":[],"readonlyPaths":null}}"#;
        assert!(Config::parse(privileged.as_bytes()).unwrap().is_privileged());
        for (mark, without) in [
            (r#""CAP_SYS_MODULE","#, ""),
            (r#"["rw"]"#, r#"["ro"]"#),
            (r#""maskedPaths":[]"#, r#""maskedPaths":["/proc/kcore"]"#),
            (r#""readonlyPaths":null"#, r#""readonlyPaths":["/proc/sys"]"#),
            (r#""/sys""#, r#""/sysfs""#),
        ] {
            let text = privileged.replace(mark, without);
            assert_ne!(text, privileged);
            assert!(!Config::parse(text.as_bytes()).unwrap().is_privileged(), "{text}");
        }
    }

    #[test]
    fn both_readers_find_a_variable() {
        let text = br#"{"process":{"env":["container=1","PATH","container=2=3"]}}"#;
        assert_eq!(Peek::parse(text).unwrap().env("container"), Some("2=3"));
        assert_eq!(Config::parse(text).unwrap().env("container"), Some("2=3"));
        assert_eq!(Config::parse(text).unwrap().env("PATH"), None);
    }

    #[test]
    fn a_relative_root_is_below_the_bundle() {
        for (path, expected) in [("rootfs", "/b/rootfs"), ("/r", "/r")] {
            let text = format!(r#"{{"root":{{"path":"{path}"}}}}"#);
            let config = Config::parse(text.as_bytes()).unwrap();
            assert_eq!(config.root(Path::new("/b")), Some(PathBuf::from(expected)));
        }
    }

    #[test]
    fn finds_the_host_id_of_the_containers_root() {
        let map = |container, host, size| IdMapping { container, host, size };
        assert_eq!(host_id_of_root(&[map(1, 5, 9), map(0, 100_000, 65536)]), Some(100_000));
        assert_eq!(host_id_of_root(&[map(1, 5, 9)]), None);
        assert_eq!(host_id_of_root(&[]), None);
    }
}
