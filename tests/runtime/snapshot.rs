// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows whether anybody wrote to a directory or to a file in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A directory and the files right in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<PathBuf, Entry>);

/// The time of the last change tells of any write, also of one of the same bytes.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    changed: (i64, i64),
    modified: (i64, i64),
    links_to: Option<PathBuf>,
}

impl Snapshot {
    pub fn of(folder: &Path) -> Result<Self, String> {
        let wrong = |error: std::io::Error| format!("cannot look at {}: {error}", folder.display());
        let mut paths = vec![folder.to_owned()];
        for entry in fs::read_dir(folder).map_err(wrong)? {
            paths.push(entry.map_err(wrong)?.path());
        }
        let mut seen = BTreeMap::new();
        for path in paths {
            let about = fs::symlink_metadata(&path).map_err(wrong)?;
            let entry = Entry {
                inode: about.ino(),
                mode: about.mode(),
                owner: (about.uid(), about.gid()),
                size: about.size(),
                changed: (about.ctime(), about.ctime_nsec()),
                modified: (about.mtime(), about.mtime_nsec()),
                links_to: fs::read_link(&path).ok(),
            };
            seen.insert(path, entry);
        }
        Ok(Self(seen))
    }

    /// Fails where the directory is not what it was.
    pub fn is_still_so(&self, folder: &Path) -> Result<(), String> {
        let now = Self::of(folder)?;
        ensure!(*self == now, "the bundle was {self:#?}, and is {now:#?}");
        Ok(())
    }
}
