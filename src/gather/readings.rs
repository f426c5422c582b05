// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was read about a container and its host, as plain data that [`super::interpret`] turns into facts.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::facts::{
    CgroupCreation, CgroupNamespace, CgroupOwner, Engine, FollowUp, Image, Mounts, Occupants, Options, Places, Rights,
    Selinux, Stage,
};
use crate::identity::MachineId;
use crate::kernel::cgroup::{CgroupFile, Hierarchy};
use crate::path::{CgroupPath, ContainerNamespace, InnerCgroupPath, InnerPath, OwnNamespace};
use crate::systemd::Version;

/// What is known about the host.
#[derive(Debug, Clone)]
pub struct Host {
    pub memory_bytes: u64,
    /// The host's own machine ID. `None` if it has none, or if it isn't needed because the container's
    /// name contains an ID.
    pub machine_id: Option<MachineId>,
    /// The names of the files in a cgroup that are to be owned by its delegatee.
    pub delegated: Vec<String>,
    /// The content of the host's os-release file. `None` if it has none.
    pub os_release: Option<String>,
}

/// What was read about a container that is being created, or is known about one from its bundle.
#[derive(Debug)]
pub struct Readings {
    pub stage: Stage,
    pub host: Host,
    pub mounts: Mounts,
    /// The identities of the files that a plan may act on.
    pub places: Places,
    pub namespace: CgroupNamespace,
    pub membership: CgroupFiles,
    /// The container's cgroups in the hierarchies that systemd uses.
    pub cgroups: Vec<(CgroupPlace, CgroupLook)>,
    /// The limits of the container's memory, in bytes.
    pub memory_limits: Vec<u64>,
    /// Whether this hook will run for this container again.
    pub follow_up: FollowUp,
    pub options: Options,
    /// Whether a cgroup can be created beside the container's own.
    pub creation: CgroupCreation,
    /// What this process is permitted to do to the container.
    pub rights: Rights,
    /// The content of `uid_map` and `gid_map` of the container's user namespace.
    pub id_maps: [String; 2],
    pub engine: Engine,
    /// The signal with which the engine stops the container.
    pub stop_signal: Option<String>,
    /// The units of [`super::interpret::asked_units`] that the image has.
    pub units: BTreeSet<&'static str>,
    pub image: Image,
    /// The version of the image's systemd. `None` if it can't be determined.
    pub systemd: Option<Version>,
    pub selinux: Selinux,
}

/// The contents of the `cgroup` files in /proc, cgroups(7).
#[derive(Debug)]
pub struct CgroupFiles {
    /// `/proc/<pid>/cgroup` of the container's first process, as this process reads it.
    pub container: CgroupFile<OwnNamespace>,
    /// The same file as the container reads it.
    pub inside: CgroupFile<ContainerNamespace>,
    /// The same file of the runtime, as this process reads it. `None` if it can't be determined, or isn't needed.
    pub runtime: Option<CgroupFile<OwnNamespace>>,
}

/// One of the container's cgroups, and the places where it can be accessed.
#[derive(Debug, Clone)]
pub struct CgroupPlace {
    pub hierarchy: Hierarchy,
    /// The cgroup's path, from the root of this process's cgroup namespace.
    pub path: CgroupPath,
    /// The cgroup's path from the root of the container's cgroup namespace. `None` if it isn't below that root.
    pub path_inside: Option<InnerCgroupPath>,
    /// Which processes the cgroup is for, unless processes of others are found in it.
    pub owner: CgroupOwner,
    /// The mount point of the whole hierarchy on the host, if there is one.
    pub on_host: Option<PathBuf>,
    /// The path at which the container sees the cgroup, if it does.
    pub seen_at: Option<InnerPath>,
    /// Whether to find out how many levels of cgroups can be created below the cgroup.
    pub asks_for_room: bool,
}

/// What was found out about a cgroup.
#[derive(Debug, Clone, Copy)]
pub struct CgroupLook {
    /// The cgroup's inode number. `None` if the cgroup could not be opened.
    pub inode: Option<u64>,
    /// The processes in the cgroup. Also [`Occupants::Unknown`] if the cgroup is shared anyway, so that its
    /// processes weren't looked at.
    pub occupants: Occupants,
    /// How many levels of cgroups can be created below the cgroup. `None` if there is no limit, or if
    /// that wasn't looked up.
    pub room: Option<u32>,
    /// The user ID that owns the files which limit the cgroup. `None` for v1, if the container doesn't see the
    /// cgroup, or if it can't be determined.
    pub owner_of_limits: Option<u32>,
}

impl CgroupLook {
    /// The result for a cgroup that can't be opened.
    pub const NOT_SEEN: Self = Self { inode: None, occupants: Occupants::Unknown, room: None, owner_of_limits: None };
}
