// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hooks that a config.json gets, as a change of its text.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::HookBuilder;
use serde::Deserialize;
use serde_json::Value;

use crate::hooksd::{self, Descriptor};
use crate::oci::edit::{self, EditError};

/// The stages of config.json's `hooks`, in the order in which they run.
const STAGES: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A file with hooks for all containers, as that of oci-add-hooks: a config.json of which only `hooks` counts.
#[derive(Debug, Default, Deserialize)]
pub struct HookConfig {
    #[serde(default, deserialize_with = "crate::oci::or_default")]
    hooks: BTreeMap<String, Value>,
}

impl HookConfig {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }
}

/// Why hooks can't be added.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// To this text.
    #[error("cannot add hooks to config.json")]
    Edit(#[from] EditError),
    /// Of this descriptor.
    #[error("cannot add the hook {path:?} to config.json")]
    Hook {
        /// The hook's executable.
        path: PathBuf,
        /// Why.
        source: oci_spec::OciSpecError,
    },
    /// Of this file.
    #[error("hooks.{0} of the hook configuration is not a list")]
    Stage(&'static str),
}

/// The text with the hooks that it lacks: those of `first` come before its own, those of `last` after them. A bundle that
/// is used again has them already.
pub fn with_hooks(text: &str, first: &HookConfig, last: &[&Descriptor]) -> Result<String, InjectError> {
    let own: BTreeMap<String, Value> = match edit::get(text, &["hooks"])? {
        Some(hooks) => serde_json::from_str(hooks).map_err(EditError::from)?,
        None => BTreeMap::new(),
    };
    let mut text = text.to_owned();
    for stage in STAGES {
        let mut present = own.get(stage).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut missing = |wanted: Vec<Value>| -> Vec<Value> {
            let mut missing = Vec::new();
            for hook in wanted {
                if !present.contains(&hook) {
                    present.push(hook.clone());
                    missing.push(hook);
                }
            }
            missing
        };
        let first = missing(of_config(first, stage)?);
        let last = missing(of_descriptors(last, stage)?);
        text = edit::surround(&text, &["hooks", stage], &first, &last)?;
    }
    Ok(text)
}

fn of_config(config: &HookConfig, stage: &'static str) -> Result<Vec<Value>, InjectError> {
    match config.hooks.get(stage) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(hooks)) => Ok(hooks.clone()),
        Some(_) => Err(InjectError::Stage(stage)),
    }
}

fn of_descriptors(descriptors: &[&Descriptor], stage: &str) -> Result<Vec<Value>, InjectError> {
    let named =
        descriptors.iter().flat_map(|descriptor| descriptor.stages.iter().map(|stage| (stage, &descriptor.hook)));
    named.filter(|(named, _)| named.name() == stage).map(|(_, hook)| entry(hook)).collect()
}

/// An entry of config.json, without what the descriptor doesn't say, as the engines write it.
fn entry(hook: &hooksd::Hook) -> Result<Value, InjectError> {
    let mut builder = HookBuilder::default().path(&hook.path);
    if !hook.args.is_empty() {
        builder = builder.args(hook.args.clone());
    }
    if !hook.env.is_empty() {
        builder = builder.env(hook.env.clone());
    }
    if let Some(seconds) = hook.timeout {
        builder = builder.timeout(seconds);
    }
    let built = builder.build().and_then(|entry| Ok(serde_json::to_value(entry)?));
    built.map_err(|source| InjectError::Hook { path: hook.path.clone(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    /// Both are for all containers; one of them has two stages.
    fn descriptors(directory: &std::path::Path) -> hooksd::Hooks {
        let written = |hook: Value, stages: &[&str]| {
            json!({ "version": "1.0.0", "hook": hook, "when": { "always": true }, "stages": stages }).to_string()
        };
        let one = json!({ "path": "/", "args": ["one", "x"], "env": ["A=1"], "timeout": 3 });
        std::fs::write(directory.join("1.json"), written(one, &["prestart", "poststop"])).unwrap();
        std::fs::write(directory.join("2.json"), written(json!({ "path": "/proc" }), &["poststop"])).unwrap();
        hooksd::read(&[directory.to_owned()], &[])
    }

    fn with(text: &str, first: &Value) -> Result<String, InjectError> {
        let directory = tempfile::tempdir().unwrap();
        let hooks = descriptors(directory.path());
        let all: Vec<&Descriptor> = hooks.descriptors.iter().collect();
        assert_eq!(all.len(), 2);
        with_hooks(text, &serde_json::from_value(first.clone()).unwrap(), &all)
    }

    const ONE: &str = r#"{"args":["one","x"],"env":["A=1"],"path":"/","timeout":3}"#;
    const TWO: &str = r#"{"path":"/proc"}"#;

    #[test]
    fn descriptors_come_last_and_the_hook_configuration_first() {
        let first = json!({ "hooks": { "poststop": [{ "path": "/f", "x": 1 }], "prestart": null, "other": 7 } });
        let text = r#"{ "hooks" : {"poststop":[ {"path":"/o"} ]}, "n":1.0 }"#;
        let expected = format!(
            r#"{{ "hooks" : {{"createRuntime":[{ONE}],"poststop":[ {{"path":"/f","x":1}},{{"path":"/o"}},{ONE},{TWO} ]}}, "n":1.0 }}"#
        );
        let changed = with(text, &first).unwrap();
        assert_eq!(changed, expected);
        assert_eq!(with(&changed, &first).unwrap(), expected, "a second time");
    }

    #[test]
    fn what_is_missing_is_made() {
        let expected = format!(r#""hooks":{{"poststop":[{ONE},{TWO}],"createRuntime":[{ONE}]}}"#);
        for text in ["{}", r#"{"hooks":null}"#] {
            assert_eq!(with(text, &json!({})).unwrap(), format!("{{{expected}}}"), "{text}");
        }
    }

    #[test]
    fn says_what_does_not_fit() {
        for (text, first, says) in [
            (r#"{"hooks":{"poststop":7}}"#, json!({}), "hooks.poststop is not a list"),
            (r#"{"hooks":[]}"#, json!({}), "expected a map"),
            ("{}", json!({ "hooks": { "poststop": {} } }), "hooks.poststop of the hook configuration is not a list"),
        ] {
            let error = crate::report::chain(&with(text, &first).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
