// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hooks that are added to a config.json, as a change to its text.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use oci_spec::runtime::HookBuilder;
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::hooksd::{self, Descriptor};
use crate::oci::edit::{Edit, EditError};
use crate::report;

/// The stages of config.json's `hooks`, in the order in which they run.
const STAGES: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// `hooks` by stage. Each entry is kept as it is written, because a runtime may accept numbers
/// that this program doesn't.
type HookLists = BTreeMap<String, Box<RawValue>>;

/// A file with hooks for all containers, like that of oci-add-hooks: a config.json of which only `hooks` is used.
#[derive(Debug, Default)]
pub struct HookConfig(BTreeMap<&'static str, Vec<Box<RawValue>>>);

impl HookConfig {
    pub fn parse(text: &[u8]) -> serde_json::Result<Self> {
        let fields: HookLists = serde_json::from_slice(text)?;
        let hooks = fields.get("hooks").map_or("null", |hooks| hooks.get());
        let lists: Option<HookLists> = serde_json::from_str(hooks)?;
        let mut config = Self::default();
        for stage in STAGES {
            let hooks = entries(lists.as_ref(), stage)?;
            if !hooks.iter().all(|hook| hook.get().starts_with('{')) {
                return Err(serde_json::Error::custom(format!("an entry of hooks.{stage} is not an object")));
            }
            if !hooks.is_empty() {
                config.0.insert(stage, hooks);
            }
        }
        Ok(config)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why hooks can't be added.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    #[error("cannot add hooks to config.json")]
    Edit(#[from] EditError),
    /// `hooks` is duplicated or in another case, which runtimes interpret in different ways.
    #[error("cannot add hooks to config.json: the field `hooks` is duplicated or not in lower case")]
    Ambiguous,
    #[error("cannot add the hook {path:?} to config.json")]
    HookEntry { path: PathBuf, source: oci_spec::OciSpecError },
}

/// Adds the hooks that a config.json lacks: those of `first` before its own hooks, those of `last` after them. A
/// bundle that is used again already has them.
pub fn add(edit: &mut Edit<'_>, first: &HookConfig, last: &[&Descriptor]) -> Result<(), InjectError> {
    // Go ignores case, uses the last of two such fields, and merges their contents.
    let alike: Vec<_> = edit.names().filter(|name| name.eq_ignore_ascii_case("hooks")).collect();
    if alike.len() > 1 || alike.iter().any(|name| *name != "hooks") {
        return Err(InjectError::Ambiguous);
    }
    let own: Option<HookLists> = edit.get("hooks").map(serde_json::from_str).transpose().map_err(EditError::from)?;
    for stage in STAGES {
        // If the value is not a list, the edit below reports it.
        let mut present = entries(own.as_ref(), stage).unwrap_or_default();
        let first = lacking(&mut present, first.0.get(stage).cloned().unwrap_or_default());
        let last = lacking(&mut present, of_descriptors(last, stage)?);
        edit.surround(&["hooks", stage], &first, &last)?;
    }
    Ok(())
}

/// Whether a config.json calls a hook with this project's name before the container's command is started.
pub fn calls_this_hook(edit: &Edit<'_>) -> bool {
    #[derive(Deserialize)]
    struct HookPath {
        path: PathBuf,
    }
    let is_this = |hook: &RawValue| {
        serde_json::from_str::<HookPath>(hook.get())
            .is_ok_and(|hook| hook.path.file_name() == Some(OsStr::new(report::NAME)))
    };
    // Hooks that can't be parsed are left for the runtime to report.
    let lists: Option<HookLists> = edit.get("hooks").and_then(|hooks| serde_json::from_str(hooks).ok());
    ["prestart", "createRuntime", "createContainer"]
        .iter()
        .any(|stage| entries(lists.as_ref(), stage).is_ok_and(|hooks| hooks.iter().any(|hook| is_this(hook))))
}

/// Returns the hooks that are not in `present`, and adds them to it.
fn lacking(present: &mut Vec<Box<RawValue>>, mut hooks: Vec<Box<RawValue>>) -> Vec<Box<RawValue>> {
    hooks.retain(|hook| {
        let is_lacking = !present.iter().any(|other| is_same(other, hook));
        if is_lacking {
            present.push(hook.clone());
        }
        is_lacking
    });
    hooks
}

/// Returns the entries of a stage, which may be missing.
fn entries(lists: Option<&HookLists>, stage: &str) -> serde_json::Result<Vec<Box<RawValue>>> {
    let list = lists.and_then(|lists| lists.get(stage)).map_or("null", |list| list.get());
    serde_json::from_str::<Option<_>>(list).map(Option::unwrap_or_default)
}

fn is_same(one: &RawValue, other: &RawValue) -> bool {
    let value = |text: &RawValue| serde_json::from_str::<Value>(text.get()).ok();
    one.get() == other.get() || value(one).is_some_and(|one| Some(one) == value(other))
}

fn of_descriptors(descriptors: &[&Descriptor], stage: &str) -> Result<Vec<Box<RawValue>>, InjectError> {
    let named =
        descriptors.iter().flat_map(|descriptor| descriptor.stages.iter().map(|stage| (stage, &descriptor.hook)));
    named.filter(|(named, _)| named.name() == stage).map(|(_, hook)| entry(hook)).collect()
}

/// Creates an entry of config.json. Like the engines, it omits what the descriptor doesn't specify.
fn entry(hook: &hooksd::HookEntry) -> Result<Box<RawValue>, InjectError> {
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
    let built = builder.build().and_then(|entry| Ok(to_raw_value(&entry)?));
    built.map_err(|source| InjectError::HookEntry { path: hook.path.clone(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::oci::document::Document;

    /// Reads two descriptors that match all containers. One of them has two stages.
    fn descriptors(directory: &std::path::Path) -> hooksd::HookSet {
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
        let document = Document::parse(text.into()).unwrap();
        let mut edit = Edit::of(&document);
        add(&mut edit, &HookConfig::parse(first.to_string().as_bytes()).unwrap(), &all)?;
        Ok(edit.into_text())
    }

    const ONE: &str = r#"{"path":"/","args":["one","x"],"env":["A=1"],"timeout":3}"#;
    const TWO: &str = r#"{"path":"/proc"}"#;

    #[test]
    fn descriptors_come_last_and_the_hook_configuration_first() {
        let first = json!({ "hooks": { "poststop": [{ "path": "/f", "x": 1 }], "prestart": null, "other": 7 } });
        let text = r#"{ "hooks" : {"poststop":[ {"path":"/o","n":1e400} ]}, "n":1.0 }"#;
        let expected = format!(
            r#"{{ "hooks" : {{"createRuntime":[{ONE}],"poststop":[ {{"path":"/f","x":1}},{{"path":"/o","n":1e400}},{ONE},{TWO} ]}}, "n":1.0 }}"#
        );
        let changed = with(text, &first).unwrap();
        assert_eq!(changed, expected);
        assert_eq!(with(&changed, &first).unwrap(), expected, "a second time");
        let otherwise = changed.replace(TWO, "{ \"path\" : \"/proc\" }");
        assert_eq!(with(&otherwise, &first).unwrap(), otherwise, "written by somebody else");
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
        for (text, says) in [
            (r#"{"hooks":{"poststop":7}}"#, "hooks.poststop is not a list"),
            (r#"{"hooks":[]}"#, "expected a map"),
            (r#"{"hooks":{},"hooks":{}}"#, "the field `hooks` is duplicated"),
            (r#"{"Hooks":{}}"#, "or not in lower case"),
        ] {
            let error = crate::report::chain(&with(text, &json!({})).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
        for (text, says) in [
            ("[]", "expected a map"),
            (r#"{"hooks":[]}"#, "expected a map"),
            (r#"{"hooks":{"poststop":{}}}"#, "expected a sequence"),
            (r#"{"hooks":{"poststop":[{},7]}}"#, "an entry of hooks.poststop is not an object"),
        ] {
            let error = HookConfig::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
