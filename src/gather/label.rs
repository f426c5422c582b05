// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a message says about the container that it concerns.

use std::cell::OnceCell;
use std::fmt;

use super::conmon;
use crate::oci::pod::ContainerNames;
use crate::oci::state::State;

/// A container's ID and its names, such as `5c1ac4bfd3a5 (web)`. The names are only looked up if the label is printed.
#[derive(Debug)]
pub struct ContainerLabel<'a> {
    state: &'a State,
    names: OnceCell<ContainerNames>,
}

impl<'a> ContainerLabel<'a> {
    #[must_use]
    pub fn of(state: &'a State) -> Self {
        Self { state, names: OnceCell::new() }
    }

    fn names(&self) -> ContainerNames {
        let names = ContainerNames::of(|key| self.state.annotations.get(key).map(String::as_str));
        // In a pod, CRI-O gives conmon a name that the user hasn't chosen.
        let is_known = names.container.is_some() || names.pod.is_some();
        let container = if is_known { names.container } else { conmon::container_name(self.state) };
        ContainerNames { container, ..names }
    }
}

impl fmt::Display for ContainerLabel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", short(&self.state.id), self.names.get_or_init(|| self.names()))
    }
}

/// Returns a container's ID as engines show it, which is shortened to 12 digits. An ID that somebody else chose isn't
/// shortened, since several of them could otherwise look the same.
#[must_use]
pub fn short(id: &str) -> &str {
    let is_engines = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_engines { id.get(..12).unwrap_or(id) } else { id }
}
