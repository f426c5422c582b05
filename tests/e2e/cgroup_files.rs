// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that a volume on a file of the container's cgroup is neither mistaken for that file nor changed. The
//! author of a container may mount one on each file of the cgroup that the container sees.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::boot::PROBE;
use crate::config::{Config, Stages, Users};
use crate::container::{Cell, Container};
use crate::hierarchy::Hierarchy;
use crate::inside::Inside;
use crate::others::Stranger;
use crate::site::Site;

const FILES: [&str; 8] = [
    "cgroup.controllers",
    "cgroup.events",
    "cgroup.max.depth",
    "cgroup.max.descendants",
    "cgroup.procs",
    "cgroup.stat",
    "cgroup.subtree_control",
    "cgroup.threads",
];

/// The kind of volume that is mounted on the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Volume {
    /// A FIFO, which blocks a process that opens it.
    Fifo,
    /// An empty file, which contains neither a process nor a number.
    Empty,
    /// A file of the user that the kernel shows for an ID without a mapping.
    Nobodys,
    /// A file that only the host's root may read.
    Roots,
}

/// A time that is far less than the hook's time limit.
const DEADLINE: Duration = Duration::from_secs(15);

/// Tests that the container either gets a cgroup without its limits, as it does without the volume,
/// or is not created.
pub fn are_the_cgroups_own(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let stages = [Stages::CreateContainerOnly, Stages::All];
    for (stages, users) in [(stages[0], Users::Hosts), (stages[1], Users::Hosts), (stages[1], Users::Own)] {
        for volume in [Volume::Fifo, Volume::Empty, Volume::Nobodys, Volume::Roots] {
            // Each file gets a separate container. The volume makes no difference to the runtime, which uses the
            // cgroup on the host.
            for file in FILES {
                is_the_cgroups_own(site, cell, &Config { stages, users, ..Config::default() }, volume, file).map_err(
                    |why| format!("{stages:?}, {users:?}, {volume:?} on {file}: {}", why.message().unwrap_or("")),
                )?;
            }
        }
    }
    Ok(())
}

fn is_the_cgroups_own(site: &Arc<Site>, cell: Cell, config: &Config, volume: Volume, file: &str) -> Result<(), Failed> {
    let container = Container::new(site, cell, config, &PROBE)?;
    let path = cover(&container, volume, file)?;
    let before = look(&path)?;
    container.explain(|container| {
        let begun = Instant::now();
        let created = container.create()?;
        if begun.elapsed() > DEADLINE {
            return Err(format!("it took {:?}", begun.elapsed()).into());
        }
        if look(&path)? != before {
            return Err(format!("the volume was {before:?} and is {:?}", look(&path)?).into());
        }
        let whole = Hierarchy::Unified.whole()?.ok_or("the kernel has no cgroup v2")?;
        let own = whole.path().join(container.cgroup().trim_start_matches('/'));
        let has_payload = own.join("payload").is_dir();
        // In a user namespace the limits belong to the host, and the container gets the cgroup itself.
        if created.status.success() && !has_payload && config.users == Users::Hosts {
            return Err("the container owns the cgroup with its limits".into());
        }
        // This is the only case in which the hook has no other way to find out which processes are in the cgroup.
        let may_be_refused = config.stages == Stages::CreateContainerOnly && file == "cgroup.procs";
        let is_refused = may_be_refused && container.said().contains("oci-systemd-hook: ");
        if !created.status.success() && !is_refused {
            return Err(format!("it failed: {}", created.told()).into());
        }
        container.delete(&["--force"])
    })?;
    container.host_is_as_before()
}

/// Tests that a volume doesn't hide another container's processes.
pub fn show_others(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { stages: Stages::CreateContainerOnly, ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    cover(&container, Volume::Empty, "cgroup.procs")?;
    let stranger = Stranger::new(&container, "")?;
    container.explain(|container| {
        let created = container.create()?;
        drop(stranger);
        container.delete(&["--force"])?;
        if created.status.success() || !container.said().contains("oci-systemd-hook: ") {
            return Err(format!("it was not refused: {}", created.told()).into());
        }
        Ok(())
    })?;
    container.host_is_as_before()
}

/// Adds the volume to config.json. The cgroup is mounted writable, as it is by engines that delegate one.
fn cover(container: &Container, volume: Volume, file: &str) -> Result<PathBuf, Failed> {
    let path = container.home().join("volume");
    match volume {
        Volume::Fifo => mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?,
        Volume::Empty => fs::write(&path, "")?,
        Volume::Nobodys => {
            fs::write(&path, "5\n")?;
            chown(&path, Some(65534), Some(65534))?;
        }
        Volume::Roots => fs::write(&path, "secret\n")?,
    }
    container.edit_config(|config| {
        let mounts = config["mounts"].as_array_mut().expect("a list");
        for cgroup in mounts.iter_mut().filter(|mount| mount["type"] == "cgroup") {
            cgroup["options"] = json!(["nosuid", "noexec", "nodev", "relatime", "rw"]);
        }
        let at = Path::new("/sys/fs/cgroup").join(file);
        mounts.push(json!({"destination": at, "type": "bind", "source": path, "options": ["bind", "rw"]}));
    })?;
    Ok(path)
}

/// Returns the properties of a file that the hook could change.
fn look(path: &Path) -> Result<(u32, u32, u32, i64, Value), Failed> {
    let status = fs::symlink_metadata(path)?;
    let content = if status.is_file() { json!(fs::read(path)?) } else { Value::Null };
    Ok((status.uid(), status.gid(), status.mode(), status.ctime_nsec(), content))
}
