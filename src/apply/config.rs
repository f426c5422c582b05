// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Carries out changes to the text of a config.json.

use serde_json::{Value, json};

use crate::oci::edit::{EditError, extend, set};
use crate::plan::{Change, Field};

/// The changed text; every byte that no change is about is as it was.
pub fn changed(text: &str, changes: &[Change]) -> Result<String, EditError> {
    let variables: Vec<Value> = changes.iter().filter_map(variable).collect();
    let text = extend(text, &["process", "env"], &variables)?;
    changes.iter().try_fold(text, |text, change| match &change.field {
        Field::Variable(..) => Ok(text),
        Field::RootfsPropagation(value) => set(&text, &["linux", "rootfsPropagation"], &json!(value)),
        Field::Mount { at, kind, options } => {
            let mount = json!({ "destination": at, "type": kind, "source": kind, "options": options });
            extend(&text, &["mounts"], &[mount])
        }
        Field::MountOption { mount, option, value } => {
            set(&text, &["mounts", &mount.to_string(), "options", &option.to_string()], &json!(value))
        }
    })
}

fn variable(change: &Change) -> Option<Value> {
    match &change.field {
        Field::Variable(name, value) => Some(json!(format!("{name}={value}"))),
        Field::RootfsPropagation(_) | Field::Mount { .. } | Field::MountOption { .. } => None,
    }
}
