// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Creates the config.json of an unprivileged container as engines write it.

use std::path::Path;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::site::{Layout, Runtime};

/// The capabilities that Docker grants by default.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_MKNOD",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_SYS_CHROOT",
];

/// Those of these capabilities that CRI-O grants.
const CRI_O_CAPABILITIES: [&str; 9] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_KILL",
];

/// The annotation that forces a cgroup layout.
pub const CGROUP_ANNOTATION: &str = "oci-systemd-hook.cgroup";

/// The file in the test's directory to which crun writes the output of hooks.
pub const HOOK_SAID: &str = "hook-said";

/// The ID on the host of the root of a container that has a user namespace.
const HOST_ID: u32 = 100_000;
/// The number of IDs of a container that has a user namespace.
pub const ID_COUNT: u32 = 65_536;

/// The path in Debian. It is absolute because a runtime doesn't search `PATH` for a hook.
pub const STRACE: &str = "/usr/bin/strace";

/// The stages of the hook's descriptors.
const DESCRIPTOR: [&str; 2] = ["createRuntime", "poststop"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupNs {
    Private,
    Host,
}

/// The user IDs that a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    Hosts,
    /// The container has its own IDs in a user namespace, and the image's files belong to its root, as
    /// engines set it up.
    Own,
    /// The container has its own IDs, but the image's files have the host's owners, which the
    /// container sees as nobody.
    OwnWithoutImage,
    /// The container has the host's IDs in a user namespace.
    HostsInANamespace,
}

impl Users {
    /// Returns the ID on the host of the root of the container's user namespace. Returns `None` if it
    /// has no user namespace.
    pub fn root(self) -> Option<u32> {
        match self {
            Self::Hosts => None,
            Self::Own | Self::OwnWithoutImage => Some(HOST_ID),
            Self::HostsInANamespace => Some(0),
        }
    }

    fn count(self) -> u32 {
        if self == Self::HostsInANamespace { u32::MAX } else { ID_COUNT }
    }

    /// Returns the ID on the host of the owner of root's files in the image, if it is not 0.
    pub fn image(self) -> Option<u32> {
        (self == Self::Own).then_some(HOST_ID)
    }
}

/// The stages that config.json lists the hook for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stages {
    None,
    /// The stages of the hook's descriptors.
    All,
    /// Every stage twice, as if two descriptors matched one container.
    Twice,
    /// The stage for which users of plain runc and of Docker configured the old hook.
    PrestartOnly,
    /// Only inside the container, as with an engine that may not run hooks on the host.
    CreateContainerOnly,
    /// The hook isn't called after the container is gone.
    WithoutPoststop,
    /// Also inside the container, in which case most of the work is left to that call.
    WithCreateContainer,
}

/// The settings that differ from test to test.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a field of config.json, or a property of the host's.
pub struct Config {
    pub cgroupns: CgroupNs,
    pub stages: Stages,
    pub args: Vec<&'static str>,
    /// An additional variable of the container's environment.
    pub env: Option<&'static str>,
    pub annotation: Option<&'static str>,
    /// The annotation that forces a cgroup layout.
    pub cgroup: Option<&'static str>,
    pub readonly: bool,
    pub shared: bool,
    /// The names of directories of the test, and their mount points in the container.
    pub binds: Vec<(&'static str, &'static str)>,
    /// Whether the host's own /sys/fs/cgroup is mounted in place of the runtime's.
    pub host_cgroups: bool,
    /// The mount points of additional tmpfs mounts.
    pub tmpfs: Vec<&'static str>,
    pub memory_limit_bytes: Option<u64>,
    pub users: Users,
    /// Capabilities that Docker grants and that the container doesn't have.
    pub without: Vec<&'static str>,
    /// A capability that the container has in addition.
    pub with: Option<&'static str>,
    /// The administrator's arguments for the hook.
    pub policy: Vec<&'static str>,
    /// The engine's limit on the number of cgroups below the container's.
    pub engines_most: Option<u32>,
    /// Whether config.json can't be read in the container's user namespace.
    pub closed: bool,
    /// Whether config.json is as CRI-O writes it for a command that is called as an init.
    pub cri_o: bool,
    /// A fault of the hook, in the syntax in which strace(1) injects it.
    pub fault: Option<&'static str>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cgroupns: CgroupNs::Private,
            stages: Stages::All,
            args: vec!["/sbin/init"],
            env: None,
            annotation: None,
            cgroup: None,
            readonly: false,
            shared: false,
            binds: Vec::new(),
            host_cgroups: false,
            tmpfs: Vec::new(),
            memory_limit_bytes: None,
            users: Users::Hosts,
            without: Vec::new(),
            with: None,
            policy: Vec::new(),
            engines_most: None,
            closed: false,
            cri_o: false,
            fault: None,
        }
    }
}

/// Returns the first field of `written` that is not in `known`.
fn lost(written: &Value, known: &Value) -> Option<String> {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => {
            written.iter().find_map(|(name, value)| match known.get(name) {
                Some(known) => lost(value, known).map(|below| format!("{name}.{below}")),
                None => (!is_empty(value)).then(|| name.clone()),
            })
        }
        (Value::Array(written), Value::Array(known)) if written.len() == known.len() => {
            written.iter().zip(known).find_map(|(written, known)| lost(written, known))
        }
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// The paths of one container.
#[derive(Debug)]
pub struct Place<'a> {
    pub hook: &'a Path,
    pub cgroup: &'a str,
    pub home: &'a Path,
}

impl Config {
    pub fn json(&self, runtime: Runtime, layout: Layout, place: &Place<'_>) -> Value {
        let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
        if self.cgroupns == CgroupNs::Private {
            namespaces.push("cgroup");
        }
        if self.users.root().is_some() {
            namespaces.push("user");
        }
        let namespaces: Vec<Value> = namespaces.into_iter().map(|kind| json!({"type": kind})).collect();
        let is_granted =
            |name: &&str| !self.without.contains(name) && (!self.cri_o || CRI_O_CAPABILITIES.contains(name));
        let granted: Vec<_> = CAPABILITIES.into_iter().filter(is_granted).chain(self.with).collect();
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": self.args,
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "cwd": "/",
                "capabilities": {
                    "bounding": granted,
                    "effective": granted,
                    "permitted": granted,
                },
                "noNewPrivileges": false,
            },
            "root": {"path": "rootfs", "readonly": self.readonly},
            "hostname": "probed",
            "mounts": self.all_mounts(layout, place.home),
            "linux": {
                "cgroupsPath": place.cgroup,
                "namespaces": namespaces,
                "maskedPaths": [
                    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                    "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
                ],
                "readonlyPaths": [
                    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
                ],
            },
        });
        // On version 2, crun 1.8 raises RLIMIT_MEMLOCK to load the device program. That requires CAP_SYS_RESOURCE,
        // which root doesn't have on every machine.
        if (runtime, layout) != (Runtime::Crun, Layout::Unified) {
            config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
        }
        if let Some(bytes) = self.memory_limit_bytes {
            config["linux"]["resources"]["memory"]["limit"] = json!(bytes);
        }
        if let Some(most) = self.engines_most {
            config["linux"]["resources"]["unified"] = json!({"cgroup.max.descendants": most.to_string()});
        }
        if let Some(id) = self.users.root() {
            let map = json!([{"containerID": 0, "hostID": id, "size": self.users.count()}]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        }
        if self.shared {
            config["linux"]["rootfsPropagation"] = json!("shared");
        }
        if let (Some(variable), Some(env)) = (self.env, config["process"]["env"].as_array_mut()) {
            env.push(json!(variable));
        }
        if self.cri_o {
            config["process"]["env"].as_array_mut().expect("a list").push(json!("container=crio"));
            config["annotations"]["io.container.manager"] = json!("cri-o");
            config["annotations"]["io.kubernetes.cri-o.ContainerType"] = json!("container");
            config["annotations"]["io.kubernetes.container.name"] = json!("web");
        }
        if let Some(value) = self.annotation {
            config["annotations"]["oci-systemd-hook"] = json!(value);
        }
        if let Some(value) = self.cgroup {
            config["annotations"][CGROUP_ANNOTATION] = json!(value);
        }
        // runc quotes a hook that fails. crun discards its output unless configured otherwise.
        if runtime == Runtime::Crun {
            config["annotations"]["run.oci.hooks.stderr"] = json!(place.home.join(HOOK_SAID));
        }
        let hook = self.hook(place);
        let (stages, hooks): (&[&str], _) = match self.stages {
            Stages::None => (&[], json!([])),
            Stages::All => (&DESCRIPTOR, json!([hook])),
            Stages::Twice => (&DESCRIPTOR, json!([hook, hook])),
            Stages::PrestartOnly => (&["prestart"], json!([hook])),
            Stages::CreateContainerOnly => (&["createContainer", "poststop"], json!([hook])),
            Stages::WithoutPoststop => (&["createRuntime"], json!([hook])),
            Stages::WithCreateContainer => (&["createRuntime", "createContainer", "poststop"], json!([hook])),
        };
        for stage in stages {
            config["hooks"][stage] = hooks.clone();
        }
        // A typo in a field's name must not lead to a test that proves nothing. A field that the specification
        // doesn't know is lost when the configuration is converted to the specification's types and back.
        let spec: Spec = serde_json::from_value(config.clone()).expect("an OCI configuration");
        let known = serde_json::to_value(spec).expect("an OCI configuration");
        if let Some(lost) = lost(&config, &known) {
            panic!("not in the OCI runtime specification: {lost}");
        }
        config
    }

    fn hook(&self, place: &Place<'_>) -> Value {
        match self.fault {
            None => {
                let mut args = vec![json!(place.hook)];
                args.extend(self.policy.iter().map(|argument| json!(argument)));
                json!({"path": place.hook, "args": args})
            }
            Some(fault) => {
                let inject = format!("inject={fault}");
                json!({"path": STRACE, "args": ["strace", "-qq", "-o", "/dev/null", "-e", inject, place.hook]})
            }
        }
    }

    fn all_mounts(&self, layout: Layout, home: &Path) -> Vec<Value> {
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
            json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options":
                ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
            json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}),
            json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"]}),
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"]}),
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}),
        ];
        if self.host_cgroups {
            mounts.retain(|mount| mount["type"] != "cgroup");
            mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "bind", "source": "/sys/fs/cgroup",
                "options": ["rbind", "ro"]}));
        }
        if self.cri_o {
            // On version 1, CRI-O mounts the host's whole hierarchy.
            mounts.push(match layout {
                Layout::Unified => json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                    "options": ["private", "rw"]}),
                Layout::Legacy | Layout::Hybrid => json!({"destination": "/sys/fs/cgroup/systemd", "type": "bind",
                    "source": "/sys/fs/cgroup/systemd", "options": ["bind", "nodev", "noexec", "nosuid"]}),
            });
            mounts
                .retain(|mount| layout != Layout::Unified || mount["type"] != "cgroup" || mount["options"][1] == "rw");
            mounts.extend(["/run", "/run/lock", "/tmp", "/var/log/journal"].map(|point| {
                json!({"destination": point, "type": "tmpfs", "source": "tmpfs",
                    "options": ["rw", "rprivate", "noexec", "nosuid", "nodev", "tmpcopyup"]})
            }));
        }
        mounts.extend(self.tmpfs.iter().map(|point| {
            json!({"destination": point, "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "nodev", "mode=755"]})
        }));
        mounts.extend(self.binds.iter().map(|(name, point)| {
            json!({"destination": point, "type": "bind", "source": home.join(name),
                "options": ["rbind", "rw"]})
        }));
        mounts
    }
}
