// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Snapshots of a directory tree, to compare two of them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A description of each file by its path.
pub type Snapshot = BTreeMap<PathBuf, String>;

/// What counts as a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Everything that the kernel records of a change.
    Untouched,
    /// As `Untouched`, except that files may have been created in a directory and removed again.
    Restored,
    /// The attributes that a copy has in common with its original.
    Copied,
}

/// Describes `top` and everything below it.
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
    // Only names in the tree count: links from outside the tree can't be copied.
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

/// The size in bytes above which a file's content isn't read for [`Detail::Untouched`].
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
        // Its ctime shows a write, and a debug build takes seconds to read it.
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

/// Returns the FNV-1a hash, which is sufficient to detect mistakes.
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

/// Returns an error with the differences if two snapshots are not equal.
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
