// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Determines which cgroups the container sees: its own, at the path in /proc/1/cgroup, and only the names
//! of those above it.
//!
//! The whole path must be on a cgroup file system, because that is how systemd detects the layout
//! (`cg_unified_cached` in its sources). So a cgroup is mounted in place of the hierarchy's root whose
//! empty descendants have the names of the path's components, and the container's own cgroup is mounted on
//! the last of them.

use std::path::Path;

use crate::facts::{CgroupCreation, Membership, Surroundings};
use crate::kernel::cgroup::Hierarchy;
use crate::path::{CgroupPath, InnerPath};
use crate::plan::{Action, Cgroup, Lifetime, Need, Plan};

/// The name of the cgroup that is mounted in place of the hierarchy's root. It is a child of the container's own
/// cgroup, and is removed with it.
const ANCESTORS: &str = "ancestors";

/// What happens to mounts below a hierarchy's mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MountsBelow {
    /// The mounts stay visible.
    Kept,
    /// The mounts are covered in any case.
    Covered,
}

/// Whether the other cgroups of a hierarchy can be hidden from a container with the host's cgroup namespace. If not,
/// the reason is noted in the plan.
pub(super) fn can_hide_others(
    facts: &Surroundings,
    plan: &mut Plan,
    at: &InnerPath,
    below: MountsBelow,
    member: Option<&Membership>,
) -> bool {
    let why = if facts.cgroups.is_asked_from_host(at) {
        "config.json mounts the host's cgroups there"
    } else if below == MountsBelow::Kept && !facts.mounts.directly_below(at).is_empty() {
        "something is mounted below that path"
    } else if facts.cgroups.creation == CgroupCreation::InContainer && facts.rights.user_namespaces.any() {
        "in the container's user namespace the hook can't create a cgroup that hides them"
    } else if member.is_some_and(lacks_room) {
        "the limits of its cgroup don't allow enough child cgroups to recreate its path there"
    } else {
        return true;
    };
    plan.remark(format!("the container can see the names of all of the host's cgroups at {at}: {why}"));
    false
}

/// Whether the cgroup's limits leave too little room to repeat the names of its path below it.
fn lacks_room(member: &Membership) -> bool {
    let names = member.inside.as_ref().map_or(0, |path| path.as_path().iter().count());
    // The count includes `/`, which stands for the cgroup that contains the copy of the path.
    member.room.is_some_and(|room| usize::try_from(room).is_ok_and(|room| room < names))
}

/// Shows the container's own cgroup at its path, and no other cgroup.
pub(super) fn show_own(plan: &mut Plan, need: Need, own: &Cgroup, at: &InnerPath, path: &InnerPath) {
    let top = make(plan, need, own, ANCESTORS, Lifetime::WithParent, "it is mounted in place of the hierarchy's root");
    show_at_path(plan, need, top, own.clone(), at, path);
}

/// Covers the cgroup that [`show_own`] created in the container's own one, once the latter is mounted permanently.
/// Otherwise the hierarchy would contain itself, and find(1) would report a loop.
pub(super) fn cover_ancestors(plan: &mut Plan, own: &Cgroup, at: &InnerPath, path: &InnerPath) {
    let empty = own.child(ANCESTORS).child(path.below(at).unwrap_or(Path::new("")));
    show(plan, Need::BestEffort, empty, path.join(ANCESTORS), "otherwise the mounted hierarchy would contain itself");
}

/// Shows `top` at `at`, and `own` at `path`, which is below `at`.
pub(super) fn show_at_path(plan: &mut Plan, need: Need, top: Cgroup, own: Cgroup, at: &InnerPath, path: &InnerPath) {
    let below = path.below(at).unwrap_or(Path::new(""));
    below.iter().fold(top.clone(), |above, name| {
        make(plan, need, &above, name, Lifetime::WithParent, "it is part of the path of the container's own cgroup")
    });
    show(plan, need, top, at.clone(), "the container must not see any other cgroup");
    show(plan, need, own, path.clone(), "/proc/1/cgroup contains this path");
}

/// Shows a whole hierarchy, starting at its root.
pub(super) fn show_whole(plan: &mut Plan, hierarchy: Hierarchy, at: &InnerPath) {
    let whole = Cgroup { hierarchy, path: CgroupPath::root(), inode: None };
    show(plan, Need::Required, whole, at.clone(), "the path in /proc/1/cgroup starts at the root of the hierarchy");
}

pub(super) fn show(plan: &mut Plan, need: Need, cgroup: Cgroup, at: InnerPath, why: &str) {
    plan.step(need, Action::ShowCgroup { cgroup, at }, why);
}

pub(super) fn make(
    plan: &mut Plan,
    need: Need,
    above: &Cgroup,
    name: impl AsRef<Path>,
    until: Lifetime,
    why: &str,
) -> Cgroup {
    let cgroup = above.child(name);
    let action = Action::MakeCgroup { cgroup: cgroup.clone(), above_inode: above.inode, until };
    plan.step(need, action, why);
    cgroup
}
