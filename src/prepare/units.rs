// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the hook writes to /run/systemd/system, where it has effect for this boot only (systemd.unit(5)). So far it
//! only writes masks, which are symbolic links to /dev/null, for units that can't work in this container.

use super::{create_if_missing, moved, tmpfs_directory};
use crate::facts::{Found, Surroundings};
use crate::interface::{CONSOLE_GETTY, MACHINE_ID, MACHINE_ID_COMMIT, RUNTIME_UNITS};
use crate::path::InnerPath;
use crate::plan::{Action, Plan};

pub(super) fn plan(facts: &Surroundings, plan: &mut Plan) {
    let mut masks = Vec::new();
    if !facts.terminal {
        masks.push((CONSOLE_GETTY, "config.json asks for no terminal, so there is no /dev/console"));
    }
    let machine_id = match facts.image.at(MACHINE_ID) {
        Found::File(at) | Found::Nothing(at) | Found::OnServer(at) => Some(at),
        Found::Directory(_) | Found::EmptyDirectory(_) | Found::Other(..) | Found::Unreachable(_) => None,
    };
    let is_mount = |at: &InnerPath| {
        facts.mounts.at(at).is_some() || plan.steps.iter().any(|step| step.action.mounts_at() == Some(at))
    };
    if machine_id.as_ref().is_some_and(is_mount) {
        masks.push((MACHINE_ID_COMMIT, "this unit would write the mounted machine ID into the image"));
    }
    if masks.is_empty() {
        return;
    }
    let Some(directory) = tmpfs_directory(facts, plan, RUNTIME_UNITS) else {
        return;
    };
    for (path, why) in masks {
        let at = moved(path, RUNTIME_UNITS, &directory);
        create_if_missing(facts, plan, (path, at), why, |at| Action::Symlink { at, target: "/dev/null" });
    }
}
