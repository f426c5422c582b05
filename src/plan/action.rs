// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a step of a plan can do.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::facts::Owner;
use crate::kernel::cgroup::Hierarchy;
use crate::path::{CgroupPath, InnerPath};

/// What is there to copy to a new tmpfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    None,
    /// What the image holds at that path.
    Copied {
        /// The most that is copied onto this tmpfs.
        most_bytes: u64,
        /// What happens if there is more than that, or more than may be copied for the container in all.
        excess: Excess,
        /// The annotation that raises this.
        #[serde(skip_serializing_if = "Option::is_none")]
        option: Option<&'static str>,
    },
}

/// What happens to content that exceeds the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Excess {
    /// It makes the step fail.
    Refused,
    /// Each file that doesn't fit is left out, with a warning.
    LeftOut,
}

/// A kind of inode without content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Node {
    Reg,
    Dir,
    Fifo,
    /// A socket that nobody listens on.
    Sock,
    /// The character device 0:0.
    Chr,
    /// The block device 0:0.
    Blk,
}

impl Node {
    /// Its name below /run/host/inaccessible.
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
    /// Its path from the root of the hook's own cgroup namespace.
    pub path: CgroupPath,
    /// The inode of a cgroup that existed when facts were gathered, and that must still be the same one when the step
    /// is carried out. `None` for a cgroup that a step makes, whose inode `apply` remembers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

impl Cgroup {
    /// The cgroup of this name below this one.
    #[must_use]
    pub fn child(&self, name: impl AsRef<Path>) -> Self {
        Self { hierarchy: self.hierarchy, path: self.path.join(name), inode: None }
    }
}

/// Which processes are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Processes {
    /// The container's first one.
    First,
    /// All that are there.
    All,
}

/// Who may write a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writer {
    /// Only processes in the runtime's namespaces.
    Outside,
    /// Processes in the container's namespaces as well, before it starts.
    Inside,
}

/// How long something stays that was made outside the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifetime {
    /// It goes with the cgroup that it is in: the runtime's, or one that poststop takes back.
    WithParent,
    /// poststop takes it back.
    PostStop,
}

/// What a step does. Each path `at` is in the container and has no symbolic link in it.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Takes a mount out of its peer group: what is mounted on it no longer appears elsewhere.
    MakeSlave {
        at: InnerPath,
    },
    /// Mounts a new tmpfs; nosuid and nodev always, noexec never.
    Tmpfs {
        at: InnerPath,
        /// The permissions of its root directory.
        #[serde(serialize_with = "octal")]
        mode: u32,
        /// Its size, whole mebibytes.
        size_bytes: u64,
        /// How many inodes; none: the kernel's default.
        #[serde(skip_serializing_if = "Option::is_none")]
        inodes: Option<u64>,
        /// The SELinux context of all that is on it.
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<String>,
        /// What is on it from the start.
        content: Content,
        /// The mounts below `at` that are moved onto it.
        keep: Vec<InnerPath>,
    },
    /// Makes a directory, where there is none yet.
    Directory {
        at: InnerPath,
        #[serde(serialize_with = "octal")]
        mode: u32,
    },
    /// Writes a file in place of what is there, and makes the directories above it.
    WriteFile {
        at: InnerPath,
        #[serde(serialize_with = "octal")]
        mode: u32,
        /// All of it.
        content: String,
    },
    /// Makes a symbolic link in place of what is there, and the directories above it.
    Symlink {
        at: InnerPath,
        target: &'static str,
    },
    /// Makes a directory with an inode of each of these kinds, which nobody may open.
    Inaccessible {
        at: InnerPath,
        nodes: Vec<Node>,
    },
    /// Makes an empty file or directory in the image's root, which outlives the container; poststop
    /// takes it back.
    MountPoint {
        at: InnerPath,
        /// `Reg` or `Dir`.
        node: Node,
    },
    /// Mounts a read-only file over another one.
    MountFile {
        at: InnerPath,
        /// All of it.
        content: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<String>,
    },
    /// Makes a directory writable that is mounted read-only, and only that directory.
    MakeWritable {
        at: InnerPath,
    },
    MakeReadOnly {
        at: InnerPath,
    },
    MakeCgroup {
        cgroup: Cgroup,
        /// The inode of the cgroup that it is made in. `None` if a step makes that one.
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
    /// Gives the cgroups below one all the controllers that it has itself.
    EnableControllers {
        cgroup: Cgroup,
    },
    /// Limits how many cgroups can be made below one (`cgroup.max.descendants`), unless a lower limit is set already.
    LimitCgroups {
        /// The cgroup whose descendants are limited.
        cgroup: Cgroup,
        most: u32,
        /// Who may write the limit.
        writer: Writer,
    },
    /// Mounts a hierarchy from one of its cgroups on, read-only.
    ShowCgroup {
        cgroup: Cgroup,
        at: InnerPath,
    },
    /// Gives a cgroup, and those of its files that its manager writes, to the container.
    Delegate {
        at: InnerPath,
        /// The files' names; not each hierarchy has all of them.
        files: Vec<String>,
        /// The new owner; none: they keep theirs.
        #[serde(skip_serializing_if = "Option::is_none")]
        owner: Option<Owner>,
        /// The new SELinux context; none: they keep theirs.
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// Shows a directory of the host read-only.
    BindHost {
        #[serde(serialize_with = "as_text")]
        from: PathBuf,
        at: InnerPath,
    },
    /// Starts a peer group of its own for a mount.
    MakeShared {
        at: InnerPath,
    },
}

impl Action {
    /// Where it mounts something.
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

    /// What an error says could not be done.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Tmpfs { at, .. } => format!("mount tmpfs on {at}"),
            Self::WriteFile { at, .. } => format!("write {at}"),
            Self::MountFile { at, .. } => format!("mount a file on {at}"),
            Self::Delegate { at, .. } => format!("give {at} to the container, which may not write it as it is"),
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

// serde gives a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn octal<S: serde::Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

/// A path need not be text, and JSON has nothing else.
fn as_text<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}
