// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What crosses the wire: the state on standard input and the parts of config.json that matter here.
//!
//! Tolerant on purpose, never stricter than the runtimes: unknown fields, capabilities, namespaces
//! and mount options are not our business. Knows nothing of the host.

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

/// A text that is borrowed from config.json where there is nothing to unescape: most are only looked at.
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
