// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that containers of several runtimes may have the same ID, and that two containers may have the same root.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::command::{Finished, SHORT, run, run_into};
use crate::config::Config;
use crate::container::{Cell, Container, Planted};
use crate::inside::{BOOT, Inside};
use crate::site::{Runtime, Site};
use crate::upper;

/// An image that lacks mount points, so that the hook creates some that must be removed.
const LACKING: [Planted; 2] = [Planted::Gone("run"), Planted::Gone("etc/machine-id")];
/// A command that fails in a container whose mount points were removed on the host.
const MOUNTED: [&str; 3] = ["cat", "/etc/machine-id", "/run/host/container-manager"];

/// Another container of either runtime, with the same ID and root but a separate state directory.
struct Second<'a> {
    first: &'a Container,
    runtime: Runtime,
}

impl Second<'_> {
    fn call(&self, arguments: &[&str]) -> Result<Finished, Failed> {
        let mut command = self.first.holder().command(&self.runtime.to_string());
        command.arg("--root").arg(self.first.home().join("second-state")).args(arguments);
        run_into(&mut command, &self.first.home().join("second-said"), BOOT)
    }

    fn start(&self) -> Result<(), Failed> {
        let (home, holder) = (self.first.home(), self.first.holder());
        let text = fs::read_to_string(holder.seen(&home.join("bundle/config.json")))?;
        let mut config: Value = serde_json::from_str(&text)?;
        config["root"]["path"] = json!(self.first.rootfs());
        config["linux"]["cgroupsPath"] = json!(self.first.cgroup() + "-second");
        let bundle = home.join("second");
        fs::create_dir_all(&bundle)?;
        fs::write(bundle.join("config.json"), config.to_string())?;
        self.call(&["create", "--bundle", &bundle.to_string_lossy(), self.first.id()])?.expect_success()?;
        self.call(&["start", self.first.id()])?.expect_success()?;
        Ok(())
    }

    fn delete(&self) -> Result<(), Failed> {
        self.call(&["delete", "--force", self.first.id()])?.expect_success()?;
        Ok(())
    }

    fn has_its_mounts(&self) -> Result<(), Failed> {
        let mut command = self.first.holder().command(&self.runtime.to_string());
        command.arg("--root").arg(self.first.home().join("second-state")).args(["exec", self.first.id()]).args(MOUNTED);
        run(&mut command, SHORT)?.expect_success().map(drop)
    }
}

impl Drop for Second<'_> {
    fn drop(&mut self) {
        // At worst, it is already gone.
        let _ = self.call(&["delete", "--force", self.first.id()]);
    }
}

/// Tests that whichever container ends first, the other one keeps its mount points, and the poststop of the
/// last one removes them.
pub fn of_two_runtimes(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    for runtime in [Runtime::Runc, Runtime::Crun] {
        for is_second_last in [false, true] {
            let args = vec!["/bin/sleep", "infinity"];
            let config = Config { args, annotation: Some("enabled"), ..Config::default() };
            let container = Container::new(site, cell, &config, &LACKING)?;
            container.explain(|first| {
                first.start()?;
                let second = Second { first, runtime };
                second.start()?;
                if is_second_last {
                    first.kill_and_delete()?;
                    second.has_its_mounts()?;
                    second.delete()
                } else {
                    second.delete()?;
                    first.ask(&MOUNTED)?;
                    first.kill_and_delete()
                }
            })?;
            let records = container.holder().seen(Path::new("/run/oci-systemd-hook"));
            if records.exists() {
                return Err(format!("{} is left", records.display()).into());
            }
            container.host_is_as_before()?;
            upper::nobody_wrote(&container)?;
        }
    }
    Ok(())
}
