// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine ID, machine-id(5).
//!
//! The container always gets the ID that is derived from its engine's ID for it, by a mount over the file. An ID in
//! an image would be the same in all its containers, which breaks journals and DHCP, and is never one that somebody
//! chose for this container. A user chooses an ID by `container_uuid` or by mounting a file, and both are
//! respected. A mount leaves the image's own file unmodified, so a commit of the container contains no ID, and the
//! root need not be writable.

use crate::facts::{Found, Surroundings};
use crate::interface::{DBUS_MACHINE_ID, MACHINE_ID};
use crate::path::InnerPath;
use crate::plan::{Action, Need, Node, Plan};

pub(super) fn plan(facts: &Surroundings, plan: &mut Plan) {
    if let Some(bad) = &facts.bad_uuid {
        plan.warn(format!(
            "container_uuid={bad:?} in the environment is not a machine ID (32 hexadecimal digits, not all zero): the \
             machine ID is derived from the container's ID instead"
        ));
    }
    let found = facts.image.at(MACHINE_ID);
    match &found {
        // A path on a file server is on a mount of the user's, and is left alone below.
        Found::File(at) | Found::OnServer(at) => {
            mount_over(facts, plan, at, Need::Required, "the image's own ID is the same in all its containers");
        }
        Found::Nothing(at) => missing(facts, plan, at),
        Found::Directory(at) | Found::EmptyDirectory(at) => no_file(plan, at, "a directory"),
        Found::Other(at, kind) => no_file(plan, at, kind),
        Found::Unreachable(why) => no_file(plan, &InnerPath::new(MACHINE_ID), &format!("unreachable ({why})")),
    }
    // This is usually a symbolic link to the file above, and then there is nothing to do.
    let copy = facts.image.at(DBUS_MACHINE_ID);
    if let (Found::File(at), true) = (&copy, copy != found) {
        mount_over(facts, plan, at, Need::BestEffort, "libdbus reads this copy first");
    }
}

fn mount_over(facts: &Surroundings, plan: &mut Plan, at: &InnerPath, need: Need, why: &str) {
    if plan.covers(at) {
        return write(facts, plan, at);
    }
    match facts.mounts.holding(at) {
        Some(mount) if mount.at == *at => plan.leave(at.clone(), "a file is already mounted there"),
        Some(mount) if mount.at != InnerPath::root() => {
            plan.leave(at.clone(), format!("it is on the mount at {}, which config.json asks for", mount.at));
        }
        _ => {
            let context = facts.selinux.context().map(str::to_owned);
            plan.step(need, Action::MountFile { at: at.clone(), content: line(facts), context }, why);
        }
    }
}

fn missing(facts: &Surroundings, plan: &mut Plan, at: &InnerPath) {
    if plan.covers(at) {
        return write(facts, plan, at);
    }
    if facts.mounts.holding(at).is_some_and(|mount| mount.at != InnerPath::root()) {
        return plan.leave(
            at.clone(),
            "it would be on a mount that config.json asks for, where systemd creates a machine ID itself",
        );
    }
    plan.step(
        Need::Required,
        Action::MountPoint { at: at.clone(), node: Node::Reg },
        "the image has no file there to mount on",
    );
    mount_over(facts, plan, at, Need::Required, "without a machine ID, systemd can't boot on a read-only /etc");
}

fn write(facts: &Surroundings, plan: &mut Plan, at: &InnerPath) {
    let action = Action::WriteFile { at: at.clone(), mode: 0o444, content: line(facts) };
    plan.step(Need::Required, action, "/etc/machine-id leads to this file");
}

fn no_file(plan: &mut Plan, at: &InnerPath, kind: &str) {
    plan.warn(format!(
        "cannot set the machine ID: {at} in the image is {kind}, but systemd needs a file; fix the image"
    ));
}

fn line(facts: &Surroundings) -> String {
    format!("{}\n", facts.machine_id)
}
