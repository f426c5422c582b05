// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What tells one file from every other, statx(2); knows nothing of how it is asked for.

use serde::Serialize;

/// The identity of an open file: two descriptors with the same one are the same file, seen through the same mount.
///
/// A path says nothing of the kind. Who may rename directories can make it lead to another file between two system calls,
/// and `RENAME_EXCHANGE` of a directory takes along what is mounted on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FileIdentity {
    /// The mount's unique number (`STATX_MNT_ID_UNIQUE`), which is never used again. Before Linux 6.8 it is the number in
    /// mountinfo, which is not used again as long as the mount exists.
    pub mount: u64,
    /// The file system's device number, as `st_dev` has it.
    pub device: u64,
    /// The inode's number on that file system.
    pub inode: u64,
}
