// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows what of the host a container could change, and compares before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use libtest_mimic::Failed;

use crate::harness::is_lasting;
use crate::hierarchy::Hierarchy;
use crate::site::MARK;
use crate::tree;

/// Where the hook keeps its records; the directory itself may stay.
const RECORDS: &str = "/run/oci-systemd-hook";

/// How the names of the cgroups begin that the hook makes; the container's id follows.
pub const HOOKS: &str = "oci-systemd-hook-";

/// Lines, each of which says one thing about the host.
#[derive(Debug)]
pub struct Host(BTreeSet<String>);

impl Host {
    /// Looks at the machine itself and, through its namespace, at the host of a test. Cgroups are looked for by the names of
    /// the test and of its container, since other programs make and remove theirs.
    pub fn look(namespace_root: &Path, namespace_mountinfo: &str) -> Result<Self, Failed> {
        let mut seen = BTreeSet::new();
        // Other programs mount what they like; ours would show by its name.
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

    /// What came and what went, a line each.
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

/// A line of mountinfo without root and mount point, which change where
/// another program renames a directory above them.
fn without_paths(line: &str) -> String {
    let mut fields: Vec<&str> = line.split(' ').collect();
    fields.drain(3..5);
    fields.join(" ")
}

/// All that is below the cgroups of this name in the roots of the hierarchies.
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

/// What is left of the cgroups of one test; the topmost directory of the runtime's may stay,
/// because runtimes make the parents of a cgroup and never take them away.
pub fn left_cgroups(name: &str, id: &str) -> Result<Vec<String>, Failed> {
    let mut found = cgroups_below(name);
    // The hook's lie in the cgroup that the runtime is in, also of hierarchies that are mounted nowhere.
    let hooks = format!("{HOOKS}{id}");
    for hierarchy in Hierarchy::BOTH {
        if let Some(whole) = hierarchy.whole()? {
            named(whole.path(), Path::new("/"), &hooks, &mut found);
        }
    }
    Ok(found.into_iter().collect())
}

/// The cgroups of this name, at any depth.
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
