// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses `/proc/<pid>/cgroup`, which lists the cgroup of a process in each hierarchy, see cgroups(7).
//!
//! The paths are relative to the root of the *reader's* cgroup namespace, so [`CgroupFile`] has the type of that
//! namespace's paths as its parameter.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use crate::path::TreePath;

/// A cgroup hierarchy that this program uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hierarchy {
    /// cgroup v2, whose line in the file is `0::/…`.
    Unified,
    /// systemd's own v1 hierarchy `name=systemd`, which has no controllers.
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

/// The content of a process's `/proc/<pid>/cgroup`, read in the cgroup namespace that `Namespace` stands for.
#[derive(Debug, Clone)]
pub struct CgroupFile<Namespace> {
    text: String,
    namespace: PhantomData<Namespace>,
}

impl<Namespace> CgroupFile<Namespace> {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self { text, namespace: PhantomData }
    }

    /// Returns the process's cgroup in `hierarchy`, or `None` if there is no such hierarchy or the cgroup
    /// is outside the namespace (`/../x`).
    #[must_use]
    pub fn path(&self, hierarchy: Hierarchy) -> Option<TreePath<Namespace>> {
        self.written(hierarchy).filter(|path| !path.starts_with("/..")).map(TreePath::new)
    }

    /// Whether the process is in a cgroup of `hierarchy`, even if that cgroup is outside the namespace.
    #[must_use]
    pub fn has(&self, hierarchy: Hierarchy) -> bool {
        self.written(hierarchy).is_some()
    }

    fn written(&self, hierarchy: Hierarchy) -> Option<&str> {
        self.text.lines().find_map(|line| {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::OwnNamespace;

    const HYBRID: &str = "13:name=systemd:/a/b:c\n4:memory:/m\n0::/user.slice\n";

    fn file(text: &str) -> CgroupFile<OwnNamespace> {
        CgroupFile::new(text.to_owned())
    }

    #[test]
    fn finds_each_hierarchy() {
        let path = |hierarchy| file(HYBRID).path(hierarchy).map(|path| path.to_string());
        assert_eq!(path(Hierarchy::Systemd).as_deref(), Some("/a/b:c"));
        assert_eq!(path(Hierarchy::Memory).as_deref(), Some("/m"));
        assert_eq!(path(Hierarchy::Unified).as_deref(), Some("/user.slice"));
    }

    #[test]
    fn knows_what_is_not_there() {
        assert_eq!(file("0::/\n").path(Hierarchy::Systemd), None);
        assert_eq!(file("4:memory:/\n").path(Hierarchy::Unified), None);
        assert_eq!(file("0::/../../x\n").path(Hierarchy::Unified), None);
        assert!(file("0::/../../x\n").has(Hierarchy::Unified) && !file("0::/../../x\n").has(Hierarchy::Systemd));
        assert_eq!(file("garbage\n\n0:").path(Hierarchy::Unified), None);
    }
}
