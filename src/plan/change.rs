// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A change to config.json, made before the container is created.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub field: Field,
    pub why: &'static str,
}

/// The field that is changed, and its new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Adds a variable to the environment of the container's first process, which doesn't have it yet.
    Variable(&'static str, String),
    /// Sets `linux.rootfsPropagation` to this value.
    RootfsPropagation(&'static str),
    Mount {
        at: &'static str,
        kind: &'static str,
        options: Vec<&'static str>,
    },
    /// Adds an option to a mount.
    AddMountOption {
        /// The index of the mount in `mounts`.
        mount: usize,
        value: &'static str,
    },
    /// Replaces an option of a mount.
    MountOption {
        /// The index of the mount in `mounts`.
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
            Field::AddMountOption { mount, value } => write!(f, "add {value:?} to mounts[{mount}].options")?,
            Field::MountOption { mount, option, value } => {
                write!(f, "set mounts[{mount}].options[{option}] to {value:?}")?;
            }
        }
        write!(f, ": {}", self.why)
    }
}
