// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows the life of one container that an engine made.

use std::collections::BTreeMap;

use libtest_mimic::Failed;

use crate::boot::{has_come_up, has_what_systemd_needs_beside, same};
use crate::command::Finished;
use crate::container::message;
use crate::engines::host::EngineHost;
use crate::inside::Inside;
use crate::mounts::{self, Mount};

/// An engine, as its program for users can be called.
pub trait Client {
    fn call(&self, arguments: &[&str]) -> Result<Finished, Failed>;

    fn host(&self) -> &EngineHost;

    /// Whether /run is shared in containers, through which services get their credentials.
    fn shares_run(&self) -> bool;

    /// What systemd is told to be in.
    fn manager(&self, id: &str) -> Result<&'static str, Failed>;

    /// Whether a removal has done what it should.
    fn has_removed(told: &Finished) -> bool {
        told.status.success()
    }

    /// The output of a call that succeeds.
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
    /// One that the engine has made, by what it said then.
    pub fn by(client: C, told: &str) -> Result<Self, Failed> {
        match told.lines().last() {
            Some(id) if id.len() == 64 => Ok(Self { client, id: id.to_owned() }),
            _ => Err(format!("no id of a container: {told:?}").into()),
        }
    }

    /// What the engine knows of it, by the path of a field.
    pub fn inspect(&self, field: &str) -> Result<String, Failed> {
        self.client.ask(&["inspect", "--format", &format!("{{{{{field}}}}}"), &self.id])
    }

    /// A call of the engine about it, which is to succeed.
    pub fn call(&self, arguments: &[&str]) -> Result<(), Failed> {
        self.client.call(&[arguments, &[self.id.as_str()]].concat())?.expect_success()?;
        Ok(())
    }

    /// Ends as the engine asks for it, with this exit code: a kill's would be 137.
    pub fn ends_in_order(&self, code: &str) -> Result<(), Failed> {
        self.call(&["stop", "--time=30"])?;
        self.until_stopped()?;
        same("the exit code", &self.inspect(".State.ExitCode")?, code)
    }

    /// Lives some more times, each as well as the first, and ends.
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

    /// A container that isn't prepared: its systemd exits with 255.
    pub fn gives_up(&self) -> Result<(), Failed> {
        self.explain(|guest| {
            guest.until_stopped()?;
            same("the exit code", &guest.inspect(".State.ExitCode")?, "255")?;
            guest.removed()
        })
    }

    /// The engine removes it, now that it has ended.
    pub fn removed(&self) -> Result<(), Failed> {
        let told = self.client.call(&["rm", &self.id])?;
        if C::has_removed(&told) { Ok(()) } else { Err(told.told().into()) }
    }

    /// Comes up with all that systemd needs.
    pub fn is_well(&self) -> Result<(), Failed> {
        self.is_well_beside(&[])
    }

    /// The same where the engine or its user has mounted some of that.
    pub fn is_well_beside(&self, mounted: &[&str]) -> Result<(), Failed> {
        has_come_up(self)?;
        has_what_systemd_needs_beside(self, mounted)?;
        let mut seen = self.mounts()?;
        let run = mounts::at(&seen, "/run").ok_or("no mount on /run")?;
        same("a shared /run", &run.shared.to_string(), &self.client.shares_run().to_string())?;
        // The hook may well lay a writable mount over the container's cgroup.
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

/// The paths that have more than one mount.
pub fn twice(seen: &[Mount]) -> Vec<&str> {
    let mut counts = BTreeMap::<&str, u32>::new();
    for mount in seen {
        *counts.entry(&mount.point).or_default() += 1;
    }
    counts.into_iter().filter(|&(_, count)| count > 1).map(|(point, _)| point).collect()
}
