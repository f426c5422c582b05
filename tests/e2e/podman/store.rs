// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows the storage with the image that all containers of podman are made from: imported once for each user, and
//! read by all of their podmans.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use libtest_mimic::Failed;

use crate::boot::PROBE;
use crate::command::run_from;
use crate::container::{Planted, message};
use crate::podman::host::PodmanHost;
use crate::podman::user::{self, User};
use crate::site::{Layout, Site, Suite};

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

#[derive(Debug, Default)]
pub struct Store {
    rootful: OnceLock<Result<PathBuf, String>>,
    rootless: OnceLock<Result<PathBuf, String>>,
}

impl Store {
    /// The directory of the user's storage; who comes first makes it, and the others wait.
    pub fn of(&self, user: User, site: &Site) -> Result<&Path, Failed> {
        let cell = match user {
            User::Root => &self.rootful,
            User::Other => &self.rootless,
        };
        match cell.get_or_init(|| make(user, site).map_err(|failed| message(&failed))) {
            Ok(path) => Ok(path),
            Err(why) => Err(why.clone().into()),
        }
    }
}

fn make(user: User, site: &Site) -> Result<PathBuf, Failed> {
    let layout = if user == User::Root { site.machine() } else { Layout::Unified };
    let host = PodmanHost::new(site, user, layout, SUITE, &planted())?;
    let path = site.scratch().join(format!("store-{user}"));
    fs::create_dir(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o711))?;
    if user == User::Other {
        chown(&path, Some(user::ID), Some(user::ID))?;
    }
    // Read by root, whoever imports it; and no user can make devices.
    let mut pack = Command::new("tar");
    pack.args(["--warning=no-file-changed", "--exclude=./dev/*", "-C"]).arg(host.seen(&host.tree())).args(["-c", "."]);
    let mut tar = pack.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let archive = tar.stdout.take().ok_or("no pipe from tar")?;
    let mut import = host.command("podman");
    import.env("TMPDIR", host.users_home()).arg("--root").arg(&path);
    import.arg("--runroot").arg(host.users_home().join("runroot"));
    import.arg("--tmpdir").arg(host.users_home().join("tmpdir"));
    import.args(["--storage-driver", "overlay", "import", "-", IMAGE]);
    let imported = run_from(&mut import, archive.into(), IMPORT);
    let packed = tar.wait()?;
    imported?.expect_success()?;
    // 1 is no error, but a file that changed meanwhile: so look overlayfs's directories.
    if matches!(packed.code(), Some(0 | 1)) { Ok(path) } else { Err(format!("tar: {packed}").into()) }
}
