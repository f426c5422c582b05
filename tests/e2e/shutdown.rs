// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows how an orderly end of systemd reads in the journal that it leaves.

use libtest_mimic::Failed;

use crate::command::{SHORT, run};
use crate::container::Container;

/// Mounted over the container's journal, so that it outlives the container;
/// the hook leaves alone what a user mounted.
pub const JOURNAL: (&str, &str) = ("journal", "/var/log/journal");

/// What systemd writes on its way, in this order.
const MILESTONES: [&str; 6] = [
    "Reexecuting",
    "Received SIGRTMIN+3",
    "Stopped probe.service",
    "Reached target shutdown.target",
    "systemd-halt.service",
    "Journal stopped",
];

/// Reads the journal with the image's own journalctl: the host's need not know
/// the format, nor be there.
pub fn is_in_the_journal(container: &Container) -> Result<(), Failed> {
    let inside = container.rootfs().join("mnt");
    let outside = container.home().join(JOURNAL.0);
    let mut bind = container.holder().command("mount");
    run(bind.arg("--bind").arg(outside).arg(&inside), SHORT)?.expect_success()?;
    let mut read = container.holder().command("chroot");
    read.arg(container.rootfs()).args(["journalctl", "--directory=/mnt", "--no-pager", "-o", "cat"]);
    let journal = run(&mut read, SHORT)?.expect_success();
    let mut unbind = container.holder().command("umount");
    run(unbind.arg(&inside), SHORT)?.expect_success()?;
    let journal = journal?;
    let mut rest = journal.as_str();
    for milestone in MILESTONES {
        let Some(at) = rest.find(milestone) else {
            return Err(format!("{milestone:?} is not in its place in the journal:\n{journal}").into());
        };
        rest = &rest[at..];
    }
    Ok(())
}
