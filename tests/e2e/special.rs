// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows the ways to configure and to end a container that the matrix of boots leaves out.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use libtest_mimic::Failed;

use crate::boot::{PROBE, ends_in_order, has_come_up, has_what_systemd_needs, same};
use crate::config::{Config, Stages};
use crate::container::{Cell, Container, Planted};
use crate::mounts::{self, Mount};
use crate::site::Site;
use crate::upper;

/// A shorter life than the matrix has: comes up, has all, ends.
fn life(container: &Container) -> Result<(), Failed> {
    container.explain(|container| {
        container.start()?;
        has_come_up(container)?;
        // The image has the directory, and nothing of the user's is mounted there.
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

/// Plain runc and Docker configured the old hook for this stage alone.
pub fn prestart_only(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { stages: Stages::PrestartOnly, ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    life(&container)?;
    upper::only_systemd_wrote(&container, &[])
}

/// An image's own entry point that ends in systemd.
const ENTRY: Planted = Planted::File("entry.sh", 0o755, "#!/bin/sh\nexec /sbin/init\n");

pub fn enabled(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { args: vec!["/bin/sh", "/entry.sh"], annotation: Some("enabled"), ..Config::default() };
    let container = Container::new(site, cell, &config, &[ENTRY])?;
    life(&container)?;
    upper::only_systemd_wrote(&container, &[])
}

/// As `--read-only --tmpfs /var` has it.
pub fn read_only_root(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { readonly: true, tmpfs: vec!["/var"], ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    life(&container)?;
    upper::nobody_wrote(&container)
}

/// A second run finds its work done.
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

/// An image that would run systemd's first boot, which fails without `CAP_SYS_ADMIN`.
pub fn uninitialized(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let file = Planted::File("etc/machine-id", 0o444, "uninitialized\n");
    let container = Container::new(site, cell, &Config::default(), &[file])?;
    life(&container)?;
    upper::only_systemd_wrote(&container, &[])
}

/// Only here may the hook write to the root: a mount needs a file to lie on.
pub fn no_machine_id(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let file = Planted::Gone("etc/machine-id");
    let container = Container::new(site, cell, &Config::default(), &[file])?;
    life(&container)?;
    upper::only_systemd_wrote(&container, &[])
}

/// What the config mounts below /run and /tmp stays in sight.
pub fn mounts_below_run(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { binds: vec![("secrets", "/run/secrets"), ("sockets", "/tmp/given")], ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    fs::write(container.home().join("secrets/token"), "hush\n")?;
    fs::write(container.home().join("sockets/socket"), "socket\n")?;
    container.explain(|container| {
        container.start()?;
        has_come_up(container)?;
        let token = container.ask(&["cat", "/run/secrets/token"])?;
        same("the secret", &token, "hush\n")?;
        let socket = container.ask(&["cat", "/tmp/given/socket"])?;
        same("the socket", &socket, "socket\n")?;
        has_what_systemd_needs(container)?;
        ends_in_order(container)?;
        container.delete(&[])
    })?;
    container.host_is_as_before()?;
    upper::only_systemd_wrote(&container, &["run/secrets", "tmp/given"])
}

/// A container that gets no time to end leaves nothing either.
pub fn killed(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let container = Container::new(site, cell, &Config::default(), &PROBE)?;
    container.explain(|container| {
        container.start()?;
        has_come_up(container)?;
        container.delete(&["--force"])
    })?;
    container.host_is_as_before()
}

/// Nothing of ours shows on the host where the bundle's mount passes mounts on.
pub fn shared_propagation(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { shared: true, ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    container.explain(|container| {
        container.start()?;
        has_come_up(container)?;
        has_what_systemd_needs(container)?;
        let rootfs = container.rootfs().display().to_string();
        let leaked: Vec<Mount> = mounts::parse(&container.holder().mountinfo()?)
            .into_iter()
            .filter(|mount| {
                mount
                    .point
                    .strip_prefix(&rootfs)
                    .is_some_and(|inner| ["/run", "/tmp", "/etc", "/var"].iter().any(|ours| inner.starts_with(ours)))
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

/// Containers that start, live and end at the same time don't get into each other's way.
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
