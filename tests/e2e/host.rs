// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows what of the host a container could change, and compares before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use libtest_mimic::Failed;

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
    /// Looks at the machine itself and, through its namespace, at the host of a test.
    pub fn look(namespace_root: &Path, namespace_mountinfo: &str) -> Result<Self, Failed> {
        let mut seen = BTreeSet::new();
        // Other programs mount what they like; ours would show by its name.
        for line in fs::read_to_string("/proc/1/mountinfo")?.lines() {
            if line.contains(MARK) || line.contains("oci-systemd-hook") {
                seen.insert(format!("mount of the machine: {line}"));
            }
        }
        for line in namespace_mountinfo.lines() {
            seen.insert(format!("mount of the test's host: {}", without_paths(line)));
        }
        cgroups(Path::new("/sys/fs/cgroup"), &beside_own()?, &mut seen)?;
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

    /// What came and what went, a line each. Of cgroups, only what came: an
    /// empty one is all that can be removed, and other programs remove theirs.
    pub fn difference(&self, later: &Self) -> String {
        let mut told = String::new();
        for line in later.0.difference(&self.0) {
            told.extend(["\n  new:  ", line]);
        }
        let gone = self.0.difference(&later.0);
        for line in gone.filter(|line| !line.starts_with("cgroup: ")) {
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

/// How names of cgroups of other tests, of trials by hand, of the project's demo and benchmark begin, which may run at
/// the same time; and where podman puts a container that nobody gives a parent, as these tests always do.
const OTHERS: [&str; 3] = ["osh-", HOOKS, "libpod_parent"];

/// Where who started the tests makes cgroups for what it starts: beside the one that they are in.
fn beside_own() -> Result<Vec<String>, Failed> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let paths = own.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let above = paths.filter_map(|path| Path::new(path).parent()).filter(|above| above.parent().is_some());
    Ok(above.map(|above| above.display().to_string()).collect())
}

/// All cgroups but those of tests, of which each looks after its own.
fn cgroups(folder: &Path, others: &[String], seen: &mut BTreeSet<String>) -> Result<(), Failed> {
    let Ok(entries) = fs::read_dir(folder) else {
        // Another program's cgroup may go while we walk.
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path().display().to_string();
        let anothers =
            OTHERS.iter().any(|prefix| name.starts_with(prefix)) || others.iter().any(|top| path.ends_with(top));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !anothers {
            seen.insert(format!("cgroup: {path}"));
            cgroups(&entry.path(), others, seen)?;
        }
    }
    Ok(())
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
