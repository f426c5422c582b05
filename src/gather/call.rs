// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Determines from the state for which stage this process is called.

use super::stage;
use crate::facts::{Call, Stage};
use crate::oci::state::{State, Status};
use crate::sys::process;

/// Determines what this process is called for, if no argument says so.
///
/// A hook descriptor has the same arguments for all its stages. createContainer is told apart from createRuntime by
/// the PID in the state, which runtimes fill in differently: at createContainer runc writes the PID in the
/// container's own PID namespace, which is that of this process's parent; crun and youki write none. Without a PID
/// namespace the number is the same in both stages, and then the mount namespaces are compared: at createContainer
/// they are the same.
///
/// The result is a guess that proves nothing; the proof is in [`stage`].
#[must_use]
pub fn call(state: &State) -> Call {
    match state.status {
        Status::Stopped => Call::CleanUp,
        Status::NotStarted | Status::Running if is_in_container(state) => Call::Create(Stage::CreateContainer),
        Status::NotStarted | Status::Running => Call::Create(Stage::CreateRuntime),
    }
}

fn is_in_container(state: &State) -> bool {
    // PID 1 of the runtime's namespace is never a container's first process: it is the host's init.
    let Some(pid) = state.pid.filter(|pid| *pid > 1) else { return true };
    if process::parent() == Some(pid) {
        return true;
    }
    // Hooks in a user namespace, or of an unprivileged runtime, may not see the namespaces of other processes, not
    // even those of the container's first process.
    process::shares_mount_namespace(pid).unwrap_or_else(|_| stage::is_ancestor(pid))
}
