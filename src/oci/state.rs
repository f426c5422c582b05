// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The container's state as a runtime writes it on a hook's standard input.
//!
//! <https://github.com/opencontainers/runtime-spec/blob/main/runtime.md#state>

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::bounded;
use super::object::Object;

/// Why a state can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The input isn't JSON, or a field has the wrong type.
    #[error("the input is not an OCI state")]
    Json(#[source] serde_json::Error),
    /// The ID is used in file names; see [`State::id`].
    #[error(
        "the state's ID {0:?} is invalid: it is empty, too long, begins with a dot, or contains a `/` or a control character"
    )]
    Id(String),
    /// The specification requires an absolute path.
    #[error("the state's bundle {0:?} is not an absolute path without `..`")]
    Bundle(PathBuf),
    /// Only [`State::bundle`] requires the field, because the bundle isn't needed at poststop.
    #[error("the state has no bundle")]
    NoBundle,
}

/// The states that are distinguished here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The container's process hasn't executed its command yet. runc reports `creating` to hooks
    /// where crun reports `created`.
    NotStarted,
    /// The container's command is running or paused.
    Running,
    /// The container is gone, so this is poststop.
    Stopped,
}

/// A state that has been validated.
#[derive(Debug, Clone)]
pub struct State {
    /// An ID that is safe as a file name: not empty, without slashes, and without a leading dot.
    pub id: String,
    pub status: Status,
    /// The PID of the first process as the runtime reports it. Runtimes differ: see [`crate::gather::call`].
    pub pid: Option<u32>,
    bundle: Option<PathBuf>,
    /// crun's own field: `root.path` as in config.json, so it may be relative to the bundle.
    pub root: Option<PathBuf>,
    /// The annotations, which Docker's state lacks. Those of config.json take precedence.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawState {
    id: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    pid: Option<i64>,
    // Docker before 17.12 and runc before 1.0 wrote `bundlePath`.
    #[serde(default, alias = "bundlePath")]
    bundle: Option<PathBuf>,
    #[serde(default)]
    root: Option<PathBuf>,
    #[serde(default, deserialize_with = "bounded::map")]
    annotations: BTreeMap<String, String>,
}

impl State {
    /// Parses and checks a state.
    pub fn parse(text: &[u8]) -> Result<Self, StateError> {
        let Object(wire) = serde_json::from_slice::<Object<RawState>>(text).map_err(StateError::Json)?;
        if !is_id(&wire.id) {
            return Err(StateError::Id(wire.id));
        }
        Ok(Self {
            status: match wire.status.as_deref() {
                Some("stopped") => Status::Stopped,
                Some("running" | "paused") => Status::Running,
                Some(_) | None => Status::NotStarted,
            },
            // Both 0 and -1 mean that there is no PID.
            pid: wire.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
            root: wire.root,
            id: wire.id,
            bundle: wire.bundle,
            annotations: wire.annotations,
        })
    }
}

impl State {
    /// Returns the bundle's directory, an absolute path.
    pub fn bundle(&self) -> Result<&Path, StateError> {
        match &self.bundle {
            Some(bundle) if is_plain_absolute(bundle) => Ok(bundle),
            Some(bundle) => Err(StateError::Bundle(bundle.clone())),
            None => Err(StateError::NoBundle),
        }
    }

    /// Predicts the state that a runtime will write for a container in `bundle`. The container's ID is `name`, if
    /// that is a valid ID.
    #[must_use]
    pub fn predicted(name: &str, bundle: PathBuf) -> Self {
        let id = if is_id(name) { name } else { "bundle" };
        Self {
            id: id.to_owned(),
            status: Status::NotStarted,
            pid: None,
            bundle: Some(bundle),
            root: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Returns the state of the same container with another bundle, before it is created.
    #[must_use]
    pub fn with_bundle(self, bundle: PathBuf) -> Self {
        Self { bundle: Some(bundle), status: Status::NotStarted, ..self }
    }
}

/// Whether an ID can be the name of a directory. Runtimes are stricter, each in its own way.
fn is_id(id: &str) -> bool {
    /// The longest name that Linux file systems allow, `NAME_MAX`.
    const LENGTH_MAX_BYTES: usize = 255;
    !id.is_empty()
        && !id.starts_with('.')
        && id.len() <= LENGTH_MAX_BYTES
        && !id.contains(|c: char| c == '/' || c.is_control())
}

fn is_plain_absolute(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_each_runtime_writes() {
        let table = [
            // runc 1.1 at createContainer: the PID in the container's own PID namespace.
            (
                r#"{"ociVersion":"1.0.2","id":"c1","status":"creating","pid":1,"bundle":"/b"}"#,
                Some(1),
                Status::NotStarted,
            ),
            // crun: the PID is 0, and there is a field that only crun has.
            (
                r#"{"ociVersion":"1.0","id":"c1","pid":0,"root":"/b/rootfs","bundle":"\/b","status":"created","annotations":{}}"#,
                None,
                Status::NotStarted,
            ),
            // crun 1.28 escapes each slash.
            (
                "{\n  \"ociVersion\": \"1.0\",\n  \"id\": \"c1\",\n  \"pid\": 0,\n  \"root\": \"\\/b\\/rootfs\",\n  \"bundle\": \"\\/b\",\n  \
                 \"status\": \"created\",\n  \"annotations\": {\n    \"a\\/b\": \"c\"\n  }\n}\n",
                None,
                Status::NotStarted,
            ),
            // youki doesn't write a PID.
            (
                r#"{"ociVersion":"v1.0.2","id":"c1","status":"creating","bundle":"/b","annotations":null}"#,
                None,
                Status::NotStarted,
            ),
            // The output of the `state` command of runc or crun.
            (
                r#"{"ociVersion":"1.0.2-dev","id":"c1","pid":77,"status":"running","bundle":"/b","owner":""}"#,
                Some(77),
                Status::Running,
            ),
            (r#"{"id":"c1","pid":77,"status":"paused","bundle":"/b"}"#, Some(77), Status::Running),
            // podman at poststop.
            (
                r#"{"ociVersion":"1.0.2-dev","id":"c1","status":"stopped","bundle":"/b","annotations":{"a":"b"}}"#,
                None,
                Status::Stopped,
            ),
            // An old Docker with `bundlePath`.
            (r#"{"version":"0.2","id":"c1","pid":77,"bundlePath":"/b"}"#, Some(77), Status::NotStarted),
        ];
        for (text, pid, status) in table {
            let state = State::parse(text.as_bytes()).unwrap();
            assert_eq!((state.pid, state.status), (pid, status), "{text}");
            assert_eq!(state.bundle().unwrap(), Path::new("/b"), "{text}");
        }
    }

    #[test]
    fn a_pid_that_can_be_no_process_is_none() {
        for pid in ["0", "-1", "-5", "null", "4294967296", "-9223372036854775808"] {
            let state = State::parse(format!(r#"{{"id":"c1","bundle":"/b","pid":{pid}}}"#).as_bytes()).unwrap();
            assert_eq!(state.pid, None, "{pid}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_a_state() {
        for text in [
            r#"{"id":"c1","bundle":"/b","pid":"77"}"#,
            r#"{"id":"c1","bundle":"/b","pid":77.0}"#,
            r#"{"id":"c1","bundle":"/b","pid":9223372036854775808}"#,
            "",
            "{",
            "[]",
            "null",
            r#"{"bundle":"/b"}"#,
            r#"{"id":7,"bundle":"/b"}"#,
            r#"{"id":"../c1","bundle":"/b"}"#,
            r#"{"id":"..","bundle":"/b"}"#,
            r#"{"id":"","bundle":"/b"}"#,
            r#"{"id":"c1","bundle":"/b","annotations":{"a":1}}"#,
        ] {
            assert!(State::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bundle_is_an_absolute_path() {
        for text in [r#"{"id":"c1"}"#, r#"{"id":"c1","bundle":"b"}"#, r#"{"id":"c1","bundle":"/b/../c"}"#] {
            let state = State::parse(text.as_bytes()).unwrap();
            assert!(state.bundle().is_err(), "{text}");
        }
    }
}
