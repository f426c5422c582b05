// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows how to run a program on a host that a test needs: with other mounts, or with cgroups as a runtime wants them.
//! Each run has a mount namespace of its own, which goes with it.

use std::path::Path;
use std::process::Command;

use crate::harness::machine::{Runtime, missing_program, missing_root};

/// crun 1.8 refuses hosts that have controllers on version 1 and version 2 beside them: it gets version 1 alone.
pub fn first(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Runc => "",
        Runtime::Crun => "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi",
    }
}

/// A program that runs after shell commands, in a mount namespace of its own. It keeps the process's number.
pub fn after(script: &str, program: &Path) -> Command {
    let script = format!("set -e\n{script}\nexec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-c", &script, "sh"]).arg(program);
    command
}

/// The same for a command, with its arguments and its directory.
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

/// Why a runtime can't run here.
pub fn missing(runtime: Runtime) -> Option<String> {
    missing_root().or_else(|| missing_program(&[runtime.name()]))
}
