// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows how to write down a tree of files so that two of them can be compared.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is said of each path.
pub type Snapshot = BTreeMap<PathBuf, String>;

/// What counts as a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Everything that the kernel writes down of a change.
    Untouched,
    /// As `Untouched`, but something may have been made in a directory and removed again.
    Restored,
    /// What a copy has in common with its model.
    Copied,
}

/// Writes down all below `top`, and `top` itself.
pub fn read(top: &Path, detail: Detail) -> Snapshot {
    let mut snapshot = Snapshot::new();
    let mut names = HashMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let full = if path.as_os_str().is_empty() { top.to_owned() } else { top.join(&path) };
        let metadata = std::fs::symlink_metadata(&full).unwrap();
        if metadata.is_dir() {
            left.extend(std::fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
        if detail == Detail::Copied && metadata.nlink() > 1 && !metadata.is_dir() {
            names.entry(metadata.ino()).or_insert_with(Vec::new).push(path.clone());
        }
        snapshot.insert(path, describe(&full, &metadata, detail));
    }
    // A file's names outside the tree can't be copied.
    for mut group in names.into_values().filter(|group| group.len() > 1) {
        group.sort();
        for path in &group {
            snapshot.entry(path.clone()).and_modify(|line| {
                let _ = write!(line, " is {:?}", group[0]);
            });
        }
    }
    snapshot
}

/// In bytes.
const LARGE: u64 = 1 << 20;

fn describe(path: &Path, metadata: &Metadata, detail: Detail) -> String {
    let kind = metadata.file_type();
    let mut line = format!("{:o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid());
    // Writing to a string can't fail.
    let _ = write!(line, " rdev={} xattrs={}", metadata.rdev(), xattrs(path));
    if !(kind.is_dir() && detail == Detail::Restored) {
        let _ = write!(line, " mtime={}.{}", metadata.mtime(), metadata.mtime_nsec());
    }
    if detail != Detail::Copied {
        let _ = write!(line, " ino={}", metadata.ino());
    }
    if detail == Detail::Untouched || (detail == Detail::Restored && !kind.is_dir()) {
        let _ = write!(line, " ctime={}.{}", metadata.ctime(), metadata.ctime_nsec());
    }
    if kind.is_file() && detail == Detail::Untouched && metadata.len() > LARGE {
        // Its ctime tells of a write, and a debug build takes seconds to read it.
        let _ = write!(line, " size={}", metadata.len());
    } else if kind.is_file() {
        let content = std::fs::read(path).unwrap();
        let _ = write!(line, " size={} content={:x}", content.len(), digest(&content));
    } else if kind.is_symlink() {
        let _ = write!(line, " -> {:?}", std::fs::read_link(path).unwrap());
    } else if kind.is_fifo() || kind.is_socket() {
        line.push_str(" special");
    }
    line
}

/// FNV-1a, which is enough against mistakes.
fn digest(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn xattrs(path: &Path) -> String {
    let mut names = vec![0_u8; 4096];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap_or(0);
    let mut all: Vec<String> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0_u8; 4096];
            let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap_or(0);
            format!("{}={:?}", String::from_utf8_lossy(name), &value[..length])
        })
        .collect();
    all.sort();
    format!("{all:?}")
}

/// Whether two snapshots are equal; if not, where they differ.
pub fn same(what: &str, before: &Snapshot, after: &Snapshot) -> Result<(), String> {
    let mut lines: Vec<String> = Vec::new();
    for (path, old) in before {
        match after.get(path) {
            Some(new) if new == old => {}
            Some(new) => lines.push(format!("{path:?} was {old}, is {new}")),
            None => lines.push(format!("{path:?} is gone: {old}")),
        }
    }
    lines.extend(
        after
            .iter()
            .filter(|(path, _)| !before.contains_key(*path))
            .map(|(path, new)| format!("{path:?} is new: {new}")),
    );
    if lines.is_empty() {
        return Ok(());
    }
    let count = lines.len();
    lines.truncate(10);
    Err(format!("{what} changed at {count} places:\n  {}", lines.join("\n  ")))
}
