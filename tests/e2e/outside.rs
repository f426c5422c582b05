// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests what happens to containers that the hook doesn't or can't prepare.

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

/// Tests that systemd doesn't boot in the same container without the hook. Otherwise the other
/// tests would prove nothing.
pub fn missing_hook_warning(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    // systemd 247 doesn't detect the container by itself, and hangs where newer versions exit.
    let env = (cell.suite == Suite::Bullseye).then_some("container=oci");
    let config = Config { stages: Stages::None, env, ..Config::default() };
    systemd_gives_up(site, cell, &config)
}

/// Tests that systemd doesn't boot if the annotation disables the hook.
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
    // Both runtimes have already deleted the container that they ran, and both accept a second deletion.
    container.delete(&["--force"])?;
    container.host_is_as_before()?;
    upper::nobody_wrote(&container)
}

/// Tests crun 1.8 on hybrid hosts, which it refuses itself before it calls any hook.
pub fn refused_by_runtime(site: &Arc<Site>, cell: Cell, config: &Config) -> Result<(), Failed> {
    let container = Container::new(site, cell, config, &PROBE)?;
    is_refused(&container, &["hybrid"])?;
    upper::nobody_wrote(&container)
}

/// A script at the path of systemd's first process. Images with their own supervisors have one.
const OTHER_INIT: [Planted; 1] = [Planted::File("init", 0o755, "#!/bin/sh\nexec sleep infinity\n")];

/// Tests that a container whose /init is not systemd has the same mounts with and without the hook.
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
        // The cgroup path and the super options always differ between two containers.
        mount.root = mount.root.replace(&container.cgroup(), "/own");
        mount.super_options.clear();
    }
    Ok(seen)
}

/// A file in place of a directory on which the hook needs to mount a tmpfs.
const NO_DIRECTORY: [Planted; 1] = [Planted::File("run", 0o644, "not a directory\n")];

/// Checks that the runtime doesn't create the container and that one line of its output contains all of `words`.
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

/// Tests that a hook that can't do its work fails the container with one line and undoes what it has done.
pub fn failing_hook(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let container = Container::new(site, cell, &Config::default(), &NO_DIRECTORY)?;
    let line = format!("oci-systemd-hook: {}: ", &container.id()[..12]);
    is_refused(&container, &[&line, "/run"])?;
    upper::nobody_wrote(&container)
}

/// Tests a hook that fails or is killed halfway, with a tmpfs already on /run: the container
/// isn't started half prepared.
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

/// Tests a container with a bind mount of the host's cgroups, which many guides recommend. In a cgroup namespace
/// they have no path, and they must not become writable.
pub fn host_cgroups(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    for stages in [Stages::All, Stages::PrestartOnly] {
        let config = Config { host_cgroups: true, stages, ..Config::default() };
        let container = Container::new(site, cell, &config, &PROBE)?;
        is_refused(&container, &["the host's cgroups are mounted there"])?;
    }
    Ok(())
}

/// Tests that a container is left alone if config.json can't be read in its user namespace, because it may not
/// be a systemd container.
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

/// Tests a systemd container with an unreadable config.json if the hook isn't called at createRuntime, where it
/// could read the file. The journal says what to do.
pub fn unreadable_config(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { stages: Stages::CreateContainerOnly, users: Users::Own, closed: true, ..Config::default() };
    systemd_gives_up(site, cell, &config)
}

/// Symlinks that lead out of the root file system if they are followed by name, to files that exist on every test's
/// host and are compared after the test.
const LINKS_OUT: [Planted; 4] = [
    Planted::Link("run", "../../../../../../../../../../run"),
    Planted::Link("tmp", "/run/lock"),
    Planted::Link("etc/machine-id", "/tmp/mine"),
    Planted::Link("var/log/journal", "/tmp"),
];

/// Tests that the host keeps its files whether or not the container is created.
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
