// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The limits on copying an image's content, and the messages for content that exceeds them. This module doesn't know
//! how the content is copied.

use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::path::InnerPath;
use crate::plan::Excess;
use crate::sys::SysError;

/// The maximum number of files that are copied onto one tmpfs. An image with more files below /run, /tmp or in the
/// journal's directory is broken or malicious: each file takes kernel memory, and delays the start of the container.
pub(super) const FILES_MAX: u32 = 65_536;
/// The maximum depth of nested directories that are copied. Each level takes two file descriptors, and by default a
/// process may have 1,024 open.
pub(super) const DEPTH_MAX: usize = 128;
/// The maximum memory for the paths of files with several hard links, which are remembered until
/// the copy is complete.
pub(super) const LINKS_MAX_BYTES: usize = 1024 * 1024;
/// How much more memory the copied content may take, and the bound to report when it is exceeded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    pub left_bytes: u64,
    pub bound: Bound,
}

/// How much of an image's content is copied onto one tmpfs.
#[derive(Debug, Clone, Copy)]
pub(super) struct CopyLimit {
    /// The allowance of this tmpfs.
    pub here: Allowance,
    /// The allowance of all the container's tmpfs together.
    pub all: Allowance,
    pub excess: Excess,
}

impl Allowance {
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Failed> {
        self.left_bytes = self.left_bytes.checked_sub(bytes).ok_or(Failed::Bound(self.bound))?;
        Ok(())
    }
}

impl CopyLimit {
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Failed> {
        self.here.take(bytes)?;
        self.all.take(bytes)
    }
}

/// A limit that an image's content exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// The bytes copied onto this tmpfs.
    Bytes(u64),
    /// The bytes copied onto all the container's tmpfs together.
    All(u64),
    /// The bytes that fit into the free memory of the container's cgroup.
    Free(u64),
    /// The bytes that are copied although they can't be charged to the container.
    Unentered(u64),
    /// The bytes that are read, whether they are copied or not.
    Read(u64),
    /// The number of files, directories and symbolic links.
    Files,
    /// The depth of nested directories.
    Depth,
    /// The memory for the paths of files with several hard links.
    Links,
}

/// A bound and the directory whose content is copied, for messages.
#[derive(Debug)]
pub(super) struct BoundOf<'a>(pub Bound, pub &'a InnerPath);

impl fmt::Display for BoundOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bound, top) = self;
        match bound {
            Bound::Bytes(most) => write!(f, "{most} bytes in {top}"),
            Bound::All(most) => write!(f, "{most} bytes in all directories that get a tmpfs"),
            Bound::Free(most) => {
                write!(
                    f,
                    "{most} bytes in the directories that get a tmpfs (three quarters of the container's free memory)"
                )
            }
            Bound::Unentered(most) => {
                write!(
                    f,
                    "{most} bytes in the directories that get a tmpfs (the copies can't be charged to the container)"
                )
            }
            Bound::Read(most) => write!(f, "{most} bytes to read in {top}, including content that is not copied"),
            Bound::Files => write!(f, "{FILES_MAX} files in {top}"),
            Bound::Depth => write!(f, "{DEPTH_MAX} nested directories in {top}"),
            Bound::Links => write!(f, "{LINKS_MAX_BYTES} bytes of paths to files with several hard links in {top}"),
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
    /// Whether the image is too large, as opposed to another failure.
    pub(super) fn is_of_size(&self) -> bool {
        match self {
            Self::Bound(_) => true,
            Self::Sys(error) => error.errno() == Some(Errno::NOSPC),
        }
    }
}
