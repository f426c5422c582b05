// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operates on mounts through file descriptors: a mount and its target are both open files, never paths.
//!
//! This uses the mount calls of Linux 5.2, and mount_setattr(2) of Linux 5.12 if available. Otherwise flags and
//! propagation are set with mount(2) on `/proc/self/fd/N`.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

use super::{Context, SysError, fs};

/// Adds the messages that the kernel wrote to a file system context to an error, such as
/// `tmpfs: Bad value for 'size'`.
fn with_kernel_messages(context: BorrowedFd<'_>, error: SysError) -> SysError {
    let mut said = Vec::new();
    let mut line = [0_u8; 256];
    // Each read returns one message, and the last one fails with ENODATA, fsopen(2).
    while let Ok(length @ 1..) = rustix::io::read(context, &mut line) {
        let text = String::from_utf8_lossy(line.get(..length).unwrap_or_default()).into_owned();
        said.push(text.trim().to_owned());
    }
    if said.is_empty() { error } else { error.with_hint(said.join("; ")) }
}

/// Creates a detached mount of a new tmpfs, with options as in tmpfs(5).
pub fn new_tmpfs(options: &[(&str, String)]) -> Result<OwnedFd, SysError> {
    new_mount("tmpfs", options, &[])
}

/// Creates a detached mount of a file system, with nosuid and nodev.
pub fn new_mount(fs_type: &str, options: &[(&str, String)], flags: &[&str]) -> Result<OwnedFd, SysError> {
    configured(fs_type, options, flags).map_err(or_older_kernel)
}

fn or_older_kernel(error: SysError) -> SysError {
    if error.errno() == Some(Errno::NOSYS) { error.with_hint("this requires Linux 5.2 or newer") } else { error }
}

fn configured(fs_type: &str, options: &[(&str, String)], flags: &[&str]) -> Result<OwnedFd, SysError> {
    let context =
        rustix::mount::fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC).call(|| format!("fsopen({fs_type:?})"))?;
    mounted(context.as_fd(), fs_type, options, flags).map_err(|error| with_kernel_messages(context.as_fd(), error))
}

fn mounted(
    context: BorrowedFd<'_>,
    fs_type: &str,
    options: &[(&str, String)],
    flags: &[&str],
) -> Result<OwnedFd, SysError> {
    // This is the name of the source that mount(8) shows.
    let named = [("source", fs_type.to_owned())];
    for (key, value) in named.iter().chain(options) {
        set_string(context, key, value).call(|| format!("fsconfig(FSCONFIG_SET_STRING, \"{key}\", \"{value}\")"))?;
    }
    for flag in flags {
        rustix::mount::fsconfig_set_flag(context, *flag).call(|| format!("fsconfig(FSCONFIG_SET_FLAG, \"{flag}\")"))?;
    }
    rustix::mount::fsconfig_create(context).call(|| "fsconfig(FSCONFIG_CMD_CREATE)")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).call(|| "fsmount()")
}

/// Calls fsconfig(2) directly. Before Linux 5.17 it returns 1 if SELinux accepts an option, which rustix mistakes for
/// an error ("LSM: general protection fault in legacy_parse_param").
#[allow(unsafe_code)]
fn set_string(context: BorrowedFd<'_>, key: &str, value: &str) -> std::io::Result<()> {
    /// `FSCONFIG_SET_STRING` in linux/mount.h.
    const SET_STRING: libc::c_uint = 1;
    let (key, value) = (CString::new(key)?, CString::new(value)?);
    // SAFETY: the strings end with a NUL and outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), SET_STRING, key.as_ptr(), value.as_ptr(), 0) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Creates a detached copy of the mount of an open file, with that file as its root.
pub fn copy_of(file: impl AsFd) -> Result<OwnedFd, SysError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(file, "", flags).call(|| "open_tree(OPEN_TREE_CLONE)").map_err(or_older_kernel)
}

/// Attaches a new mount to `target`, or moves an existing one there with everything that is mounted on it.
pub fn put(mount: impl AsFd, target: impl AsFd) -> Result<(), SysError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags).call(|| "move_mount()").map_err(or_older_kernel)
}

/// Detaches a mount. It disappears now or when its last user is gone.
pub fn take_away(mount: BorrowedFd<'_>) -> Result<(), SysError> {
    let path = fs::proc_path(mount);
    rustix::mount::unmount(&path, UnmountFlags::DETACH).call(|| format!("umount2({path:?}, MNT_DETACH)"))
}

/// Whether a mount is writable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing can be written or executed through the mount: what it shows is data of the host.
    ReadOnly,
    /// The permissions of the file system apply.
    ReadWrite,
}

/// Makes a copy of a mount private and sets its access before it is attached, so that it is never attached while it
/// is in the peer group of its original. Fails with `ENOSYS` before Linux 5.12.
#[allow(unsafe_code)]
pub fn set_attributes(mount: BorrowedFd<'_>, access: Access) -> Result<(), SysError> {
    let attributes = match access {
        Access::ReadOnly => {
            MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC
        }
        Access::ReadWrite => MountAttrFlags::MOUNT_ATTR_RDONLY,
    };
    let bits = u64::from(attributes.bits());
    let (set, clear) = match access {
        Access::ReadOnly => (bits, 0),
        Access::ReadWrite => (0, bits),
    };
    let request = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    let call = || format!("mount_setattr({set:#x}, {clear:#x}, MS_PRIVATE)");
    // SAFETY: the path is an empty string, and the request has the size that is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const request,
            size_of::<libc::mount_attr>(),
        )
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).call(call);
    }
    check_access(mount, access)
}

/// Fails if a mount should be writable, but its file system is read-only as a whole. No mount can change that.
fn check_access(mount: BorrowedFd<'_>, access: Access) -> Result<(), SysError> {
    match access {
        Access::ReadWrite if fs::stat_fs(mount)?.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            Err(SysError::Finding("the file system itself is read-only".to_owned()))
        }
        Access::ReadOnly | Access::ReadWrite => Ok(()),
    }
}

/// Changes the access of an attached mount. Its other flags are kept.
pub fn set_access(mount: BorrowedFd<'_>, access: Access) -> Result<(), SysError> {
    let path = fs::proc_path(mount);
    let wanted = match access {
        Access::ReadOnly => MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        Access::ReadWrite => MountFlags::empty(),
    };
    let flags = wanted | kept_flags(fs::stat_fs(mount)?.f_flag);
    let call = || format!("mount({path:?}, MS_REMOUNT|MS_BIND|{flags:?})");
    rustix::mount::mount_remount(&path, MountFlags::BIND | flags, "").call(call)?;
    check_access(mount, access)
}

/// Returns the flags that a remount must name to keep them. Leaving one out fails with EPERM in a user namespace.
fn kept_flags(flags: StatVfsMountFlags) -> MountFlags {
    [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ]
    .into_iter()
    .filter(|(seen, _)| flags.contains(*seen))
    .fold(MountFlags::empty(), |all, (_, flag)| all | flag)
}

/// Makes a mount receive what its peers mount without propagating anything to them, mount_namespaces(7).
pub fn make_slave(mount: BorrowedFd<'_>) -> Result<(), SysError> {
    change(mount, MountPropagationFlags::DOWNSTREAM, "MS_SLAVE")
}

/// Removes a mount from its peer group, which a copy of a shared mount is in from the start.
pub fn make_private(mount: BorrowedFd<'_>) -> Result<(), SysError> {
    change(mount, MountPropagationFlags::PRIVATE, "MS_PRIVATE")
}

/// Creates a peer group with this mount as its first member.
pub fn make_shared(mount: BorrowedFd<'_>) -> Result<(), SysError> {
    change(mount, MountPropagationFlags::SHARED, "MS_SHARED")
}

fn change(mount: BorrowedFd<'_>, flags: MountPropagationFlags, name: &str) -> Result<(), SysError> {
    let path = fs::proc_path(mount);
    rustix::mount::mount_change(&path, flags).call(|| format!("mount({path:?}, {name})"))
}
