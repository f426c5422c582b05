// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The containers that podman creates.

use libtest_mimic::Failed;

use crate::command::Finished;
use crate::engines::guest::{self, Client};
use crate::engines::host::EngineHost;
use crate::engines::image::IMAGE;
use crate::inside::Inside;
use crate::podman::engine::{Engine, Hooks};
use crate::site::Runtime;

/// Options of a container for which podman itself prepares nothing.
pub const PLAIN: [&str; 2] = ["--systemd=false", "--stop-signal=RTMIN+3"];

/// podman with the hooks of one container.
#[derive(Debug)]
pub struct Podman<'a> {
    engine: &'a Engine,
    hooks: Hooks,
}

impl Client for Podman<'_> {
    fn call(&self, arguments: &[&str]) -> Result<Finished, Failed> {
        self.engine.call_with(self.hooks, arguments)
    }

    fn host(&self) -> &EngineHost {
        self.engine.host()
    }

    /// crun makes every mount private after its hooks.
    fn shares_run(&self) -> bool {
        self.engine.spot().runtime == Runtime::Runc
    }

    /// Returns the value of the variable `container`, which podman 4.3 doesn't set with `--rootfs`.
    fn manager(&self, id: &str) -> Result<&'static str, Failed> {
        let environment = self.ask(&["inspect", "--format", "{{.Config.Env}}", id])?;
        Ok(if environment.contains("container=podman") { "podman" } else { "oci" })
    }

    /// Also accepts a known error: with a user namespace, podman 4.3 may forget one of its own mounts
    /// when a container ends, with or without hooks. The removal then fails on that mount, after it
    /// has removed everything else.
    fn has_removed(told: &Finished) -> bool {
        told.status.success() || told.errors.contains("/userdata/shm: device or resource busy")
    }
}

pub type Guest<'a> = guest::Guest<Podman<'a>>;

impl<'a> Guest<'a> {
    /// Runs a detached container.
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

    /// Creates a container. Only its files exist on the host at this point.
    pub fn create(engine: &'a Engine, options: &[&str], command: &[&str]) -> Result<Self, Failed> {
        let words = [options, &[IMAGE], command].concat();
        let told = engine.call_with(Hooks::Installed, &engine.making("create", &words))?.expect_success()?;
        Self::of(engine, Hooks::Installed, &told)
    }

    /// Returns the container that podman has created, given podman's output.
    pub fn of(engine: &'a Engine, hooks: Hooks, told: &str) -> Result<Self, Failed> {
        Self::by(Podman { engine, hooks }, told)
    }
}

/// Checks that systemd gives up without the hook. Otherwise the other tests would prove nothing.
pub fn gives_up_without_hook(engine: &Engine, options: &[&str], command: &[&str]) -> Result<(), Failed> {
    Guest::run(engine, Hooks::None, options, command)?.gives_up()
}

/// Tests a container with the hook, after the same container without it.
pub fn needs_the_hook(engine: &Engine, options: &[&str], command: &[&str]) -> Result<(), Failed> {
    lives_with(Hooks::Installed, engine, options, command)
}

/// Does the same as [`needs_the_hook`] with these descriptors.
pub fn lives_with(hooks: Hooks, engine: &Engine, options: &[&str], command: &[&str]) -> Result<(), Failed> {
    gives_up_without_hook(engine, options, command)?;
    let guest = Guest::run(engine, hooks, options, command)?;
    guest.explain(|guest| {
        guest.is_well()?;
        guest.ends_in_order("0")?;
        guest.removed()
    })
}
