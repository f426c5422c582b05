// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's two cgroup hierarchies with which systemd manages processes, and access to the whole of each, even
//! if it is not mounted anywhere.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::mounts;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// The named hierarchy of version 1, which has no controllers.
    Systemd,
    /// The hierarchy of version 2.
    Unified,
}

impl Hierarchy {
    pub const BOTH: [Self; 2] = [Self::Systemd, Self::Unified];

    /// Returns a process's path in the hierarchy, given the content of its /proc/PID/cgroup.
    pub fn path_in(self, cgroups: &str) -> Option<&str> {
        cgroups.lines().find_map(|line| match self {
            Self::Systemd => line.split_once(":name=systemd:").map(|(_, path)| path),
            Self::Unified => line.strip_prefix("0::"),
        })
    }

    /// Returns the whole hierarchy. Returns `None` if the kernel doesn't have it, in which case nothing can
    /// be left in it.
    pub fn whole(self) -> Result<Option<Whole>, Failed> {
        if self.path_in(&fs::read_to_string("/proc/self/cgroup")?).is_none() {
            return Ok(None);
        }
        let seen = mounts::parse(&fs::read_to_string("/proc/self/mountinfo")?);
        let mounted = seen.iter().find(|mount| {
            let fits = match self {
                Self::Systemd => mount.kind == "cgroup" && mount.has_super("name=systemd"),
                Self::Unified => mount.kind == "cgroup2",
            };
            fits && mount.root == "/" && mounts::at(&seen, &mount.point) == Some(mount)
        });
        Ok(Some(match mounted {
            Some(mount) => Whole { path: PathBuf::from(&mount.point), _mount: None },
            None => {
                let mount = self.mount()?;
                Whole { path: PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())), _mount: Some(mount) }
            }
        }))
    }

    /// Mounts the hierarchy without attaching it to a directory. The mount disappears when its descriptor is
    /// closed.
    fn mount(self) -> Result<OwnedFd, Failed> {
        let kind = match self {
            Self::Systemd => "cgroup",
            Self::Unified => "cgroup2",
        };
        let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        if self == Self::Systemd {
            rustix::mount::fsconfig_set_flag(&context, "none")?;
            rustix::mount::fsconfig_set_string(&context, "name", "systemd")?;
        }
        rustix::mount::fsconfig_create(&context)?;
        Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
    }
}

/// A hierarchy from its root on. The path is valid as long as this value exists.
#[derive(Debug)]
pub struct Whole {
    path: PathBuf,
    _mount: Option<OwnedFd>,
}

impl Whole {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns the options of version 2's file system on this machine. All its mounts share one set of options: a
/// further mount without them would remove `nsdelegate` from the others.
pub fn unified_options() -> Result<String, Failed> {
    let seen = mounts::parse(&fs::read_to_string("/proc/self/mountinfo")?);
    let mounted = seen.into_iter().find(|mount| mount.kind == "cgroup2");
    Ok(mounted.map_or_else(|| "rw".to_owned(), |mount| mount.super_options))
}
