// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds out whether the machine has what trials need.

use std::fmt;
use std::path::PathBuf;

/// A runtime that Debian packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Runtime {
    Runc,
    Crun,
}

impl Runtime {
    pub const ALL: [Self; 2] = [Self::Runc, Self::Crun];

    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns a reason if nothing can be mounted here.
pub fn missing_root() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned())
}

/// Returns the first of these programs that is not installed.
pub fn missing_program(programs: &[&str]) -> Option<String> {
    let missing = programs.iter().find(|program| where_is(program).is_none());
    missing.map(|program| format!("{program} is not installed"))
}

/// Returns the path of a program in PATH.
pub fn where_is(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
