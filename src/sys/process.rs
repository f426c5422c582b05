// SPDX-License-Identifier: Apache-2.0 OR MIT
//! This process and the namespaces of others.

use std::path::PathBuf;

use rustix::thread::LinkNameSpaceType;

use super::{Context, SysError, fs};

/// The pid of this process's parent, in its own pid namespace.
#[must_use]
pub fn parent() -> Option<u32> {
    rustix::process::getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok())
}

/// What tells one mount namespace from another; none where the process can't be looked at.
#[must_use]
pub fn mount_namespace(of: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{of}/ns/mnt")).ok()
}

/// Enters the mount namespace of another process, and no other namespace of it. This process's root
/// is then that namespace's root.
pub fn enter_mount_namespace(pid: u32) -> Result<(), SysError> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/mnt"));
    let namespace = fs::open_host(&path)?;
    rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Mount))
        .call(|| format!("setns({path:?}, CLONE_NEWNS)"))
}

/// All of the machine's memory, as sysinfo(2) tells: what /proc/meminfo calls `MemTotal`.
#[must_use]
// The field is 32 bits wide on 32-bit machines.
#[allow(clippy::useless_conversion)]
pub fn host_memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit))
}

/// Lets created files have exactly the permissions that they are created with.
pub fn clear_umask() {
    rustix::process::umask(rustix::fs::Mode::empty());
}
