// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks that only systemd has written to the root file system of a container that it boots.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;

use crate::container::Container;
use crate::site::Suite;

/// Paths that the named program was seen to write. They are also written if the mounts were created by hand
/// and no hook ran.
const SYSTEMD_WRITES: [&str; 8] = [
    // systemd-sysusers locks the user database, and writes to it if a user is new.
    "etc/.pwd.lock",
    // Written by systemd-update-done and, on Debian 13, ldconfig.service, at the first boot.
    "etc/.updated",
    "var/.updated",
    "etc/ld.so.cache",
    "var/cache/ldconfig",
    // Written by systemd-tmpfiles as configured by the dbus package: a symlink to /etc/machine-id.
    "var/lib/dbus/machine-id",
    // Timestamps of timers, logind's list of lingering users, and the catalog of the journal.
    "var/lib/systemd",
    // Written by systemd-update-utmp.
    "var/log/wtmp",
];

/// Paths that are written at the first boot of Debian 11. Its packages leave the users and groups of
/// systemd's services to systemd-sysusers and the other paths to systemd-tmpfiles; the packages of
/// newer releases contain them.
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

/// Fails if the root file system has changes other than those that systemd makes and the mount points in
/// `runtime_made`, which the runtime creates.
pub fn only_systemd_wrote(container: &Container, runtime_made: &[&str]) -> Result<(), Failed> {
    are_systemds(&container.changes()?, &container.upper(), container.cell().suite, runtime_made)
}

/// Does the same as [`only_systemd_wrote`] for the changes in any overlay.
pub fn are_systemds(changes: &[PathBuf], upper: &Path, suite: Suite, runtime_made: &[&str]) -> Result<(), Failed> {
    may_be_systemds(changes, suite, runtime_made)?;
    let link = upper.join("var/lib/dbus/machine-id");
    match fs::read_link(&link) {
        Ok(target) if target == Path::new("/etc/machine-id") => Ok(()),
        other => Err(format!("{} should be systemd-tmpfiles's link: {other:?}", link.display()).into()),
    }
}

/// Does the same as [`are_systemds`] for a systemd that ended before it had written everything.
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

/// Whether the path belongs to a directory of `PrivateTmp=`. systemd removes it when the service ends, but on a
/// busy machine systemd may end before that.
fn is_private_tmp(path: &Path) -> bool {
    path.strip_prefix("var/tmp").is_ok_and(|inner| inner.to_string_lossy().starts_with("systemd-private-"))
}

/// Fails if the root file system has changed at all.
pub fn nobody_wrote(container: &Container) -> Result<(), Failed> {
    let changes = container.changes()?;
    if changes.is_empty() { Ok(()) } else { Err(format!("changed in the container's root: {changes:?}").into()) }
}
