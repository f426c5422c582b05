// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The facts for changes to a config.json, before there is a container.

use std::path::Path;

use super::{ConfigText, GatherError, live};
use crate::facts::Before;
use crate::facts::mounts::has_nsdelegate;
use crate::identity::MachineId;
use crate::interface;
use crate::oci::state::{State, StateError};
use crate::sys::fs;

/// A state such as the runtime will write for the container whose bundle is `bundle`. Its id is not said yet, and is
/// the last directory's name in the bundle's path that is one, as in podman's `…/overlay-containers/ID/userdata`.
pub fn foretold_state(bundle: &Path) -> Result<State, StateError> {
    let names = bundle.ancestors().filter_map(|at| Some(at.file_name()?.to_string_lossy().into_owned()));
    let named = names.clone().find(|name| MachineId::in_name(name).is_some());
    // A hidden directory's name can't be an id.
    let id = named.or_else(|| names.map(|name| name.trim_start_matches('.').to_owned()).find(|name| !name.is_empty()));
    let json = serde_json::json!({ "id": id.as_deref().unwrap_or("bundle"), "bundle": bundle, "status": "creating" });
    State::parse(json.to_string().as_bytes())
}

/// Gathers them.
pub fn before(state: &State, text: &ConfigText) -> Result<Before, GatherError> {
    let mounts = fs::read_host(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    Ok(Before {
        manager: text.peek()?.annotation("io.container.manager").map(str::to_owned),
        machine_id: MachineId::in_name(&state.id),
        host_os_release: live::host_os_release(),
        keeps_limits: Path::new(interface::CGROUP).join("cgroup.controllers").exists() && has_nsdelegate(&mounts),
    })
}
