// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows what systemd itself writes into the root of a container that it boots.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;

use crate::container::Container;
use crate::site::Suite;

/// Each was seen to come from the named program, and comes as well where the
/// mounts were made by hand and no hook ran.
const SYSTEMD_WRITES: [&str; 8] = [
    // systemd-sysusers locks the user database, and writes it where a user is new.
    "etc/.pwd.lock",
    // systemd-update-done and, on Debian 13, ldconfig.service, at the first boot.
    "etc/.updated",
    "var/.updated",
    "etc/ld.so.cache",
    "var/cache/ldconfig",
    // systemd-tmpfiles, by the dbus package's wish: a link to /etc/machine-id.
    "var/lib/dbus/machine-id",
    // Stamps of timers, logind's list of lingering users, the journal's catalogue.
    "var/lib/systemd",
    // systemd-update-utmp.
    "var/log/wtmp",
];

/// Debian 11's packages leave the users and groups of systemd's services to systemd-sysusers, and these to
/// systemd-tmpfiles, at the first boot; newer ones bring them along.
const BULLSEYE_WRITES: [&str; 12] = [
    "etc/group",
    "etc/group-",
    "etc/gshadow",
    "etc/gshadow-",
    "etc/passwd",
    "etc/passwd-",
    "etc/shadow",
    "etc/shadow-",
    "etc/mtab",
    "var/cache/private",
    "var/lib/private",
    "var/log/private",
];

/// Fails where the root has changed in another way than systemd does it, or
/// than the runtime, whose own mount points are given.
pub fn only_systemd_wrote(container: &Container, runtime_made: &[&str]) -> Result<(), Failed> {
    are_systemds(&container.changes()?, &container.upper(), container.cell().suite, runtime_made)
}

/// The same for the changes in any overlay.
pub fn are_systemds(changes: &[PathBuf], upper: &Path, suite: Suite, runtime_made: &[&str]) -> Result<(), Failed> {
    may_be_systemds(changes, suite, runtime_made)?;
    let link = upper.join("var/lib/dbus/machine-id");
    match fs::read_link(&link) {
        Ok(target) if target == Path::new("/etc/machine-id") => Ok(()),
        other => Err(format!("{} should be systemd-tmpfiles's link: {other:?}", link.display()).into()),
    }
}

/// The same for a systemd that came to an end before all was written.
pub fn may_be_systemds(changes: &[PathBuf], suite: Suite, runtime_made: &[&str]) -> Result<(), Failed> {
    let of_suite: &[&str] = match suite {
        Suite::Bullseye => &BULLSEYE_WRITES,
        Suite::Bookworm | Suite::Trixie | Suite::Sid => &[],
    };
    let known: Vec<&str> = [&SYSTEMD_WRITES[..], of_suite, runtime_made].concat();
    let strange: Vec<String> = changes
        .iter()
        .filter(|path| !known.iter().any(|known| path.starts_with(Path::new(known))) && !is_private_tmp(path))
        .map(|path| path.display().to_string())
        .collect();
    if strange.is_empty() {
        return Ok(());
    }
    let strange = strange.join(", ");
    Err(format!("changed in the container's root: {strange}").into())
}

/// What `PrivateTmp=` is made of: systemd has it removed at the service's end, and on a busy machine ends before that.
fn is_private_tmp(path: &Path) -> bool {
    path.strip_prefix("var/tmp").is_ok_and(|inner| inner.to_string_lossy().starts_with("systemd-private-"))
}

/// Fails where the root has changed at all.
pub fn nobody_wrote(container: &Container) -> Result<(), Failed> {
    let changes = container.changes()?;
    if changes.is_empty() { Ok(()) } else { Err(format!("changed in the container's root: {changes:?}").into()) }
}
