// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Gathers the facts for changing a config.json before the container exists.

use std::path::{Path, PathBuf};

use super::annotations::Annotations;
use super::predict::layout_of_host;
use super::{GatherError, live};
use crate::bundle::Bundle;
use crate::facts::mounts::has_mounts_below;
use crate::facts::{Layout, PrecreateFacts};
use crate::identity::MachineId;
use crate::kernel::mountinfo;
use crate::oci::config;
use crate::oci::document::Document;
use crate::oci::state::State;
use crate::sys::mount_table;

/// Predicts the state that the runtime will write for the container with this bundle. The container's ID isn't
/// passed yet, but podman's bundles are named `…/overlay-containers/ID/userdata`.
#[must_use]
pub fn predicted_state(bundle: PathBuf) -> State {
    let name = id_in(&bundle).unwrap_or_else(|| name_of(&bundle));
    State::predicted(&name, bundle)
}

/// Predicts the state at podman's stage precreate. Before podman 5.0 these hooks don't start in the bundle, but the
/// source of podman's mount on /run/.containerenv is in it.
#[must_use]
pub fn state_at_precreate(directory: PathBuf, document: &Document) -> State {
    const MARK: &str = "/run/.containerenv";
    let by_mark = || {
        // Mounts that can't be parsed are reported as an error later.
        let mounts = config::mounts(document).unwrap_or_default();
        id_in(mounts.iter().find(|mount| mount.destination == Path::new(MARK))?.source.as_ref()?)
    };
    let id = id_in(&directory).or_else(by_mark);
    State::predicted(&id.unwrap_or_else(|| name_of(&directory)), directory)
}

/// Returns the last component of a path that is an engine's container ID.
fn id_in(path: &Path) -> Option<String> {
    let mut names = path.ancestors().filter_map(|at| at.file_name()?.to_str());
    names.find(|name| MachineId::in_name(name).is_some()).map(str::to_owned)
}

/// Returns the name of the bundle's directory as an ID. An ID can't begin with a dot, so the dot of a
/// hidden directory is removed.
fn name_of(bundle: &Path) -> String {
    bundle.file_name().map(|name| name.to_string_lossy().trim_start_matches('.').to_owned()).unwrap_or_default()
}

pub fn before(bundle: &Bundle<'_>) -> Result<PrecreateFacts, GatherError> {
    let root = bundle.config()?.root(bundle.directory()?);
    let root = root.map(|root| std::fs::canonicalize(&root).unwrap_or(root));
    let prefix = root.as_ref().map(|root| mountinfo::escape(root.as_os_str().as_encoded_bytes()));
    let mounts =
        mount_table::read(mount_table::OWN, |entry| prefix.as_ref().is_some_and(|root| entry.may_be_below(root)));
    let mounts = mounts.unwrap_or_default();
    Ok(PrecreateFacts {
        has_mounts_in_root: root.is_some_and(|root| has_mounts_below(&mounts, &root)),
        engine: Annotations::of(bundle)?.engine(bundle.state),
        machine_id: MachineId::in_name(&bundle.state.id),
        host_os_release: live::host_os_release(),
        is_unified: layout_of_host() == Layout::Unified,
    })
}
