// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The plan as a data structure: what will be done, where, and why. Nothing in this module carries it out.

mod action;
mod change;
mod place;
mod printed;

pub use action::{Action, Cgroup, Content, Excess, Lifetime, Node, Processes, Writer};
pub use change::{Change, Field};
pub use place::Place;

use serde::Serialize;

use crate::facts::{Layout, Owner, Payer};
use crate::path::InnerPath;

/// What will be done to one container, in order.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// The owner of everything that is created. `None` for the hook's own user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The SELinux context of everything that is created, except on mounts whose `context=` option sets one
    /// for all their files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The cgroup layout that systemd will find in the container.
    #[serde(rename = "cgroup_layout", skip_serializing_if = "Option::is_none")]
    pub layout: Option<ChosenLayout>,
    /// How much of the image's content all steps together may copy. `None` if no step copies anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copying: Option<Copying>,
    pub steps: Vec<Step>,
    /// What is left alone, and what the administrator should know.
    pub notes: Vec<Note>,
}

/// How much of an image's content may be copied for one container, and which cgroup is charged for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copying {
    /// The most memory that all copies together may take: file content in whole pages and without holes, extended
    /// attributes, and one page for each file, directory and symbolic link.
    pub most_bytes: u64,
    /// The reason for this limit on the memory.
    pub why: String,
    /// Whose cgroup is charged for what this process writes. If it isn't the container's, a child process enters the
    /// container's cgroup to copy.
    pub payer: Payer,
    /// The container's cgroup with the memory controller. At most three quarters of the memory that is free in this
    /// cgroup may be used for copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup>,
    /// The most memory that all copies together may take if that cgroup can't be entered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_unentered_bytes: Option<u64>,
}

/// A layout of cgroup hierarchies, and the reason for choosing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChosenLayout {
    pub layout: Layout,
    pub why: String,
}

/// The state of the container's root at createContainer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaterRoot {
    /// The root is as writable as it is now.
    Writable,
    /// The root is read-only, because crun remounts it before that stage.
    ReadOnly,
}

#[derive(Debug, Clone, Serialize)]
pub struct Step {
    #[serde(flatten)]
    pub action: Action,
    /// The identities of the files that the step acts on, except those that an earlier step creates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<Place>,
    pub need: Need,
    pub why: String,
}

/// The consequence of a failed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// All steps are undone and creating the container fails, since it can't run systemd.
    Required,
    /// The failure is logged as a warning.
    BestEffort,
}

/// A message that accompanies the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "note", rename_all = "kebab-case")]
pub enum Note {
    /// A path is left alone, because it is already as it should be or belongs to somebody else.
    Leave { at: InnerPath, why: String },
    /// Something that may surprise the administrator but needs no action.
    Remark { text: String },
    /// Something in the container will not be as systemd wants it.
    Warning {
        /// The problem, its cause, and what to do about it.
        text: String,
    },
}

impl Plan {
    pub fn step(&mut self, need: Need, action: Action, why: impl Into<String>) {
        self.steps.push(Step { action, on: Vec::new(), need, why: why.into() });
    }

    /// Reduces the plan to the steps that can't be left to the call at createContainer: limits that can only be
    /// written from outside the container, and, if the root is read-only at createContainer, mount points in it.
    #[must_use]
    pub fn before_create_container(self, root: LaterRoot) -> Self {
        let is_kept = |step: &Step| match step.action {
            Action::LimitCgroups { writer: Writer::Outside, .. } => true,
            Action::MountPoint { .. } => root == LaterRoot::ReadOnly,
            _ => false,
        };
        let steps: Vec<_> = self.steps.into_iter().filter(is_kept).collect();
        if steps.is_empty() {
            return Self::default();
        }
        Self { steps, notes: Vec::new(), ..self }
    }

    /// Whether a step can only be carried out in the runtime's namespaces.
    #[must_use]
    pub fn needs_host_side(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::MakeCgroup { until: Lifetime::PostStop, .. }))
    }

    /// Adds a note that a path is left alone, and the reason.
    pub fn leave(&mut self, at: InnerPath, why: impl Into<String>) {
        self.notes.push(Note::Leave { at, why: why.into() });
    }

    pub fn remark(&mut self, text: impl Into<String>) {
        self.notes.push(Note::Remark { text: text.into() });
    }

    pub fn warn(&mut self, text: impl Into<String>) {
        self.notes.push(Note::Warning { text: text.into() });
    }

    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().filter_map(|note| match note {
            Note::Warning { text } => Some(text.as_str()),
            Note::Leave { .. } | Note::Remark { .. } => None,
        })
    }

    /// Whether `path` will be on a planned tmpfs, rather than on a mount that is moved onto that tmpfs.
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
