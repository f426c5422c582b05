// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The container's own cgroup: writable for systemd, at the path that /proc/1/cgroup says, and
//! nothing else. <https://systemd.io/CGROUP_DELEGATION/>

use super::Refusal;
use crate::facts::{CgroupNamespace, CgroupOwner, Mount, Surroundings};
use crate::interface::CGROUP;
use crate::kernel::cgroup::Hierarchy;
use crate::path::InnerPath;
use crate::plan::{Action, Need, Plan};

const WHY: &str = "systemd makes a cgroup for each service below its own";

pub(super) fn plan(facts: &Surroundings, plan: &mut Plan) -> Result<(), Refusal> {
    let base = InnerPath::new(CGROUP);
    let find = |hierarchy| facts.mounts.of_hierarchy(hierarchy).find(|(mount, _)| mount.at.is_at_or_below(&base));
    let (systemd, unified) = (find(Hierarchy::Systemd), find(Hierarchy::Unified));
    // The layout that systemd finds: legacy where only v1's named hierarchy is there, hybrid with
    // both, unified alone. In hybrid it manages processes by v1's and can do without the other.
    let unified_need = if systemd.is_some() { Need::BestEffort } else { Need::Required };
    if let Some((mount, root)) = systemd {
        writable(facts, plan, Hierarchy::Systemd, mount, root, Need::Required)?;
    }
    if let Some((mount, root)) = unified {
        writable(facts, plan, Hierarchy::Unified, mount, root, unified_need)?;
    }
    if systemd.is_none() && unified.is_none() {
        if !facts.container_may_mount {
            return Err(Refusal::NoCgroup);
        }
        plan.leave(base, "no cgroup hierarchy is mounted; systemd has CAP_SYS_ADMIN and mounts it itself");
    }
    Ok(())
}

fn writable(
    facts: &Surroundings,
    plan: &mut Plan,
    hierarchy: Hierarchy,
    mount: &Mount,
    mount_root: &InnerPath,
    need: Need,
) -> Result<(), Refusal> {
    let Some(member) = facts.cgroups.of(hierarchy) else {
        plan.leave(mount.at.clone(), "the container is in no cgroup of this hierarchy");
        return Ok(());
    };
    if member.owner == CgroupOwner::Shared {
        if mount.read_only && need == Need::Required {
            return Err(Refusal::SharedCgroup { at: mount.at.clone() });
        }
        plan.leave(mount.at.clone(), "the engine gave the container no cgroup of its own there");
        return Ok(());
    }
    // The path that /proc/1/cgroup will show.
    let path = match facts.cgroups.namespace {
        CgroupNamespace::Private => InnerPath::root(),
        CgroupNamespace::Host => member.path.clone(),
    };
    let own = mount.at.join(path.as_path());
    let is_at_own_path = member.path.below(mount_root).is_some_and(|below| mount.at.join(below) == own);
    if is_at_own_path {
        if is_bound(facts, hierarchy, &own) {
            plan.leave(own, "writable already, by a mount of its own");
        } else {
            // Also where it is writable now: crun makes what config.json wants read-only so after
            // its hooks (1.8 after createRuntime, 1.27 after createContainer), but not this mount.
            plan.step(need, Action::MakeWritable { at: own }, WHY);
        }
        return Ok(());
    }
    // runc binds the container's cgroup alone on the hierarchy's mount point where the namespace is
    // the host's: systemd would look for its path below it, in vain.
    match &member.on_host {
        Some(from) => {
            let why = format!("/proc/1/cgroup says {path}, which must exist below {}", mount.at);
            plan.step(need, Action::BindHost { from: from.clone(), at: mount.at.clone() }, why);
            plan.step(need, Action::MakeWritable { at: own }, WHY);
            Ok(())
        }
        None => match need {
            Need::Required => Err(Refusal::HiddenCgroup { at: mount.at.clone(), path }),
            Need::BestEffort => {
                plan.leave(mount.at.clone(), "the hierarchy is mounted nowhere as a whole");
                Ok(())
            }
        },
    }
}

/// Whether the cgroup at `own` is already mounted writable over the hierarchy's own mount: by an
/// earlier run of this hook.
fn is_bound(facts: &Surroundings, hierarchy: Hierarchy, own: &InnerPath) -> bool {
    let shows_it = |mount: &Mount| mount.cgroup.as_ref().is_some_and(|(kind, _)| *kind == hierarchy);
    facts
        .mounts
        .at(own)
        .filter(|top| !top.read_only && shows_it(top))
        .and_then(|top| facts.mounts.below(top))
        .is_some_and(shows_it)
}
