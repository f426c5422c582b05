// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls podman with storage, hooks and state that belong to the test, and with nothing of the machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Failed;

use crate::command::{Finished, Look, SHORT, run, until};
use crate::container::message;
use crate::engines::hooks::{self, PRECREATE, Stages, USUAL};
use crate::engines::host::{EngineHost, Wanted};
use crate::engines::image::{IMAGE, SUITE, planted};
use crate::engines::user::User;
use crate::engines::{CRUN, stand_in};
use crate::host::Host;
use crate::podman::store::Store;
use crate::site::{Layout, Runtime, Site};

/// The time limit for a call. It is longer than `podman stop` waits before it kills.
const CALL: Duration = Duration::from_secs(60);

/// Version 2 may have no pids controller, and without CAP_SYS_RESOURCE no limit can be raised.
const CONFIG: &str = r#"
[containers]
log_driver = "k8s-file"
netns = "none"
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
"#;

/// The user and the runtime of podman, and the host's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub user: User,
    pub runtime: Runtime,
    pub layout: Layout,
}

/// The descriptors that podman finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooks {
    Installed,
    /// The descriptors that also call the hook at createContainer.
    OfAllStages,
    /// The installed descriptors and those for podman's precreate stage.
    WithPrecreate,
    None,
}

/// Returns a host for a user of podman, with a root file system as its tree.
pub fn new_host(site: &Site, user: User, layout: Layout, lower: PathBuf) -> Result<EngineHost, Failed> {
    EngineHost::new(site, Wanted { engine: "podman", user, layout, lower, files: &planted(), more: "" })
}

/// One podman installation on its own host.
#[derive(Debug)]
pub struct Engine {
    host: EngineHost,
    spot: Spot,
    image_store: String,
    before: Host,
}

impl Engine {
    pub fn new(site: &Site, store: &Store, spot: Spot) -> Result<Self, Failed> {
        Self::with_tree(site, store, spot, site.root(SUITE)?)
    }

    /// Does the same as [`Self::new`] with another root file system as the host's tree.
    pub fn with_tree(site: &Site, store: &Store, spot: Spot, lower: PathBuf) -> Result<Self, Failed> {
        let image_store = store.of(spot.user, site)?.display().to_string();
        let host = new_host(site, spot.user, spot.layout, lower)?;
        for (directory, descriptors, stages) in [
            ("hooks.d", &USUAL[..], Stages::WithoutCreateContainer),
            ("all-stages.d", &USUAL, Stages::All),
            ("precreate.d", &PRECREATE, Stages::All),
            ("no-hooks.d", &[], Stages::All),
        ] {
            hooks::install(&host.home().join(directory), descriptors, stages, site.hook())?;
        }
        fs::write(host.home().join("containers.conf"), CONFIG)?;
        stand_in(host.home(), "crun", CRUN)?;
        let before = look(&host)?;
        let mut engine = Self { host, spot, image_store, before };
        // The very first container creates directories and starts podman's own background process.
        let first = engine.making("run", &["--rm", IMAGE, "/bin/true"]);
        engine.call_with(Hooks::None, &first)?.expect_success()?;
        engine.before = look(&engine.host)?;
        Ok(engine)
    }

    pub fn host(&self) -> &EngineHost {
        &self.host
    }

    pub fn spot(&self) -> Spot {
        self.spot
    }

    pub fn command(&self, hooks: Hooks, arguments: &[impl AsRef<str>]) -> Command {
        let mut command = self.program("podman");
        command.args(self.options(hooks)).args(arguments.iter().map(AsRef::as_ref));
        command
    }

    /// Returns a command for a program that finds podman's configuration.
    pub fn program(&self, name: &str) -> Command {
        let mut command = self.host.command(name);
        command.env("CONTAINERS_CONF", self.host.home().join("containers.conf")).env("TMPDIR", self.host.users_home());
        command
    }

    /// Returns the options for every call of podman.
    pub fn options(&self, hooks: Hooks) -> Vec<String> {
        let home = self.host.home();
        let users = self.host.users_home();
        let directories: &[&str] = match hooks {
            Hooks::Installed => &["hooks.d"],
            Hooks::OfAllStages => &["all-stages.d"],
            Hooks::WithPrecreate => &["hooks.d", "precreate.d"],
            Hooks::None => &["no-hooks.d"],
        };
        let of = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
        let mut options = vec![
            of("root", users.join("storage")),
            of("runroot", users.join("runroot")),
            of("tmpdir", users.join("tmpdir")),
            "--storage-driver=overlay".to_owned(),
            format!("--storage-opt=overlay.imagestore={}", self.image_store),
        ];
        options.extend(directories.iter().map(|name| of("hooks-dir", home.join(name))));
        options.push(match self.spot.runtime {
            Runtime::Runc => "--runtime=runc".to_owned(),
            Runtime::Crun => of("runtime", home.join("crun")),
        });
        options
    }

    pub fn call_with(&self, hooks: Hooks, arguments: &[impl AsRef<str>]) -> Result<Finished, Failed> {
        run(&mut self.command(hooks, arguments), CALL)
    }

    pub fn call(&self, arguments: &[&str]) -> Result<Finished, Failed> {
        self.call_with(Hooks::Installed, arguments)
    }

    /// Returns the output of a call, or fails if the call fails.
    pub fn ask(&self, arguments: &[&str]) -> Result<String, Failed> {
        Ok(self.call(arguments)?.expect_success()?.trim().to_owned())
    }

    /// Returns the arguments of `podman run` or `create`, with the options that the tests need: the existing limits
    /// of the machine, and a cgroup that only this test uses.
    pub fn making(&self, verb: &str, words: &[&str]) -> Vec<String> {
        let mut arguments = vec![verb.to_owned(), "--ulimit=host".to_owned()];
        if self.spot.user == User::Root {
            arguments.push(format!("--cgroup-parent=/{}", self.host.cgroup()));
        }
        arguments.extend(words.iter().map(|&word| word.to_owned()));
        arguments
    }

    /// Returns the cgroups of containers and everything below them. podman's own cgroups and the parents
    /// of the containers' remain.
    pub fn container_cgroups(&self) -> Vec<String> {
        self.host.cgroups().into_iter().filter(|path| path.contains("/libpod-")).collect()
    }

    /// Checks that no file of the hook, mount, cgroup or process of any container is left.
    pub fn host_is_as_before(&self) -> Result<(), Failed> {
        let left = || {
            let containers = self.ask(&["ps", "--all", "--quiet"])?;
            let difference = self.before.difference(&look(&self.host)?);
            let cgroups = self.container_cgroups();
            // A rootless podman leaves one process running.
            let mut processes = self.host.processes()?;
            processes.retain(|name| self.spot.user == User::Root || !PAUSE.contains(&name.as_str()));
            if containers.is_empty() && difference.is_empty() && cgroups.is_empty() && processes.is_empty() {
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

fn look(host: &EngineHost) -> Result<Host, Failed> {
    Host::look(&host.seen(Path::new("/")), &host.mountinfo()?)
}

/// The names of the process that keeps a rootless podman's namespaces alive.
const PAUSE: [&str; 2] = ["catatonit", "podman pause"];
