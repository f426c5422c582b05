// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the container's processes may do. For what this process may do to the container, see [`super::rights`].

use std::collections::BTreeMap;

use crate::oci::config::Capabilities;

/// What the container's processes may do, and how it will be asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Privileges {
    pub capabilities: Capabilities,
    /// The units in the image that need a capability which they can't have, by the capability; only where the image's
    /// systemd needs it.
    pub missed: BTreeMap<&'static str, Vec<&'static str>>,
    /// Whether the container looks like what engines call privileged, see [`Config::is_privileged`].
    ///
    /// [`Config::is_privileged`]: crate::oci::config::Config::is_privileged
    pub is_privileged: bool,
    /// Whether set-user-id programs and file capabilities have no effect, `PR_SET_NO_NEW_PRIVS` in prctl(2).
    pub no_new_privileges: bool,
    /// The first user id and the first group id that the container's user namespace has no mapping for, if that is
    /// below [`Privileges::IDS`].
    pub unmapped: [Option<u32>; 2],
    /// If the container's root is read-only, the units in the image that write to [`interface::STATE`].
    ///
    /// [`interface::STATE`]: crate::interface::STATE
    pub state_units: Vec<&'static str>,
    /// The signal by which the engine stops the container, where it says so.
    pub stop_signal: Option<String>,
}

impl Privileges {
    /// How many ids a Linux distribution counts on: with 65534, `nobody`, and those of `DynamicUser=`.
    pub const IDS: u32 = 65535;
}
