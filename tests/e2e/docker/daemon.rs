// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Starts dockerd, and determines when it has read its configuration.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use libtest_mimic::Failed;

use crate::command::{Kept, Look, SHORT, ended, run, until};
use crate::container::message;
use crate::docker::stock::{Kind, data_root};
use crate::engines::host::EngineHost;
use crate::engines::user;

/// The path of the configuration that users write.
pub const CONFIG: &str = "/etc/docker/daemon.json";
pub const PIDFILE: &str = "/run/docker.pid";
/// The log message after the configuration has been reloaded.
pub const RELOADED: &str = "Reloaded configuration";

/// A dockerd. It ends with its host. `child` is the process that waits for it.
#[derive(Debug)]
pub struct Daemon {
    child: Kept,
    log: PathBuf,
}

impl Daemon {
    /// Starts dockerd without any additional runtimes.
    pub fn new(host: &EngineHost, kind: Kind) -> Result<Self, Failed> {
        let config = host.seen(Path::new(CONFIG));
        if let Some(folder) = config.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&config, "{}")?;
        let log = host.home().join("dockerd");
        let said = File::create(&log)?;
        let mut command = host.command("dockerd");
        command.args(arguments(host, kind));
        let child = Kept(command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).spawn()?);
        let mut daemon = Self { child, log };
        let mut ping = host.command("docker");
        ping.args(["version", "--format", "{{.Server.Version}}"]);
        until("an answer of dockerd", SHORT, || match (run(&mut ping, SHORT), daemon.child.0.try_wait()) {
            (Ok(told), _) if told.status.success() => Look::Done(()),
            (_, Ok(Some(status))) => Look::Never(format!("dockerd: {status}: {}", daemon.said())),
            (Ok(told), _) => Look::NotYet(told.told()),
            (Err(failed), _) => Look::Never(message(&failed)),
        })?;
        Ok(daemon)
    }

    /// The path of dockerd's log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends dockerd in an orderly way, so that it writes everything to disk.
    pub fn end(mut self, host: &EngineHost) -> Result<(), Failed> {
        signal(host, "TERM")?;
        ended(&mut self.child.0, "dockerd", SHORT).map(drop)
    }

    /// Makes dockerd reload its configuration.
    pub fn reload(&self, host: &EngineHost) -> Result<(), Failed> {
        let count = || self.said().matches(RELOADED).count();
        let before = count();
        signal(host, "HUP")?;
        until("a reloaded dockerd", SHORT, || if count() > before { Look::Done(()) } else { Look::NotYet(self.said()) })
    }
}

fn signal(host: &EngineHost, name: &str) -> Result<(), Failed> {
    let mut kill = host.command("sh");
    kill.args(["-c", &format!("kill -{name} $(cat {PIDFILE})")]);
    run(&mut kill, SHORT)?.expect_success().map(drop)
}

/// Returns the options that dockerd needs and that don't belong in the users' configuration. Network and firewall
/// are those of the machine.
fn arguments(host: &EngineHost, kind: Kind) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["--bridge=none", "--iptables=false", "--ip-forward=false"].map(str::to_owned).into();
    arguments.extend([
        "--storage-driver=overlay2".to_owned(),
        format!("--data-root={}", data_root(host).display()),
        format!("--pidfile={PIDFILE}"),
        format!("--cgroup-parent=/{}", host.cgroup()),
    ]);
    if kind == Kind::Remapped {
        arguments.push(format!("--userns-remap={}", user::NAME));
    }
    arguments
}
