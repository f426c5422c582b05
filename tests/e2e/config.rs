// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows the config.json of an unprivileged container as engines write it.

use std::path::Path;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::site::{Layout, Runtime};

/// What Docker grants, and no more.
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

/// What CRI-O grants, of these.
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

/// What forces a cgroup layout.
pub const CGROUP_ANNOTATION: &str = "oci-systemd-hook.cgroup";

/// The file in the test's directory that crun lets a hook write to.
pub const HOOK_SAID: &str = "hook-said";

/// The host's id of the root of a container that has a user namespace, and how many ids it has.
const HOST_ID: u32 = 100_000;
pub const ID_COUNT: u32 = 65_536;

/// Where Debian has it: a runtime searches no path for a hook.
pub const STRACE: &str = "/usr/bin/strace";

/// The stages of the hook's descriptors.
const DESCRIPTOR: [&str; 2] = ["createRuntime", "poststop"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupNs {
    Private,
    Host,
}

/// Whose user ids a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    Hosts,
    /// Its own, in a user namespace, and the image's files belong to its root, as engines have it.
    Own,
    /// The image's files are the host's, and to the container nobody's.
    OwnWithoutImage,
    /// Those of the host, in a user namespace.
    HostsInANamespace,
}

impl Users {
    /// The host's id of the root of the container's user namespace, if it has one.
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

    /// The host's id of the owner of root's files in the image, where that is another.
    pub fn image(self) -> Option<u32> {
        (self == Self::Own).then_some(HOST_ID)
    }
}

/// The stages that config.json lists the hook for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stages {
    None,
    /// As the descriptors have it.
    All,
    /// Every stage twice, as where two descriptors match one container.
    Twice,
    /// As users of plain runc and of Docker configured the old hook.
    PrestartOnly,
    /// Only in the container, as where an engine may not run hooks on the host.
    CreateContainerOnly,
    /// Nobody is called when the container is gone.
    WithoutPoststop,
    /// In the container, too, where most of the work is left to that call.
    WithCreateContainer,
}

/// What differs from test to test.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a field of config.json, or a property of the host's.
pub struct Config {
    pub cgroupns: CgroupNs,
    pub stages: Stages,
    pub args: Vec<&'static str>,
    /// A further variable of the container's environment.
    pub env: Option<&'static str>,
    pub annotation: Option<&'static str>,
    /// The annotation that forces a cgroup layout.
    pub cgroup: Option<&'static str>,
    pub readonly: bool,
    pub shared: bool,
    /// Directories of the test's own, by name, and where the container sees them.
    pub binds: Vec<(&'static str, &'static str)>,
    /// The host's own /sys/fs/cgroup in place of the runtime's.
    pub host_cgroups: bool,
    /// Further tmpfs mounts.
    pub tmpfs: Vec<&'static str>,
    pub memory_limit_bytes: Option<u64>,
    pub users: Users,
    /// Capabilities that the container hasn't, of those that Docker grants.
    pub without: Vec<&'static str>,
    /// A capability that the container has in addition.
    pub with: Option<&'static str>,
    /// The administrator's arguments for the hook.
    pub policy: Vec<&'static str>,
    /// The engine's limit on the number of cgroups below the container's.
    pub engines_most: Option<u32>,
    /// config.json can't be read in the container's user namespace.
    pub closed: bool,
    /// As CRI-O writes it for a command that is called as an init.
    pub cri_o: bool,
    /// What happens to the hook on the way, as strace(1) injects it.
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

/// The first field of `written` that is not in `known`.
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
        // On version 2 crun 1.8 raises RLIMIT_MEMLOCK to load the device
        // program, which takes CAP_SYS_RESOURCE: not every machine's root has it.
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
        // runc quotes a hook that fails; crun throws away what it says, unless told otherwise.
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
        // A typing error in a field's name must not make a test that proves nothing: what the
        // specification doesn't know is lost on the way through its types.
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
            // On version 1 the host's whole hierarchy.
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
