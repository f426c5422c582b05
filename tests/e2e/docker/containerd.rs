// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests with containerd without Docker. containerd can't pass options to a runtime, so the wrapper reads
//! them from its file.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use libtest_mimic::Failed;
use serde_json::json;

use crate::boot::{has_come_up, has_what_systemd_needs_beside, same};
use crate::command::{Finished, Kept, Look, SHORT, run, until};
use crate::container::{message, random_id};
use crate::docker::engine::{Spot, below, look};
use crate::docker::guest::INIT;
use crate::docker::stock::Kind;
use crate::engines::hooks::{self, Stages, USUAL};
use crate::engines::host::EngineHost;
use crate::host::Host;
use crate::inside::Inside;
use crate::mounts::Mount;
use crate::site::Site;

/// The path of the wrapper's settings.
const SETTINGS: &str = "/etc/oci-hooks-runtime.json";

/// Without an image there is no default `PATH`, and version 2 may have no cpu controller. `ctr` mounts no cgroups,
/// but the wrapper adds the mount.
const USUAL_OPTIONS: [&str; 5] = [
    "--detach",
    "--null-io",
    "--cpu-shares=0",
    "--env",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
];

/// One containerd on its own host.
#[derive(Debug)]
struct Containerd {
    host: EngineHost,
    /// Ends with the host, which is dropped first.
    _child: Kept,
    before: Host,
}

impl Containerd {
    fn new(site: &Site, spot: Spot, stages: Stages) -> Result<Self, Failed> {
        let host = Kind::Usual.host(site, spot.layout)?;
        let hooks = host.home().join("hooks.d");
        hooks::install(&hooks, &USUAL, stages, site.hook())?;
        let settings = json!({ "runtimePath": below(&host, spot)?, "hooksDirs": [hooks] });
        fs::write(host.seen(Path::new(SETTINGS)), settings.to_string())?;
        let config = host.home().join("containerd.toml");
        let root = host.home().join("data");
        fs::write(
            &config,
            format!("version = 2\nroot = {root:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"),
        )?;
        let said = File::create(host.home().join("containerd"))?;
        let mut command = host.command("containerd");
        command.arg("--config").arg(config).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let child = Kept(command.spawn()?);
        let before = look(&host)?;
        let mut containerd = Self { host, _child: child, before };
        until("an answer of containerd", SHORT, || match containerd.ctr(&["version"]) {
            Ok(told) if told.status.success() => Look::Done(()),
            Ok(told) => Look::NotYet(told.told()),
            Err(failed) => Look::Never(message(&failed)),
        })?;
        // The very first container creates directories, and so does the first command in a container.
        let first = Task::run(&containerd, &below(&containerd.host, spot)?, &[], &["/bin/sleep", "infinity"])?;
        first.ask(&["true"])?;
        first.kill("SIGKILL")?;
        first.deleted(137)?;
        containerd.before = look(&containerd.host)?;
        Ok(containerd)
    }

    fn ctr(&self, arguments: &[&str]) -> Result<Finished, Failed> {
        run(self.host.command("ctr").args(arguments), SHORT)
    }

    fn host_is_as_before(&self) -> Result<(), Failed> {
        until("the host as it was before", SHORT, || match look(&self.host) {
            Ok(after) => match (self.before.difference(&after), self.host.cgroups()) {
                (same, none) if same.is_empty() && none.is_empty() => Look::Done(()),
                (difference, cgroups) => Look::NotYet(format!("cgroups: {cgroups:?}{difference}")),
            },
            Err(failed) => Look::NotYet(message(&failed)),
        })
    }
}

/// A container with its process, which containerd calls a task.
struct Task<'a> {
    containerd: &'a Containerd,
    id: String,
}

impl<'a> Task<'a> {
    fn run(containerd: &'a Containerd, runtime: &Path, options: &[&str], command: &[&str]) -> Result<Self, Failed> {
        let id = random_id()?;
        let cgroup = format!("/{}/{id}", containerd.host.cgroup());
        let (tree, runtime) = (containerd.host.tree().display().to_string(), runtime.display().to_string());
        let own = ["--cgroup", &cgroup, "--runc-binary", &runtime];
        let rest = ["--rootfs", &tree, &id];
        containerd.ctr(&[&["run"], &USUAL_OPTIONS[..], &own, options, &rest, command].concat())?.expect_success()?;
        Ok(Self { containerd, id })
    }

    /// Returns the PID and the status from the task's line in the list.
    fn listed(&self) -> Result<[String; 2], Failed> {
        let told = self.containerd.ctr(&["task", "list"])?.expect_success()?;
        let line = told.lines().find_map(|line| line.strip_prefix(&self.id)).ok_or("no such task")?;
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [pid, status] => Ok([pid.to_owned(), status.to_lowercase()]),
            _ => Err(format!("an unexpected list of tasks: {told}").into()),
        }
    }

    /// Sends a signal and waits for the task's end.
    fn kill(&self, signal: &str) -> Result<(), Failed> {
        self.containerd.ctr(&["task", "kill", "--signal", signal, &self.id])?.expect_success()?;
        self.until_stopped()
    }

    /// Deletes the task, which must have ended with this exit code.
    fn deleted(&self, code: i32) -> Result<(), Failed> {
        let told = self.containerd.ctr(&["task", "delete", &self.id])?;
        // `ctr` prints only exit codes other than 0.
        let found = told.errors.split_once("exit code ").map_or("0", |(_, rest)| rest);
        let found: String = found.chars().take_while(char::is_ascii_digit).collect();
        told.expect_success()?;
        same("the exit code", &found, &code.to_string())?;
        self.containerd.ctr(&["container", "delete", &self.id])?.expect_success().map(drop)
    }
}

impl Inside for Task<'_> {
    fn id(&self) -> &str {
        &self.id
    }

    fn manager(&self) -> Result<&'static str, Failed> {
        Ok("oci")
    }

    fn status(&self) -> Result<String, Failed> {
        let [_, status] = self.listed()?;
        Ok(status)
    }

    fn exec(&self, arguments: &[&str]) -> Result<Finished, Failed> {
        /// The number of attempts. ctr(8) of containerd 1.6 can end before it has printed the output
        /// of a short command.
        const TRIES: u32 = 3;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut tries = 0;
        loop {
            let name = format!("exec-{}", COUNT.fetch_add(1, Ordering::Relaxed));
            let finished =
                self.containerd.ctr(&[&["task", "exec", "--exec-id", &name, &self.id], arguments].concat())?;
            tries += 1;
            if !finished.status.success() || !finished.output.is_empty() || tries == TRIES {
                return Ok(finished);
            }
        }
    }

    fn mounts(&self) -> Result<Vec<Mount>, Failed> {
        let [pid, _] = self.listed()?;
        self.containerd.host.mounts_of(&pid)
    }

    fn said(&self) -> String {
        let log = fs::read_to_string(self.containerd.host.home().join("containerd")).unwrap_or_default();
        log.lines().filter(|line| !line.contains("level=info")).collect::<Vec<_>>().join("\n")
    }
}

/// Tests that a container boots with the wrapper and shuts down on the usual signal, and that it doesn't
/// boot without the wrapper.
pub fn whole(site: &Site, spot: Spot) -> Result<(), Failed> {
    with_stages(site, spot, Stages::WithoutCreateContainer)
}

/// Does the same as [`whole`] with descriptors that also call the hook at createContainer.
pub fn all_stages(site: &Site, spot: Spot) -> Result<(), Failed> {
    with_stages(site, spot, Stages::All)
}

fn with_stages(site: &Site, spot: Spot, stages: Stages) -> Result<(), Failed> {
    let containerd = Containerd::new(site, spot, stages)?;
    // systemd hangs instead of exiting if it doesn't detect that it is in a container.
    let told = ["--env", "container=oci"];
    let without = Task::run(&containerd, &below(&containerd.host, spot)?, &told, &INIT)?;
    without.explain(|task| {
        task.until_stopped()?;
        task.deleted(255)
    })?;
    let task = Task::run(&containerd, site.wrapper(), &[], &INIT)?;
    task.explain(|task| {
        has_come_up(task)?;
        // containerd itself mounts a tmpfs on /run.
        has_what_systemd_needs_beside(task, &["/run"])?;
        task.kill("SIGTERM")?;
        task.deleted(0)
    })?;
    containerd.host_is_as_before()
}
