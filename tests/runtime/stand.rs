// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A bundle that real runtimes run. The runtimes are called with and without the wrapper, and everything that a
//! container leaves behind is removed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::command::{Finished, run, run_into, until};
use crate::harness::machine::{Runtime, where_is};
use crate::host;
use crate::room::Room;
use crate::site::Site;

/// The program that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The runtime itself.
    Bare,
    /// The wrapper, with an option that names the runtime.
    Wrapped,
}

#[derive(Debug)]
pub struct Stand {
    pub room: Room,
    runtime: Runtime,
    program: PathBuf,
    cgroup: String,
}

impl Stand {
    /// Creates a bundle whose command is the recorder, under systemd's path or another one.
    pub fn new(site: &Site, runtime: Runtime, args: &[&str]) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cgroup = format!("osh-runtime-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let room = Room::new(site)?;
        let root = room.path("bundle/rootfs");
        for folder in ["usr/lib/systemd", "usr/sbin", "proc", "dev"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for program in ["usr/lib/systemd/systemd", "init", "pause"] {
            fs::copy(site.recorder()?, root.join(program)).unwrap();
        }
        symlink("../lib/systemd/systemd", root.join("usr/sbin/init")).unwrap();
        symlink("usr/sbin", root.join("sbin")).unwrap();
        fs::create_dir(room.path("empty")).unwrap();
        let program = where_is(runtime.name()).ok_or("the runtime is gone")?;
        let stand = Self { room, runtime, program, cgroup };
        stand.room.write_config(&stand.config(args));
        Ok(stand)
    }

    pub fn config(&self, args: &[&str]) -> Value {
        let namespaces = ["mount", "pid", "ipc", "uts", "network"].map(|kind| json!({"type": kind}));
        json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "linux": {"cgroupsPath": format!("/{}", self.cgroup), "namespaces": namespaces},
        })
    }

    /// Returns a command for a line of arguments, in which `R` stands for the option with the
    /// stand's own state directory.
    pub fn call(&self, way: Way, line: &str) -> Command {
        let line = line.replace("R ", "--root @ROOM@/state ");
        let (folder, line) = match line.strip_prefix("in ").and_then(|rest| rest.split_once(": ")) {
            Some((folder, rest)) => (folder, rest),
            None => ("", line.as_str()),
        };
        let mut command = match way {
            Way::Bare => Command::new(&self.program),
            Way::Wrapped => {
                let mut command = self.room.bare_wrapper();
                command.arg("--runtime-path").arg(&self.program).arg("--hooks-dir").arg(self.room.path("first"));
                command
            }
        };
        command.current_dir(self.room.path(folder));
        command.args(line.split_whitespace().map(|word| self.room.filled_in(word)));
        match host::first(self.runtime) {
            "" => command,
            first => host::command_after(first, &command),
        }
    }

    pub fn run(&self, way: Way, line: &str) -> Result<Finished, String> {
        run(&mut self.call(way, line))
    }

    /// Does the same as [`Self::run`] for a call that starts a container, which continues to write its output.
    pub fn run_into_said(&self, way: Way, line: &str) -> Result<Finished, String> {
        run_into(&mut self.call(way, line), &self.room.path("said"))
    }

    pub fn said(&self) -> String {
        fs::read_to_string(self.room.path("said")).unwrap_or_default()
    }

    /// Waits until the container has stopped, since `kill` doesn't wait for that.
    pub fn until_stopped(&self) -> Result<(), String> {
        until("the container's end", || {
            let state = self.run(Way::Bare, "R state c")?.output;
            let state: Value = serde_json::from_str(&state).map_err(|error| format!("{error}: {state}"))?;
            if state["status"] == "stopped" { Ok(()) } else { Err(state.to_string()) }
        })
    }

    /// Removes the containers and the files that a run wrote.
    pub fn clear(&self) {
        for id in ["c", "d"] {
            // At worst, the container doesn't exist.
            let _ = self.run(Way::Bare, &format!("R delete --force {id}"));
        }
        for file in ["log", "pid", "said", "empty/config.json"] {
            // At worst, the file doesn't exist.
            let _ = fs::remove_file(self.room.path(file));
        }
    }

    /// Returns the container's remaining cgroups.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let top = PathBuf::from("/sys/fs/cgroup");
        let below = fs::read_dir(&top).into_iter().flatten().flatten().map(|entry| entry.path());
        below.chain([top.clone()]).map(|folder| folder.join(&self.cgroup)).filter(|path| path.exists()).collect()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.clear();
        for cgroup in self.cgroups() {
            // At worst, an empty cgroup remains, and the next inspection of the machine finds it.
            let _ = fs::remove_dir(cgroup);
        }
    }
}
