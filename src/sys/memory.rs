// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cgroup that memory is charged to, cgroups(7). This module doesn't know what the memory is for.
//!
//! The kernel charges a page of a tmpfs to the cgroup of the writing process's thread group *leader* (`mm->owner` in
//! its mm/memcontrol.c). So it isn't enough for a thread to enter another cgroup; a process has to.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::{SysError, cgroup};
use crate::kernel::cgroup::Hierarchy;
use crate::kernel::memory;
use crate::path::CgroupPath;

/// A cgroup of a hierarchy that may have the memory controller.
#[derive(Debug)]
pub struct MemoryController<'a> {
    hierarchy: Hierarchy,
    path: &'a CgroupPath,
    top: OwnedFd,
}

/// The memory that the limits of a cgroup and its ancestors leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeMemory {
    /// The lowest of these limits.
    pub limit_bytes: u64,
    /// How much can still be charged before the kernel kills a process, disregarding swap.
    pub free_bytes: u64,
}

impl<'a> MemoryController<'a> {
    /// Opens the hierarchy of a cgroup. `path` is relative to the root of this process's cgroup namespace.
    pub fn open(hierarchy: Hierarchy, path: &'a CgroupPath) -> Result<Self, SysError> {
        Ok(Self { hierarchy, path, top: cgroup::open(hierarchy)? })
    }

    /// Moves this process into the cgroup, provided that the process with this PID is in it.
    pub fn enter_beside(&self, pid: u32) -> Result<(), SysError> {
        let directory = cgroup::directory(self.top.as_fd(), self.path)?;
        if !cgroup::processes(directory.as_fd())?.contains(&pid) {
            let (path, hierarchy) = (self.path, self.hierarchy);
            return Err(SysError::Finding(format!("process {pid} is not in the cgroup {path} of {hierarchy}")));
        }
        // 0 stands for the process that writes it.
        cgroup::enter(directory.as_fd(), 0)
    }

    /// Returns the memory that is left for the cgroup, or `None` if there is no limit or no memory controller.
    pub fn room(&self) -> Result<Option<FreeMemory>, SysError> {
        let (limit, usage) = match self.hierarchy {
            Hierarchy::Unified => ("memory.max", "memory.current"),
            Hierarchy::Memory => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            Hierarchy::Systemd => return Ok(None),
        };
        let mut least: Option<FreeMemory> = None;
        let mut above = Some(self.path.clone());
        while let Some(path) = above {
            let directory = cgroup::directory(self.top.as_fd(), &path)?;
            let text = |name: &str| match cgroup::read(directory.as_fd(), name) {
                // v2's root has no limits, and neither has a cgroup for which the controller isn't enabled.
                Err(error) if error.errno() == Some(Errno::NOENT) => Ok(String::new()),
                result => result,
            };
            if let Some(limit_bytes) = memory::limit(&text(limit)?) {
                // If the usage is unknown, nothing counts as free.
                let used_bytes = text(usage)?.trim().parse().unwrap_or(u64::MAX);
                let kept_bytes = used_bytes.saturating_sub(memory::reclaimable(&text("memory.stat")?));
                let free_bytes = limit_bytes.saturating_sub(kept_bytes);
                least = Some(FreeMemory {
                    limit_bytes: least.map_or(limit_bytes, |room| room.limit_bytes.min(limit_bytes)),
                    free_bytes: least.map_or(free_bytes, |room| room.free_bytes.min(free_bytes)),
                });
            }
            above = path.parent();
        }
        Ok(least)
    }
}
