// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes to a config.json before its container is created. They can be made in podman's precreate stage,
//! oci-hooks(5), and by the runtime wrapper.

use serde_json::json;

use crate::bundle::Bundle;
use crate::decide::{Decision, decide};
use crate::gather::{self, GatherError};
use crate::oci::edit::{Edit, EditError};
use crate::plan::{Change, Field};
use crate::prepare::config;

/// Returns the decision whether to prepare the container, and the changes that its config.json needs for that.
pub fn changes(bundle: &Bundle<'_>) -> Result<(Decision, Vec<Change>), GatherError> {
    let decision = decide(&gather::container(bundle)?.0);
    let changes = match decision {
        Decision::Skip(_) => Vec::new(),
        Decision::Prepare(_) => config::changes(bundle.config()?, &gather::precreate::before(bundle)?),
    };
    Ok((decision, changes))
}

/// Makes the changes. Every byte that no change concerns stays as it is.
pub fn apply(edit: &mut Edit<'_>, changes: &[Change]) -> Result<(), EditError> {
    for change in changes {
        match &change.field {
            Field::Variable(name, value) => {
                edit.extend(&["process", "env"], &[json!(format!("{name}={value}"))])?;
            }
            Field::RootfsPropagation(value) => edit.set(&["linux", "rootfsPropagation"], &json!(value))?,
            Field::Mount { at, kind, options } => {
                let mount = json!({ "destination": at, "type": kind, "source": kind, "options": options });
                edit.extend(&["mounts"], &[mount])?;
            }
            Field::AddMountOption { mount, value } => {
                edit.extend(&["mounts", &mount.to_string(), "options"], &[json!(value)])?;
            }
            Field::MountOption { mount, option, value } => {
                edit.set(&["mounts", &mount.to_string(), "options", &option.to_string()], &json!(value))?;
            }
        }
    }
    Ok(())
}
