// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operates on files through file descriptors. Most calls take a directory and a single name in it,
//! and follow no symbolic links.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{
    Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, RawDir, RenameFlags, SeekFrom, Stat, StatVfs, StatxAttributes,
    StatxFlags, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::{Context, SysError, time_limit};
use crate::kernel::fs_type::{self, DataSource};
use crate::kernel::mountinfo;
use crate::kernel::statx::FileIdentity;

const OPEN: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NOCTTY);

/// Opens `name` in `directory` without following a symbolic link.
pub fn open_at(directory: BorrowedFd<'_>, name: impl AsRef<OsStr>, flags: OFlags) -> Result<OwnedFd, SysError> {
    let name = name.as_ref();
    rustix::fs::openat(directory, name, OPEN | flags, Mode::empty()).call(|| format!("openat({name:?}, {flags:?})"))
}

/// Creates a new file. Fails if something exists under that name.
pub fn create_at(directory: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<File, SysError> {
    let flags = OPEN | OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(mode))
        .map(File::from)
        .call(|| format!("openat({name:?}, O_CREAT|O_EXCL|O_WRONLY, 0{mode:o})"))
}

/// The names in a directory that is open for reading, except `.` and `..`. They are read as they are needed, since a
/// directory can have millions of entries. The kernel keeps the read position with the open directory.
#[derive(Debug, Default)]
pub struct Names {
    read: Vec<OsString>,
    /// Whether only the names of directories are returned.
    of_directories: bool,
}

impl Names {
    /// Restricts the names to those of directories, and of files whose type the file system doesn't report.
    #[must_use]
    pub fn of_directories() -> Self {
        Self { of_directories: true, ..Self::default() }
    }

    /// Returns the next name, or `None` at the end of the directory.
    pub fn next(&mut self, directory: BorrowedFd<'_>) -> Result<Option<OsString>, SysError> {
        /// Enough for about 15 names of the maximum length, or 100 of usual length.
        const PART_BYTES: usize = 4 * 1024;
        while self.read.is_empty() {
            let mut buffer = Vec::with_capacity(PART_BYTES);
            let mut part = RawDir::new(directory, buffer.spare_capacity_mut());
            loop {
                let Some(entry) = part.next() else { return Ok(None) };
                let entry = entry.call(|| "getdents64()")?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                // Some file systems don't report the type.
                let is_wanted =
                    !self.of_directories || matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
                if is_wanted && name != "." && name != ".." {
                    self.read.push(name.to_owned());
                }
                if part.is_buffer_empty() {
                    break;
                }
            }
        }
        Ok(self.read.pop())
    }
}

pub fn is_empty_dir(directory: BorrowedFd<'_>) -> Result<bool, SysError> {
    Names::default().next(directory).map(|name| name.is_none())
}

/// Returns the status of an open file.
pub fn stat(file: impl AsFd) -> Result<Stat, SysError> {
    rustix::fs::fstat(file).call(|| "fstat()")
}

/// Returns the status of a name in a directory. A symbolic link is not followed.
pub fn stat_at(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Stat, SysError> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).call(|| format!("fstatat({name:?})"))
}

/// Returns the type of the file that a status describes.
#[must_use]
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Returns the type of an open file without asking the file server that it may be on.
pub fn kind_of(file: impl AsFd) -> Result<FileType, SysError> {
    match rustix::fs::statx(&file, "", STATX_CACHED, StatxFlags::TYPE) {
        Err(Errno::NOSYS) => stat(file).map(|stat| kind(&stat)),
        result => Ok(FileType::from_raw_mode(result.call(|| "statx()")?.stx_mode.into())),
    }
}

/// Whether an open file is the root of a mount. Returns `false` before Linux 5.8, which doesn't report it.
pub fn is_mount(file: impl AsFd) -> Result<bool, SysError> {
    match rustix::fs::statx(file, "", STATX_CACHED, StatxFlags::empty()) {
        Err(Errno::NOSYS) => Ok(false),
        result => Ok(result.call(|| "statx()")?.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
    }
}

/// The flag `STATX_MNT_ID_UNIQUE` of Linux 6.8.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Flags that make statx(2) answer from what the kernel has cached, without asking a file server.
const STATX_CACHED: AtFlags = AtFlags::EMPTY_PATH.union(AtFlags::STATX_DONT_SYNC);

/// Returns the identity of an open file, which no other file has.
pub fn identity(file: impl AsFd) -> Result<FileIdentity, SysError> {
    Ok(identity_and_kind(file)?.0)
}

/// Returns the identity of an open file, and its type.
pub fn identity_and_kind(file: impl AsFd) -> Result<(FileIdentity, FileType), SysError> {
    // Kernels that don't know the unique mount ID return the one in mountinfo.
    let wanted = MNT_ID_UNIQUE | StatxFlags::MNT_ID | StatxFlags::INO | StatxFlags::TYPE;
    let told = match rustix::fs::statx(&file, "", STATX_CACHED, wanted) {
        Err(Errno::NOSYS) => None,
        result => Some(result.call(|| "statx()")?),
    };
    Ok(match told {
        Some(told) if told.stx_mask & (MNT_ID_UNIQUE | StatxFlags::MNT_ID).bits() != 0 => {
            let device = rustix::fs::makedev(told.stx_dev_major, told.stx_dev_minor);
            let identity = FileIdentity { mount: told.stx_mnt_id, device, inode: told.stx_ino };
            (identity, FileType::from_raw_mode(told.stx_mode.into()))
        }
        Some(_) | None => {
            let status = stat(&file)?;
            let mount = mount_by_fdinfo(file.as_fd())?;
            (FileIdentity { mount, device: status.st_dev, inode: status.st_ino }, kind(&status))
        }
    })
}

/// Returns the unique ID of the mount that a file is on, or `None` before Linux 6.8 or if the
/// path can't be looked up.
#[must_use]
pub fn unique_mount(directory: BorrowedFd<'_>, path: &str) -> Option<u64> {
    let told = rustix::fs::statx(directory, path, STATX_CACHED, MNT_ID_UNIQUE).ok()?;
    (told.stx_mask & MNT_ID_UNIQUE.bits() != 0).then_some(told.stx_mnt_id)
}

/// Returns the ID in mountinfo of the mount that an open file is on.
pub fn mount_number(file: impl AsFd) -> Result<u64, SysError> {
    match rustix::fs::statx(&file, "", STATX_CACHED, StatxFlags::MNT_ID) {
        Ok(told) if told.stx_mask & StatxFlags::MNT_ID.bits() != 0 => Ok(told.stx_mnt_id),
        Ok(_) | Err(Errno::NOSYS) => mount_by_fdinfo(file.as_fd()),
        Err(errno) => Err(SysError::new("statx()", errno)),
    }
}

/// Returns the ID in mountinfo of the mount that an open file is on, for kernels before Linux 5.8.
fn mount_by_fdinfo(file: BorrowedFd<'_>) -> Result<u64, SysError> {
    mountinfo::mount_of(&fd_info(file)?)
        .ok_or_else(|| SysError::Finding("/proc/self/fdinfo does not report which mount a file is on".to_owned()))
}

/// Returns the status of the file system that an open file is on.
pub fn stat_fs(file: impl AsFd) -> Result<StatVfs, SysError> {
    rustix::fs::fstatvfs(file).call(|| "fstatvfs()")
}

/// Returns where the data comes from when this file is read. The file may be open with `O_PATH`.
pub fn answers(file: impl AsFd) -> Result<DataSource, SysError> {
    let found = rustix::fs::fstatfs(file).call(|| "fstatfs()")?;
    // The magic numbers have 32 bits. Where the field has 32 bits as well, it is signed and may be negative.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(fs_type::answers(found.f_type as u32))
}

/// Whether two paths lead to the same file, which can have several names.
#[must_use]
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    let file = |path: &Path| std::fs::metadata(path).ok().map(|status| (status.dev(), status.ino()));
    file(a).is_some_and(|a| file(b) == Some(a))
}

pub fn mkdir_at(directory: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<(), SysError> {
    rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(mode)).call(|| format!("mkdirat({name:?}, 0{mode:o})"))
}

pub fn symlink_at(target: &OsStr, directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), SysError> {
    rustix::fs::symlinkat(target, directory, name).call(|| format!("symlinkat({target:?}, {name:?})"))
}

/// Returns the target of a symbolic link.
pub fn readlink_at(directory: BorrowedFd<'_>, name: &OsStr) -> Result<std::ffi::CString, SysError> {
    rustix::fs::readlinkat(directory, name, Vec::new()).call(|| format!("readlinkat({name:?})"))
}

/// Creates a hard link to the file `from`. A symbolic link is not followed.
pub fn link_at(
    from_directory: BorrowedFd<'_>,
    from: &OsStr,
    directory: BorrowedFd<'_>,
    name: &OsStr,
) -> Result<(), SysError> {
    rustix::fs::linkat(from_directory, from, directory, name, AtFlags::empty())
        .call(|| format!("linkat({from:?}, {name:?})"))
}

/// Creates a file without content: a device, FIFO, socket or regular file.
pub fn mknod_at(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    kind: FileType,
    mode: u32,
    device: u64,
) -> Result<(), SysError> {
    rustix::fs::mknodat(directory, name, kind, Mode::from_raw_mode(mode), device)
        .call(|| format!("mknodat({name:?}, {kind:?})"))
}

/// Removes a file, a symbolic link or an empty directory.
pub fn unlink_at(directory: BorrowedFd<'_>, name: &OsStr, kind: FileType) -> Result<(), SysError> {
    let flags = if kind == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    rustix::fs::unlinkat(directory, name, flags).call(|| format!("unlinkat({name:?})"))
}

/// Renames a file within a directory, unless the new name exists. Returns whether it did. On file systems without
/// `RENAME_NOREPLACE`, such as NFS, the new name is checked beforehand.
pub fn rename_new_at(directory: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> Result<bool, SysError> {
    match rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::INVAL | Errno::NOSYS) => match stat_at(directory, to) {
            Ok(_) => Ok(false),
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                let renamed = rustix::fs::renameat(directory, from, directory, to);
                renamed.map(|()| true).call(|| format!("renameat({from:?}, {to:?})"))
            }
            Err(error) => Err(error),
        },
        result => result.map(|()| true).call(|| format!("renameat2({from:?}, {to:?}, RENAME_NOREPLACE)")),
    }
}

/// Sets the owner of a file. A symbolic link is not followed.
pub fn chown_at(directory: BorrowedFd<'_>, name: &OsStr, uid: u32, gid: u32) -> Result<(), SysError> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW | if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
    rustix::fs::chownat(directory, name, Some(user), Some(group), flags)
        .call(|| format!("fchownat({name:?}, {uid}, {gid})"))
}

/// Sets the permissions of an open file, regardless of the umask.
pub fn chmod(file: impl AsFd, mode: u32) -> Result<(), SysError> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777)).call(|| format!("fchmod(0{:o})", mode & 0o7777))
}

/// Sets the permissions of a file that can't be opened, such as a device. The file must not be a symbolic link.
pub fn chmod_at(directory: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<(), SysError> {
    rustix::fs::chmodat(directory, name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
        .call(|| format!("fchmodat({name:?}, 0{:o})", mode & 0o7777))
}

/// Sets the times of a file to those in `stat`. A symbolic link is not followed.
pub fn set_times_at(directory: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> Result<(), SysError> {
    let at = |seconds, nanoseconds: u64| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
    };
    let times = Timestamps {
        last_access: at(stat.st_atime, stat.st_atime_nsec),
        last_modification: at(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW).call(|| format!("utimensat({name:?})"))
}

/// The kernel's limit for the value of one attribute and for the list of their names, xattr(7).
const XATTR_MAX_BYTES: usize = 64 * 1024;
/// The size of the header that the kernel keeps with each attribute's value on a tmpfs (`simple_xattr` in
/// linux/xattr.h).
const XATTR_HEAD_BYTES: usize = 48;

/// Copies the extended attributes of `from` to `to`. Skips those that `to`'s file system or this process's privileges
/// don't allow, or that contain IDs without a mapping: before Linux 6.6, a tmpfs has no `user.` attributes.
///
/// Returns how many bytes of memory the attributes take. If that exceeds `most_bytes`, the
/// remaining attributes are left out.
pub fn copy_xattrs(from: impl AsFd, to: impl AsFd, most_bytes: u64) -> Result<u64, SysError> {
    // This memory isn't touched unless it is needed.
    let mut names = Vec::with_capacity(XATTR_MAX_BYTES);
    match rustix::fs::flistxattr(&from, spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::NOTSUP) => return Ok(0),
        Err(errno) => return Err(SysError::new("flistxattr()", errno)),
    }
    let mut copied_bytes = 0;
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        if name == c"security.selinux" {
            continue;
        }
        let mut value = Vec::with_capacity(XATTR_MAX_BYTES);
        match rustix::fs::fgetxattr(&from, name, spare_capacity(&mut value)) {
            Ok(_) => {}
            // The attribute contains an ID without a mapping, or it has been removed.
            Err(Errno::OVERFLOW | Errno::NODATA) => continue,
            Err(errno) => return Err(SysError::new(format!("fgetxattr({name:?})"), errno)),
        }
        // A tmpfs allocates name and value separately, and the sizes of allocations are powers of two.
        let value_bytes = (value.len() + XATTR_HEAD_BYTES).next_power_of_two();
        let taken_bytes = (value_bytes + (name.count_bytes() + 1).next_power_of_two()) as u64;
        if copied_bytes + taken_bytes > most_bytes {
            return Ok(copied_bytes + taken_bytes);
        }
        match rustix::fs::fsetxattr(&to, name, &value, XattrFlags::empty()) {
            Ok(()) => copied_bytes += taken_bytes,
            Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::OVERFLOW) => {}
            Err(errno) => return Err(SysError::new(format!("fsetxattr({name:?})"), errno)),
        }
    }
    Ok(copied_bytes)
}

/// Returns the offset of a file's next content at or after `offset`, or `None` if only a hole follows. A file system
/// without support for holes reports everything as content, lseek(2).
pub fn next_content(file: impl AsFd, offset: u64) -> Result<Option<u64>, SysError> {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(Some(offset)),
        Err(errno) => Err(SysError::new(format!("lseek({offset}, SEEK_DATA)"), errno)),
    }
}

/// Reads at an offset until the buffer is full or the file ends.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize, SysError> {
    let mut read_bytes = 0;
    while let Some(rest) = buffer.get_mut(read_bytes..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset + read_bytes as u64) {
            Ok(0) => break,
            Ok(bytes) => read_bytes += bytes,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(SysError::new("pread()", errno)),
        }
    }
    Ok(read_bytes)
}

/// Writes all bytes at an offset.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> Result<(), SysError> {
    file.write_all_at(bytes, offset).call(|| format!("pwrite({} bytes)", bytes.len()))
}

/// Sets the size of a file. If it grows, the new part is a hole.
pub fn set_size(file: &File, bytes: u64) -> Result<(), SysError> {
    file.set_len(bytes).call(|| format!("ftruncate({bytes})"))
}

/// Writes the whole of a string.
pub fn write(to: &mut File, text: &str) -> Result<(), SysError> {
    to.write_all(text.as_bytes()).call(|| format!("write({} bytes)", text.len()))
}

/// The initial size of a read buffer. One read of this size is enough for most states, configs and kernel files.
const USUAL_BYTES: usize = 16 * 1024;

/// Reads a file that is expected to be small. Returns `None` if it is larger than `limit_bytes`.
pub fn read_up_to(from: impl AsFd, limit_bytes: u64) -> Result<Option<Vec<u8>>, SysError> {
    read_each(from, limit_bytes, || Ok(()))
}

/// Reads like [`read_up_to`] from a stream that another program may never close. Fails when the time
/// limit of the call expires.
pub fn read_stream(from: impl AsFd, limit_bytes: u64) -> Result<Option<Vec<u8>>, SysError> {
    read_each(&from, limit_bytes, || time_limit::await_input(&from))
}

fn read_each(
    from: impl AsFd,
    limit_bytes: u64,
    wait: impl Fn() -> Result<(), SysError>,
) -> Result<Option<Vec<u8>>, SysError> {
    let mut text = Vec::with_capacity(USUAL_BYTES);
    loop {
        wait()?;
        match rustix::io::read(&from, spare_capacity(&mut text)) {
            Ok(0) => return Ok(Some(text)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(SysError::new("read()", errno)),
        }
        if text.len() as u64 > limit_bytes {
            return Ok(None);
        }
        if text.len() == text.capacity() {
            // The file is larger than usual. If its size is known, room for the rest is reserved at once.
            let size = stat(&from).ok().and_then(|stat| usize::try_from(stat.st_size).ok()).unwrap_or_default();
            let rest = size.min(usize::try_from(limit_bytes).unwrap_or(usize::MAX)).saturating_sub(text.len());
            text.reserve((rest + 1).max(text.len()));
        }
    }
}

/// Returns a path of an open file for calls that accept only paths. It leads to this very file, whatever has happened
/// to the file's original path. This requires a /proc that shows this process, as hooks have.
#[must_use]
pub fn proc_path(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Returns the path of an open file, relative to the root of this process.
pub fn path_of(file: BorrowedFd<'_>) -> Result<PathBuf, SysError> {
    let link = proc_path(file);
    std::fs::read_link(&link).call(|| format!("readlink({link:?})"))
}

/// Returns the fdinfo of an open file, which contains the ID of the mount that the file is on.
pub fn fd_info(file: BorrowedFd<'_>) -> Result<String, SysError> {
    let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    read_host_text(&path)
}

/// Opens a file of the host by its path. Symbolic links are followed, since the host's paths are trusted. A FIFO
/// appears empty instead of blocking.
pub fn open_host(path: &Path) -> Result<File, SysError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty()).map(File::from).call(|| format!("open({path:?})"))
}

/// Opens a directory of the host with `O_PATH`, following symbolic links.
pub fn open_host_directory(path: &Path) -> Result<OwnedFd, SysError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).call(|| format!("open({path:?}, O_PATH|O_DIRECTORY)"))
}

/// Reads a whole file of the host, such as one in /proc. Fails if it is larger than 1 MiB.
pub fn read_host(path: &Path) -> Result<Vec<u8>, SysError> {
    const LIMIT_BYTES: u64 = 1024 * 1024;
    let too_large = || SysError::TooMuch(format!("{} is larger than {LIMIT_BYTES} bytes", path.display()));
    read_up_to(open_host(path)?, LIMIT_BYTES)?.ok_or_else(too_large)
}

/// Reads the lines of a file of the host that satisfy `wanted`: a kernel table can be a hundred times as long as its
/// relevant part. Fails if these lines exceed 512 KiB. Lines that are too long are skipped.
pub fn read_host_lines(path: &Path, mut wanted: impl FnMut(&[u8]) -> bool) -> Result<Vec<u8>, SysError> {
    const LIMIT_BYTES: usize = 512 * 1024;
    let mut lines = Vec::new();
    let is_too_long = each_host_line(path, |line| {
        if let Some(line) = line.filter(|line| wanted(line)) {
            lines.extend_from_slice(line);
            lines.push(b'\n');
        }
        lines.len() > LIMIT_BYTES
    })?;
    if is_too_long {
        let path = path.display();
        Err(SysError::TooMuch(format!("the relevant lines of {path} exceed {LIMIT_BYTES} bytes")))
    } else {
        Ok(lines)
    }
}

/// Passes each line of a file of the host to `act`, or `None` for a line that is too long, until `act` returns
/// `true`. Returns whether it did.
pub fn each_host_line(path: &Path, mut act: impl FnMut(Option<&[u8]>) -> bool) -> Result<bool, SysError> {
    /// The maximum length of a line. A mount table can show paths that are longer than `PATH_MAX`, with
    /// four characters for each escaped byte. The longest lines that runtimes cause are those of
    /// overlays with hundreds of layers.
    const LINE_BYTES_MAX: usize = 128 * 1024;
    let mut file = BufReader::with_capacity(USUAL_BYTES, open_host(path)?);
    let mut line = Vec::new();
    while (&mut file).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).call(|| format!("read({path:?})"))? > 0 {
        let is_whole = line.last() == Some(&b'\n') || line.len() != LINE_BYTES_MAX;
        if act(is_whole.then_some(line.strip_suffix(b"\n").unwrap_or(&line))) {
            return Ok(true);
        }
        if !is_whole {
            file.skip_until(b'\n').call(|| format!("read({path:?})"))?;
        }
        line.clear();
    }
    Ok(false)
}

/// Reads a text file of the host. Invalid UTF-8 in it is replaced.
pub fn read_host_text(path: &str) -> Result<String, SysError> {
    read_host(Path::new(path)).map(|text| String::from_utf8_lossy(&text).into_owned())
}

/// Fails if this process may not execute the file at a path of the host.
pub fn check_executable(path: &Path) -> Result<(), SysError> {
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).call(|| format!("faccessat({path:?}, X_OK)"))
}

/// Replaces the content of a file of the host atomically. Its owner, permissions and extended attributes are kept,
/// and symbolic links still lead to it.
pub fn replace_host(path: &Path, text: &str) -> Result<(), SysError> {
    let path = std::fs::canonicalize(path).call(|| format!("realpath({path:?})"))?;
    let before = open_host(&path)?;
    let status = stat(&before)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut new =
        tempfile::Builder::new().prefix(".oci-").tempfile_in(directory).call(|| format!("mkstemp({directory:?})"))?;
    write(new.as_file_mut(), text)?;
    let own = stat(new.as_file())?;
    if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid) {
        chown_at(new.as_file().as_fd(), OsStr::new(""), status.st_uid, status.st_gid)?;
    }
    chmod(new.as_file(), status.st_mode)?;
    copy_xattrs(&before, new.as_file(), u64::MAX)?;
    copy_label(&before, new.as_file());
    // If a runtime is used without an engine, the bundle is on a disk, and the file must not be
    // empty after a power failure.
    rustix::fs::fdatasync(new.as_file()).call(|| "fdatasync()")?;
    new.persist(&path).map_err(|failed| failed.error).call(|| format!("rename({path:?})"))?;
    Ok(())
}

/// Copies the SELinux label. At worst, the new file has the label of its directory, like any file
/// that an engine writes there.
fn copy_label(from: impl AsFd, to: impl AsFd) {
    let mut label = Vec::with_capacity(XATTR_MAX_BYTES);
    if rustix::fs::fgetxattr(&from, c"security.selinux", spare_capacity(&mut label)).is_ok() {
        let _ = rustix::fs::fsetxattr(&to, c"security.selinux", &label, XattrFlags::empty());
    }
}

/// Opens a file again that was opened with `O_PATH`.
pub fn reopen(file: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, SysError> {
    let path = proc_path(file);
    rustix::fs::open(&path, OFlags::CLOEXEC | OFlags::NOCTTY | flags, Mode::empty())
        .call(|| format!("open({path:?}, {flags:?})"))
}
