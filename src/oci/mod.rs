// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interface to the OCI runtime: the state on standard input, and the parts of config.json that matter here.
//!
//! Parsing is deliberately lenient and never stricter than the runtimes: unknown fields, capabilities, namespaces and
//! mount options are ignored. This module knows nothing about the host.

mod bounded;
pub mod config;
pub mod document;
pub mod edit;
pub mod environment;
pub mod members;
pub mod mount_options;
mod object;
pub mod pod;
pub mod state;

use std::borrow::{Borrow, Cow};

use serde::Deserialize;

/// A string that borrows from config.json unless it contains escapes. Most strings are only read, not kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<Text<'_>> for String {
    fn from(Text(text): Text<'_>) -> Self {
        text.into_owned()
    }
}

impl Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}
