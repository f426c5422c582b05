// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The life of one container that an engine created.

use std::collections::BTreeMap;

use libtest_mimic::Failed;

use crate::boot::{has_come_up, has_what_systemd_needs_beside, same};
use crate::command::Finished;
use crate::container::message;
use crate::engines::host::EngineHost;
use crate::inside::Inside;
use crate::mounts::{self, Mount};

/// An engine's command-line client.
pub trait Client {
    fn call(&self, arguments: &[&str]) -> Result<Finished, Failed>;

    fn host(&self) -> &EngineHost;

    /// Whether /run is shared in containers. Services get their credentials through a shared /run.
    fn shares_run(&self) -> bool;

    /// Returns the container manager that systemd is told it runs under.
    fn manager(&self, id: &str) -> Result<&'static str, Failed>;

    /// Whether a removal has had the intended effect.
    fn has_removed(told: &Finished) -> bool {
        told.status.success()
    }

    /// Returns the output of a call, or fails if the call fails.
    fn ask(&self, arguments: &[&str]) -> Result<String, Failed> {
        Ok(self.call(arguments)?.expect_success()?.trim().to_owned())
    }
}

#[derive(Debug)]
pub struct Guest<C> {
    client: C,
    id: String,
}

impl<C: Client> Guest<C> {
    /// Returns the container that the engine has created, given the engine's output.
    pub fn by(client: C, told: &str) -> Result<Self, Failed> {
        match told.lines().last() {
            Some(id) if id.len() == 64 => Ok(Self { client, id: id.to_owned() }),
            _ => Err(format!("not the ID of a container: {told:?}").into()),
        }
    }

    /// Returns a field of the engine's data on the container, given the field's path.
    pub fn inspect(&self, field: &str) -> Result<String, Failed> {
        self.client.ask(&["inspect", "--format", &format!("{{{{{field}}}}}"), &self.id])
    }

    /// Calls the engine with the container's ID, and fails if the call fails.
    pub fn call(&self, arguments: &[&str]) -> Result<(), Failed> {
        self.client.call(&[arguments, &[self.id.as_str()]].concat())?.expect_success()?;
        Ok(())
    }

    /// Stops the container and checks its exit code. That of a killed container would be 137.
    pub fn ends_in_order(&self, code: &str) -> Result<(), Failed> {
        self.call(&["stop", "--time=30"])?;
        self.until_stopped()?;
        same("the exit code", &self.inspect(".State.ExitCode")?, code)
    }

    /// Restarts the container several times, checks each time that it works as well as at first, and stops it.
    pub fn restarts(&self, times: u32) -> Result<(), Failed> {
        self.is_well()?;
        for _ in 0..times {
            let before = self.inspect(".State.StartedAt")?;
            self.call(&["restart", "--time=30"])?;
            let after = self.inspect(".State.StartedAt")?;
            same("a second start", &(before != after).to_string(), "true")?;
            self.is_well()?;
        }
        self.ends_in_order("0")?;
        self.removed()
    }

    /// Checks that the container isn't prepared: its systemd exits with 255.
    pub fn gives_up(&self) -> Result<(), Failed> {
        self.explain(|guest| {
            guest.until_stopped()?;
            same("the exit code", &guest.inspect(".State.ExitCode")?, "255")?;
            guest.removed()
        })
    }

    /// Makes the engine remove the container, which has ended.
    pub fn removed(&self) -> Result<(), Failed> {
        let told = self.client.call(&["rm", &self.id])?;
        if C::has_removed(&told) { Ok(()) } else { Err(told.told().into()) }
    }

    /// Checks that the container has booted with everything that systemd needs.
    pub fn is_well(&self) -> Result<(), Failed> {
        self.is_well_beside(&[])
    }

    /// Does the same as [`Self::is_well`] for a container in which the engine or its user has mounted some of it.
    pub fn is_well_beside(&self, mounted: &[&str]) -> Result<(), Failed> {
        has_come_up(self)?;
        has_what_systemd_needs_beside(self, mounted)?;
        let mut seen = self.mounts()?;
        let run = mounts::at(&seen, "/run").ok_or("no mount on /run")?;
        same("a shared /run", &run.shared.to_string(), &self.client.shares_run().to_string())?;
        // The hook may add a writable mount over the container's cgroup.
        seen.retain(|mount| !mount.kind.starts_with("cgroup"));
        same("what is mounted twice", &twice(&seen).join(", "), "")
    }
}

impl<C: Client> Inside for Guest<C> {
    fn id(&self) -> &str {
        &self.id
    }

    fn manager(&self) -> Result<&'static str, Failed> {
        self.client.manager(&self.id)
    }

    fn status(&self) -> Result<String, Failed> {
        let status = self.inspect(".State.Status")?;
        Ok(if status == "exited" { "stopped".to_owned() } else { status })
    }

    fn exec(&self, arguments: &[&str]) -> Result<Finished, Failed> {
        self.client.call(&[&["exec", self.id.as_str()], arguments].concat())
    }

    fn mounts(&self) -> Result<Vec<Mount>, Failed> {
        self.client.host().mounts_of(&self.inspect(".State.Pid")?)
    }

    fn said(&self) -> String {
        match self.client.call(&["logs", &self.id]) {
            Ok(logs) => logs.told(),
            Err(failed) => message(&failed),
        }
    }
}

/// Returns the mount points with more than one mount.
pub fn twice(seen: &[Mount]) -> Vec<&str> {
    let mut counts = BTreeMap::<&str, u32>::new();
    for mount in seen {
        *counts.entry(&mount.point).or_default() += 1;
    }
    counts.into_iter().filter(|&(_, count)| count > 1).map(|(point, _)| point).collect()
}
