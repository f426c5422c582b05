// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Privileges that the hook itself lacks, reported before anything is changed.

use caps::Capability;

use super::Refusal;
use crate::facts::{Owner, Surroundings};
use crate::plan::{Action, Content, Plan};

/// Checks all steps, so this must run after they are planned.
pub(super) fn plan(facts: &Surroundings, plan: &mut Plan) -> Result<(), Refusal> {
    if let (Some(Owner { uid, gid }), false) = (plan.owner, facts.rights.has(Capability::CAP_CHOWN)) {
        return Err(Refusal::MayNotChown { uid, gid });
    }
    copies(facts, plan);
    Ok(())
}

/// Warns of what copies of the image's content will lack. Whether this matters can only be determined while copying.
fn copies(facts: &Surroundings, plan: &mut Plan) {
    const EFFECTS: [(Capability, &str); 3] = [
        (Capability::CAP_CHOWN, "root becomes the owner of other users' files"),
        (Capability::CAP_DAC_OVERRIDE, "a file that only other users may read keeps the container from being created"),
        (Capability::CAP_FOWNER, "a file of another user keeps the container from being created"),
    ];
    let copied = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Tmpfs { at, content: Content::Copied { .. }, .. } => Some(at.to_string()),
        _ => None,
    });
    let copied = copied.collect::<Vec<_>>().join(", ");
    for (capability, effect) in EFFECTS {
        if !copied.is_empty() && !facts.rights.has(capability) {
            plan.warn(format!(
                "this process has no {capability}: when the image's content of {copied} is copied, {effect}"
            ));
        }
    }
}
