// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Distinguishes a file from others that were or will be at the same path, by its inode number and birth time,
//! statx(2). Inode numbers are reused, but a birth time can't be set.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, FsWord, Statx, StatxFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Context, SysError, fs};

/// A file's inode number, and its birth time if the file system records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    inode: u64,
    /// The birth time in seconds since 1970 and nanoseconds. `None` if the file system doesn't record it.
    at: Option<(i64, u32)>,
}

/// The file that a name refers to.
#[derive(Debug, Clone, Copy)]
pub struct NamedFile {
    pub birth: Birth,
    pub kind: FileType,
    /// The size of the file, which matters only for a regular file.
    pub size_bytes: u64,
}

/// Whether a file is the same one as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sameness {
    Yes,
    No,
    /// The file system doesn't record the birth time of at least one of the files.
    Unknown,
}

impl Birth {
    /// Compares what was recorded earlier with what is found now. If inode numbers don't survive a remount of the
    /// file system, only the birth times are compared.
    #[must_use]
    pub fn is(&self, now: &Self, inodes: Inodes) -> Sameness {
        match (self.at, now.at) {
            (Some(noted), Some(found)) if noted == found => match inodes {
                Inodes::Kept if self.inode != now.inode => Sameness::No,
                Inodes::Kept | Inodes::OfOneMount => Sameness::Yes,
            },
            (Some(_), Some(_)) => Sameness::No,
            (None, _) | (_, None) => Sameness::Unknown,
        }
    }
}

/// How long the inode numbers of a file system stay the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inodes {
    /// The inode numbers stay the same as long as the files exist.
    Kept,
    /// The inode numbers stay the same until the file system is mounted again. This is true of directories on an
    /// overlay of several file systems without `xino`. Their birth time is that of the upper layer.
    OfOneMount,
}

impl Inodes {
    /// Returns whether inode numbers survive a remount of the file system of an open file.
    pub fn of(file: impl AsFd) -> Result<Self, SysError> {
        /// `OVERLAYFS_SUPER_MAGIC` in linux/magic.h.
        const OVERLAY: FsWord = 0x794c_7630;
        let found = rustix::fs::fstatfs(file).call(|| "fstatfs()")?;
        Ok(if found.f_type == OVERLAY { Self::OfOneMount } else { Self::Kept })
    }
}

/// Returns the inode number and birth time of an open file.
pub fn of(file: impl AsFd) -> Result<Birth, SysError> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::statx(&file, "", flags, StatxFlags::INO | StatxFlags::BTIME) {
        Err(Errno::NOSYS) => Ok(Birth { inode: fs::stat(file)?.st_ino, at: None }),
        result => result.call(|| "statx()").map(|status| birth(&status)),
    }
}

/// Returns what a name in a directory refers to. A symbolic link is not followed.
pub fn at(directory: BorrowedFd<'_>, name: &OsStr) -> Result<NamedFile, SysError> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME | StatxFlags::TYPE | StatxFlags::SIZE;
    match rustix::fs::statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, wanted) {
        Err(Errno::NOSYS) => {
            let status = fs::stat_at(directory, name)?;
            let size_bytes = u64::try_from(status.st_size).unwrap_or(u64::MAX);
            Ok(NamedFile { birth: Birth { inode: status.st_ino, at: None }, kind: fs::kind(&status), size_bytes })
        }
        result => {
            let status = result.call(|| format!("statx({name:?})"))?;
            let kind = FileType::from_raw_mode(status.stx_mode.into());
            Ok(NamedFile { birth: birth(&status), kind, size_bytes: status.stx_size })
        }
    }
}

fn birth(status: &Statx) -> Birth {
    let has_birth_time = StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::BTIME);
    Birth { inode: status.stx_ino, at: has_birth_time.then_some((status.stx_btime.tv_sec, status.stx_btime.tv_nsec)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_same_only_if_that_is_told() {
        let birth = |inode, at| Birth { inode, at };
        let noted = birth(7, Some((1, 2)));
        for (now, kept, of_one_mount) in [
            (birth(7, Some((1, 2))), Sameness::Yes, Sameness::Yes),
            (birth(8, Some((1, 2))), Sameness::No, Sameness::Yes),
            (birth(7, Some((1, 3))), Sameness::No, Sameness::No),
            (birth(7, None), Sameness::Unknown, Sameness::Unknown),
        ] {
            assert_eq!((noted.is(&now, Inodes::Kept), noted.is(&now, Inodes::OfOneMount)), (kept, of_one_mount));
        }
        assert_eq!(birth(7, None).is(&noted, Inodes::Kept), Sameness::Unknown);
    }
}
