// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mounts that the container sees, as a tree whose lookups give the same results as the kernel's path walk.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::interface;
use crate::kernel::cgroup::Hierarchy;
use crate::kernel::mountinfo::{self, Entry};
use crate::path::{CgroupPath, InnerPath};

/// One mount in the container.
#[derive(Debug, Clone)]
pub struct Mount {
    id: u64,
    parent: u64,
    pub at: InnerPath,
    pub fs_type: String,
    /// The file system's device number as `major:minor`. `None` if the mount shows only a subdirectory
    /// of the file system.
    whole: Option<String>,
    /// Whether the runtime is proven to have created the file system for this container alone; see
    /// [`Mounts::prove_own`].
    own: bool,
    pub read_only: bool,
    /// Whether mounts on it propagate to other places.
    pub shared: bool,
    /// The cgroup hierarchy that the mount shows, and the cgroup at its top.
    pub cgroup: Option<(Hierarchy, CgroupRoot)>,
}

/// The cgroup at the top of a mount of a hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupRoot {
    /// The cgroup with this path from the root of this process's cgroup namespace.
    At(CgroupPath),
    /// A cgroup above or beside that root. The kernel shows such paths with a leading `/..`.
    Outside,
}

impl CgroupRoot {
    fn new(path: &Path) -> Self {
        if path.starts_with("/..") { Self::Outside } else { Self::At(CgroupPath::new(path)) }
    }
}

/// The container's mounts.
#[derive(Debug, Clone)]
pub struct Mounts {
    root: u64,
    all: Vec<Mount>,
    // Indexes into `all`, since a container can have thousands of mounts: by mount ID, and by the parent mount's ID
    // and the mount point.
    by_id: HashMap<u64, usize>,
    on: HashMap<u64, HashMap<InnerPath, usize>>,
}

/// The mount ID of the root if the mounts are predicted from config.json.
const FORETOLD_ROOT: u64 = 0;

impl Mount {
    /// Whether the mount is a writable tmpfs that was created for the container. Its content
    /// disappears with the container.
    #[must_use]
    pub fn is_own_tmpfs(&self) -> bool {
        self.fs_type == "tmpfs" && self.own && !self.read_only
    }

    /// Returns the mount ID in the table that the mount was read from.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.id
    }
}

impl Mounts {
    fn new(root: u64) -> Self {
        Self { root, all: Vec::new(), by_id: HashMap::new(), on: HashMap::new() }
    }

    fn push(&mut self, mount: Mount) {
        if mount.id != self.root {
            self.on.entry(mount.parent).or_default().insert(mount.at.clone(), self.all.len());
        }
        self.by_id.insert(mount.id, self.all.len());
        self.all.push(mount);
    }

    fn numbered(&self, id: u64) -> Option<&Mount> {
        self.by_id.get(&id).and_then(|index| self.all.get(*index))
    }

    /// Extracts the container's mounts from the table of a mount namespace. `root_path` is the path of the
    /// container's root in this namespace, and `root_mount` the ID of the mount that holds the root directory.
    #[must_use]
    pub fn read(table: &[u8], root_path: &Path, root_mount: u64) -> Self {
        let prefix = mountinfo::escape(root_path.as_os_str().as_encoded_bytes());
        let inside = mountinfo::entries(table)
            .filter(|entry| is_inside(entry, &prefix, root_mount))
            .filter_map(|entry| inside(&entry, root_path, root_mount));
        let found: Vec<Mount> = inside.collect();
        let parents: HashMap<u64, u64> = found.iter().map(|mount| (mount.id, mount.parent)).collect();
        // The container sees only mounts on top of its root's mount. Others below the root's path are
        // hidden by that mount.
        let mut mounts = Self::new(root_mount);
        for mount in found.into_iter().filter(|mount| is_on(&parents, mount.id, root_mount)) {
            mounts.push(mount);
        }
        mounts
    }

    /// Returns the device numbers of the tmpfs mounts that may be the container's own. [`Self::prove_own`] needs to
    /// know every tmpfs mount in the mount namespace that shows one of them.
    #[must_use]
    pub fn maybe_own(&self, asked: &HashSet<InnerPath>) -> Vec<String> {
        let maybe = self.all.iter().filter(|mount| mount.fs_type == "tmpfs" && asked.contains(&mount.at));
        maybe.filter_map(|mount| mount.whole.clone()).collect()
    }

    /// Marks the tmpfs mounts that the runtime created for this container alone. What is written to them
    /// disappears with the container.
    ///
    /// `asked` has the paths at which config.json asks for a new tmpfs, and `devices` the device number of each
    /// tmpfs mount in the mount namespace, including the host's. Both are needed as proof: a symbolic link in the
    /// image can redirect another mount of config.json to such a path, and a file system that is mounted only once
    /// may still belong to someone else.
    pub fn prove_own(&mut self, asked: &HashSet<InnerPath>, devices: &[String]) {
        let mut stacked: HashMap<InnerPath, u32> = HashMap::new();
        for mount in self.all.iter().filter(|mount| asked.contains(&mount.at)) {
            *stacked.entry(mount.at.clone()).or_default() += 1;
        }
        for mount in self.all.iter_mut().filter(|mount| mount.fs_type == "tmpfs") {
            let is_nowhere_else =
                mount.whole.as_ref().is_some_and(|own| devices.iter().filter(|device| *device == own).count() == 1);
            mount.own = is_nowhere_else && asked.contains(&mount.at) && stacked.get(&mount.at) == Some(&1);
        }
    }

    /// Predicts the mounts that a runtime will create from config.json's list, which is in order.
    #[must_use]
    pub fn predicted(list: impl IntoIterator<Item = PredictedMount>) -> Self {
        let mut mounts = Self::new(FORETOLD_ROOT);
        let root = PredictedMount::ordinary(InnerPath::root(), "rootfs", false);
        for (id, next) in (FORETOLD_ROOT..).zip(std::iter::once(root).chain(list)) {
            let parent = mounts.holding(&next.at).map_or(FORETOLD_ROOT, |mount| mount.id);
            let PredictedMount { at, fs_type, read_only, cgroup } = next;
            let own = fs_type == "tmpfs";
            mounts.push(Mount { id, parent, at, fs_type, whole: None, own, read_only, shared: false, cgroup });
        }
        mounts
    }

    /// Returns all mounts, including those that another mount covers.
    pub fn all(&self) -> impl Iterator<Item = &Mount> {
        self.all.iter()
    }

    /// Returns the mount that holds a path. Like the kernel, the walk starts at the root mount and enters each mount
    /// point that it reaches on the way.
    #[must_use]
    pub fn holding(&self, path: &InnerPath) -> Option<&Mount> {
        let mut ancestors: Vec<InnerPath> = std::iter::successors(Some(path.clone()), InnerPath::parent).collect();
        ancestors.reverse();
        let mut current = self.numbered(self.root)?;
        // Each iteration goes one mount deeper, so there are at most as many iterations as mounts.
        for _ in 0..self.all.len() {
            let Some(on_current) = self.on.get(&current.id) else { break };
            let met = ancestors.iter().filter(|at| at.is_at_or_below(&current.at)).find_map(|at| on_current.get(at));
            match met.and_then(|index| self.all.get(*index)) {
                Some(next) => current = next,
                None => break,
            }
        }
        Some(current)
    }

    /// Returns the mount at a path if the path is a mount point.
    #[must_use]
    pub fn at(&self, path: &InnerPath) -> Option<&Mount> {
        self.holding(path).filter(|mount| mount.at == *path)
    }

    /// Returns the parent of a mount.
    #[must_use]
    pub fn below(&self, mount: &Mount) -> Option<&Mount> {
        self.numbered(mount.parent)
    }

    /// Returns the reachable mounts below a path, except for those that are mounted on one of them.
    #[must_use]
    pub fn directly_below(&self, path: &InnerPath) -> Vec<&Mount> {
        let on_holder = self.holding(path).and_then(|holder| self.on.get(&holder.id));
        let below = on_holder.into_iter().flat_map(HashMap::keys).filter(|at| at.is_below(path));
        let mut found: Vec<&Mount> = below.filter_map(|at| self.at(at)).collect();
        found.sort_by(|a, b| a.at.cmp(&b.at));
        found
    }

    /// Returns the reachable mounts of a cgroup hierarchy.
    pub fn of_hierarchy(&self, hierarchy: Hierarchy) -> impl Iterator<Item = (&Mount, &CgroupRoot)> {
        self.all.iter().filter_map(move |mount| match &mount.cgroup {
            Some((kind, root)) if *kind == hierarchy && self.is_seen(mount) => Some((mount, root)),
            _ => None,
        })
    }

    fn is_seen(&self, mount: &Mount) -> bool {
        self.holding(&mount.at).is_some_and(|top| top.id == mount.id)
    }
}

/// Whether the mount `id` is `below`, or is mounted on it, directly or with other mounts in between.
fn is_on(parents: &HashMap<u64, u64>, id: u64, below: u64) -> bool {
    let way = std::iter::successors(Some(id), |id| parents.get(id).copied());
    // The number of mounts bounds the walk, since the table may describe a cycle.
    way.take(parents.len() + 1).any(|id| id == below)
}

/// Whether an entry of a mount table may be one of the container's mounts. `prefix` is the root's path, escaped as
/// the kernel does it.
#[must_use]
pub fn is_inside(entry: &Entry<'_>, prefix: &[u8], root_mount: u64) -> bool {
    entry.may_be_below(prefix) || entry.id() == Some(root_mount)
}

/// Whether an entry of a mount table is a v1 hierarchy of the host, mounted at one of the usual places of the
/// hierarchies that systemd uses.
#[must_use]
pub fn is_hosts_hierarchy(entry: &Entry<'_>) -> bool {
    entry.is_type("cgroup") && interface::HIERARCHIES.iter().any(|at| entry.is_at(at))
}

/// Returns the device number of each tmpfs mount in a table.
#[must_use]
pub fn tmpfs_devices(table: &[u8]) -> Vec<String> {
    mountinfo::entries(table).filter(|entry| entry.is_type("tmpfs")).map(|entry| entry.device()).collect()
}

fn inside(entry: &Entry<'_>, root_path: &Path, root_mount: u64) -> Option<Mount> {
    let mount_point = entry.mount_point();
    let (id, parent) = (entry.id()?, entry.parent()?);
    let at = match mount_point.strip_prefix(root_path) {
        _ if id == root_mount => InnerPath::root(),
        Ok(below) => InnerPath::new(below),
        Err(_) => return None,
    };
    let fs_type = entry.fs_type();
    let cgroup = hierarchy(&fs_type, |option| entry.has_super_option(option))
        .map(|hierarchy| (hierarchy, CgroupRoot::new(&entry.root())));
    Some(Mount {
        id,
        parent,
        at,
        fs_type,
        whole: (entry.root() == Path::new("/")).then(|| entry.device()),
        own: false,
        read_only: entry.is_read_only(),
        shared: entry.is_shared(),
        cgroup,
    })
}

/// A mount that the runtime has yet to create.
#[derive(Debug)]
pub struct PredictedMount {
    at: InnerPath,
    fs_type: String,
    read_only: bool,
    cgroup: Option<(Hierarchy, CgroupRoot)>,
}

impl PredictedMount {
    /// Describes a mount of an ordinary file system.
    #[must_use]
    pub fn ordinary(at: InnerPath, fs_type: &str, read_only: bool) -> Self {
        Self { at, fs_type: fs_type.to_owned(), read_only, cgroup: None }
    }

    /// Describes a mount of a cgroup hierarchy with the cgroup `from` at its top.
    #[must_use]
    pub fn cgroup(at: InnerPath, hierarchy: Hierarchy, from: CgroupRoot, read_only: bool) -> Self {
        let fs_type = match hierarchy {
            Hierarchy::Unified => "cgroup2",
            Hierarchy::Systemd | Hierarchy::Memory => "cgroup",
        };
        Self { cgroup: Some((hierarchy, from)), ..Self::ordinary(at, fs_type, read_only) }
    }
}

/// Returns the mount point, outside the container's root, of a whole cgroup hierarchy on the host.
#[must_use]
pub fn whole_hierarchy(table: &[u8], wanted: Hierarchy, root_path: &Path) -> Option<PathBuf> {
    let all: Vec<Entry<'_>> = mountinfo::entries(table).filter(is_hosts_hierarchy).collect();
    all.iter()
        .filter(|entry| hierarchy(&entry.fs_type(), |option| entry.has_super_option(option)) == Some(wanted))
        .filter(|entry| entry.root() == Path::new("/") && !all.iter().any(|other| covers(other, entry)))
        .map(Entry::mount_point)
        .find(|mount_point| !mount_point.starts_with(root_path))
}

/// Whether the mount `upper` hides `lower`, which is mounted on the same mount, or on which `upper` is mounted.
fn covers(upper: &Entry<'_>, lower: &Entry<'_>) -> bool {
    let is_on_same = upper.id() != lower.id() && upper.parent() == lower.parent();
    (is_on_same || upper.parent() == lower.id()) && lower.mount_point().starts_with(upper.mount_point())
}

#[must_use]
pub fn has_mounts_below(table: &[u8], path: &Path) -> bool {
    mountinfo::entries(table).map(|entry| entry.mount_point()).any(|at| at != path && at.starts_with(path))
}

fn hierarchy(fs_type: &str, has_super_option: impl Fn(&str) -> bool) -> Option<Hierarchy> {
    match fs_type {
        "cgroup2" => Some(Hierarchy::Unified),
        "cgroup" if has_super_option("name=systemd") => Some(Hierarchy::Systemd),
        "cgroup" if has_super_option("memory") => Some(Hierarchy::Memory),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TABLE: &[u8] = b"\
1 0 8:1 / / rw shared:1 - ext4 /dev/vda rw
10 1 8:1 /b/rootfs /b/rootfs rw shared:1 - ext4 /dev/vda rw
11 10 0:20 / /b/rootfs/proc rw - proc proc rw
12 10 0:30 / /b/rootfs/run/secrets ro - tmpfs tmpfs rw
13 12 0:31 / /b/rootfs/run/secrets/deep ro - tmpfs tmpfs rw
14 10 0:40 /ctr /b/rootfs/sys/fs/cgroup/systemd ro - cgroup cgroup rw,name=systemd
15 10 0:50 / /b/rootfs-other/run rw - tmpfs tmpfs rw
16 1 0:40 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
";

    fn mounts(more: &str) -> Mounts {
        let table = [TABLE, more.as_bytes()].concat();
        Mounts::read(&table, Path::new("/b/rootfs"), 10)
    }

    fn holder(mounts: &Mounts, path: &str) -> String {
        mounts.holding(&InnerPath::new(path)).unwrap().at.to_string()
    }

    #[test]
    fn sees_what_is_below_the_root_and_nothing_else() {
        let mounts = mounts("");
        assert_eq!(mounts.all.len(), 5);
        assert_eq!(holder(&mounts, "/run"), "/");
        assert_eq!(holder(&mounts, "/run/secrets/deep/x"), "/run/secrets/deep");
        assert_eq!(holder(&mounts, "/run/secretsx"), "/");
        assert!(mounts.holding(&InnerPath::new("/run")).unwrap().shared);
    }

    #[test]
    fn finds_what_to_keep() {
        let mounts = mounts("");
        let kept: Vec<_> = mounts.directly_below(&InnerPath::new("/run")).iter().map(|m| m.at.to_string()).collect();
        assert_eq!(kept, ["/run/secrets"], "a mount on it moves with it");
    }

    #[test]
    fn a_moved_mount_has_a_smaller_number_than_what_it_moved_to() {
        let table = String::from_utf8_lossy(TABLE).replace("12 10 ", "12 20 ")
            + "20 10 0:60 / /b/rootfs/run rw - tmpfs tmpfs rw\n";
        let mounts = Mounts::read(table.as_bytes(), Path::new("/b/rootfs"), 10);
        assert_eq!(holder(&mounts, "/run/x"), "/run");
        assert_eq!(holder(&mounts, "/run/secrets/x"), "/run/secrets");
    }

    #[test]
    fn a_covered_mount_is_not_seen() {
        let mounts =
            mounts("20 10 0:60 / /b/rootfs/run rw - tmpfs tmpfs rw\n21 20 0:61 / /b/rootfs/run rw - ext4 x rw\n");
        assert_eq!(mounts.at(&InnerPath::new("/run")).unwrap().fs_type, "ext4", "stacked");
        assert!(mounts.directly_below(&InnerPath::new("/run")).is_empty());
        let covered = self::mounts("22 10 0:62 / /b/rootfs/sys rw - tmpfs tmpfs rw\n");
        assert_eq!(covered.of_hierarchy(Hierarchy::Systemd).count(), 0);
    }

    #[test]
    fn knows_cgroup_mounts_in_the_container_and_on_the_host() {
        let mounts = mounts("");
        let seen: Vec<_> = mounts.of_hierarchy(Hierarchy::Systemd).collect();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen.first().unwrap().0.at, InnerPath::new("/sys/fs/cgroup/systemd"));
        assert_eq!(*seen.first().unwrap().1, CgroupRoot::At(CgroupPath::new("/ctr")));
        assert_eq!(CgroupRoot::new(Path::new("/../..")), CgroupRoot::Outside);
        assert_eq!(
            whole_hierarchy(TABLE, Hierarchy::Systemd, Path::new("/b/rootfs")),
            Some(PathBuf::from("/sys/fs/cgroup/systemd"))
        );
        assert_eq!(whole_hierarchy(TABLE, Hierarchy::Unified, Path::new("/b/rootfs")), None);
    }

    #[test]
    fn a_covered_hierarchy_of_the_host_is_not_seen() {
        let at = |more: &str| {
            let hybrid = "30 1 0:70 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                          31 30 0:71 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
            let table = [hybrid.as_bytes(), more.as_bytes()].concat();
            whole_hierarchy(&table, Hierarchy::Unified, Path::new("/b/rootfs"))
        };
        assert_eq!(at(""), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(
            at("32 30 0:71 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            Some(PathBuf::from("/sys/fs/cgroup")),
            "mounted on the tmpfs"
        );
        assert_eq!(at("32 31 0:71 /a /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"), None, "mounted on it");
    }

    #[test]
    fn a_tmpfs_is_the_containers_own_only_by_all_proofs() {
        let is_own = |asked: &[&str], more: &str| {
            let table = [TABLE, b"20 10 0:60 / /b/rootfs/run rw - tmpfs tmpfs rw\n", more.as_bytes()].concat();
            let mut mounts = Mounts::read(&table, Path::new("/b/rootfs"), 10);
            mounts.prove_own(&asked.iter().map(InnerPath::new).collect(), &tmpfs_devices(&table));
            mounts.at(&InnerPath::new("/run")).unwrap().is_own_tmpfs()
        };
        assert!(is_own(&["/run"], ""));
        assert!(!is_own(&["/tmp"], ""), "config.json asks for none there");
        assert!(!is_own(&["/run"], "21 1 0:60 / /srv rw - tmpfs tmpfs rw\n"), "it is also mounted on the host");
        assert!(!is_own(&["/run"], "21 1 0:60 /a /srv rw - tmpfs tmpfs rw\n"), "a part of it is mounted on the host");
        assert!(!is_own(&["/run"], "21 20 0:61 / /b/rootfs/run rw - tmpfs tmpfs rw\n"), "one of two is a volume's");
        assert!(!is_own(&["/run"], "21 20 0:61 /a /b/rootfs/run rw - tmpfs tmpfs rw\n"), "a part of one");
    }

    #[test]
    fn a_root_that_is_no_mount_point_lies_on_the_hosts_mount() {
        let mounts = Mounts::read(b"1 0 8:1 / / rw shared:1 - ext4 /dev/vda rw\n", Path::new("/b/rootfs"), 1);
        assert_eq!(holder(&mounts, "/run"), "/");
    }

    #[test]
    fn predicts_from_config() {
        let at = |path| PredictedMount::ordinary(InnerPath::new(path), "tmpfs", false);
        let mounts = Mounts::predicted([at("/proc"), at("/run"), at("/run/secrets"), at("/run")]);
        assert_eq!(holder(&mounts, "/run/secrets"), "/run", "the later mount covers the earlier");
        assert_eq!(holder(&mounts, "/proc/1"), "/proc");
    }
}
