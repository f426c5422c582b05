// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Carries out changes to the text of a config.json.

use serde_json::json;

use crate::oci::edit::{Edit, EditError};
use crate::plan::{Change, Field};

/// Makes the changes; every byte that none is about stays as it is.
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
            Field::MoreMountOption { mount, value } => {
                edit.extend(&["mounts", &mount.to_string(), "options"], &[json!(value)])?;
            }
            Field::MountOption { mount, option, value } => {
                edit.set(&["mounts", &mount.to_string(), "options", &option.to_string()], &json!(value))?;
            }
        }
    }
    Ok(())
}
