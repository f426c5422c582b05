// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows the containers that podman makes.

use libtest_mimic::Failed;

use crate::command::Finished;
use crate::engines::guest::{self, Client};
use crate::engines::host::EngineHost;
use crate::engines::image::IMAGE;
use crate::inside::Inside;
use crate::podman::engine::{Engine, Hooks};
use crate::site::Runtime;

/// Options of a container that podman itself does nothing for.
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

    /// By the variable `container`, which podman 4.3 doesn't set with `--rootfs`.
    fn manager(&self, id: &str) -> Result<&'static str, Failed> {
        let environment = self.ask(&["inspect", "--format", "{{.Config.Env}}", id])?;
        Ok(if environment.contains("container=podman") { "podman" } else { "oci" })
    }

    /// With a user namespace podman 4.3 may forget a mount of its own when a container ends, hooks or not, and stumbles
    /// over it here, after it has removed all else.
    fn has_removed(told: &Finished) -> bool {
        told.status.success() || told.errors.contains("/userdata/shm: device or resource busy")
    }
}

pub type Guest<'a> = guest::Guest<Podman<'a>>;

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
        Self::by(Podman { engine, hooks }, told)
    }
}

/// What makes the other trials prove something.
pub fn gives_up_without_hook(engine: &Engine, options: &[&str], command: &[&str]) -> Result<(), Failed> {
    Guest::run(engine, Hooks::None, options, command)?.gives_up()
}

/// A life with the hook, after a look at the same container without it.
pub fn needs_the_hook(engine: &Engine, options: &[&str], command: &[&str]) -> Result<(), Failed> {
    lives_with(Hooks::Installed, engine, options, command)
}

/// The same with these descriptors.
pub fn lives_with(hooks: Hooks, engine: &Engine, options: &[&str], command: &[&str]) -> Result<(), Failed> {
    gives_up_without_hook(engine, options, command)?;
    let guest = Guest::run(engine, hooks, options, command)?;
    guest.explain(|guest| {
        guest.is_well()?;
        guest.ends_in_order("0")?;
        guest.removed()
    })
}
