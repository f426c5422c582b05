// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Carries out changes to the text of a config.json.

use serde_json::{Value, json};

use crate::oci::edit::{Document, EditError};
use crate::plan::{Change, Field};

/// Makes the changes; every byte that none is about stays as it is.
pub fn apply(document: &mut Document<'_>, changes: &[Change]) -> Result<(), EditError> {
    let variables: Vec<Value> = changes.iter().filter_map(variable).collect();
    document.extend(&["process", "env"], &variables)?;
    for change in changes {
        match &change.field {
            Field::Variable(..) => {}
            Field::RootfsPropagation(value) => document.set(&["linux", "rootfsPropagation"], &json!(value))?,
            Field::Mount { at, kind, options } => {
                let mount = json!({ "destination": at, "type": kind, "source": kind, "options": options });
                document.extend(&["mounts"], &[mount])?;
            }
            Field::MoreMountOption { mount, value } => {
                document.extend(&["mounts", &mount.to_string(), "options"], &[json!(value)])?;
            }
            Field::MountOption { mount, option, value } => {
                document.set(&["mounts", &mount.to_string(), "options", &option.to_string()], &json!(value))?;
            }
        }
    }
    Ok(())
}

fn variable(change: &Change) -> Option<Value> {
    match &change.field {
        Field::Variable(name, value) => Some(json!(format!("{name}={value}"))),
        Field::RootfsPropagation(_)
        | Field::Mount { .. }
        | Field::MoreMountOption { .. }
        | Field::MountOption { .. } => None,
    }
}
