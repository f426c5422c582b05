// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Proves that this process runs where it should at its stage, and that the mount namespace that it is about to
//! change is the container's. Containers that are left alone need no proof.
//!
//! The PID in the state proves nothing at createContainer: runc writes the PID in the container's own PID namespace,
//! crun writes 0 and youki none, and a caller that makes a mistake at createRuntime may write the same.

use std::path::Path;

use rustix::io::Errno;

use super::GatherError;
use super::error::{MissingMount, NamespaceHolder, Outside, StageError};
use crate::facts::Stage;
use crate::kernel::status;
use crate::oci::config::Config;
use crate::oci::state::State;
use crate::path::InnerPath;
use crate::root::Root;
use crate::sys::{SysError, fs, process};

/// What is known about the namespaces in which this process runs.
#[derive(Debug, Default)]
pub struct StageEvidence {
    /// The runtime's PID in the mounted /proc, if the runtime was found to be in another PID
    /// namespace than this process.
    pub runtime: Option<u32>,
    /// The error with which the caller should fail if there is something to do, because evidence is lacking.
    pub lacking: Option<StageError>,
}

/// Proves at createContainer that this process is in the container's mount namespace. Evidence against it is an error.
pub fn prove(stage: Stage, config: &Config) -> Result<StageEvidence, GatherError> {
    match stage {
        Stage::CreateContainer if config.has_namespace("mount") => match prove_inside(config) {
            Err(GatherError::Stage(error @ StageError::Unproven(_))) => {
                Ok(StageEvidence { lacking: Some(error), ..StageEvidence::default() })
            }
            result => result.map(|runtime| StageEvidence { runtime, lacking: None }),
        },
        // There is nothing to prove at createRuntime: `pid_of` checks that the process whose mount namespace will be
        // entered isn't the host's or the engine's.
        Stage::CreateContainer | Stage::CreateRuntime => Ok(StageEvidence::default()),
    }
}

/// Proves that this process is in the container. Returns the runtime's PID if the PID namespaces identify the runtime.
fn prove_inside(config: &Config) -> Result<Option<u32>, GatherError> {
    let own = process::namespace("self", "mnt").map_err(StageError::Unproven)?;
    // A different namespace proves nothing, since an engine can be in a private mount namespace.
    if own.is_some() && own == if_shown(process::namespace("1", "mnt")).map_err(StageError::Unproven)?.flatten() {
        return Err(StageError::Outside(Outside::Init).into());
    }
    let (runtime, told_by) = runtime(own.as_deref())?;
    let is_told = (told_by == ToldBy::PidNamespaces).then_some(runtime);
    let of = runtime.to_string();
    let with_runtime = |kind: &'static str| Err(StageError::Outside(Outside::Runtime { pid: runtime, kind }).into());
    let its = match process::namespace(&of, "mnt") {
        Ok(Some(its)) => its,
        Ok(None) => {
            return Err(StageError::Unproven(SysError::Finding(format!("process {of} has ended"))).into());
        }
        // This process has no rights over the runtime, for instance because it is in the container's own user
        // namespace. If that user namespace owns this mount namespace, only processes of the user namespace can be
        // in it, and the runtime isn't one of them.
        Err(error)
            if is_hidden(&error)
                && config.has_namespace("user")
                && process::owns_mount_namespace()
                && is_in_another_user_namespace(&of)? =>
        {
            return Ok(is_told);
        }
        Err(error) => return Err(StageError::Unproven(error).into()),
    };
    if own == Some(its) {
        return with_runtime("mount");
    }
    // If the runtime could not be told apart from the container, the process found is an ancestor of the runtime.
    match shared_kind(config, &of).map_err(StageError::Unproven)? {
        Some(kind) => with_runtime(kind),
        None => Ok(is_told),
    }
}

/// Returns the kind of a namespace that is the container's own, and that this process shares with the process `of`.
/// Two processes that share such a namespace are either both inside the container, or both outside. Returns `None`
/// if they share none.
fn shared_kind(config: &Config, of: &str) -> Result<Option<&'static str>, SysError> {
    const KINDS: [(&str, &str); 5] =
        [("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("user", "user"), ("network", "net")];
    // The runtime enters all of them before it calls a hook, so checking one kind is enough.
    let Some((kind, link)) = KINDS.into_iter().find(|(kind, _)| config.has_new_namespace(kind)) else {
        return Ok(None);
    };
    let own = process::namespace("self", link)?;
    let its = if_shown(process::namespace(of, link))?.flatten();
    Ok((own.is_some() && own == its).then_some(kind))
}

/// The maximum number of generations from this process up to the runtime. In between are the container's first
/// process, and programs that wrap this hook.
const ANCESTORS_MAX: usize = 8;

/// Whether the process with this PID in /proc is an ancestor of this process, as far as /proc shows it.
pub(super) fn is_ancestor(pid: u32) -> bool {
    let above = |of: &str| read(&format!("/proc/{of}/status")).ok().and_then(|status| status::parent(&status));
    std::iter::successors(above("self"), |of| above(&of.to_string())).take(ANCESTORS_MAX).any(|above| above == pid)
}

/// How the runtime was told apart from the container's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ToldBy {
    PidNamespaces,
    MountNamespaces,
}

/// Finds the nearest ancestor outside the container, by its PID in the mounted /proc, which is the runtime's until
/// pivot_root(2) to the container's root.
fn runtime(own: Option<&Path>) -> Result<(u32, ToldBy), GatherError> {
    let mut status = read("/proc/self/status")?;
    let own_depth = status::pid_namespaces(&status);
    for _ in 0..ANCESTORS_MAX {
        let Some(pid) = status::parent(&status) else { break };
        let above = read(&format!("/proc/{pid}/status"))?;
        if status::pid_namespaces(&above).zip(own_depth).is_some_and(|(depth, own)| depth < own) {
            return Ok((pid, ToldBy::PidNamespaces));
        }
        if has_other_mounts(pid, own)? {
            return Ok((pid, ToldBy::MountNamespaces));
        }
        status = above;
    }
    Err(StageError::Outside(Outside::Ancestors).into())
}

fn has_other_mounts(pid: u32, own: Option<&Path>) -> Result<bool, GatherError> {
    let pid = pid.to_string();
    match if_shown(process::namespace(&pid, "mnt")).map_err(StageError::Unproven)? {
        // Nothing is known about a process that has ended.
        Some(its) => Ok(its.is_some_and(|its| Some(its.as_path()) != own)),
        None => is_in_another_user_namespace(&pid),
    }
}

/// Whether a process is in another user namespace. A `false` proves nothing.
fn is_in_another_user_namespace(pid: &str) -> Result<bool, GatherError> {
    // Every process may read the ID maps, but two namespaces can have the same map.
    if read("/proc/self/uid_map")? != read(&format!("/proc/{pid}/uid_map"))? {
        return Ok(true);
    }
    match process::namespace(pid, "user") {
        // With CAP_SYS_PTRACE, the links of processes in the same user namespace are never hidden, ptrace(2).
        Err(error) if matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM)) => Ok(process::may_trace()),
        result => {
            let (its, own) = (result.map_err(StageError::Unproven)?, process::namespace("self", "user"));
            Ok(its.is_some() && its != own.map_err(StageError::Unproven)?)
        }
    }
}

/// Returns the PID of the container's first process at createRuntime, after the checks that are possible from
/// outside its mount namespace.
pub(super) fn pid_of(state: &State, config: &Config) -> Result<u32, GatherError> {
    const INIT: &str = "process 1";
    const OWN: &str = "this process";
    let pid = state.pid.ok_or(StageError::NoPid)?;
    if pid == 1 {
        // PID 1 is the host's first process, or that of a container in which the engine runs.
        return Err(StageError::NotContainers { pid, kind: "mount", whose: INIT }.into());
    }
    let of = |of: &str| process::namespace(of, "mnt");
    let enter = |source| GatherError::Enter { pid, source };
    let Some(its) = of(&pid.to_string()).map_err(enter)? else { return Err(StageError::NoProcess { pid }.into()) };
    let (kind, whose) = if Some(&its) == of("self").map_err(enter)?.as_ref() {
        ("mount", OWN)
    } else if Some(&its) == if_shown(of("1")).map_err(enter)?.flatten().as_ref() {
        ("mount", INIT)
    } else if let Some(kind) = shared_kind(config, &pid.to_string()).map_err(enter)? {
        // The state names a process of the host or of the engine.
        (kind, OWN)
    } else {
        return Ok(pid);
    };
    Err(StageError::NotContainers { pid, kind, whose }.into())
}

/// Checks that this mount namespace, which is that of `of`, appears to have been set up by a runtime from config.json.
pub(super) fn is_set_up(root: &Root, config: &Config, of: NamespaceHolder) -> Result<(), GatherError> {
    let look = |source| GatherError::Root { path: root.path().to_owned(), source };
    let path = || root.path().to_owned();
    let lacking = if !is_mount_point(root).map_err(look)? {
        MissingMount::Root(path())
    } else if !has_any_mount(root, config)? {
        MissingMount::Mounts(path())
    } else {
        return Ok(());
    };
    Err(StageError::NotMounted { of, lacking }.into())
}

fn is_mount_point(root: &Root) -> Result<bool, SysError> {
    if fs::is_mount(root.directory())? {
        return Ok(true);
    }
    // Before Linux 5.8 there is no STATX_ATTR_MOUNT_ROOT, and the mount IDs must be compared.
    let above = Root::open(&fs::proc_path(root.directory()).join(".."))?;
    Ok(root.mount()? != above.mount()?)
}

/// Whether any of config.json's mounts exists. One is enough: symbolic links in the image must not keep
/// its container from starting.
fn has_any_mount(root: &Root, config: &Config) -> Result<bool, GatherError> {
    for mount in &config.mounts {
        let at = InnerPath::new(&mount.destination);
        match is_mounted(root, &at) {
            Ok(true) if at != InnerPath::root() => return Ok(true),
            // The path doesn't exist or contains a symbolic link, so another mount has to serve as proof.
            Ok(_) | Err(SysError::Call { errno: Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS, .. }) => {}
            Err(source) => return Err(GatherError::Look { at, source }),
        }
    }
    Ok(config.mounts.is_empty())
}

fn is_mounted(root: &Root, at: &InnerPath) -> Result<bool, SysError> {
    let place = root.place(at)?;
    Ok(fs::is_mount(&place)? || root.mount()? != fs::mount_number(&place)?)
}

/// Whether an error means that something is hidden from this process, because it lacks rights or
/// because of `hidepid`, proc(5).
fn is_hidden(error: &SysError) -> bool {
    matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM | Errno::NOENT | Errno::SRCH))
}

fn if_shown<T>(result: Result<T, SysError>) -> Result<Option<T>, SysError> {
    match result {
        Err(error) if is_hidden(&error) => Ok(None),
        result => result.map(Some),
    }
}

fn read(path: &str) -> Result<String, GatherError> {
    Ok(fs::read_host_text(path).map_err(StageError::Unproven)?)
}
