// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Proves that this process is where its stage says, and that the mount namespace which it is about to change is the
//! container's. Asks nothing of containers that are left alone.
//!
//! The state's pid proves nothing at createContainer: there runc writes the number in the container's own pid namespace,
//! crun 0 and youki none, and a caller that makes a mistake at createRuntime may write the same.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::GatherError;
use crate::facts::Stage;
use crate::kernel::status;
use crate::oci::config::Config;
use crate::oci::state::State;
use crate::path::InnerPath;
use crate::root::Root;
use crate::sys::{SysError, fs, process};

/// Why this process isn't where its stage says.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It is outside the container.
    #[error(
        "at createContainer this process must be in the container's mount namespace, and isn't: {0}; to call it from outside, \
         at createRuntime, give it the pid of the container's first process in the state"
    )]
    Outside(Outside),
    /// /proc doesn't show enough.
    #[error(
        "cannot prove that this process is in the container's mount namespace, as it must be at createContainer; let the \
         hook run at createRuntime instead, or let this process see its ancestors in /proc"
    )]
    Unproven(#[source] SysError),
    /// createRuntime without a container's process.
    #[error(
        "the state has no pid of a process, and at {} the hook needs that of the container's first process",
        Stage::CreateRuntime.name()
    )]
    NoPid,
    /// Likewise.
    #[error("the state's pid {pid} is no process, and at {} it must be the container's first one", Stage::CreateRuntime.name())]
    NoProcess {
        /// Whose.
        pid: u32,
    },
    /// The pid is not the container's.
    #[error(
        "the state's pid {pid} is in the {kind} namespace of {whose}: at {} it must be that of the container's first process",
        Stage::CreateRuntime.name()
    )]
    NotContainers {
        /// Whose.
        pid: u32,
        /// What they share, as in config.json.
        kind: &'static str,
        /// With whom.
        whose: &'static str,
    },
    /// Runtimes mount the root and what config.json lists before they call any hook.
    #[error("the mount namespace of {of} can't be the container's, since {lacking} in it")]
    NotMounted {
        /// Who is in it.
        of: Of,
        /// What should be there.
        lacking: Lacking,
    },
}

/// By what it shows that this process is outside the container.
#[derive(Debug, thiserror::Error)]
pub enum Outside {
    /// The host's first process, or that of a container in which the engine runs.
    #[error("it is in that of process 1")]
    WithInit,
    /// The runtime.
    #[error("it is in the {kind} namespace of process {pid}, which is outside the container")]
    WithRuntime {
        /// Which.
        pid: u32,
        /// What they share, as in config.json.
        kind: &'static str,
    },
    /// As on a host, where all processes are in one.
    #[error("no process above it is outside this mount namespace")]
    WithAll,
}

/// Who is in a mount namespace.
#[derive(Debug)]
pub enum Of {
    /// This process.
    Own,
    /// The process that the state names.
    Pid(u32),
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("this process"),
            Self::Pid(pid) => write!(f, "the state's pid {pid}"),
        }
    }
}

/// What is missing in a mount namespace.
#[derive(Debug, thiserror::Error)]
pub enum Lacking {
    /// Every runtime mounts it, if need be on itself.
    #[error("the container's root {} is no mount point", .0.display())]
    Root(PathBuf),
    /// At least the first ones are made before any hook runs.
    #[error("none of config.json's mounts is below {}", .0.display())]
    Mounts(PathBuf),
}

/// Proves that this process is in the container's mount namespace where it is called at createContainer. What speaks
/// against it is an error; what merely can't be seen is returned, and matters where there is something to do.
pub fn prove(stage: Stage, config: &Config) -> Result<Option<StageError>, GatherError> {
    match stage {
        Stage::CreateContainer if config.has_namespace("mount") => match prove_inside(config) {
            Err(GatherError::Stage(error @ StageError::Unproven(_))) => Ok(Some(error)),
            result => result.map(|()| None),
        },
        // createRuntime looks at the process that it is told, on the way to it.
        Stage::CreateContainer | Stage::CreateRuntime => Ok(None),
    }
}

fn prove_inside(config: &Config) -> Result<(), GatherError> {
    let own = process::namespace("self", "mnt").map_err(StageError::Unproven)?;
    // It proves nothing where it is another: an engine can be in a mount namespace of its own.
    if own.is_some() && own == if_shown(process::namespace("1", "mnt")).map_err(StageError::Unproven)?.flatten() {
        return Err(StageError::Outside(Outside::WithInit).into());
    }
    let runtime = runtime(own.as_deref())?;
    let of = runtime.to_string();
    let with_runtime = |kind| Err(StageError::Outside(Outside::WithRuntime { pid: runtime, kind }).into());
    let its = match process::namespace(&of, "mnt") {
        Ok(Some(its)) => its,
        Ok(None) => return Err(StageError::Unproven(SysError::new(format!("/proc/{of}/ns/mnt"), Errno::SRCH)).into()),
        // No rights over the runtime, as in a user namespace of the container's own. In what that one owns are only its own
        // processes, and the runtime isn't one.
        Err(error)
            if is_hidden(&error)
                && config.has_namespace("user")
                && process::owns_mount_namespace()
                && has_another_id_map(&of)? =>
        {
            return Ok(());
        }
        Err(error) => return Err(StageError::Unproven(error).into()),
    };
    if own == Some(its) {
        return with_runtime("mount");
    }
    // It may be an engine, or what is above that, where the runtime itself was not told from the container.
    match shared_kind(config, &of).map_err(StageError::Unproven)? {
        Some(kind) => with_runtime(kind),
        None => Ok(()),
    }
}

/// A kind of namespaces that the container has of its own, and that this process has in common with another one. Who is
/// in the same one is on the same side: inside, or outside.
fn shared_kind(config: &Config, of: &str) -> Result<Option<&'static str>, SysError> {
    let mut kinds = ["pid", "ipc", "uts", "user"].into_iter().filter(|kind| config.has_new_namespace(kind));
    // The runtime enters all of them before it calls a hook, so that one is as good as all.
    let Some(kind) = kinds.next() else { return Ok(None) };
    let own = process::namespace("self", kind)?;
    let its = if_shown(process::namespace(of, kind))?.flatten();
    Ok((own.is_some() && own == its).then_some(kind))
}

/// How far above this process the runtime can be: below it are the container's first process, and what may wrap this hook.
const ANCESTORS_MAX: usize = 8;

/// Whether a process, by its number in /proc, is above this one. What can't be seen is not.
pub(super) fn is_ancestor(pid: u32) -> bool {
    let above = |of: &str| read(&format!("/proc/{of}/status")).ok().and_then(|status| status::parent(&status));
    std::iter::successors(above("self"), |of| above(&of.to_string())).take(ANCESTORS_MAX).any(|above| above == pid)
}

/// The nearest ancestor outside the container. Its number is that of the /proc which is seen here: until the container's
/// root is the root that is the runtime's.
fn runtime(own: Option<&Path>) -> Result<u32, GatherError> {
    let mut status = read("/proc/self/status")?;
    let own_depth = status::pid_namespaces(&status);
    for _ in 0..ANCESTORS_MAX {
        let Some(pid) = status::parent(&status) else { break };
        let above = read(&format!("/proc/{pid}/status"))?;
        let is_above = status::pid_namespaces(&above).zip(own_depth).is_some_and(|(depth, own)| depth < own);
        if is_above || has_other_mounts(pid, own)? {
            return Ok(pid);
        }
        status = above;
    }
    Err(StageError::Outside(Outside::WithAll).into())
}

fn has_other_mounts(pid: u32, own: Option<&Path>) -> Result<bool, GatherError> {
    let pid = pid.to_string();
    match if_shown(process::namespace(&pid, "mnt")).map_err(StageError::Unproven)? {
        // Of who has ended in between nothing is known.
        Some(its) => Ok(its.is_some_and(|its| Some(its.as_path()) != own)),
        None => has_another_id_map(&pid),
    }
}

/// Whether a process is in another user namespace, as its map of ids shows, which anybody may read. Two namespaces can
/// have the same map.
fn has_another_id_map(pid: &str) -> Result<bool, GatherError> {
    Ok(read("/proc/self/uid_map")? != read(&format!("/proc/{pid}/uid_map"))?)
}

/// The process whose mount namespace is the container's at createRuntime, as far as that can be told from outside.
pub(super) fn pid_of(state: &State, config: &Config) -> Result<u32, GatherError> {
    const INIT: &str = "process 1";
    const OWN: &str = "this process";
    let pid = state.pid.ok_or(StageError::NoPid)?;
    if pid == 1 {
        // The host's first process, or that of a container in which the engine runs.
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
        // A process of the host's, or the engine's.
        (kind, OWN)
    } else {
        return Ok(pid);
    };
    Err(StageError::NotContainers { pid, kind, whose }.into())
}

/// Whether this mount namespace, which is that of `of`, is what a runtime has made of config.json.
pub(super) fn is_set_up(root: &Root, config: &Config, of: Of) -> Result<(), GatherError> {
    let look = |source| GatherError::Root { path: root.path().to_owned(), source };
    let path = || root.path().to_owned();
    let lacking = if !is_mount_point(root).map_err(look)? {
        Lacking::Root(path())
    } else if !has_any_mount(root, config)? {
        Lacking::Mounts(path())
    } else {
        return Ok(());
    };
    Err(StageError::NotMounted { of, lacking }.into())
}

fn is_mount_point(root: &Root) -> Result<bool, SysError> {
    if fs::is_mount(root.directory())? {
        return Ok(true);
    }
    // A kernel that doesn't say so tells at least which mount a file lies on.
    let above = Root::open(&fs::proc_path(root.directory()).join(".."))?;
    Ok(root.mount()? != above.mount()?)
}

/// One is enough: what the image has there, or who moves it, must not keep its container from starting.
fn has_any_mount(root: &Root, config: &Config) -> Result<bool, GatherError> {
    for mount in &config.mounts {
        let at = InnerPath::new(&mount.destination);
        match is_mounted(root, &at) {
            Ok(true) if at != InnerPath::root() => return Ok(true),
            Ok(_) => {}
            // Where a link is in the path, another one has to do.
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => {}
            Err(source) => return Err(GatherError::Look { at, source }),
        }
    }
    Ok(config.mounts.is_empty())
}

fn is_mounted(root: &Root, at: &InnerPath) -> Result<bool, SysError> {
    let place = root.place(at)?;
    Ok(fs::is_mount(&place)? || root.mount()? != fs::mount_number(&place)?)
}

/// Not shown: by the rights that this process has not, or by `hidepid`, proc(5).
fn is_hidden(error: &SysError) -> bool {
    matches!(error.errno(), Errno::ACCESS | Errno::PERM | Errno::NOENT | Errno::SRCH)
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
