// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds out whether a running container still uses what is to be removed. Since Linux 3.13 a directory can be removed
//! even if it is a mount point in other mount namespaces, which then lose the mount; rmdir(2) fails with `EBUSY` only
//! for mount points of the calling process's own namespace.

use std::collections::{HashMap, HashSet};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::kernel::mountinfo::{self, Entry};
use crate::path::InnerPath;
use crate::root::Root;
use crate::sys::cgroup::RemovalBudget;
use crate::sys::{SysError, fs, mount_table, others, process};

/// A place in a file system, independent of the mount that shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Location {
    /// The file system's `major:minor`, as in mount tables.
    device: String,
    path: PathBuf,
}

impl Location {
    /// Returns the location of an open directory.
    fn of(directory: BorrowedFd<'_>) -> Result<Self, SysError> {
        let unknown =
            || SysError::Finding(format!("{} does not list the mount that this root is on", mount_table::OWN));
        let id = mountinfo::mount_of(&fs::fd_info(directory)?).ok_or_else(unknown)?;
        let path = fs::path_of(directory)?;
        let table = mount_table::read(mount_table::OWN, |entry| entry.id() == Some(id))?;
        let entry = mountinfo::entries(&table).next().ok_or_else(unknown)?;
        let below = path.strip_prefix(entry.mount_point()).map_err(|_| unknown())?;
        Ok(Self { device: entry.device(), path: entry.root().join(below) })
    }

    /// Returns the location of a path below this one, which must be on the same mount and without symbolic links. It
    /// is not looked up, because an image can have longer paths than the kernel can print.
    fn join(&self, at: &InnerPath) -> Self {
        let below = at.below(&InnerPath::root()).unwrap_or(Path::new(""));
        Self { device: self.device.clone(), path: self.path.join(below) }
    }
}

/// The time limit of the search, and the size limit of a mount table. A process that may mount in its own namespace
/// can make its mount table arbitrarily long.
const PATIENCE: Duration = Duration::from_secs(10);
const TABLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The size limit of what is kept of a mount table while it is read.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Finds a process whose container uses these paths in a root: it has mounts on one of them, or `root` is mounted as
/// its root, so that it may mount there later. A process whose mount table is too long to be read completely counts
/// as one. Returns `None` if there is no such process.
pub(super) fn user(root: &Root, paths: &[InnerPath], budget: &RemovalBudget) -> Result<Option<u32>, SysError> {
    let budget = budget.within(PATIENCE);
    let root = Location::of(root.directory())?;
    let places = paths.iter().map(|at| root.join(at)).collect();
    let wanted = RemovalTarget { root, places };
    let own_roots = wanted.own_roots()?;
    let mut seen = HashSet::new();
    seen.extend(others::namespace("self", "mnt"));
    // The mount namespaces of which only a part has been seen, and the process that sees that part.
    let mut seen_in_part = HashMap::new();
    for pid in others::pids()? {
        let task = others::living_task(pid);
        let namespace = others::namespace(&task, "mnt");
        if namespace.is_some_and(|namespace| seen.contains(&namespace)) {
            continue;
        }
        match wanted.is_used(&format!("/proc/{task}/mountinfo"), &own_roots, &budget) {
            Ok(true) => return Ok(Some(pid)),
            // After chroot(2), a process's mountinfo lists only the mounts below its new root.
            Ok(false) if others::has_changed_root(&task) => {
                seen_in_part.extend(namespace.map(|namespace| (namespace, (pid, task))));
            }
            Ok(false) => seen.extend(namespace),
            Err(error) if others::is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    for (namespace, (pid, task)) in seen_in_part {
        if !seen.contains(&namespace) && wanted.is_used_inside(&task, &own_roots, &budget)? {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

struct RemovalTarget {
    root: Location,
    places: Vec<Location>,
}

impl RemovalTarget {
    /// Whether a mount namespace uses one of the places, according to one of its mount tables.
    fn is_used(&self, table: &str, own_roots: &Roots, budget: &RemovalBudget) -> Result<bool, SysError> {
        let mut roots = own_roots.clone();
        let mut below: HashMap<u64, (String, PathBuf, PathBuf)> = HashMap::new();
        let mut kept_bytes = 0;
        let first = proves_use(table, budget, |entry| {
            // The first thing that a runtime mounts in a container's namespace is the root itself. Other namespaces
            // only have copies of the host's mounts.
            if self.is_root(entry) && !roots.take(&entry.mount_point()) {
                return true;
            }
            if let Some(id) = entry.id().filter(|_| self.shows_one(entry)) {
                let (device, root, at) = (entry.device(), entry.root(), entry.mount_point());
                kept_bytes += device.len() + root.as_os_str().len() + at.as_os_str().len();
                below.insert(id, (device, root, at));
            }
            kept_bytes > KEPT_BYTES_MAX
        })?;
        if first || below.is_empty() {
            return Ok(first);
        }
        proves_use(table, budget, |entry| {
            entry.parent().and_then(|parent| below.get(&parent)).is_some_and(|(device, root, at)| {
                let mount_point = entry.mount_point();
                let path = mount_point.strip_prefix(at).map(|below| root.join(below));
                path.is_ok_and(|path| self.places.iter().any(|place| place.device == *device && place.path == path))
            })
        })
    }

    /// Does the same in a child process that enters the mount namespace. Returns `false` if the child isn't permitted
    /// to enter it; the view from outside must then suffice.
    fn is_used_inside(&self, task: &str, own_roots: &Roots, budget: &RemovalBudget) -> Result<bool, SysError> {
        const YES: &[u8] = b"used";
        let answer = process::in_child(None, || {
            match process::with_mount_table_of(task, |table| self.is_used(table, own_roots, budget)) {
                Ok(true) => YES.to_owned(),
                _ => Vec::new(),
            }
        })?;
        budget.check(|| format!("to read /proc/{task}/mountinfo in its namespace"))?;
        Ok(answer.as_deref() == Some(YES))
    }

    fn is_root(&self, entry: &Entry<'_>) -> bool {
        entry.device() == self.root.device && entry.root() == self.root.path
    }

    fn shows_one(&self, entry: &Entry<'_>) -> bool {
        let (device, root) = (entry.device(), entry.root());
        self.places.iter().any(|place| place.device == device && place.path.starts_with(&root))
    }

    /// Counts the mounts of the root in this process's mount namespace.
    fn own_roots(&self) -> Result<Roots, SysError> {
        let table = mount_table::read(mount_table::OWN, |entry| self.is_root(entry))?;
        let mut roots = Roots::default();
        for entry in mountinfo::entries(&table) {
            *roots.0.entry(entry.mount_point()).or_default() += 1;
        }
        Ok(roots)
    }
}

/// The number of mounts of a root at each mount point.
#[derive(Clone, Default)]
struct Roots(HashMap<PathBuf, usize>);

impl Roots {
    /// Removes one mount at this mount point from the count. Returns whether there was one.
    fn take(&mut self, at: &Path) -> bool {
        match self.0.get_mut(at) {
            Some(count @ 1..) => {
                *count -= 1;
                true
            }
            Some(_) | None => false,
        }
    }
}

/// Passes each entry of a mount table to `proves`. Returns whether an entry proves a use, or the table is too long.
fn proves_use(
    table: &str,
    budget: &RemovalBudget,
    mut proves: impl FnMut(&Entry<'_>) -> bool,
) -> Result<bool, SysError> {
    let mut read_bytes = 0;
    let mut in_time = Ok(());
    let is_used = mount_table::each(table, |line| {
        in_time = budget.check(|| format!("to read {table}"));
        let Some(line) = line else { return true };
        read_bytes += line.len();
        in_time.is_err() || read_bytes > TABLE_BYTES_MAX || mountinfo::entry(line).is_some_and(|entry| proves(&entry))
    })?;
    in_time.map(|()| is_used)
}
