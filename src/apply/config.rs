// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Carries out changes to the text of a config.json.

use serde_json::json;

use crate::oci::edit::{EditError, extend, set};
use crate::plan::{Change, Field};

/// The changed text; every byte that no change is about is as it was.
pub fn changed(text: &str, changes: &[Change]) -> Result<String, EditError> {
    changes.iter().try_fold(text.to_owned(), |text, change| match &change.field {
        Field::Variable(name, value) => extend(&text, &["process", "env"], &[json!(format!("{name}={value}"))]),
        Field::RootfsPropagation(value) => set(&text, &["linux", "rootfsPropagation"], &json!(value)),
        Field::MountOption { mount, option, value } => {
            set(&text, &["mounts", &mount.to_string(), "options", &option.to_string()], &json!(value))
        }
    })
}
