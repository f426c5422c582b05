// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The container's cgroups, and which hierarchies the hook can reach.

use std::fmt;
use std::path::PathBuf;

use crate::interface::CGROUP;
use crate::kernel::cgroup::Hierarchy;
use crate::path::{CgroupPath, InnerCgroupPath, InnerPath};

/// Which hierarchies are mounted where below /sys/fs/cgroup, in systemd's terms
/// (<https://systemd.io/CGROUP_DELEGATION/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// v1's `name=systemd` is at /sys/fs/cgroup/systemd.
    Legacy,
    /// v1's `name=systemd` is at /sys/fs/cgroup/systemd, and v2 at /sys/fs/cgroup/unified.
    Hybrid,
    /// v2 is at /sys/fs/cgroup.
    Unified,
}

impl Layout {
    /// Parses the name of a layout.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "legacy" => Some(Self::Legacy),
            "hybrid" => Some(Self::Hybrid),
            "unified" => Some(Self::Unified),
            _ => None,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "legacy (v1)",
            Self::Hybrid => "hybrid (v1 and v2)",
            Self::Unified => "unified (v2)",
        })
    }
}

/// The cgroup namespace that the container's processes are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupNamespace {
    /// The container's own, in which its cgroup is `/`.
    Private,
    /// The host's, so that the container sees the host's cgroup paths.
    Host,
}

/// Which processes a cgroup is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupOwner {
    /// The cgroup is the container's alone.
    Container,
    /// The cgroup is shared with processes that are not the container's.
    Shared(Sharing),
}

/// The reason why a cgroup is not treated as the container's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The runtime created no cgroup for the container, which is in the engine's.
    Engine,
    /// Processes that are neither the container's nor the runtime's are in the cgroup or in one of its descendants.
    Others,
    /// At least one of these other processes is in another container, which can probably write to the cgroup.
    AnotherContainer,
    /// It can't be determined which processes are in the cgroup.
    Unknown,
}

/// The processes in a cgroup and its descendants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupants {
    /// Only the container's first process, and processes of the runtime and its hooks.
    Container,
    /// Other processes as well.
    Others,
    /// Other processes as well, one of which is in a different PID namespace than the runtime.
    AnotherContainer,
    /// The processes can't be determined.
    Unknown,
}

/// The container's cgroup in one hierarchy.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The cgroup's path, from the root of *this process's* cgroup namespace.
    pub path: CgroupPath,
    /// The cgroup's path in the container's /proc/1/cgroup. `None` if the cgroup is outside
    /// the container's cgroup namespace.
    pub inside: Option<InnerCgroupPath>,
    /// The cgroup's inode number, or `None` if the cgroup could not be opened. By the time the plan is carried out,
    /// the path may lead to another cgroup.
    pub inode: Option<u64>,
    /// How many levels of cgroups can be created below this one, within the limits of this cgroup and those above
    /// it. `None` if there is no limit, or if the container has a private cgroup namespace.
    pub room: Option<u32>,
    pub owner: CgroupOwner,
    /// Where the host has the whole hierarchy mounted, as seen in the container's mount namespace.
    pub on_host: Option<PathBuf>,
    /// Whether the files that limit the cgroup are owned by one of the container's user IDs.
    pub owns_limits: bool,
}

/// Whether this process can create a sibling of the container's cgroup, which the runtime doesn't remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupCreation {
    /// The process can, and the poststop hook will remove the cgroup.
    Possible,
    /// The process can't, because it runs in the container's namespaces.
    InContainer,
    /// The process must not, because config.json doesn't call this hook at poststop, which would remove the cgroup.
    NoPoststop,
    /// The process can't, because it lacks the rights of the host's root.
    Rootless,
}

/// A mount that config.json asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedMount {
    pub at: InnerPath,
    /// Whether config.json asks for a read-only mount.
    pub read_only: bool,
    /// Whether it is a bind mount.
    pub is_bind: bool,
}

/// The container's cgroups.
#[derive(Debug, Clone)]
pub struct Cgroups {
    pub namespace: CgroupNamespace,
    /// The container's cgroup in the unified hierarchy, if it exists.
    pub unified: Option<Membership>,
    /// The container's cgroup in v1's `name=systemd` hierarchy, if it exists.
    pub systemd: Option<Membership>,
    /// The hierarchies in which the container's cgroup has no path in this process's cgroup namespace.
    pub outside: Vec<Hierarchy>,
    /// The mounts that config.json asks for at, above and below /sys/fs/cgroup, in the order of config.json.
    pub asked: Vec<AskedMount>,
    pub creation: CgroupCreation,
    /// The name of a cgroup that the hook creates for the container beside its own.
    pub name: String,
}

impl Cgroups {
    /// Whether config.json asks for a writable mount that holds the path `own`, so that it stays
    /// writable: after its hooks, crun makes mounts read-only where config.json says so (1.8 after
    /// createRuntime, 1.27 after createContainer).
    #[must_use]
    pub fn is_asked_writable(&self, own: &InnerPath) -> bool {
        self.asked_for(own).is_some_and(|mount| !mount.read_only && mount.at.is_at_or_below(&InnerPath::new(CGROUP)))
    }

    /// Whether config.json bind-mounts the host's cgroups at a path, instead of asking for a mount of type `cgroup`.
    #[must_use]
    pub fn is_asked_from_host(&self, at: &InnerPath) -> bool {
        self.asked_for(at).is_some_and(|mount| mount.is_bind)
    }

    fn asked_for(&self, at: &InnerPath) -> Option<&AskedMount> {
        self.asked.iter().rev().find(|mount| at.is_at_or_below(&mount.at))
    }

    /// Returns the container's cgroup in `hierarchy`.
    #[must_use]
    pub fn of(&self, hierarchy: Hierarchy) -> Option<&Membership> {
        match hierarchy {
            Hierarchy::Unified => self.unified.as_ref(),
            Hierarchy::Systemd => self.systemd.as_ref(),
            Hierarchy::Memory => None,
        }
    }

    /// Whether a new mount for the container can show its cgroup in `hierarchy`. In a private cgroup
    /// namespace the cgroup must be `/`; in the host's it may have any path. A hierarchy that isn't mounted
    /// anywhere has only one cgroup.
    #[must_use]
    pub fn is_showable(&self, hierarchy: Hierarchy) -> bool {
        match (self.of(hierarchy), self.namespace) {
            (None, _) => !self.outside.contains(&hierarchy),
            (Some(member), CgroupNamespace::Host) => member.inside.is_some(),
            (Some(member), CgroupNamespace::Private) => member.inside == Some(InnerCgroupPath::root()),
        }
    }
}
