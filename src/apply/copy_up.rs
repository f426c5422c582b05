// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copies what the image holds in a directory onto the new tmpfs that will cover it: owner, mode,
//! times, extended attributes, links, FIFOs, sockets and device nodes. Follows no link and crosses no
//! mount.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::StepCause;
use super::labels::Labels;
use crate::path::InnerPath;
use crate::sys::{SysError, fs};

/// One directory on the way down. Two descriptors a level: an image can nest so deep that they run
/// out, which is an error, where recursion would overflow the stack.
struct Level {
    from: OwnedFd,
    to: OwnedFd,
    path: PathBuf,
    names: Vec<OsString>,
}

/// Copies the content of `from` to `to`, but nothing at the paths `keep`: there mounts will be.
/// `at` is the directory's path in the container, for errors. Each copy gets a label: the image's own
/// SELinux contexts are of no use on another file system.
pub(super) fn copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    at: &InnerPath,
    keep: &[InnerPath],
    labels: &Labels<'_>,
) -> Result<(), StepCause> {
    let keep = keep.iter().filter_map(|path| path.below(at)).collect();
    let mut copy = Copy { to, keep, labels, first_links: HashMap::new() };
    let mut levels = vec![Level::open(from, to, OsStr::new("."), PathBuf::new())?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            let finish = levels.pop().map(Level::finish).transpose();
            finish.map(drop)?;
            continue;
        };
        let path = level.path.join(&name);
        match copy.entry(level, &name, &path) {
            Ok(Some(deeper)) => levels.push(deeper),
            Ok(None) => {}
            Err(source) => {
                return Err(StepCause::Copying { path: at.join(&path), source });
            }
        }
    }
    Ok(())
}

impl Level {
    fn open(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr, path: PathBuf) -> Result<Self, SysError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let from = fs::open_at(from, name, flags)?;
        let to = fs::open_at(to, name, flags)?;
        let names = fs::read_dir(from.as_fd())?;
        Ok(Self { from, to, path, names })
    }

    /// Times come last: copying into a directory changes them. The top keeps the mount's own mode.
    fn finish(self) -> Result<(), SysError> {
        if self.path.as_os_str().is_empty() {
            return Ok(());
        }
        let stat = fs::stat(&self.from)?;
        own(self.to.as_fd(), OsStr::new(""), &stat)?;
        fs::chmod(&self.to, stat.st_mode)?;
        fs::copy_xattrs(&self.from, &self.to)?;
        fs::set_times_at(self.to.as_fd(), OsStr::new("."), &stat)
    }
}

struct Copy<'a> {
    to: BorrowedFd<'a>,
    /// Everything that is mounted below: nothing else leads to another file system.
    keep: HashSet<&'a Path>,
    labels: &'a Labels<'a>,
    /// By device and inode, since an overlay shows those of its layers: where the first name of a file
    /// with several names was copied to.
    first_links: HashMap<(u64, u64), PathBuf>,
}

impl Copy<'_> {
    /// Copies one entry; a directory is returned to be gone through.
    fn entry(&mut self, level: &Level, name: &OsStr, path: &Path) -> Result<Option<Level>, SysError> {
        let stat = fs::stat_at(level.from.as_fd(), name)?;
        if self.keep.contains(path) {
            return Ok(None);
        }
        let inode = (stat.st_dev, stat.st_ino);
        let kind = fs::kind(&stat);
        if kind == FileType::Directory {
            fs::mkdir_at(level.to.as_fd(), name, 0o700)?;
            self.labels.give_at(level.to.as_fd(), name);
            return Level::open(level.from.as_fd(), level.to.as_fd(), name, path.to_owned()).map(Some);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.first_links.get(&inode) {
                return fs::link_at(self.to, first.as_os_str(), level.to.as_fd(), name).map(|()| None);
            }
        }
        match kind {
            FileType::RegularFile => file(level, name, &stat)?,
            FileType::Symlink => {
                let target = fs::readlink_at(level.from.as_fd(), name)?;
                fs::symlink_at(OsStr::from_bytes(target.as_bytes()), level.to.as_fd(), name)?;
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
            self.first_links.insert(inode, path.to_owned());
        }
        Ok(None)
    }
}

fn file(level: &Level, name: &OsStr, stat: &Stat) -> Result<(), SysError> {
    // Non-blocking, for what may have become a FIFO since it was looked at.
    let from = fs::open_at(level.from.as_fd(), name, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let opened = fs::stat(&from)?;
    if (opened.st_ino, fs::kind(&opened)) != (stat.st_ino, FileType::RegularFile) {
        return Err(SysError::new(format!("{name:?} changed while it was copied"), Errno::STALE));
    }
    let mut from = File::from(from);
    let mut to = fs::create_at(level.to.as_fd(), name, 0o600)?;
    fs::copy(&mut from, &mut to)?;
    own(to.as_fd(), OsStr::new(""), stat)?;
    // After the owner, whose change takes set-user-id away.
    fs::chmod(&to, stat.st_mode)?;
    fs::copy_xattrs(&from, &to)?;
    fs::set_times_at(level.to.as_fd(), name, stat)
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
