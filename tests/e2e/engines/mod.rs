// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The common parts of the tests with podman and with Docker.

pub mod guest;
pub mod hooks;
pub mod host;
pub mod image;
pub mod readme;
pub mod user;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use libtest_mimic::Failed;

/// A script that runs crun without resource limits. On version 2, crun 1.8 raises RLIMIT_MEMLOCK to load the device
/// program. That requires CAP_SYS_RESOURCE, which root doesn't have on every machine. If the controllers are on
/// version 1, crun 1.8 refuses the limits that Docker always sets.
pub const CRUN: &str = r#"#!/bin/sh
set -eu
bundle='' before=''
for argument; do
    case $before in --bundle | -b) bundle=$argument ;; esac
    before=$argument
done
if [ -n "$bundle" ]; then
    jq 'del(.linux.resources)' "$bundle/config.json" >"$bundle/config.json.new"
    mv "$bundle/config.json.new" "$bundle/config.json"
fi
exec crun "$@"
"#;

/// Writes a program that stands in for another. The directory is created if it doesn't exist.
pub fn stand_in(directory: &Path, name: &str, text: &str) -> Result<(), Failed> {
    fs::create_dir_all(directory)?;
    let path = directory.join(name);
    fs::write(&path, text)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o755))?)
}
