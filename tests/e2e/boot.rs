// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks a container in which systemd works, from its boot to its end. These checks cover what
//! the hook exists for.

use std::sync::Arc;

use libtest_mimic::Failed;

use crate::cgroup;
use crate::command::{Look, SHORT, until};
use crate::config::Config;
use crate::container::{Cell, Container, Planted, message};
use crate::inside::Inside;
use crate::mounts;
use crate::shutdown::{self, JOURNAL};
use crate::site::{Layout, Runtime, Site};
use crate::upper;

/// A service as a user would configure it.
pub const PROBE: [Planted; 2] = [
    Planted::File(
        "etc/systemd/system/probe.service",
        0o644,
        "[Unit]\nDescription=The probe\n[Service]\nExecStart=/bin/sleep infinity\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
    Planted::Link("etc/systemd/system/multi-user.target.wants/probe.service", "/etc/systemd/system/probe.service"),
];

/// Tests a container from its boot to its end with all checks.
pub fn whole_life(site: &Arc<Site>, cell: Cell, config: Config, layout: Layout) -> Result<(), Failed> {
    let cgroupns = config.cgroupns;
    let config = Config { binds: vec![JOURNAL], ..config };
    let container = Container::new(site, cell, &config, &PROBE)?;
    container.explain(|container| {
        container.start()?;
        has_come_up(container)?;
        has_what_systemd_needs(container)?;
        run_is_shared(container, cell.runtime)?;
        cgroup::is_its_own(container, cgroupns, layout)?;
        notices_a_killed_service(container)?;
        survives_reexec(container)?;
        ends_in_order(container)?;
        container.delete(&[])
    })?;
    shutdown::is_in_the_journal(&container)?;
    shutdown::warns_of_no_old_cgroups("the console", &container.said())?;
    container.host_is_as_before()?;
    upper::only_systemd_wrote(&container, &[])
}

/// Stops the container in the way that engines do.
pub fn ends_in_order(container: &Container) -> Result<(), Failed> {
    // The number of SIGRTMIN+3 in glibc, which both runtimes accept.
    container.kill("37")?;
    container.until_stopped()
}

/// Waits until all units are up and the job queue is empty.
pub fn has_come_up(container: &impl Inside) -> Result<(), Failed> {
    container.until_running()?;
    until("an empty job queue", SHORT, || {
        match container.ask(&["systemctl", "list-jobs", "--no-legend", "--no-pager"]) {
            Ok(jobs) if jobs.trim().is_empty() || jobs.contains("No jobs running") => Look::Done(()),
            Ok(jobs) => Look::NotYet(jobs),
            Err(failed) => Look::Never(message(&failed)),
        }
    })?;
    let failed = container.ask(&["systemctl", "list-units", "--state=failed", "--no-legend", "--no-pager"])?;
    same("failed units", failed.trim(), "")
}

pub fn same(what: &str, found: &str, expected: &str) -> Result<(), Failed> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}").into()) }
}

/// The mount points that need a tmpfs, and their modes. systemd-tmpfiles changes the mode of /run/lock, to a value
/// that depends on the release.
const POINTS: [(&str, Option<&str>); 3] = [("/run", Some("755")), ("/run/lock", None), ("/tmp", Some("1777"))];

/// Checks the mounts and files that systemd's Container Interface requires.
pub fn has_what_systemd_needs(container: &impl Inside) -> Result<(), Failed> {
    has_what_systemd_needs_beside(container, &[])
}

/// Does the same as [`has_what_systemd_needs`] for a container in which the engine or its user has already mounted
/// some of them, with other modes.
pub fn has_what_systemd_needs_beside(container: &impl Inside, mounted: &[&str]) -> Result<(), Failed> {
    is_known_to_systemd(container)?;
    has_its_mounts(container, mounted)
}

/// Checks the files that identify the container to systemd: machine ID, container manager and container UUID.
pub fn is_known_to_systemd(container: &impl Inside) -> Result<(), Failed> {
    let id = container.ask(&["cat", "/etc/machine-id"])?;
    same("machine-id", &id, &format!("{}\n", &container.id()[..32]))?;
    let manager = container.ask(&["cat", "/run/host/container-manager"])?;
    same("container-manager", manager.trim(), container.manager()?)?;
    let uuid = container.ask(&["cat", "/run/host/container-uuid"])?;
    same("container-uuid", uuid.trim(), &spaced(&uuid, container.id()))
}

fn has_its_mounts(container: &impl Inside, mounted: &[&str]) -> Result<(), Failed> {
    let seen = container.mounts()?;
    for (point, mode) in POINTS {
        let mount = mounts::at(&seen, point).ok_or(format!("no mount on {point}"))?;
        same(&format!("{point}'s file system"), &mount.kind, "tmpfs")?;
        if mount.has("ro") {
            return Err(format!("{point} is read-only: {mount:?}").into());
        }
        if point != "/run/lock" && mount.has("noexec") {
            return Err(format!("{point} is noexec: {mount:?}").into());
        }
        if let (Some(mode), false) = (mode, mounted.contains(&point)) {
            let found = container.ask(&["stat", "-c", "%a", point])?;
            same(&format!("mode of {point}"), found.trim(), mode)?;
        }
    }
    Ok(())
}

/// Checks that /run is a shared mount, through which services get their credentials. With crun it is private,
/// because crun makes every mount private after its hooks.
pub fn run_is_shared(container: &impl Inside, runtime: Runtime) -> Result<(), Failed> {
    let seen = container.mounts()?;
    let run = mounts::at(&seen, "/run").ok_or("no mount on /run")?;
    match (runtime, run.shared) {
        (Runtime::Runc, true) | (Runtime::Crun, false) => Ok(()),
        other => Err(format!("/run on (runtime, shared) {other:?}").into()),
    }
}

/// Returns the container's ID in the format that `found` has, with or without the dashes of a UUID.
fn spaced(found: &str, id: &str) -> String {
    if !found.contains('-') {
        return id[..32].to_owned();
    }
    [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..32]].join("-")
}

fn show(container: &impl Inside, property: &str) -> Result<String, Failed> {
    let option = format!("--property={property}");
    let told = container.ask(&["systemctl", "show", "--value", &option, "probe.service"])?;
    Ok(told.trim().to_owned())
}

pub fn notices_a_killed_service(container: &impl Inside) -> Result<(), Failed> {
    let pid = show(container, "MainPID")?;
    let status = container.ask(&["systemctl", "status", "--no-pager", "--full", "probe.service"])?;
    let in_tree = format!("{pid} /bin/sleep infinity");
    if !status.lines().any(|line| line.ends_with(&in_tree)) {
        return Err(format!("the status of the probe does not list {pid}:\n{status}").into());
    }
    container.ask(&["sh", "-c", &format!("kill -KILL {pid}")])?;
    until("the probe to be failed", SHORT, || match show(container, "ActiveState") {
        Ok(state) if state == "failed" => Look::Done(()),
        Ok(state) => Look::NotYet(state),
        Err(failed) => Look::Never(message(&failed)),
    })?;
    same("the probe's result", &show(container, "Result")?, "signal")?;
    container.ask(&["systemctl", "reset-failed"])?;
    container.ask(&["systemctl", "start", "probe.service"])?;
    Ok(())
}

pub fn survives_reexec(container: &impl Inside) -> Result<(), Failed> {
    container.exec(&["systemctl", "daemon-reexec"])?;
    container.until_running()?;
    let name = container.ask(&["cat", "/proc/1/comm"])?;
    same("the name of process 1", name.trim(), "systemd")?;
    same("the probe", &show(container, "ActiveState")?, "active")
}
