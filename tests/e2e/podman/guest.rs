// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows the life of one container that podman made.

use std::collections::BTreeMap;

use libtest_mimic::Failed;

use crate::boot::{has_come_up, has_what_systemd_needs_beside, run_is_shared, same};
use crate::command::Finished;
use crate::container::message;
use crate::inside::Inside;
use crate::mounts::Mount;
use crate::podman::engine::{Engine, Hooks};
use crate::podman::store::IMAGE;

/// Options of a container that podman itself does nothing for.
pub const PLAIN: [&str; 2] = ["--systemd=false", "--stop-signal=RTMIN+3"];

#[derive(Debug)]
pub struct Guest<'a> {
    engine: &'a Engine,
    id: String,
    hooks: Hooks,
}

impl<'a> Guest<'a> {
    /// Runs it detached.
    pub fn run(engine: &'a Engine, hooks: Hooks, options: &[&str], command: &[&str]) -> Result<Self, Failed> {
        Self::run_image(engine, hooks, options, IMAGE, command)
    }

    pub fn run_image(
        engine: &'a Engine,
        hooks: Hooks,
        options: &[&str],
        image: &str,
        command: &[&str],
    ) -> Result<Self, Failed> {
        let words = [&["--detach"], options, &[image], command].concat();
        let told = engine.call_with(hooks, &engine.making("run", &words))?.expect_success()?;
        Self::of(engine, hooks, &told)
    }

    /// Makes it, with nothing of it on the host yet but its files.
    pub fn create(engine: &'a Engine, options: &[&str], command: &[&str]) -> Result<Self, Failed> {
        let words = [options, &[IMAGE], command].concat();
        let told = engine.call_with(Hooks::Installed, &engine.making("create", &words))?.expect_success()?;
        Self::of(engine, Hooks::Installed, &told)
    }

    /// One that podman has made, by what it said then.
    pub fn of(engine: &'a Engine, hooks: Hooks, told: &str) -> Result<Self, Failed> {
        match told.lines().last() {
            Some(id) if id.len() == 64 => Ok(Self { engine, id: id.to_owned(), hooks }),
            _ => Err(format!("no id of a container: {told:?}").into()),
        }
    }

    /// What podman knows of it, by the path of a field.
    pub fn inspect(&self, field: &str) -> Result<String, Failed> {
        self.engine.ask(&["inspect", "--format", &format!("{{{{{field}}}}}"), &self.id])
    }

    /// A call of podman about it, which is to succeed.
    pub fn call(&self, arguments: &[&str]) -> Result<(), Failed> {
        self.engine.call_with(self.hooks, &[arguments, &[self.id.as_str()]].concat())?.expect_success()?;
        Ok(())
    }

    /// Ends as podman asks for it, with this exit code: a kill's would be 137.
    pub fn ends_in_order(&self, code: &str) -> Result<(), Failed> {
        self.call(&["stop", "--time=30"])?;
        self.until_stopped()?;
        same("the exit code", &self.inspect(".State.ExitCode")?, code)
    }

    /// A container that isn't prepared: its systemd exits with 255.
    pub fn gives_up(&self) -> Result<(), Failed> {
        self.explain(|guest| {
            guest.until_stopped()?;
            same("the exit code", &guest.inspect(".State.ExitCode")?, "255")?;
            guest.removed()
        })
    }

    /// podman removes it, now that it has ended.
    pub fn removed(&self) -> Result<(), Failed> {
        let told = self.engine.call_with(self.hooks, &["rm", &self.id])?;
        // With a user namespace podman 4.3 may forget a mount of its own when a container ends, hooks or not, and
        // stumbles over it here, after it has removed all else.
        if told.status.success() || told.errors.contains("/userdata/shm: device or resource busy") {
            return Ok(());
        }
        Err(told.told().into())
    }

    /// Comes up with all that systemd needs.
    pub fn is_well(&self) -> Result<(), Failed> {
        self.is_well_beside(&[])
    }

    /// The same where podman or its user has mounted some of that.
    pub fn is_well_beside(&self, mounted: &[&str]) -> Result<(), Failed> {
        has_come_up(self)?;
        has_what_systemd_needs_beside(self, mounted)?;
        run_is_shared(self, self.engine.spot().runtime)?;
        // The hook may well lay a writable mount over the container's cgroup.
        let mut seen = self.mounts()?;
        seen.retain(|mount| !mount.kind.starts_with("cgroup"));
        same("what is mounted twice", &twice(&seen).join(", "), "")
    }
}

impl Inside for Guest<'_> {
    fn id(&self) -> &str {
        &self.id
    }

    /// By the variable `container`, which podman 4.3 doesn't set with `--rootfs`.
    fn manager(&self) -> Result<&'static str, Failed> {
        Ok(if self.inspect(".Config.Env")?.contains("container=podman") { "podman" } else { "oci" })
    }

    fn status(&self) -> Result<String, Failed> {
        let status = self.inspect(".State.Status")?;
        Ok(if status == "exited" { "stopped".to_owned() } else { status })
    }

    fn exec(&self, arguments: &[&str]) -> Result<Finished, Failed> {
        self.engine.call_with(self.hooks, &[&["exec", self.id.as_str()], arguments].concat())
    }

    fn mounts(&self) -> Result<Vec<Mount>, Failed> {
        self.engine.mounts_of(&self.inspect(".State.Pid")?)
    }

    fn said(&self) -> String {
        match self.engine.call(&["logs", &self.id]) {
            Ok(logs) => logs.told(),
            Err(failed) => message(&failed),
        }
    }
}

/// The paths that have more than one mount.
pub fn twice(seen: &[Mount]) -> Vec<&str> {
    let mut counts = BTreeMap::<&str, u32>::new();
    for mount in seen {
        *counts.entry(&mount.point).or_default() += 1;
    }
    counts.into_iter().filter(|&(_, count)| count > 1).map(|(point, _)| point).collect()
}

/// What makes the other trials prove something.
pub fn gives_up_without_hook(engine: &Engine, options: &[&str], command: &[&str]) -> Result<(), Failed> {
    Guest::run(engine, Hooks::None, options, command)?.gives_up()
}

/// A life with the hook, after a look at the same container without it.
pub fn needs_the_hook(engine: &Engine, options: &[&str], command: &[&str]) -> Result<(), Failed> {
    gives_up_without_hook(engine, options, command)?;
    let guest = Guest::run(engine, Hooks::Installed, options, command)?;
    guest.explain(|guest| {
        guest.is_well()?;
        guest.ends_in_order("0")?;
        guest.removed()
    })
}
