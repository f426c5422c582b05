// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why the facts can't be gathered.

use std::path::PathBuf;

use super::stage::StageError;
use crate::bundle::BundleError;
use crate::facts::options::OptionError;
use crate::kernel::cgroup::Hierarchy;
use crate::oci::state::StateError;
use crate::path::{CgroupPath, InnerPath};
use crate::root::ReadError;
use crate::sys::SysError;

#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The state can't be read.
    #[error("cannot read the container's state from {from}")]
    ReadState {
        /// Standard input, or a file.
        from: String,
        source: SysError,
    },
    /// What was read is none.
    #[error("cannot use the container's state from {from}")]
    ParseState {
        /// Standard input, or a file.
        from: String,
        source: StateError,
    },
    /// Something that can't be a state.
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge { what: String, limit_bytes: u64 },
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file of the host.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: SysError },
    /// The root can't be opened.
    #[error("cannot open the container's root {}", path.display())]
    Root { path: PathBuf, source: SysError },
    /// A path in it can't be looked at.
    #[error("cannot look at {at} in the container's root")]
    Look { at: InnerPath, source: SysError },
    /// A path lies on another mount than the mount table says.
    #[error(
        "{0} changed while the container was being created; make sure that no other process renames or mounts anything \
         in the container's root"
    )]
    Changed(InnerPath),
    /// A file in it can't be read.
    #[error("cannot read {at} in the container's root")]
    ReadInRoot {
        /// Its path in the root.
        at: InnerPath,
        /// Why it can't be read.
        source: ReadError,
    },
    /// One of the container's cgroups can't be examined.
    #[error("cannot examine the container's cgroup {path} of {hierarchy}")]
    Cgroup {
        /// Its path, from the root of this process's cgroup namespace.
        path: CgroupPath,
        /// The hierarchy that it is in.
        hierarchy: Hierarchy,
        source: SysError,
    },
    /// What this process may do can't be told.
    #[error("cannot read this process's capabilities")]
    Capabilities(#[source] SysError),
    /// A typing error in the annotation must not look like a choice.
    #[error("the annotation {key} is {value:?}: it must be `enabled` or `disabled`")]
    Switch { key: String, value: String },
    #[error(transparent)]
    Option(#[from] OptionError),
    /// This process is not where its stage says.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A namespace can't be entered.
    #[error(
        "cannot enter a namespace of the container's process {pid}, for which this process needs CAP_SYS_ADMIN and \
         CAP_SYS_CHROOT in the user namespaces of both; run the engine as root, or list the hook at createContainer, \
         too"
    )]
    Enter { pid: u32, source: SysError },
}
