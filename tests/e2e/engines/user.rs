// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The users on whose behalf an engine runs, and the IDs that exist only in the tests' own /etc/passwd and
//! /etc/subuid.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    Root,
    /// A user without privileges on the host.
    Other,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "rootful",
            Self::Other => "rootless",
        })
    }
}

/// An unused ID in the list of systemd's authors. It also leaves room for `--userns=auto`, which
/// considers all of /etc/passwd.
pub const ID: u32 = 61_000;
/// The first of the IDs that containers of this user have, and of those for `--userns=auto`. They are above those
/// that systemd assigns to containers, and below 2³¹, the limit of some programs.
pub const SUBORDINATE: u32 = 1_900_000_000;
const AUTOMATIC: u32 = 1_910_000_000;
pub const NAME: &str = "engine-test";

/// Returns lines for the account files of a test's host.
pub fn accounts() -> [(&'static str, String); 4] {
    // podman looks up the second range by this name.
    let ranges = format!("{NAME}:{SUBORDINATE}:65536\ncontainers:{AUTOMATIC}:1048576\n");
    [
        ("passwd", format!("{NAME}:x:{ID}:{ID}::/:/bin/sh\n")),
        ("group", format!("{NAME}:x:{ID}:\n")),
        ("subuid", ranges.clone()),
        ("subgid", ranges),
    ]
}
