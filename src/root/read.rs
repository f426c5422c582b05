// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decides which files in the container's root may be read. The image and the volumes that the container's author
//! mounts determine where a path leads, and reading some files has side effects on the host, or never ends.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::Root;
use crate::interface;
use crate::kernel::fs_type::DataSource;
use crate::path::InnerPath;
use crate::sys::{SysError, cgroup, fs};

/// Why a file in the root can't or must not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A system call failed, or what was found is an error.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// Opening a FIFO would block, and opening a device can have any effect.
    #[error("{0} is not a regular file")]
    Kind(InnerPath),
    /// Reading such a file can have side effects on the host; for instance, reading /proc/kmsg
    /// consumes the kernel's messages.
    #[error("{0} is on a file system of the kernel, and the hook does not read such files for an image")]
    OfTheKernel(InnerPath),
    /// The content of volumes is the container's business.
    #[error(
        "{0} is on a different mount than the container's root; the hook reads only systemd's own path there, in \
         /usr/lib or /lib"
    )]
    OnAVolume(InnerPath),
    /// A server that is unreachable or malicious would block the hook.
    #[error(
        "{0} is on the mount of a file server (FUSE, NFS), which the hook reads only if it is the container's root"
    )]
    OfAServer(InnerPath),
}

impl ReadError {
    /// Whether the file itself is the reason, as opposed to a problem of this process such as a lack of memory.
    #[must_use]
    pub fn is_of_the_file(&self) -> bool {
        match self {
            Self::Kind(_) | Self::OfTheKernel(_) | Self::OnAVolume(_) | Self::OfAServer(_) => true,
            // This process has no rights in the file's user namespace, or another process holds a lease on the file.
            Self::Sys(error) => {
                matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM | Errno::AGAIN)) || error.is_from_file_server()
            }
        }
    }
}

impl Root {
    /// Opens a program of the image for reading, unless one of the reasons in [`ReadError`] forbids it. In that case
    /// the file isn't even opened, since that can have side effects, or block.
    pub fn read_program(&self, at: &InnerPath) -> Result<File, ReadError> {
        let place = self.regular_file(at)?;
        let answers = fs::answers(&place)?;
        let is_on_a_volume = fs::mount_number(place.as_fd())? != self.mount()?;
        let is_systemds_own = || interface::SYSTEMD.iter().any(|own| InnerPath::new(own) == *at);
        match answers {
            DataSource::Kernel => return Err(ReadError::OfTheKernel(at.clone())),
            DataSource::Server if is_on_a_volume => return Err(ReadError::OfAServer(at.clone())),
            DataSource::Server | DataSource::Stored if is_on_a_volume && !is_systemds_own() => {
                return Err(ReadError::OnAVolume(at.clone()));
            }
            DataSource::Server | DataSource::Stored => {}
        }
        Ok(reopen(&place)?)
    }

    /// Opens a cgroup file for reading. A file on any other file system is not opened.
    pub fn read_cgroup(&self, at: &InnerPath) -> Result<File, ReadError> {
        let place = self.regular_file(at)?;
        cgroup::check_is_cgroup(&place)?;
        Ok(reopen(&place)?)
    }

    fn regular_file(&self, at: &InnerPath) -> Result<OwnedFd, ReadError> {
        let place = self.place(at)?;
        if fs::kind(&fs::stat(&place)?) == FileType::RegularFile { Ok(place) } else { Err(ReadError::Kind(at.clone())) }
    }
}

/// Reopens a file for reading, without waiting for a process that holds a lease on it, fcntl(2).
fn reopen(place: &OwnedFd) -> Result<File, SysError> {
    fs::reopen(place.as_fd(), OFlags::RDONLY | OFlags::NONBLOCK).map(File::from)
}
