// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Other processes as /proc shows them: their PIDs, start times and namespaces.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Context, SysError, fs};
use crate::kernel::mountinfo;
use crate::kernel::stat::Stat;

/// Returns the PIDs of all processes that are visible to this one.
pub fn pids() -> Result<Vec<u32>, SysError> {
    numbers("/proc")
}

/// Returns the thread IDs of a process, or an empty list if the process is gone.
pub fn tasks(pid: u32) -> Result<Vec<u32>, SysError> {
    match numbers(&format!("/proc/{pid}/task")) {
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        result => result,
    }
}

/// Whether a process has only one thread. A `false` proves nothing.
#[must_use]
pub fn has_one_thread(pid: u32) -> bool {
    /// The directory's own links, and one for each thread: `proc_task_getattr` in the kernel's fs/proc/base.c.
    const LINKS: u64 = 2 + 1;
    std::fs::metadata(format!("/proc/{pid}/task")).is_ok_and(|status| status.nlink() == LINKS)
}

/// Returns the name in /proc of a process, `70`, or of one of its threads, `70/task/71`, if its first thread has
/// ended. The other threads then go on, but /proc no longer shows anything under the name of the process.
#[must_use]
pub fn living_task(pid: u32) -> String {
    let process = pid.to_string();
    if namespace(&process, "mnt").is_some() || has_one_thread(pid) {
        return process;
    }
    let tasks = tasks(pid).unwrap_or_default().into_iter().map(|task| format!("{pid}/task/{task}"));
    tasks.into_iter().find(|task| namespace(task, "mnt").is_some()).unwrap_or(process)
}

/// Returns the device and inode of a process's root directory, or `None` if this process has no
/// rights over the other one.
#[must_use]
pub fn root(pid: &str) -> Option<(u64, u64)> {
    std::fs::metadata(format!("/proc/{pid}/root")).ok().map(|root| (root.dev(), root.ino()))
}

/// Whether a process has left the root of its mount namespace by chroot(2). The process is given by its name in /proc.
#[must_use]
pub fn has_changed_root(task: &str) -> bool {
    std::fs::read_link(format!("/proc/{task}/root")).is_ok_and(|root| root != Path::new("/"))
}

fn numbers(path: &str) -> Result<Vec<u32>, SysError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).call(|| format!("open({path:?})"))?;
    let (mut names, mut pids) = (fs::Names::of_directories(), Vec::new());
    while let Some(name) = names.next(directory.as_fd())? {
        pids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    pids.sort_unstable();
    Ok(pids)
}

/// Returns the fields that identify a process, or `None` if there is no such process.
pub fn stat(pid: u32) -> Result<Option<Stat>, SysError> {
    stat_at(&format!("/proc/{pid}/stat"))
}

/// Returns the fields that identify a thread of a process, or `None` if there is no such thread.
pub fn task_stat(pid: u32, task: u32) -> Result<Option<Stat>, SysError> {
    stat_at(&format!("/proc/{pid}/task/{task}/stat"))
}

fn stat_at(path: &str) -> Result<Option<Stat>, SysError> {
    match fs::read_host_text(path) {
        Err(error) if is_gone(&error) => Ok(None),
        result => match Stat::parse(&result?) {
            None => Err(SysError::Finding(format!("{path} has an unknown format"))),
            stat => Ok(stat),
        },
    }
}

/// Returns the inode number of a process's namespace, or `None` if the process is gone, if the kernel has no
/// namespaces of this kind, or if this process has no rights over the other one.
#[must_use]
pub fn namespace(pid: &str, kind: &str) -> Option<u64> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    let (_, number) = link.to_str()?.split_once(":[")?;
    number.strip_suffix(']')?.parse().ok()
}

/// Whether this process may be unable to see some of the processes in its pid namespace, proc(5).
pub fn may_hide_processes() -> Result<bool, SysError> {
    const HIDING: [&str; 4] = ["hidepid=2", "hidepid=invisible", "hidepid=4", "hidepid=ptraceable"];
    let table =
        super::mount_table::read(super::mount_table::OWN, |entry| entry.is_type("proc") && entry.is_at("/proc"))?;
    Ok(mountinfo::entries(&table).any(|entry| HIDING.iter().any(|option| entry.has_super_option(option))))
}

/// Whether an error of reading a process's files in /proc means that the process has ended. mountinfo fails with
/// `EINVAL` if the process no longer has a mount namespace.
#[must_use]
pub fn is_gone(error: &SysError) -> bool {
    matches!(error.errno(), Some(Errno::NOENT | Errno::SRCH | Errno::INVAL))
}
