// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a step of a plan can do.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::facts::Owner;
use crate::kernel::cgroup::Hierarchy;
use crate::path::{CgroupPath, InnerPath};

/// The initial content of a new tmpfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    None,
    /// A copy of what the image has at the path of the tmpfs.
    Copied {
        /// The most that is copied onto this tmpfs, in bytes.
        most_bytes: u64,
        /// What happens if the image has more than that, or more than may be copied for the container in total.
        excess: Excess,
        /// The annotation that can raise this limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        option: Option<&'static str>,
    },
}

/// What happens to content that exceeds the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Excess {
    /// The step fails.
    Refused,
    /// Each file that doesn't fit is left out, with a warning.
    LeftOut,
}

/// The type of an inode that is created empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Node {
    Reg,
    Dir,
    Fifo,
    /// A socket that no process listens on.
    Sock,
    /// The character device 0:0.
    Chr,
    /// The block device 0:0.
    Blk,
}

impl Node {
    /// Returns the name of this node in /run/host/inaccessible.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reg => "reg",
            Self::Dir => "dir",
            Self::Fifo => "fifo",
            Self::Sock => "sock",
            Self::Chr => "chr",
            Self::Blk => "blk",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cgroup {
    pub hierarchy: Hierarchy,
    /// The path from the root of the hook's own cgroup namespace.
    pub path: CgroupPath,
    /// The inode number of a cgroup that existed when facts were gathered. It must still be the same when the step is
    /// carried out. `None` for a cgroup that a step creates; `apply` remembers the inode number of such a cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

impl Cgroup {
    /// Returns the child cgroup with this name.
    #[must_use]
    pub fn child(&self, name: impl AsRef<Path>) -> Self {
        Self { hierarchy: self.hierarchy, path: self.path.join(name), inode: None }
    }
}

/// Which processes a step moves to another cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Processes {
    /// Only the container's first process.
    First,
    /// All processes in the source cgroup.
    All,
}

/// Which processes may write a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writer {
    /// Only processes in the runtime's namespaces.
    Outside,
    /// Processes in the container's namespaces as well, before it starts.
    Inside,
}

/// How long a cgroup exists that a step creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifetime {
    /// The cgroup is removed with its parent, which is either the runtime's or removed by poststop.
    WithParent,
    /// The cgroup is removed by poststop.
    PostStop,
}

/// What a step does. Each path `at` is in the container and has no symbolic link in it.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Makes a mount a slave of its peer group, so that what is mounted on it no longer appears elsewhere.
    MakeSlave {
        at: InnerPath,
    },
    /// Mounts a new tmpfs, always with `nosuid` and `nodev` and never with `noexec`.
    Tmpfs {
        at: InnerPath,
        /// The permissions of its root directory.
        #[serde(serialize_with = "octal")]
        mode: u32,
        /// The size in bytes, which is a multiple of a mebibyte.
        size_bytes: u64,
        /// The maximum number of inodes. `None` for the kernel's default.
        #[serde(skip_serializing_if = "Option::is_none")]
        inodes: Option<u64>,
        /// The SELinux context of all files on the tmpfs, set by a mount option.
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<String>,
        /// The content that is copied onto the tmpfs.
        content: Content,
        /// The mounts below `at` that are moved onto the tmpfs.
        keep: Vec<InnerPath>,
    },
    /// Creates a directory, unless it exists.
    Directory {
        at: InnerPath,
        #[serde(serialize_with = "octal")]
        mode: u32,
    },
    /// Creates a file, in place of an existing one, and missing directories above it.
    WriteFile {
        at: InnerPath,
        #[serde(serialize_with = "octal")]
        mode: u32,
        content: String,
    },
    /// Creates a symbolic link, in place of an existing file, and missing directories above it.
    Symlink {
        at: InnerPath,
        target: &'static str,
    },
    /// Creates a directory that has an inode of each of these types, all with mode 0.
    Inaccessible {
        at: InnerPath,
        nodes: Vec<Node>,
    },
    /// Creates an empty file or directory in the image's root. It outlives the container, so poststop removes it.
    MountPoint {
        at: InnerPath,
        /// Either `Reg` or `Dir`.
        node: Node,
    },
    /// Mounts a read-only file over an existing one.
    MountFile {
        at: InnerPath,
        content: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<String>,
    },
    /// Makes one directory writable by a bind mount of it onto itself, even if the mount that it is on
    /// is or becomes read-only.
    MakeWritable {
        at: InnerPath,
    },
    MakeReadOnly {
        at: InnerPath,
    },
    MakeCgroup {
        cgroup: Cgroup,
        /// The inode number of the parent cgroup. `None` if a step creates the parent.
        #[serde(skip_serializing_if = "Option::is_none")]
        above_inode: Option<u64>,
        until: Lifetime,
    },
    /// Moves processes of the container to another cgroup.
    EnterCgroup {
        cgroup: Cgroup,
        from: Cgroup,
        processes: Processes,
    },
    /// Enables all controllers of a cgroup for its children.
    EnableControllers {
        cgroup: Cgroup,
    },
    /// Limits how many cgroups can be created below a cgroup (`cgroup.max.descendants`), unless a lower
    /// limit is already set.
    LimitCgroups {
        /// The cgroup whose descendants are limited.
        cgroup: Cgroup,
        most: u32,
        /// Which processes may write the limit.
        writer: Writer,
    },
    /// Mounts a hierarchy read-only, with one of its cgroups as the root of the mount.
    ShowCgroup {
        cgroup: Cgroup,
        at: InnerPath,
    },
    /// Delegates a cgroup to the container: changes the owner or the label of the cgroup, and of those of its files
    /// that its manager writes.
    Delegate {
        at: InnerPath,
        /// The names of these files. Not every hierarchy has all of them.
        files: Vec<String>,
        /// The new owner. `None` to keep the old one.
        #[serde(skip_serializing_if = "Option::is_none")]
        owner: Option<Owner>,
        /// The new SELinux context. `None` to keep the old one.
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// Bind-mounts a directory of the host read-only.
    BindHost {
        #[serde(serialize_with = "as_text")]
        from: PathBuf,
        at: InnerPath,
    },
    /// Makes a mount shared, in a new peer group.
    MakeShared {
        at: InnerPath,
    },
}

impl Action {
    /// Returns the path at which the action mounts something. Returns `None` if it mounts nothing.
    #[must_use]
    pub fn mounts_at(&self) -> Option<&InnerPath> {
        match self {
            Self::Tmpfs { at, .. }
            | Self::MountFile { at, .. }
            | Self::MakeWritable { at }
            | Self::ShowCgroup { at, .. }
            | Self::BindHost { at, .. } => Some(at),
            Self::MakeSlave { .. }
            | Self::Directory { .. }
            | Self::WriteFile { .. }
            | Self::Symlink { .. }
            | Self::Inaccessible { .. }
            | Self::MountPoint { .. }
            | Self::MakeReadOnly { .. }
            | Self::MakeCgroup { .. }
            | Self::EnterCgroup { .. }
            | Self::EnableControllers { .. }
            | Self::LimitCgroups { .. }
            | Self::Delegate { .. }
            | Self::MakeShared { .. } => None,
        }
    }

    /// Describes the action for an error message that starts with "cannot".
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Tmpfs { at, .. } => format!("mount tmpfs on {at}"),
            Self::WriteFile { at, .. } => format!("write {at}"),
            Self::MountFile { at, .. } => format!("mount a file on {at}"),
            Self::Delegate { at, .. } => format!("delegate {at} to the container, which otherwise may not write to it"),
            Self::MakeSlave { .. }
            | Self::Directory { .. }
            | Self::Symlink { .. }
            | Self::Inaccessible { .. }
            | Self::MountPoint { .. }
            | Self::MakeWritable { .. }
            | Self::MakeReadOnly { .. }
            | Self::MakeCgroup { .. }
            | Self::EnterCgroup { .. }
            | Self::EnableControllers { .. }
            | Self::LimitCgroups { .. }
            | Self::ShowCgroup { .. }
            | Self::BindHost { .. }
            | Self::MakeShared { .. } => self.to_string(),
        }
    }
}

// serde passes the field by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn octal<S: serde::Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

/// Serializes a path as a string, lossily: a path need not be valid UTF-8, but a JSON string must be.
fn as_text<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}
