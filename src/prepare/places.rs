// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Adds the identities of the files that a step acts on to the step, so that `apply` notices if a path leads to
//! another file when the step is carried out.

use crate::facts::Places;
use crate::path::InnerPath;
use crate::plan::{Action, Place, Plan};

/// Completes the steps of the whole plan, so this must run last.
pub(super) fn plan(places: &Places, plan: &mut Plan) {
    // `apply` keeps a file descriptor for what an earlier step mounted or created, and opens
    // everything below through it.
    let mut made: Vec<InnerPath> = Vec::new();
    for step in &mut plan.steps {
        let is_made = |at: &InnerPath| made.iter().any(|above| at.is_at_or_below(above));
        let (acts_on, makes_below) = touched(&step.action);
        let acted_on = acts_on.into_iter().filter(|at| !is_made(at));
        // A cgroup that an earlier step creates through its hierarchy has no identity yet; `apply` finds it
        // below an existing one.
        let found = acted_on.chain(makes_below.filter(|at| !is_made(at))).filter_map(|at| places.above(&at));
        step.on = found.map(|(at, identity)| Place { at, identity }).collect();
        made.extend(step.action.mounts_at().or(makes(&step.action)).cloned());
    }
}

/// Returns the files that an action acts on, and the directory in which it creates something, if it does.
fn touched(action: &Action) -> (Vec<InnerPath>, Option<InnerPath>) {
    match action {
        Action::MakeSlave { at }
        | Action::MakeShared { at }
        | Action::MakeReadOnly { at }
        | Action::MakeWritable { at }
        | Action::ShowCgroup { at, .. }
        | Action::BindHost { at, .. }
        | Action::Delegate { at, .. } => (vec![at.clone()], None),
        Action::Tmpfs { at, keep, .. } => (std::iter::once(at).chain(keep).cloned().collect(), None),
        // Before Linux 6.15 `apply` needs the directory as a temporary mount point.
        Action::MountFile { at, .. } => (std::iter::once(at.clone()).chain(at.parent()).collect(), None),
        Action::Directory { at, .. }
        | Action::WriteFile { at, .. }
        | Action::Symlink { at, .. }
        | Action::MountPoint { at, .. } => (Vec::new(), at.parent()),
        Action::Inaccessible { at, .. } => (Vec::new(), Some(at.clone())),
        Action::MakeCgroup { .. }
        | Action::EnterCgroup { .. }
        | Action::EnableControllers { .. }
        | Action::LimitCgroups { .. } => (Vec::new(), None),
    }
}

/// Returns the path that an action creates and that later steps may act on.
fn makes(action: &Action) -> Option<&InnerPath> {
    match action {
        Action::Directory { at, .. } | Action::MountPoint { at, .. } => Some(at),
        _ => None,
    }
}
