// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cgroups of the benchmark's container, and the janitor process that removes them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, io, thread};

use crate::measure::quiet;

/// The directory where all cgroup hierarchies are mounted.
pub const ROOT: &str = "/sys/fs/cgroup";
/// How long the janitor waits for the last process of a cgroup to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that removes the cgroups once its standard input ends, which also happens if this program is killed.
#[derive(Debug)]
pub struct Janitor {
    process: Child,
    name: String,
    cgroups: Vec<PathBuf>,
}

fn name() -> String {
    format!("oci-systemd-hook-benchmark-{}", std::process::id())
}

impl Janitor {
    /// Creates the container's cgroups: on a hybrid host in systemd's hierarchy, the memory hierarchy and
    /// v2, otherwise only in v2.
    pub fn start() -> Self {
        let name = name();
        let parents: &[&str] =
            if Path::new(ROOT).join("cgroup.procs").exists() { &["."] } else { &["systemd", "memory", "unified"] };
        let parents = parents.iter().map(|parent| Path::new(ROOT).join(parent)).filter(|parent| parent.exists());
        let cgroups: Vec<PathBuf> = parents.map(|parent| parent.join(&name)).collect();
        Self::make(name, &cgroups.clone(), cgroups)
    }

    /// Creates the cgroups that runtimes run in, in systemd's hierarchy and v2. A process that has no separate cgroup
    /// in a hierarchy stays in these, and everything that a container leaves in any hierarchy is below one name.
    pub fn start_for_runtimes() -> Self {
        let name = name();
        let hierarchies = fs::read_dir(ROOT).expect("no cgroups").map(|entry| entry.unwrap().path());
        let tops: Vec<PathBuf> = hierarchies.filter(|path| path.is_dir()).map(|path| path.join(&name)).collect();
        let made = ["systemd", "unified"].map(|hierarchy| Path::new(ROOT).join(hierarchy).join(&name).join("runtime"));
        Self::make(name, &tops, made.to_vec())
    }

    /// Starts the janitor before it creates the cgroups, so that there are never cgroups that no process will remove.
    fn make(name: String, removed: &[PathBuf], cgroups: Vec<PathBuf>) -> Self {
        // Without a separate process group, ^C would also end the janitor.
        let mut command = Command::new(std::env::current_exe().unwrap());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let process = quiet(&mut command)
            .arg("janitor")
            .args(removed)
            .stdin(Stdio::piped())
            .spawn()
            .expect("cannot start the janitor");
        let janitor = Self { process, name, cgroups };
        for cgroup in &janitor.cgroups {
            fs::create_dir_all(cgroup).expect("cannot make a cgroup");
        }
        janitor
    }

    /// Returns the name of the topmost cgroup in each hierarchy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the container's cgroups where only v2 is mounted.
    pub fn cgroups_of_v2(&self) -> Vec<PathBuf> {
        vec![Path::new(ROOT).join(&self.name)]
    }

    /// Returns the directories that were created.
    pub fn cgroups(&self) -> &[PathBuf] {
        &self.cgroups
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // At worst, the janitor is still waiting for a process to end when this program has ended.
        let _ = self.process.wait();
    }
}

/// Runs in the janitor: waits for the end of standard input, and then removes the cgroups.
pub fn clean_up_at_end_of_input(cgroups: impl Iterator<Item = PathBuf>) {
    io::copy(&mut io::stdin(), &mut io::sink()).expect("cannot read standard input");
    for cgroup in cgroups {
        remove_once_empty(&cgroup);
    }
}

/// Removes a cgroup and its descendants as soon as no process is in them.
pub fn remove_once_empty(cgroup: &Path) {
    let step = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    while remove(cgroup).is_err() && waited < PATIENCE {
        thread::sleep(step);
        waited += step;
    }
}

/// Removes a cgroup and its descendants.
fn remove(cgroup: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(cgroup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}
