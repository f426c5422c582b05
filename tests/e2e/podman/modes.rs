// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests the ways to run systemd in a container of podman: with only the hook, in podman's own systemd mode
//! together with the hook, and with the annotation.

use libtest_mimic::Failed;

use crate::boot::{has_come_up, has_what_systemd_needs_beside, same};
use crate::engines::guest::twice;
use crate::engines::image::{BAKED_ID, ENTRY_POINT};
use crate::inside::Inside;
use crate::mounts;
use crate::podman::engine::{Engine, Hooks};
use crate::podman::guest::{Guest, PLAIN, lives_with, needs_the_hook};

const INIT: [&str; 1] = ["/sbin/init"];

pub fn hook_alone(engine: &Engine) -> Result<(), Failed> {
    needs_the_hook(engine, &PLAIN, &INIT)
}

/// Tests the descriptors that also call the hook at createContainer.
pub fn all_stages(engine: &Engine) -> Result<(), Failed> {
    lives_with(Hooks::OfAllStages, engine, &PLAIN, &INIT)
}

/// Tests that the hook adds what podman omits, and leaves alone what podman has done.
fn beside_own_mode(engine: &Engine, options: &[&str], command: &[&str]) -> Result<(), Failed> {
    let without = Guest::run(engine, Hooks::None, options, command)?;
    let mut podmans = Vec::new();
    without.explain(|guest| {
        guest.ask(&["grep", "-q", BAKED_ID, "/etc/machine-id"])?;
        let complete = guest.exec(&["test", "-e", "/run/host/os-release"])?.status.success();
        same("a complete /run/host without the hook", &complete.to_string(), "false")?;
        podmans = guest.mounts()?;
        guest.call(&["kill"])?;
        guest.until_stopped()?;
        guest.removed()
    })?;
    let guest = Guest::run(engine, Hooks::Installed, options, command)?;
    guest.explain(|guest| {
        has_come_up(guest)?;
        let seen = guest.mounts()?;
        // All mounts that podman created still exist and are not covered.
        for mount in podmans.iter().filter(|mount| mount.kind == "tmpfs") {
            let found = mounts::at(&seen, &mount.point).map(|found| (&found.kind, &found.options));
            if found != Some((&mount.kind, &mount.options)) {
                return Err(format!("{mount:?} is now {found:?}").into());
            }
        }
        same("what is mounted twice", &twice(&seen).join(", "), &twice(&podmans).join(", "))?;
        for name in ["container-manager", "container-uuid", "os-release", "inaccessible/sock"] {
            guest.ask(&["test", "-e", &format!("/run/host/{name}")])?;
        }
        guest.is_well_beside(&["/run", "/tmp"])?;
        guest.ends_in_order("0")?;
        guest.removed()
    })
}

pub fn own_mode(engine: &Engine) -> Result<(), Failed> {
    beside_own_mode(engine, &["--systemd=true"], &INIT)
}

/// Tests both podman's mode and the hook when they are enabled for any command.
pub fn always(engine: &Engine) -> Result<(), Failed> {
    beside_own_mode(engine, &["--systemd=always", "--annotation=oci-systemd-hook=enabled"], &[ENTRY_POINT])
}

/// Tests what only podman's precreate stage can do, at each start: even with crun, /run stays shared, and systemd
/// gets the variables that the hook can't set later.
pub fn precreate(engine: &Engine) -> Result<(), Failed> {
    let guest = Guest::run(engine, Hooks::WithPrecreate, &PLAIN, &INIT)?;
    guest.explain(|guest| {
        for _ in 0..2 {
            has_come_up(guest)?;
            has_what_systemd_needs_beside(guest, &[])?;
            let seen = guest.mounts()?;
            let is_shared = mounts::at(&seen, "/run").is_some_and(|run| run.shared);
            same("a shared /run", &is_shared.to_string(), "true")?;
            let environment = guest.ask(&["cat", "/proc/1/environ"])?;
            let uuid = format!("container_uuid={}", &guest.id()[..32]);
            let found: Vec<_> =
                environment.split('\0').filter(|variable| variable.starts_with("container_uuid=")).collect();
            same("container_uuid", &found.join(" "), &uuid)?;
            same("container_host_id", &environment.contains("container_host_id=").to_string(), "true")?;
            guest.call(&["restart", "--time=30"])?;
        }
        has_come_up(guest)?;
        guest.ends_in_order("0")?;
        guest.removed()
    })
}

pub fn enabled(engine: &Engine) -> Result<(), Failed> {
    let options = [&PLAIN[..], &["--annotation=oci-systemd-hook=enabled"]].concat();
    needs_the_hook(engine, &options, &[ENTRY_POINT])
}

/// Tests that the script's systemd doesn't boot if nothing requests the hook.
pub fn not_asked_for(engine: &Engine) -> Result<(), Failed> {
    Guest::run(engine, Hooks::Installed, &PLAIN, &[ENTRY_POINT])?.gives_up()
}

pub fn disabled(engine: &Engine) -> Result<(), Failed> {
    let options = [&PLAIN[..], &["--annotation=oci-systemd-hook=disabled"]].concat();
    Guest::run(engine, Hooks::Installed, &options, &INIT)?.gives_up()
}
