// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Handles a container whose config.json this process may not read. That happens at createContainer in a user
//! namespace, if a directory above the bundle is inaccessible to the container's root, as podman's are with `--uidmap`.
//!
//! createRuntime can read config.json, and does the whole job in a user namespace. If the hook isn't called at that
//! stage, other sources have to suffice: the state, and the root, which is the directory in which runc starts hooks,
//! or which crun's state names.

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

/// What can be determined about the container.
#[derive(Debug)]
pub enum Assessment {
    /// Nothing needs to be done, for this reason.
    LeaveAlone(&'static str),
    /// The annotation in the state enables this hook. The configuration has the minimum that config.json must contain.
    Enabled(Box<Config>),
    /// The image has systemd, but whether the command is systemd can't be determined.
    MayBeSystemd,
}

/// Assesses the container from the state and its root.
pub fn assess(state: &State) -> Result<Assessment, GatherError> {
    let switch = Annotations::of_state(state).switch(None)?;
    if matches!(switch, Switch::Disabled(_)) {
        return Ok(Assessment::LeaveAlone("an annotation disables the hook"));
    }
    let Some(StartDirectory { path, root, mounts }) = place(state) else {
        return Ok(Assessment::LeaveAlone("neither the state nor the working directory gives the container's root"));
    };
    if mounts.at(&InnerPath::new(interface::RUN)).is_some() {
        return Ok(Assessment::LeaveAlone(
            "/run is already mounted, so createRuntime or the engine has prepared the container",
        ));
    }
    if live::programs(&root).next().transpose()?.is_none() {
        return Ok(Assessment::LeaveAlone("the image has no systemd"));
    }
    Ok(match switch {
        Switch::Enabled(_) => Assessment::Enabled(Box::new(least_config(path))),
        Switch::Unset | Switch::EnabledForPod | Switch::Disabled(_) => Assessment::MayBeSystemd,
    })
}

struct StartDirectory {
    path: PathBuf,
    root: Root,
    mounts: Mounts,
}

/// Finds the root from the directory in which the runtime has started this process.
fn place(state: &State) -> Option<StartDirectory> {
    // The path ends with a dot, since the link itself is never opened.
    let here = Path::new("/proc/self/cwd/.");
    let path = match &state.root {
        Some(root) if Runtime::of(state).starts_hooks_in_bundle() => here.join(root),
        Some(_) | None => here.to_owned(),
    };
    let root = Root::open(&path).ok()?;
    // The root is a separate mount; the working directory may be any directory.
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
    // The capabilities are unknown, so nothing is reported about those that may be missing.
    let bounding = NEEDED.iter().map(|needed| needed.capability).filter(|name| *name != "CAP_SYS_ADMIN");
    config.process.capabilities.bounding = bounding.map(str::to_owned).collect();
    config
}
