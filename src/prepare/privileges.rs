// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What systemd and its services will lack in the container, as far as config.json shows. The plan gets a warning for
//! what makes a unit of the image fail, and a remark for everything else.

use crate::facts::Surroundings;
use crate::interface::capabilities::NEEDED;
use crate::interface::{FIRST_ORDINARY_ID, STATE, STOP_SIGNALS};
use crate::path::InnerPath;
use crate::plan::Plan;

pub(super) fn plan(facts: &Surroundings, plan: &mut Plan) {
    capabilities(facts, plan);
    if facts.privileges.no_new_privileges {
        plan.remark("noNewPrivileges is set in config.json: sudo, su and crontab don't work for ordinary users");
    }
    ids(facts, plan);
    read_only_root(facts, plan);
    stop_signal(facts, plan);
}

fn capabilities(facts: &Surroundings, plan: &mut Plan) {
    let privileges = &facts.privileges;
    for needed in &NEEDED {
        let Some(units) = privileges.missed.get(needed.capability) else { continue };
        // CAP_SETPCAP is for dropping capabilities, and the container has none.
        let is_idle = needed.capability == "CAP_SETPCAP" && privileges.capabilities.bounding.is_empty();
        if is_idle {
            continue;
        }
        let (capability, effect) = (needed.capability, needed.effect);
        if !units.is_empty() {
            let units = units.join(", ");
            let remedy = needed.remedy;
            plan.warn(format!("the container has no {capability}, so {units} will fail ({effect}); {remedy}"));
        } else if needed.since.is_none() {
            plan.remark(format!("the container has no {capability}: {effect}"));
        }
    }
}

fn ids(facts: &Surroundings, plan: &mut Plan) {
    let [user, group] = facts.privileges.unmapped;
    let Some(first) = user.into_iter().chain(group).min() else { return };
    if first < FIRST_ORDINARY_ID {
        plan.warn(format!(
            "the container's user namespace has no ID {first}: dbus.service and all services that run as other users \
             fail; map 65536 IDs"
        ));
    } else {
        plan.remark(format!(
            "the container's user namespace has no ID {first}: services with User=nobody (65534) or DynamicUser= \
             (61184 to 65519) fail"
        ));
    }
}

fn read_only_root(facts: &Surroundings, plan: &mut Plan) {
    let units = &facts.privileges.state_units;
    if units.is_empty() {
        return;
    }
    let state = InnerPath::new(STATE);
    let on = facts.mounts.holding(&state).filter(|mount| mount.at != InnerPath::root());
    if on.is_none_or(|mount| mount.read_only) {
        plan.warn(format!(
            "the container's root is read-only, and {state} isn't on a writable mount, so {} will fail; mount a \
             volume or a tmpfs on /var (--tmpfs /var)",
            units.join(", ")
        ));
    }
}

fn stop_signal(facts: &Surroundings, plan: &mut Plan) {
    let Some(signal) = facts.privileges.stop_signal.as_deref() else { return };
    if !STOP_SIGNALS.contains(&signal) {
        plan.warn(format!(
            "the engine will stop this container with the signal {signal:?}, and kill it if that doesn't end it: \
             systemd shuts down on SIGRTMIN+3 (37); set that with --stop-signal, or with STOPSIGNAL in the image"
        ));
    }
}
