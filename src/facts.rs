// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Facts about the container and its surroundings. This module makes no decisions and has no side effects.

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

/// The event for which the runtime calls this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A container is being created.
    Create(Stage),
    /// A container has been deleted, and this is the poststop hook.
    CleanUp,
}

/// The stage of a container's creation in which this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Runs in the runtime's namespaces. `prestart`, the stage's old name, is treated the same way.
    CreateRuntime,
    /// Runs in the container's namespaces, before pivot_root(2) to the container's root.
    CreateContainer,
}

impl Stage {
    /// Returns the stage's name in config.json.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
        }
    }
}

/// Whether the container's author has enabled or disabled this hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switch {
    /// The author has done neither, so the command decides.
    Unset,
    /// The annotation with this key is `enabled`.
    Enabled(String),
    /// The pod's annotation is `enabled`, which applies to all of its containers. The command still decides,
    /// whatever its name is.
    EnabledForPod,
    /// The author has disabled the hook, in the place that this string names.
    Disabled(String),
}

/// What is known about the container's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The engine's own command in a container that only holds a pod's namespaces.
    Sandbox,
    /// The command's name isn't init or systemd, or the annotations are already decisive. The program
    /// was not looked up.
    Other(String),
    /// The program was looked up in the image, because the command's name is init or systemd, or because the pod's
    /// annotation enables this hook.
    LookedUp {
        /// The name in `process.args`.
        name: String,
        program: Program,
    },
}

/// The file that a command's name resolves to in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// systemd's own binary, at this path.
    Systemd(InnerPath),
    /// Another file, at this path.
    Other(InnerPath),
    Nothing,
    /// The file can't be determined, for this reason.
    Unreachable(String),
}

/// Whether this hook will be called again before the container starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowUp {
    /// The hook won't be called again, so this call must do the whole job.
    None,
    /// config.json also calls this hook at createContainer, where it can do the whole job.
    CreateContainer,
    /// As [`Self::CreateContainer`], but crun has made the root read-only before createContainer. Mount points that
    /// the image lacks must be created now.
    CreateContainerOnReadOnlyRoot,
}

/// The facts on which the decision to act is based.
#[derive(Debug, Clone)]
pub struct Container {
    pub id: String,
    pub switch: Switch,
    pub command: Command,
}

/// The facts that are known before the container is created.
#[derive(Debug, Clone)]
pub struct PrecreateFacts {
    pub engine: Engine,
    /// The container's future machine ID, if the engine's container ID is known.
    pub machine_id: Option<MachineId>,
    /// The content of the host's os-release file.
    pub host_os_release: Option<String>,
    /// Whether something is already mounted in the container's root.
    pub has_mounts_in_root: bool,
    /// Whether the host uses cgroup v2 only.
    pub is_unified: bool,
}

/// What a path in the image resolves to. Symbolic links are followed inside the root, and the path in each variant
/// is the resolved one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A directory that isn't empty.
    Directory(InnerPath),
    EmptyDirectory(InnerPath),
    File(InnerPath),
    /// Nothing exists at the path. If it were created, it would be here.
    Nothing(InnerPath),
    /// A file of another type, such as `a FIFO`.
    Other(InnerPath, &'static str),
    /// The path is at or below the mount of a file server. It isn't resolved further, since file
    /// servers are never asked.
    OnServer(InnerPath),
    /// The path can't be resolved, for this reason.
    Unreachable(String),
}

impl Found {
    /// Returns the resolved path.
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

/// What the image has at the paths that matter to a plan.
#[derive(Debug, Clone, Default)]
pub struct Image(BTreeMap<InnerPath, Found>);

impl Image {
    pub fn insert(&mut self, path: InnerPath, found: Found) {
        self.0.insert(path, found);
    }

    /// Returns all paths that were looked up, with what was found at each.
    pub fn all(&self) -> impl Iterator<Item = (&InnerPath, &Found)> {
        self.0.iter()
    }

    /// Determines what is at `path` without a lookup, if a directory above it is known to be missing or empty.
    /// Returns `None` if no such directory is known.
    #[must_use]
    pub fn infer_missing(&self, path: &InnerPath) -> Option<Found> {
        self.above(path).find_map(|(above, found)| match found {
            Found::Nothing(at) | Found::EmptyDirectory(at) => {
                path.below(&above).map(|name| Found::Nothing(at.join(name)))
            }
            _ => None,
        })
    }

    /// Returns the nearest known directory above `path` that is empty.
    #[must_use]
    pub fn empty_above(&self, path: &InnerPath) -> Option<&InnerPath> {
        self.above(path).find_map(|(_, found)| match found {
            Found::EmptyDirectory(at) => Some(at),
            _ => None,
        })
    }

    /// Returns the ancestors of `path` that were looked up, the nearest first, with what was found at each.
    fn above(&self, path: &InnerPath) -> impl Iterator<Item = (InnerPath, &Found)> {
        let above = std::iter::successors(path.parent(), InnerPath::parent);
        above.filter_map(|above| self.0.get(&above).map(|found| (above, found)))
    }

    /// Returns what was found at `path`, which must be one of [`crate::interface::PATHS`]. Nothing is
    /// known about other paths.
    #[must_use]
    pub fn at(&self, path: &str) -> Found {
        let found = self.0.get(&InnerPath::new(path)).cloned();
        debug_assert!(found.is_some(), "{path} was not looked up; interface::PATHS must list it");
        found.unwrap_or_else(|| Found::Unreachable("the path was not looked up".to_owned()))
    }
}

/// What determines the size of the container's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemorySource {
    /// A limit of the container's cgroup.
    Limit,
    /// The size of the host's memory, since there is no limit below it.
    Host,
}

/// The amount of memory available to the container.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub bytes: u64,
    pub source: MemorySource,
}

/// The cgroup to which the kernel charges what this process writes to a tmpfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Payer {
    /// The container's, because this process is in it.
    Container,
    /// The caller's, because this process is in another cgroup than the container.
    Caller,
}

/// The container's cgroup in the hierarchy that has the memory controller.
#[derive(Debug, Clone)]
pub struct MemoryCgroup {
    /// The hierarchy and the path from the root of this process's cgroup namespace. `None` if the cgroup has no path
    /// there, or if no hierarchy has the memory controller.
    pub place: Option<(Hierarchy, CgroupPath)>,
    /// The cgroup that is charged for what this process writes, unless it enters another cgroup first.
    pub payer: Payer,
}

/// The owner of the files that the hook creates, if that isn't the hook's own user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Owner {
    /// The user ID, in the hook's user namespace.
    pub uid: u32,
    /// The group ID, in the hook's user namespace.
    pub gid: u32,
}

/// What happens to the propagation of mounts after the hook has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Mounts keep the propagation that the hook has set.
    Kept,
    /// The runtime makes all mounts private again, as crun does without `rootfsPropagation`.
    Lost,
}

/// The facts on which the plan is based.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Whether this hook will run for this container again.
    pub follow_up: FollowUp,
    /// The owner of created files. `None` for the hook's own user.
    pub owner: Option<Owner>,
    /// What this process is permitted to do to the container.
    pub rights: Rights,
    /// What the container's processes are permitted to do.
    pub privileges: Privileges,
    pub mounts: Mounts,
    pub image: Image,
    /// The identities of the files that a plan may act on.
    pub places: Places,
    pub memory: Memory,
    /// The cgroup that the container's memory is charged to.
    pub memory_cgroup: MemoryCgroup,
    pub options: Options,
    /// The engine, in whose terms messages say what to do.
    pub engine: Engine,
    pub cgroups: Cgroups,
    /// The names of the files in a cgroup that are to be owned by its delegatee.
    pub delegated: Vec<String>,
    /// The version of the image's systemd. `None` if it can't be determined.
    pub systemd: Option<Version>,
    pub selinux: Selinux,
    pub propagation: Propagation,
    /// The container's machine ID.
    pub machine_id: MachineId,
    /// The value of `container_uuid` in the environment, if it isn't a valid ID.
    pub bad_uuid: Option<String>,
    /// The value of `$container` in the environment of the first process, or else `oci`.
    pub container_manager: String,
    /// The content of the host's os-release file.
    pub host_os_release: Option<String>,
    /// Whether config.json asks for a terminal, which becomes /dev/console.
    pub terminal: bool,
}
