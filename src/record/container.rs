// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Identifies the container that a record belongs to, and finds out whether it still exists. An ID is unique only
//! within one runtime's state directory, so a container is identified by its bundle and its first process.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::kernel::{status, time_offsets};
use crate::sys::{fs, others};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What distinguishes a container from all others on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RecordedContainer {
    /// The bundle's path, as the runtime gave it at creation.
    bundle: OsString,
    /// The bundle's device and inode, because an engine may name it by another path at poststop.
    bundle_directory: Option<(u64, u64)>,
    /// The boot ID, or `None` if the kernel doesn't provide it.
    boot: Option<String>,
    /// The first process, or `None` if it is unknown.
    first: Option<FirstProcess>,
    /// The namespaces in which the paths of the record are valid, or `None` if they are unknown.
    namespaces: Option<Namespaces>,
}

/// The namespaces that determine where a path leads. An engine may have private mounts
/// that other processes don't see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Namespaces {
    mount: u64,
    cgroup: Option<u64>,
    /// A PID is meaningless in another PID namespace, and so is a start time in another time namespace.
    pid: Option<u64>,
    time: Option<u64>,
}

impl Namespaces {
    /// Returns the namespaces of this process, or `None` if they can't be determined.
    #[must_use]
    pub fn own() -> Option<Self> {
        Self::of("self")
    }

    pub(super) fn of(pid: &str) -> Option<Self> {
        let of = |kind| others::namespace(pid, kind);
        Some(Self { mount: of("mnt")?, cgroup: of("cgroup"), pid: of("pid"), time: of("time") })
    }
}

/// A container's first process, identified by its PID and its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct FirstProcess {
    pub(super) pid: u32,
    start_ticks: u64,
    pid_namespace: Option<u64>,
}

/// Whether a container still exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// The first process, which has this PID, is running or waits for `start`.
    Alive(u32),
    /// The first process has ended, and its mount namespace is gone.
    Gone,
    /// It can't be determined whether the container exists.
    Unknown,
}

impl RecordedContainer {
    /// Identifies the container that is being created in `bundle`.
    pub(super) fn of(bundle: &Path, seen: &ContainerView) -> Self {
        let (pid, namespaces) = match seen {
            ContainerView::ByRuntime { first_process, namespaces } => (*first_process, *namespaces),
            ContainerView::FromInside => {
                outermost().map_or((None, None), |(pid, runtime)| (Some(pid), Namespaces::of(&runtime.to_string())))
            }
        };
        Self {
            bundle: bundle.as_os_str().to_owned(),
            bundle_directory: directory(bundle),
            boot: boot(),
            first: pid.and_then(FirstProcess::of),
            namespaces,
        }
    }

    /// Returns a file name that no other container's record has.
    pub(super) fn file_name(&self) -> String {
        match (self.first, self.bundle_directory) {
            (Some(first), _) => format!("{}-{}", first.pid, first.start_ticks),
            (None, Some((device, inode))) => format!("bundle-{device}-{inode}"),
            (None, None) => "bundle".to_owned(),
        }
    }

    /// Whether a state with this bundle can belong to this container.
    pub(super) fn is_of(&self, bundle: &Path) -> bool {
        self.bundle == bundle.as_os_str()
            || (self.bundle_directory.is_some() && self.bundle_directory == directory(bundle))
    }

    /// Returns the bundle's path, as the runtime gave it at creation.
    pub(super) fn bundle(&self) -> &Path {
        Path::new(&self.bundle)
    }

    pub(super) fn life(&self) -> Life {
        if self.is_of_another_boot() { Life::Gone } else { self.first.map_or(Life::Unknown, FirstProcess::life) }
    }

    /// Whether the record was written before the last boot. Files below /run survive a reboot if /run is not a tmpfs.
    fn is_of_another_boot(&self) -> bool {
        self.boot.is_some() && boot().is_some_and(|now| self.boot.as_ref() != Some(&now))
    }

    /// Whether this process's view of the container is conclusive: it sees all processes, under the PIDs that the
    /// runtime saw, and either the paths of the record lead where they led for the runtime, or the runtime's
    /// namespaces are gone. `living` returns the namespaces that still have processes.
    pub(super) fn is_here<'a>(&self, living: impl FnOnce() -> Option<&'a HashSet<Namespaces>>) -> bool {
        let Some(noted) = self.namespaces else { return self.is_of_another_boot() };
        let Some(own) = Namespaces::own() else { return false };
        if (noted.pid, noted.time) != (own.pid, own.time) || others::may_hide_processes().unwrap_or(true) {
            return false;
        }
        self.is_in_these_namespaces()
            || self.is_of_another_boot()
            || living().is_some_and(|living| !living.contains(&noted))
    }

    /// Whether the paths of the record lead where they led for the runtime.
    pub(super) fn is_in_these_namespaces(&self) -> bool {
        self.namespaces.is_some() && self.namespaces == Namespaces::own()
    }

    /// Whether the bundle's directory still exists.
    pub(super) fn has_bundle(&self) -> bool {
        self.bundle_directory.is_some() && self.bundle_directory == directory(self.bundle())
    }
}

impl FirstProcess {
    /// Returns the process that has this PID now.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = others::stat(pid).ok()??;
        let pid_namespace = others::namespace(&pid.to_string(), "pid");
        Some(Self { pid, start_ticks: stat.start_ticks, pid_namespace })
    }

    pub(super) fn life(self) -> Life {
        let stat = match others::stat(self.pid) {
            Ok(Some(stat)) => stat,
            Ok(None) => return Life::Gone,
            Err(_) => return Life::Unknown,
        };
        if stat.has_ended || stat.start_ticks != self.start_ticks {
            return Life::Gone;
        }
        match (self.pid_namespace, others::namespace(&self.pid.to_string(), "pid")) {
            (Some(noted), Some(now)) if noted != now => Life::Gone,
            _ => Life::Alive(self.pid),
        }
    }
}

fn boot() -> Option<String> {
    fs::read_host_text(BOOT_ID).ok().map(|text| text.trim().to_owned())
}

fn directory(bundle: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(bundle).ok().map(|status| (status.dev(), status.ino()))
}

/// How a call of the hook sees its container.
#[derive(Debug, Clone, Copy)]
pub enum ContainerView {
    /// The call runs in the runtime's namespaces, at createRuntime.
    ByRuntime {
        /// The PID of the container's first process.
        first_process: Option<u32>,
        /// The namespaces that the call started in, or `None` if they are unknown.
        namespaces: Option<Namespaces>,
    },
    /// The call runs inside the container, at createContainer.
    FromInside,
}

/// Returns the PIDs of the container's first process and of the runtime, as the mounted /proc shows them
/// at createContainer. The first process is the topmost ancestor in this process's PID namespace, and
/// the runtime is its parent.
///
/// Returns `None` if the container has no PID namespace of its own, because any ancestor may then be its
/// first process; or if it has a time namespace in which a process's start time differs from the one
/// that the host sees, time_namespaces(7).
fn outermost() -> Option<(u32, u32)> {
    /// Enough for a runtime's init process and for programs that wrap this hook.
    const ANCESTORS_MAX: usize = 8;
    let read = |pid: &str| fs::read_host_text(&format!("/proc/{pid}/status")).ok();
    if fs::read_host_text("/proc/self/timens_offsets").is_ok_and(|text| !time_offsets::are_none(&text)) {
        return None;
    }
    let mut status = read("self")?;
    let depth = status::pid_namespaces(&status)?;
    let mut pid = None;
    for _ in 0..ANCESTORS_MAX {
        let above = status::parent(&status)?;
        status = read(&above.to_string())?;
        if status::pid_namespaces(&status)? < depth {
            return pid.map(|pid| (pid, above));
        }
        pid = Some(above);
    }
    None
}
