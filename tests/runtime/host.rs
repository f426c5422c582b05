// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows how to run a program on a host that a test needs: with other mounts, or with cgroups as a runtime wants them.
//! Each run has a mount namespace of its own, which goes with it.

use std::fmt;
use std::path::Path;
use std::process::Command;

/// A runtime that is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Runc,
    Crun,
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Runtime {
    pub const ALL: [Self; 2] = [Self::Runc, Self::Crun];

    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// crun 1.8 refuses hosts that have controllers on version 1 and version 2 beside them: it gets version 1 alone.
    pub fn first(self) -> &'static str {
        match self {
            Self::Runc => "",
            Self::Crun => "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi",
        }
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

/// Why nothing can be mounted here.
pub fn missing_root() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned())
}

/// Why a runtime can't run here.
pub fn missing(runtime: Runtime) -> Option<String> {
    missing_root().or_else(|| where_is(runtime.name()).is_none().then(|| format!("{runtime} is not installed")))
}

/// Where a program is on PATH.
pub fn where_is(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
