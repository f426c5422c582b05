// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is so: about the container, and about what surrounds it. No opinions, no effects.

use std::collections::BTreeMap;

use crate::identity::MachineId;
use crate::kernel::cgroup::Hierarchy;
use crate::path::{CgroupPath, InnerPath};
use crate::systemd::Version;

pub mod cgroups;
pub mod engine;
pub mod mounts;
pub mod options;
pub mod places;
pub mod privileges;
pub mod rights;
pub mod selinux;

pub use cgroups::{
    AskedMount, CgroupCreation, CgroupNamespace, CgroupOwner, Cgroups, Layout, Membership, Occupants, Sharing,
};
pub use engine::{Engine, Runtime};
pub use mounts::{CgroupRoot, Mount, Mounts};
pub use options::Options;
pub use places::Places;
pub use privileges::Privileges;
pub use rights::{Rights, UserNamespaces};
pub use selinux::Selinux;

/// What a runtime calls this process for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A container is being created.
    Create(Stage),
    /// A container is gone: poststop.
    CleanUp,
}

/// In which of the stages of a container's creation this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In the runtime's namespaces; also under its old name `prestart`.
    CreateRuntime,
    /// In the container's namespaces, before its root is the root.
    CreateContainer,
}

impl Stage {
    /// The name in config.json.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
        }
    }
}

/// What the container's author said of this hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switch {
    /// Nothing: the command decides.
    Unset,
    /// The annotation of this key says `enabled`.
    Enabled(String),
    /// The pod's says so, to all of its containers: the command still decides, whatever it is called.
    EnabledForPod,
    /// The named thing says `disabled`.
    Disabled(String),
}

/// What the container's command is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The engine's own, which only holds a pod's namespaces.
    Sandbox,
    /// It doesn't name init or systemd; what it is was not looked at.
    Other(String),
    /// It names init or systemd, or somebody asks for this hook, and this is what the name leads to in the image.
    LookedUp {
        /// As in `process.args`.
        name: String,
        program: Program,
    },
}

/// What a command's name leads to in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// systemd's own binary, at this path.
    Systemd(InnerPath),
    /// Something else, at this path.
    Other(InnerPath),
    Nothing,
    /// It can't be told, for this reason.
    Unreachable(String),
}

/// What happens after this call, until the container starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowUp {
    /// Nothing: this call has to do it all.
    None,
    /// config.json calls this hook at createContainer, too, and it can do all there.
    CreateContainer,
    /// It does, and crun has made the root read-only by then: what the image lacks as mount point
    /// has to be made before.
    CreateContainerOnReadOnlyRoot,
}

/// The facts of the decision whether to act.
#[derive(Debug, Clone)]
pub struct Container {
    pub id: String,
    pub switch: Switch,
    pub command: Command,
}

/// What is known before the container is created.
#[derive(Debug, Clone)]
pub struct PrecreateFacts {
    pub engine: Engine,
    /// The id that the container shall have, where its engine's id is known.
    pub machine_id: Option<MachineId>,
    /// The text of the host's os-release.
    pub host_os_release: Option<String>,
    /// Whether something is mounted in the container's root already.
    pub has_mounts_in_root: bool,
    /// Whether the host has cgroup v2 alone.
    pub is_unified: bool,
}

/// What is at a path in the image, symbolic links followed inside the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A directory with something in it, at the path that the links lead to.
    Directory(InnerPath),
    /// A directory with nothing in it, likewise.
    EmptyDirectory(InnerPath),
    /// A regular file, likewise.
    File(InnerPath),
    /// Nothing, and this is where it would be.
    Nothing(InnerPath),
    /// Something else, such as `a fifo`.
    Other(InnerPath, &'static str),
    /// It lies at or below the mount of a file server, which is never asked what is there.
    OnServer(InnerPath),
    /// The path can't be followed, for this reason.
    Unreachable(String),
}

impl Found {
    /// Where the path leads.
    #[must_use]
    pub fn place(&self) -> Option<&InnerPath> {
        match self {
            Self::Unreachable(_) => None,
            Self::Directory(at)
            | Self::EmptyDirectory(at)
            | Self::File(at)
            | Self::Nothing(at)
            | Self::Other(at, _)
            | Self::OnServer(at) => Some(at),
        }
    }
}

/// What the image has at the paths that matter.
#[derive(Debug, Clone, Default)]
pub struct Image(BTreeMap<InnerPath, Found>);

impl Image {
    pub fn insert(&mut self, path: InnerPath, found: Found) {
        self.0.insert(path, found);
    }

    /// All paths that were looked at, with what was found there.
    pub fn all(&self) -> impl Iterator<Item = (&InnerPath, &Found)> {
        self.0.iter()
    }

    /// What must be at `path`, where something above it was looked for and isn't there, or is an empty directory.
    #[must_use]
    pub fn below_nothing(&self, path: &InnerPath) -> Option<Found> {
        self.above(path).find_map(|(above, found)| match found {
            Found::Nothing(at) | Found::EmptyDirectory(at) => {
                path.below(&above).map(|name| Found::Nothing(at.join(name)))
            }
            _ => None,
        })
    }

    /// The directory below which `path` would be, if it is known to be empty.
    #[must_use]
    pub fn empty_above(&self, path: &InnerPath) -> Option<&InnerPath> {
        self.above(path).find_map(|(_, found)| match found {
            Found::EmptyDirectory(at) => Some(at),
            _ => None,
        })
    }

    /// The paths above one that were looked at, beginning with the nearest, and what was found there.
    fn above(&self, path: &InnerPath) -> impl Iterator<Item = (InnerPath, &Found)> {
        let above = std::iter::successors(path.parent(), InnerPath::parent);
        above.filter_map(|above| self.0.get(&above).map(|found| (above, found)))
    }

    /// What was found at `path`, which must be one of [`crate::interface::PATHS`]: of another one nothing is known.
    #[must_use]
    pub fn at(&self, path: &str) -> Found {
        let found = self.0.get(&InnerPath::new(path)).cloned();
        debug_assert!(found.is_some(), "nobody looked at {path}, which interface::PATHS must list");
        found.unwrap_or_else(|| Found::Unreachable("nobody looked there".to_owned()))
    }
}

/// Where a memory size comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemorySource {
    /// The container's cgroup limits it.
    Limit,
    /// Nothing limits it: all of the host's.
    Host,
}

/// How much memory the container can have.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub bytes: u64,
    pub source: MemorySource,
}

/// The one to whom the kernel charges what this process writes to a tmpfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Payer {
    /// The container: this process is in its cgroup.
    Container,
    /// Whoever called this process: it is in another cgroup.
    Caller,
}

/// The container's cgroup in the hierarchy that has the memory controller.
#[derive(Debug, Clone)]
pub struct MemoryCgroup {
    /// Its path, from the root of this process's cgroup namespace. `None` if it has no path there, or if no hierarchy
    /// has the memory controller.
    pub place: Option<(Hierarchy, CgroupPath)>,
    /// Who pays for what this process writes without entering another cgroup.
    pub payer: Payer,
}

/// Who shall own what is created, where that is not the hook's own user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Owner {
    /// User id, in the hook's user namespace.
    pub uid: u32,
    /// Group id, likewise.
    pub gid: u32,
}

/// What becomes of a mount's propagation after the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// It stays as the hook leaves it.
    Kept,
    /// The runtime makes everything private again: crun without `rootfsPropagation`.
    Lost,
}

/// The facts of the plan.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Whether this hook will run for this container again.
    pub follow_up: FollowUp,
    /// The ids to create as; none: the hook's own.
    pub owner: Option<Owner>,
    /// What this process may do.
    pub rights: Rights,
    /// What the container's processes may do.
    pub privileges: Privileges,
    /// What is mounted in the container.
    pub mounts: Mounts,
    pub image: Image,
    /// The identities of the files that a plan may act on.
    pub places: Places,
    pub memory: Memory,
    /// The cgroup that the container's memory is charged to.
    pub memory_cgroup: MemoryCgroup,
    pub options: Options,
    pub cgroups: Cgroups,
    /// The files in a cgroup that belong to whom it is delegated.
    pub delegated: Vec<String>,
    /// The image's systemd; none: its version can't be told.
    pub systemd: Option<Version>,
    /// What SELinux makes of the container.
    pub selinux: Selinux,
    /// What happens to /run's propagation.
    pub propagation: Propagation,
    /// The id that the container shall have, and where it's from.
    pub machine_id: MachineId,
    /// A `container_uuid` in the environment that is no id.
    pub bad_uuid: Option<String>,
    /// `$container` of the first process, or `oci`.
    pub container_manager: String,
    /// The text of the host's os-release.
    pub host_os_release: Option<String>,
    /// Whether /dev/console is a terminal.
    pub terminal: bool,
}
