// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Turns what was read into the facts on which the plan is based. This module opens no files, and is the same for a
//! container and for a bundle that describes one.

use std::collections::HashSet;

use super::cgroups::{cgroups, memory_cgroup};
use super::readings::{Host, Readings};
use crate::facts::{Memory, MemorySource, Owner, Privileges, Propagation, Runtime, Stage, Surroundings};
use crate::identity::MachineId;
use crate::interface::{STATE_UNITS, capabilities::NEEDED, capabilities::Needed};
use crate::kernel::id_map;
use crate::oci::config::{Config, host_id_of_root};
use crate::oci::state::State;
use crate::path::InnerPath;
use crate::systemd::Version;

/// Returns the facts on which the plan is based.
#[must_use]
pub fn interpret(state: &State, config: &Config, readings: Readings) -> Surroundings {
    let (machine_id, bad_uuid) = machine_id(state, config, &readings.host);
    Surroundings {
        owner: owner(config, readings.stage),
        privileges: privileges(config, &readings),
        memory: memory(&readings),
        memory_cgroup: memory_cgroup(readings.stage, &readings.membership),
        cgroups: cgroups(state, config, &readings),
        propagation: propagation(state, config),
        machine_id,
        bad_uuid,
        container_manager: container_manager(config),
        terminal: config.process.terminal,
        follow_up: readings.follow_up,
        rights: readings.rights,
        mounts: readings.mounts,
        image: readings.image,
        places: readings.places,
        options: readings.options,
        delegated: readings.host.delegated,
        systemd: readings.systemd,
        engine: readings.engine,
        selinux: readings.selinux,
        host_os_release: readings.host.os_release,
    }
}

/// Returns the capabilities that systemd's units need and the container can never have.
fn missed(config: &Config, systemd: Option<Version>) -> impl Iterator<Item = &'static Needed> {
    NEEDED.iter().filter(move |needed| {
        let is_new = needed.since.is_none_or(|since| systemd.is_some_and(|version| version >= since));
        is_new && !config.process.capabilities.may_have(needed.capability)
    })
}

/// Returns the units that the plan mentions if the image has them.
#[must_use]
pub fn asked_units(config: &Config, systemd: Option<Version>) -> Vec<&'static str> {
    let of_capabilities = missed(config, systemd).flat_map(|needed| needed.units.iter().copied());
    of_capabilities.chain(STATE_UNITS.into_iter().filter(|_| config.root.readonly)).collect()
}

fn privileges(config: &Config, readings: &Readings) -> Privileges {
    let has = |unit: &&str| readings.units.contains(unit);
    let units = |needed: &Needed| needed.units.iter().copied().filter(has).collect();
    let missed = missed(config, readings.systemd).map(|needed| (needed.capability, units(needed)));
    Privileges {
        missed: missed.collect(),
        capabilities: config.process.capabilities.clone(),
        is_privileged: config.is_privileged(),
        no_new_privileges: config.process.no_new_privileges,
        unmapped: readings.id_maps.each_ref().map(|map| id_map::first_unmapped(map, Privileges::IDS)),
        state_units: STATE_UNITS.into_iter().filter(|unit| config.root.readonly && has(unit)).collect(),
        stop_signal: readings.stop_signal.clone(),
    }
}

/// Determines the machine ID. It is `container_uuid` if that is a valid ID, and is derived from the container's ID
/// otherwise. Also returns a `container_uuid` that isn't valid.
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

/// Returns the container manager's name as a single line, since systemd reads only the first one. `oci` makes
/// systemd look for the engine's own marker files.
fn container_manager(config: &Config) -> String {
    let word = config.env("container").and_then(|text| text.lines().next()).filter(|word| !word.is_empty());
    word.unwrap_or("oci").to_owned()
}

fn propagation(state: &State, config: &Config) -> Propagation {
    if Runtime::of(state).resets_propagation_after_hooks()
        && config.linux.rootfs_propagation.as_deref().is_none_or(str::is_empty)
    {
        Propagation::Lost
    } else {
        Propagation::Kept
    }
}

/// Determines the amount of memory available to the container.
fn memory(readings: &Readings) -> Memory {
    let of_host = readings.host.memory_bytes;
    match readings.memory_limits.iter().copied().min() {
        Some(bytes) if bytes < of_host => Memory { bytes, source: MemorySource::Limit },
        Some(_) | None => Memory { bytes: of_host, source: MemorySource::Host },
    }
}

/// Determines the owner of created files. At createRuntime this process is in the runtime's user namespace, where
/// the container's root has a different ID.
fn owner(config: &Config, stage: Stage) -> Option<Owner> {
    match stage {
        Stage::CreateContainer => None,
        Stage::CreateRuntime => {
            let uid = host_id_of_root(&config.linux.uid_mappings)?;
            Some(Owner { uid, gid: host_id_of_root(&config.linux.gid_mappings).unwrap_or(uid) })
        }
    }
}

/// Returns the paths at which config.json asks for a new tmpfs. If several mounts have the same destination, the
/// last one counts, since it is on top.
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
