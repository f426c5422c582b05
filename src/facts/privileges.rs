// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the container's processes are permitted to do. For what this process may do to the container, see
//! [`super::rights`].

use std::collections::BTreeMap;

use crate::oci::config::Capabilities;

/// What the container's processes are permitted to do, and the signal that stops the container.
#[derive(Debug, Clone, Default)]
pub struct Privileges {
    pub capabilities: Capabilities,
    /// For each capability that the image's systemd version needs and the container can't have, the units in the
    /// image that need it.
    pub missed: BTreeMap<&'static str, Vec<&'static str>>,
    /// Whether the container looks like what engines call privileged; see [`Config::is_privileged`].
    ///
    /// [`Config::is_privileged`]: crate::oci::config::Config::is_privileged
    pub is_privileged: bool,
    /// Whether set-user-ID programs and file capabilities have no effect; see `PR_SET_NO_NEW_PRIVS` in prctl(2).
    pub no_new_privileges: bool,
    /// The first user ID and the first group ID that have no mapping in the container's user namespace, if
    /// they are below [`Privileges::IDS`].
    pub unmapped: [Option<u32>; 2],
    /// If the container's root is read-only, the units in the image that write to [`interface::STATE`].
    ///
    /// [`interface::STATE`]: crate::interface::STATE
    pub state_units: Vec<&'static str>,
    /// The signal with which the engine stops the container, if an annotation names it.
    pub stop_signal: Option<String>,
}

impl Privileges {
    /// The number of IDs that a Linux distribution relies on. It includes 65534, `nobody`, and
    /// the IDs of `DynamicUser=`.
    pub const IDS: u32 = 65535;
}
