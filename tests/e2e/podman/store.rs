// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The storage with the image for all containers of podman. The image is imported once for each user, and read by
//! all podmans of that user.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libtest_mimic::Failed;

use crate::container::message;
use crate::engines::image::{self, IMAGE, SUITE};
use crate::engines::user::{self, User};
use crate::podman::engine::new_host;
use crate::site::{Layout, Site};

#[derive(Debug, Default)]
pub struct Store {
    rootful: OnceLock<Result<PathBuf, String>>,
    rootless: OnceLock<Result<PathBuf, String>>,
}

impl Store {
    /// Returns the directory of the user's storage. The first caller creates it, and the others wait.
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
    let host = new_host(site, user, layout, site.root(SUITE)?)?;
    let path = site.scratch().join(format!("store-{user}"));
    fs::create_dir(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o711))?;
    if user == User::Other {
        chown(&path, Some(user::ID), Some(user::ID))?;
    }
    let mut import = host.command("podman");
    import.env("TMPDIR", host.users_home()).arg("--root").arg(&path);
    import.arg("--runroot").arg(host.users_home().join("runroot"));
    import.arg("--tmpdir").arg(host.users_home().join("tmpdir"));
    import.args(["--storage-driver", "overlay", "import", "-", IMAGE]);
    image::import(&host, &mut import)?;
    Ok(path)
}
