// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rules that each plan keeps, whatever the container and its host are.

use std::collections::BTreeSet;
use std::path::Component;

use oci_systemd_hook::facts::{CgroupCreation, CgroupNamespace, CgroupOwner, CgroupRoot, Found, Sharing, Surroundings};
use oci_systemd_hook::interface::PATHS;
use oci_systemd_hook::kernel::cgroup::Hierarchy;
use oci_systemd_hook::path::{CgroupPath, InnerPath};
use oci_systemd_hook::plan::{Action, Cgroup, Plan, Step};
use oci_systemd_hook::prepare::prepare;
use serde_json::Value;

/// Returns the rule that the plan for these facts breaks, or `None`. A refusal breaks no rule if it is one line.
pub fn broken(facts: &Surroundings) -> Option<String> {
    match prepare(facts) {
        Ok(plan) => steps(facts, &plan).or_else(|| printed(&plan)),
        Err(refusal) => {
            let line = oci_systemd_hook::report::chain(&refusal);
            line.contains(char::is_control).then(|| format!("the refusal is more than one line: {line:?}"))
        }
    }
}

fn steps(facts: &Surroundings, plan: &Plan) -> Option<String> {
    let mut seen = BTreeSet::new();
    for (number, step) in plan.steps.iter().enumerate() {
        let (before, action) = (plan.steps.get(..number)?, &step.action);
        let before: Vec<&Action> = before.iter().map(|step| &step.action).collect();
        let rules = [
            ("the plan contains it twice", seen.insert(format!("{action:?}"))),
            ("its path is outside the container", place(action).is_none_or(is_inside)),
            ("it touches a cgroup that isn't the container's", keeps_to_own_cgroup(facts, &before, action)),
            ("it covers what an earlier step created", covers_no_step(&before, action)),
            ("there is nothing to mount on", has_mount_point(facts, &before, action)),
            ("a path that it keeps isn't below its own", keeps_what_is_below(action)),
            ("it doesn't identify the file that it acts on", is_identified(step, &before)),
        ];
        if let Some((rule, _)) = rules.into_iter().find(|(_, holds)| !holds) {
            return Some(format!("{rule}: {step}"));
        }
    }
    None
}

/// Whether each file that a step acts on, or creates something in, was examined before or is created
/// by an earlier step.
fn is_identified(step: &Step, before: &[&Action]) -> bool {
    let Some(at) = place(&step.action) else { return true };
    let makes = matches!(
        step.action,
        Action::Directory { .. }
            | Action::MountPoint { .. }
            | Action::WriteFile { .. }
            | Action::Symlink { .. }
            | Action::Inaccessible { .. }
    );
    let is_made = before.iter().any(|other| match other {
        Action::Directory { at: made, .. } | Action::MountPoint { at: made, .. } => at.is_at_or_below(made),
        // The step identifies the cgroup by its inode, since it creates it through the hierarchy.
        Action::MakeCgroup { cgroup, .. } => at.as_path().file_name() == cgroup.path.as_path().file_name(),
        other => other.mounts_at().is_some_and(|made| at.is_at_or_below(made)),
    });
    is_made || step.on.iter().any(|on| if makes { at.is_at_or_below(&on.at) } else { on.at == *at })
}

/// Returns the path in the container at which an action creates or changes something.
fn place(action: &Action) -> Option<&InnerPath> {
    match action {
        Action::MakeSlave { at }
        | Action::Tmpfs { at, .. }
        | Action::Directory { at, .. }
        | Action::WriteFile { at, .. }
        | Action::Symlink { at, .. }
        | Action::Inaccessible { at, .. }
        | Action::MountPoint { at, .. }
        | Action::MountFile { at, .. }
        | Action::MakeWritable { at }
        | Action::MakeReadOnly { at }
        | Action::ShowCgroup { at, .. }
        | Action::Delegate { at, .. }
        | Action::BindHost { at, .. }
        | Action::MakeShared { at } => Some(at),
        Action::MakeCgroup { .. }
        | Action::EnterCgroup { .. }
        | Action::EnableControllers { .. }
        | Action::LimitCgroups { .. } => None,
    }
}

fn is_inside(at: &InnerPath) -> bool {
    let mut parts = at.as_path().components();
    parts.next() == Some(Component::RootDir) && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Returns the container's cgroup of a hierarchy. In a hierarchy that isn't mounted, it is the root, which
/// all processes are in.
fn own_cgroup(facts: &Surroundings, hierarchy: Hierarchy) -> (CgroupPath, CgroupOwner) {
    facts.cgroups.of(hierarchy).map_or((CgroupPath::root(), CgroupOwner::Shared(Sharing::Engine)), |member| {
        (member.path.clone(), member.owner)
    })
}

/// Whether a container may see the host's cgroups. This requires that it has no private cgroup namespace, and that
/// config.json asks for them or mounts something there, or that no other cgroup can be created.
fn may_see_others(facts: &Surroundings, at: &InnerPath) -> bool {
    let can_make_none = facts.cgroups.creation == CgroupCreation::InContainer && facts.rights.user_namespaces.any();
    let is_wanted = facts.cgroups.is_asked_from_host(at) || !facts.mounts.directly_below(at).is_empty();
    facts.cgroups.namespace == CgroupNamespace::Host && (is_wanted || can_make_none)
}

/// Whether the action leaves the cgroups of others alone: they are not changed, made writable or shown.
fn keeps_to_own_cgroup(facts: &Surroundings, before: &[&Action], action: &Action) -> bool {
    let below_own = |cgroup: &Cgroup| cgroup.path.is_below(&own_cgroup(facts, cgroup.hierarchy).0);
    match action {
        Action::MakeCgroup { cgroup, .. } => below_own(cgroup),
        Action::EnterCgroup { cgroup, from, .. } => {
            below_own(cgroup) && from.path == own_cgroup(facts, from.hierarchy).0 && from.hierarchy == cgroup.hierarchy
        }
        Action::EnableControllers { cgroup } => {
            own_cgroup(facts, cgroup.hierarchy) == (cgroup.path.clone(), CgroupOwner::Container)
        }
        Action::LimitCgroups { cgroup, .. } => {
            let (own, owner) = own_cgroup(facts, cgroup.hierarchy);
            cgroup.path.is_below(&own) || (cgroup.path == own && owner == CgroupOwner::Container)
        }
        Action::ShowCgroup { cgroup, at } => {
            let (own, owner) = own_cgroup(facts, cgroup.hierarchy);
            may_see_others(facts, at)
                || cgroup.path.is_below(&own)
                || (cgroup.path == own && owner == CgroupOwner::Container)
        }
        Action::BindHost { at, .. } => may_see_others(facts, at),
        Action::MakeWritable { at } | Action::Delegate { at, .. } => shown(facts, before, at).is_some_and(|cgroup| {
            let (own, owner) = own_cgroup(facts, cgroup.hierarchy);
            cgroup.path.is_below(&own) || (cgroup.path == own && owner == CgroupOwner::Container)
        }),
        _ => true,
    }
}

/// Returns the cgroup that is visible at a path after some steps.
fn shown(facts: &Surroundings, before: &[&Action], at: &InnerPath) -> Option<Cgroup> {
    let planned = before.iter().rev().find_map(|action| {
        match action {
            Action::ShowCgroup { cgroup, at: mount } => Some((mount, cgroup.clone())),
            // Of the host's hierarchies, only these two are bind-mounted.
            Action::BindHost { from, at: mount } => [Hierarchy::Unified, Hierarchy::Systemd]
                .into_iter()
                .find(|hierarchy| {
                    facts.cgroups.of(*hierarchy).and_then(|member| member.on_host.as_ref()) == Some(from)
                        && facts.mounts.of_hierarchy(*hierarchy).any(|(found, _)| found.at == *mount)
                })
                .map(|hierarchy| (mount, Cgroup { hierarchy, path: CgroupPath::root(), inode: None })),
            _ => None,
        }
        .filter(|(mount, _)| at.is_at_or_below(mount))
    });
    let (mount, cgroup) = match planned {
        Some((mount, cgroup)) => (mount, cgroup),
        None => {
            let mount = facts.mounts.holding(at)?;
            match &mount.cgroup {
                Some((hierarchy, CgroupRoot::At(path))) => {
                    (&mount.at, Cgroup { hierarchy: *hierarchy, path: path.clone(), inode: None })
                }
                Some((_, CgroupRoot::Outside)) | None => return None,
            }
        }
    };
    Some(Cgroup { path: cgroup.path.join(at.below(mount)?), ..cgroup })
}

/// Whether parents are mounted before their children. Of what earlier steps created, only mount points are mounted
/// on, and a mount of a cgroup may be mounted on such a mount.
fn covers_no_step(before: &[&Action], action: &Action) -> bool {
    let Some(at) = action.mounts_at() else { return true };
    before.iter().all(|other| match other {
        Action::MakeSlave { .. } | Action::MakeReadOnly { .. } => true,
        // Otherwise all of the host's hierarchy would become writable.
        Action::BindHost { at: made, .. } if matches!(action, Action::MakeWritable { .. }) => !made.is_at_or_below(at),
        Action::Directory { at: made, .. }
        | Action::MountPoint { at: made, .. }
        | Action::ShowCgroup { at: made, .. }
        | Action::BindHost { at: made, .. } => !made.is_below(at),
        other => place(other).is_none_or(|made| !made.is_at_or_below(at)),
    })
}

/// Whether the mount point exists or an earlier step creates it.
fn has_mount_point(facts: &Surroundings, before: &[&Action], action: &Action) -> bool {
    let Some(at) = action.mounts_at() else { return true };
    let in_image = || {
        PATHS.into_iter().any(|path| match facts.image.at(path) {
            Found::Directory(found) | Found::EmptyDirectory(found) | Found::File(found) => found == *at,
            Found::Nothing(_) | Found::Other(..) | Found::OnServer(_) | Found::Unreachable(_) => false,
        })
    };
    let is_made = before.iter().any(|other| match other {
        Action::Directory { at: made, .. } | Action::MountPoint { at: made, .. } => made == at,
        _ => false,
    });
    is_made || facts.mounts.at(at).is_some() || shown(facts, before, at).is_some() || in_image()
}

fn keeps_what_is_below(action: &Action) -> bool {
    match action {
        Action::Tmpfs { at, keep, .. } => keep.iter().all(|kept| kept.is_below(at)),
        _ => true,
    }
}

/// Checks that each step is printed as one line, whatever paths and names it contains, and that the plan can
/// be printed as JSON.
fn printed(plan: &Plan) -> Option<String> {
    let heads = [plan.owner.is_some(), plan.label.is_some(), plan.layout.is_some(), plan.copying.is_some()];
    let lines = heads.into_iter().filter(|there| *there).count() + plan.steps.len() + plan.notes.len();
    let text = plan.to_string();
    if text.split('\n').count() != lines + 1 || text.contains(|c: char| c.is_control() && c != '\n') {
        return Some(format!("its {lines} lines are printed as {text:?}"));
    }
    match serde_json::to_value(plan) {
        Ok(json) if json.get("steps").and_then(Value::as_array).map(Vec::len) == Some(plan.steps.len()) => None,
        other => Some(format!("as JSON it is {other:?}")),
    }
}
