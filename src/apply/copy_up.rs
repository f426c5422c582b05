// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copies the content of a directory in the image onto the new tmpfs that will cover it, including owners,
//! modes, times, extended attributes, links, FIFOs and sockets, but not device nodes. It follows no symbolic
//! links and crosses no mounts.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::copy_bounds::{Allowance, Bound, CopyLimit, DEPTH_MAX, FILES_MAX, Failed, LINKS_MAX_BYTES};
use super::labels::Labels;
use crate::path::InnerPath;
use crate::plan::Excess;
use crate::sys::fs::Names;
use crate::sys::{SysError, fs, process};

/// The size of one read. Holes in files up to this size are found by looking for pages of zeros.
const PART_BYTES: usize = 64 * 1024;
/// The minimum that may be read, however little may be copied. Reading needs a limit of its own because a file system
/// that doesn't report holes can return any amount of zeros.
const READ_LEAST_BYTES: u64 = 64 * 1024 * 1024;

/// A file that isn't copied, and the reason. The path is kept as bytes because this travels between processes as JSON,
/// and a path need not be valid UTF-8.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SkippedFile {
    path: Vec<u8>,
    pub why: Failed,
}

impl SkippedFile {
    /// The file's path, relative to the directory whose content is copied.
    pub(super) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }
}

/// The result of copying one directory's content.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Copied {
    /// The memory that the copy takes.
    pub taken_bytes: u64,
    /// The first file that was left out.
    pub left_out: Option<SkippedFile>,
    /// The number of files that were left out.
    pub left_out_count: u32,
    /// The failure that ended the copy early.
    pub failed: Option<SkippedFile>,
}

/// One level of the directory tree that is being copied. This is iterative, since an image can nest directories so
/// deeply that recursion would overflow the stack.
struct OpenDirectory {
    from: OwnedFd,
    to: OwnedFd,
    names: Names,
}

/// Copies the content of `from` to `to`, except at the paths `keep`, where mounts will be. `at` is the
/// directory's path in the container. Each copy gets a new label, since the image's own SELinux contexts don't
/// apply on another file system.
pub(super) fn copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    at: &InnerPath,
    keep: &[InnerPath],
    room: CopyLimit,
    labels: &Labels<'_>,
) -> Copied {
    let keep = keep.iter().filter_map(|path| path.below(at)).collect();
    let read_bytes = room.all.left_bytes.min(room.here.left_bytes).saturating_mul(2).max(READ_LEAST_BYTES);
    let mut copy = Copy {
        to,
        keep,
        labels,
        room,
        files: FILES_MAX,
        links_bytes: LINKS_MAX_BYTES,
        read: Allowance { left_bytes: read_bytes, bound: Bound::Read(read_bytes) },
        path: PathBuf::new(),
        first_links: HashMap::new(),
        left_out: None,
        left_out_count: 0,
        part: Vec::new(),
    };
    let result = OpenDirectory::open(from, to, OsStr::new(".")).map_err(Failed::from).and_then(|top| copy.all(top));
    Copied {
        taken_bytes: room.all.left_bytes - copy.room.all.left_bytes,
        failed: result.err().map(|why| copy.trouble(why)),
        left_out: copy.left_out,
        left_out_count: copy.left_out_count,
    }
}

impl OpenDirectory {
    fn open(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr) -> Result<Self, SysError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let from = fs::open_at(from, name, flags)?;
        if fs::is_mount(&from)? {
            // The mounts are known, and all of them are skipped. But a process that may rename their mount
            // points can move /proc here, for example, and then the container would get everything that this
            // process may read in it.
            return Err(SysError::Elsewhere(format!("{name:?} changed while it was copied: it is a mount point now")));
        }
        Ok(Self { from, to: fs::open_at(to, name, flags)?, names: Names::default() })
    }
}

struct Copy<'a> {
    to: BorrowedFd<'a>,
    /// All mounts below the directory. Nothing else leads to another file system.
    keep: HashSet<&'a Path>,
    labels: &'a Labels<'a>,
    room: CopyLimit,
    /// The number of files that may still be copied.
    files: u32,
    links_bytes: usize,
    read: Allowance,
    /// The path that is being copied, relative to the top directory.
    path: PathBuf,
    /// Where the first name of a file with several hard links was copied to, by device and inode number. The device
    /// is part of the key because an overlay shows the device numbers of its layers.
    first_links: HashMap<(u64, u64), PathBuf>,
    left_out: Option<SkippedFile>,
    left_out_count: u32,
    /// The read buffer, which is allocated once for all files.
    part: Vec<u8>,
}

impl Copy<'_> {
    fn all(&mut self, top: OpenDirectory) -> Result<(), Failed> {
        let mut levels = vec![top];
        let mut is_over = false;
        loop {
            let is_too_deep = levels.len() == DEPTH_MAX;
            let Some(level) = levels.last_mut() else { return Ok(()) };
            let name = if is_over { None } else { level.names.next(level.from.as_fd())? };
            let Some(name) = name else {
                let done = levels.pop();
                // The top directory keeps the mode of its mount.
                if !levels.is_empty() {
                    let finished = done.map(|level| self.finish(&level)).transpose();
                    finished.map(drop).or_else(|why| self.leave_out(why))?;
                    self.path.pop();
                }
                continue;
            };
            self.path.push(&name);
            let before = self.room;
            let entry = match self.entry(level, &name) {
                Ok(Some(_)) if is_too_deep => Err(Failed::Bound(Bound::Depth)),
                result => result,
            };
            match entry {
                Ok(Some(deeper)) => levels.push(deeper),
                Ok(None) => {
                    self.path.pop();
                }
                Err(why) => {
                    is_over = matches!(why, Failed::Bound(Bound::Files));
                    self.leave_out(why)?;
                    remove(level, &name)?;
                    self.room = before;
                    self.path.pop();
                }
            }
        }
    }

    fn trouble(&self, why: Failed) -> SkippedFile {
        // A path of 128 directories would fill the screen.
        let names = if matches!(why, Failed::Bound(Bound::Depth)) { 1 } else { usize::MAX };
        let path: PathBuf = self.path.iter().take(names).collect();
        SkippedFile { path: path.into_os_string().into_encoded_bytes(), why }
    }

    /// Records a file that doesn't fit, so that the copy can go on without it. Returns the failure if the plan refuses
    /// excess content, or if the file's size isn't the reason.
    fn leave_out(&mut self, why: Failed) -> Result<(), Failed> {
        if self.room.excess == Excess::Refused || !why.is_of_size() {
            return Err(why);
        }
        self.left_out_count += 1;
        if self.left_out.is_none() {
            self.left_out = Some(self.trouble(why));
        }
        Ok(())
    }

    /// Copies one directory entry. Returns a subdirectory if the caller has to copy its content.
    fn entry(&mut self, level: &OpenDirectory, name: &OsStr) -> Result<Option<OpenDirectory>, Failed> {
        // This is checked before the file is accessed: a mount there may be that of a file server, which
        // must not be contacted.
        if self.keep.contains(self.path.as_path()) {
            return Ok(None);
        }
        let stat = fs::stat_at(level.from.as_fd(), name)?;
        self.files = self.files.checked_sub(1).ok_or(Failed::Bound(Bound::Files))?;
        // One page is counted for the inode and the name, which take less than 2 KiB.
        self.room.take(process::page_bytes())?;
        let inode = (stat.st_dev, stat.st_ino);
        let kind = fs::kind(&stat);
        if kind == FileType::Directory {
            fs::mkdir_at(level.to.as_fd(), name, 0o700)?;
            self.labels.give_at(level.to.as_fd(), name);
            return Ok(Some(OpenDirectory::open(level.from.as_fd(), level.to.as_fd(), name)?));
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.first_links.get(&inode) {
                fs::link_at(self.to, first.as_os_str(), level.to.as_fd(), name)?;
                return Ok(None);
            }
            let taken_bytes = size_of::<((u64, u64), PathBuf)>() + self.path.as_os_str().len();
            self.links_bytes = self.links_bytes.checked_sub(taken_bytes).ok_or(Failed::Bound(Bound::Links))?;
        }
        match kind {
            FileType::RegularFile => self.file(level, name, &stat)?,
            FileType::Symlink => self.link(level, name, &stat)?,
            FileType::Fifo | FileType::Socket => special(level, name, kind, &stat)?,
            // A tmpfs is mounted with `nodev`, but a container that has CAP_SYS_ADMIN in its own user namespace can
            // change that, even if it can't do so for the root.
            FileType::CharacterDevice | FileType::BlockDevice => return Ok(None),
            FileType::Directory | FileType::Unknown => {}
        }
        self.labels.give_at(level.to.as_fd(), name);
        if stat.st_nlink > 1 {
            self.first_links.insert(inode, self.path.clone());
        }
        Ok(None)
    }

    /// Sets the attributes of a directory whose content has been copied. The times must be set last, since copying
    /// into a directory changes them.
    fn finish(&mut self, level: &OpenDirectory) -> Result<(), Failed> {
        let stat = fs::stat(&level.from)?;
        own(level.to.as_fd(), OsStr::new(""), &stat)?;
        fs::chmod(&level.to, stat.st_mode)?;
        // The times are set even if some of the attributes could not be copied.
        let attributes = self.attributes(&level.from, &level.to);
        fs::set_times_at(level.to.as_fd(), OsStr::new("."), &stat)?;
        attributes
    }

    fn link(&mut self, level: &OpenDirectory, name: &OsStr, stat: &Stat) -> Result<(), Failed> {
        let target = fs::readlink_at(level.from.as_fd(), name)?;
        // A long target takes a separate page.
        self.room.take(process::page_bytes())?;
        fs::symlink_at(OsStr::from_bytes(target.as_bytes()), level.to.as_fd(), name)?;
        own(level.to.as_fd(), name, stat)?;
        fs::set_times_at(level.to.as_fd(), name, stat)?;
        Ok(())
    }

    fn file(&mut self, level: &OpenDirectory, name: &OsStr, stat: &Stat) -> Result<(), Failed> {
        // The file is opened with `O_PATH` first, since it may have been replaced since its stat(2): opening a FIFO
        // would block, and opening a device can have any effect.
        let place = fs::open_at(level.from.as_fd(), name, OFlags::PATH)?;
        let found = fs::stat(&place)?;
        let is_the_same = (found.st_ino, fs::kind(&found)) == (stat.st_ino, FileType::RegularFile);
        if !is_the_same || fs::is_mount(&place)? {
            return Err(SysError::Elsewhere(format!("{name:?} changed while it was copied")).into());
        }
        let size_bytes = u64::try_from(stat.st_size).unwrap_or_default();
        // A file that can't fit isn't even started. `st_blocks` counts units of 512 bytes, stat(2).
        { self.room }.take(u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512).min(size_bytes))?;
        // `O_NONBLOCK` is for a file with a lease on it, fcntl(2).
        let from = File::from(fs::reopen(place.as_fd(), OFlags::RDONLY | OFlags::NONBLOCK)?);
        let to = fs::create_at(level.to.as_fd(), name, 0o600)?;
        // No more than the size seen at first is copied, even if the file grows meanwhile.
        self.content(&from, &to, size_bytes)?;
        own(to.as_fd(), OsStr::new(""), stat)?;
        // The mode is set after the owner, since a change of the owner clears the set-user-ID bit.
        fs::chmod(&to, stat.st_mode)?;
        self.attributes(&from, &to)?;
        fs::set_times_at(level.to.as_fd(), name, stat)?;
        Ok(())
    }

    /// Copies the pages that aren't all zeros: a tmpfs takes memory only for pages that are written.
    fn content(&mut self, from: &File, to: &File, size_bytes: u64) -> Result<(), Failed> {
        let mut part = std::mem::take(&mut self.part);
        let whole = usize::try_from(size_bytes).unwrap_or(usize::MAX).min(PART_BYTES);
        part.resize(part.len().max(whole), 0);
        let result = self.parts(from, to, size_bytes, &mut part);
        self.part = part;
        result
    }

    fn parts(&mut self, from: &File, to: &File, size_bytes: u64, part: &mut [u8]) -> Result<(), Failed> {
        let page_bytes = process::page_bytes();
        let page = usize::try_from(page_bytes).unwrap_or(PART_BYTES);
        let (mut offset, mut end) = (0, 0);
        // Reading a hole would fill the page cache, if only until the kernel reclaims it.
        if size_bytes > PART_BYTES as u64 {
            offset = next_page(from, 0, page_bytes)?.unwrap_or(size_bytes);
        }
        while offset < size_bytes {
            let most = usize::try_from(size_bytes - offset).unwrap_or(usize::MAX).min(part.len());
            let read_bytes = fs::read_at(from, part.get_mut(..most).unwrap_or_default(), offset)?;
            let part = part.get(..read_bytes).unwrap_or_default();
            if part.is_empty() {
                break;
            }
            self.read.take(read_bytes as u64)?;
            let mut rest = part;
            loop {
                rest = split(rest, page, PageKind::Zeros).1;
                let (content, after) = split(rest, page, PageKind::Content);
                if content.is_empty() {
                    break;
                }
                self.room.take((content.len() as u64).next_multiple_of(page_bytes))?;
                let at = offset + (part.len() - rest.len()) as u64;
                fs::write_at(to, content, at)?;
                end = at + content.len() as u64;
                rest = after;
            }
            offset += read_bytes as u64;
            if end < offset && offset < size_bytes {
                offset = next_page(from, offset, page_bytes)?.unwrap_or(size_bytes);
            }
        }
        if end < size_bytes {
            fs::set_size(to, size_bytes)?;
        }
        Ok(())
    }

    fn attributes(&mut self, from: impl AsFd, to: impl AsFd) -> Result<(), Failed> {
        let left_bytes = self.room.all.left_bytes.min(self.room.here.left_bytes);
        let copied_bytes = fs::copy_xattrs(from, to, left_bytes)?;
        self.room.take(copied_bytes)
    }
}

/// Returns the start of the page that has the next content. The offset of the content itself need not be a multiple
/// of the page size, since the file system's blocks may be smaller. Returns `None` if only a hole follows.
fn next_page(file: &File, offset: u64, page_bytes: u64) -> Result<Option<u64>, SysError> {
    let next = fs::next_content(file, offset)?;
    Ok(next.map(|next| offset.max(next / page_bytes * page_bytes)))
}

/// Whether a page is all zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PageKind {
    Zeros,
    Content,
}

/// Splits off the leading pages of this kind.
fn split(bytes: &[u8], page: usize, kind: PageKind) -> (&[u8], &[u8]) {
    const ZEROS: [u8; 4096] = [0; 4096];
    let is_zeros = |page: &[u8]| page.chunks(ZEROS.len()).all(|part| ZEROS.get(..part.len()) == Some(part));
    let pages = bytes.chunks(page).take_while(|page| is_zeros(page) == (kind == PageKind::Zeros));
    bytes.split_at(pages.map(<[u8]>::len).sum())
}

/// Removes the partial copy of a file that doesn't fit.
fn remove(level: &OpenDirectory, name: &OsStr) -> Result<(), SysError> {
    let made = match fs::stat_at(level.to.as_fd(), name) {
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(()),
        result => result?,
    };
    fs::unlink_at(level.to.as_fd(), name, fs::kind(&made))
}

fn special(level: &OpenDirectory, name: &OsStr, kind: FileType, stat: &Stat) -> Result<(), SysError> {
    fs::mknod_at(level.to.as_fd(), name, kind, stat.st_mode & 0o7777, 0)?;
    own(level.to.as_fd(), name, stat)?;
    fs::chmod_at(level.to.as_fd(), name, stat.st_mode)?;
    fs::set_times_at(level.to.as_fd(), name, stat)
}

/// Sets the owner of a copy. In a user namespace, an owner without a mapping can't be set, and the copy keeps the
/// hook's user as its owner.
fn own(directory: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> Result<(), SysError> {
    match fs::chown_at(directory, name, stat.st_uid, stat.st_gid) {
        Err(error) if matches!(error.errno(), Some(Errno::PERM | Errno::INVAL)) => Ok(()),
        result => result,
    }
}
