// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A container whose config.json this process may not read: at createContainer in a user namespace, where a directory
//! above the bundle is closed to the container's root, as podman's are with `--uidmap`.
//!
//! createRuntime can read it, and does the whole job in a user namespace. Where nobody calls the hook then, what there is
//! has to do: the state, and the root in which runc calls hooks, or that crun's state names.

use std::path::{Path, PathBuf};

use super::{GatherError, live, mounted};
use crate::facts::{Mounts, Runtime, Switch};
use crate::gather::annotations::Annotations;
use crate::interface::{self, capabilities::NEEDED};
use crate::kernel::cgroup::{CgroupFile, Hierarchy};
use crate::oci::config::{Config, Namespace};
use crate::oci::state::State;
use crate::path::{CgroupPath, InnerPath};
use crate::root::Root;
use crate::sys::fs;

/// What can be told of it.
#[derive(Debug)]
pub enum Assessment {
    /// Nothing is to be done, for this reason.
    LeaveAlone(&'static str),
    /// The annotation in the state asks for this hook; this is what config.json must at least say.
    Enabled(Box<Config>),
    /// The image has systemd, and whether that is the command can't be told.
    MayBeSystemd,
}

/// Looks at what there is.
pub fn assess(state: &State) -> Result<Assessment, GatherError> {
    let switch = Annotations::of_state(state).switch(None)?;
    if matches!(switch, Switch::Disabled(_)) {
        return Ok(Assessment::LeaveAlone("an annotation says disabled"));
    }
    let Some(StartDirectory { path, root, mounts }) = place(state) else {
        return Ok(Assessment::LeaveAlone("neither the state nor the working directory is a root"));
    };
    if mounts.at(&InnerPath::new(interface::RUN)).is_some() {
        return Ok(Assessment::LeaveAlone("/run is mounted already: createRuntime or the engine has prepared it"));
    }
    if live::programs(&root).next().transpose()?.is_none() {
        return Ok(Assessment::LeaveAlone("the image has no systemd"));
    }
    Ok(match switch {
        Switch::Enabled(_) => Assessment::Enabled(Box::new(least_config(path))),
        Switch::Unset | Switch::EnabledForPod | Switch::Disabled(_) => Assessment::MayBeSystemd,
    })
}

/// The container's root.
struct StartDirectory {
    path: PathBuf,
    root: Root,
    mounts: Mounts,
}

/// Finds the root by the directory in which the runtime has started this process.
fn place(state: &State) -> Option<StartDirectory> {
    // With a dot behind, since the link itself is never opened.
    let here = Path::new("/proc/self/cwd/.");
    let path = match &state.root {
        Some(root) if Runtime::of(state).starts_hooks_in_bundle() => here.join(root),
        Some(_) | None => here.to_owned(),
    };
    let root = Root::open(&path).ok()?;
    // The root is a mount of its own; the working directory may be any.
    let above = Root::open(&path.join("..")).ok()?;
    let mount = root.mount().ok()?;
    if mount == above.mount().ok()? {
        return None;
    }
    let table = mounted::mounts_of(&root, mount).ok()?;
    let mounts = Mounts::read(&table, root.path(), mount);
    Some(StartDirectory { path, root, mounts })
}

fn least_config(root: PathBuf) -> Config {
    let new = |kind: &str| Namespace { kind: kind.to_owned(), path: None };
    let mut config = Config::default();
    config.root.path = Some(root);
    config.linux.namespaces = vec![new("mount"), new("user")];
    let cgroup = CgroupFile::new(fs::read_host_text("/proc/self/cgroup").unwrap_or_default());
    let is_top = |hierarchy| cgroup.path(hierarchy).is_none_or(|path| path == CgroupPath::root());
    if is_top(Hierarchy::Unified) && is_top(Hierarchy::Systemd) {
        config.linux.namespaces.push(new("cgroup"));
    }
    // Nothing is known of its capabilities, and so nothing is said of those that it may lack.
    let bounding = NEEDED.iter().map(|needed| needed.capability).filter(|name| *name != "CAP_SYS_ADMIN");
    config.process.capabilities.bounding = bounding.map(str::to_owned).collect();
    config
}
