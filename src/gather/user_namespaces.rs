// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Determines whether this process and the container are in a user namespace.

use crate::facts::UserNamespaces;
use crate::oci::config::Config;
use crate::sys::process;

pub fn user_namespaces(config: &Config) -> UserNamespaces {
    UserNamespaces { hook: process::is_in_user_namespace(), container: config.has_namespace("user") }
}
