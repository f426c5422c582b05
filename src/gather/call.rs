// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which stage this process is called for, as the state tells it.

use super::stage;
use crate::facts::{Call, Stage};
use crate::oci::state::{State, Status};
use crate::sys::process;

/// What this process is called for, where no argument says so.
///
/// A descriptor has one list of arguments for all its stages. createContainer is told from
/// createRuntime by the pid, which runtimes fill in differently: at createContainer runc writes the
/// pid in the container's own pid namespace, which is that of this process's parent; crun and youki
/// write none. Without a pid namespace it is the same number in both stages, and then the mount
/// namespaces tell: they are one at createContainer.
///
/// This is a guess that proves nothing; [`stage`] has the proof.
#[must_use]
pub fn call(state: &State) -> Call {
    match state.status {
        Status::Stopped => Call::CleanUp,
        Status::NotStarted | Status::Running if is_in_container(state) => Call::Create(Stage::CreateContainer),
        Status::NotStarted | Status::Running => Call::Create(Stage::CreateRuntime),
    }
}

fn is_in_container(state: &State) -> bool {
    // Pid 1 of the runtime's namespace is never a container's: there it is the host's init.
    let Some(pid) = state.pid.filter(|pid| *pid > 1) else { return true };
    if process::parent() == Some(pid) {
        return true;
    }
    // Hooks in a user namespace, or of an unprivileged runtime, may not look at the namespaces of even the container's
    // first process.
    process::shares_mount_namespace(pid).unwrap_or_else(|_| stage::is_ancestor(pid))
}
