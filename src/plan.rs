// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The plan as data: what will be done, where, and why. Does nothing itself.

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

/// Everything that will be done to one container, in its order.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// Who owns what is created; none: the hook's own user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The SELinux context of what is created, where its mount has none for all that is on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How systemd will find its cgroups.
    #[serde(rename = "cgroup-layout", skip_serializing_if = "Option::is_none")]
    pub layout: Option<ChosenLayout>,
    /// How much of the image's content all steps together may copy. `None` if no step copies anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copying: Option<Copying>,
    pub steps: Vec<Step>,
    /// What is left alone, and what the administrator should know.
    pub notes: Vec<Note>,
}

/// How much of an image's content may be copied for one container, and who pays for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copying {
    /// The most memory that all copies together may take: whole pages of content without the holes, extended
    /// attributes, and a page for each file, directory and link.
    pub most_bytes: u64,
    /// The reason for that number.
    pub why: String,
    /// Who pays for what this process writes. If that isn't the container, a child process enters its cgroup to copy.
    pub payer: Payer,
    /// The container's cgroup with the memory controller. No more is copied than three quarters of the memory that is
    /// free there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup>,
    /// The most memory that all copies together may take if that cgroup can't be entered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_unentered_bytes: Option<u64>,
}

/// A layout of cgroup hierarchies, and what speaks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChosenLayout {
    pub layout: Layout,
    pub why: String,
}

/// The state of the container's root at createContainer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaterRoot {
    /// As writable as it is now.
    Writable,
    /// Read-only, because crun remounts it before that stage.
    ReadOnly,
}

#[derive(Debug, Clone, Serialize)]
pub struct Step {
    #[serde(flatten)]
    pub action: Action,
    /// The identities of the files that it acts on, except those that an earlier step makes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<Place>,
    pub need: Need,
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

/// What is said beside the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "note", rename_all = "kebab-case")]
pub enum Note {
    /// A path is as it should be, or somebody else's.
    Leave { at: InnerPath, why: String },
    /// Something that the administrator may wonder about, and all is well.
    Remark { text: String },
    /// Something will not be as systemd wants it.
    Warning {
        /// What, why, and what to do.
        text: String,
    },
}

impl Plan {
    pub fn step(&mut self, need: Need, action: Action, why: impl Into<String>) {
        self.steps.push(Step { action, on: Vec::new(), need, why: why.into() });
    }

    /// Reduces the plan to the steps that can't be left to the call at createContainer: limits that can only be written
    /// from outside the container, and mount points in a root that is read-only by then.
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

    /// Whether a step can only be done in the runtime's namespaces.
    #[must_use]
    pub fn needs_host_side(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::MakeCgroup { until: Lifetime::PostStop, .. }))
    }

    /// Notes what is left alone.
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
