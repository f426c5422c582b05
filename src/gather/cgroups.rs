// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Determines which cgroups the container is in, from files that were read earlier. This module opens no files.

use std::path::Path;

use super::readings::{CgroupFiles, CgroupPlace, Readings};
use crate::facts::{
    AskedMount, CgroupNamespace, CgroupOwner, CgroupRoot, Cgroups, Membership, MemoryCgroup, Mounts, Occupants, Payer,
    Sharing, Stage, mounts,
};
use crate::interface;
use crate::kernel::cgroup::{CgroupFile, Hierarchy};
use crate::oci::config::Config;
use crate::oci::state::State;
use crate::path::{CgroupPath, ContainerNamespace, InnerCgroupPath, InnerPath};

/// The hierarchies that systemd uses.
const OF_SYSTEMD: [Hierarchy; 2] = [Hierarchy::Unified, Hierarchy::Systemd];

/// Determines the cgroup namespace of a container. `inside` is the content of `/proc/self/cgroup` in the container.
///
/// A namespace that config.json names by a path can be a container's or the host's. In a namespace that a runtime
/// created for a container, the container's cgroup is the root. In any other one it has a longer path, and the
/// namespace also shows the cgroups of others.
#[must_use]
pub fn namespace(config: &Config, inside: &CgroupFile<ContainerNamespace>) -> CgroupNamespace {
    let is_private = if config.joined_namespace("cgroup").is_some() {
        OF_SYSTEMD.into_iter().filter_map(|one| inside.path(one)).all(|path| path == InnerCgroupPath::root())
    } else {
        config.has_namespace("cgroup")
    };
    if is_private { CgroupNamespace::Private } else { CgroupNamespace::Host }
}

/// Returns the paths at which the container may see its own cgroups.
#[must_use]
pub fn own(mounts: &Mounts, inside: &CgroupFile<ContainerNamespace>) -> Vec<InnerPath> {
    let paths = OF_SYSTEMD.into_iter().filter_map(|one| Some((one, inside.path(one)?)));
    paths
        .flat_map(|(one, path)| mounts.of_hierarchy(one).map(move |(mount, _)| mount.at.join(path.as_path())))
        .collect()
}

/// The data from which the container's cgroups are determined.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    pub config: &'a Config,
    pub stage: Stage,
    pub namespace: CgroupNamespace,
    pub mounts: &'a Mounts,
    pub files: &'a CgroupFiles,
}

impl Evidence<'_> {
    /// Whether the runtime's cgroups need to be known.
    #[must_use]
    pub fn asks_for_runtime(&self) -> bool {
        let matters = |hierarchy| {
            let path = self.files.container.path(hierarchy);
            path.is_some_and(|path| !self.is_runtimes_root(&path) && self.trust(hierarchy) != Attribution::Named)
        };
        OF_SYSTEMD.into_iter().any(matters)
    }

    /// Returns the container's cgroups, and where they can be accessed according to the host's mount table `mountinfo`.
    #[must_use]
    pub fn places(&self, mountinfo: &[u8], root: &Path) -> Vec<CgroupPlace> {
        let place = |hierarchy| {
            let path = self.files.container.path(hierarchy)?;
            Some(CgroupPlace {
                hierarchy,
                path_inside: self.files.inside.path(hierarchy),
                owner: self.owner(hierarchy, &path),
                on_host: mounts::whole_hierarchy(mountinfo, hierarchy, root),
                seen_at: directory(self.mounts, hierarchy, &path),
                asks_for_room: self.namespace == CgroupNamespace::Host && hierarchy == Hierarchy::Unified,
                path,
            })
        };
        OF_SYSTEMD.into_iter().filter_map(place).collect()
    }

    /// Returns the files in the container's root that limit its memory. They may not exist.
    #[must_use]
    pub fn memory_limits(&self) -> Vec<InnerPath> {
        let files = [(Hierarchy::Unified, "memory.max"), (Hierarchy::Memory, "memory.limit_in_bytes")];
        let at = |(hierarchy, file)| {
            let path = self.files.container.path(hierarchy)?;
            Some(directory(self.mounts, hierarchy, &path)?.join(file))
        };
        files.into_iter().filter_map(at).collect()
    }

    fn owner(&self, hierarchy: Hierarchy, path: &CgroupPath) -> CgroupOwner {
        let engines = CgroupOwner::Shared(Sharing::Engine);
        if self.is_runtimes_root(path) {
            return engines;
        }
        // A runtime that creates no cgroup for the container leaves it in the runtime's own.
        let runtime = self.files.runtime.as_ref().filter(|file| file.has(hierarchy));
        match (self.trust(hierarchy), runtime) {
            (Attribution::Named, _) => CgroupOwner::Container,
            (_, Some(file)) if file.path(hierarchy).as_ref() == Some(path) => engines,
            (Attribution::None, None) => engines,
            (Attribution::Shown, None) | (_, Some(_)) => CgroupOwner::Container,
        }
    }

    /// Whether the path is the root of the runtime's cgroup namespace. A cgroup that a runtime creates never is.
    fn is_runtimes_root(&self, path: &CgroupPath) -> bool {
        *path == CgroupPath::root() && (self.stage == Stage::CreateRuntime || self.namespace == CgroupNamespace::Host)
    }

    fn trust(&self, hierarchy: Hierarchy) -> Attribution {
        let is_shown = |hierarchy| self.mounts.of_hierarchy(hierarchy).next().is_some();
        let is_named = self.config.linux.cgroups_path.as_deref().is_some_and(|path| !path.is_empty());
        // On hybrid hosts some runtimes create no cgroup in v2's hierarchy.
        let may_lack = hierarchy == Hierarchy::Unified && is_shown(Hierarchy::Systemd);
        match is_shown(hierarchy) {
            true if is_named && !may_lack => Attribution::Named,
            true => Attribution::Shown,
            false => Attribution::None,
        }
    }
}

/// The evidence that a cgroup is the container's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribution {
    /// The engine named a cgroup, and the runtime shows the container the hierarchy.
    Named,
    /// The runtime shows the container the hierarchy, but the engine named no cgroup.
    Shown,
    /// There is no evidence.
    None,
}

/// Returns the path at which the container sees its cgroup of a hierarchy.
fn directory(mounts: &Mounts, hierarchy: Hierarchy, path: &CgroupPath) -> Option<InnerPath> {
    mounts.of_hierarchy(hierarchy).find_map(|(mount, root)| match root {
        CgroupRoot::At(root) => path.below(root).map(|below| mount.at.join(below)),
        CgroupRoot::Outside => None,
    })
}

/// Combines what was read about the container's cgroups.
pub(super) fn cgroups(state: &State, config: &Config, readings: &Readings) -> Cgroups {
    let of = |hierarchy| {
        let (place, look) = readings.cgroups.iter().find(|(place, _)| place.hierarchy == hierarchy)?;
        let owner = match (place.owner, look.occupants) {
            (CgroupOwner::Container, Occupants::Others) => CgroupOwner::Shared(Sharing::Others),
            (CgroupOwner::Container, Occupants::AnotherContainer) => CgroupOwner::Shared(Sharing::AnotherContainer),
            (CgroupOwner::Container, Occupants::Unknown) => CgroupOwner::Shared(Sharing::Unknown),
            (owner, _) => owner,
        };
        Some(Membership {
            path: place.path.clone(),
            inside: place.path_inside.clone(),
            inode: look.inode,
            room: look.room,
            owner,
            on_host: place.on_host.clone(),
            owns_limits: look.owner_of_limits.is_none_or(|uid| is_containers(config, readings.stage, uid)),
        })
    };
    let file = &readings.membership.container;
    let is_outside = |one: &Hierarchy| file.has(*one) && file.path(*one).is_none();
    Cgroups {
        namespace: readings.namespace,
        unified: of(Hierarchy::Unified),
        systemd: of(Hierarchy::Systemd),
        outside: OF_SYSTEMD.into_iter().filter(is_outside).collect(),
        asked: asked_mounts(config),
        creation: readings.creation,
        name: format!("oci-systemd-hook-{}", state.id),
    }
}

/// Returns the mounts of config.json at, above and below /sys/fs/cgroup, in its order.
fn asked_mounts(config: &Config) -> Vec<AskedMount> {
    let base = InnerPath::new(interface::CGROUP);
    let mounts = config.mounts.iter().map(|mount| AskedMount {
        at: InnerPath::new(&mount.destination),
        read_only: mount.is_read_only(),
        is_bind: mount.is_bind(),
    });
    mounts.filter(|mount| mount.at.is_at_or_below(&base) || base.is_below(&mount.at)).collect()
}

/// The ID that the kernel shows for an ID without a mapping (`overflowuid` in proc_sys_kernel(5)).
pub(super) const NOBODY: u32 = 65534;

/// Whether a user ID, as this process sees it, may belong to the container.
fn is_containers(config: &Config, stage: Stage, uid: u32) -> bool {
    let maps = &config.linux.uid_mappings;
    match stage {
        Stage::CreateRuntime if !maps.is_empty() => maps.iter().any(|map| uid >= map.host && uid - map.host < map.size),
        Stage::CreateRuntime | Stage::CreateContainer => uid != NOBODY,
    }
}

/// Returns the container's cgroup in the hierarchy that has the memory controller: v1's if it exists, or else v2.
pub(super) fn memory_cgroup(stage: Stage, files: &CgroupFiles) -> MemoryCgroup {
    let mut hierarchies = [Hierarchy::Memory, Hierarchy::Unified].into_iter();
    let Some(hierarchy) = hierarchies.find(|hierarchy| files.container.has(*hierarchy)) else {
        return MemoryCgroup { place: None, payer: Payer::Container };
    };
    let path = files.container.path(hierarchy);
    let payer = match stage {
        Stage::CreateContainer => Payer::Container,
        Stage::CreateRuntime => {
            let own = files.runtime.as_ref().and_then(|file| file.path(hierarchy));
            if path.is_some() && own == path { Payer::Container } else { Payer::Caller }
        }
    };
    MemoryCgroup { place: path.map(|path| (hierarchy, path)), payer }
}
