// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much of an image's content is copied, and what is said of more; knows nothing of how it is copied.

use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::path::InnerPath;
use crate::plan::Excess;
use crate::sys::SysError;

/// Who has more files below /run, /tmp or in the journal's directory of an image has made a mistake, or means harm: each
/// takes memory of the kernel's, and time before the container starts.
pub(super) const FILES_MAX: u32 = 65_536;
/// Two descriptors a level; a process has 1,024 of them where nobody changes that.
pub(super) const DEPTH_MAX: usize = 128;
/// Of paths that are kept in memory, since their files have other names, too.
pub(super) const LINKS_MAX_BYTES: usize = 1024 * 1024;
/// How much memory what is copied may take, and what to say if it is more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    pub left_bytes: u64,
    pub bound: Bound,
}

/// How much of an image's content is copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Onto this tmpfs.
    pub here: Allowance,
    /// Onto all of the container's.
    pub all: Allowance,
    pub excess: Excess,
}

impl Allowance {
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Failed> {
        self.left_bytes = self.left_bytes.checked_sub(bytes).ok_or(Failed::Bound(self.bound))?;
        Ok(())
    }
}

impl Room {
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Failed> {
        self.here.take(bytes)?;
        self.all.take(bytes)
    }
}

/// Of what an image has too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// Content for this tmpfs.
    Bytes(u64),
    /// Content for all tmpfs of the container.
    All(u64),
    /// Content, for the memory that is free in the container's cgroup.
    Free(u64),
    /// Content, for what can't be charged to the container.
    Unentered(u64),
    /// Content that is read.
    Read(u64),
    /// Files, directories and links.
    Files,
    /// Directories in directories.
    Depth,
    /// Files with several names.
    Links,
}

/// A bound, and the directory whose content is copied.
#[derive(Debug)]
pub(super) struct BoundOf<'a>(pub Bound, pub &'a InnerPath);

impl fmt::Display for BoundOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bound, top) = self;
        match bound {
            Bound::Bytes(most) => write!(f, "{most} bytes in {top}"),
            Bound::All(most) => write!(f, "{most} bytes in all directories that get a tmpfs"),
            Bound::Free(most) => {
                write!(f, "{most} bytes in what gets a tmpfs, three quarters of the memory that the container has left")
            }
            Bound::Unentered(most) => {
                write!(f, "{most} bytes in what gets a tmpfs, for which the container can't be charged")
            }
            Bound::Read(most) => write!(f, "{most} bytes of zeros, and of content that doesn't fit, in {top}"),
            Bound::Files => write!(f, "{FILES_MAX} files in {top}"),
            Bound::Depth => write!(f, "{DEPTH_MAX} directories in each other in {top}"),
            Bound::Links => write!(f, "{LINKS_MAX_BYTES} bytes of paths to files of several names in {top}"),
        }
    }
}

/// Why one file can't be copied.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failed {
    Sys(SysError),
    Bound(Bound),
}

impl From<SysError> for Failed {
    fn from(error: SysError) -> Self {
        Self::Sys(error)
    }
}

impl Failed {
    /// Whether it is the image that is too large, and not something that went wrong.
    pub(super) fn is_of_size(&self) -> bool {
        match self {
            Self::Bound(_) => true,
            Self::Sys(error) => error.errno() == Errno::NOSPC,
        }
    }
}
