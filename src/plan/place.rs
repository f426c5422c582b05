// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a step of a plan acts on: a path, and the identity of the file that was found there.

use serde::Serialize;

use crate::kernel::statx::FileIdentity;
use crate::path::InnerPath;

/// A path in the container without symbolic links, and the identity of the file that it must lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    pub at: InnerPath,
    /// The file's identity. If the path leads to another file when the step is carried out, the step fails.
    #[serde(flatten)]
    pub identity: FileIdentity,
}
