// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which cgroups the container sees: its own, at the path that /proc/1/cgroup says, and of those above it the names alone.
//!
//! That path must lie on a cgroup file system from its beginning on, since that is how systemd knows the layout
//! (`cg_unified_cached` in its sources). So a cgroup is mounted in place of the hierarchy's root whose empty children spell
//! the path, and the container's own at its end.

use std::path::Path;

use crate::facts::{Making, Surroundings};
use crate::kernel::cgroup::Hierarchy;
use crate::path::InnerPath;
use crate::plan::{Action, Cgroup, Need, Plan, Until};

/// What that cgroup is called; it is below the container's own, and goes with it.
const ANCESTORS: &str = "ancestors";

/// What becomes of what is mounted below a hierarchy's mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MountsBelow {
    /// It stays to be seen.
    Kept,
    /// It is covered, whatever is shown there.
    Covered,
}

/// Whether the other cgroups of a hierarchy can be kept from a container with the host's cgroup namespace. Otherwise the
/// plan says why not.
pub(super) fn hides_others(facts: &Surroundings, plan: &mut Plan, at: &InnerPath, below: MountsBelow) -> bool {
    let why = if facts.cgroups.is_asked_from_host(at) {
        "config.json mounts the host's"
    } else if below == MountsBelow::Kept && !facts.mounts.directly_below(at).is_empty() {
        "something is mounted below it"
    } else if facts.cgroups.making == Making::Inside && facts.rights.in_user_namespace {
        "in the container's user namespace no cgroup can be made that would cover them"
    } else {
        return true;
    };
    plan.remark(format!("the container may see the names of all of the host's cgroups at {at}: {why}"));
    false
}

/// Shows a cgroup of the container's at its path, and no other.
pub(super) fn show_own(plan: &mut Plan, need: Need, own: &Cgroup, at: &InnerPath, path: &InnerPath) {
    let top = make(plan, need, own, ANCESTORS, Until::AboveGoes, "it is mounted in place of the hierarchy's root");
    show_at_path(plan, need, top, own.clone(), at, path);
}

/// Covers what [`show_own`] has made in the container's own cgroup, once that is mounted for good: find(1) complains of a
/// directory that it has come from.
pub(super) fn cover_ancestors(plan: &mut Plan, own: &Cgroup, at: &InnerPath, path: &InnerPath) {
    let empty = own.child(ANCESTORS).child(path.below(at).unwrap_or(Path::new("")));
    show(plan, Need::BestEffort, empty, path.join(ANCESTORS), "what is mounted above would be there once more");
}

/// Shows `top` at `at`, and `own` at `path`, which is below it.
pub(super) fn show_at_path(plan: &mut Plan, need: Need, top: Cgroup, own: Cgroup, at: &InnerPath, path: &InnerPath) {
    let below = path.below(at).unwrap_or(Path::new(""));
    below.iter().fold(top.clone(), |above, name| {
        make(plan, need, &above, name, Until::AboveGoes, "the next mount needs a place")
    });
    show(plan, need, top, at.clone(), "others' cgroups are none of its business");
    show(plan, need, own, path.clone(), "/proc/1/cgroup says this path");
}

/// Shows a hierarchy from its root on.
pub(super) fn show_whole(plan: &mut Plan, hierarchy: Hierarchy, at: &InnerPath) {
    let whole = Cgroup { hierarchy, path: InnerPath::root(), inode: None };
    show(plan, Need::Required, whole, at.clone(), "/proc/1/cgroup says the path from the top");
}

pub(super) fn show(plan: &mut Plan, need: Need, cgroup: Cgroup, at: InnerPath, why: &str) {
    plan.step(need, Action::ShowCgroup { cgroup, at }, why);
}

pub(super) fn make(
    plan: &mut Plan,
    need: Need,
    above: &Cgroup,
    name: impl AsRef<Path>,
    until: Until,
    why: &str,
) -> Cgroup {
    let cgroup = above.child(name);
    let action = Action::MakeCgroup { cgroup: cgroup.clone(), above_inode: above.inode, until };
    plan.step(need, action, why);
    cgroup
}
