// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows the image that the containers of engines are made from, and how an engine gets it.

use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;

use crate::boot::PROBE;
use crate::command::run_from;
use crate::container::Planted;
use crate::engines::host::EngineHost;
use crate::site::Suite;

pub const IMAGE: &str = "localhost/systemd";
/// The same in all containers of the image, where nobody cares.
pub const BAKED_ID: &str = "0123456789abcdef0123456789abcdef";
/// A script that ends in systemd.
pub const ENTRY_POINT: &str = "/entrypoint.sh";
pub const SUITE: Suite = Suite::Bookworm;

/// The image has these beside what its suite has.
pub fn planted() -> Vec<Planted> {
    let own = [
        Planted::File("etc/machine-id", 0o444, "0123456789abcdef0123456789abcdef\n"),
        Planted::File("entrypoint.sh", 0o755, "#!/bin/sh\nexec /sbin/init\n"),
    ];
    [&PROBE[..], &own].concat()
}

/// Reading 200 MB and writing them takes some 5 s.
const IMPORT: Duration = Duration::from_secs(120);

/// Runs the program of an engine that reads the host's tree as an archive.
pub fn import(host: &EngineHost, program: &mut Command) -> Result<(), Failed> {
    // Read by root, whoever imports it; and no user can make devices.
    let mut pack = Command::new("tar");
    pack.args(["--warning=no-file-changed", "--exclude=./dev/*", "-C"]).arg(host.seen(&host.tree())).args(["-c", "."]);
    let mut tar = pack.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let archive = tar.stdout.take().ok_or("no pipe from tar")?;
    let imported = run_from(program, archive.into(), IMPORT);
    let packed = tar.wait()?;
    imported?.expect_success()?;
    // 1 is no error, but a file that changed meanwhile: so look overlayfs's directories.
    if matches!(packed.code(), Some(0 | 1)) { Ok(()) } else { Err(format!("tar: {packed}").into()) }
}
