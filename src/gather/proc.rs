// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads files about processes, proc(5).

use std::path::PathBuf;

use rustix::io::Errno;

use super::GatherError;
use super::readings::CgroupFiles;
use crate::kernel::cgroup::{CgroupFile, Hierarchy};
use crate::kernel::{id_map, status};
use crate::path::OwnNamespace;
use crate::sys::{fs, process};

pub(super) fn read(path: &str) -> Result<String, GatherError> {
    fs::read_host_text(path).map_err(|source| GatherError::Read { path: PathBuf::from(path), source })
}

/// Reads a file about another process. Returns `None` if the process has ended or is hidden (`hidepid`, proc(5)).
pub(super) fn read_if_shown(path: &str) -> Result<Option<String>, GatherError> {
    match fs::read_host_text(path) {
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM)) => {
            Ok(None)
        }
        result => result.map(Some).map_err(|source| GatherError::Read { path: PathBuf::from(path), source }),
    }
}

/// Reads `uid_map` and `gid_map`. If one can't be read, it is assumed to map all IDs.
pub(super) fn id_maps(of: &str) -> [String; 2] {
    ["uid_map", "gid_map"]
        .map(|name| fs::read_host_text(&format!("/proc/{of}/{name}")).unwrap_or_else(|_| id_map::WHOLE.to_owned()))
}

/// Reads the cgroups of the container's first process, and of this process, which is in the runtime's cgroups.
///
/// v1's named hierarchy comes and goes with other containers, so the files are read again until either all or none
/// of them list it.
pub(super) fn cgroups_of(pid: u32) -> Result<CgroupFiles, GatherError> {
    const TRIES_MAX: u32 = 100;
    let path = format!("/proc/{pid}/cgroup");
    let enter = |source| GatherError::Enter { pid, source };
    let shares_namespace = process::shares_cgroup_namespace(pid).map_err(enter)?;
    let mut tries = 0;
    loop {
        let text = read(&path)?;
        let inside = if shares_namespace {
            text.clone()
        } else {
            process::in_cgroup_namespace(pid, || fs::read_host_text(&path)).map_err(enter)?
        };
        let (container, inside) = (CgroupFile::new(text), CgroupFile::new(inside));
        let runtime = CgroupFile::new(read("/proc/self/cgroup")?);
        let one = Hierarchy::Systemd;
        let told = [container.has(one), inside.has(one), runtime.has(one)];
        tries += 1;
        if told == [told[0]; 3] || tries == TRIES_MAX {
            return Ok(CgroupFiles { container, inside, runtime: Some(runtime) });
        }
    }
}

/// Reads the cgroups of the runtime, which is the nearest ancestor outside the container's PID namespace. Returns
/// `None` if the container has no PID namespace of its own, or if the runtime can't be determined.
pub(super) fn cgroup_of_runtime(known: Option<u32>) -> Result<Option<CgroupFile<OwnNamespace>>, GatherError> {
    /// Enough for the container's first process, and programs that wrap this hook.
    const ANCESTORS_MAX: usize = 8;
    if let Some(pid) = known {
        return cgroup_file(pid);
    }
    let Some(mut status) = read_if_shown("/proc/self/status")? else { return Ok(None) };
    let own_depth = status::pid_namespaces(&status);
    for _ in 0..ANCESTORS_MAX {
        let Some(pid) = status::parent(&status) else { return Ok(None) };
        let Some(above) = read_if_shown(&format!("/proc/{pid}/status"))? else { return Ok(None) };
        match (status::pid_namespaces(&above), own_depth) {
            (Some(depth), Some(own_depth)) if depth < own_depth => {
                return cgroup_file(pid);
            }
            (Some(_), Some(_)) => status = above,
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Reads the cgroups of another process. Returns `None` if the process has ended or is hidden.
fn cgroup_file(pid: u32) -> Result<Option<CgroupFile<OwnNamespace>>, GatherError> {
    Ok(read_if_shown(&format!("/proc/{pid}/cgroup"))?.map(CgroupFile::new))
}
