// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows what one can ask a container that runs, whoever runs it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::Failed;

use crate::command::{Finished, Look, until};
use crate::container::message;
use crate::mounts::Mount;

/// Half a second is usual; a busy machine with eight of them takes longer.
pub const BOOT: Duration = Duration::from_secs(60);

/// How many containers these tests have booted, as a measure of their cost.
pub static BOOTS: AtomicU32 = AtomicU32::new(0);

pub trait Inside {
    fn id(&self) -> &str;

    /// What systemd is told to be in.
    fn manager(&self) -> Result<&'static str, Failed>;

    /// In the runtime's words, of which `running` and `stopped` matter.
    fn status(&self) -> Result<String, Failed>;

    /// Runs a command inside.
    fn exec(&self, arguments: &[&str]) -> Result<Finished, Failed>;

    /// The mounts that the container's first process sees.
    fn mounts(&self) -> Result<Vec<Mount>, Failed>;

    /// What was said so far on the way to the container, and in it.
    fn said(&self) -> String;

    /// The output of a command inside that succeeds.
    fn ask(&self, arguments: &[&str]) -> Result<String, Failed> {
        self.exec(arguments)?.expect_success()
    }

    /// Waits until systemd says that all has come up.
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

    /// Runs a part of a test and, where it fails, says what the container was like.
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

/// What one wants to know of a container that a test failed on.
const QUESTIONS: [&[&str]; 4] = [
    &["systemctl", "--failed", "--no-pager"],
    &["systemctl", "list-jobs", "--no-pager"],
    &["cat", "/proc/1/mountinfo"],
    &["journalctl", "--no-pager", "-n", "40", "-o", "short-monotonic"],
];
