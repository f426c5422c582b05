// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `/proc/<pid>/cgroup`: in which cgroup of each hierarchy a process is, see cgroups(7).
//!
//! The paths are relative to the root of the *reader's* cgroup namespace.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::path::InnerPath;

/// A cgroup hierarchy that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hierarchy {
    /// cgroup v2: the line `0::/…`.
    Unified,
    /// The v1 hierarchy without controllers that systemd names itself: `name=systemd`.
    Systemd,
    /// The v1 hierarchy of the memory controller.
    Memory,
}

impl fmt::Display for Hierarchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unified => "v2",
            Self::Systemd => "v1's name=systemd",
            Self::Memory => "v1's memory",
        })
    }
}

/// The process's cgroup in `hierarchy`; none where there is no such hierarchy.
///
/// The path is an [`InnerPath`], since a hierarchy has a root and names below it; a path that
/// leads out of the reader's namespace (`/../x`) is given as none.
#[must_use]
pub fn parse(text: &str, hierarchy: Hierarchy) -> Option<InnerPath> {
    path(text, hierarchy).filter(|path| !path.starts_with("/..")).map(|path| InnerPath::new(PathBuf::from(path)))
}

/// Whether the process is in a cgroup of `hierarchy`, wherever.
#[must_use]
pub fn has(text: &str, hierarchy: Hierarchy) -> bool {
    path(text, hierarchy).is_some()
}

fn path(text: &str, hierarchy: Hierarchy) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let found = match hierarchy {
            Hierarchy::Unified => id == "0" && controllers.is_empty(),
            Hierarchy::Systemd => controllers == "name=systemd",
            Hierarchy::Memory => controllers.split(',').any(|name| name == "memory"),
        };
        found.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "13:name=systemd:/a/b:c\n4:memory:/m\n0::/user.slice\n";

    #[test]
    fn finds_each_hierarchy() {
        let path = |hierarchy| parse(HYBRID, hierarchy).map(|path| path.to_string());
        assert_eq!(path(Hierarchy::Systemd).as_deref(), Some("/a/b:c"));
        assert_eq!(path(Hierarchy::Memory).as_deref(), Some("/m"));
        assert_eq!(path(Hierarchy::Unified).as_deref(), Some("/user.slice"));
    }

    #[test]
    fn knows_what_is_not_there() {
        assert_eq!(parse("0::/\n", Hierarchy::Systemd), None);
        assert_eq!(parse("4:memory:/\n", Hierarchy::Unified), None);
        assert_eq!(parse("0::/../../x\n", Hierarchy::Unified), None);
        assert!(has("0::/../../x\n", Hierarchy::Unified) && !has("0::/../../x\n", Hierarchy::Systemd));
        assert_eq!(parse("garbage\n\n0:", Hierarchy::Unified), None);
    }
}
