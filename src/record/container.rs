// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which container a record is of, and whether that can still be there. An id is unique in one runtime's directory only, so
//! it is the bundle, and the container's first process.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::kernel::{status, time_offsets};
use crate::sys::{fs, others};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What tells a container from all others of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Container {
    /// As the runtime says it at creation.
    bundle: OsString,
    /// Its device and inode: an engine may say it by another path at poststop.
    bundle_directory: Option<(u64, u64)>,
    /// None where the kernel doesn't tell.
    boot: Option<String>,
    /// None where it can't be told which process it is.
    first: Option<First>,
    /// In which the paths of the record are meant. None where that can't be told.
    namespaces: Option<Namespaces>,
}

/// Where a path leads: an engine may have mounts of its own that others don't see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Namespaces {
    mount: u64,
    cgroup: Option<u64>,
}

impl Namespaces {
    /// This process's.
    #[must_use]
    pub fn own() -> Option<Self> {
        Self::of("self")
    }

    pub(super) fn of(pid: &str) -> Option<Self> {
        Some(Self { mount: others::namespace(pid, "mnt")?, cgroup: others::namespace(pid, "cgroup") })
    }
}

/// A container's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct First {
    pub(super) pid: u32,
    start_ticks: u64,
    pid_namespace: Option<u64>,
}

/// Whether there is still something of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Its first process runs, or waits for `start`.
    Alive(u32),
    /// It has ended, and with it all mounts of its own.
    Gone,
    /// Neither is proven.
    Unknown,
}

impl Container {
    /// The one that is being created in `bundle`.
    pub(super) fn of(bundle: &Path, seen: &Seen) -> Self {
        let (pid, namespaces) = match seen {
            Seen::ByRuntime { first_process, namespaces } => (*first_process, *namespaces),
            Seen::FromInside => {
                outermost().map_or((None, None), |(pid, runtime)| (Some(pid), Namespaces::of(&runtime.to_string())))
            }
        };
        Self {
            bundle: bundle.as_os_str().to_owned(),
            bundle_directory: directory(bundle),
            boot: boot(),
            first: pid.and_then(First::of),
            namespaces,
        }
    }

    /// What a file is called that no other container's is.
    pub(super) fn file_name(&self) -> String {
        match (self.first, self.bundle_directory) {
            (Some(first), _) => format!("{}-{}", first.pid, first.start_ticks),
            (None, Some((device, inode))) => format!("bundle-{device}-{inode}"),
            (None, None) => "bundle".to_owned(),
        }
    }

    /// Whether a state with this bundle can be this container's.
    pub(super) fn is_of(&self, bundle: &Path) -> bool {
        self.bundle == bundle.as_os_str()
            || (self.bundle_directory.is_some() && self.bundle_directory == directory(bundle))
    }

    /// Where its bundle is, for messages.
    pub(super) fn bundle(&self) -> &Path {
        Path::new(&self.bundle)
    }

    pub(super) fn life(&self) -> Life {
        if self.is_of_another_boot() { Life::Gone } else { self.first.map_or(Life::Unknown, First::life) }
    }

    /// Files below /run outlive a boot where /run is no tmpfs.
    fn is_of_another_boot(&self) -> bool {
        self.boot.is_some() && boot().is_some_and(|now| self.boot.as_ref() != Some(&now))
    }

    /// Whether its paths lead where they led for the runtime, or the runtime's namespaces are no more. `living` are those
    /// that processes are in.
    pub(super) fn is_here(&self, living: impl FnOnce() -> Option<HashSet<Namespaces>>) -> bool {
        let Some(noted) = self.namespaces else { return self.is_of_another_boot() };
        Namespaces::own() == Some(noted)
            || self.is_of_another_boot()
            || living().is_some_and(|living| !living.contains(&noted))
    }
}

impl First {
    /// The process that has this pid now.
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

/// How a call sees its container.
#[derive(Debug, Clone, Copy)]
pub enum Seen {
    /// At createRuntime, with the pid of the container's first process and the namespaces that the call began in.
    ByRuntime {
        /// Its pid.
        first_process: Option<u32>,
        /// None where they can't be told.
        namespaces: Option<Namespaces>,
    },
    /// At createContainer.
    FromInside,
}

/// The container's first process at createContainer, by its pid on the host, and the runtime's: the ancestor of this process
/// that no further one shares the pid namespace with, and the next one. None where there is no such namespace, since then
/// any ancestor may be it, or where the container's clock is another than that in which the host tells when a process
/// started, time_namespaces(7).
fn outermost() -> Option<(u32, u32)> {
    /// A runtime's init, and what may wrap this hook.
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
