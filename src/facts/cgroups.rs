// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The container's cgroups, and what of the hierarchies the hook can reach.

use std::fmt;
use std::path::PathBuf;

use crate::interface::CGROUP;
use crate::kernel::cgroup::Hierarchy;
use crate::path::{CgroupPath, InnerCgroupPath, InnerPath};

/// Which hierarchies are where below /sys/fs/cgroup, in systemd's terms
/// (<https://systemd.io/CGROUP_DELEGATION/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// v1's `name=systemd` at /sys/fs/cgroup/systemd.
    Legacy,
    /// The same, and v2 at /sys/fs/cgroup/unified.
    Hybrid,
    /// v2 at /sys/fs/cgroup.
    Unified,
}

impl Layout {
    /// Reads a layout's name.
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

/// Whose cgroup namespace the container's processes are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupNamespace {
    /// Its own: its cgroup is `/` there.
    Private,
    /// The host's: it sees the host's paths.
    Host,
}

/// Whose a cgroup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupOwner {
    /// The container's alone.
    Container,
    /// Shared with processes that are not the container's.
    Shared(Sharing),
}

/// The reason why a cgroup is not treated as the container's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The runtime made no cgroup for the container, which is in the engine's.
    Engine,
    /// Processes that are neither the container's nor the runtime's are in the cgroup or in one of its descendants.
    Others,
    /// One of these is in another container, which can probably write to the cgroup.
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
    /// Other processes as well, one of them in another pid namespace than the runtime.
    AnotherContainer,
    /// It can't be determined.
    Unknown,
}

/// The container's place in one hierarchy.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Its cgroup's path, from the root of *this process's* cgroup namespace.
    pub path: CgroupPath,
    /// The same as /proc/1/cgroup in the container says it; none: it is outside the container's cgroup
    /// namespace.
    pub inside: Option<InnerCgroupPath>,
    /// Its inode, or `None` if it could not be opened. By the time the plan is carried out, the path may lead to
    /// another cgroup.
    pub inode: Option<u64>,
    /// How many cgroups can be made below it, one in the other, as limited by it and those above it. `None` if there is
    /// no limit, or if the container has a cgroup namespace of its own.
    pub room: Option<u32>,
    pub owner: CgroupOwner,
    /// Where the host has the whole hierarchy mounted, as seen in the container's mount namespace.
    pub on_host: Option<PathBuf>,
    /// Whether the files that limit it belong to an id of the container's.
    pub owns_limits: bool,
}

/// Whether this process can make a cgroup that doesn't go with the container's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupCreation {
    /// It can, and poststop takes it back.
    Possible,
    /// It is called in the container's namespaces.
    Inside,
    /// config.json calls this hook at no poststop: nobody would take it back.
    Forever,
    /// It hasn't the rights of the host's root.
    Rootless,
}

/// A mount that config.json asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedMount {
    pub at: InnerPath,
    /// Whether it is to be read-only.
    pub read_only: bool,
    /// Whether it is a bind mount.
    pub is_bind: bool,
}

/// The container's cgroups.
#[derive(Debug, Clone)]
pub struct Cgroups {
    pub namespace: CgroupNamespace,
    /// Its place in the unified hierarchy, if there is one.
    pub unified: Option<Membership>,
    /// Its place in v1's `name=systemd`, if there is one.
    pub systemd: Option<Membership>,
    /// The hierarchies in which it is in a cgroup that has no path in this process's cgroup namespace.
    pub outside: Vec<Hierarchy>,
    /// The mounts that config.json asks for at, above and below /sys/fs/cgroup, in its order.
    pub asked: Vec<AskedMount>,
    pub making: CgroupCreation,
    /// What a cgroup is called that is made for the container beside others.
    pub name: String,
}

impl Cgroups {
    /// Whether config.json asks for a mount there that is writable, so that it stays what it is: crun makes what
    /// config.json wants read-only so after its hooks (1.8 after createRuntime, 1.27 after createContainer).
    #[must_use]
    pub fn is_asked_writable(&self, own: &InnerPath) -> bool {
        self.asked_for(own).is_some_and(|mount| !mount.read_only && mount.at.is_at_or_below(&InnerPath::new(CGROUP)))
    }

    /// Whether config.json bind-mounts the host's cgroups there, rather than asking for a mount of type `cgroup`.
    #[must_use]
    pub fn is_asked_from_host(&self, at: &InnerPath) -> bool {
        self.asked_for(at).is_some_and(|mount| mount.is_bind)
    }

    fn asked_for(&self, at: &InnerPath) -> Option<&AskedMount> {
        self.asked.iter().rev().find(|mount| at.is_at_or_below(&mount.at))
    }

    /// Its place in `hierarchy`.
    #[must_use]
    pub fn of(&self, hierarchy: Hierarchy) -> Option<&Membership> {
        match hierarchy {
            Hierarchy::Unified => self.unified.as_ref(),
            Hierarchy::Systemd => self.systemd.as_ref(),
            Hierarchy::Memory => None,
        }
    }

    /// Whether the container's cgroup of `hierarchy` has a path that a mount made for it can show: it is `/` in
    /// the container's own namespace, or any in the host's. A hierarchy that nobody has mounted has one cgroup.
    #[must_use]
    pub fn is_showable(&self, hierarchy: Hierarchy) -> bool {
        match (self.of(hierarchy), self.namespace) {
            (None, _) => !self.outside.contains(&hierarchy),
            (Some(member), CgroupNamespace::Host) => member.inside.is_some(),
            (Some(member), CgroupNamespace::Private) => member.inside == Some(InnerCgroupPath::root()),
        }
    }
}
