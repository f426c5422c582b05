// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The container's own cgroup: writable for systemd, at the path that /proc/1/cgroup says, and
//! nothing else. <https://systemd.io/CGROUP_DELEGATION/>

use super::Refusal;
use crate::facts::{CgroupNamespace, CgroupOwner, CgroupRoot, Mount, Surroundings};
use crate::interface::{CGROUP, FIRST_ON_V2_ALONE, LAST_ON_V1_ALONE};
use crate::kernel::cgroup::Hierarchy;
use crate::path::InnerPath;
use crate::plan::{Action, Need, Plan};

const WHY: &str = "systemd makes a cgroup for each service below its own";

pub(super) fn plan(facts: &Surroundings, plan: &mut Plan) -> Result<(), Refusal> {
    let base = InnerPath::new(CGROUP);
    let find = |hierarchy| facts.mounts.of_hierarchy(hierarchy).find(|(mount, _)| mount.at.is_at_or_below(&base));
    let (systemd, unified) = (find(Hierarchy::Systemd), find(Hierarchy::Unified));
    fits(facts, systemd.map(|(mount, _)| &mount.at), unified.is_some())?;
    // The layout that systemd finds: legacy where only v1's named hierarchy is there, hybrid with
    // both, unified alone. In hybrid it manages processes by v1's and can do without the other.
    let unified_need = if systemd.is_some() { Need::BestEffort } else { Need::Required };
    if let Some(found) = systemd {
        writable(facts, plan, Hierarchy::Systemd, found, Need::Required)?;
    }
    if let Some(found) = unified {
        writable(facts, plan, Hierarchy::Unified, found, unified_need)?;
    }
    if systemd.is_none() && unified.is_none() {
        if !facts.container_may_mount {
            return Err(Refusal::NoCgroup);
        }
        plan.leave(base, "no cgroup hierarchy is mounted; systemd has CAP_SYS_ADMIN and mounts it itself");
    }
    Ok(())
}

/// Whether the image's systemd can use what is mounted, as far as its version is known.
fn fits(facts: &Surroundings, v1: Option<&InnerPath>, has_unified: bool) -> Result<(), Refusal> {
    let Some(version) = facts.systemd else { return Ok(()) };
    match v1 {
        Some(at) if version >= FIRST_ON_V2_ALONE => Err(Refusal::TooNew { version, at: at.clone() }),
        None if has_unified && version <= LAST_ON_V1_ALONE => Err(Refusal::TooOld { version }),
        Some(_) | None => Ok(()),
    }
}

fn writable(
    facts: &Surroundings,
    plan: &mut Plan,
    hierarchy: Hierarchy,
    (mount, mount_root): (&Mount, &CgroupRoot),
    need: Need,
) -> Result<(), Refusal> {
    let at = &mount.at;
    // Also where it is writable: systemd moves all processes of the cgroup that it takes for its own.
    let unless_needed = |plan: &mut Plan, refusal: Refusal, why: &str| {
        if need == Need::Required {
            return Err(refusal);
        }
        plan.leave(at.clone(), why);
        Ok(())
    };
    let Some(member) = facts.cgroups.of(hierarchy) else {
        let why = "the container is in no cgroup of this hierarchy";
        return unless_needed(plan, Refusal::NoMembership { at: at.clone() }, why);
    };
    if member.owner == CgroupOwner::Shared {
        let why = "the engine gave the container no cgroup of its own there";
        return unless_needed(plan, Refusal::SharedCgroup { at: at.clone() }, why);
    }
    let below = match mount_root {
        CgroupRoot::At(root) => member.path.below(root),
        CgroupRoot::Outside => None,
    };
    match facts.cgroups.namespace {
        // The container's cgroup is `/` there, and must be what is mounted.
        CgroupNamespace::Private if below.is_some_and(|below| below.as_os_str().is_empty()) => {
            make_writable(facts, plan, hierarchy, at.clone(), need);
            Ok(())
        }
        CgroupNamespace::Private => {
            let why = "it shows the host's cgroups, which have no path in the container's cgroup namespace";
            unless_needed(plan, Refusal::HostHierarchy { at: at.clone() }, why)
        }
        CgroupNamespace::Host => {
            let own = at.join(member.path.as_path());
            if below.is_none_or(|below| at.join(below) != own) {
                // runc binds the container's cgroup alone on the hierarchy's mount point: systemd
                // would look for the path of /proc/1/cgroup below it, in vain.
                let Some(from) = &member.on_host else {
                    let refusal = Refusal::HiddenCgroup { at: at.clone(), path: member.path.clone() };
                    return unless_needed(plan, refusal, "the hierarchy is mounted nowhere as a whole");
                };
                let why = format!("/proc/1/cgroup says {}, which must exist below {at}", member.path);
                plan.step(need, Action::BindHost { from: from.clone(), at: at.clone() }, why);
            }
            make_writable(facts, plan, hierarchy, own, need);
            Ok(())
        }
    }
}

fn make_writable(facts: &Surroundings, plan: &mut Plan, hierarchy: Hierarchy, own: InnerPath, need: Need) {
    if is_bound(facts, hierarchy, &own) {
        plan.leave(own.clone(), "writable already, by a mount of its own");
    } else {
        // Also where it is writable now: crun makes what config.json wants read-only so after its
        // hooks (1.8 after createRuntime, 1.27 after createContainer), but not this mount.
        plan.step(need, Action::MakeWritable { at: own.clone() }, WHY);
    }
    let label = facts.selinux.cgroup_label().map(str::to_owned);
    let why = match (facts.owner, &label) {
        (None, None) => return,
        // Some runtimes do it themselves, with some cgroup drivers, on v2.
        (Some(_), None) => "in the user namespace others own it",
        (None, Some(_)) => "as it is, the SELinux policy lets the container write none of it",
        (Some(_), Some(_)) => {
            "in the user namespace others own it, and the SELinux policy lets the container not write it"
        }
    };
    let files = facts.delegated.clone();
    plan.step(Need::BestEffort, Action::Delegate { at: own, files, owner: facts.owner, label }, why);
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
