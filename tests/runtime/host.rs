// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs a program on a host that is set up for a test: with different mounts, or with cgroups as a runtime requires
//! them. Each run has a private mount namespace, which ends with it.

use std::path::Path;
use std::process::Command;

use crate::harness::machine::{Runtime, missing_program, missing_root};

/// Returns the shell commands that a runtime needs first. crun 1.8 fails on hosts with v1 controllers and v2 beside
/// them, so v2 is unmounted for it.
pub fn first(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Runc => "",
        Runtime::Crun => "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi",
    }
}

/// Returns a command that runs shell commands and then a program with the same PID, in a private mount namespace.
pub fn after(script: &str, program: &Path) -> Command {
    let script = format!("set -e\n{script}\nexec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-c", &script, "sh"]).arg(program);
    command
}

/// Returns a command as [`after`] does, with the arguments, the directory and the environment of `command`.
pub fn command_after(script: &str, command: &Command) -> Command {
    let mut wrapped = after(script, Path::new(command.get_program()));
    wrapped.args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        wrapped.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// Returns the reason why a runtime can't run here, if there is one.
pub fn missing(runtime: Runtime) -> Option<String> {
    missing_root().or_else(|| missing_program(&[runtime.name()]))
}
