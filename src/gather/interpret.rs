// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From the texts that were read to the facts of the plan; opens nothing itself.

use std::cell::LazyCell;
use std::collections::HashSet;
use std::path::Path;

use crate::facts::{
    AskedMount, CgroupNamespace, CgroupOwner, CgroupRoot, Cgroups, FollowUp, Image, Making, Membership, Memory,
    MemoryCgroup, MemorySource, Mounts, Occupants, Options, Owner, Payer, Places, Privileges, Propagation, Rights,
    Selinux, Sharing, Stage, Surroundings, mounts,
};
use crate::identity::MachineId;
use crate::interface::{self, STATE_UNITS, capabilities::NEEDED, capabilities::Needed};
use crate::kernel::cgroup::{self, Hierarchy};
use crate::kernel::{id_map, memory};
use crate::oci::config::{Config, host_id_of_root};
use crate::oci::state::State;
use crate::path::InnerPath;
use crate::systemd::Version;

/// What is known of the host, whichever container it is about.
#[derive(Debug, Clone)]
pub struct Host {
    /// All of its memory.
    pub memory_bytes: u64,
    /// The host's own machine id, if it has one and the container's name is none.
    pub machine_id: Option<MachineId>,
    /// The files in a cgroup that belong to whom it is delegated.
    pub delegated: Vec<String>,
    /// The text of its os-release, if it has one.
    pub os_release: Option<String>,
}

/// What was read about a container that is being created.
pub struct Sources<'a> {
    /// The stage of this call.
    pub stage: Stage,
    /// `/proc/self/mountinfo` in the container's mount namespace.
    pub mountinfo: &'a [u8],
    /// Where the container's root is in that namespace.
    pub root_path: &'a Path,
    /// The container's mounts in that table.
    pub mounts: Mounts,
    /// The identities of the files that a plan may act on.
    pub places: Places,
    /// `/proc/<pid>/cgroup` of the container.
    pub cgroup: &'a str,
    /// The same as the container reads it.
    pub cgroup_inside: &'a str,
    /// The same of the runtime, where that can be told; asked only where it matters.
    pub runtime_cgroup: &'a dyn Fn() -> Option<String>,
    /// Looks at one of the container's cgroups. The occupants are asked for only where the cgroup would otherwise be
    /// treated as the container's own.
    pub look_at_cgroup: &'a dyn Fn(&CgroupPlace<'_>) -> CgroupLook,
    /// Reads a small file inside the root.
    pub inside: &'a dyn Fn(&InnerPath) -> Option<String>,
    /// Whether this hook will run for this container again.
    pub follow_up: FollowUp,
    /// What the author chose.
    pub options: Options,
    /// Whether a cgroup can be made beside the container's own.
    pub making: Making,
    /// What this process may do.
    pub rights: Rights,
    /// `uid_map` and `gid_map` of the container's user namespace.
    pub id_maps: [&'a str; 2],
    /// The signal by which the engine stops the container.
    pub stop_signal: Option<&'a str>,
    /// Whether the image has a unit of this name.
    pub has_unit: &'a dyn Fn(&str) -> bool,
    /// What the image has.
    pub image: Image,
    /// The version of its systemd.
    pub systemd: Option<Version>,
    /// What SELinux makes of the container.
    pub selinux: Selinux,
}

/// A cgroup to look at, and where it can be reached.
#[derive(Debug, Clone, Copy)]
pub struct CgroupPlace<'a> {
    /// The hierarchy that it is in.
    pub hierarchy: Hierarchy,
    /// Its path, from the root of this process's cgroup namespace.
    pub path: &'a InnerPath,
    /// Where the host has the whole hierarchy mounted, if it has.
    pub on_host: Option<&'a Path>,
    /// Where the container sees the cgroup, if it does.
    pub inside: Option<&'a InnerPath>,
    /// What to find out.
    pub question: CgroupQuestion,
    /// Whether to find out, too, how many cgroups can be made in it.
    pub asks_for_room: bool,
}

/// What to find out about a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupQuestion {
    /// Its inode.
    Identity,
    /// Its inode, and whose processes are in it.
    Occupants,
}

/// What was found out about a cgroup.
#[derive(Debug, Clone, Copy)]
pub struct CgroupLook {
    /// Its inode, or `None` if it could not be opened.
    pub inode: Option<u64>,
    /// Who is in it. [`Occupants::Unknown`] if that wasn't the question.
    pub occupants: Occupants,
    /// How many cgroups can be made below it, one in the other, or `None` if there is no limit, or if that wasn't asked.
    pub room: Option<u32>,
    /// The user ID that owns the files which limit it. `None` in v1, if the container doesn't see the cgroup, or if it can't
    /// be determined.
    pub owner_of_limits: Option<u32>,
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("stage", &self.stage)
            .field("root_path", &self.root_path)
            .finish_non_exhaustive()
    }
}

/// The facts of a container that is being created.
#[must_use]
pub fn live(state: &State, config: &Config, host: &Host, sources: Sources<'_>) -> Surroundings {
    let cgroups = cgroups(state, config, &sources.mounts, &sources);
    let memory = container_memory(limit(&sources.mounts, &sources), host);
    let memory_cgroup = memory_cgroup(&sources);
    Surroundings {
        follow_up: sources.follow_up,
        owner: owner(config, sources.stage),
        rights: sources.rights,
        privileges: privileges(config, sources.id_maps, sources.stop_signal, sources.systemd, sources.has_unit),
        memory,
        memory_cgroup,
        cgroups,
        options: sources.options,
        systemd: sources.systemd,
        selinux: sources.selinux,
        places: sources.places,
        ..common(state, config, host, sources.mounts, sources.image)
    }
}

/// The facts that are the same for a container and for a bundle, with harmless values for the rest.
pub(super) fn common(state: &State, config: &Config, host: &Host, mounts: Mounts, image: Image) -> Surroundings {
    let (machine_id, bad_uuid) = machine_id(state, config, host);
    Surroundings {
        follow_up: FollowUp::None,
        owner: None,
        rights: Rights::of_root(config.has_namespace("user")),
        privileges: Privileges::default(),
        mounts,
        image,
        places: Places::default(),
        memory: container_memory(None, host),
        memory_cgroup: MemoryCgroup { place: None, payer: Payer::Container },
        options: Options::default(),
        cgroups: Cgroups {
            namespace: cgroup_namespace(config),
            unified: None,
            systemd: None,
            outside: Vec::new(),
            asked: Vec::new(),
            making: Making::Possible,
            name: cgroup_name(state),
        },
        delegated: host.delegated.clone(),
        systemd: None,
        selinux: Selinux::Off { has_label: false },
        propagation: propagation(state, config),
        machine_id,
        bad_uuid,
        container_manager: container_manager(config),
        host_os_release: host.os_release.clone(),
        terminal: config.process.terminal,
    }
}

pub(super) fn privileges(
    config: &Config,
    id_maps: [&str; 2],
    stop_signal: Option<&str>,
    systemd: Option<Version>,
    has_unit: &dyn Fn(&str) -> bool,
) -> Privileges {
    let capabilities = config.process.capabilities.clone();
    let missing = NEEDED.iter().filter(|needed| {
        let is_new = needed.since.is_none_or(|since| systemd.is_some_and(|version| version >= since));
        is_new && !capabilities.may_have(needed.capability)
    });
    let units = |needed: &Needed| needed.units.iter().copied().filter(|unit| has_unit(unit)).collect();
    Privileges {
        missed: missing.map(|needed| (needed.capability, units(needed))).collect(),
        capabilities,
        is_privileged: config.is_privileged(),
        no_new_privileges: config.process.no_new_privileges,
        unmapped: id_maps.map(|map| id_map::first_unmapped(map, Privileges::IDS)),
        state_units: STATE_UNITS.into_iter().filter(|unit| config.root.readonly && has_unit(unit)).collect(),
        stop_signal: stop_signal.map(str::to_owned),
    }
}

/// `container_uuid` decides where it is an id, else the container's own id does; with the text that
/// is none.
fn machine_id(state: &State, config: &Config, host: &Host) -> (MachineId, Option<String>) {
    let from_id = || MachineId::of_container(&state.id, host.machine_id.as_ref());
    match config.env("container_uuid") {
        None | Some("") => (from_id(), None),
        Some(uuid) => match MachineId::parse(uuid) {
            Some(id) => (id, None),
            None => (from_id(), Some(uuid.to_owned())),
        },
    }
}

/// One line, since systemd reads the first only; `oci` makes it look for the engine's own marks.
fn container_manager(config: &Config) -> String {
    let word = config.env("container").and_then(|text| text.lines().next()).filter(|word| !word.is_empty());
    word.unwrap_or("oci").to_owned()
}

/// crun makes every mount private after its hooks, unless config.json says otherwise. Its state has
/// a key of its own, which tells it from the others.
fn propagation(state: &State, config: &Config) -> Propagation {
    if state.root.is_some() && config.linux.rootfs_propagation.as_deref().is_none_or(str::is_empty) {
        Propagation::Lost
    } else {
        Propagation::Kept
    }
}

pub(super) fn cgroup_namespace(config: &Config) -> CgroupNamespace {
    if config.has_namespace("cgroup") { CgroupNamespace::Private } else { CgroupNamespace::Host }
}

/// Determines whether a cgroup namespace that config.json names by a path is a container's or the host's. In a namespace
/// that a runtime made for a container, the container's cgroup is the root. In any other one it has a longer path, and the
/// namespace also shows the cgroups of others.
fn joined_cgroup_namespace(inside: &str) -> CgroupNamespace {
    let mut paths = [Hierarchy::Unified, Hierarchy::Systemd].into_iter().filter_map(|one| cgroup::parse(inside, one));
    if paths.all(|path| path == InnerPath::root()) { CgroupNamespace::Private } else { CgroupNamespace::Host }
}

pub(super) fn container_memory(limit_bytes: Option<u64>, host: &Host) -> Memory {
    match limit_bytes {
        Some(bytes) if bytes < host.memory_bytes => Memory { bytes, source: MemorySource::Limit },
        Some(_) | None => Memory { bytes: host.memory_bytes, source: MemorySource::Host },
    }
}

/// At createRuntime this process is in the runtime's user namespace, where the container's root has
/// another number.
fn owner(config: &Config, stage: Stage) -> Option<Owner> {
    match stage {
        Stage::CreateContainer => None,
        Stage::CreateRuntime => {
            let uid = host_id_of_root(&config.linux.uid_mappings)?;
            Some(Owner { uid, gid: host_id_of_root(&config.linux.gid_mappings).unwrap_or(uid) })
        }
    }
}

/// The mounts of config.json at, above and below /sys/fs/cgroup, in its order.
pub(super) fn asked_cgroup_mounts(config: &Config) -> Vec<AskedMount> {
    let base = InnerPath::new(interface::CGROUP);
    let mounts = config.mounts.iter().map(|mount| AskedMount {
        at: InnerPath::new(&mount.destination),
        read_only: mount.is_read_only(),
        is_bind: mount.is_bind(),
    });
    mounts.filter(|mount| mount.at.is_at_or_below(&base) || base.is_below(&mount.at)).collect()
}

/// The paths at which config.json asks for a new tmpfs. If several mounts have the same destination, the last one
/// counts, since it is on top.
#[must_use]
pub fn asked_tmpfs(config: &Config) -> HashSet<InnerPath> {
    let mut asked = HashSet::new();
    for mount in &config.mounts {
        let at = InnerPath::new(&mount.destination);
        if mount.kind.as_deref() == Some("tmpfs") && !mount.is_bind() {
            asked.insert(at);
        } else {
            asked.remove(&at);
        }
    }
    asked
}

/// The paths at which the container may see its own cgroups.
#[must_use]
pub fn own_cgroups(mounts: &Mounts, cgroup_inside: &str) -> Vec<InnerPath> {
    let hierarchies = [Hierarchy::Unified, Hierarchy::Systemd];
    let own =
        hierarchies.into_iter().filter_map(|hierarchy| Some((hierarchy, cgroup::parse(cgroup_inside, hierarchy)?)));
    own.flat_map(|(hierarchy, inside)| {
        mounts.of_hierarchy(hierarchy).map(|(mount, _)| mount.at.join(inside.as_path())).collect::<Vec<_>>()
    })
    .collect()
}

/// What a cgroup is called that lies beside other containers'.
pub(super) fn cgroup_name(state: &State) -> String {
    format!("oci-systemd-hook-{}", state.id)
}

fn cgroups(state: &State, config: &Config, mounts: &Mounts, sources: &Sources<'_>) -> Cgroups {
    let namespace = if config.has_namespace("cgroup") && !config.has_new_namespace("cgroup") {
        joined_cgroup_namespace(sources.cgroup_inside)
    } else {
        cgroup_namespace(config)
    };
    let runtime = LazyCell::new(sources.runtime_cgroup);
    let member = |hierarchy| {
        let path = cgroup::parse(sources.cgroup, hierarchy)?;
        // What a runtime makes is never the root of its own namespace.
        let is_runtimes_root =
            path == InnerPath::root() && (sources.stage == Stage::CreateRuntime || namespace == CgroupNamespace::Host);
        let owner = match trust(config, mounts, hierarchy) {
            _ if is_runtimes_root => CgroupOwner::Shared(Sharing::Engine),
            Trust::Named => CgroupOwner::Container,
            // A runtime that makes no cgroup for the container leaves it in its own.
            trust => match runtime.as_deref().filter(|text| cgroup::has(text, hierarchy)) {
                Some(text) if cgroup::parse(text, hierarchy).as_ref() == Some(&path) => {
                    CgroupOwner::Shared(Sharing::Engine)
                }
                None if trust == Trust::None => CgroupOwner::Shared(Sharing::Engine),
                Some(_) | None => CgroupOwner::Container,
            },
        };
        let at = directory(mounts, hierarchy, &path);
        let on_host = mounts::whole_hierarchy(sources.mountinfo, hierarchy, sources.root_path);
        let question =
            if owner == CgroupOwner::Container { CgroupQuestion::Occupants } else { CgroupQuestion::Identity };
        let asks_for_room = namespace == CgroupNamespace::Host && hierarchy == Hierarchy::Unified;
        let (on_host_at, inside) = (on_host.as_deref(), at.as_ref());
        let place = CgroupPlace { hierarchy, path: &path, on_host: on_host_at, inside, question, asks_for_room };
        let look = (sources.look_at_cgroup)(&place);
        let owner = match (owner, look.occupants) {
            (CgroupOwner::Container, Occupants::Others) => CgroupOwner::Shared(Sharing::Others),
            (CgroupOwner::Container, Occupants::AnotherContainer) => CgroupOwner::Shared(Sharing::AnotherContainer),
            (CgroupOwner::Container, Occupants::Unknown) => CgroupOwner::Shared(Sharing::Unknown),
            (owner, _) => owner,
        };
        Some(Membership {
            owner,
            inode: look.inode,
            room: look.room,
            on_host,
            owns_limits: look.owner_of_limits.is_none_or(|uid| is_containers(config, sources.stage, uid)),
            inside: cgroup::parse(sources.cgroup_inside, hierarchy),
            path,
        })
    };
    let is_outside = |hierarchy: &Hierarchy| {
        cgroup::has(sources.cgroup, *hierarchy) && cgroup::parse(sources.cgroup, *hierarchy).is_none()
    };
    Cgroups {
        namespace,
        unified: member(Hierarchy::Unified),
        systemd: member(Hierarchy::Systemd),
        outside: [Hierarchy::Unified, Hierarchy::Systemd].into_iter().filter(is_outside).collect(),
        asked: asked_cgroup_mounts(config),
        making: sources.making,
        name: cgroup_name(state),
    }
}

/// Whether a user id, as this process sees it, is one that the container's root can be.
fn is_containers(config: &Config, stage: Stage, uid: u32) -> bool {
    /// What the kernel shows for an id without a mapping (`overflowuid` in proc_sys_kernel(5)).
    const NOBODY: u32 = 65534;
    let maps = &config.linux.uid_mappings;
    match stage {
        Stage::CreateRuntime if !maps.is_empty() => maps.iter().any(|map| uid >= map.host && uid - map.host < map.size),
        Stage::CreateRuntime | Stage::CreateContainer => uid != NOBODY,
    }
}

/// What speaks for a cgroup's being the container's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// The engine named one, and the runtime shows the container the hierarchy.
    Named,
    /// The runtime shows it, and no more.
    Shown,
    /// Nothing does.
    None,
}

fn trust(config: &Config, mounts: &Mounts, hierarchy: Hierarchy) -> Trust {
    let is_shown = |hierarchy| mounts.of_hierarchy(hierarchy).next().is_some();
    let is_named = config.linux.cgroups_path.as_deref().is_some_and(|path| !path.is_empty());
    // On hybrid hosts some runtimes make none in v2's hierarchy.
    let may_lack = hierarchy == Hierarchy::Unified && is_shown(Hierarchy::Systemd);
    match is_shown(hierarchy) {
        true if is_named && !may_lack => Trust::Named,
        true => Trust::Shown,
        false => Trust::None,
    }
}

/// Where the container sees its cgroup of a hierarchy.
fn directory(mounts: &Mounts, hierarchy: Hierarchy, path: &InnerPath) -> Option<InnerPath> {
    mounts.of_hierarchy(hierarchy).find_map(|(mount, root)| match root {
        CgroupRoot::At(root) => path.below(root).map(|below| mount.at.join(below)),
        CgroupRoot::Outside => None,
    })
}

/// The container's cgroup in the hierarchy that has the memory controller: v1's if it exists, or else v2.
fn memory_cgroup(sources: &Sources<'_>) -> MemoryCgroup {
    let hierarchies = [Hierarchy::Memory, Hierarchy::Unified];
    let Some(hierarchy) = hierarchies.into_iter().find(|hierarchy| cgroup::has(sources.cgroup, *hierarchy)) else {
        return MemoryCgroup { place: None, payer: Payer::Container };
    };
    let path = cgroup::parse(sources.cgroup, hierarchy);
    let payer = match sources.stage {
        Stage::CreateContainer => Payer::Container,
        Stage::CreateRuntime => {
            let own = (sources.runtime_cgroup)().and_then(|text| cgroup::parse(&text, hierarchy));
            if path.is_some() && own == path { Payer::Container } else { Payer::Caller }
        }
    };
    MemoryCgroup { place: path.map(|path| (hierarchy, path)), payer }
}

fn limit(mounts: &Mounts, sources: &Sources<'_>) -> Option<u64> {
    [(Hierarchy::Unified, "memory.max"), (Hierarchy::Memory, "memory.limit_in_bytes")]
        .into_iter()
        .filter_map(|(hierarchy, file)| {
            let path = cgroup::parse(sources.cgroup, hierarchy)?;
            let at = directory(mounts, hierarchy, &path)?;
            memory::limit(&(sources.inside)(&at.join(file))?)
        })
        .min()
}
