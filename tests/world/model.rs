// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A container and its host that can be modified: files, mounts and cgroups. A plan can be carried out on the model,
//! and all of it can be printed as text.
//!
//! The model is only as detailed as plans can observe: it has no privileges, no labels and no limits.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use oci_systemd_hook::interface::PATHS;
use oci_systemd_hook::kernel::cgroup::Hierarchy;
use oci_systemd_hook::kernel::mountinfo;
use oci_systemd_hook::path::InnerPath;
use oci_systemd_hook::plan::{Action, Node, Plan};

use super::world::{ROOT, ROOT_MOUNT, World};

/// The minor device number of the tmpfs that the host has mounted on /run.
pub const HOSTS_TMPFS: u64 = 2;

/// The type of a file. Symlinks are not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    Directory,
    Regular,
    /// Another type of file, such as a device.
    Else,
    Link(InnerPath),
}

/// A line of mountinfo.
#[derive(Debug, Clone)]
pub struct Mount {
    id: u64,
    parent: u64,
    at: InnerPath,
    pub file_system: FileSystem,
    /// The directory of the file system that is mounted.
    pub root: String,
    pub read_only: bool,
    pub shared: bool,
}

/// A file system that can be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    pub kind: &'static str,
    /// The minor number of its device.
    pub device: u64,
    pub options: &'static str,
}

/// The container's cgroup in a hierarchy, as the hook reads it and as the container does.
#[derive(Debug, Clone)]
pub struct Member {
    pub hierarchy: Hierarchy,
    pub path: String,
    pub inside: String,
}

/// A container and its host.
#[derive(Clone)]
pub struct Model {
    files: BTreeMap<InnerPath, File>,
    mounts: Vec<Mount>,
    /// The host's other mounts, as lines of mountinfo.
    pub host_mounts: String,
    pub members: Vec<Member>,
    /// The files of the case about anything else.
    pub texts: World,
}

impl Model {
    /// Creates an image with /dev/null on a separate root mount.
    pub fn new() -> Self {
        let file_system = FileSystem { kind: "overlay", device: 40, options: "rw" };
        let root = Mount {
            id: ROOT_MOUNT,
            parent: 1,
            at: InnerPath::root(),
            file_system,
            root: "/".to_owned(),
            read_only: false,
            shared: false,
        };
        let mut model = Self {
            files: BTreeMap::from([(InnerPath::root(), File::Directory)]),
            mounts: vec![root],
            host_mounts: format!("2 1 0:{HOSTS_TMPFS} / /run rw shared:1 - tmpfs tmpfs rw\n"),
            members: Vec::new(),
            texts: World::default(),
        };
        model.make(&InnerPath::new("/dev/null"), File::Else);
        model
    }

    /// Creates a file and the directories above it, unless another file is in the way.
    pub fn make(&mut self, at: &InnerPath, file: File) {
        if let Some(parent) = at.parent() {
            self.make(&parent, File::Directory);
            if self.files.get(&parent) == Some(&File::Directory) {
                self.files.entry(at.clone()).or_insert(file);
            }
        }
    }

    fn replace(&mut self, at: &InnerPath, file: File) {
        self.files.remove(at);
        self.make(at, file);
    }

    /// Mounts as a runtime does: symlinks are followed, and the mount point is created. The mount hides
    /// the files below it.
    pub fn mount(&mut self, path: &InnerPath, file_system: FileSystem, root: &str, read_only: bool, shared: bool) {
        let (kind, at) = self.find(path);
        match kind {
            "none" => self.make(&at, File::Directory),
            "dir" | "empty" | "file" => {}
            _ => return,
        }
        self.files.retain(|file, _| !file.is_below(&at));
        self.mount_on(&at, file_system, root.to_owned(), read_only, shared);
    }

    fn mount_on(
        &mut self,
        at: &InnerPath,
        file_system: FileSystem,
        root: String,
        read_only: bool,
        shared: bool,
    ) -> u64 {
        let parent = self.mounts[self.holding(at)].id;
        let id = ROOT_MOUNT + self.mounts.len() as u64;
        self.mounts.push(Mount { id, parent, at: at.clone(), file_system, root, read_only, shared });
        id
    }

    /// Returns the index of the mount that a path lies on. The walk down the path continues in the first
    /// mount that it reaches.
    fn holding(&self, path: &InnerPath) -> usize {
        let mut ancestors: Vec<_> = std::iter::successors(Some(path.clone()), InnerPath::parent).collect();
        ancestors.reverse();
        let mut current = 0;
        loop {
            let Mount { id, at: from, .. } = &self.mounts[current];
            let met = ancestors.iter().filter(|at| at.is_at_or_below(from)).find_map(|at| {
                self.mounts.iter().position(|mount| mount.parent == *id && mount.at == *at && mount.id != *id)
            });
            match met {
                Some(next) => current = next,
                None => return current,
            }
        }
    }

    /// Returns what is at a path, as a keyword of the case's file `image`, and the path that symlinks lead to.
    fn find(&self, path: &InnerPath) -> (&'static str, InnerPath) {
        const LINKS_MAX: usize = 40;
        let mut rest = path.clone();
        for _ in 0..=LINKS_MAX {
            let above: Vec<_> = std::iter::successors(Some(rest.clone()), InnerPath::parent).collect();
            let met = above.iter().rev().find_map(|at| match self.files.get(at) {
                Some(File::Directory) => None,
                other => Some((at, other)),
            });
            match met {
                None => {
                    let is_empty = !self.files.keys().any(|file| file.is_below(&rest));
                    return (if is_empty { "empty" } else { "dir" }, rest);
                }
                Some((_, None)) => return ("none", rest),
                Some((at, Some(File::Link(target)))) => rest = target.join(rest.below(at).unwrap()),
                Some((at, Some(file))) if *at == rest => {
                    return (if *file == File::Regular { "file" } else { "fifo" }, rest);
                }
                Some(_) => break,
            }
        }
        ("loop", path.clone())
    }

    pub fn apply(&mut self, plan: &Plan) {
        for step in &plan.steps {
            self.step(&step.action);
        }
    }

    fn step(&mut self, action: &Action) {
        let tmpfs = FileSystem { kind: "tmpfs", device: 1000 + self.mounts.len() as u64, options: "rw" };
        match action {
            Action::MakeSlave { at } => self.top(at).shared = false,
            Action::MakeShared { at } => self.top(at).shared = true,
            Action::MakeReadOnly { at } => self.top(at).read_only = true,
            // The image's files below the mount point are copied to the tmpfs, so they remain in the model.
            Action::Tmpfs { at, keep, .. } => {
                let kept: Vec<_> = keep.iter().map(|kept| self.holding(kept)).collect();
                let id = self.mount_on(at, tmpfs, "/".to_owned(), false, false);
                for mount in kept {
                    self.mounts[mount].parent = id;
                }
            }
            Action::MountFile { at, .. } => {
                self.mount_on(at, tmpfs, "/machine-id".to_owned(), true, false);
            }
            Action::Directory { at, .. } | Action::MountPoint { at, node: Node::Dir } => self.make(at, File::Directory),
            Action::MountPoint { at, .. } => self.make(at, File::Regular),
            Action::WriteFile { at, .. } => self.replace(at, File::Regular),
            Action::Symlink { at, target } => self.replace(at, File::Link(InnerPath::new(target))),
            Action::Inaccessible { at, .. } => self.make(&at.join("reg"), File::Regular),
            Action::MakeWritable { at } => {
                let Mount { at: from, file_system, root, .. } = self.mounts[self.holding(at)].clone();
                let root = InnerPath::new(root).join(at.below(&from).unwrap());
                self.mount_on(at, file_system, root.to_string(), false, false);
            }
            Action::ShowCgroup { cgroup, at } => {
                let file_system = file_system_of(cgroup.hierarchy);
                self.mount_on(at, file_system, cgroup.path.to_string(), true, false);
            }
            Action::BindHost { at, .. } => {
                let file_system = self.top(at).file_system.clone();
                self.mount_on(at, file_system, "/".to_owned(), true, false);
            }
            Action::EnterCgroup { cgroup, from, .. } => {
                let below = cgroup.path.below(&from.path).unwrap();
                let root = Member { hierarchy: cgroup.hierarchy, path: String::new(), inside: "/".to_owned() };
                if !self.members.iter().any(|member| member.hierarchy == cgroup.hierarchy) {
                    self.members.push(root);
                }
                for member in self.members.iter_mut().filter(|member| member.hierarchy == cgroup.hierarchy) {
                    member.path = cgroup.path.to_string();
                    member.inside = InnerPath::new(&member.inside).join(below).to_string();
                }
            }
            // The files of a world don't mention these.
            Action::MakeCgroup { .. }
            | Action::EnableControllers { .. }
            | Action::LimitCgroups { .. }
            | Action::Delegate { .. } => {}
        }
    }

    fn top(&mut self, at: &InnerPath) -> &mut Mount {
        let top = self.holding(at);
        &mut self.mounts[top]
    }

    /// Returns the model as the files of a case.
    pub fn world(&self) -> World {
        let mut world = self.texts.clone();
        world.set("mountinfo", self.mountinfo());
        let lines = |path: fn(&Member) -> &str| -> String {
            self.members.iter().map(|member| cgroup_line(member.hierarchy, path(member))).collect()
        };
        world.set("cgroup", lines(|member| &member.path));
        world.set("cgroup-inside", lines(|member| &member.inside));
        let image = PATHS.into_iter().map(|path| {
            let (kind, at) = self.find(&InnerPath::new(path));
            format!("{kind} {path} -> {at}\n")
        });
        world.set("image", image.collect::<String>());
        world
    }

    fn mountinfo(&self) -> String {
        let mut text = format!("1 0 8:1 / / rw - ext4 /dev/vda rw\n{}", self.host_mounts);
        for Mount { id, parent, at, file_system, root, read_only, shared } in &self.mounts {
            let FileSystem { kind, device, options } = file_system;
            let below = at.as_path().to_str().unwrap().trim_end_matches('/');
            let at = String::from_utf8(mountinfo::escape(format!("{ROOT}{below}").as_bytes())).unwrap();
            let (access, peers) = (if *read_only { "ro" } else { "rw" }, if *shared { " shared:7" } else { "" });
            let line = format!("{id} {parent} 0:{device} {root} {at} {access}{peers} - {kind} {kind} {options}");
            writeln!(text, "{line}").unwrap();
        }
        text
    }
}

/// Prints the model as a case, so that it can be added to the cases.
impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.world())
    }
}

/// Returns a line of /proc/\<pid\>/cgroup.
pub fn cgroup_line(hierarchy: Hierarchy, path: &str) -> String {
    match hierarchy {
        Hierarchy::Unified => format!("0::{path}\n"),
        Hierarchy::Systemd => format!("9:name=systemd:{path}\n"),
        Hierarchy::Memory => format!("4:memory:{path}\n"),
    }
}

/// Returns the file system of a hierarchy. The kernel has each hierarchy only once.
pub fn file_system_of(hierarchy: Hierarchy) -> FileSystem {
    match hierarchy {
        Hierarchy::Unified => FileSystem { kind: "cgroup2", device: 30, options: "rw" },
        Hierarchy::Systemd => FileSystem { kind: "cgroup", device: 35, options: "rw,name=systemd" },
        Hierarchy::Memory => FileSystem { kind: "cgroup", device: 36, options: "rw,memory" },
    }
}
