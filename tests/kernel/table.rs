// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the mount table of the trial's namespace, independently of the hook's own parser.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::bundle::SCRATCH;
use crate::harness::is_lasting;
use crate::harness::tree::Snapshot;

/// A line of mountinfo.
#[derive(Debug, Clone)]
pub struct Mount {
    pub id: String,
    pub device: String,
    /// The directory of the file system that is mounted.
    pub root: PathBuf,
    pub at: PathBuf,
    pub options: String,
    /// The optional fields, such as `shared:1 master:2`.
    pub propagation: String,
    pub fs_type: String,
    line: String,
}

impl Mount {
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|each| each == option)
    }

    fn is_lasting(&self) -> bool {
        is_lasting(&self.at) || SCRATCH.get().is_some_and(|scratch| self.at.starts_with(scratch))
    }
}

/// Returns all mounts of this thread's namespace. `/proc/self` would be that of the first thread.
pub fn read() -> Vec<Mount> {
    of("thread-self")
}

/// Returns all mounts that a process sees.
pub fn of(process: &str) -> Vec<Mount> {
    let text = std::fs::read(format!("/proc/{process}/mountinfo")).unwrap();
    String::from_utf8_lossy(&text).lines().map(parse).collect()
}

fn parse(line: &str) -> Mount {
    let fields: Vec<&str> = line.split(' ').collect();
    let hyphen = fields.iter().position(|field| *field == "-").unwrap();
    Mount {
        id: fields[0].to_owned(),
        device: fields[2].to_owned(),
        root: unescape(fields[3]),
        at: unescape(fields[4]),
        options: fields[5].to_owned(),
        propagation: fields[6..hyphen].join(" "),
        fs_type: fields[hyphen + 1].to_owned(),
        line: line.to_owned(),
    }
}

fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Returns the mount at a path, as the kernel's path lookup finds it. If there are several, it is the topmost one.
pub fn at(path: &Path) -> Option<Mount> {
    let file = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let info = std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", file.as_raw_fd())).unwrap();
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).unwrap().trim();
    read().into_iter().find(|mount| mount.id == id && mount.at == path)
}

/// Returns the line of each mount by its ID, since a moved mount changes its position in the table.
pub fn whole() -> Snapshot {
    whole_of("thread-self")
}

/// Returns the same for the mounts that a process sees.
pub fn whole_of(process: &str) -> Snapshot {
    let mounts = of(process).into_iter().filter(Mount::is_lasting);
    mounts.map(|mount| (PathBuf::from(&mount.id), mount.line)).collect()
}

/// Returns the same as [`whole`], except for mounts at or below `root`.
pub fn outside(root: &Path) -> Snapshot {
    read()
        .into_iter()
        .filter(|mount| mount.is_lasting() && !mount.at.starts_with(root))
        .map(|mount| (PathBuf::from(&mount.id), mount.line))
        .collect()
}

/// Returns the mount points at or below `root`, as paths in it.
pub fn below(root: &Path) -> Vec<String> {
    let mut paths: Vec<String> = read()
        .into_iter()
        .filter_map(|mount| mount.at.strip_prefix(root).ok().map(|path| format!("/{}", path.display())))
        .collect();
    paths.sort();
    paths
}
