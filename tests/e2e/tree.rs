// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lists directory trees, and determines from an overlay's upper layer what a container changed in
//! its root file system.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;

/// A file or directory of a tree. The size and modification time of a directory are not recorded, because both
/// change whenever an entry is added or removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub path: PathBuf,
    mode: u32,
    owner: (u32, u32),
    /// The size and the modification time, in seconds and nanoseconds.
    content: Option<(u64, i64, i64)>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "{path} {:o} {:?}", self.mode, self.owner)?;
        match self.content {
            Some((size, seconds, nanoseconds)) => {
                write!(f, " {size} bytes, {seconds}.{nanoseconds:09}")
            }
            None => Ok(()),
        }
    }
}

impl Entry {
    fn new(path: PathBuf, about: &Metadata) -> Self {
        Self {
            path,
            mode: about.mode(),
            owner: (about.uid(), about.gid()),
            content: (!about.is_dir()).then(|| (about.size(), about.mtime(), about.mtime_nsec())),
        }
    }
}

/// Lists everything below a directory, with paths relative to it. A missing directory has no entries.
pub fn walk(top: &Path) -> Result<Vec<Entry>, Failed> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        let Ok(entries) = fs::read_dir(top.join(&folder)) else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            let about = entry.metadata()?;
            let path = folder.join(entry.file_name());
            if about.is_dir() {
                todo.push(path.clone());
            }
            found.push(Entry::new(path, &about));
        }
    }
    Ok(found)
}

/// Returns what a run changed in its root file system: the files and whiteouts of the upper layer, and
/// directories that are new or have another mode or owner. A directory that overlayfs copied up only to put a
/// file into it is not a change.
pub fn changes(upper: &Path, lower: &Path, planted: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>, Failed> {
    let mut changed = Vec::new();
    for entry in walk(upper)? {
        if planted.contains(&entry.path) {
            continue;
        }
        let above = fs::symlink_metadata(upper.join(&entry.path))?;
        let same_folder = match fs::symlink_metadata(lower.join(&entry.path)) {
            Ok(below) => {
                above.is_dir()
                    && below.is_dir()
                    && (above.mode(), above.uid(), above.gid()) == (below.mode(), below.uid(), below.gid())
            }
            Err(_) => false,
        };
        if !same_folder {
            changed.push(entry.path);
        }
    }
    changed.sort();
    Ok(changed)
}
