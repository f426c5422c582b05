// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Queries that work on any running container, regardless of what runs it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::Failed;

use crate::command::{Finished, Look, until};
use crate::container::message;
use crate::mounts::Mount;

/// The time limit for a boot. A boot usually takes half a second, but takes longer on a busy machine
/// with eight at once.
pub const BOOT: Duration = Duration::from_secs(60);

/// The number of containers that these tests have booted, as a measure of their cost.
pub static BOOTS: AtomicU32 = AtomicU32::new(0);

pub trait Inside {
    fn id(&self) -> &str;

    /// Returns the container manager that systemd is told it runs under.
    fn manager(&self) -> Result<&'static str, Failed>;

    /// Returns the runtime's name for the status. The tests use `running` and `stopped`.
    fn status(&self) -> Result<String, Failed>;

    /// Runs a command inside the container.
    fn exec(&self, arguments: &[&str]) -> Result<Finished, Failed>;

    /// Returns the mounts that the container's first process sees.
    fn mounts(&self) -> Result<Vec<Mount>, Failed>;

    /// Returns the output so far of the runtime, the hook and the container.
    fn said(&self) -> String;

    /// Runs a command inside the container and returns its output, or fails if the command fails.
    fn ask(&self, arguments: &[&str]) -> Result<String, Failed> {
        self.exec(arguments)?.expect_success()
    }

    /// Waits until systemd reports that everything is up.
    fn until_running(&self) -> Result<(), Failed> {
        self.until_running_within(BOOT)
    }

    fn until_running_within(&self, limit: Duration) -> Result<(), Failed> {
        BOOTS.fetch_add(1, Ordering::Relaxed);
        until("systemd that is running", limit, || match self.exec(&["systemctl", "is-system-running"]) {
            Ok(told) => match told.output.trim() {
                "running" => Look::Done(()),
                "degraded" => Look::Never("degraded".to_owned()),
                _ => match self.status() {
                    Ok(status) if status == "stopped" => Look::Never(told.told()),
                    Ok(_) => Look::NotYet(told.told()),
                    Err(failed) => Look::Never(message(&failed)),
                },
            },
            Err(failed) => Look::Never(message(&failed)),
        })
    }

    fn until_stopped(&self) -> Result<(), Failed> {
        until("a stopped container", BOOT, || match self.status() {
            Ok(status) if status == "stopped" => Look::Done(()),
            Ok(status) => Look::NotYet(status),
            Err(failed) => Look::Never(message(&failed)),
        })
    }

    /// Runs a part of a test and, if it fails, adds the state of the container to the message.
    fn explain(&self, part: impl FnOnce(&Self) -> Result<(), Failed>) -> Result<(), Failed>
    where
        Self: Sized,
    {
        part(self).map_err(|failed| {
            let mut told = message(&failed);
            let mut add = |title: &str, text: &str| {
                told.extend(["\n--- ", title, "\n", text.trim_end()]);
            };
            add("the runtime, the hook and the container said", &self.said());
            let status = self.status();
            let runs = status.as_ref().is_ok_and(|status| status == "running");
            add("status", &status.unwrap_or_else(|failed| message(&failed)));
            for question in QUESTIONS.iter().filter(|_| runs) {
                if let Ok(finished) = self.exec(question) {
                    add(&question.join(" "), &finished.told());
                }
            }
            told.into()
        })
    }
}

/// The commands whose output is added to the message if a test fails.
const QUESTIONS: [&[&str]; 4] = [
    &["systemctl", "--failed", "--no-pager"],
    &["systemctl", "list-jobs", "--no-pager"],
    &["cat", "/proc/1/mountinfo"],
    &["journalctl", "--no-pager", "-n", "40", "-o", "short-monotonic"],
];
