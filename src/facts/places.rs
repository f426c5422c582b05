// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files that paths in the container resolved to when facts were gathered. This module doesn't know
//! how files are identified.

use std::collections::BTreeMap;

use crate::kernel::statx::FileIdentity;
use crate::path::InnerPath;

/// The identity of the file at each path that a plan may act on. The paths have no symbolic links in them.
#[derive(Debug, Clone, Default)]
pub struct Places(BTreeMap<InnerPath, FileIdentity>);

impl Places {
    /// Records the identity of the file at a path.
    pub fn insert(&mut self, at: InnerPath, identity: FileIdentity) {
        self.0.insert(at, identity);
    }

    /// Returns the identity of the file at a path. Returns `None` if nothing was there, or if the
    /// path wasn't looked up.
    #[must_use]
    pub fn at(&self, at: &InnerPath) -> Option<FileIdentity> {
        self.0.get(at).copied()
    }

    /// Returns the deepest path at or above `at` where a file existed, and that file's identity.
    #[must_use]
    pub fn above(&self, at: &InnerPath) -> Option<(InnerPath, FileIdentity)> {
        std::iter::successors(Some(at.clone()), InnerPath::parent).find_map(|above| {
            let identity = self.at(&above)?;
            Some((above, identity))
        })
    }
}
