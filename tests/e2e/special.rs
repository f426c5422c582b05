// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests the ways to configure and to end a container that the matrix of boots doesn't cover.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use libtest_mimic::Failed;

use crate::boot::{PROBE, ends_in_order, has_come_up, has_what_systemd_needs, is_known_to_systemd, same};
use crate::command::{Look, SHORT, until};
use crate::config::{CAPABILITIES, CgroupNs, Config, Stages, Users};
use crate::container::{Cell, Container, Planted, message};
use crate::inside::Inside;
use crate::mounts::{self, Mount};
use crate::outside;
use crate::site::{Layout, Site};
use crate::upper;

/// Tests a container from its boot to its end with fewer checks than the matrix.
fn life(container: &Container) -> Result<(), Failed> {
    container.explain(|container| {
        container.start()?;
        has_come_up(container)?;
        // The image has the directory, and the user has mounted nothing on it.
        let seen = container.mounts()?;
        if mounts::at(&seen, "/var").is_none() {
            let journal = mounts::at(&seen, "/var/log/journal").ok_or("no mount for the journal")?;
            same("the journal's file system", &journal.kind, "tmpfs")?;
        }
        has_what_systemd_needs(container)?;
        ends_in_order(container)?;
        container.delete(&[])
    })?;
    container.host_is_as_before()
}

/// Tests the configuration of the old hook, which plain runc and Docker called only at this stage.
pub fn prestart_only(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { stages: Stages::PrestartOnly, ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    life(&container)?;
    upper::only_systemd_wrote(&container, &[])
}

/// Tests that if config.json also calls the hook at createContainer, that call does the work. Mount points that the
/// image lacks are created at createRuntime, before crun makes the root read-only.
pub fn create_container_too(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let stages = Stages::WithCreateContainer;
    let container = Container::new(site, cell, &Config { stages, ..Config::default() }, &PROBE)?;
    life(&container)?;
    upper::only_systemd_wrote(&container, &[])?;
    let config = Config { stages, readonly: true, tmpfs: vec!["/var"], ..Config::default() };
    let container = Container::new(site, cell, &config, &[Planted::Gone("etc/machine-id")])?;
    life(&container)?;
    upper::nobody_wrote(&container)
}

/// Tests that the mounts of CRI-O's own systemd mode are kept and that the hook adds what they lack. Without the
/// hook, an image that needs a first boot ends up degraded.
pub fn cri_o(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let cgroupns = if cell.layout == Layout::Unified { CgroupNs::Private } else { CgroupNs::Host };
    let image = [Planted::File("etc/machine-id", 0o444, "uninitialized\n")];
    for stages in [Stages::None, Stages::All] {
        let config = Config { stages, cgroupns, cri_o: true, ..Config::default() };
        let container = Container::new(site, cell, &config, &image)?;
        container.explain(|container| {
            container.start()?;
            if stages == Stages::None {
                until_degraded(container)?;
                return container.kill_and_delete();
            }
            has_come_up(container)?;
            is_known_to_systemd(container)?;
            let seen = container.mounts()?;
            for point in ["/run", "/run/lock", "/tmp", "/var/log/journal"] {
                let count = seen.iter().filter(|mount| mount.point == point && mount.has("noexec")).count();
                same(&format!("CRI-O's mounts on {point}"), &count.to_string(), "1")?;
                let count = seen.iter().filter(|mount| mount.point == point).count();
                same(&format!("all mounts on {point}"), &count.to_string(), "1")?;
            }
            ends_in_order(container)?;
            container.delete(&[])
        })?;
        container.host_is_as_before()?;
    }
    Ok(())
}

fn until_degraded(container: &Container) -> Result<(), Failed> {
    until("the end of the boot", SHORT, || match container.exec(&["systemctl", "is-system-running"]) {
        Ok(told) if told.output.trim() == "degraded" => Look::Done(()),
        Ok(told) if told.output.trim() == "running" => Look::Never("running".to_owned()),
        Ok(told) => Look::NotYet(told.told()),
        Err(failed) => Look::Never(message(&failed)),
    })
}

/// Tests that it is enough to call the hook at createContainer.
pub fn create_container_only(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { stages: Stages::CreateContainerOnly, ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    life(&container)?;
    upper::only_systemd_wrote(&container, &[])
}

/// An image's own entry point that ends by executing systemd.
const ENTRY: Planted = Planted::File("entry.sh", 0o755, "#!/bin/sh\nexec /sbin/init\n");

pub fn enabled(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { args: vec!["/bin/sh", "/entry.sh"], annotation: Some("enabled"), ..Config::default() };
    let container = Container::new(site, cell, &config, &[ENTRY])?;
    life(&container)?;
    upper::only_systemd_wrote(&container, &[])
}

/// Tests a container as with `--read-only --tmpfs /var`.
pub fn read_only_root(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { readonly: true, tmpfs: vec!["/var"], ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    life(&container)?;
    upper::nobody_wrote(&container)
}

/// Tests that mount points that the image lacks are created before crun makes the root read-only.
pub fn read_only_root_without_machine_id(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { readonly: true, tmpfs: vec!["/var"], ..Config::default() };
    let container = Container::new(site, cell, &config, &[Planted::Gone("etc/machine-id")])?;
    life(&container)?;
    upper::nobody_wrote(&container)
}

/// Tests that createRuntime can read a file that createContainer can't.
pub fn unreadable_config(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    for stages in [Stages::All, Stages::WithCreateContainer] {
        let config = Config { stages, users: Users::Own, closed: true, ..Config::default() };
        let container = Container::new(site, cell, &config, &PROBE)?;
        life(&container)?;
        upper::only_systemd_wrote(&container, &[])?;
    }
    Ok(())
}

/// Tests that without createRuntime the annotation in the state and the root file system are enough if the runtime
/// delegates the cgroup to the container.
pub fn unreadable_config_enabled(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let (stages, users) = (Stages::CreateContainerOnly, Users::Own);
    let config = Config { stages, users, closed: true, annotation: Some("enabled"), ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    life(&container)?;
    upper::only_systemd_wrote(&container, &[])
}

/// Tests that exactly the units fail that the hook predicts will fail because of a missing capability.
pub fn missed_capability(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    for (capability, stages) in [("CAP_SETUID", Stages::All), ("CAP_SETGID", Stages::Twice)] {
        let config = Config { without: vec![capability], stages, ..Config::default() };
        let container = Container::new(site, cell, &config, &PROBE)?;
        container.explain(|container| {
            container.start()?;
            let warning = format!("the container has no {capability}, so dbus.service will fail");
            same("the hook's warning", &container.said().matches(&warning).count().to_string(), "1")?;
            until_degraded(container)?;
            let failed = container.ask(&["systemctl", "list-units", "--state=failed", "--no-legend", "--plain"])?;
            let mut failed: Vec<_> = failed.lines().filter_map(|line| line.split(' ').next()).collect();
            failed.retain(|unit| unit.ends_with(".service"));
            same("failed services", &failed.join(" "), "dbus.service")?;
            container.kill_and_delete()
        })?;
        container.host_is_as_before()?;
    }
    Ok(())
}

/// Tests that systemd and its own units need only these capabilities.
pub fn four_capabilities(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let needed = ["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"];
    let without = CAPABILITIES.into_iter().filter(|name| !needed.contains(name)).collect();
    let container = Container::new(site, cell, &Config { without, ..Config::default() }, &PROBE)?;
    life(&container)
}

/// Tests that a second call of the hook finds the work already done.
pub fn twice(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { stages: Stages::Twice, ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    container.explain(|container| {
        container.start()?;
        has_come_up(container)?;
        let seen = container.mounts()?;
        for point in ["/run", "/run/lock", "/tmp", "/var/log/journal", "/etc/machine-id"] {
            let count = seen.iter().filter(|mount| mount.point == point).count();
            same(&format!("mounts on {point}"), &count.to_string(), "1")?;
        }
        has_what_systemd_needs(container)?;
        ends_in_order(container)?;
        container.delete(&[])
    })?;
    container.host_is_as_before()
}

/// Tests an image that would run systemd's first boot, which fails without `CAP_SYS_ADMIN`.
pub fn uninitialized(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let file = Planted::File("etc/machine-id", 0o444, "uninitialized\n");
    let container = Container::new(site, cell, &Config::default(), &[file])?;
    life(&container)?;
    upper::only_systemd_wrote(&container, &[])
}

/// Tests the only case in which the hook may write to the root file system: the mount needs a file
/// as its mount point.
pub fn no_machine_id(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let file = Planted::Gone("etc/machine-id");
    let container = Container::new(site, cell, &Config::default(), &[file])?;
    life(&container)?;
    upper::only_systemd_wrote(&container, &[])
}

/// Tests that mounts of config.json below /run and /tmp stay visible.
pub fn mounts_below_run(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { binds: vec![("secrets", "/run/secrets"), ("sockets", "/tmp/given")], ..Config::default() };
    let image = [&PROBE[..], &[Planted::File("run/given/by-the-image", 0o640, "kept\n")]].concat();
    let container = Container::new(site, cell, &config, &image)?;
    fs::write(container.home().join("secrets/token"), "hush\n")?;
    fs::write(container.home().join("sockets/socket"), "socket\n")?;
    container.explain(|container| {
        container.start()?;
        has_come_up(container)?;
        let token = container.ask(&["cat", "/run/secrets/token"])?;
        same("the secret", &token, "hush\n")?;
        let kept = container.ask(&["cat", "/run/given/by-the-image"])?;
        same("what the image holds in /run", &kept, "kept\n")?;
        let socket = container.ask(&["cat", "/tmp/given/socket"])?;
        same("the socket", &socket, "socket\n")?;
        has_what_systemd_needs(container)?;
        ends_in_order(container)?;
        container.delete(&[])
    })?;
    container.host_is_as_before()?;
    upper::only_systemd_wrote(&container, &["run/secrets", "tmp/given"])
}

/// Tests that the size of a tmpfs is a share of the container's memory limit.
pub fn memory_limit(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { memory_limit_bytes: Some(512 << 20), ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    container.explain(|container| {
        container.start()?;
        has_come_up(container)?;
        let seen = container.mounts()?;
        // 20 %, 50 % and 10 % of 512 MiB in whole MiB, in the format of tmpfs.
        for (point, size) in [("/run", "size=104448k"), ("/tmp", "size=262144k"), ("/var/log/journal", "size=52224k")] {
            let mount = mounts::at(&seen, point).ok_or(format!("no mount on {point}"))?;
            if !mount.has_super(size) {
                return Err(format!("{point} should have {size}: {mount:?}").into());
            }
        }
        ends_in_order(container)?;
        container.delete(&[])
    })?;
    container.host_is_as_before()
}

/// Tests that the copy of the image's content is charged to the container, at createRuntime and at createContainer.
/// If the copy exceeds the container's limit, nothing is killed.
pub fn memory_of_copies(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    const MIB: usize = 1024 * 1024;
    let sleeper = Config { args: vec!["/bin/sleep", "infinity"], annotation: Some("enabled"), ..Config::default() };
    let large: &'static str = "x".repeat(30 * MIB).leak();
    let image = [Planted::File("tmp/large", 0o644, large), Planted::File("var/log/journal/large", 0o640, large)];
    for stages in [Stages::All, Stages::CreateContainerOnly] {
        for (limit_mib, copied, pays_mib) in [(512, true, 60..62), (64, true, 30..34), (32, false, 0..17)] {
            let memory_limit_bytes = Some(i64::try_from(limit_mib * MIB).map_or(0, i64::unsigned_abs));
            let config = Config { stages, memory_limit_bytes, ..sleeper.clone() };
            let container = Container::new(site, cell, &config, &image)?;
            container.explain(|container| {
                container.start()?;
                let what = format!("{stages:?}, {limit_mib} MiB");
                let is_there = container.exec(&["test", "-e", "/tmp/large"])?.status.success();
                same(&format!("{what}: whether it is copied"), &is_there.to_string(), &copied.to_string())?;
                let seen = |file: &str, name: &str| -> Result<usize, Failed> {
                    let text = container.ask(&["cat", &format!("/sys/fs/cgroup/memory/{file}")])?;
                    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
                    Ok(value.ok_or(format!("{what}: no {name} in {file}: {text}"))?)
                };
                let pays = seen("memory.stat", "shmem ")? / MIB;
                if !pays_mib.contains(&pays) {
                    return Err(
                        format!("{what}: the container is charged for {pays} MiB, expected {pays_mib:?}").into()
                    );
                }
                same(
                    &format!("{what}: how many were killed"),
                    &seen("memory.oom_control", "oom_kill ")?.to_string(),
                    "0",
                )?;
                container.kill_and_delete()
            })?;
            container.host_is_as_before()?;
        }
        let config = Config { stages, memory_limit_bytes: Some(32 << 20), ..sleeper.clone() };
        let container = Container::new(site, cell, &config, &[Planted::File("run/large", 0o644, large)])?;
        outside::is_refused(&container, &["cannot mount tmpfs on /run", "/run/large", "the image has more than"])?;
    }
    Ok(())
}

/// Tests that the files that the hook creates belong to the container's root, whichever ID that has on the host,
/// and so does its cgroup. At prestart the hook itself is in the host's user namespace.
pub fn user_namespace(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    // Without a machine ID in the image, the call on the host has to create the file and to record it; at prestart
    // alone nothing would remove it. Mounts of the runtime belong to its user namespace.
    for (stages, image, tmpfs) in [
        (Stages::All, &[Planted::Gone("etc/machine-id")][..], vec![]),
        (Stages::All, &[], vec![]),
        (Stages::All, &[], vec!["/run"]),
        (Stages::PrestartOnly, &[], vec![]),
    ] {
        let config = Config {
            stages,
            args: vec!["/bin/sleep", "infinity"],
            annotation: Some("enabled"),
            users: Users::OwnWithoutImage,
            tmpfs,
            ..Config::default()
        };
        let container = Container::new(site, cell, &config, image)?;
        container.explain(|container| {
            container.start()?;
            let paths = [
                "/run",
                "/run/lock",
                "/tmp",
                "/etc/machine-id",
                "/run/host",
                "/run/host/container-manager",
                "/run/host/inaccessible/sock",
                "/run/systemd/system/console-getty.service",
            ];
            let owners = container.ask(&[&["stat", "-c", "%u:%g"], &paths[..]].concat())?;
            if owners.lines().count() != paths.len() || owners.lines().any(|owner| owner != "0:0") {
                return Err(format!("{stages:?}: owners of {paths:?}: {owners}").into());
            }
            // systemd does this with each service.
            let own = cell.layout.hierarchy();
            let as_systemd =
                format!("mkdir {own}/probe && echo $$ >{own}/probe/cgroup.procs && grep probe /proc/self/cgroup");
            container.ask(&["sh", "-c", &as_systemd])?;
            container.ask(&["rmdir", &format!("{own}/probe")])?;
            container.kill_and_delete()
        })?;
        container.host_is_as_before()?;
        upper::nobody_wrote(&container)?;
    }
    Ok(())
}

/// Tests that a container that gets no time to shut down also leaves nothing behind.
pub fn killed(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let container = Container::new(site, cell, &Config::default(), &PROBE)?;
    container.explain(|container| {
        container.start()?;
        has_come_up(container)?;
        container.delete(&["--force"])
    })?;
    container.host_is_as_before()
}

/// Tests that no mounts of the hook appear on the host if the mount that contains the bundle is shared.
pub fn shared_propagation(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    for cgroupns in [CgroupNs::Private, CgroupNs::Host] {
        shows_nothing(site, cell, cgroupns)?;
    }
    Ok(())
}

fn shows_nothing(site: &Arc<Site>, cell: Cell, cgroupns: CgroupNs) -> Result<(), Failed> {
    let config = Config { shared: true, cgroupns, ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    container.explain(|container| {
        container.start()?;
        has_come_up(container)?;
        has_what_systemd_needs(container)?;
        let rootfs = container.rootfs().display().to_string();
        let leaked: Vec<Mount> = mounts::parse(&container.holder().mountinfo()?)
            .into_iter()
            .filter(|mount| {
                // The test's own mounts there are older than the container.
                let of_cgroup = mount.kind.starts_with("cgroup") && mount.root != "/";
                of_cgroup
                    || mount.point.strip_prefix(&rootfs).is_some_and(|inner| {
                        ["/run", "/tmp", "/etc", "/var"].iter().any(|ours| inner.starts_with(ours))
                    })
            })
            .collect();
        if !leaked.is_empty() {
            return Err(format!("the host sees {leaked:?}").into());
        }
        ends_in_order(container)?;
        container.delete(&[])
    })?;
    container.host_is_as_before()
}

/// Tests that containers that start, run and end at the same time don't interfere with each other.
pub fn eight_at_once(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let mut containers = Vec::new();
    for _ in 0..8 {
        containers.push(Container::new(site, cell, &Config::default(), &PROBE)?);
    }
    let every = |part: fn(&Container) -> Result<(), Failed>| {
        containers.iter().try_for_each(|container| container.explain(part))
    };
    every(Container::start)?;
    every(has_come_up)?;
    every(has_what_systemd_needs)?;
    let mut ids = BTreeSet::new();
    for container in &containers {
        ids.insert(container.ask(&["cat", "/etc/machine-id"])?);
    }
    if ids.len() != containers.len() {
        return Err(format!("machine ids are not distinct: {ids:?}").into());
    }
    every(|container| container.kill("37"))?;
    every(Container::until_stopped)?;
    every(|container| container.delete(&[]))?;
    every(Container::host_is_as_before)
}
