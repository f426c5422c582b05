// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The policy: turns facts into a plan, with one file per concern. It has no side effects, and knows the
//! host only from facts.

mod cgroup;
pub mod config;
mod filesystems;
mod host_interface;
mod identity;
mod layout;
mod places;
mod privileges;
mod propagation;
mod refusal;
mod remedy;
mod rights;
mod selinux;
mod units;
mod view;

pub use self::refusal::Refusal;
use crate::facts::{FollowUp, Found, Surroundings};
use crate::path::InnerPath;
use crate::plan::{Action, LaterRoot, Need, Plan};

/// Creates the plan. Its steps are in the order in which they must be carried out: a step that acts on a path
/// comes after those that mount or create what the path is on. Steps that a later call can carry out as well are
/// left to that call.
pub fn prepare(facts: &Surroundings) -> Result<Plan, Refusal> {
    let plan = match whole(facts) {
        Err(Refusal::MayNotMount) if facts.follow_up != FollowUp::None => return Ok(Plan::default()),
        result => result?,
    };
    Ok(match facts.follow_up {
        FollowUp::None => plan,
        FollowUp::CreateContainer | FollowUp::CreateContainerOnReadOnlyRoot if plan.needs_host_side() => plan,
        FollowUp::CreateContainer => plan.before_create_container(LaterRoot::Writable),
        FollowUp::CreateContainerOnReadOnlyRoot => plan.before_create_container(LaterRoot::ReadOnly),
    })
}

fn whole(facts: &Surroundings) -> Result<Plan, Refusal> {
    if !facts.rights.may_mount() {
        return Err(Refusal::MayNotMount);
    }
    let label = facts.selinux.label().map(str::to_owned);
    let mut plan = Plan { owner: facts.owner, label, ..Plan::default() };
    for key in &facts.options.not_allowed {
        plan.remark(format!("the annotation {key} has no effect: this host's --allow-options doesn't list it"));
    }
    selinux::plan(facts, &mut plan);
    filesystems::plan(facts, &mut plan)?;
    cgroup::plan(facts, &mut plan)?;
    identity::plan(facts, &mut plan);
    host_interface::plan(facts, &mut plan);
    units::plan(facts, &mut plan);
    privileges::plan(facts, &mut plan);
    propagation::plan(facts, &mut plan);
    rights::plan(facts, &mut plan)?;
    places::plan(&facts.places, &mut plan);
    Ok(plan)
}

/// Returns the path that `directory` leads to, if files written there leave no trace outside the container because it
/// is on a tmpfs. Otherwise adds the reason to the plan.
fn tmpfs_directory(facts: &Surroundings, plan: &mut Plan, directory: &str) -> Option<InnerPath> {
    let at = match facts.image.at(directory) {
        Found::Directory(at) | Found::EmptyDirectory(at) | Found::Nothing(at) | Found::OnServer(at) => at,
        Found::File(at) | Found::Other(at, _) => {
            plan.warn(format!("nothing is written to {directory}: {at} in the image is not a directory"));
            return None;
        }
        Found::Unreachable(why) => {
            plan.warn(format!("nothing is written to {directory}: {why}"));
            return None;
        }
    };
    if plan.covers(&at) {
        return Some(at);
    }
    match facts.mounts.holding(&at) {
        Some(mount) if mount.is_own_tmpfs() && mount.at != InnerPath::root() => Some(at),
        Some(mount) if mount.at == InnerPath::root() => {
            plan.leave(at, "it is in the image's root, where files would outlive the container");
            None
        }
        Some(mount) => {
            plan.leave(at, format!("it can't be proven that the mount at {} is this container's alone", mount.at));
            None
        }
        None => None,
    }
}

/// Plans to create something at `at`, which the container knows as `path`, unless something exists there already. If
/// `at` is on a new tmpfs, nothing does.
fn create_if_missing(
    facts: &Surroundings,
    plan: &mut Plan,
    (path, at): (&str, InnerPath),
    why: &str,
    action: impl FnOnce(InnerPath) -> Action,
) {
    match facts.image.at(path) {
        Found::Unreachable(why) if !plan.covers(&at) => plan.leave(at, why),
        found if plan.covers(&at) || matches!(found, Found::Nothing(_)) => {
            plan.step(Need::BestEffort, action(at), why);
        }
        _ => plan.leave(at, "it already exists"),
    }
}

/// Returns where `path`, which is below `base`, is if the image's symbolic links lead from `base` to `directory`.
fn moved(path: &str, base: &str, directory: &InnerPath) -> InnerPath {
    let path = InnerPath::new(path);
    path.below(&InnerPath::new(base)).map_or_else(|| path.clone(), |name| directory.join(name))
}
