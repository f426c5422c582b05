// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was read about a container and its host, as plain data. [`super::interpret`] makes facts of it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::facts::{
    CgroupCreation, CgroupNamespace, CgroupOwner, FollowUp, Image, Mounts, Occupants, Options, Places, Rights, Selinux,
    Stage,
};
use crate::identity::MachineId;
use crate::kernel::cgroup::{CgroupFile, Hierarchy};
use crate::path::{CgroupPath, ContainerNamespace, InnerCgroupPath, InnerPath, OwnNamespace};
use crate::systemd::Version;

/// What is known of the host, whichever container it is about.
#[derive(Debug, Clone)]
pub struct Host {
    pub memory_bytes: u64,
    /// The host's own machine id. `None` if it has none, or if the container's name is an id.
    pub machine_id: Option<MachineId>,
    /// The files in a cgroup that belong to whom it is delegated.
    pub delegated: Vec<String>,
    /// The text of its os-release, if it has one.
    pub os_release: Option<String>,
}

/// What was read about a container that is being created, or is known of one that a bundle describes.
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
    /// Whether a cgroup can be made beside the container's own.
    pub making: CgroupCreation,
    /// What this process may do.
    pub rights: Rights,
    /// `uid_map` and `gid_map` of the container's user namespace.
    pub id_maps: [String; 2],
    /// The signal by which the engine stops the container.
    pub stop_signal: Option<String>,
    /// Those of [`super::interpret::asked_units`] that the image has.
    pub units: BTreeSet<&'static str>,
    pub image: Image,
    /// The version of the image's systemd, if it can be told.
    pub systemd: Option<Version>,
    pub selinux: Selinux,
}

/// Files about cgroups in /proc, cgroups(7).
#[derive(Debug)]
pub struct CgroupFiles {
    /// `/proc/<pid>/cgroup` of the container's first process, as this process reads it.
    pub container: CgroupFile<OwnNamespace>,
    /// The same as the container reads it.
    pub inside: CgroupFile<ContainerNamespace>,
    /// The same of the runtime, as this process reads it. `None` if it can't be told, or if nobody asks.
    pub runtime: Option<CgroupFile<OwnNamespace>>,
}

/// One of the container's cgroups, and where it can be reached.
#[derive(Debug, Clone)]
pub struct CgroupPlace {
    pub hierarchy: Hierarchy,
    /// Its path, from the root of this process's cgroup namespace.
    pub path: CgroupPath,
    /// The same from the root of the container's, if it is below that.
    pub path_inside: Option<InnerCgroupPath>,
    /// Whose it is, if nobody else's processes are in it.
    pub owner: CgroupOwner,
    /// Where the host has the whole hierarchy mounted, if it has.
    pub on_host: Option<PathBuf>,
    /// Where the container sees the cgroup, if it does.
    pub seen_at: Option<InnerPath>,
    /// Whether to find out how many cgroups can be made in it.
    pub asks_for_room: bool,
}

/// What was found out about a cgroup.
#[derive(Debug, Clone, Copy)]
pub struct CgroupLook {
    /// Its inode, or `None` if it could not be opened.
    pub inode: Option<u64>,
    /// Who is in it. [`Occupants::Unknown`] also if it is another's anyway, so that nobody asked.
    pub occupants: Occupants,
    /// How many cgroups can be made below it, one in the other. `None` if there is no limit, or if nobody asked.
    pub room: Option<u32>,
    /// The user ID that owns the files which limit it. `None` in v1, if the container doesn't see the cgroup, or if it can't
    /// be determined.
    pub owner_of_limits: Option<u32>,
}

impl CgroupLook {
    /// Of a cgroup that can't be opened.
    pub const NOT_SEEN: Self = Self { inode: None, occupants: Occupants::Unknown, room: None, owner_of_limits: None };
}
