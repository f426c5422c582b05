// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cgroups by descriptor, cgroups(7). A hierarchy is reached by a mount of it that is nowhere in the
//! tree and goes with its descriptor: wherever the host has it mounted, and if nowhere.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::{Context, SysError, fs, mount};
use crate::kernel::cgroup::{self, Hierarchy};
use crate::kernel::mountinfo;
use crate::path::InnerPath;

/// How long a cgroup may take to be empty, and a hierarchy to be gone: what ends a process or a mount
/// namespace doesn't wait until the kernel is done with it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// More than any file in a cgroup directory has that is read here.
const LIMIT_BYTES: u64 = 1024 * 1024;

/// Mounts a hierarchy, nowhere yet, from the root of this process's cgroup namespace on. v1's named
/// one comes into being by that; the kernel lets it go with its last mount, if it has no cgroups.
pub fn open(hierarchy: Hierarchy) -> Result<OwnedFd, SysError> {
    match hierarchy {
        Hierarchy::Unified => {
            let options = options_of_v2();
            mount::new_mount("cgroup2", &[], &options.iter().map(String::as_str).collect::<Vec<_>>())
        }
        Hierarchy::Systemd => {
            let named = mount::new_mount("cgroup", &[("name", "systemd".to_owned())], &["none", "xattr"]);
            named.map_err(|error| match error.errno() {
                Errno::NOENT => error.with_hint("the kernel was booted with cgroup_no_v1=named, or all"),
                Errno::PERM => error.with_hint("only on the host itself, in its first cgroup namespace, v1 can be had"),
                _ => error,
            })
        }
        Hierarchy::Memory => mount::new_mount("cgroup", &[], &["memory"]),
    }
}

/// The options that v2's hierarchy has. They are the whole machine's, and each new mount of it in the first
/// cgroup namespace sets them anew: one without `nsdelegate` would take that from all containers
/// (`apply_cgroup_root_flags` in the kernel's kernel/cgroup/cgroup.c).
fn options_of_v2() -> Vec<String> {
    /// Those of any mount, and what SELinux shows.
    const NOT_ITS_OWN: [&str; 3] = ["rw", "ro", "seclabel"];
    ["/proc/self/mountinfo", "/proc/1/mountinfo"]
        .into_iter()
        .find_map(|table| {
            let table = fs::read_host(Path::new(table)).ok()?;
            mountinfo::entries(&table).find(|entry| entry.is_type("cgroup2")).map(|entry| entry.super_options())
        })
        .unwrap_or_default()
        .into_iter()
        .filter(|option| !NOT_ITS_OWN.contains(&option.as_str()))
        .collect()
}

/// Opens a cgroup of a hierarchy. There are no links in one.
pub fn directory(hierarchy: BorrowedFd<'_>, path: &InnerPath) -> Result<OwnedFd, SysError> {
    let below = path.below(&InnerPath::root()).unwrap_or(Path::new(""));
    let name = if below.as_os_str().is_empty() { OsStr::new(".") } else { below.as_os_str() };
    fs::open_at(hierarchy, name, OFlags::PATH | OFlags::DIRECTORY)
}

/// The processes in a cgroup, by their pids here; those of outer pid namespaces are left out.
pub fn processes(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, SysError> {
    let text = read(cgroup, "cgroup.procs")?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
}

/// Moves a process with all its threads.
pub fn enter(cgroup: BorrowedFd<'_>, pid: u32) -> Result<(), SysError> {
    write(cgroup, "cgroup.procs", &pid.to_string())
}

/// The controllers that a cgroup of v2 has.
pub fn controllers(cgroup: BorrowedFd<'_>) -> Result<Vec<String>, SysError> {
    Ok(read(cgroup, "cgroup.controllers")?.split_whitespace().map(str::to_owned).collect())
}

/// Whether the cgroups below one have a controller, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Below {
    /// They have.
    Enabled,
    /// They haven't.
    Disabled,
}

/// Gives a controller to the cgroups below, or takes it from them.
pub fn set_controller(cgroup: BorrowedFd<'_>, controller: &str, below: Below) -> Result<(), SysError> {
    let sign = match below {
        Below::Enabled => '+',
        Below::Disabled => '-',
    };
    write(cgroup, "cgroup.subtree_control", &format!("{sign}{controller}"))
}

/// Removes a cgroup with all below it, and waits a moment for processes in them that are ending. One
/// that isn't there is no error.
pub fn remove(hierarchy: Hierarchy, path: &InnerPath) -> Result<(), SysError> {
    let top = open(hierarchy)?;
    let Some((above, name)) = path.parent().zip(path.as_path().file_name()) else {
        return Err(SysError::new(format!("rmdir({path})"), Errno::BUSY));
    };
    let result = match directory(top.as_fd(), &above) {
        Ok(above) => remove_tree(above.as_fd(), Path::new(name)),
        Err(error) if error.errno() == Errno::NOENT => Ok(()),
        Err(error) => Err(error),
    };
    drop(top);
    if hierarchy == Hierarchy::Systemd {
        let_go_of_systemd();
    }
    result
}

fn remove_tree(above: BorrowedFd<'_>, name: &Path) -> Result<(), SysError> {
    let mut found = vec![name.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        found.extend(children(above, &path)?);
        next += 1;
    }
    let deadline = Instant::now() + PATIENCE;
    for path in found.iter().rev() {
        loop {
            match fs::unlink_at(above, path.as_os_str(), FileType::Directory) {
                Ok(()) => break,
                Err(error) if error.errno() == Errno::NOENT => break,
                Err(error) if error.errno() == Errno::BUSY && Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn children(above: BorrowedFd<'_>, path: &Path) -> Result<Vec<PathBuf>, SysError> {
    let directory = match fs::open_at(above, path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(error) if error.errno() == Errno::NOENT => return Ok(Vec::new()),
        result => result?,
    };
    let names = fs::read_dir(directory.as_fd())?.into_iter();
    let is_cgroup =
        |name: &OsStr| fs::stat_at(directory.as_fd(), name).is_ok_and(|stat| fs::kind(&stat) == FileType::Directory);
    Ok(names.filter(|name| is_cgroup(name)).map(|name| path.join(name)).collect())
}

/// The kernel lets a hierarchy of v1 go when its last mount goes while it has no cgroup, and a removed
/// cgroup is one for a moment still. So it is mounted again until it is gone, or others are in it, or
/// still have it mounted after a while.
fn let_go_of_systemd() {
    let mounts = fs::read_host(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    if mountinfo::entries(&mounts).any(|entry| entry.is_type("cgroup") && entry.has_super_option("name=systemd")) {
        // It is the host's own.
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    let is_there = || {
        let text = fs::read_host_text("/proc/self/cgroup").unwrap_or_default();
        cgroup::parse(&text, Hierarchy::Systemd).is_some()
    };
    while is_there() && Instant::now() < deadline {
        match open(Hierarchy::Systemd).and_then(|top| children(top.as_fd(), Path::new("."))) {
            Ok(children) if children.is_empty() => std::thread::sleep(PAUSE),
            Ok(_) | Err(_) => return,
        }
    }
}

fn read(cgroup: BorrowedFd<'_>, name: &str) -> Result<String, SysError> {
    let text = fs::read_up_to(fs::open_at(cgroup, name, OFlags::RDONLY)?, LIMIT_BYTES)?;
    Ok(String::from_utf8_lossy(&text.unwrap_or_default()).into_owned())
}

fn write(cgroup: BorrowedFd<'_>, name: &str, text: &str) -> Result<(), SysError> {
    let mut file = File::from(fs::open_at(cgroup, name, OFlags::WRONLY)?);
    file.write_all(text.as_bytes()).call(|| format!("write({name:?}, {text:?})"))
}
