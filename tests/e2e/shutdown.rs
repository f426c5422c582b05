// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks in the journal that systemd leaves behind that it booted and shut down in an orderly way.

use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;

use crate::command::{SHORT, run};
use crate::container::Container;

/// A bind mount over the container's journal, so that the journal outlives the container. The hook leaves mounts
/// of the user alone.
pub const JOURNAL: (&str, &str) = ("journal", "/var/log/journal");

/// Messages that systemd writes in this order; 247 writes the units' descriptions. On a busy machine, messages
/// between the last two can be lost, because process 1 doesn't wait for the journal.
const MILESTONES: [&[&str]; 5] = [
    &["Reexecuting"],
    &["Received SIGRTMIN+3"],
    &["Stopped probe.service", "Stopped The probe"],
    &["Reached target umount.target", "Reached target Unmount All Filesystems"],
    &["Journal stopped"],
];

/// Messages that systemd 257 writes on version 1 before it waits and continues with version 2, and that 258 and
/// newer write before they give up.
const OLD_CGROUPS: [&str; 4] =
    ["after 30 s", "Legacy cgroup v1 configured", "Legacy support for cgroup v1", "Detected cgroup v1 hierarchy"];

pub fn warns_of_no_old_cgroups(which: &str, said: &str) -> Result<(), Failed> {
    match said.lines().find(|line| OLD_CGROUPS.iter().any(|words| line.contains(words))) {
        None => Ok(()),
        Some(line) => Err(format!("{which} has {line:?}").into()),
    }
}

/// Reads the journal with the image's own journalctl, because the host's may not know the format and may not be
/// installed. Newer versions need /proc.
const READ: &str = r#"
mount --bind "$journal" "$root/mnt" && mount --bind /proc "$root/proc" &&
    exec chroot "$root" journalctl --directory=/mnt --no-pager -o cat
"#;

pub fn is_in_the_journal(container: &Container) -> Result<(), Failed> {
    let unshare = container.holder().command("unshare");
    is_in(unshare, &container.home().join(JOURNAL.0), &container.rootfs())
}

/// Does the same as [`is_in_the_journal`] for a journal anywhere. `unshare` is the command that runs where the
/// journal is and where `root` has the same Debian release.
pub fn is_in(mut unshare: Command, journal: &Path, root: &Path) -> Result<(), Failed> {
    unshare.args(["--mount", "sh", "-c", READ]).env("journal", journal).env("root", root);
    let read = run(&mut unshare, SHORT)?;
    let told = read.told();
    let journal = read.expect_success()?;
    let mut rest = journal.as_str();
    for words in MILESTONES {
        let Some(at) = words.iter().filter_map(|words| rest.find(words)).min() else {
            return Err(format!("the journal does not have {words:?} in the expected order:\n{told}").into());
        };
        rest = &rest[at..];
    }
    warns_of_no_old_cgroups("the journal", &journal)
}
