// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows what happens to containers that the hook does not, or can't, prepare.

use std::sync::Arc;

use libtest_mimic::Failed;

use crate::boot::PROBE;
use crate::command::{Look, SHORT, until};
use crate::config::{Config, Stages, Users};
use crate::container::{Cell, Container, Planted, message};
use crate::inside::Inside;
use crate::mounts::Mount;
use crate::site::{Site, Suite};
use crate::upper;

/// systemd does not come up in the same container if the hook is not there:
/// else the other tests would prove nothing.
pub fn without_hook(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    // 247 doesn't see by itself that it is in a container, and hangs where newer ones exit.
    let env = (cell.suite == Suite::Bullseye).then_some("container=oci");
    let config = Config { stages: Stages::None, env, ..Config::default() };
    systemd_gives_up(site, cell, &config)
}

/// Nor if the hook is there and the annotation says that it is to do nothing.
pub fn disabled(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { annotation: Some("disabled"), ..Config::default() };
    systemd_gives_up(site, cell, &config)
}

fn systemd_gives_up(site: &Arc<Site>, cell: Cell, config: &Config) -> Result<(), Failed> {
    let container = Container::new(site, cell, config, &PROBE)?;
    container.explain(|container| {
        let finished = container.run()?;
        if finished.status.code() == Some(255) {
            Ok(())
        } else {
            Err(format!("systemd should exit with 255: {}", finished.told()).into())
        }
    })?;
    // runc deletes what it ran; crun as well, and both bear a second deletion.
    container.delete(&["--force"])?;
    container.host_is_as_before()?;
    upper::nobody_wrote(&container)
}

/// crun 1.8 on hybrid hosts: it says so itself, before any hook.
pub fn refused_by_runtime(site: &Arc<Site>, cell: Cell, config: &Config) -> Result<(), Failed> {
    let container = Container::new(site, cell, config, &PROBE)?;
    is_refused(&container, &["hybrid"])?;
    upper::nobody_wrote(&container)
}

/// A script that is called as systemd's first process is; images with
/// supervisors of their own look like this.
const OTHER_INIT: [Planted; 1] = [Planted::File("init", 0o755, "#!/bin/sh\nexec sleep infinity\n")];

/// A container whose /init is not systemd has the same mounts as without the hook.
pub fn other_init(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let with = mounts_of_other_init(site, cell, Stages::All)?;
    let without = mounts_of_other_init(site, cell, Stages::None)?;
    if with == without { Ok(()) } else { Err(format!("mounts with the hook {with:#?}, without {without:#?}").into()) }
}

fn mounts_of_other_init(site: &Arc<Site>, cell: Cell, stages: Stages) -> Result<Vec<Mount>, Failed> {
    let config = Config { stages, args: vec!["/init"], ..Config::default() };
    let container = Container::new(site, cell, &config, &OTHER_INIT)?;
    let mut seen = Vec::new();
    container.explain(|container| {
        container.start()?;
        until("the container's own process", SHORT, || match container.ask(&["cat", "/proc/1/comm"]) {
            Ok(name) if name.trim() == "sleep" => Look::Done(()),
            Ok(name) => Look::NotYet(name),
            Err(failed) => Look::Never(message(&failed)),
        })?;
        seen = container.mounts()?;
        container.kill_and_delete()
    })?;
    container.host_is_as_before()?;
    upper::nobody_wrote(&container)?;
    for mount in &mut seen {
        // The rest that differs between two containers.
        mount.root = mount.root.replace(&container.cgroup(), "/own");
        mount.super_options.clear();
    }
    Ok(seen)
}

/// A file where a tmpfs has to go.
const NO_DIRECTORY: [Planted; 1] = [Planted::File("run", 0o644, "not a directory\n")];

/// The runtime creates no container, and a line of what was said has all of these words in it.
pub fn is_refused(container: &Container, words: &[&str]) -> Result<(), Failed> {
    container.explain(|container| {
        if container.create()?.status.success() {
            return Err("the container was created".into());
        }
        let said = container.said();
        if !said.lines().any(|line| words.iter().all(|word| line.contains(word))) {
            return Err(format!("no line with {words:?} in: {said}").into());
        }
        container.delete(&["--force"])
    })?;
    container.host_is_as_before()
}

/// A hook that can't do its work fails the container with one line, and undoes the rest.
pub fn failing_hook(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let container = Container::new(site, cell, &Config::default(), &NO_DIRECTORY)?;
    let line = format!("oci-systemd-hook: {}: ", &container.id()[..12]);
    is_refused(&container, &[&line, "/run"])?;
    upper::nobody_wrote(&container)
}

/// A hook that fails or is killed halfway, with a tmpfs on /run already: the container isn't started half prepared.
pub fn interrupted_hook(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    for (fault, said) in
        [("move_mount:error=ENOMEM:when=2", "move_mount() = ENOMEM"), ("move_mount:signal=KILL:when=2", "hook")]
    {
        let config = Config { fault: Some(fault), ..Config::default() };
        let container = Container::new(site, cell, &config, &PROBE)?;
        is_refused(&container, &[said])?;
        upper::nobody_wrote(&container)?;
    }
    Ok(())
}

/// Users bind the host's cgroups, as many guides say; in a cgroup namespace they have no path, and
/// must not become writable.
pub fn host_cgroups(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    for stages in [Stages::All, Stages::PrestartOnly] {
        let config = Config { host_cgroups: true, stages, ..Config::default() };
        let container = Container::new(site, cell, &config, &PROBE)?;
        is_refused(&container, &["the host's cgroups are mounted there"])?;
    }
    Ok(())
}

/// In a user namespace config.json may be out of sight, and the container anybody's: it is left alone.
pub fn unreadable_config_of_others(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let (stages, users) = (Stages::WithCreateContainer, Users::OwnWithoutImage);
    let config = Config { args: vec!["/init"], stages, users, closed: true, ..Config::default() };
    let container = Container::new(site, cell, &config, &OTHER_INIT)?;
    container.explain(|container| {
        container.start()?;
        container.kill_and_delete()
    })?;
    container.host_is_as_before()?;
    upper::nobody_wrote(&container)
}

/// systemd's own, where nobody calls the hook at createRuntime, which could read it: the journal says what to do.
pub fn unreadable_config(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { stages: Stages::CreateContainerOnly, users: Users::Own, closed: true, ..Config::default() };
    systemd_gives_up(site, cell, &config)
}

/// Links that lead out of a root for who follows them by name: to files that
/// every test's host has, and watches.
const LINKS_OUT: [Planted; 4] = [
    Planted::Link("run", "../../../../../../../../../../run"),
    Planted::Link("tmp", "/run/lock"),
    Planted::Link("etc/machine-id", "/tmp/mine"),
    Planted::Link("var/log/journal", "/tmp"),
];

/// Whatever becomes of the container, the host keeps its files.
pub fn links_that_lead_out(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let container = Container::new(site, cell, &Config::default(), &LINKS_OUT)?;
    container.explain(|container| {
        if container.create()?.status.success() {
            container.kill("KILL")?;
            container.until_stopped()?;
        }
        container.delete(&["--force"])
    })?;
    container.host_is_as_before()
}
