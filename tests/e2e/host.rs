// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records the parts of the host that a container could change, and compares them before and after the test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use libtest_mimic::Failed;

use crate::harness::is_lasting;
use crate::hierarchy::Hierarchy;
use crate::site::MARK;
use crate::tree;

/// The directory of the hook's records. The directory itself may remain.
const RECORDS: &str = "/run/oci-systemd-hook";

/// The prefix of the names of the cgroups that the hook creates. The container's ID follows it.
pub const HOOKS: &str = "oci-systemd-hook-";

/// The recorded state of the host, one fact per line.
#[derive(Debug)]
pub struct Host(BTreeSet<String>);

impl Host {
    /// Records the state of the machine itself and, through its namespace, of the test's host. Cgroups are found by
    /// the names of the test and of its container, since other programs create and remove cgroups of their own.
    pub fn look(namespace_root: &Path, namespace_mountinfo: &str) -> Result<Self, Failed> {
        let mut seen = BTreeSet::new();
        // Other programs may mount anything; mounts of the tests and of the hook are recognized by their names.
        for line in fs::read_to_string("/proc/1/mountinfo")?.lines() {
            if line.contains(MARK) || line.contains("oci-systemd-hook") {
                seen.insert(format!("mount of the machine: {line}"));
            }
        }
        for line in namespace_mountinfo.lines() {
            let at = line.split(' ').nth(4).unwrap_or_default();
            if !is_lasting(Path::new(at)) && !at.contains(MARK) {
                continue;
            }
            seen.insert(format!("mount of the test's host: {}", without_paths(line)));
        }
        for folder in ["/run", "/tmp", "/var/log/journal"] {
            let below = namespace_root.join(folder.trim_start_matches('/'));
            for entry in tree::walk(&below)? {
                let path = Path::new(folder).join(&entry.path);
                if path != Path::new(RECORDS) {
                    let mut entry = entry;
                    entry.path = path;
                    seen.insert(format!("file: {entry}"));
                }
            }
        }
        if let Ok(records) = fs::read_dir(RECORDS) {
            for record in records.flatten() {
                seen.insert(format!("record: {}", record.path().display()));
            }
        }
        Ok(Self(seen))
    }

    /// Returns the lines that were added and removed, or an empty string.
    pub fn difference(&self, later: &Self) -> String {
        let mut told = String::new();
        for line in later.0.difference(&self.0) {
            told.extend(["\n  new:  ", line]);
        }
        for line in self.0.difference(&later.0) {
            told.extend(["\n  gone: ", line]);
        }
        told
    }
}

/// Returns a line of mountinfo without root and mount point, which change if another program renames
/// a directory above them.
fn without_paths(line: &str) -> String {
    let mut fields: Vec<&str> = line.split(' ').collect();
    fields.drain(3..5);
    fields.join(" ")
}

/// Lists all cgroups below those of this name in the roots of the hierarchies.
pub fn cgroups_below(name: &str) -> BTreeSet<String> {
    let top = Path::new("/sys/fs/cgroup");
    let mut todo = vec![top.join(name)];
    if let Ok(entries) = fs::read_dir(top) {
        todo.extend(entries.flatten().map(|entry| entry.path().join(name)));
    }
    let mut found = BTreeSet::new();
    while let Some(folder) = todo.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            found.insert(entry.path().display().to_string());
            todo.push(entry.path());
        }
    }
    found
}

/// Lists the remaining cgroups of one test. The topmost directory of the runtime's cgroups may remain, because
/// runtimes create the parents of a cgroup and never remove them.
pub fn left_cgroups(name: &str, id: &str) -> Result<Vec<String>, Failed> {
    let mut found = cgroups_below(name);
    // The hook's cgroups are below the cgroup that contains the runtime, including in hierarchies that
    // are not mounted anywhere.
    let hooks = format!("{HOOKS}{id}");
    for hierarchy in Hierarchy::BOTH {
        if let Some(whole) = hierarchy.whole()? {
            named(whole.path(), Path::new("/"), &hooks, &mut found);
        }
    }
    Ok(found.into_iter().collect())
}

/// Adds the cgroups of this name, at any depth, to `found`.
fn named(top: &Path, folder: &Path, name: &str, found: &mut BTreeSet<String>) {
    let inner = folder.strip_prefix("/").unwrap_or(folder);
    let Ok(entries) = fs::read_dir(top.join(inner)) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let path = folder.join(entry.file_name());
        if entry.file_name() == name {
            found.insert(format!("the hook's {}", path.display()));
        }
        named(top, &path, name, found);
    }
}
