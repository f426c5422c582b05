// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which files the paths of a container led to when they were looked at.

use std::collections::BTreeMap;

use crate::kernel::statx::FileIdentity;
use crate::path::InnerPath;

/// The identity of each path that a plan may act on, without symbolic links.
#[derive(Debug, Clone, Default)]
pub struct Places(BTreeMap<InnerPath, FileIdentity>);

impl Places {
    /// Notes what is at a path.
    pub fn insert(&mut self, at: InnerPath, identity: FileIdentity) {
        self.0.insert(at, identity);
    }

    /// What was at a path; `None` if nothing was there, or nobody looked.
    #[must_use]
    pub fn at(&self, at: &InnerPath) -> Option<FileIdentity> {
        self.0.get(at).copied()
    }

    /// The deepest path at or above this one that was there, and what it was.
    #[must_use]
    pub fn above(&self, at: &InnerPath) -> Option<(InnerPath, FileIdentity)> {
        std::iter::successors(Some(at.clone()), InnerPath::parent).find_map(|above| {
            let identity = self.at(&above)?;
            Some((above, identity))
        })
    }
}
