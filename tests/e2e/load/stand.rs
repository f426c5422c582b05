// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One host for a hundred containers, and the check that it is unchanged afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::Failed;
use tempfile::TempDir;

use crate::command::{Look, SHORT, run, until};
use crate::container::{Cell, message, random_id};
use crate::holder::LIFE;
use crate::host::{self, Host};
use crate::mounts;
use crate::namespace::{Namespace, OWN_FOLDERS};
use crate::site::{MARK, Site};

/// The image may be below /tmp, but the test's host has its own /tmp.
const IMAGE: &str = r#"
mount --bind "$lower" "$shown"
"#;

/// The directory of the hook's records.
const RECORDS: &str = "/run/oci-systemd-hook";

/// The prefix of files of crun. It makes itself unwritable by mounting itself on such a file (`try_bindfd` in its
/// cloned_binary.c), and leaves both behind if it is killed before it has unmounted and removed them.
const CRUNS: &str = "/tmp/crun.";

#[derive(Debug)]
pub struct Stand {
    namespace: Namespace,
    pub cell: Cell,
    pub hook: PathBuf,
    pub lower: PathBuf,
    /// The first component of all the containers' cgroups.
    pub cgroup: String,
    /// The common end of the IDs of all its containers.
    tail: String,
    before: Host,
    own_files: usize,
    home: TempDir,
}

impl Stand {
    pub fn new(site: &Arc<Site>, cell: Cell) -> Result<Self, Failed> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("{MARK}load-{}-{count}", std::process::id());
        let home = site.home("load-", &["state", "lower"])?;
        let lower = site.root(cell.suite)?;
        let tail = random_id()?[48..].to_owned();
        let script = [IMAGE, OWN_FOLDERS, LIFE].concat();
        let mut namespace =
            Namespace::new(site.machine(), cell.layout, &script, home.path().join("holder"), |command| {
                command
                    .env("runtime", cell.runtime.to_string())
                    .env("ids", format!("*{tail}"))
                    .env("state", home.path().join("state"))
                    .env("lower", &lower)
                    .env("shown", home.path().join("lower"))
                    .env("cgroup", &cgroup);
            })?;
        if namespace.hear()? != "ready" {
            return Err(namespace.failed());
        }
        let before = Host::look(&namespace.seen(Path::new("/")), &namespace.mountinfo()?)?;
        let (hook, own_files) = (site.hook().to_owned(), own_files()?);
        Ok(Self { namespace, cell, hook, lower, cgroup, tail, before, own_files, home })
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Returns the path of the image as seen by this host's programs.
    pub fn image(&self) -> PathBuf {
        self.home.path().join("lower")
    }

    pub fn new_id(&self) -> Result<String, Failed> {
        Ok([&random_id()?[..48], &self.tail].concat())
    }

    /// Returns a command that runs the program on this host.
    pub fn command(&self, program: &str) -> Command {
        self.namespace.command(program)
    }

    /// Returns a command that runs the runtime.
    pub fn runtime(&self) -> Command {
        let mut command = self.command(&self.cell.runtime.to_string());
        command.arg("--root").arg(self.runtimes_states());
        command
    }

    /// Whether a process is in another mount namespace than the host's programs.
    pub fn is_elsewhere(&self, pid: u32) -> bool {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/mnt"));
        theirs.is_ok_and(|theirs| fs::read_link(self.namespace.about("ns/mnt")).is_ok_and(|own| own != theirs))
    }

    /// Returns the hook's record of a container, if it exists.
    pub fn record(&self, id: &str) -> Option<String> {
        let record = self.namespace.seen(&Path::new(RECORDS).join(id));
        record.exists().then(|| fs::read_to_string(record.join("made")).unwrap_or_else(|error| error.to_string()))
    }

    fn runtimes_states(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// Whether the runtime has a state directory for this container.
    pub fn has_runtimes_state(&self, id: &str) -> bool {
        self.runtimes_states().join(id).exists()
    }

    /// Removes what a killed runtime leaves behind in addition to its container.
    pub fn clean_up_after_runtimes(&self) -> Result<(), Failed> {
        let mounted = mounts::parse(&self.namespace.mountinfo()?);
        for mount in mounted.iter().filter(|mount| mount.point.starts_with(CRUNS)) {
            run(self.command("umount").arg(&mount.point), SHORT)?.expect_success()?;
        }
        for entry in fs::read_dir(self.namespace.seen(Path::new("/tmp")))?.flatten() {
            if Path::new("/tmp").join(entry.file_name()).to_string_lossy().starts_with(CRUNS) {
                fs::remove_file(entry.path())?;
            }
        }
        // runc was seen to leave an empty directory of a container behind.
        for id in names(&self.runtimes_states()) {
            fs::remove_dir(self.runtimes_states().join(id))?;
        }
        Ok(())
    }

    /// Checks that nothing of the containers is left and that nothing else was changed.
    pub fn is_as_before(&self) -> Result<(), Failed> {
        /// The kernel releases a namespace's mounts and files some time after its last process has ended.
        const PATIENCE: Duration = Duration::from_secs(20);
        until("the host as it was before", PATIENCE, || match self.left() {
            Ok(left) if left.is_empty() => Look::Done(()),
            Ok(left) => Look::NotYet(left.join("\n")),
            Err(failed) => Look::NotYet(message(&failed)),
        })
    }

    fn left(&self) -> Result<Vec<String>, Failed> {
        let mut left = Vec::new();
        let now = Host::look(&self.namespace.seen(Path::new("/")), &self.namespace.mountinfo()?)?;
        left.extend(Some(self.before.difference(&now)).filter(|difference| !difference.is_empty()));
        left.extend(host::cgroups_below(&self.cgroup));
        if self.namespace.seen(Path::new(RECORDS)).exists() {
            left.push(format!("{RECORDS}: {:?}", names(&self.namespace.seen(Path::new(RECORDS)))));
        }
        left.extend(names(&self.runtimes_states()).iter().map(|name| format!("the runtime's {name}")));
        left.extend(self.processes()?);
        let own = own_files()?;
        if own != self.own_files {
            left.push(format!("the tests have {own} open files, and had {}", self.own_files));
        }
        Ok(left)
    }

    /// Lists the processes that are on this host or that see the root of one of the containers.
    fn processes(&self) -> Result<Vec<String>, Failed> {
        let home = self.home.path().display().to_string();
        let mut found = Vec::new();
        let mut others = BTreeSet::new();
        for pid in pids()? {
            // The process may end in the meantime, and one that has ended no longer has a namespace.
            let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { continue };
            if self.namespace.is(pid) || others.contains(&namespace) {
                continue;
            }
            let ours = !self.is_elsewhere(pid)
                || fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|mounts| mounts.contains(&home));
            if ours {
                let about = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
                let (line, name) = (about("cmdline").replace('\0', " "), about("comm"));
                found.push(format!("the process {pid}, {}: {line}", name.trim()));
            } else {
                others.insert(namespace);
            }
        }
        Ok(found)
    }
}

/// Returns the PIDs of all processes of the machine.
pub fn pids() -> Result<Vec<u32>, Failed> {
    let names = fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
}

/// Returns the names in a directory, or an empty list if the directory doesn't exist.
fn names(folder: &Path) -> Vec<String> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => vec![error.to_string()],
    }
}

fn own_files() -> Result<usize, Failed> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}
