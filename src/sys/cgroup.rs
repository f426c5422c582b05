// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operates on cgroups through file descriptors, cgroups(7).
//!
//! Each hierarchy is accessed through a private detached mount (fsmount(2)), which disappears when its descriptor is
//! closed. This works wherever, and even if, the host has it mounted.

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FsWord, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::fs::Names;
use super::{Context, SysError, fs, mount, mount_table};
use crate::kernel::cgroup::{CgroupFile, Hierarchy};
use crate::kernel::mountinfo;
use crate::path::{CgroupPath, OwnNamespace};

/// How long to wait until a cgroup is empty or a hierarchy is gone. A call that ends a process or a mount namespace
/// returns before the kernel has finished doing so.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(10);
/// The maximum depth of nested cgroups, each of which takes a file descriptor here. A
/// container's systemd nests about ten.
const DEPTH_MAX: usize = 512;
/// The maximum size of a file in a cgroup directory. None of the files that are read here is as large.
const LIMIT_BYTES: u64 = 1024 * 1024;

/// How long a removal may take.
#[derive(Debug, Clone, Copy)]
pub struct RemovalBudget {
    /// How long to wait for processes that are ending, and for locks of other processes.
    patience: Duration,
    /// The time at which to give up.
    deadline: Option<Instant>,
}

impl RemovalBudget {
    /// The removal is what the call is for, so only the call's own time limit applies.
    pub const FULL: Self = Self { patience: PATIENCE, deadline: None };

    /// The removal can be left to a later call.
    #[must_use]
    pub fn spare(deadline: Instant) -> Self {
        Self { patience: Duration::ZERO, deadline: Some(deadline) }
    }

    /// Returns the same budget with a deadline that is at most `time` from now.
    #[must_use]
    pub fn within(&self, time: Duration) -> Self {
        let then = Instant::now() + time;
        Self { deadline: Some(self.deadline.map_or(then, |deadline| deadline.min(then))), ..*self }
    }

    /// How long to wait for other processes.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether the deadline has passed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Fails once the deadline has passed. `doing` says what there is no time left for, such as `to remove …`.
    pub fn check(&self, doing: impl FnOnce() -> String) -> Result<(), SysError> {
        if self.is_over() {
            Err(SysError::Finding(format!("no time is left {}; a later call will do it", doing())))
        } else {
            Ok(())
        }
    }
}

/// Mounts a hierarchy without attaching it anywhere, from the root of this process's cgroup namespace. That creates
/// the `name=systemd` hierarchy of v1, which the kernel destroys with its last mount if it has no cgroups.
pub fn open(hierarchy: Hierarchy) -> Result<OwnedFd, SysError> {
    match hierarchy {
        Hierarchy::Unified => {
            let options = options_of_v2();
            match mount::new_mount("cgroup2", &[], &options.iter().map(String::as_str).collect::<Vec<_>>()) {
                // In the host's cgroup namespace a rootless engine may not mount the hierarchy, but may own a
                // part of the existing mount.
                Err(error) if error.errno() == Some(Errno::PERM) => mounted(hierarchy)?.ok_or(error),
                result => result,
            }
        }
        Hierarchy::Systemd => {
            let named = || mount::new_mount("cgroup", &[("name", "systemd".to_owned())], &["none", "xattr"]);
            // While a hierarchy of this name is being destroyed, the kernel returns EBUSY. It returns another error
            // if the same file system context is used again, so each attempt creates a new one.
            let deadline = Instant::now() + PATIENCE;
            let result = loop {
                match named() {
                    Err(error) if error.errno() == Some(Errno::BUSY) && Instant::now() < deadline => {
                        std::thread::sleep(PAUSE);
                    }
                    result => break result,
                }
            };
            result.map_err(|error| match error.errno() {
                Some(Errno::NOENT) => error.with_hint("the kernel was booted with cgroup_no_v1=named"),
                Some(Errno::PERM) => {
                    error.with_hint("v1 can only be mounted on the host itself, in the initial cgroup namespace")
                }
                _ => error,
            })
        }
        Hierarchy::Memory => match mount::new_mount("cgroup", &[], &["memory"]) {
            // The kernel returns EBUSY if the hierarchy has other controllers as well.
            Err(error) if matches!(error.errno(), Some(Errno::PERM | Errno::BUSY)) => mounted(hierarchy)?.ok_or(error),
            result => result,
        },
    }
}

/// Returns the mount options of the v2 hierarchy. They apply to the whole machine, and each new mount of it in the
/// initial cgroup namespace sets them again: a mount without `nsdelegate` would remove that option for all containers
/// (`apply_cgroup_root_flags` in the kernel's kernel/cgroup/cgroup.c).
fn options_of_v2() -> Vec<String> {
    /// The options of any mount, and the one that SELinux adds.
    const GENERIC_OPTIONS: [&str; 3] = ["rw", "ro", "seclabel"];
    [mount_table::OWN, "/proc/1/mountinfo"]
        .into_iter()
        .find_map(|table| {
            let table = mount_table::read(table, |entry| entry.is_type("cgroup2")).ok()?;
            mountinfo::entries(&table).next().map(|entry| entry.super_options())
        })
        .unwrap_or_default()
        .into_iter()
        .filter(|option| !GENERIC_OPTIONS.contains(&option.as_str()))
        .collect()
}

/// Opens an existing mount that shows the whole hierarchy and is writable. Returns `None` if there is none.
fn mounted(hierarchy: Hierarchy) -> Result<Option<OwnedFd>, SysError> {
    let is_it = |entry: &mountinfo::Entry<'_>| match hierarchy {
        Hierarchy::Unified => entry.is_type("cgroup2"),
        Hierarchy::Systemd => entry.is_type("cgroup") && entry.has_super_option("name=systemd"),
        Hierarchy::Memory => entry.is_type("cgroup") && entry.has_super_option("memory"),
    };
    let is_whole =
        |entry: &mountinfo::Entry<'_>| is_it(entry) && entry.root() == Path::new("/") && !entry.is_read_only();
    let table = mount_table::read(mount_table::OWN, is_whole)?;
    mountinfo::entries(&table).next().map(|entry| fs::open_host_directory(&entry.mount_point())).transpose()
}

/// Opens a file or a child of a cgroup by a path relative to the cgroup. All of them are opened by this function.
/// Fails with [`SysError::Elsewhere`] if something is mounted on the file: the author of a container may mount a
/// volume on each file of the cgroup that the container sees.
pub fn open_in(cgroup: BorrowedFd<'_>, name: impl AsRef<OsStr>, flags: OFlags) -> Result<OwnedFd, SysError> {
    let name = name.as_ref();
    let elsewhere = || SysError::Elsewhere(format!("something else is mounted on {name:?} in the cgroup"));
    let all = OFlags::CLOEXEC | OFlags::NOFOLLOW | flags;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(cgroup, name, all, Mode::empty(), resolve) {
        // The kernel is older than Linux 5.6, or a seccomp filter doesn't know the call.
        Err(Errno::NOSYS | Errno::PERM) => {
            let place = fs::open_at(cgroup, name, OFlags::PATH | flags & OFlags::DIRECTORY)?;
            if fs::mount_number(&place)? != fs::mount_number(cgroup)? {
                return Err(elsewhere());
            }
            if flags.contains(OFlags::PATH) { Ok(place) } else { fs::reopen(place.as_fd(), flags) }
        }
        Err(Errno::XDEV) => Err(elsewhere()),
        result => result.call(|| format!("openat2({name:?}, {flags:?}, RESOLVE_NO_XDEV)")),
    }
}

/// Opens the directory of a cgroup. There are no symbolic links in a hierarchy.
pub fn directory(hierarchy: BorrowedFd<'_>, path: &CgroupPath) -> Result<OwnedFd, SysError> {
    let below = path.below(&CgroupPath::root()).unwrap_or(Path::new(""));
    let name = if below.as_os_str().is_empty() { OsStr::new(".") } else { below.as_os_str() };
    open_in(hierarchy, name, OFlags::PATH | OFlags::DIRECTORY)
}

/// Returns the UID that owns the files that limit a v2 cgroup, or `None` if it can't be determined.
pub fn owner_of_limits(cgroup: BorrowedFd<'_>) -> Result<Option<u32>, SysError> {
    match open_in(cgroup, MAX_DEPTH, OFlags::PATH) {
        // The kernel is older than Linux 4.14, or a volume is mounted on the file.
        Err(SysError::Elsewhere(_) | SysError::Call { errno: Errno::NOENT, .. }) => Ok(None),
        file => Ok(Some(fs::stat(file?)?.st_uid)),
    }
}

/// Fails if a directory isn't in a cgroup hierarchy: something else may have been mounted since
/// in place of the hierarchy.
pub fn check_is_cgroup(directory: impl AsFd) -> Result<(), SysError> {
    /// `CGROUP_SUPER_MAGIC` and `CGROUP2_SUPER_MAGIC` in linux/magic.h.
    const MAGIC: [FsWord; 2] = [0x0027_e0eb, 0x6367_7270];
    let found = rustix::fs::fstatfs(directory).call(|| "fstatfs()")?;
    if MAGIC.contains(&found.f_type) {
        Ok(())
    } else {
        Err(SysError::Elsewhere("the directory is no longer part of a cgroup hierarchy".to_owned()))
    }
}

/// Returns the processes in a cgroup, by their PIDs in this process's PID namespace. Processes of outer PID
/// namespaces are left out.
pub fn processes(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, SysError> {
    let text = read(cgroup, "cgroup.procs")?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
}

/// Returns the processes in a cgroup and its descendants, by their PIDs in this process's PID namespace. 0 stands for
/// a process of an outer PID namespace; v1 leaves those out. Returns `None` if there are more cgroups or processes
/// than a container can have before it starts.
pub fn all_processes(cgroup: BorrowedFd<'_>) -> Result<Option<Vec<u32>>, SysError> {
    const CGROUPS_MAX: usize = 1024;
    const PROCESSES_MAX: usize = 256;
    let (looked_at, found) = (Cell::new(0), RefCell::new(Vec::new()));
    let look = |cgroup: BorrowedFd<'_>| {
        looked_at.set(looked_at.get() + 1);
        found.borrow_mut().extend(read(cgroup, "cgroup.procs")?.lines().filter_map(|line| line.parse::<u32>().ok()));
        let is_enough = looked_at.get() > CGROUPS_MAX || found.borrow().len() > PROCESSES_MAX;
        if is_enough {
            Err(SysError::TooMuch("the cgroup has too many processes or cgroups".to_owned()))
        } else {
            Ok(())
        }
    };
    match walk(cgroup, OsStr::new("."), |_, _| Ok(WalkStep::In), look, |_, _| Ok(())) {
        Err(SysError::TooMuch(_)) => Ok(None),
        result => result.map(|()| Some(found.into_inner())),
    }
}

/// Moves a process with all its threads into a cgroup.
pub fn enter(cgroup: BorrowedFd<'_>, pid: u32) -> Result<(), SysError> {
    write(cgroup, "cgroup.procs", &pid.to_string())
}

/// Returns the controllers that are available in a v2 cgroup.
pub fn controllers(cgroup: BorrowedFd<'_>) -> Result<Vec<String>, SysError> {
    Ok(read(cgroup, "cgroup.controllers")?.split_whitespace().map(str::to_owned).collect())
}

/// Whether a controller is enabled for the children of a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControllerState {
    Enabled,
    Disabled,
}

/// Enables or disables a controller for the children of a v2 cgroup.
pub fn set_controller(cgroup: BorrowedFd<'_>, controller: &str, state: ControllerState) -> Result<(), SysError> {
    let sign = match state {
        ControllerState::Enabled => '+',
        ControllerState::Disabled => '-',
    };
    write(cgroup, "cgroup.subtree_control", &format!("{sign}{controller}"))
}

const MAX_DEPTH: &str = "cgroup.max.depth";
const MAX_DESCENDANTS: &str = "cgroup.max.descendants";

/// Returns the limit on the number of descendants of a v2 cgroup, or `None` if there is no limit.
pub fn max_descendants(cgroup: BorrowedFd<'_>) -> Result<Option<u32>, SysError> {
    limit(cgroup, MAX_DESCENDANTS)
}

fn limit(cgroup: BorrowedFd<'_>, name: &str) -> Result<Option<u32>, SysError> {
    let text = read(cgroup, name)?;
    match text.trim() {
        "max" => Ok(None),
        number => number
            .parse()
            .map(Some)
            .map_err(|_| SysError::Finding(format!("{name} contains {number:?}, which is not a number"))),
    }
}

/// Returns how many cgroups can be created below a v2 cgroup, each inside the one before, under its own limits and
/// those of its ancestors. Returns `None` if there is no limit.
pub fn room(cgroup: BorrowedFd<'_>) -> Result<Option<u32>, SysError> {
    let mut directory = fs::open_at(cgroup, ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut least: Option<u32> = None;
    for depth in 0..DEPTH_MAX {
        let depth = u32::try_from(depth).unwrap_or(u32::MAX);
        let levels = match limit(directory.as_fd(), MAX_DEPTH) {
            // The hierarchy's root has no limits. Cgroups that this mount doesn't show can't be checked.
            Err(error) if error.errno() == Some(Errno::NOENT) => break,
            levels => levels?.map(|most| most.saturating_sub(depth)),
        };
        let cgroups = match max_descendants(directory.as_fd())? {
            Some(most) => Some(most.saturating_sub(descendants(directory.as_fd())?)),
            None => None,
        };
        least = [least, levels, cgroups].into_iter().flatten().min();
        directory = match open_in(directory.as_fd(), "..", OFlags::RDONLY | OFlags::DIRECTORY) {
            // This is the top of the mount.
            Err(SysError::Elsewhere(_)) => break,
            above => above?,
        };
    }
    Ok(least)
}

fn descendants(cgroup: BorrowedFd<'_>) -> Result<u32, SysError> {
    const STAT: &str = "cgroup.stat";
    let text = read(cgroup, STAT)?;
    let number = text.lines().find_map(|line| line.strip_prefix("nr_descendants ")?.parse().ok());
    number.ok_or_else(|| SysError::Finding(format!("{STAT} does not report the number of descendants")))
}

/// Sets the limit on the number of descendants of a v2 cgroup, or removes it if `most` is `None`.
pub fn set_max_descendants(cgroup: BorrowedFd<'_>, most: Option<u32>) -> Result<(), SysError> {
    write(cgroup, MAX_DESCENDANTS, &most.map_or_else(|| "max".to_owned(), |most| most.to_string()))
}

/// Removes a cgroup and its descendants if it still has this inode number, and waits as long as the budget allows for
/// processes in it that are ending. Without an inode number, the cgroup is removed only if it is empty. A cgroup that
/// doesn't exist is not an error.
pub fn remove(
    hierarchy: Hierarchy,
    path: &CgroupPath,
    inode: Option<u64>,
    budget: &RemovalBudget,
) -> Result<(), SysError> {
    let top = open(hierarchy)?;
    let (above, name) =
        path.split().ok_or_else(|| SysError::Finding("the root of a hierarchy can't be removed".to_owned()))?;
    let result = match directory(top.as_fd(), &above) {
        Ok(above) => remove_if_same_inode(above.as_fd(), name, inode, budget),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    };
    drop(top);
    if hierarchy == Hierarchy::Systemd {
        release_systemd_hierarchy();
    }
    result
}

fn remove_if_same_inode(
    above: BorrowedFd<'_>,
    name: &OsStr,
    inode: Option<u64>,
    budget: &RemovalBudget,
) -> Result<(), SysError> {
    match (fs::stat_at(above, name), inode) {
        (Err(error), _) if error.errno() == Some(Errno::NOENT) => Ok(()),
        (Err(error), _) => Err(error),
        (Ok(_), None) => match fs::unlink_at(above, name, FileType::Directory) {
            Err(error) if matches!(error.errno(), Some(Errno::BUSY | Errno::NOENT)) => Ok(()),
            result => result,
        },
        (Ok(found), Some(inode)) if found.st_ino == inode => {
            let deadline = Instant::now() + budget.patience;
            loop {
                match remove_unused(above, name, budget) {
                    Err(SysError::InUse(_) | SysError::Call { errno: Errno::BUSY, .. })
                        if Instant::now() < deadline =>
                    {
                        std::thread::sleep(PAUSE);
                    }
                    result => return result,
                }
            }
        }
        (Ok(_), Some(_)) => Ok(()),
    }
}

/// Removes a cgroup and its descendants. If a process is in one of them, fails with [`SysError::InUse`] and removes
/// nothing. If the budget has a deadline, empty v1 cgroups are removed even then.
pub fn remove_unused(above: BorrowedFd<'_>, name: &OsStr, budget: &RemovalBudget) -> Result<(), SysError> {
    let in_use = || SysError::InUse(format!("a process is in {name:?}, or in a cgroup below it"));
    let check = |name: &OsStr| budget.check(|| format!("to remove {name:?}"));
    let is_unused = |cgroup: BorrowedFd<'_>| if processes(cgroup)?.is_empty() { Ok(()) } else { Err(in_use()) };
    let remove = |directory: BorrowedFd<'_>, name: &OsStr| match fs::unlink_at(directory, name, FileType::Directory) {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
        result => result,
    };
    match is_populated(above, name)? {
        Some(true) => return Err(in_use()),
        Some(false) => {}
        // With a deadline, the removal starts without a check of the whole tree: a later call doesn't have to visit
        // again what this one has removed in time.
        None if budget.deadline.is_some() => {}
        None => walk(above, name, |_, name| check(name).map(|()| WalkStep::In), is_unused, |_, _| Ok(()))?,
    }
    // Most cgroups have no children and can be removed at once.
    let remove_first = |directory: BorrowedFd<'_>, name: &OsStr| {
        check(name)?;
        match remove(directory, name) {
            Err(error) if error.errno() == Some(Errno::BUSY) => Ok(WalkStep::In),
            result => result.map(|()| WalkStep::Past),
        }
    };
    walk(above, name, remove_first, |_| Ok(()), remove)
}

/// Whether any process is in a v2 cgroup or its descendants. Returns `None` for a v1 cgroup, for which
/// the kernel doesn't report this.
fn is_populated(above: BorrowedFd<'_>, name: &OsStr) -> Result<Option<bool>, SysError> {
    match read(above, Path::new(name).join("cgroup.events")) {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
        result => {
            let text = result?;
            Ok(text.lines().find_map(|line| line.strip_prefix("populated ")).map(|value| value != "0"))
        }
    }
}

/// Where a walk continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WalkStep {
    /// In the children of the cgroup.
    In,
    /// At the next cgroup.
    Past,
}

/// Walks a cgroup and its descendants. For each cgroup, `meet` gets its parent directory and name and returns whether
/// to descend into it, `enter` is called before its children, and `leave` gets its parent directory and name after
/// its children. Descendants may appear and disappear meanwhile. The walk uses descriptors, since a path could be too
/// long, and no recursion, since a container can nest cgroups as deeply as it likes.
fn walk(
    above: BorrowedFd<'_>,
    name: &OsStr,
    meet: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<WalkStep, SysError>,
    enter: impl Fn(BorrowedFd<'_>) -> Result<(), SysError>,
    leave: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<(), SysError>,
) -> Result<(), SysError> {
    // The cgroups from the top to the current one, each with those of its children that are still to be visited.
    let mut way: Vec<(OwnedFd, OsString, Names)> = Vec::new();
    let mut next = Some(name.to_owned());
    loop {
        let directory = way.last().map_or(above, |(directory, ..)| directory.as_fd());
        if let Some(name) = next {
            if meet(directory, &name)? == WalkStep::In {
                match open_in(directory, &name, OFlags::RDONLY | OFlags::DIRECTORY) {
                    Ok(cgroup) => {
                        if way.len() == DEPTH_MAX {
                            let found = format!("{name:?} is nested more than {DEPTH_MAX} cgroups deep");
                            return Err(SysError::TooMuch(found));
                        }
                        match enter(cgroup.as_fd()) {
                            Err(error) if is_removed(&error) && !way.is_empty() => {}
                            result => {
                                result?;
                                way.push((cgroup, name, Names::of_directories()));
                            }
                        }
                    }
                    Err(error) if error.errno() == Some(Errno::NOENT) => {}
                    Err(error) => return Err(error),
                }
            }
        } else if let Some((_, name, _)) = way.pop() {
            leave(way.last().map_or(above, |(directory, ..)| directory.as_fd()), &name)?;
        }
        let depth = way.len();
        let Some((directory, _, names)) = way.last_mut() else { return Ok(()) };
        next = match next_child(directory.as_fd(), names) {
            Err(error) if is_removed(&error) && depth > 1 => None,
            result => result?,
        };
    }
}

/// Whether a failure means that the cgroup has been removed since it was opened.
fn is_removed(error: &SysError) -> bool {
    matches!(error.errno(), Some(Errno::NOENT | Errno::NODEV))
}

fn next_child(cgroup: BorrowedFd<'_>, names: &mut Names) -> Result<Option<OsString>, SysError> {
    while let Some(name) = names.next(cgroup)? {
        if fs::stat_at(cgroup, &name).is_ok_and(|stat| fs::kind(&stat) == FileType::Directory) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Makes the kernel destroy the v1 `name=systemd` hierarchy. The kernel does so only if the hierarchy has no
/// cgroups when its last mount disappears, and a removed cgroup still counts for a moment. So the hierarchy is
/// mounted again until it is gone, until it has cgroups of others, or until [`PATIENCE`] has passed because
/// others still have it mounted.
fn release_systemd_hierarchy() {
    let is_systemds = |entry: &mountinfo::Entry<'_>| entry.is_type("cgroup") && entry.has_super_option("name=systemd");
    if mount_table::read(mount_table::OWN, is_systemds).is_ok_and(|mounts| !mounts.is_empty()) {
        // The host itself uses the hierarchy.
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    let is_there = || {
        let text = fs::read_host_text("/proc/self/cgroup").unwrap_or_default();
        CgroupFile::<OwnNamespace>::new(text).path(Hierarchy::Systemd).is_some()
    };
    while is_there() && Instant::now() < deadline {
        let top = open(Hierarchy::Systemd);
        let top = top.and_then(|top| fs::open_at(top.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY));
        match top.and_then(|top| next_child(top.as_fd(), &mut Names::of_directories())) {
            Ok(None) => std::thread::sleep(PAUSE),
            Ok(Some(_)) | Err(_) => return,
        }
    }
}

pub(super) fn read(cgroup: BorrowedFd<'_>, name: impl AsRef<OsStr>) -> Result<String, SysError> {
    let name = name.as_ref();
    let text = fs::read_up_to(open_in(cgroup, name, OFlags::RDONLY)?, LIMIT_BYTES)?;
    let text = text.ok_or_else(|| SysError::TooMuch(format!("{name:?} is larger than {LIMIT_BYTES} bytes")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn write(cgroup: BorrowedFd<'_>, name: &str, text: &str) -> Result<(), SysError> {
    let mut file = File::from(open_in(cgroup, name, OFlags::WRONLY)?);
    file.write_all(text.as_bytes()).call(|| format!("write({name:?}, {text:?})"))
}
