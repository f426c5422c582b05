// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Describes a prepared container, so that two of them can be compared.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::harness::tree::{self, Detail, Snapshot};
use crate::table;

/// The modification time of all files in the image, in seconds since 1970. Files that the hook creates are newer.
pub const WRITTEN: i64 = 1_000_000_000;

/// The directories of the container in which the hook creates files. For cgroups only the mounts are compared.
const DIRECTORIES: [&str; 4] = ["etc", "run", "tmp", "var"];

/// A container's mounts and files, without anything that differs from container to container.
#[derive(Debug, PartialEq, Eq)]
pub struct Prepared {
    mounts: Snapshot,
    files: Snapshot,
}

/// Describes a container as a process sees it.
pub fn see(bundle: &Bundle, process: &str) -> Prepared {
    let root = bundle.root("");
    let top = Path::new("/proc").join(process).join("root").join(root.strip_prefix("/").unwrap());
    let mut files = Snapshot::new();
    for directory in DIRECTORIES {
        let found = if top.join(directory).is_dir() {
            tree::read(&top.join(directory), Detail::Copied)
        } else {
            Snapshot::new()
        };
        files.extend(found.into_iter().map(|(path, line)| (Path::new("/").join(directory).join(path), ageless(&line))));
    }
    let mut mounts = Snapshot::new();
    for mount in table::of(process) {
        let Ok(below) = mount.at.strip_prefix(&root) else { continue };
        let size = rustix::fs::statvfs(top.join(below)).map(|stat| (stat.f_blocks, stat.f_files));
        let size = size.ok().filter(|_| mount.fs_type == "tmpfs");
        let groups: String = mount.propagation.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        let line = format!("{} {:?} {} {groups}{size:?}; ", mount.fs_type, mount.root, mount.options);
        // The cgroup of each trial has a different name.
        let own = bundle.cgroup.as_ref().and_then(|own| own.path().file_name()).and_then(OsStr::to_str);
        let nameless = |text: &str| own.map_or_else(|| text.to_owned(), |own| text.replace(own, "own-cgroup"));
        let at = Path::new("/").join(nameless(&below.to_string_lossy()));
        // Several mounts may be stacked on one mount point.
        *mounts.entry(at).or_default() += &nameless(&line);
    }
    Prepared { mounts, files }
}

/// Replaces the modification time of new files, which differs from run to run. A copy has that of its original.
fn ageless(line: &str) -> String {
    let kept = format!("mtime={WRITTEN}.0");
    let words = line.split(' ').map(|word| if word.starts_with("mtime=") && word != kept { "mtime=new" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the paths at which two containers differ, and the differences.
pub fn differences(one: &Prepared, other: &Prepared) -> Vec<(PathBuf, String)> {
    [(&one.mounts, &other.mounts), (&one.files, &other.files)]
        .into_iter()
        .flat_map(|(one, other)| {
            let paths: BTreeSet<_> = one.keys().chain(other.keys()).collect();
            let different = paths.into_iter().filter(|path| one.get(*path) != other.get(*path));
            different.map(|path| (path.clone(), format!("{:?}, not {:?}", other.get(path), one.get(path))))
        })
        .collect()
}
