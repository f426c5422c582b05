// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows the project's descriptors, and how to make directories of them.

use std::fs;
use std::path::Path;

use libtest_mimic::Failed;

macro_rules! descriptor {
    ($directory:literal, $name:literal) => {
        ($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/share/", $directory, "/", $name, ".in")))
    };
}

/// A file's name and its template.
pub type Descriptor = (&'static str, &'static str);

pub const USUAL: [Descriptor; 2] = [
    descriptor!("containers/oci/hooks.d", "oci-systemd-hook.json"),
    descriptor!("containers/oci/hooks.d", "oci-systemd-hook-annotation.json"),
];
pub const PRECREATE: [Descriptor; 2] = [
    descriptor!("oci-systemd-hook/precreate.d", "oci-systemd-hook-precreate.json"),
    descriptor!("oci-systemd-hook/precreate.d", "oci-systemd-hook-precreate-annotation.json"),
];
const INSTALLED: &str = "@LIBEXECDIR@/oci/hooks.d/oci-systemd-hook";

/// A new directory with these, as they are installed but for the hook's path.
pub fn install(directory: &Path, descriptors: &[Descriptor], hook: &Path) -> Result<(), Failed> {
    fs::create_dir(directory)?;
    for (name, template) in descriptors {
        fs::write(directory.join(name), template.replace(INSTALLED, &hook.display().to_string()))?;
    }
    Ok(())
}
