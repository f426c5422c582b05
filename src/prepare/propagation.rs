// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mount propagation: the hook's mounts must not appear outside the container, and mounts on /run must appear
//! in the container's services.

use crate::facts::{Found, Propagation, Surroundings};
use crate::interface::RUN;
use crate::plan::{Action, Need, Plan, Step};

/// Checks the mounts of all steps, so this must run after they are planned.
pub(super) fn plan(facts: &Surroundings, plan: &mut Plan) {
    keep_inside(facts, plan);
    share_run(facts, plan);
}

/// What is mounted on a mount in one of the host's peer groups also appears on the host, mount_namespaces(7). As a
/// slave, the mount still receives what the host mounts.
fn keep_inside(facts: &Surroundings, plan: &mut Plan) {
    let mut done = Vec::new();
    let steps = std::mem::take(&mut plan.steps);
    for step in steps {
        if let Some((at, holder)) = step.action.mounts_at().and_then(|at| Some((at, facts.mounts.holding(at)?))) {
            if holder.shared && !plan.covers(at) && !done.contains(&holder.at) {
                plan.steps.push(Step {
                    action: Action::MakeSlave { at: holder.at.clone() },
                    on: Vec::new(),
                    need: step.need,
                    why: "it is shared with the host, where the hook's mounts must not appear".to_owned(),
                });
                done.push(holder.at.clone());
            }
        }
        plan.steps.push(step);
    }
}

/// Service credentials and private mounts propagate from /run to the services' own mount namespaces, see
/// <https://github.com/systemd/systemd/issues/38103>.
fn share_run(facts: &Surroundings, plan: &mut Plan) {
    let (Found::Directory(at) | Found::EmptyDirectory(at) | Found::Nothing(at)) = facts.image.at(RUN) else {
        return;
    };
    let is_new = plan.covers(&at);
    let is_slave = |step: &Step| matches!(&step.action, Action::MakeSlave { at: mount } if *mount == at);
    let is_private = facts
        .mounts
        .at(&at)
        .is_some_and(|mount| mount.fs_type == "tmpfs" && (!mount.shared || plan.steps.iter().any(is_slave)));
    if !is_new && !is_private {
        return;
    }
    match facts.propagation {
        Propagation::Kept => {
            let why = "services get their credentials through it (systemd issue 38103)";
            plan.step(Need::BestEffort, Action::MakeShared { at }, why);
        }
        Propagation::Lost => plan.remark(format!(
            "{at} will be a private mount, so services may not get their credentials: crun makes every mount private \
             after its hooks; set linux.rootfsPropagation to \"private\" in config.json to keep it shared"
        )),
    }
}
