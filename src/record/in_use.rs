// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds out whether a running container still uses what is to be removed. Since Linux 3.13 a directory can be removed
//! even if it is a mount point in other mount namespaces, which then lose the mount; rmdir(2) fails with `EBUSY` only
//! for mount points of the calling process's own namespace.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::kernel::mountinfo::{self, Entry};
use crate::path::InnerPath;
use crate::root::Root;
use crate::sys::cgroup::Budget;
use crate::sys::{SysError, fs, mount_table, others};

/// A place in a file system, independent of the mount that shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Location {
    /// The file system's `major:minor`, as in mount tables.
    device: String,
    path: PathBuf,
}

impl Location {
    /// The location of an open directory.
    fn of(directory: BorrowedFd<'_>) -> Result<Self, SysError> {
        let unknown =
            || SysError::new(format!("read({:?}) without the mount of a directory", mount_table::OWN), Errno::NODATA);
        let id = mountinfo::mount_of(&fs::fd_info(directory)?).ok_or_else(unknown)?;
        let path = fs::path_of(directory)?;
        let table = mount_table::read(mount_table::OWN, |entry| entry.id() == Some(id))?;
        let entry = mountinfo::entries(&table).next().ok_or_else(unknown)?;
        let below = path.strip_prefix(entry.mount_point()).map_err(|_| unknown())?;
        Ok(Self { device: entry.device(), path: entry.root().join(below) })
    }

    /// The location of a path below this one, on the same mount and without links. An image can have longer paths than the
    /// kernel can print.
    fn join(&self, at: &InnerPath) -> Self {
        let below = at.below(&InnerPath::root()).unwrap_or(Path::new(""));
        Self { device: self.device.clone(), path: self.path.join(below) }
    }
}

/// Finds a process whose container needs these paths in a root: it has mounts on one of them, or `root` is mounted as its
/// root, so that it may mount there later. Returns `None` if there is no such process.
pub(super) fn user(root: &Root, paths: &[InnerPath], budget: &Budget) -> Result<Option<u32>, SysError> {
    let root = Location::of(root.directory())?;
    let places = paths.iter().map(|at| root.join(at)).collect();
    let wanted = Wanted { root, places };
    let roots = wanted.roots(mount_table::OWN)?;
    let mut seen = HashSet::new();
    seen.extend(others::namespace("self", "mnt"));
    for pid in others::pids()? {
        let namespace = others::namespace(&pid.to_string(), "mnt");
        if namespace.is_some_and(|namespace| seen.contains(&namespace)) {
            continue;
        }
        let table = others::mount_table(pid);
        // Whoever may make mounts can make a table long.
        budget.check(|| format!("read({table:?})"))?;
        match wanted.is_used(&table, &roots) {
            Ok(true) => return Ok(Some(pid)),
            Ok(false) => seen.extend(namespace),
            Err(error) if others::is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

struct Wanted {
    root: Location,
    places: Vec<Location>,
}

impl Wanted {
    fn is_used(&self, table: &Path, own_roots: &HashMap<PathBuf, usize>) -> Result<bool, SysError> {
        let table = table.to_string_lossy();
        // The first thing that a runtime mounts in a container's namespace is the root itself. Other namespaces only
        // have copies of the host's mounts.
        let roots = self.roots(&table)?;
        if roots.iter().any(|(at, count)| *count > own_roots.get(at).copied().unwrap_or_default()) {
            return Ok(true);
        }
        let shows_one = |entry: &Entry<'_>| {
            let (device, root) = (entry.device(), entry.root());
            self.places.iter().any(|place| place.device == device && place.path.starts_with(&root))
        };
        let below: RefCell<HashMap<u64, (String, PathBuf, PathBuf)>> = RefCell::default();
        mount_table::read(&table, |entry| {
            if let Some(id) = entry.id().filter(|_| shows_one(entry)) {
                below.borrow_mut().insert(id, (entry.device(), entry.root(), entry.mount_point()));
            }
            false
        })?;
        let (below, is_used) = (below.into_inner(), Cell::new(false));
        if below.is_empty() {
            return Ok(false);
        }
        mount_table::read(&table, |entry| {
            if let Some((device, root, at)) = entry.parent().and_then(|parent| below.get(&parent)) {
                let mount_point = entry.mount_point();
                let path = mount_point.strip_prefix(at).map(|below| root.join(below));
                let is_one = |path| self.places.iter().any(|place| place.device == *device && place.path == path);
                is_used.set(is_used.get() || path.is_ok_and(is_one));
            }
            false
        })?;
        Ok(is_used.get())
    }

    /// The number of mounts of the root at each mount point.
    fn roots(&self, table: &str) -> Result<HashMap<PathBuf, usize>, SysError> {
        let roots: RefCell<HashMap<PathBuf, usize>> = RefCell::default();
        mount_table::read(table, |entry| {
            if entry.device() == self.root.device && entry.root() == self.root.path {
                *roots.borrow_mut().entry(entry.mount_point()).or_default() += 1;
            }
            false
        })?;
        Ok(roots.into_inner())
    }
}
