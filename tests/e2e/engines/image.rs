// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The image from which the engines' containers are created, and its import into an engine.

use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;

use crate::boot::PROBE;
use crate::command::run_from;
use crate::container::Planted;
use crate::engines::host::EngineHost;
use crate::site::Suite;

pub const IMAGE: &str = "localhost/systemd";
/// The machine ID in the image, which all its containers share unless something sets another.
pub const BAKED_ID: &str = "0123456789abcdef0123456789abcdef";
/// A script that ends by executing systemd.
pub const ENTRY_POINT: &str = "/entrypoint.sh";
pub const SUITE: Suite = Suite::Bookworm;

/// Returns the files that the image has in addition to those of its suite.
pub fn planted() -> Vec<Planted> {
    let own = [
        Planted::File("etc/machine-id", 0o444, "0123456789abcdef0123456789abcdef\n"),
        Planted::File("entrypoint.sh", 0o755, "#!/bin/sh\nexec /sbin/init\n"),
    ];
    [&PROBE[..], &own].concat()
}

/// The time limit for an import. Reading and writing 200 MB takes about 5 s.
const IMPORT: Duration = Duration::from_secs(120);

/// Runs an engine's program that reads the host's tree as an archive.
pub fn import(host: &EngineHost, program: &mut Command) -> Result<(), Failed> {
    // The archive is always read by root. Devices are excluded, because rootless users can't create them.
    let mut pack = Command::new("tar");
    pack.args(["--warning=no-file-changed", "--exclude=./dev/*", "-C"]).arg(host.seen(&host.tree())).args(["-c", "."]);
    let mut tar = pack.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let archive = tar.stdout.take().ok_or("no pipe from tar")?;
    let imported = run_from(program, archive.into(), IMPORT);
    let packed = tar.wait()?;
    imported?.expect_success()?;
    // Exit status 1 is not an error. It means that a file changed in the meantime, which tar reports
    // for directories of overlayfs.
    if matches!(packed.code(), Some(0 | 1)) { Ok(()) } else { Err(format!("tar: {packed}").into()) }
}
