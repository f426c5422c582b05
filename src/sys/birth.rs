// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What tells a file from any other one that was or will be at its path, statx(2): inode numbers are used again, and the
//! moment at which a file was made can't be set.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, FsWord, Statx, StatxFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Context, SysError, fs};

/// A file's inode, and when it was made, where its file system knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    inode: u64,
    /// In seconds since 1970 and nanoseconds.
    at: Option<(i64, u32)>,
}

/// What a name stands for, and since when.
#[derive(Debug, Clone, Copy)]
pub struct Newborn {
    /// Which file.
    pub birth: Birth,
    /// Its kind.
    pub kind: FileType,
    /// Of a regular file.
    pub size_bytes: u64,
}

/// Whether a file is the one that was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// It is.
    Yes,
    /// It is another one.
    No,
    /// The file system doesn't tell when either was made.
    Unknown,
}

impl Birth {
    /// Compares what was noted with what is there now. Where inode numbers aren't kept from one mount of the file system
    /// to the next, the moment must do.
    #[must_use]
    pub fn is(&self, now: &Self, inodes: Inodes) -> Same {
        match (self.at, now.at) {
            (Some(noted), Some(found)) if noted == found => match inodes {
                Inodes::Kept if self.inode != now.inode => Same::No,
                Inodes::Kept | Inodes::OfOneMount => Same::Yes,
            },
            (Some(_), Some(_)) => Same::No,
            (None, _) | (_, None) => Same::Unknown,
        }
    }
}

/// How long a file system's inode numbers stay the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inodes {
    /// As long as the files are there.
    Kept,
    /// Until it is mounted anew: those of directories on an overlay of several file systems are, without `xino`. The moment
    /// is the upper layer's.
    OfOneMount,
}

impl Inodes {
    /// Those of the file system that an open file is on.
    pub fn of(file: impl AsFd) -> Result<Self, SysError> {
        /// `OVERLAYFS_SUPER_MAGIC` in linux/magic.h.
        const OVERLAY: FsWord = 0x794c_7630;
        let found = rustix::fs::fstatfs(file).call(|| "fstatfs()")?;
        Ok(if found.f_type == OVERLAY { Self::OfOneMount } else { Self::Kept })
    }
}

/// Of an open file.
pub fn of(file: impl AsFd) -> Result<Birth, SysError> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::statx(&file, "", flags, StatxFlags::INO | StatxFlags::BTIME) {
        Err(Errno::NOSYS) => Ok(Birth { inode: fs::stat(file)?.st_ino, at: None }),
        result => result.call(|| "statx()").map(|status| birth(&status)),
    }
}

/// Of a name; a link's own.
pub fn at(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Newborn, SysError> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME | StatxFlags::TYPE | StatxFlags::SIZE;
    match rustix::fs::statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, wanted) {
        Err(Errno::NOSYS) => {
            let status = fs::stat_at(directory, name)?;
            let size_bytes = u64::try_from(status.st_size).unwrap_or(u64::MAX);
            Ok(Newborn { birth: Birth { inode: status.st_ino, at: None }, kind: fs::kind(&status), size_bytes })
        }
        result => {
            let status = result.call(|| format!("statx({name:?})"))?;
            let kind = FileType::from_raw_mode(status.stx_mode.into());
            Ok(Newborn { birth: birth(&status), kind, size_bytes: status.stx_size })
        }
    }
}

fn birth(status: &Statx) -> Birth {
    let is_told = StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::BTIME);
    Birth { inode: status.stx_ino, at: is_told.then_some((status.stx_btime.tv_sec, status.stx_btime.tv_nsec)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_same_only_if_that_is_told() {
        let birth = |inode, at| Birth { inode, at };
        let noted = birth(7, Some((1, 2)));
        for (now, kept, of_one_mount) in [
            (birth(7, Some((1, 2))), Same::Yes, Same::Yes),
            (birth(8, Some((1, 2))), Same::No, Same::Yes),
            (birth(7, Some((1, 3))), Same::No, Same::No),
            (birth(7, None), Same::Unknown, Same::Unknown),
        ] {
            assert_eq!((noted.is(&now, Inodes::Kept), noted.is(&now, Inodes::OfOneMount)), (kept, of_one_mount));
        }
        assert_eq!(birth(7, None).is(&noted, Inodes::Kept), Same::Unknown);
    }
}
