// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The reasons why facts can't be gathered.

use std::fmt;
use std::path::PathBuf;

use crate::bundle::BundleError;
use crate::facts::Stage;
use crate::facts::options::OptionError;
use crate::kernel::cgroup::Hierarchy;
use crate::oci::state::StateError;
use crate::path::{CgroupPath, InnerPath};
use crate::root::ReadError;
use crate::sys::SysError;

#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    #[error("cannot read the container's state from {from}")]
    ReadState {
        /// The name of the input: standard input, or a file.
        from: String,
        source: SysError,
    },
    /// What was read isn't a valid state.
    #[error("cannot use the container's state from {from}")]
    ParseState {
        /// The name of the input: standard input, or a file.
        from: String,
        source: StateError,
    },
    /// The input is too large for a state.
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge { what: String, limit_bytes: u64 },
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file of the host can't be read.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: SysError },
    #[error("cannot open the container's root {}", path.display())]
    Root { path: PathBuf, source: SysError },
    /// A path in the container's root can't be looked up.
    #[error("cannot look up {at} in the container's root")]
    Look { at: InnerPath, source: SysError },
    /// A path is on another mount than the mount table says.
    #[error(
        "{0} changed while the container was being created; make sure that no other process renames or mounts anything \
         in the container's root"
    )]
    Changed(InnerPath),
    /// A file in the container's root can't be read.
    #[error("cannot read {at} in the container's root")]
    ReadInRoot {
        /// The file's path in the root.
        at: InnerPath,
        source: ReadError,
    },
    /// One of the container's cgroups can't be examined.
    #[error("cannot examine the container's cgroup {path} of {hierarchy}")]
    Cgroup {
        /// The cgroup's path, from the root of this process's cgroup namespace.
        path: CgroupPath,
        hierarchy: Hierarchy,
        source: SysError,
    },
    /// This process's capabilities can't be determined.
    #[error("cannot read this process's capabilities")]
    Capabilities(#[source] SysError),
    /// The annotation is invalid. This is an error, since a typo must not pass for a choice.
    #[error("the annotation {key} is {value:?}: it must be `enabled` or `disabled`")]
    Switch { key: String, value: String },
    #[error(transparent)]
    Option(#[from] OptionError),
    /// This process doesn't run where it should at its stage.
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(
        "cannot enter a namespace of the container's process {pid}: this process needs CAP_SYS_ADMIN and \
         CAP_SYS_CHROOT in its own user namespace and in that process's; run the engine as root, or list the hook at \
         createContainer as well"
    )]
    Enter { pid: u32, source: SysError },
}

/// The reasons why this process isn't, or can't be proven to be, where it should be at its stage.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// At createContainer, this process is outside the container.
    #[error(
        "at createContainer this process must be in the container's mount namespace, but it is not: {0}; to call the \
         hook from outside, use createRuntime, with the pid of the container's first process in the state"
    )]
    Outside(Outside),
    /// At createContainer, /proc doesn't show enough for a proof.
    #[error(
        "cannot prove that this process is in the container's mount namespace, as it must be at createContainer; run \
         the hook at createRuntime instead, or let this process see its ancestors in /proc"
    )]
    Unproven(#[source] SysError),
    /// At createRuntime, the state has no PID.
    #[error(
        "the state has no pid, but at {} the hook needs that of the container's first process",
        Stage::CreateRuntime.name()
    )]
    NoPid,
    /// At createRuntime, no process has the state's PID.
    #[error(
        "there is no process with the state's pid {pid}, but at {} it must be that of the container's first process",
        Stage::CreateRuntime.name()
    )]
    NoProcess { pid: u32 },
    /// At createRuntime, the state's PID is that of a process outside the container.
    #[error(
        "the state's pid {pid} is in the {kind} namespace of {whose}, but at {} it must be that of the \
         container's first process",
        Stage::CreateRuntime.name()
    )]
    NotContainers {
        pid: u32,
        /// The kind of the namespace that they share, as in config.json.
        kind: &'static str,
        /// The other process that is in this namespace.
        whose: &'static str,
    },
    /// The mount namespace doesn't appear to be a container's: before they call any hook, runtimes mount the root
    /// and what config.json lists.
    #[error("the mount namespace of {of} is not the container's: {lacking}")]
    NotMounted {
        /// The process that is in the mount namespace.
        of: NamespaceHolder,
        lacking: MissingMount,
    },
}

/// The evidence that this process is outside the container.
#[derive(Debug, thiserror::Error)]
pub enum Outside {
    /// The process shares the mount namespace with process 1 of the host, or of a container in which the engine runs.
    #[error("it is in the mount namespace of process 1")]
    Init,
    /// The process shares a namespace with the runtime.
    #[error("it is in the {kind} namespace of process {pid}, which is outside the container")]
    Runtime {
        pid: u32,
        /// The kind of the namespace that they share, as in config.json.
        kind: &'static str,
    },
    /// The process shares the mount namespace with all its ancestors, as processes of a host do.
    #[error("all its ancestors are in the same mount namespace")]
    Ancestors,
}

/// The process whose mount namespace is meant, for messages.
#[derive(Debug)]
pub enum NamespaceHolder {
    /// This process.
    Own,
    /// The process with the state's PID.
    Pid(u32),
}

impl fmt::Display for NamespaceHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("this process"),
            Self::Pid(pid) => write!(f, "the state's pid {pid}"),
        }
    }
}

/// A mount that a container's mount namespace must have, but this one lacks.
#[derive(Debug, thiserror::Error)]
pub enum MissingMount {
    /// The root isn't a mount point. Every runtime mounts it, if necessary on itself.
    #[error("the container's root {} is not a mount point in it", .0.display())]
    Root(PathBuf),
    /// None of config.json's mounts exists. Runtimes create at least the first ones before they call any hook.
    #[error("none of config.json's mounts is below {} in it", .0.display())]
    Mounts(PathBuf),
}
