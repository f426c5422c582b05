// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The plan as data: what will be done, where, and why. Does nothing itself.

mod printed;

use std::path::PathBuf;

use serde::Serialize;

use crate::facts::Owner;
use crate::path::InnerPath;

/// Everything that will be done to one container, in its order.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// Who owns what is created; none: the hook's own user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The SELinux context of what is created, where its mount has none for all that is on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The steps.
    pub steps: Vec<Step>,
    /// What is left alone, and what the administrator should know.
    pub notes: Vec<Note>,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// What.
    #[serde(flatten)]
    pub action: Action,
    /// What its failure means.
    pub need: Need,
    /// Why.
    pub why: String,
}

/// What a step's failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// The container can't run systemd: everything is undone, and its creation fails.
    Required,
    /// A warning.
    BestEffort,
}

/// What is there to copy to a new tmpfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Nothing.
    None,
    /// What the image holds at that path.
    Copied,
}

/// A kind of inode without content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Node {
    /// A regular file.
    Reg,
    /// A directory.
    Dir,
    /// A FIFO.
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

/// What a step does. Each path is in the container and has no symbolic link in it.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Takes a mount out of its peer group: what is mounted on it no longer appears elsewhere.
    MakeSlave {
        /// The mount.
        at: InnerPath,
    },
    /// Mounts a new tmpfs; nosuid and nodev always, noexec never.
    Tmpfs {
        /// Where.
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
        /// Where.
        at: InnerPath,
        /// Its permissions.
        #[serde(serialize_with = "octal")]
        mode: u32,
    },
    /// Writes a file in place of what is there, and makes the directories above it.
    WriteFile {
        /// Where.
        at: InnerPath,
        /// Its permissions.
        #[serde(serialize_with = "octal")]
        mode: u32,
        /// All of it.
        content: String,
    },
    /// Makes a symbolic link in place of what is there, and the directories above it.
    Symlink {
        /// Where.
        at: InnerPath,
        /// Where it leads.
        target: &'static str,
    },
    /// Makes a directory with an inode of each of these kinds, which nobody may open.
    Inaccessible {
        /// The directory.
        at: InnerPath,
        /// Which kinds.
        nodes: Vec<Node>,
    },
    /// Makes an empty file or directory in the image's root, which outlives the container; poststop
    /// takes it back.
    MountPoint {
        /// Where.
        at: InnerPath,
        /// `Reg` or `Dir`.
        node: Node,
    },
    /// Mounts a read-only file over another one.
    MountFile {
        /// Where.
        at: InnerPath,
        /// All of it.
        content: String,
        /// Its SELinux context.
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<String>,
    },
    /// Makes a directory writable that is mounted read-only, and only that directory.
    MakeWritable {
        /// Where.
        at: InnerPath,
    },
    /// Gives a cgroup, and those of its files that its manager writes, to the container.
    Delegate {
        /// The cgroup.
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
        /// Where on the host.
        from: PathBuf,
        /// Where in the container.
        at: InnerPath,
    },
    /// Starts a peer group of its own for a mount.
    MakeShared {
        /// The mount.
        at: InnerPath,
    },
}

impl Action {
    /// Where it happens.
    #[must_use]
    pub fn at(&self) -> &InnerPath {
        match self {
            Self::MakeSlave { at }
            | Self::Tmpfs { at, .. }
            | Self::Directory { at, .. }
            | Self::WriteFile { at, .. }
            | Self::Symlink { at, .. }
            | Self::Inaccessible { at, .. }
            | Self::MountPoint { at, .. }
            | Self::MountFile { at, .. }
            | Self::MakeWritable { at }
            | Self::Delegate { at, .. }
            | Self::BindHost { at, .. }
            | Self::MakeShared { at } => at,
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
            | Self::BindHost { .. }
            | Self::MakeShared { .. } => self.to_string(),
        }
    }

    /// Whether it mounts something at its path.
    #[must_use]
    pub fn mounts(&self) -> bool {
        match self {
            Self::Tmpfs { .. } | Self::MountFile { .. } | Self::MakeWritable { .. } | Self::BindHost { .. } => true,
            Self::MakeSlave { .. }
            | Self::Directory { .. }
            | Self::WriteFile { .. }
            | Self::Symlink { .. }
            | Self::Inaccessible { .. }
            | Self::MountPoint { .. }
            | Self::Delegate { .. }
            | Self::MakeShared { .. } => false,
        }
    }
}

/// What is said beside the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "note", rename_all = "kebab-case")]
pub enum Note {
    /// A path is as it should be, or somebody else's.
    Leave {
        /// Which.
        at: InnerPath,
        /// Why.
        why: String,
    },
    /// Something that the administrator may wonder about, and all is well.
    Remark {
        /// What.
        text: String,
    },
    /// Something will not be as systemd wants it.
    Warning {
        /// What, why, and what to do.
        text: String,
    },
}

impl Plan {
    /// Adds a step.
    pub fn step(&mut self, need: Need, action: Action, why: impl Into<String>) {
        self.steps.push(Step { action, need, why: why.into() });
    }

    /// Of this plan, what outlives the container's mounts.
    #[must_use]
    pub fn what_lasts(mut self) -> Self {
        self.steps.retain(|step| matches!(step.action, Action::MountPoint { .. }));
        self.notes.clear();
        self
    }

    /// Notes what is left alone.
    pub fn leave(&mut self, at: InnerPath, why: impl Into<String>) {
        self.notes.push(Note::Leave { at, why: why.into() });
    }

    /// Notes a remark.
    pub fn remark(&mut self, text: impl Into<String>) {
        self.notes.push(Note::Remark { text: text.into() });
    }

    /// Notes a warning.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.notes.push(Note::Warning { text: text.into() });
    }

    /// The warnings.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().filter_map(|note| match note {
            Note::Warning { text } => Some(text.as_str()),
            Note::Leave { .. } | Note::Remark { .. } => None,
        })
    }

    /// Whether `path` will lie on a planned tmpfs, and not on a mount that is moved onto it.
    #[must_use]
    pub fn covers(&self, path: &InnerPath) -> bool {
        self.steps.iter().any(|step| match &step.action {
            Action::Tmpfs { at, keep, .. } => {
                path.is_at_or_below(at) && !keep.iter().any(|kept| path.is_at_or_below(kept))
            }
            _ => false,
        })
    }
}

// serde gives a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn octal<S: serde::Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}
