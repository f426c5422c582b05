// SPDX-License-Identifier: Apache-2.0 OR MIT
//! /run/host: what the container manager communicates to the container.
//! <https://systemd.io/CONTAINER_INTERFACE/#the-runhost-hierarchy>

use super::{create_if_missing, moved, tmpfs_directory};
use crate::facts::{Found, Surroundings};
use crate::interface::{CONTAINER_MANAGER, CONTAINER_UUID, HOST_OS_RELEASE, INACCESSIBLE, MACHINE_ID, RUN_HOST};
use crate::plan::{Action, Node, Plan};

const NODES: [Node; 6] = [Node::Reg, Node::Dir, Node::Fifo, Node::Sock, Node::Chr, Node::Blk];

pub(super) fn plan(facts: &Surroundings, plan: &mut Plan) {
    let Some(directory) = tmpfs_directory(facts, plan, RUN_HOST) else { return };
    // If the user mounted a machine ID, the hook's own doesn't apply.
    let is_users =
        matches!(facts.image.at(MACHINE_ID), Found::File(at) | Found::OnServer(at) if facts.mounts.at(&at).is_some());
    let uuid = if is_users { None } else { Some(format!("{}\n", facts.machine_id.hyphenated())) };
    let files = [
        (
            CONTAINER_MANAGER,
            Some(format!("{}\n", facts.container_manager)),
            "systemd detects the container by it if $container is not set",
        ),
        (CONTAINER_UUID, uuid, "programs in the container can read the machine ID from this file"),
        (HOST_OS_RELEASE, facts.host_os_release.clone(), "it is a copy of the host's os-release"),
    ];
    for (path, content, why) in files {
        let Some(content) = content else { continue };
        create_if_missing(facts, plan, (path, moved(path, RUN_HOST, &directory)), why, |at| Action::WriteFile {
            at,
            mode: 0o444,
            content,
        });
    }
    // Without the device nodes, systemd uses the socket instead.
    let may_make = |node: &Node| facts.rights.may_make_devices() || !matches!(node, Node::Chr | Node::Blk);
    let nodes = NODES.into_iter().filter(may_make).collect();
    let why = "systemd bind-mounts them over the paths that InaccessiblePaths= hides";
    create_if_missing(facts, plan, (INACCESSIBLE, moved(INACCESSIBLE, RUN_HOST, &directory)), why, |at| {
        Action::Inaccessible { at, nodes }
    });
}
