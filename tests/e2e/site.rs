// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What this machine offers to the tests, and what it lacks.

use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use tempfile::TempDir;

use crate::harness::machine::missing_root;
pub use crate::harness::machine::{Runtime, missing_program};

/// Part of every name that the tests give to something on the machine. It lets tests that run at the same time tell
/// each other's files and cgroups from a leak.
pub const MARK: &str = "osh-e2e-";

/// How a host or a container mounts its cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// Version 1 only.
    Legacy,
    /// Controllers on version 1, and version 2 without controllers at /sys/fs/cgroup/unified.
    Hybrid,
    /// Version 2 only.
    Unified,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Layout {
    /// Returns the name, which is also the value of the annotation.
    pub fn word(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Hybrid => "hybrid",
            Self::Unified => "unified",
        }
    }

    /// Returns the mount point of the hierarchy with which systemd manages its processes.
    pub fn hierarchy(self) -> &'static str {
        match self {
            Self::Legacy | Self::Hybrid => "/sys/fs/cgroup/systemd",
            Self::Unified => "/sys/fs/cgroup",
        }
    }

    fn of_this_machine() -> Self {
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            Self::Unified
        } else if Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
            Self::Hybrid
        } else {
            Self::Legacy
        }
    }
}

/// The Debian release that a root file system contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    /// Debian 11 with systemd 247.
    Bullseye,
    /// Debian 12 with systemd 252.
    Bookworm,
    /// systemd 257, the last version that can use cgroup version 1. Outside containers it waits for 30 s first.
    Trixie,
    /// systemd 262 or newer.
    Sid,
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        })
    }
}

impl Suite {
    pub const ALL: [Self; 4] = [Self::Bullseye, Self::Bookworm, Self::Trixie, Self::Sid];

    /// Returns an option that mmdebstrap needs to create the root file system, in addition to the packages.
    fn option(self) -> &'static str {
        match self {
            Self::Bullseye | Self::Bookworm | Self::Trixie => "",
            // A copy of it from an archive declares itself out of date.
            Self::Sid => "--aptopt='Acquire::Check-Valid-Until \"false\"' ",
        }
    }
}

const NO_ROOTS: &str = "OCI_SYSTEMD_HOOK_ROOTS is not set; it names the directory of the root file systems";
/// The options for all root file systems.
const WITH: &str = "--variant=minbase --include=systemd,systemd-sysv,dbus";

/// The kernel's default of 128 is used up quickly, because the containers of other programs
/// count too. See inotify(7).
const INOTIFY_INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";
const ENOUGH_INSTANCES: u32 = 1024;

/// The machine, as the tests use it.
#[derive(Debug)]
pub struct Site {
    hook: PathBuf,
    wrapper: PathBuf,
    roots: Option<PathBuf>,
    scratch: PathBuf,
    machine: Layout,
}

impl Site {
    pub fn new(scratch: &Path) -> Result<Self, Failed> {
        Ok(Self {
            hook: copied("OCI_SYSTEMD_HOOK", env!("CARGO_BIN_EXE_oci-systemd-hook"), scratch)?,
            wrapper: copied("OCI_HOOKS_RUNTIME", env!("CARGO_BIN_EXE_oci-hooks-runtime"), scratch)?,
            roots: env::var_os("OCI_SYSTEMD_HOOK_ROOTS").map(PathBuf::from),
            scratch: scratch.to_owned(),
            machine: Layout::of_this_machine(),
        })
    }

    pub fn hook(&self) -> &Path {
        &self.hook
    }

    /// The OCI runtime wrapper that adds hooks to config.json.
    pub fn wrapper(&self) -> &Path {
        &self.wrapper
    }

    /// Creates a directory for one test, with these subdirectories.
    pub fn home(&self, prefix: &str, folders: &[&str]) -> Result<TempDir, Failed> {
        let home = tempfile::Builder::new().prefix(prefix).tempdir_in(&self.scratch)?;
        // A container's root that has another ID on the host, and rootless engines, must be able
        // to reach their files.
        for path in [&self.scratch, home.path()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o711))?;
        }
        for name in folders {
            fs::create_dir(home.path().join(name))?;
        }
        Ok(home)
    }

    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    pub fn machine(&self) -> Layout {
        self.machine
    }

    pub fn root(&self, suite: Suite) -> Result<PathBuf, String> {
        let root = self.roots.as_ref().ok_or(NO_ROOTS)?.join(suite.to_string());
        if root.join("lib/systemd/systemd").exists() {
            Ok(root)
        } else {
            Err(format!(
                "{} holds no systemd; make it with `mmdebstrap {WITH} {}{suite} {}`",
                root.display(),
                suite.option(),
                root.display()
            ))
        }
    }

    /// Returns the root file system with systemd's own unit tests.
    pub fn unit_tests(&self, suite: Suite) -> Result<PathBuf, String> {
        let root = self.roots.as_ref().ok_or(NO_ROOTS)?.join(format!("{suite}-tests"));
        if root.join("usr/lib/systemd/tests/run-unit-tests.py").exists() {
            return Ok(root);
        }
        let root = root.display();
        Err(format!(
            "{root} holds no tests of systemd; make it with `mmdebstrap {WITH},systemd-tests {}{suite} {root}`",
            suite.option()
        ))
    }

    /// Returns the root file system with the packages whose own tests use their services, and with
    /// their sources in /srv.
    pub fn services(&self) -> Result<PathBuf, String> {
        let root = self.roots.as_ref().ok_or(NO_ROOTS)?.join("services");
        if root.join("srv").read_dir().is_ok_and(|mut sources| sources.next().is_some()) {
            return Ok(root);
        }
        Err(format!("{} contains no sources; `contrib/check.sh suites` creates it", root.display()))
    }

    /// Returns a root file system without systemd, like the base images on which users build theirs.
    pub fn base(&self) -> Result<PathBuf, String> {
        let root = self.roots.as_ref().ok_or(NO_ROOTS)?.join("base");
        if root.join("etc/debian_version").exists() {
            return Ok(root);
        }
        Err(format!("{} is missing; `contrib/check.sh e2e/podman` creates it", root.display()))
    }

    /// Returns the root file system with a web server, for tests of what users see.
    pub fn web(&self) -> Result<PathBuf, String> {
        let root = self.roots.as_ref().ok_or(NO_ROOTS)?.join("web");
        if root.join("usr/sbin/nginx").exists() {
            return Ok(root);
        }
        let root = root.display();
        Err(format!("{root} contains no nginx; create it with `mmdebstrap {WITH},nginx-light,curl bookworm {root}`"))
    }

    /// Returns the reason why a test can't run on this machine, if there is one.
    pub fn missing(&self, runtime: Runtime, layout: Layout, suite: Suite) -> Option<String> {
        if let Some(why) = missing_root().or_else(|| missing_program(&[runtime.name()])) {
            return Some(why);
        }
        // A systemd and its services use six instances. The limit covers all processes of root,
        // including those in containers.
        let instances = fs::read_to_string(INOTIFY_INSTANCES).unwrap_or_default();
        if !instances.trim().parse().is_ok_and(|instances: u32| instances >= ENOUGH_INSTANCES) {
            let is = instances.trim();
            return Some(format!(
                "{INOTIFY_INSTANCES} is {is} and needs to be {ENOUGH_INSTANCES}, as contrib/check.sh sets it"
            ));
        }
        if layout != self.machine {
            // A controller that is on version 2 is not available for a version 1 hierarchy.
            match (self.machine, layout) {
                (Layout::Hybrid, Layout::Legacy) | (Layout::Hybrid | Layout::Legacy, Layout::Unified) => {}
                (machine, layout) => {
                    return Some(format!(
                        "the layout {layout} can't be created on a machine with the layout {machine}"
                    ));
                }
            }
        }
        self.root(suite).err()
    }
}

/// Copies the program that the variable names, or the one that cargo built, and returns the path of the copy.
/// With a copy, a build during the run can't mix two versions of the program, and the program is visible in
/// tests that cover /tmp.
fn copied(variable: &str, built: &str, scratch: &Path) -> Result<PathBuf, Failed> {
    let given = env::var_os(variable).map_or_else(|| PathBuf::from(built), PathBuf::from);
    let name = given.file_name().ok_or_else(|| format!("{variable} is not the path of a file"))?;
    let copy = scratch.join(name);
    fs::copy(&given, &copy).map_err(|error| format!("{variable}, {}: {error}", given.display()))?;
    Ok(copy)
}
