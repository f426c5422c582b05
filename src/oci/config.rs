// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fields of config.json that determine whether and how the container is prepared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::document::{Document, FieldError};
use super::environment::Environment;
use super::mount_options::MountOptions;
use super::{Text, bounded};

/// The fields of `process` that determine which program the container's first process executes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct CommandFields {
    /// The first elements of `process.args`.
    #[serde(deserialize_with = "bounded::first_texts")]
    pub args: Vec<String>,
    pub cwd: Option<String>,
    env: Environment,
}

impl CommandFields {
    /// Reads the fields. Returns `None` if config.json has no `process`.
    pub fn of(document: &Document) -> Result<Option<Self>, FieldError> {
        document.field("process")
    }

    /// Returns the value of a variable in the process's environment.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env.get(name)
    }
}

/// Reads `annotations`. Returns an empty map if config.json has none.
pub fn annotations(document: &Document) -> Result<BTreeMap<Text<'_>, Text<'_>>, FieldError> {
    Ok(document.field("annotations")?.map(|bounded::BoundedMap(annotations)| annotations).unwrap_or_default())
}

/// Reads `mounts`. Returns an empty list if config.json has none.
pub fn mounts(document: &Document) -> Result<Vec<ConfigMount>, FieldError> {
    Ok(document.field("mounts")?.map(|bounded::BoundedList(mounts)| mounts).unwrap_or_default())
}

/// The fields of config.json that the plan depends on.
#[derive(Debug, Default)]
pub struct Config {
    pub command: CommandFields,
    pub process: Process,
    pub root: RootFields,
    /// The mounts in the runtime's order. Once they are set up, the kernel's mount table is more reliable.
    pub mounts: Vec<ConfigMount>,
    pub hooks: Hooks,
    pub linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RootFields {
    pub path: Option<PathBuf>,
    /// Whether the container must not write to its root file system.
    pub readonly: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Whether /dev/console is a terminal.
    pub terminal: bool,
    pub capabilities: Capabilities,
    /// Whether set-user-ID programs have no effect.
    #[serde(rename = "noNewPrivileges")]
    pub no_new_privileges: bool,
    /// The SELinux context of the container's processes.
    #[serde(rename = "selinuxLabel")]
    pub selinux_label: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// The capabilities that the container's processes can ever gain, by names such as `CAP_SYS_ADMIN`.
    #[serde(deserialize_with = "bounded::list")]
    pub bounding: Vec<String>,
    #[serde(deserialize_with = "bounded::list")]
    effective: Vec<String>,
    #[serde(deserialize_with = "bounded::list")]
    permitted: Vec<String>,
    #[serde(deserialize_with = "bounded::list")]
    inheritable: Vec<String>,
    #[serde(deserialize_with = "bounded::list")]
    ambient: Vec<String>,
}

impl Capabilities {
    /// Whether the container's processes can ever gain this capability.
    #[must_use]
    pub fn may_have(&self, capability: &str) -> bool {
        self.bounding.iter().any(|name| name == capability)
    }

    /// Whether any set may contain the capability. All sets count, because the first process starts with the
    /// permitted capabilities even if they are not in the bounding set. Numbers and lowercase names also count,
    /// because crun accepts both.
    #[must_use]
    pub fn is_in_any_set(&self, capability: &str) -> bool {
        let sets = [&self.bounding, &self.effective, &self.permitted, &self.inheritable, &self.ambient];
        let may_be = |name: &String| {
            name.eq_ignore_ascii_case(capability) || name.trim_start().starts_with(|c: char| c.is_ascii_digit())
        };
        sets.into_iter().flatten().any(may_be)
    }
}

/// One entry of `mounts`.
#[derive(Debug, Default, Deserialize)]
pub struct ConfigMount {
    /// The path in the container.
    pub destination: PathBuf,
    /// The source of the mount. For a bind mount, this is a path on the host.
    pub source: Option<PathBuf>,
    /// The file system's type; `None` for a bind mount.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Options as in mount(8), with the runtimes' own additions.
    #[serde(default)]
    pub options: MountOptions,
}

/// `hooks`, limited to these stages; runtimes know more.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// Hooks that run in the container's namespaces.
    #[serde(rename = "createContainer", deserialize_with = "bounded::list")]
    pub create_container: Vec<Hook>,
    /// Hooks that run after the container is gone.
    #[serde(deserialize_with = "bounded::list")]
    pub poststop: Vec<Hook>,
}

#[derive(Debug, Deserialize)]
pub struct Hook {
    /// The path of the executable on the host.
    pub path: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Linux {
    /// The namespaces that are created for the container or that it joins.
    #[serde(deserialize_with = "bounded::list")]
    pub namespaces: Vec<Namespace>,
    /// The mappings of container UIDs to host UIDs.
    #[serde(rename = "uidMappings", deserialize_with = "bounded::list")]
    pub uid_mappings: Vec<IdMapping>,
    /// Like `uid_mappings`, for groups.
    #[serde(rename = "gidMappings", deserialize_with = "bounded::list")]
    pub gid_mappings: Vec<IdMapping>,
    pub resources: Resources,
    /// The cgroup that the engine requests. Without it, the runtime chooses one, or creates none.
    #[serde(rename = "cgroupsPath")]
    pub cgroups_path: Option<String>,
    /// The SELinux context of the container's files.
    #[serde(rename = "mountLabel")]
    pub mount_label: Option<String>,
    #[serde(rename = "maskedPaths", deserialize_with = "bounded::list")]
    masked_paths: Vec<IgnoredAny>,
    #[serde(rename = "readonlyPaths", deserialize_with = "bounded::list")]
    readonly_paths: Vec<IgnoredAny>,
    /// The propagation of the root mount: `shared`, `slave`, `private`, …, or an empty string.
    #[serde(rename = "rootfsPropagation")]
    pub rootfs_propagation: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub memory: MemoryLimit,
}

/// The fields of `linux.resources.memory`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct MemoryLimit {
    /// The limit in bytes; -1 means that there is none.
    pub limit: Option<i64>,
}

/// One entry of `linux.namespaces`.
#[derive(Debug, Deserialize)]
pub struct Namespace {
    /// The namespace's type: `pid`, `mount`, `cgroup`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The namespace to join; `None` if a new one is created.
    pub path: Option<PathBuf>,
}

/// One entry of `linux.uidMappings` or `linux.gidMappings`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct IdMapping {
    /// The first ID in the container.
    #[serde(rename = "containerID")]
    pub container: u32,
    /// The first ID on the host.
    #[serde(rename = "hostID")]
    pub host: u32,
    pub size: u32,
}

impl ConfigMount {
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.options.is_read_only()
    }

    /// Whether the options set the mount's propagation type, mount_namespaces(7).
    #[must_use]
    pub fn has_propagation(&self) -> bool {
        self.options.propagation
    }

    /// Whether this is a bind mount, according to its type or its options.
    #[must_use]
    pub fn is_bind(&self) -> bool {
        self.kind.as_deref() == Some("bind") || self.options.bind
    }

    /// Whether the runtime mounts the container's cgroups here in its own way, instead of by a bind mount.
    #[must_use]
    pub fn is_cgroup(&self) -> bool {
        matches!(self.kind.as_deref(), Some("cgroup" | "cgroup2")) && !self.is_bind()
    }
}

impl Config {
    pub fn of(document: &Document) -> Result<Self, FieldError> {
        Ok(Self {
            command: CommandFields::of(document)?.unwrap_or_default(),
            process: document.field("process")?.unwrap_or_default(),
            root: document.field("root")?.unwrap_or_default(),
            mounts: mounts(document)?,
            hooks: document.field("hooks")?.unwrap_or_default(),
            linux: document.field("linux")?.unwrap_or_default(),
        })
    }

    /// Returns the path of the root file system, which config.json may give relative to the directory `bundle`.
    #[must_use]
    pub fn root(&self, bundle: &Path) -> Option<PathBuf> {
        self.root.path.as_ref().filter(|path| !path.as_os_str().is_empty()).map(|path| bundle.join(path))
    }

    /// Returns the value of a variable in the first process's environment.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&str> {
        self.command.env(name)
    }

    /// Whether the engine requests both a cgroup and a new cgroup namespace for the container.
    #[must_use]
    pub fn has_cgroup_of_its_own(&self) -> bool {
        let mut namespaces = self.linux.namespaces.iter();
        let is_new = namespaces.any(|namespace| namespace.kind == "cgroup" && namespace.path.is_none());
        is_new && self.linux.cgroups_path.as_deref().is_some_and(|path| !path.is_empty())
    }

    /// Whether the container appears to be what engines call privileged. The root user of such a container has full
    /// control over the host.
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

    /// Returns the path of the namespace of this kind that the container joins.
    #[must_use]
    pub fn joined_namespace(&self, kind: &str) -> Option<&Path> {
        let namespace = self.linux.namespaces.iter().find(|namespace| namespace.kind == kind)?;
        namespace.path.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// Whether a namespace of this kind is created for the container or joined by it.
    #[must_use]
    pub fn has_namespace(&self, kind: &str) -> bool {
        self.linux.namespaces.iter().any(|namespace| namespace.kind == kind)
    }
}

/// Returns the host's ID for ID 0 in the container, or `None` if it isn't mapped.
#[must_use]
pub fn host_id_of_root(mappings: &[IdMapping]) -> Option<u32> {
    mappings.iter().find(|map| map.container == 0 && map.size > 0).map(|map| map.host)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(text: &str) -> Config {
        Config::of(&Document::parse(text.into()).unwrap()).unwrap()
    }

    #[test]
    fn what_runtimes_accept_is_never_an_error() {
        let text = r#"{"ociVersion":"9.9","process":{"args":["/sbin/init"],"env":null,
            "capabilities":{"bounding":["CAP_FROM_THE_FUTURE"]},"rlimits":[{"type":"RLIMIT_NEW"}]},
            "mounts":[{"destination":"proc","type":"proc","options":["nosuch"]}],
            "linux":{"namespaces":[{"type":"time"}],"uidMappings":null},"annotations":null,"x":1.5e400}"#;
        let config = config(text);
        assert_eq!(config.command.args, ["/sbin/init"]);
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
                let config = config(&text);
                assert_eq!(config.process.capabilities.is_in_any_set("CAP_SYS_ADMIN"), expected, "{text}");
            }
        }
    }

    #[test]
    fn privileged_mode_has_all_its_marks() {
        let privileged = r#"{"process":{"capabilities":{"bounding":["CAP_SYS_ADMIN","CAP_SYS_MODULE","CAP_SYS_RAWIO",
            "CAP_DAC_READ_SEARCH"]}},"mounts":[{"destination":"/sys","type":"sysfs","options":["rw"]}],
            "linux":{"maskedPaths":[],"readonlyPaths":null}}"#;
        assert!(config(privileged).is_privileged());
        for (mark, without) in [
            (r#""CAP_SYS_MODULE","#, ""),
            (r#"["rw"]"#, r#"["ro"]"#),
            (r#""maskedPaths":[]"#, r#""maskedPaths":["/proc/kcore"]"#),
            (r#""readonlyPaths":null"#, r#""readonlyPaths":["/proc/sys"]"#),
            (r#""/sys""#, r#""/sysfs""#),
        ] {
            let text = privileged.replace(mark, without);
            assert_ne!(text, privileged);
            assert!(!config(&text).is_privileged(), "{text}");
        }
    }

    #[test]
    fn of_each_field_the_last_one_counts() {
        let text = r#"{"process":{"args":["/bin/sh"]},"linux":{"namespaces":[]},
            "process":{"terminal":true,"args":["/bin/sh"],"terminal":null,"args":["/sbin/init"]},
            "linux":{"namespaces":[{"type":"pid","type":"mount","path":"/x","path":null}],"uidMappings":[{"hostID":7,"size":1}]}}"#;
        let config = config(text);
        assert!(config.process.terminal);
        assert_eq!(config.command.args, ["/sbin/init"]);
        assert_eq!(config.joined_namespace("mount"), Some(Path::new("/x")));
        assert!(!config.has_namespace("pid"));
        assert_eq!(host_id_of_root(&config.linux.uid_mappings), Some(7));
    }

    #[test]
    fn an_error_says_which_field() {
        for (text, says) in [
            (r#"{"process":{"args":[7]}}"#, "process: args: invalid type: integer `7`, expected a string"),
            (r#"{"mounts":[{"destination":null}]}"#, "mounts: missing field `destination`"),
            (r#"{"linux":{"namespaces":{}}}"#, "linux: namespaces: invalid type: map, expected a list"),
        ] {
            let error = Config::of(&Document::parse(text.into()).unwrap()).unwrap_err();
            assert_eq!(error.to_string(), says);
        }
    }

    #[test]
    fn a_relative_root_is_below_the_bundle() {
        for (path, expected) in [("rootfs", "/b/rootfs"), ("/r", "/r")] {
            let text = format!(r#"{{"root":{{"path":"{path}"}}}}"#);
            let config = config(&text);
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
