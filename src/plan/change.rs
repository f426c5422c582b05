// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What shall be otherwise in a config.json, before the container is created.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub field: Field,
    pub why: &'static str,
}

/// What is changed, and to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A variable that the environment of the container's first process hasn't yet.
    Variable(&'static str, String),
    /// `linux.rootfsPropagation`.
    RootfsPropagation(&'static str),
    Mount {
        at: &'static str,
        kind: &'static str,
        options: Vec<&'static str>,
    },
    /// One more option of a mount.
    MoreMountOption {
        /// Which of `mounts`.
        mount: usize,
        value: &'static str,
    },
    /// An option of a mount.
    MountOption {
        /// Which of `mounts`.
        mount: usize,
        option: usize,
        value: &'static str,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Field::Variable(name, value) => write!(f, "add {name}={value:?} to process.env")?,
            Field::RootfsPropagation(value) => write!(f, "set linux.rootfsPropagation to {value:?}")?,
            Field::Mount { at, kind, options } => {
                write!(f, "add a {kind} mount on {at} ({}) to mounts", options.join(","))?;
            }
            Field::MoreMountOption { mount, value } => write!(f, "add {value:?} to mounts[{mount}].options")?,
            Field::MountOption { mount, option, value } => {
                write!(f, "set mounts[{mount}].options[{option}] to {value:?}")?;
            }
        }
        write!(f, ": {}", self.why)
    }
}
