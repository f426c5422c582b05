// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The container's root directory as a handle. An image is hostile: this is the only way from an
//! [`InnerPath`] to a file, and no link leads out of it.
//!
//! Why paths must not be joined as strings:
//! <https://github.com/cyphar/libpathrs/blob/main/docs/avoidable-vulnerabilities.md>

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pathrs::error::ErrorKind;
use pathrs::flags::ResolverFlags;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::facts::Found;
use crate::kernel::mountinfo;
use crate::path::InnerPath;
use crate::sys::{SysError, fs};

/// As many links as the kernel follows in one path, path_resolution(7).
const LINKS_MAX: u32 = 40;

/// The container's root directory.
#[derive(Debug)]
pub struct Root {
    inside: pathrs::Root,
    path: PathBuf,
    mount: u64,
}

impl Root {
    /// Opens the root directory at a path of the host, which is trusted.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        let inside = pathrs::Root::open(path).map_err(|error| sys_error("open", path, &error))?;
        let info = fs::fd_info(inside.as_fd())?;
        let mount = mountinfo::mount_of(&info).ok_or_else(|| SysError::new("fdinfo without mnt_id", Errno::NOSYS))?;
        Ok(Self { path: fs::path_of(inside.as_fd())?, inside, mount })
    }

    /// Where it is on the host, without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of the mount that it lies on.
    #[must_use]
    pub fn mount(&self) -> u64 {
        self.mount
    }

    /// The directory itself.
    pub fn directory(&self) -> Result<OwnedFd, SysError> {
        fs::open_at(self.inside.as_fd(), ".", OFlags::PATH | OFlags::DIRECTORY)
    }

    /// What is at a path, links followed inside the root.
    #[must_use]
    pub fn find(&self, path: &InnerPath) -> Found {
        self.find_within(path, LINKS_MAX)
    }

    fn find_within(&self, path: &InnerPath, links: u32) -> Found {
        match self.inside.resolve(path.as_path()) {
            Ok(handle) => self.describe(&OwnedFd::from(handle)),
            Err(error) if errno(&error) == Errno::NOENT => self.find_missing(path, links),
            Err(error) => Found::Unreachable(sys_error("resolve", path.as_path(), &error).to_string()),
        }
    }

    fn describe(&self, file: &OwnedFd) -> Found {
        let at = match self.inner_path(file.as_fd()) {
            Ok(at) => at,
            Err(error) => return Found::Unreachable(error.to_string()),
        };
        match fs::stat(file).map(|stat| fs::kind(&stat)) {
            Ok(FileType::Directory) => {
                let empty = fs::open_at(file.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY)
                    .and_then(|directory| fs::is_empty_dir(directory.as_fd()));
                match empty {
                    Ok(true) => Found::EmptyDirectory(at),
                    Ok(false) => Found::Directory(at),
                    Err(error) => Found::Unreachable(error.to_string()),
                }
            }
            Ok(FileType::RegularFile) => Found::File(at),
            Ok(FileType::Fifo) => Found::Else(at, "a fifo"),
            Ok(FileType::Socket) => Found::Else(at, "a socket"),
            Ok(FileType::CharacterDevice | FileType::BlockDevice) => Found::Else(at, "a device"),
            Ok(FileType::Symlink | FileType::Unknown) => Found::Else(at, "of an unknown kind"),
            Err(error) => Found::Unreachable(error.to_string()),
        }
    }

    /// Where a path that isn't there would be: the links of its existing part are followed, also a
    /// last one that dangles.
    fn find_missing(&self, path: &InnerPath, links: u32) -> Found {
        let (Some(parent), Some(name)) = (path.parent(), path.as_path().file_name()) else {
            return Found::Unreachable(format!("{path} is not there"));
        };
        let directory = match self.find_within(&parent, links) {
            Found::Directory(at) | Found::EmptyDirectory(at) => at,
            Found::Nothing(at) => return Found::Nothing(at.join(name)),
            Found::File(at) | Found::Else(at, _) => {
                return Found::Unreachable(format!("{at} is no directory"));
            }
            Found::Unreachable(why) => return Found::Unreachable(why),
        };
        let target = self.open_directory(&directory).and_then(|file| fs::readlink_at(file.as_fd(), name));
        match target {
            Ok(target) if links > 0 => {
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                // `directory` has no links, so `..` can be taken off as text.
                self.find_within(&InnerPath::new(directory.as_path().join(target)), links - 1)
            }
            Ok(_) => Found::Unreachable(format!("{path}: too many symbolic links")),
            Err(_) => Found::Nothing(directory.join(name)),
        }
    }

    fn inner_path(&self, file: BorrowedFd<'_>) -> Result<InnerPath, SysError> {
        let path = fs::path_of(file)?;
        path.strip_prefix(&self.path)
            .map(InnerPath::new)
            .map_err(|_| SysError::new(format!("{} is not below {}", path.display(), self.path.display()), Errno::XDEV))
    }

    /// Opens a path that has no link in it, as a mere place (`O_PATH`).
    pub fn place(&self, at: &InnerPath) -> Result<OwnedFd, SysError> {
        self.inside
            .as_ref()
            .with_resolver_flags(ResolverFlags::NO_SYMLINKS)
            .resolve_nofollow(at.as_path())
            .map(OwnedFd::from)
            .map_err(|error| sys_error("resolve", at.as_path(), &error))
    }

    /// Opens a directory that has no link in its path, as a mere place.
    pub fn open_directory(&self, at: &InnerPath) -> Result<OwnedFd, SysError> {
        let place = self.place(at)?;
        fs::open_at(place.as_fd(), ".", OFlags::PATH | OFlags::DIRECTORY)
    }

    /// The directory that holds a path, and the path's name in it.
    pub fn parent(&self, at: &InnerPath) -> Result<(OwnedFd, OsString), SysError> {
        match (at.parent(), at.as_path().file_name()) {
            (Some(parent), Some(name)) => Ok((self.open_directory(&parent)?, name.to_owned())),
            _ => Err(SysError::new(format!("the parent of {at}"), Errno::INVAL)),
        }
    }

    /// Opens a regular file for reading. What else is there is not opened: a FIFO would block.
    pub fn read(&self, at: &InnerPath) -> Result<File, SysError> {
        let place = self.place(at)?;
        if fs::kind(&fs::stat(&place)?) != FileType::RegularFile {
            return Err(SysError::new(format!("{at} is not a regular file"), Errno::INVAL));
        }
        fs::reopen(place.as_fd(), OFlags::RDONLY).map(File::from)
    }
}

fn errno(error: &pathrs::error::Error) -> Errno {
    match error.kind() {
        ErrorKind::OsError(Some(number)) => Errno::from_raw_os_error(number),
        ErrorKind::SafetyViolation => Errno::XDEV,
        ErrorKind::NotImplemented | ErrorKind::NotSupported => Errno::NOSYS,
        _ => Errno::IO,
    }
}

fn sys_error(verb: &str, path: &Path, error: &pathrs::error::Error) -> SysError {
    SysError::new(format!("{verb}({path:?})"), errno(error))
}
