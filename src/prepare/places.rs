// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Puts into each step the identity of what it acts on, so that a path which leads elsewhere by then is noticed.

use crate::facts::Places;
use crate::path::InnerPath;
use crate::plan::{Action, Place, Plan};

/// Looks over the whole plan, so it comes last.
pub(super) fn plan(places: &Places, plan: &mut Plan) {
    // What an earlier step mounted or made is known to `apply` by its descriptor, and so is all that lies on it.
    let mut made: Vec<InnerPath> = Vec::new();
    for step in &mut plan.steps {
        let is_made = |at: &InnerPath| made.iter().any(|above| at.is_at_or_below(above));
        let (acts_on, makes_below) = touched(&step.action);
        let acted_on = acts_on.into_iter().filter(|at| !is_made(at));
        // A cgroup that an earlier step makes through its hierarchy is found below one that is there.
        let found = acted_on.chain(makes_below.filter(|at| !is_made(at))).filter_map(|at| places.above(&at));
        step.on = found.map(|(at, identity)| Place { at, identity }).collect();
        made.extend(step.action.mounts_at().or(makes(&step.action)).cloned());
    }
}

/// The files that an action acts on, and the directory that it makes something in.
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
        // Its directory is where an older kernel mounts the file for a moment.
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

/// What a later step can act on because this action made it.
fn makes(action: &Action) -> Option<&InnerPath> {
    match action {
        Action::Directory { at, .. } | Action::MountPoint { at, .. } => Some(at),
        _ => None,
    }
}
