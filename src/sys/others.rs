// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Other processes as /proc shows them: their pids, start times and namespaces.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Context, SysError, fs};
use crate::kernel::mountinfo;
use crate::kernel::stat::Stat;

/// The pids of all processes that this one sees.
pub fn pids() -> Result<Vec<u32>, SysError> {
    numbers("/proc")
}

/// The thread IDs of a process. Returns an empty list if it is gone.
pub fn tasks(pid: u32) -> Result<Vec<u32>, SysError> {
    match numbers(&format!("/proc/{pid}/task")) {
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        result => result,
    }
}

/// Whether a process has one thread only. A `false` proves nothing.
#[must_use]
pub fn has_one_thread(pid: u32) -> bool {
    /// The directory's own links, and one for each thread: `proc_task_getattr` in the kernel's fs/proc/base.c.
    const LINKS: u64 = 2 + 1;
    std::fs::metadata(format!("/proc/{pid}/task")).is_ok_and(|status| status.nlink() == LINKS)
}

/// The name in /proc of a process, `70`, or of one of its threads, `70/task/71`, if the first one has ended: the rest of
/// the process goes on without it, but /proc tells nothing of it any more.
#[must_use]
pub fn living_task(pid: u32) -> String {
    let process = pid.to_string();
    if namespace(&process, "mnt").is_some() || has_one_thread(pid) {
        return process;
    }
    let tasks = tasks(pid).unwrap_or_default().into_iter().map(|task| format!("{pid}/task/{task}"));
    tasks.into_iter().find(|task| namespace(task, "mnt").is_some()).unwrap_or(process)
}

/// The device and inode of a process's root directory. Returns `None` if this process has no rights over the other one.
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

/// The fields that identify a process. Returns `None` if there is no such process.
pub fn stat(pid: u32) -> Result<Option<Stat>, SysError> {
    stat_at(&format!("/proc/{pid}/stat"))
}

/// The same of one of its threads.
pub fn task_stat(pid: u32, task: u32) -> Result<Option<Stat>, SysError> {
    stat_at(&format!("/proc/{pid}/task/{task}/stat"))
}

fn stat_at(path: &str) -> Result<Option<Stat>, SysError> {
    match fs::read_host_text(path) {
        Err(error) if is_gone(&error) => Ok(None),
        result => match Stat::parse(&result?) {
            None => Err(SysError::Finding(format!("{path} has an unknown form"))),
            stat => Ok(stat),
        },
    }
}

/// The inode number of a process's namespace. Returns `None` if the process is gone, if the kernel has no namespaces of
/// this kind, or if this process has no rights over the other one.
#[must_use]
pub fn namespace(pid: &str, kind: &str) -> Option<u64> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    let (_, number) = link.to_str()?.split_once(":[")?;
    number.strip_suffix(']')?.parse().ok()
}

/// Whether this process may be unable to see some of the processes in its pid namespace, proc(5).
pub fn are_hidden() -> Result<bool, SysError> {
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
