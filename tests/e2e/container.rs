// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The life of one container, from the creation of its bundle to the check that the host is unchanged.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use libtest_mimic::Failed;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{Finished, Look, SHORT, run, run_into, until};
use crate::config::{Config, HOOK_SAID, Place};
use crate::holder::{Holder, Propagation, Wanted};
use crate::host::{self, Host};
use crate::idmap;
use crate::inside::{BOOT, Inside};
use crate::mounts::{self, Mount};
use crate::site::{Layout, MARK, Runtime, Site, Suite};
use crate::tree;

/// The runtime, host layout and image of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub runtime: Runtime,
    pub layout: Layout,
    pub suite: Suite,
}

/// A file that the test puts into the image or removes from it.
#[derive(Clone, Debug)]
pub enum Planted {
    File(&'static str, u32, &'static str),
    Link(&'static str, &'static str),
    /// A file that is removed from the image.
    Gone(&'static str),
}

/// One container. When it is dropped, its resources are removed: first the namespace, whose clean-up removes the
/// container, then the directory.
#[derive(Debug)]
pub struct Container {
    holder: Holder,
    cell: Cell,
    id: String,
    cgroup: String,
    is_cri_o: bool,
    planted: BTreeSet<PathBuf>,
    before: Host,
    home: TempDir,
}

impl Container {
    pub fn new(site: &Arc<Site>, cell: Cell, config: &Config, files: &[Planted]) -> Result<Self, Failed> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("{MARK}{}-{count}", std::process::id());
        let home = site.home("test-", &["bundle", "bundle/rootfs", "upper", "work", "state", "lower"])?;
        // The top directory of a root file system has this mode, because the container's users must be
        // able to traverse it.
        fs::set_permissions(home.path().join("upper"), fs::Permissions::from_mode(0o755))?;
        for (name, _) in &config.binds {
            fs::create_dir(home.path().join(name))?;
        }
        let planted = plant(&home.path().join("upper"), files)?;
        let owner = config.users.image();
        if let Some(owner) = owner {
            let binds = config.binds.iter().map(|(name, _)| *name);
            for name in ["upper", "work"].into_iter().chain(binds) {
                idmap::give(&home.path().join(name), owner)?;
            }
        }
        let id = random_id()?;
        let lower = site.root(cell.suite)?;
        let holder = Holder::new(&Wanted {
            machine: site.machine(),
            layout: cell.layout,
            propagation: if config.shared { Propagation::Shared } else { Propagation::Private },
            runtime: cell.runtime,
            id: &id,
            lower: &lower,
            owner,
            home: home.path(),
            cgroup: &cgroup,
        })?;
        let json = config.json(
            cell.runtime,
            cell.layout,
            &Place { hook: site.hook(), cgroup: &format!("/{cgroup}/{id}"), home: home.path() },
        );
        let bundle = holder.seen(&home.path().join("bundle"));
        fs::write(bundle.join("config.json"), json.to_string())?;
        if config.closed {
            fs::set_permissions(bundle.join("config.json"), fs::Permissions::from_mode(0o600))?;
        }
        let before = look(&holder)?;
        Ok(Self { holder, cell, id, cgroup, is_cri_o: config.cri_o, planted, before, home })
    }

    /// Changes config.json before the container is created.
    pub fn edit_config(&self, edit: impl FnOnce(&mut Value)) -> Result<(), Failed> {
        let path = self.holder.seen(&self.home.path().join("bundle/config.json"));
        let mut config = serde_json::from_str(&fs::read_to_string(&path)?)?;
        edit(&mut config);
        Ok(fs::write(&path, config.to_string())?)
    }

    /// The test's own directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn cell(&self) -> Cell {
        self.cell
    }

    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Returns the path on the host of the cgroup that the runtime creates.
    pub fn cgroup(&self) -> String {
        format!("/{}/{}", self.cgroup, self.id)
    }

    /// Returns the path of the cgroup that the hook creates if the runtime creates none.
    pub fn hooks_cgroup(&self) -> String {
        format!("/{}{}", host::HOOKS, self.id)
    }

    /// Returns the name of a cgroup that belongs to no container, and that the test's clean-up removes.
    pub fn beside(&self) -> String {
        format!("{}-beside", self.cgroup)
    }

    pub fn rootfs(&self) -> PathBuf {
        self.home.path().join("bundle/rootfs")
    }

    pub fn upper(&self) -> PathBuf {
        self.home.path().join("upper")
    }

    fn call(&self, arguments: &[&str]) -> Command {
        let mut command = self.holder.command(&self.cell.runtime.to_string());
        command.arg("--root").arg(self.home.path().join("state")).args(arguments);
        command
    }

    /// Creates the container. As with an engine, the output of the runtime and of the container goes to a file.
    pub fn create(&self) -> Result<Finished, Failed> {
        self.begin("create")
    }

    /// Creates and starts the container, and waits for its end.
    pub fn run(&self) -> Result<Finished, Failed> {
        self.begin("run")
    }

    fn begin(&self, verb: &str) -> Result<Finished, Failed> {
        let mut command = self.call(&[verb, "--bundle"]);
        command.arg(self.home.path().join("bundle")).arg(&self.id);
        run_into(&mut command, &self.home.path().join("said"), BOOT)
    }

    /// Creates and starts the container. When this returns, the container's first process has executed its program.
    /// Before that, crun before 1.8.7 can't enter the container's user namespace (crun issue 1264).
    pub fn start(&self) -> Result<(), Failed> {
        self.create()?.expect_success()?;
        let exe = format!("/proc/{}/exe", self.state()?["pid"]);
        // A process that is gone has executed a program, or failed to.
        let program = || fs::metadata(&exe).ok().map(|file| (file.dev(), file.ino()));
        let runtimes = program();
        run(&mut self.call(&["start", &self.id]), SHORT)?.expect_success()?;
        until("a first process that has executed its program", SHORT, || match program() {
            Some(program) if Some(program) == runtimes => Look::NotYet(exe.clone()),
            Some(_) | None => Look::Done(()),
        })
    }

    fn state(&self) -> Result<Value, Failed> {
        let text = run(&mut self.call(&["state", &self.id]), SHORT)?.expect_success()?;
        Ok(serde_json::from_str(&text)?)
    }

    pub fn kill(&self, signal: &str) -> Result<(), Failed> {
        run(&mut self.call(&["kill", &self.id, signal]), SHORT)?.expect_success()?;
        Ok(())
    }

    pub fn delete(&self, options: &[&str]) -> Result<(), Failed> {
        let mut command = self.call(&["delete"]);
        command.args(options).arg(&self.id);
        run(&mut command, SHORT)?.expect_success()?;
        Ok(())
    }

    /// Kills the container without an orderly shutdown, and deletes it.
    pub fn kill_and_delete(&self) -> Result<(), Failed> {
        self.kill("KILL")?;
        self.until_stopped()?;
        self.delete(&[])
    }

    /// Checks that nothing of the deleted container is left and that nothing else was changed.
    pub fn host_is_as_before(&self) -> Result<(), Failed> {
        let left = || {
            let difference = self.before.difference(&look(&self.holder)?);
            let cgroups = host::left_cgroups(&self.cgroup, &self.id)?;
            Ok::<_, Failed>((difference, cgroups))
        };
        until("the host as it was before", SHORT, || match left() {
            Ok((difference, cgroups)) if difference.is_empty() && cgroups.is_empty() => Look::Done(()),
            Ok((difference, cgroups)) => Look::NotYet(format!("{difference}\n  cgroups: {cgroups:?}")),
            Err(failed) => Look::NotYet(message(&failed)),
        })
    }

    /// Returns the paths that the run changed in its root file system, except those that the test put there.
    pub fn changes(&self) -> Result<Vec<PathBuf>, Failed> {
        tree::changes(&self.upper(), &self.holder.image(), &self.planted)
    }
}

impl Inside for Container {
    fn id(&self) -> &str {
        &self.id
    }

    fn manager(&self) -> Result<&'static str, Failed> {
        Ok(if self.is_cri_o { "crio" } else { "oci" })
    }

    fn status(&self) -> Result<String, Failed> {
        Ok(self.state()?["status"].as_str().unwrap_or_default().to_owned())
    }

    fn exec(&self, arguments: &[&str]) -> Result<Finished, Failed> {
        let mut command = self.call(&["exec", &self.id]);
        command.args(arguments);
        run(&mut command, SHORT)
    }

    fn mounts(&self) -> Result<Vec<Mount>, Failed> {
        let pid = self.state()?["pid"].as_i64().ok_or("a state without pid")?;
        let text = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        Ok(mounts::parse(&text))
    }

    fn said(&self) -> String {
        ["said", HOOK_SAID].map(|name| fs::read_to_string(self.home.path().join(name)).unwrap_or_default()).concat()
    }
}

fn look(holder: &Holder) -> Result<Host, Failed> {
    Host::look(&holder.seen(Path::new("/")), &holder.mountinfo()?)
}

pub fn message(failed: &Failed) -> String {
    failed.message().unwrap_or("failed").to_owned()
}

/// Returns 64 hexadecimal digits, the format of the IDs of Docker and podman.
pub fn random_id() -> Result<String, Failed> {
    let mut id = String::new();
    for _ in 0..2 {
        let random = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        id.extend(random.chars().filter(char::is_ascii_hexdigit));
    }
    Ok(id)
}

/// Writes the files to the upper layer, and returns the paths in it that belong to the test.
pub fn plant(upper: &Path, files: &[Planted]) -> Result<BTreeSet<PathBuf>, Failed> {
    let mut planted = BTreeSet::new();
    for file in files {
        let (Planted::File(path, ..) | Planted::Link(path, _) | Planted::Gone(path)) = file;
        let place = upper.join(path);
        if let Some(folder) = place.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        match file {
            Planted::File(_, mode, text) => {
                fs::write(&place, text)?;
                fs::set_permissions(&place, fs::Permissions::from_mode(*mode))?;
            }
            Planted::Link(_, target) => symlink(target, &place)?,
            // overlayfs takes such a device for a file that was removed (a whiteout).
            Planted::Gone(_) => mknodat(CWD, &place, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?,
        }
        planted.extend(Path::new(path).ancestors().map(Path::to_owned));
    }
    Ok(planted)
}
