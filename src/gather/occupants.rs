// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Determines whose processes are in a container's cgroup before the container starts. Legitimate ones are its first
//! process and what the runtime and its hooks run. As measured with runc 1.1 and crun 1.8, only the first process is
//! in the cgroup at createRuntime, and also the hook at createContainer.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;

use super::GatherError;
use super::proc::read_if_shown;
use super::readings::{CgroupLook, CgroupPlace};
use crate::facts::{CgroupOwner, Occupants, Stage};
use crate::kernel::cgroup::{CgroupFile, Hierarchy};
use crate::kernel::status;
use crate::oci::config::Config;
use crate::root::Root;
use crate::sys::{SysError, cgroup, fs, mount_table, others, process};

/// More ancestors than a process usually has.
const ANCESTORS_MAX: usize = 64;

/// The processes that may be in the cgroup.
#[derive(Debug)]
pub(super) enum Family {
    /// These processes and their descendants, by their PIDs in this process's PID namespace.
    Of(Vec<u32>),
    /// All processes in this process's PID namespace, which is the container's own.
    PidNamespace,
    /// The topmost ancestor of this process that is in the container, and its descendants. /proc is the runtime's at
    /// this stage, so PIDs in cgroup.procs can't be compared with those in /proc.
    FirstAncestor,
}

impl Family {
    /// Returns the processes that are expected in the container's cgroup. Any other process means that others use the
    /// cgroup as well. `first` is the container's first process, which is known at createRuntime only.
    pub(super) fn of(config: &Config, stage: Stage, first: Option<u32>) -> Self {
        match stage {
            Stage::CreateRuntime => {
                // Process 1 doesn't count: every orphan becomes its child.
                let runtime = process::parent().filter(|pid| *pid > 1);
                Self::Of([Some(std::process::id()), first, runtime].into_iter().flatten().collect())
            }
            Stage::CreateContainer if config.has_new_namespace("pid") => Self::PidNamespace,
            Stage::CreateContainer => Self::FirstAncestor,
        }
    }
}

/// Examines a cgroup, preferably on the host's own mount of the hierarchy, which no image can influence, or else
/// where the container sees it.
pub(super) fn look(root: &Root, family: &Family, place: &CgroupPlace) -> Result<CgroupLook, GatherError> {
    let Some(directory) = open(root, place)? else { return Ok(CgroupLook::NOT_SEEN) };
    let failed = |source| GatherError::Cgroup { path: place.path.clone(), hierarchy: place.hierarchy, source };
    let inode = Some(fs::stat(&directory).map_err(failed)?.st_ino);
    let occupants = match place.owner {
        CgroupOwner::Container => occupants(&directory, family, place)?,
        CgroupOwner::Shared(_) => Occupants::Unknown,
    };
    let room = if place.asks_for_room { cgroup::room(directory.as_fd()).map_err(failed)? } else { None };
    let owner_of_limits = match (place.hierarchy, &place.seen_at) {
        (Hierarchy::Unified, Some(_)) => cgroup::owner_of_limits(directory.as_fd()).map_err(failed)?,
        // In v1 the delegated files include no limits, and the container can't write to a cgroup that it doesn't see.
        _ => None,
    };
    Ok(CgroupLook { inode, occupants, room, owner_of_limits })
}

fn open(root: &Root, place: &CgroupPlace) -> Result<Option<OwnedFd>, GatherError> {
    let failed = |source| GatherError::Cgroup { path: place.path.clone(), hierarchy: place.hierarchy, source };
    let is_one = |directory: OwnedFd| {
        cgroup::check_is_cgroup(&directory)?;
        Ok(directory)
    };
    let directory = match (&place.on_host, &place.seen_at) {
        (Some(top), _) => {
            let top = fs::open_host_directory(top).map_err(failed)?;
            cgroup::directory(top.as_fd(), &place.path).and_then(is_one)
        }
        (None, Some(at)) => root.open_directory(at).and_then(is_one),
        (None, None) if place.hierarchy == Hierarchy::Unified && place.owner == CgroupOwner::Container => {
            match cgroup::open(place.hierarchy) {
                // In a user namespace this process may not mount the hierarchy.
                Err(error) if error.errno() == Some(Errno::PERM) => return Ok(None),
                top => top.and_then(|top| cgroup::directory(top.as_fd(), &place.path)),
            }
        }
        (None, None) => return Ok(None),
    };
    match directory {
        // The cgroup is gone, or something else is mounted there.
        Err(SysError::Elsewhere(_) | SysError::Call { errno: Errno::NOENT | Errno::NOTDIR | Errno::XDEV, .. }) => {
            Ok(None)
        }
        result => result.map(Some).map_err(failed),
    }
}

fn occupants(directory: &OwnedFd, family: &Family, place: &CgroupPlace) -> Result<Occupants, GatherError> {
    let is_listed = match (family, place.hierarchy) {
        (Family::Of(_), _) => return listed(directory, family, place),
        // Remaining processes of the runtime, outside the container's PID namespace, may still be in the cgroup.
        (Family::PidNamespace, Hierarchy::Unified) => listed(directory, family, place)? == Occupants::Container,
        // v1's cgroup.procs leaves out processes of outer PID namespaces.
        (Family::PidNamespace | Family::FirstAncestor, _) => false,
    };
    if is_listed {
        return Ok(Occupants::Container);
    }
    match ancestors(family)? {
        // If the container has no PID namespace of its own, cgroup.procs has the same PIDs as /proc. If it
        // joins one, they differ.
        Some(Ancestors { heads, depth: Some(1) }) => listed(directory, &Family::Of(heads), place),
        Some(Ancestors { heads, .. }) => in_proc(&heads, place),
        None => Ok(Occupants::Unknown),
    }
}

/// Determines the occupants from cgroup.procs.
fn listed(directory: &OwnedFd, family: &Family, place: &CgroupPlace) -> Result<Occupants, GatherError> {
    let pids = match cgroup::all_processes(directory.as_fd()) {
        // cgroup.procs of a threaded cgroup can't be read, cgroups(7).
        Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => None,
        result => result.map_err(|source| GatherError::Cgroup {
            path: place.path.clone(),
            hierarchy: place.hierarchy,
            source,
        })?,
    };
    let Some(pids) = pids else { return Ok(Occupants::Unknown) };
    let mut found = Occupants::Container;
    for pid in pids {
        let is_own = match family {
            _ if pid == 0 => false,
            Family::PidNamespace => true,
            Family::Of(heads) => descends(pid, heads)?,
            Family::FirstAncestor => false,
        };
        // PID 0 stands for a process of an outer PID namespace, about which /proc has no information.
        if is_own || (pid != 0 && !has_thread(pid, |_| Ok(true))? && !is_hidden(pid)?) {
            continue;
        }
        if is_in_a_container(pid) {
            return Ok(Occupants::AnotherContainer);
        }
        found = Occupants::Others;
    }
    Ok(found)
}

/// Whether a process is in a container, as far as this process can determine: it has another PID namespace or, as in
/// a container that has the host's PID namespace, another root directory. Services of the host can have private
/// mounts, but neither of these.
fn is_in_a_container(pid: u32) -> bool {
    let pid = pid.to_string();
    others::namespace(&pid, "pid").is_some_and(|its| Some(its) != others::namespace("self", "pid"))
        || others::root(&pid).is_some_and(|its| Some(its) != others::root("self"))
}

/// Whether a process that /proc doesn't show may be running nevertheless.
fn is_hidden(pid: u32) -> Result<bool, GatherError> {
    let failed = |source| GatherError::Read { path: PathBuf::from(mount_table::OWN), source };
    Ok(!process::sees_all()
        && others::tasks(pid).map_err(failed)?.is_empty()
        && others::may_hide_processes().map_err(failed)?)
}

/// Whether a process has a thread that isn't exiting and fulfills a condition. The condition is checked first,
/// because in v1 the kernel shows `/` as the cgroup of a thread that is exiting.
fn has_thread(pid: u32, is_one: impl Fn(u32) -> Result<bool, GatherError>) -> Result<bool, GatherError> {
    let failed = |source| GatherError::Read { path: PathBuf::from(format!("/proc/{pid}/task")), source };
    for task in others::tasks(pid).map_err(failed)? {
        if is_one(task)? && others::task_stat(pid, task).map_err(failed)?.is_some_and(|stat| !stat.is_exiting) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a process is one of `heads` or a descendant of one. A process that has ended counts as one, since it can
/// do no harm, but one that is hidden doesn't.
fn descends(mut pid: u32, heads: &[u32]) -> Result<bool, GatherError> {
    for _ in 0..ANCESTORS_MAX {
        if heads.contains(&pid) {
            return Ok(true);
        }
        let Some(text) = read_if_shown(&format!("/proc/{pid}/status"))? else { return Ok(!is_hidden(pid)?) };
        match status::parent(&text) {
            Some(parent) if parent > 1 || heads.contains(&1) => pid = parent,
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// Determines the occupants from the /proc entries of all processes. At createContainer, /proc is still the runtime's.
fn in_proc(heads: &[u32], place: &CgroupPlace) -> Result<Occupants, GatherError> {
    // If process 1 isn't visible, /proc hides the processes of other users (`hidepid`, proc(5)).
    if read_if_shown("/proc/1/cgroup")?.is_none() {
        return Ok(Occupants::Unknown);
    }
    let pids = others::pids().map_err(|source| GatherError::Read { path: PathBuf::from("/proc"), source })?;
    for pid in pids {
        if is_in(pid, place)? && !descends(pid, heads)? {
            return Ok(Occupants::Others);
        }
    }
    Ok(Occupants::Container)
}

/// Whether a process has a thread in a cgroup. In v1 each thread can be in a different one.
fn is_in(pid: u32, place: &CgroupPlace) -> Result<bool, GatherError> {
    let is_task_in = |task: u32| {
        let cgroups = read_if_shown(&format!("/proc/{task}/cgroup"))?;
        let path = cgroups.and_then(|text| CgroupFile::new(text).path(place.hierarchy));
        Ok(path.is_some_and(|path| path.is_at_or_below(&place.path)))
    };
    // There can be thousands of processes, and most have a single thread, for which fewer calls are enough.
    if others::has_one_thread(pid) && !is_task_in(pid)? {
        return Ok(false);
    }
    has_thread(pid, is_task_in)
}

/// The ancestors of this process whose descendants may be in the container's cgroup.
struct Ancestors {
    /// Their PIDs in the mounted /proc: this process, its ancestors in the container, and the runtime, because runc
    /// leaves processes in the cgroup that are about to end.
    heads: Vec<u32>,
    /// The depth of this process's PID namespace, counted from that of the mounted /proc.
    depth: Option<usize>,
}

/// Finds these ancestors. Returns `None` if they can't be determined.
fn ancestors(family: &Family) -> Result<Option<Ancestors>, GatherError> {
    let Some(mut about) = read_if_shown("/proc/self/status")? else { return Ok(None) };
    let depth = status::pid_namespaces(&about);
    let mut heads: Vec<u32> = status::pid(&about).into_iter().collect();
    for _ in 0..ANCESTORS_MAX {
        let Some(parent) = status::parent(&about) else { return Ok(Some(Ancestors { heads, depth })) };
        let is_inside = match family {
            // This is the container's own /proc, which shows no other processes.
            Family::PidNamespace if depth == Some(1) => return Ok(None),
            Family::PidNamespace => {
                let Some(above) = read_if_shown(&format!("/proc/{parent}/status"))? else { return Ok(None) };
                about = above;
                status::pid_namespaces(&about) == depth
            }
            Family::FirstAncestor | Family::Of(_) => shares_mount_namespace(parent)?,
        };
        // Process 1 is the parent of every orphan, whether or not that is the container's.
        heads.extend((is_inside || parent > 1).then_some(parent));
        if !is_inside {
            return Ok(Some(Ancestors { heads, depth }));
        }
        if !matches!(family, Family::PidNamespace) {
            let Some(above) = read_if_shown(&format!("/proc/{parent}/status"))? else { return Ok(None) };
            about = above;
        }
    }
    Ok(None)
}

fn shares_mount_namespace(pid: u32) -> Result<bool, GatherError> {
    match process::shares_mount_namespace(pid) {
        Err(error) if matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM | Errno::SRCH)) => Ok(false),
        result => result.map_err(|source: SysError| GatherError::Enter { pid, source }),
    }
}
