// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hosts of the tests with Docker, and the data of their dockerds: an image that is imported once for all hosts
//! of the same kind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libtest_mimic::Failed;

use crate::container::{Planted, message};
use crate::docker::daemon::Daemon;
use crate::docker::readme;
use crate::engines::host::{EngineHost, Wanted};
use crate::engines::image::{self, IMAGE, SUITE};
use crate::engines::user::{self, User};
use crate::site::{Layout, Site, missing_program};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Usual,
    /// Containers are in a user namespace.
    Remapped,
    /// The image has a web server and a password.
    Web,
    /// The image has services with their own tests.
    Services,
    /// A reader can follow the README.
    Readers,
}

impl Kind {
    /// Returns the reason why this kind isn't available on this machine.
    pub fn missing(self, site: &Site) -> Option<String> {
        match self {
            Self::Web => site.web().err(),
            Self::Services => site.services().err(),
            Self::Readers => missing_program(&["cargo"]),
            Self::Usual | Self::Remapped => None,
        }
    }

    pub fn host(self, site: &Site, layout: Layout) -> Result<EngineHost, Failed> {
        let (lower, files) = match self {
            Self::Web => (site.web()?, WITH_PASSWORD.to_vec()),
            Self::Services => (site.services()?, Vec::new()),
            Self::Usual | Self::Remapped | Self::Readers => (site.root(SUITE)?, planted()),
        };
        let more = match self {
            Self::Readers => readme::prepared()?,
            Self::Usual | Self::Remapped | Self::Web | Self::Services => String::new(),
        };
        EngineHost::new(site, Wanted { engine: "docker", user: User::Root, layout, lower, files: &files, more: &more })
    }
}

/// The password of root in the image with the web server.
pub const PASSWORD: &str = "let me in";

const WITH_PASSWORD: [Planted; 1] = [Planted::File(
    "etc/shadow",
    0o640,
    "root:$6$oshe2e$OoyjKZ6pik5bfposbrPDlPtEf17XBncL2d4G4./..IH.o8EUXz.Y1peyGuqzx9UnWWAbn6oQ.2/u3XldJLDZu.:\
     19000:0:99999:7:::\n",
)];

/// A program whose name might be that of systemd, but which isn't systemd. It prints a message, and ends with its
/// own exit code on request.
pub const OTHER_INIT: &str = "/opt/init";

fn planted() -> Vec<Planted> {
    let other = Planted::File(
        "opt/init",
        0o755,
        "#!/bin/sh\ntrap 'exit 3' TERM\ntrap 'exit 4' 37\necho ready\nsleep infinity &\nwait\n",
    );
    [image::planted(), vec![other]].concat()
}

#[derive(Debug, Default)]
pub struct Store {
    usual: OnceLock<Result<PathBuf, String>>,
    remapped: OnceLock<Result<PathBuf, String>>,
    web: OnceLock<Result<PathBuf, String>>,
    services: OnceLock<Result<PathBuf, String>>,
}

impl Store {
    /// Returns a data-root to copy. The first caller creates it, and the others wait.
    pub fn of(&self, kind: Kind, site: &Site) -> Result<&Path, Failed> {
        let (cell, kind) = match kind {
            Kind::Usual | Kind::Readers => (&self.usual, Kind::Usual),
            Kind::Remapped => (&self.remapped, kind),
            Kind::Web => (&self.web, kind),
            Kind::Services => (&self.services, kind),
        };
        match cell.get_or_init(|| make(kind, site).map_err(|failed| message(&failed))) {
            Ok(path) => Ok(path),
            Err(why) => Err(why.clone().into()),
        }
    }
}

fn make(kind: Kind, site: &Site) -> Result<PathBuf, Failed> {
    let host = kind.host(site, site.machine())?;
    fs::create_dir(data_root(&host))?;
    let daemon = Daemon::new(&host, kind)?;
    image::import(&host, host.command("docker").args(["import", "-", IMAGE]))?;
    daemon.end(&host)?;
    let path = site.scratch().join(format!("stock-{kind:?}").to_lowercase());
    fs::rename(data_root(&host), &path)?;
    keep_images(&path)?;
    Ok(path)
}

/// Removes the databases, which are modified in place.
fn keep_images(data_root: &Path) -> Result<(), Failed> {
    for entry in fs::read_dir(data_root)?.flatten() {
        match &*entry.file_name().to_string_lossy() {
            "image" | "overlay2" => {}
            // The directory for the user namespace with this root.
            name if name.starts_with(&user::SUBORDINATE.to_string()) => keep_images(&entry.path())?,
            _ if entry.file_type()?.is_dir() => fs::remove_dir_all(entry.path())?,
            _ => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// Returns the directory in which dockerd keeps images and containers.
pub fn data_root(host: &EngineHost) -> PathBuf {
    host.home().join("data")
}
