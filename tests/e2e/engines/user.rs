// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows on whose behalf an engine runs, and the ids that only the tests' own /etc/passwd and /etc/subuid know of.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    Root,
    /// Without any right on the host.
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

/// Nobody's, in the list of systemd's authors; and such that `--userns=auto` has room for it, which looks at all of
/// /etc/passwd.
pub const ID: u32 = 61_000;
/// The first of the ids that containers of this user have, and those of `--userns=auto`: above what systemd gives to
/// containers, and below 2³¹, where some programs' ids end.
pub const SUBORDINATE: u32 = 1_900_000_000;
const AUTOMATIC: u32 = 1_910_000_000;
pub const NAME: &str = "engine-test";

/// Lines for the account files of a test's host.
pub fn accounts() -> [(&'static str, String); 4] {
    // podman asks for the latter by this name.
    let ranges = format!("{NAME}:{SUBORDINATE}:65536\ncontainers:{AUTOMATIC}:1048576\n");
    [
        ("passwd", format!("{NAME}:x:{ID}:{ID}::/:/bin/sh\n")),
        ("group", format!("{NAME}:x:{ID}:\n")),
        ("subuid", ranges.clone()),
        ("subgid", ranges),
    ]
}
