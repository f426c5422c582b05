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
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use pathrs::error::ErrorKind;
use pathrs::flags::ResolverFlags;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::facts::Found;
use crate::kernel::mountinfo;
use crate::path::InnerPath;
use crate::sys::{SysError, fs};

/// As many links as the kernel follows in one path, path_resolution(7).
const LINKS_MAX: u32 = 40;

/// How often openat2(2) is asked at once; pathrs does it as often.
const TRIES_AT_ONCE: u32 = 128;
/// And how often at all, with a pause of a millisecond before each: also where mounts and renames don't cease, some call
/// comes between them.
const TRIES_MAX: u32 = TRIES_AT_ONCE + 1000;

/// The container's root directory.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    path: PathBuf,
}

/// What a path leads to that isn't there.
enum Missing {
    /// It would be here; no link is in this path.
    Nothing(InnerPath),
    /// A link that dangles, and where that leads.
    Link(InnerPath),
}

/// Which links a path may have in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    /// They are followed inside the root.
    Followed,
    /// None, at no place of the path.
    Refused,
}

impl Root {
    /// Opens the root directory at a path of the host, which is trusted.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        let directory = fs::open_host_directory(path)?;
        Ok(Self { path: fs::path_of(directory.as_fd())?, directory })
    }

    /// Where it is on the host, without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of the mount that it lies on, as in mountinfo.
    pub fn mount(&self) -> Result<u64, SysError> {
        Self::mount_of(self.directory())
    }

    /// The same of an open file.
    pub fn mount_of(file: impl AsFd) -> Result<u64, SysError> {
        let info = fs::fd_info(file.as_fd())?;
        mountinfo::mount_of(&info).ok_or_else(|| SysError::new("fdinfo without mnt_id", Errno::NOSYS))
    }

    /// The directory itself.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// What is at a path, links followed inside the root. An error says nothing of the path, other than
    /// [`Found::Unreachable`].
    pub fn find(&self, path: &InnerPath) -> Result<Found, SysError> {
        self.find_by_links(path.clone()).or_else(unreachable)
    }

    fn find_by_links(&self, mut path: InnerPath) -> Result<Found, SysError> {
        for _ in 0..=LINKS_MAX {
            match self.resolve(&path, OFlags::empty(), Links::Followed) {
                Err(error) if error.errno() == Errno::NOENT => match self.missing(&path)? {
                    Missing::Nothing(at) => return Ok(Found::Nothing(at)),
                    Missing::Link(target) => path = target,
                },
                result => return self.describe(result?.as_fd()),
            }
        }
        Ok(Found::Unreachable(format!("{path}: too many symbolic links")))
    }

    fn describe(&self, file: BorrowedFd<'_>) -> Result<Found, SysError> {
        let at = self.inner_path(file)?;
        Ok(match fs::kind(&fs::stat(file)?) {
            FileType::Directory => {
                let directory = fs::open_at(file, ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
                if fs::is_empty_dir(directory.as_fd())? { Found::EmptyDirectory(at) } else { Found::Directory(at) }
            }
            FileType::RegularFile => Found::File(at),
            FileType::Fifo => Found::Else(at, "a fifo"),
            FileType::Socket => Found::Else(at, "a socket"),
            FileType::CharacterDevice | FileType::BlockDevice => Found::Else(at, "a device"),
            FileType::Symlink | FileType::Unknown => Found::Else(at, "of an unknown kind"),
        })
    }

    /// Where a path that isn't there would be: the links of its existing part are followed, also a
    /// last one that dangles.
    fn missing(&self, path: &InnerPath) -> Result<Missing, SysError> {
        let names: Vec<&OsStr> = path.as_path().iter().skip(1).collect();
        let first = |count: usize| InnerPath::new(names.iter().take(count).collect::<PathBuf>());
        let open = |path: &InnerPath| self.resolve(path, OFlags::DIRECTORY, Links::Followed);
        // By halves: an image's link can have 2,000 names. The root itself is there, and the whole path isn't.
        let (mut there, mut missing) = (0, names.len());
        while missing - there > 1 {
            let half = usize::midpoint(there, missing);
            match open(&first(half)) {
                Ok(_) => there = half,
                Err(error) if error.errno() == Errno::NOENT => missing = half,
                Err(error) => return Err(error),
            }
        }
        let directory = open(&first(there))?;
        let at = self.inner_path(directory.as_fd())?;
        let rest: PathBuf = names.iter().skip(there).collect();
        match names.get(there).map(|name| fs::readlink_at(directory.as_fd(), name)) {
            Some(Ok(target)) => {
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                let mut behind_a_name = target.components().skip_while(|part| !matches!(part, Component::Normal(_)));
                if behind_a_name.any(|part| part == Component::ParentDir) {
                    // That name may be a link, and then its own directory is meant.
                    return Err(SysError::new(format!("readlink(\"{path}\") = {target:?}"), Errno::LOOP));
                }
                // `at` has no links, so that the `..` before a name can be taken off as text.
                let target = at.as_path().join(target);
                Ok(Missing::Link(InnerPath::new(target.join(names.iter().skip(there + 1).collect::<PathBuf>()))))
            }
            Some(Err(error)) if !matches!(error.errno(), Errno::NOENT | Errno::INVAL) => Err(error),
            Some(Err(_)) | None => Ok(Missing::Nothing(at.join(rest))),
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
        self.resolve(at, OFlags::NOFOLLOW, Links::Refused)
    }

    /// Opens a directory that has no link in its path, as a mere place.
    pub fn open_directory(&self, at: &InnerPath) -> Result<OwnedFd, SysError> {
        self.resolve(at, OFlags::DIRECTORY, Links::Refused)
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
        // Nor is one waited for that somebody has a lease on, fcntl(2).
        fs::reopen(place.as_fd(), OFlags::RDONLY | OFlags::NONBLOCK).map(File::from)
    }

    /// The kernel's own resolution, openat2(2), or pathrs' where the kernel is older than Linux 5.6
    /// or a seccomp filter doesn't know the call.
    fn resolve(&self, path: &InnerPath, flags: OFlags, links: Links) -> Result<OwnedFd, SysError> {
        let refused = match links {
            Links::Followed => ResolveFlags::empty(),
            Links::Refused => ResolveFlags::NO_SYMLINKS,
        };
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | refused;
        let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
        let open = || rustix::fs::openat2(&self.directory, path.as_path(), flags, Mode::empty(), within);
        // EAGAIN: something was renamed or mounted anywhere on the machine during a `..`.
        let mut tries = (0..TRIES_MAX).map(|number| {
            if number >= TRIES_AT_ONCE {
                std::thread::sleep(Duration::from_millis(1));
            }
            open()
        });
        let settled = tries.find(|result| !matches!(result, Err(Errno::AGAIN)));
        match settled.unwrap_or(Err(Errno::AGAIN)) {
            Err(Errno::NOSYS | Errno::PERM) => self.resolve_by_hand(path, flags, links),
            result => result.map_err(|errno| SysError::new(format!("openat2(\"{path}\", {within:?})"), errno)),
        }
    }

    fn resolve_by_hand(&self, path: &InnerPath, flags: OFlags, links: Links) -> Result<OwnedFd, SysError> {
        let resolver = match links {
            Links::Followed => ResolverFlags::empty(),
            Links::Refused => ResolverFlags::NO_SYMLINKS,
        };
        let root = pathrs::RootRef::from_fd(self.directory.as_fd()).with_resolver_flags(resolver);
        let handle = if flags.contains(OFlags::NOFOLLOW) {
            root.resolve_nofollow(path.as_path())
        } else {
            root.resolve(path.as_path())
        };
        let file = OwnedFd::from(handle.map_err(|error| SysError::new(format!("open(\"{path}\")"), errno(&error)))?);
        if flags.contains(OFlags::DIRECTORY) && fs::kind(&fs::stat(&file)?) != FileType::Directory {
            return Err(SysError::new(format!("open(\"{path}\", O_DIRECTORY)"), Errno::NOTDIR));
        }
        Ok(file)
    }
}

/// What keeps a path from being followed because of what is there.
fn unreachable(error: SysError) -> Result<Found, SysError> {
    match error.errno() {
        Errno::LOOP | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::XDEV | Errno::ACCESS => {
            Ok(Found::Unreachable(error.to_string()))
        }
        _ if error.is_of_a_server() => Ok(Found::Unreachable(error.to_string())),
        _ => Err(error),
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
