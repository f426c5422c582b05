// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests containers beyond a single life from boot to shutdown.

use std::collections::BTreeSet;

use libtest_mimic::Failed;

use crate::boot::{has_come_up, same};
use crate::command::{Look, SHORT, run_at_once, until};
use crate::container::message;
use crate::engines::image::{BAKED_ID, IMAGE};
use crate::inside::{BOOT, Inside};
use crate::mounts;
use crate::podman::engine::{Engine, Hooks};
use crate::podman::guest::{Guest, PLAIN};

const INIT: [&str; 1] = ["/sbin/init"];

fn run(engine: &Engine) -> Result<Guest<'_>, Failed> {
    Guest::run(engine, Hooks::Installed, &PLAIN, &INIT)
}

/// Tests that each restart works as well as the first start, with the same machine ID.
pub fn restarted(engine: &Engine) -> Result<(), Failed> {
    let guest = run(engine)?;
    guest.explain(|guest| guest.restarts(3))
}

/// Tests that an image that is created from a container has the machine ID of the container's
/// image, not the container's.
pub fn committed(engine: &Engine) -> Result<(), Failed> {
    const COMMITTED: &str = "localhost/committed";
    let first = run(engine)?;
    first.explain(|first| {
        first.is_well()?;
        first.ask(&["touch", "/var/lived"])?;
        engine.ask(&["commit", "--quiet", first.id(), COMMITTED])?;
        first.ends_in_order("0")?;
        first.removed()
    })?;
    let arguments = engine.making("run", &["--rm", COMMITTED, "cat", "/etc/machine-id"]);
    let id = engine.call_with(Hooks::None, &arguments)?.expect_success()?;
    same("the image's machine id", id.trim(), BAKED_ID)?;
    let second = Guest::run_image(engine, Hooks::Installed, &PLAIN, COMMITTED, &INIT)?;
    second.explain(|second| {
        second.is_well()?;
        second.ask(&["test", "-e", "/var/lived"])?;
        second.ends_in_order("0")?;
        second.removed()
    })?;
    engine.ask(&["rmi", COMMITTED]).map(drop)
}

/// Tests that an image without the mount point of the machine ID gets it for as long as a container runs.
pub fn without_machine_id(engine: &Engine) -> Result<(), Failed> {
    const LACKING: &str = "localhost/lacking";
    let arguments = engine.making("run", &["--name=lacking", IMAGE, "rm", "/etc/machine-id"]);
    engine.call_with(Hooks::None, &arguments)?.expect_success()?;
    engine.ask(&["commit", "--quiet", "lacking", LACKING])?;
    engine.ask(&["rm", "lacking"])?;
    let guest = Guest::run_image(engine, Hooks::Installed, &PLAIN, LACKING, &INIT)?;
    let changes_it = || -> Result<bool, Failed> {
        let changes = engine.ask(&["diff", guest.id()])?;
        Ok(changes.lines().any(|line| line.ends_with(" /etc/machine-id")))
    };
    guest.explain(|guest| {
        guest.is_well()?;
        same("a mount point in the container's root", &changes_it()?.to_string(), "true")?;
        guest.ends_in_order("0")?;
        // podman runs poststop when it notices the container's end.
        until("a root without the mount point", SHORT, || match changes_it() {
            Ok(false) => Look::Done(()),
            Ok(true) => Look::NotYet("it is there".to_owned()),
            Err(failed) => Look::Never(message(&failed)),
        })?;
        guest.removed()
    })?;
    engine.ask(&["rmi", LACKING]).map(drop)
}

/// Tests that containers on one storage that start, run and end at the same time don't interfere with each other.
pub fn ten_at_once(engine: &Engine) -> Result<(), Failed> {
    let words = [&["--detach"], &PLAIN[..], &[IMAGE, "/sbin/init"]].concat();
    let command = || engine.command(Hooks::Installed, &engine.making("run", &words));
    let told = run_at_once((0..10).map(|_| command()).collect(), BOOT)?;
    let guests = told.iter().map(|told| Guest::of(engine, Hooks::Installed, told)).collect::<Result<Vec<_>, _>>()?;
    let mut ids = BTreeSet::new();
    for guest in &guests {
        guest.explain(Guest::is_well)?;
        ids.insert(guest.ask(&["cat", "/etc/machine-id"])?);
    }
    same("different machine ids", &ids.len().to_string(), &guests.len().to_string())?;
    engine.ask(&["stop", "--all", "--time=30"])?;
    for guest in &guests {
        same("the exit code", &guest.inspect(".State.ExitCode")?, "0")?;
    }
    engine.ask(&["rm", "--all"]).map(drop)
}

/// Tests the removal of a container that the hook has prepared and whose systemd hasn't started, and of one
/// whose systemd is booting.
pub fn removed_early(engine: &Engine) -> Result<(), Failed> {
    let guest = Guest::create(engine, &PLAIN, &INIT)?;
    guest.call(&["init"])?;
    same("the state", &guest.status()?, "initialized")?;
    let seen = guest.mounts()?;
    let prepared = mounts::at(&seen, "/etc/machine-id").is_some();
    same("a prepared container", &prepared.to_string(), "true")?;
    guest.call(&["rm", "--force"])?;
    engine.host_is_as_before()?;
    run(engine)?.call(&["rm", "--force", "--time=0"])
}

/// Tests that a container that gets no time to shut down leaves nothing behind, and that it can be
/// started again as before.
pub fn killed(engine: &Engine) -> Result<(), Failed> {
    let guest = run(engine)?;
    guest.explain(|guest| {
        has_come_up(guest)?;
        guest.call(&["kill"])?;
        guest.until_stopped()?;
        same("the exit code", &guest.inspect(".State.ExitCode")?, "137")?;
        until("no cgroup of a container", SHORT, || match engine.container_cgroups() {
            none if none.is_empty() => Look::Done(()),
            some => Look::NotYet(format!("{some:?}")),
        })?;
        guest.call(&["start"])?;
        guest.is_well()?;
        guest.call(&["kill"])?;
        guest.until_stopped()?;
        guest.removed()
    })
}
