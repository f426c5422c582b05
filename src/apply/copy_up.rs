// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copies what the image holds in a directory onto the new tmpfs that will cover it: owner, mode,
//! times, extended attributes, links, FIFOs, sockets and device nodes. Follows no link and crosses no
//! mount.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::StepCause;
use super::labels::Labels;
use crate::path::InnerPath;
use crate::sys::fs::Names;
use crate::sys::{SysError, fs, process};

/// Who has more files below /run, /tmp or in the journal's directory of an image has made a mistake, or means harm: each
/// takes memory of the kernel's, and time before the container starts.
const FILES_MAX: u32 = 65_536;
/// Two descriptors a level; a process has 1,024 of them where nobody changes that.
const DEPTH_MAX: usize = 128;
/// Of paths that are kept in memory, since their files have other names, too.
const LINKS_MAX_BYTES: usize = 1024 * 1024;

/// How much of an image's content is copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub most_bytes: u64,
    /// The annotation that raises it.
    pub option: Option<&'static str>,
}

/// Of what an image has too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Content; as much as this is copied.
    Bytes(u64),
    /// Files, directories and links.
    Files,
    /// Directories in directories.
    Depth,
    /// Files with several names.
    Links,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(most) => write!(f, "{most} bytes"),
            Self::Files => write!(f, "{FILES_MAX} files"),
            Self::Depth => write!(f, "{DEPTH_MAX} directories in each other"),
            Self::Links => write!(f, "{LINKS_MAX_BYTES} bytes of paths to files of several names"),
        }
    }
}

/// Why one file can't be copied.
enum Failed {
    Sys(SysError),
    Bound(Bound),
}

impl From<SysError> for Failed {
    fn from(error: SysError) -> Self {
        Self::Sys(error)
    }
}

/// One directory on the way down, without recursion: an image can nest so deep that the stack would overflow.
struct Level {
    from: OwnedFd,
    to: OwnedFd,
    names: Names,
}

/// Copies the content of `from` to `to`, but nothing at the paths `keep`: there mounts will be.
/// `at` is the directory's path in the container, for errors. Each copy gets a label: the image's own
/// SELinux contexts are of no use on another file system.
pub(super) fn copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    at: &InnerPath,
    keep: &[InnerPath],
    room: Room,
    labels: &Labels<'_>,
) -> Result<(), StepCause> {
    let keep = keep.iter().filter_map(|path| path.below(at)).collect();
    let mut copy =
        Copy { to, keep, labels, room, left: Left::of(room), path: PathBuf::new(), first_links: HashMap::new() };
    copy.all(Level::open(from, to, OsStr::new("."))?).map_err(|failed| match failed {
        Failed::Sys(source) if source.errno() == Errno::NOSPC => {
            StepCause::Full { path: at.join(&copy.path), top: at.clone(), option: room.option, source }
        }
        Failed::Sys(source) => StepCause::Copying { path: at.join(&copy.path), source },
        Failed::Bound(bound) => {
            // The whole path of what is too deep would fill a screen.
            let names = if bound == Bound::Depth { 1 } else { usize::MAX };
            let path = at.join(copy.path.iter().take(names).collect::<PathBuf>());
            let option = room.option.filter(|_| matches!(bound, Bound::Bytes(_)));
            StepCause::TooMuch { path, bound, top: at.clone(), option }
        }
    })
}

impl Level {
    fn open(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr) -> Result<Self, SysError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let from = fs::open_at(from, name, flags)?;
        if fs::is_mount(&from)? {
            // The mounts are known, and none of them is gone through; but who may rename what they are mounted on can put
            // /proc here, and all that this process may read of it would be the container's.
            return Err(SysError::new(format!("{name:?} changed while it was copied"), Errno::XDEV));
        }
        Ok(Self { from, to: fs::open_at(to, name, flags)?, names: Names::default() })
    }
}

/// What may still be copied.
struct Left {
    bytes: u64,
    files: u32,
    links_bytes: usize,
}

impl Left {
    fn of(room: Room) -> Self {
        Self { bytes: room.most_bytes, files: FILES_MAX, links_bytes: LINKS_MAX_BYTES }
    }
}

struct Copy<'a> {
    to: BorrowedFd<'a>,
    /// Everything that is mounted below: nothing else leads to another file system.
    keep: HashSet<&'a Path>,
    labels: &'a Labels<'a>,
    room: Room,
    left: Left,
    /// What is being copied.
    path: PathBuf,
    /// By device and inode, since an overlay shows those of its layers: where the first name of a file
    /// with several names was copied to.
    first_links: HashMap<(u64, u64), PathBuf>,
}

impl Copy<'_> {
    fn all(&mut self, top: Level) -> Result<(), Failed> {
        let mut levels = vec![top];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next(level.from.as_fd())? else {
                let done = levels.pop();
                // The top keeps the mount's own mode.
                if !levels.is_empty() {
                    done.map(|level| self.finish(&level)).transpose()?;
                    self.path.pop();
                }
                continue;
            };
            self.path.push(&name);
            match self.entry(level, &name)? {
                Some(_) if levels.len() == DEPTH_MAX => return Err(Failed::Bound(Bound::Depth)),
                Some(deeper) => levels.push(deeper),
                None => {
                    self.path.pop();
                }
            }
        }
        Ok(())
    }

    /// Copies one entry; a directory is returned to be gone through.
    fn entry(&mut self, level: &Level, name: &OsStr) -> Result<Option<Level>, Failed> {
        // What is mounted there may be a server's, which isn't asked.
        if self.keep.contains(self.path.as_path()) {
            return Ok(None);
        }
        let stat = fs::stat_at(level.from.as_fd(), name)?;
        self.left.files = self.left.files.checked_sub(1).ok_or(Failed::Bound(Bound::Files))?;
        let inode = (stat.st_dev, stat.st_ino);
        let kind = fs::kind(&stat);
        if kind == FileType::Directory {
            fs::mkdir_at(level.to.as_fd(), name, 0o700)?;
            self.labels.give_at(level.to.as_fd(), name);
            return Ok(Some(Level::open(level.from.as_fd(), level.to.as_fd(), name)?));
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.first_links.get(&inode) {
                fs::link_at(self.to, first.as_os_str(), level.to.as_fd(), name)?;
                return Ok(None);
            }
        }
        match kind {
            FileType::RegularFile => self.file(level, name, &stat)?,
            FileType::Symlink => {
                let target = fs::readlink_at(level.from.as_fd(), name)?;
                let target = OsStr::from_bytes(target.as_bytes());
                fs::symlink_at(target, level.to.as_fd(), name)?;
                own(level.to.as_fd(), name, &stat)?;
                fs::set_times_at(level.to.as_fd(), name, &stat)?;
            }
            FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => {
                if special(level, name, kind, &stat)? == Made::No {
                    return Ok(None);
                }
            }
            FileType::Directory | FileType::Unknown => {}
        }
        self.labels.give_at(level.to.as_fd(), name);
        if stat.st_nlink > 1 {
            let taken_bytes = size_of::<((u64, u64), PathBuf)>() + self.path.as_os_str().len();
            let left_bytes = self.left.links_bytes.checked_sub(taken_bytes);
            self.left.links_bytes = left_bytes.ok_or(Failed::Bound(Bound::Links))?;
            self.first_links.insert(inode, self.path.clone());
        }
        Ok(None)
    }

    /// Times come last: copying into a directory changes them.
    fn finish(&mut self, level: &Level) -> Result<(), Failed> {
        let stat = fs::stat(&level.from)?;
        own(level.to.as_fd(), OsStr::new(""), &stat)?;
        fs::chmod(&level.to, stat.st_mode)?;
        self.attributes(&level.from, &level.to)?;
        fs::set_times_at(level.to.as_fd(), OsStr::new("."), &stat)?;
        Ok(())
    }

    fn file(&mut self, level: &Level, name: &OsStr, stat: &Stat) -> Result<(), Failed> {
        // First as a mere place, for what may have become something else since it was looked at: a FIFO would block, and
        // opening a device can do anything.
        let place = fs::open_at(level.from.as_fd(), name, OFlags::PATH)?;
        let found = fs::stat(&place)?;
        let is_the_same = (found.st_ino, fs::kind(&found)) == (stat.st_ino, FileType::RegularFile);
        if !is_the_same || fs::is_mount(&place)? {
            return Err(SysError::new(format!("{name:?} changed while it was copied"), Errno::STALE).into());
        }
        let size_bytes = u64::try_from(stat.st_size).unwrap_or_default();
        // A tmpfs takes whole pages, for holes as well.
        self.take(size_bytes.checked_next_multiple_of(process::page_bytes()).unwrap_or(u64::MAX))?;
        // Non-blocking, for one with a lease on it, fcntl(2).
        let mut from = File::from(fs::reopen(place.as_fd(), OFlags::RDONLY | OFlags::NONBLOCK)?);
        let mut to = fs::create_at(level.to.as_fd(), name, 0o600)?;
        // No more than was counted, whatever is written to it meanwhile.
        fs::copy(&mut from, &mut to, size_bytes)?;
        own(to.as_fd(), OsStr::new(""), stat)?;
        // After the owner, whose change takes set-user-id away.
        fs::chmod(&to, stat.st_mode)?;
        self.attributes(&from, &to)?;
        fs::set_times_at(level.to.as_fd(), name, stat)?;
        Ok(())
    }

    /// They take memory, too, which a tmpfs counts since Linux 6.6.
    fn attributes(&mut self, from: impl AsFd, to: impl AsFd) -> Result<(), Failed> {
        let copied_bytes = fs::copy_xattrs(from, to, self.left.bytes)?;
        self.take(copied_bytes)
    }

    fn take(&mut self, bytes: u64) -> Result<(), Failed> {
        self.left.bytes =
            self.left.bytes.checked_sub(bytes).ok_or(Failed::Bound(Bound::Bytes(self.room.most_bytes)))?;
        Ok(())
    }
}

/// Whether a node could be made.
#[derive(PartialEq, Eq)]
enum Made {
    Yes,
    No,
}

fn special(level: &Level, name: &OsStr, kind: FileType, stat: &Stat) -> Result<Made, SysError> {
    match fs::mknod_at(level.to.as_fd(), name, kind, stat.st_mode & 0o7777, stat.st_rdev) {
        Ok(()) => {}
        // A device node in a user namespace, mknod(2).
        Err(error) if error.errno() == Errno::PERM => return Ok(Made::No),
        Err(error) => return Err(error),
    }
    own(level.to.as_fd(), name, stat)?;
    fs::chmod_at(level.to.as_fd(), name, stat.st_mode)?;
    fs::set_times_at(level.to.as_fd(), name, stat)?;
    Ok(Made::Yes)
}

/// In a user namespace an owner without a mapping can't be given; the file then stays the hook's.
fn own(directory: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> Result<(), SysError> {
    match fs::chown_at(directory, name, stat.st_uid, stat.st_gid) {
        Err(error) if matches!(error.errno(), Errno::PERM | Errno::INVAL) => Ok(()),
        result => result,
    }
}
