// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The containers that Docker creates.

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

    /// The wrapper makes it shared with any runtime.
    fn shares_run(&self) -> bool {
        true
    }

    /// The wrapper puts the name into the environment. Docker itself doesn't know it.
    fn manager(&self, _: &str) -> Result<&'static str, Failed> {
        Ok("oci")
    }
}

pub type Guest<'a> = guest::Guest<&'a Engine>;

impl<'a> Guest<'a> {
    /// Runs a detached container with the wrapper as the runtime.
    pub fn run(engine: &'a Engine, options: &[&str], command: &[&str]) -> Result<Self, Failed> {
        Self::run_by(engine, WRAPPED, options, command)
    }

    /// Does the same as [`Self::run`] with another runtime.
    pub fn run_by(engine: &'a Engine, runtime: &str, options: &[&str], command: &[&str]) -> Result<Self, Failed> {
        let words = [&["run", "--detach", "--runtime", runtime], options, &[IMAGE], command].concat();
        Self::by(engine, &engine.call(&words)?.expect_success()?)
    }
}
