// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The identity of a file, as reported by statx(2). This module doesn't make the system call.

use serde::Serialize;

/// The identity of an open file. Two descriptors with the same identity refer to the same file through the same mount.
///
/// A path has no such guarantee: a process that may rename directories can make it lead to another file between two
/// system calls, and `RENAME_EXCHANGE` of a directory takes along what is mounted on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FileIdentity {
    /// The mount's unique ID (`STATX_MNT_ID_UNIQUE`), which is never reused. Before Linux 6.8 it is the ID in
    /// mountinfo, which is not reused while the mount exists.
    pub mount: u64,
    /// The file system's device number, as in `st_dev`.
    pub device: u64,
    /// The inode number on that file system.
    pub inode: u64,
}
