// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The project's hook descriptors, and directories with installed descriptors.

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

const CREATE_CONTAINER: &str = r#""createContainer", "#;
const POSTSTOP: &str = r#""poststop"]"#;

/// The stages at which the descriptors call the hook. contrib/install.sh chooses between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stages {
    /// The stages for hosts with crun before 1.27.
    WithoutCreateContainer,
    All,
}

/// Creates a directory with these descriptors as they are installed, except for the hook's path.
pub fn install(directory: &Path, descriptors: &[Descriptor], stages: Stages, hook: &Path) -> Result<(), Failed> {
    fs::create_dir(directory)?;
    for (name, template) in descriptors {
        let mut text = template.replace(INSTALLED, &hook.display().to_string());
        if stages == Stages::WithoutCreateContainer {
            text = text.replace(CREATE_CONTAINER, "");
        }
        fs::write(directory.join(name), text)?;
    }
    Ok(())
}

/// Adds createContainer to the stages of descriptors that were installed without it.
pub fn add_create_container(directory: &Path) -> Result<(), Failed> {
    for (name, _) in USUAL {
        let path = directory.join(name);
        let text = fs::read_to_string(&path)?;
        fs::write(path, text.replace(POSTSTOP, &format!("{CREATE_CONTAINER}{POSTSTOP}")))?;
    }
    Ok(())
}
