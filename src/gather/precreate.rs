// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The facts for changes to a config.json, before there is a container.

use std::path::{Path, PathBuf};

use super::annotations::Annotations;
use super::predict::layout_of_host;
use super::{GatherError, live};
use crate::bundle::Bundle;
use crate::facts::mounts::has_mounts_below;
use crate::facts::{Engine, Layout, PrecreateFacts};
use crate::identity::MachineId;
use crate::kernel::mountinfo;
use crate::oci::config;
use crate::oci::document::Document;
use crate::oci::state::State;
use crate::sys::mount_table;

/// A state such as the runtime will write for the container whose bundle is `bundle`. Its id is not said yet: podman's
/// bundles are called `…/overlay-containers/ID/userdata`.
#[must_use]
pub fn predicted_state(bundle: PathBuf) -> State {
    let name = id_in(&bundle).unwrap_or_else(|| name_of(&bundle));
    State::predicted(&name, bundle)
}

/// The same for podman's stage precreate, before 5.0 of which hooks don't start in the bundle; but what podman mounts on
/// /run/.containerenv lies there.
#[must_use]
pub fn state_at_precreate(directory: PathBuf, document: &Document) -> State {
    const MARK: &str = "/run/.containerenv";
    let by_mark = || {
        // What can't be read is an error later.
        let mounts = config::mounts(document).unwrap_or_default();
        id_in(mounts.iter().find(|mount| mount.destination == Path::new(MARK))?.source.as_ref()?)
    };
    let id = id_in(&directory).or_else(by_mark);
    State::predicted(&id.unwrap_or_else(|| name_of(&directory)), directory)
}

/// The last directory's name that is an engine's id.
fn id_in(path: &Path) -> Option<String> {
    let mut names = path.ancestors().filter_map(|at| at.file_name()?.to_str());
    names.find(|name| MachineId::in_name(name).is_some()).map(str::to_owned)
}

/// A hidden directory's name can't be an id.
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
        engine: Engine::of(Annotations::of(bundle)?.get(Engine::ANNOTATION)),
        machine_id: MachineId::in_name(&bundle.state.id),
        host_os_release: live::host_os_release(),
        is_unified: layout_of_host() == Layout::Unified,
    })
}
