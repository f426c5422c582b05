// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Shows an image to a container in a user namespace with the owners that its files should have there. Like
//! engines, the tests use an idmapped mount (Linux 5.12; below overlayfs 5.19).

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::lchown;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use libtest_mimic::Failed;
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::config::ID_COUNT;

/// Returns a mount of `folder` in which the file owners 0 and up appear as `first` and up. It is not
/// attached to a directory.
#[allow(unsafe_code)]
fn shifted(folder: &Path, first: u32) -> Result<OwnedFd, Failed> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, folder, flags)?;
    let namespace = user_namespace(first)?;
    let request = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(namespace.as_raw_fd())?,
    };
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
    if result == 0 {
        Ok(mount)
    } else {
        let error = std::io::Error::last_os_error();
        Err(format!("no idmapped mount of {}: {error}", folder.display()).into())
    }
}

/// Returns a user namespace whose root is `first` on the host. The descriptor keeps the namespace alive; the
/// process that created it has ended.
fn user_namespace(first: u32) -> Result<File, Failed> {
    let mut child = Command::new("unshare")
        .args(["--user", "--", "sh", "-c", "echo ready; read -r word"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no pipe from unshare")?;
    let made = BufReader::new(stdout).read_line(&mut String::new()).map_err(Failed::from).and_then(|_| {
        let about = |name: &str| format!("/proc/{}/{name}", child.id());
        let map = format!("0 {first} {ID_COUNT}\n");
        fs::write(about("uid_map"), &map)?;
        fs::write(about("gid_map"), &map)?;
        Ok(File::open(about("ns/user"))?)
    });
    // `wait` closes the pipe that the child reads from, which ends the child.
    child.wait()?;
    made
}

/// Mounts `folder` on `target` in another mount namespace, with owners as in [`shifted`].
pub fn mount_shifted(folder: &Path, first: u32, target: &Path, namespace: &Path) -> Result<(), Failed> {
    let mount = shifted(folder, first)?;
    let namespace = File::open(namespace)?;
    // This needs a separate thread, because a thread that has entered the namespace doesn't return.
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            leave_the_others()?;
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
            rustix::mount::move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        });
        match entered.join() {
            Ok(result) => result.map_err(Failed::from),
            Err(_) => Err("the thread that mounts has panicked".into()),
        }
    })
}

/// Stops sharing the root and working directory with other threads. A thread that shares them can't
/// change its mount namespace.
#[allow(unsafe_code)]
fn leave_the_others() -> rustix::io::Result<()> {
    // SAFETY: with CLONE_FS the thread gets its own root and working directory, and keeps its open files.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }
}

/// Changes the owner and group of a directory and of everything in it.
pub fn give(folder: &Path, id: u32) -> Result<(), Failed> {
    lchown(folder, Some(id), Some(id))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give(&entry.path(), id)?;
        } else {
            lchown(entry.path(), Some(id), Some(id))?;
        }
    }
    Ok(())
}
