// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs a separate dockerd for each test, on its own host, and calls it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::command::{Finished, Look, SHORT, run, until};
use crate::container::message;
use crate::docker::daemon::{CONFIG, Daemon};
use crate::docker::stock::{Kind, Store, data_root};
use crate::engines::hooks::{self, Stages, USUAL};
use crate::engines::host::EngineHost;
use crate::engines::image::IMAGE;
use crate::engines::{CRUN, stand_in};
use crate::host::Host;
use crate::site::{Layout, Runtime, Site};

/// The time limit for a call. It is longer than `docker stop` waits before it kills.
const CALL: Duration = Duration::from_secs(90);

/// The name that the README gives to the runtime with the hooks.
pub const WRAPPED: &str = "systemd";
/// The name of the runtime below the wrapper.
pub const PLAIN: &str = "plain";

/// The runtime that runs the containers, and the host's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub runtime: Runtime,
    pub layout: Layout,
}

/// One Docker installation on its own host.
#[derive(Debug)]
pub struct Engine {
    host: EngineHost,
    /// Ends with the host, which is dropped first.
    daemon: Daemon,
    spot: Spot,
    wrapper: PathBuf,
    before: Host,
    processes: Vec<String>,
}

impl Engine {
    pub fn new(site: &Site, store: &Store, kind: Kind, spot: Spot) -> Result<Self, Failed> {
        let data = store.of(kind, site)?;
        let host = kind.host(site, spot.layout)?;
        // Hard links are safe: layers are never written to, and Docker replaces changed files by renaming.
        let copy = ["--archive", "--link", &data.display().to_string(), &data_root(&host).display().to_string()];
        run(Command::new("cp").args(copy), SHORT)?.expect_success()?;
        hooks::install(&host.home().join("hooks.d"), &USUAL, Stages::WithoutCreateContainer, site.hook())?;
        let before = look(&host)?;
        let wrapper = site.wrapper().to_owned();
        let daemon = Daemon::new(&host, kind)?;
        let mut engine = Self { host, daemon, spot, wrapper, before, processes: Vec::new() };
        let below = engine.below()?;
        engine.add_runtime(PLAIN, &below, &[])?;
        if kind != Kind::Readers {
            engine.add_runtime(WRAPPED, &engine.wrapper, &engine.around(&below))?;
        }
        // The very first container creates directories.
        engine.ask(&["run", "--rm", "--runtime", PLAIN, IMAGE, "/bin/true"])?;
        engine.before = look(&engine.host)?;
        engine.processes = engine.host.processes()?;
        Ok(engine)
    }

    pub fn host(&self) -> &EngineHost {
        &self.host
    }

    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    pub fn wrapper(&self) -> &Path {
        &self.wrapper
    }

    pub fn hooks_directory(&self) -> PathBuf {
        self.host.home().join("hooks.d")
    }

    /// Returns the wrapper's options for a runtime below it.
    pub fn around(&self, runtime: &Path) -> Vec<String> {
        let of = |name: &str, value: &Path| format!("--{name}={}", value.display());
        vec![of("hooks-dir", &self.hooks_directory()), of("runtime-path", runtime)]
    }

    /// Writes a program to the test's directory and returns its path.
    pub fn script(&self, name: &str, text: &str) -> Result<PathBuf, Failed> {
        script(&self.host, name, text)
    }

    /// Returns the runtime that the wrapper calls.
    pub fn below(&self) -> Result<PathBuf, Failed> {
        below(&self.host, self.spot)
    }

    /// Adds a runtime to daemon.json in the way that users do. `path` is the program, and `arguments`
    /// are its first arguments.
    pub fn add_runtime(&self, name: &str, path: &Path, arguments: &[String]) -> Result<(), Failed> {
        let file = self.host.seen(Path::new(CONFIG));
        let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
        config["runtimes"][name] = json!({ "path": path, "runtimeArgs": arguments });
        fs::write(&file, config.to_string())?;
        self.daemon.reload(&self.host)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command("docker");
        command.args(arguments);
        command
    }

    pub fn call(&self, arguments: &[&str]) -> Result<Finished, Failed> {
        run(&mut self.command(arguments), CALL)
    }

    /// Returns the output of a call, or fails if the call fails.
    pub fn ask(&self, arguments: &[&str]) -> Result<String, Failed> {
        Ok(self.call(arguments)?.expect_success()?.trim().to_owned())
    }

    /// Checks that no file of the hook, mount, cgroup or process of any container is left.
    pub fn host_is_as_before(&self) -> Result<(), Failed> {
        let left = || {
            let containers = self.ask(&["ps", "--all", "--quiet"])?;
            let difference = self.before.difference(&look(&self.host)?);
            let cgroups = self.host.cgroups();
            let processes = self.host.processes()?;
            if containers.is_empty() && difference.is_empty() && cgroups.is_empty() && processes == self.processes {
                return Ok(None);
            }
            Ok::<_, Failed>(Some(format!(
                "containers: {containers:?}, cgroups: {cgroups:?}, processes: {processes:?}{difference}"
            )))
        };
        until("the host as it was before", SHORT, || match left() {
            Ok(None) => Look::Done(()),
            Ok(Some(left)) => Look::NotYet(left),
            Err(failed) => Look::NotYet(message(&failed)),
        })
    }
}

/// Returns the runtime without the wrapper.
pub fn below(host: &EngineHost, spot: Spot) -> Result<PathBuf, Failed> {
    match spot.runtime {
        Runtime::Runc => Ok(PathBuf::from("runc")),
        Runtime::Crun => script(host, "crun", CRUN),
    }
}

fn script(host: &EngineHost, name: &str, text: &str) -> Result<PathBuf, Failed> {
    stand_in(host.home(), name, text)?;
    Ok(host.home().join(name))
}

pub fn look(host: &EngineHost) -> Result<Host, Failed> {
    Host::look(&host.seen(Path::new("/")), &host.mountinfo()?)
}
