// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows the containers that Docker makes.

use libtest_mimic::Failed;

use crate::command::Finished;
use crate::docker::engine::{Engine, WRAPPED};
use crate::engines::guest::{self, Client};
use crate::engines::host::EngineHost;
use crate::engines::image::IMAGE;

pub const INIT: [&str; 1] = ["/sbin/init"];

impl Client for &Engine {
    fn call(&self, arguments: &[&str]) -> Result<Finished, Failed> {
        Engine::call(self, arguments)
    }

    fn host(&self) -> &EngineHost {
        Engine::host(self)
    }

    /// The wrapper sees to it, whatever the runtime below.
    fn shares_run(&self) -> bool {
        true
    }

    /// What the wrapper puts into the environment, which Docker itself doesn't know of.
    fn manager(&self, _: &str) -> Result<&'static str, Failed> {
        Ok("oci")
    }
}

pub type Guest<'a> = guest::Guest<&'a Engine>;

impl<'a> Guest<'a> {
    /// Runs it detached, by the runtime with the hooks.
    pub fn run(engine: &'a Engine, options: &[&str], command: &[&str]) -> Result<Self, Failed> {
        Self::run_by(engine, WRAPPED, options, command)
    }

    /// The same by another runtime.
    pub fn run_by(engine: &'a Engine, runtime: &str, options: &[&str], command: &[&str]) -> Result<Self, Failed> {
        let words = [&["run", "--detach", "--runtime", runtime], options, &[IMAGE], command].concat();
        Self::by(engine, &engine.call(&words)?.expect_success()?)
    }
}
