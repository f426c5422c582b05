// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that a record belongs to one container, and that no mount point of a running container is removed. The
//! containers here are processes with private mounts, as a runtime has created them at createRuntime.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use oci_systemd_hook::sys::others;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, mkdirat, openat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::Check;
use crate::bundle::{
    Bundle, Cgroup, ELF, ID, IMAGE_ID, bind, own_cgroup_mount, rbind, runtime_directory, tmpfs, with_bundle,
};
use crate::footprint::EIGHT_MIB;
use crate::fuse::Server;
use crate::harness::tree::{self, Detail, Snapshot, same};
use crate::hook::{DEADLINE, Finished, How, program};
use crate::namespace::{Realm, isolated};
use crate::runtime::{Container, Forked, stopped, stopper, until};

/// The mount points that the images here lack.
const MISSING: [&str; 2] = ["run", "etc/machine-id"];

/// A container with a separate bundle and root.
struct Guest<'a> {
    bundle: &'a Bundle,
    config: Value,
    state: Value,
    directory: PathBuf,
    root: PathBuf,
    process: Option<Container>,
}

impl<'a> Guest<'a> {
    /// Creates a container whose bundle is called `name`, regardless of its ID.
    fn new(bundle: &'a Bundle, name: &str, id: &str) -> Self {
        let root = bundle.elsewhere(name).join("rootfs");
        fs::create_dir_all(&root).unwrap();
        unpack(&root);
        Self::on(bundle, name, id, &root)
    }

    /// Creates a container on a root that another one may use as well.
    fn on(bundle: &'a Bundle, name: &str, id: &str, root: &Path) -> Self {
        let directory = bundle.elsewhere(name);
        let mut config = bundle.config.clone();
        config["root"]["path"] = json!(root);
        config["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
        let state = json!({"ociVersion": "1.0.2", "id": id, "status": "creating", "bundle": directory});
        Self { bundle, config, state, directory, root: root.to_owned(), process: None }
    }

    /// Sets up the container as a runtime does before it calls the hook.
    fn start(&mut self) -> Result<(), String> {
        let root = self.root.clone();
        let process = Container::with_mounts(|| mount_root(&root))?;
        self.adopt(process);
        Ok(())
    }

    /// Uses a process that has already mounted the root as the container's.
    fn adopt(&mut self, process: Container) {
        fs::write(self.directory.join("config.json"), self.config.to_string()).unwrap();
        self.state["pid"] = json!(process.id());
        self.process = Some(process);
    }

    fn call(&self) -> Result<Finished, String> {
        let how = How { cwd: Some(self.directory.clone()), ..How::default() };
        self.bundle.call(self.state.to_string().as_bytes(), &how)
    }

    fn create(&mut self) -> Check {
        self.start()?;
        self.call()?.silently()?;
        self.runs()
    }

    /// Ends the process, and with it the mounts.
    fn end(&mut self) {
        self.process = None;
    }

    fn poststop_as(&self, change: impl FnOnce(&mut Value)) -> Result<Finished, String> {
        self.stop(&How::default(), change)
    }

    fn stop(&self, how: &How<'_>, change: impl FnOnce(&mut Value)) -> Result<Finished, String> {
        let mut state = self.state.clone();
        state["status"] = json!("stopped");
        state["pid"] = json!(0);
        change(&mut state);
        let how = How { cwd: Some("/".into()), word: Some("poststop"), first: how.first, ..How::default() };
        self.bundle.call(state.to_string().as_bytes(), &how)
    }

    fn poststop(&self) -> Result<Finished, String> {
        self.poststop_as(|_| {})
    }

    fn poststop_without_bundle(&self) -> Result<Finished, String> {
        self.poststop_as(|state| drop(state.as_object_mut().unwrap().remove("bundle")))
    }

    /// Checks that everything that was mounted for the container is still there.
    fn runs(&self) -> Check {
        let process = self.process.as_ref().ok_or("the process has ended")?;
        for path in ["run/lock", "run/host/container-manager", "etc/machine-id"] {
            let found = fs::metadata(process.path(&self.root.join(path)));
            let found = found.map_err(|error| format!("in the container, {path} is lost: {error}"))?;
            ensure!(path != "etc/machine-id" || found.size() > 0, "in the container, {path} is no longer mounted");
        }
        Ok(())
    }

    /// Checks whether the mount points that the image lacks exist.
    fn has(&self, expected: bool) -> Check {
        for path in MISSING {
            let found = fs::symlink_metadata(self.root.join(path)).is_ok();
            ensure!(found == expected, "whether the image has {path}: {found}");
        }
        Ok(())
    }

    fn image(&self) -> Snapshot {
        tree::read(&self.root, Detail::Restored)
    }
}

fn mount_root(root: &Path) {
    bind(root, root);
    rbind(Path::new("/proc"), &root.join("proc"));
}

/// Creates an image that lacks mount points.
fn unpack(root: &Path) {
    for directory in ["etc", "proc", "sbin", "tmp", "usr/lib/systemd", "var/log/journal"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::symlink("../usr/lib/systemd/systemd", root.join("sbin/init")).unwrap();
    fs::write(root.join("usr/lib/systemd/systemd"), ELF).unwrap();
}

/// Returns the records of an ID, in any order.
fn records(bundle: &Bundle, id: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(bundle.records().join(id)).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn count(bundle: &Bundle, id: &str, expected: usize) -> Check {
    let found = records(bundle, id);
    ensure!(found.len() == expected, "expected {expected} records of {id}: {found:?}");
    Ok(())
}

fn none(bundle: &Bundle) -> Check {
    ensure!(!bundle.records().exists(), "a record is left: {:?}", tree::read(&bundle.records(), Detail::Untouched));
    Ok(())
}

/// Each runtime, and each state directory of a runtime, has a separate set of IDs.
pub fn one_id(realm: Realm) -> Check {
    for (name, bundles, first) in [
        ("two bundles", ["a", "b"], 1),
        ("two bundles, the older one first", ["a", "b"], 0),
        ("one bundle", ["a", "a"], 1),
    ] {
        with_bundle(realm, |bundle| {
            let mut guests = [Guest::new(bundle, bundles[0], ID), Guest::new(bundle, "c", ID)];
            guests[1] = Guest::on(bundle, bundles[1], ID, &guests[1].root);
            let before = guests.each_ref().map(Guest::image);
            guests[0].create()?;
            // If the bundle is the same, the config.json of the first container is replaced by that of the second.
            guests[1].create()?;
            count(bundle, ID, 2)?;
            guests[first].end();
            guests[first].poststop()?.silently()?;
            same("the first one's image", &before[first], &guests[first].image())?;
            guests[1 - first].runs().map_err(|message| format!("after the other's poststop: {message}"))?;
            guests[1 - first].has(true)?;
            count(bundle, ID, 1)?;
            // A second poststop changes nothing, unless only the bundle distinguishes the two.
            if bundles[0] != bundles[1] {
                guests[first].poststop()?.silently()?;
                guests[1 - first].runs()?;
            }
            guests[1 - first].end();
            guests[1 - first].poststop()?.silently()?;
            same("the second one's image", &before[1 - first], &guests[1 - first].image())?;
            none(bundle)
        })
        .map_err(|message| format!("{name}: {message}"))?;
    }
    Ok(())
}

/// Two containers without overlays share a root: the mounts of the second lie on what was created for the first.
pub fn one_root(realm: Realm) -> Check {
    for (name, is_prepared) in [("prepared", true), ("about to be prepared", false)] {
        with_bundle(realm, |bundle| {
            let mut first = Guest::new(bundle, "a", ID);
            let mut second = Guest::on(bundle, "b", "other", &first.root);
            let before = first.image();
            first.create()?;
            second.start()?;
            if is_prepared {
                second.call()?.silently()?;
            }
            first.end();
            for _ in 0..2 {
                first.poststop()?.silently()?;
                first.has(true)?;
            }
            if !is_prepared {
                second.call()?.silently()?;
            }
            second.runs()?;
            // The call for a third container finds the record of a dead one, and that its mount points are in use.
            let mut third = Guest::new(bundle, "c", "third");
            third.create()?;
            third.end();
            third.poststop()?.silently()?;
            second.runs()?;
            second.end();
            second.poststop()?.silently()?;
            same("the image", &before, &first.image())?;
            none(bundle)
        })
        .map_err(|message| format!("while the other one is {name}: {message}"))?;
    }
    Ok(())
}

/// A process that has called chroot(2) sees few mounts of its namespace, so its view doesn't count for
/// other processes in it.
pub fn one_root_with_chroot(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let mut first = Guest::new(bundle, "a", ID);
        let mut second = Guest::on(bundle, "b", "other", &first.root);
        let before = first.image();
        first.create()?;
        let place = first.root.join("srv");
        fs::create_dir_all(&place).unwrap();
        let (mut process, mut chrooted) = (None, None);
        let root = first.root.clone();
        isolated(|| {
            mount_root(&root);
            // This process has the lower PID of the two.
            chrooted = Some(Forked::start(|| {
                rustix::process::chroot(&place).unwrap();
                wait_for_ever();
            }));
            process = Some(Container::beside()?);
            Ok(())
        })?;
        let chrooted = chrooted.unwrap();
        until("chroot(2)", || others::has_changed_root(&chrooted.id().to_string()))?;
        second.adopt(process.unwrap());
        ensure!(chrooted.id() < second.process.as_ref().unwrap().id(), "the pids have wrapped around; try again");
        second.call()?.silently()?;
        first.end();
        first.poststop()?.silently()?;
        second.runs()?;
        // It doesn't count either if it is the only process in the namespace.
        second.end();
        second.poststop()?.silently()?;
        first.has(true)?;
        // A process in a namespace without mounts on a root doesn't prevent removing files there.
        let mut third = Guest::new(bundle, "c", "third");
        third.create()?;
        third.end();
        third.poststop()?.silently()?;
        third.has(false)?;
        drop(chrooted);
        first.poststop()?.silently()?;
        second.poststop()?.silently()?;
        fs::remove_dir(first.root.join("srv")).unwrap();
        same("the image", &before, &first.image())?;
        none(bundle)
    })
}

/// A process whose first thread has ended still runs.
pub fn first_thread_ended(_: Realm) -> Check {
    let process = Forked::start(|| {
        std::thread::spawn(wait_for_ever);
        end_thread();
    });
    let stat = || fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    until("the end of the first thread", || stat().contains(") Z "))?;
    let read = others::stat(process.id()).map_err(|error| error.to_string())?;
    ensure!(read.is_some_and(|stat| !stat.has_ended), "it counts as ended: {}", stat());
    let (task, own) = (others::living_task(process.id()), others::namespace("self", "mnt"));
    ensure!(task.contains("/task/"), "its living thread is {task}");
    ensure!(own.is_some() && others::namespace(&task, "mnt") == own, "{task} is in no mount namespace");
    Ok(())
}

fn wait_for_ever() {
    loop {
        std::thread::sleep(Duration::from_secs(600));
    }
}

/// Ends this thread and no other thread of its process.
#[allow(unsafe_code)]
fn end_thread() {
    // SAFETY: nothing on the thread's stack is used by other threads.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// A process that may mount can make its mount table long, or a line of it. This must cost other containers neither
/// time nor memory. The hook can't determine what such a process has mounted, and removes nothing that it may use.
pub fn endless_table(realm: Realm) -> Check {
    /// The number of nested directories with names of 250 bytes, and the number of mounts there.
    const TABLES: [(&str, usize, usize); 2] = [("a table", 200, 200), ("a line", 600, 1)];
    for (what, depth, mounts) in TABLES {
        with_bundle(realm, |bundle| {
            let mut dead = Guest::new(bundle, "dead", ID);
            let mut other = Guest::new(bundle, "other", "other");
            let before = dead.image();
            dead.create()?;
            dead.end();
            let place = bundle.elsewhere("place");
            let long = Container::with_mounts(|| long_mounts(&place, depth, mounts))?;
            dead.stop(&How { first: Some(EIGHT_MIB), ..How::default() }, |_| {})?.silently()?;
            dead.has(true)?;
            count(bundle, ID, 1)?;
            other.create()?;
            drop(long);
            dead.poststop()?.silently()?;
            same("the image", &before, &dead.image())?;
            other.end();
            other.poststop()?.silently()?;
            none(bundle)
        })
        .map_err(|message| format!("{what}: {message}"))?;
    }
    Ok(())
}

/// Mounts a directory on itself this many times.
fn long_mounts(place: &Path, depth: usize, count: usize) {
    tmpfs(place, "mode=755");
    let name = "x".repeat(250);
    let mut deepest = fs::File::open(place).unwrap();
    for _ in 0..depth {
        mkdirat(&deepest, &name, Mode::RWXU).unwrap();
        deepest = openat(&deepest, &name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap().into();
    }
    let path = PathBuf::from(format!("/proc/self/fd/{}", deepest.as_raw_fd()));
    for _ in 0..count {
        bind(&path, &path);
    }
}

/// Tests more containers of one ID, each under a different runtime, than one call cleans up.
pub fn many_of_one_id(realm: Realm) -> Check {
    const COUNT: usize = 66;
    with_bundle(realm, |bundle| {
        let mut guests: Vec<Guest<'_>> = Vec::new();
        for number in 0..COUNT {
            let mut guest = Guest::new(bundle, &format!("of-{number}"), ID);
            guest.create()?;
            guests.push(guest);
        }
        count(bundle, ID, COUNT)?;
        for guest in &mut guests {
            guest.end();
            guest.poststop()?.silently()?;
            guest.has(false)?;
        }
        none(bundle)
    })
}

/// When a failed step is undone, another container may already have mounted something on what was created.
pub fn one_root_failed(realm: Realm) -> Check {
    /// Delays the hook by this many microseconds after it has created a mount point.
    const DELAY: &str = "inject=renameat2:delay_exit=1000000:when=1";
    /// Makes a later step fail that is required.
    const FAULT: &str = "inject=mount_setattr:error=EIO:when=1";
    with_bundle(realm, |bundle| {
        let mut guest = Guest::new(bundle, "a", ID);
        let before = guest.image();
        guest.start()?;
        let at = guest.root.join("run");
        let traced = "trace=renameat2,mount_setattr";
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", traced, "-e", DELAY, "-e", FAULT];
        let strace = strace.map(str::to_owned);
        let how = How { cwd: Some(guest.directory.clone()), under: &strace, ..How::default() };
        let state = guest.state.to_string();
        let (finished, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let deadline = Instant::now() + DEADLINE;
                while !at.exists() {
                    ensure!(Instant::now() < deadline, "/run was not created");
                    std::thread::sleep(Duration::from_millis(1));
                }
                Container::with_mounts(|| tmpfs(&at, "mode=755"))
            });
            let finished = bundle.call(state.as_bytes(), &how);
            (finished, other.join().unwrap())
        });
        let (finished, other) = (finished?, other?);
        ensure!(finished.code == Some(1), "it should have failed: {finished:?}");
        ensure!(finished.stderr.contains("still has mounts there"), "it should report what it keeps: {finished:?}");
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", other.id())).unwrap();
        let at = at.display().to_string();
        ensure!(mounts.lines().any(|line| line.contains(&at)), "the other container's mount is gone");
        guest.end();
        guest.poststop()?.silently()?;
        ensure!(guest.root.join("run").exists(), "poststop removed it");
        drop(other);
        guest.poststop()?.silently()?;
        same("the image", &before, &guest.image())?;
        none(bundle)
    })
}

/// A root is deleted and unpacked again, at the same path and with the same inode. The files of the new image are as
/// empty as those of the hook were.
pub fn rebuilt(realm: Realm) -> Check {
    type End = fn(&Guest<'_>) -> Check;
    let ends: [(&str, End); 4] = [
        ("poststop", |guest| guest.poststop()?.silently()),
        ("poststop without a bundle", |guest| guest.poststop_without_bundle()?.silently()),
        ("a new container of the name", |guest| {
            let mut next = Guest::on(guest.bundle, "a", ID, &guest.root);
            next.create()?;
            next.end();
            next.poststop()?.silently()
        }),
        ("another container's poststop", |guest| {
            let other = Guest::new(guest.bundle, "other", "other");
            other.poststop()?.silently()
        }),
    ];
    for (name, end) in ends {
        with_bundle(realm, |bundle| {
            let mut guest = Guest::new(bundle, "a", ID);
            guest.create()?;
            guest.end();
            let inode = fs::metadata(&guest.root).unwrap().ino();
            for entry in fs::read_dir(&guest.root).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
            }
            unpack(&guest.root);
            fs::create_dir(guest.root.join("run")).unwrap();
            fs::write(guest.root.join("etc/machine-id"), "").unwrap();
            let before = guest.image();
            ensure!(fs::metadata(&guest.root).unwrap().ino() == inode, "it is another directory");
            end(&guest)?;
            guest.has(true)?;
            same("the new image", &before, &guest.image())?;
            none(bundle)
        })
        .map_err(|message| format!("by {name}: {message}"))?;
    }
    Ok(())
}

/// A state without a bundle, as in a manual call, identifies a container only by its ID.
pub fn without_bundle(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let mut guests = [Guest::new(bundle, "a", ID), Guest::new(bundle, "b", ID)];
        let before = guests[0].image();
        guests[0].poststop_without_bundle()?.silently()?;
        guests[0].create()?;
        guests[0].poststop_without_bundle()?.with_warning(&["first process", "still runs"])?;
        guests[0].runs()?;
        count(bundle, ID, 1)?;
        guests[1].create()?;
        for _ in 0..2 {
            guests[0].poststop_without_bundle()?.with_warning(&["2 containers", "bundle"])?;
            count(bundle, ID, 2)?;
            guests[1].runs()?;
            guests[0].end();
        }
        guests[1].end();
        guests[1].poststop()?.silently()?;
        // This call also finds the record of the other container, whose process has ended as well.
        same("the image", &before, &guests[0].image())?;
        none(bundle)?;
        guests[0].create()?;
        guests[0].end();
        guests[0].poststop_without_bundle()?.silently()?;
        same("the image", &before, &guests[0].image())?;
        none(bundle)
    })
}

/// A poststop call removes nothing while the first process still runs.
pub fn while_it_runs(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let mut guest = Guest::new(bundle, "a", ID);
        guest.create()?;
        guest.poststop()?.with_warning(&["first process", "still runs"])?;
        guest.runs()?;
        count(bundle, ID, 1)
    })
}

/// The state may contain another path of the bundle, for instance if an engine's directory is a symbolic link.
pub fn by_another_path(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let mut guest = Guest::new(bundle, "a", ID);
        let before = guest.image();
        guest.create()?;
        guest.end();
        // If its first process were recorded, the next call would remove it as the record of a dead container.
        let record = records(bundle, ID).pop().ok_or("there is no record")?;
        let text = fs::read_to_string(&record).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        let mut line: Value = serde_json::from_str(first).unwrap();
        line["container"]["first"] = Value::Null;
        fs::write(&record, format!("{line}\n{rest}")).unwrap();
        guest.poststop_as(|state| state["bundle"] = json!("/nowhere"))?.silently()?;
        count(bundle, ID, 1)?;
        guest.poststop_without_bundle()?.with_warning(&["can't be determined", "bundle"])?;
        let link = bundle.elsewhere("links").join("a");
        std::os::unix::fs::symlink(&guest.directory, &link).unwrap();
        guest.poststop_as(|state| state["bundle"] = json!(link))?.silently()?;
        same("the image", &before, &guest.image())?;
        none(bundle)
    })
}

/// Tests a record in the previous release's format.
pub fn of_the_previous_release(realm: Realm) -> Check {
    for with_its_bundle in [true, false] {
        with_bundle(realm, |bundle| {
            let guest = Guest::new(bundle, "a", ID);
            let before = guest.image();
            fs::create_dir(guest.root.join("run")).unwrap();
            fs::write(guest.root.join("etc/machine-id"), "").unwrap();
            let root = fs::metadata(&guest.root).unwrap();
            let line = |at: &str, is_directory| {
                json!({"mount-point": {"root": {"Unix": guest.root.as_os_str().as_encoded_bytes()},
                    "device": root.dev(), "inode": root.ino(), "at": {"Unix": at.as_bytes()},
                    "is_directory": is_directory, "above": 0}})
            };
            let record = bundle.records().join(ID).join("made");
            fs::create_dir_all(record.parent().unwrap()).unwrap();
            let text = format!("{}\n{}\n", line("/run", true), line("/etc/machine-id", false));
            fs::write(&record, text).unwrap();
            // Only the container's own poststop knows whether the container is gone.
            Guest::new(bundle, "other", "other").poststop()?.silently()?;
            ensure!(record.exists(), "another container's call removed the record");
            if with_its_bundle { guest.poststop() } else { guest.poststop_without_bundle() }?.silently()?;
            same("the image", &before, &guest.image())?;
            none(bundle)
        })
        .map_err(|message| format!("with its bundle: {with_its_bundle}: {message}"))?;
    }
    Ok(())
}

/// poststop may never be called. Each call that prepares or cleans up removes what was created for dead containers,
/// and no other call does.
pub fn of_the_dead(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let mut other = Guest::new(bundle, "other", "other");
        let mut alive = Guest::new(bundle, "alive", "alive");
        let (alive_before, mut before) = (alive.image(), Snapshot::new());
        alive.create()?;
        for is_prepared in [true, false] {
            let mut dead = Guest::new(bundle, if is_prepared { "dead" } else { "dead-too" }, ID);
            before = dead.image();
            dead.create()?;
            dead.end();
            let mut skipped = Guest::on(bundle, "skipped", "skipped", &other.root);
            skipped.config["process"]["args"] = json!(["/bin/true"]);
            skipped.start()?;
            skipped.call()?.silently()?;
            count(bundle, ID, 1)?;
            dead.has(true)?;
            let called = if is_prepared { other.create() } else { other.poststop()?.silently() };
            called?;
            count(bundle, ID, 0)?;
            same("the dead one's image", &before, &dead.image())?;
            other.end();
            alive.runs()?;
            count(bundle, "alive", 1)?;
        }
        other.poststop()?.silently()?;
        alive.end();
        alive.poststop()?.silently()?;
        same("the living one's image", &alive_before, &alive.image())?;
        ensure!(!before.is_empty(), "nothing was compared");
        none(bundle)
    })
}

/// A first process that has ended counts as gone, even if its parent has not yet collected its status.
pub fn of_a_zombie(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let mut guest = Guest::new(bundle, "a", ID);
        let before = guest.image();
        guest.create()?;
        let pid = guest.process.as_ref().unwrap().id();
        kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
        let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        until("a zombie", || stat().contains(") Z "))?;
        guest.poststop()?.silently()?;
        ensure!(stat().contains(") Z "), "the process is no longer a zombie");
        same("the image", &before, &guest.image())?;
        none(bundle)
    })
}

/// If a first process isn't found, /proc may hide it (hidepid, see proc(5)). Therefore only the container's own
/// poststop removes its files.
pub fn where_processes_are_hidden(realm: Realm) -> Check {
    if realm == Realm::User {
        return Ok(());
    }
    for (option, left) in [(c"hidepid=4", 1), (c"hidepid=0", 0)] {
        with_bundle(realm, |bundle| {
            isolated(|| {
                mount("proc", "/proc", "proc", MountFlags::empty(), option).unwrap();
                let mut dead = Guest::new(bundle, "dead", ID);
                dead.create()?;
                dead.end();
                Guest::new(bundle, "other", "other").poststop()?.silently()?;
                count(bundle, ID, left)?;
                dead.poststop()?.silently()?;
                none(bundle)
            })
        })
        .map_err(|message| format!("{option:?}: {message}"))?;
    }
    Ok(())
}

/// A call that prepares a container spends at most a second on removing what dead containers have left behind. Later
/// calls remove the rest.
pub fn of_many_dead(realm: Realm) -> Check {
    const DEAD: usize = 12;
    with_bundle(realm, |bundle| {
        // Only the call below must find a record.
        let aside = bundle.records().with_file_name("aside");
        fs::create_dir(&aside).unwrap();
        for number in 0..DEAD {
            let id = format!("{number}{}", &ID[2..]);
            let mut dead = Guest::new(bundle, &format!("dead-{number}"), &id);
            dead.create()?;
            dead.end();
            fs::rename(bundle.records().join(&id), aside.join(&id)).unwrap();
        }
        for record in fs::read_dir(&aside).unwrap().map(|record| record.unwrap()) {
            fs::rename(record.path(), bundle.records().join(record.file_name())).unwrap();
        }
        let mut other = Guest::new(bundle, "other", "other");
        other.start()?;
        // A tracer makes each removal slow, so that all of them would take longer than the hook may spend on them.
        let under = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=unlinkat:delay_enter=300000"];
        let under = under.map(str::to_owned);
        let how = How { cwd: Some(other.directory.clone()), under: &under, ..How::default() };
        bundle.call(other.state.to_string().as_bytes(), &how)?.silently()?;
        let left = fs::read_dir(bundle.records()).unwrap().count();
        ensure!(left > 1 && left < 1 + DEAD, "{left} records are left");
        other.end();
        other.poststop()?.silently()?;
        none(bundle)
    })
}

/// An engine may have private mounts that other engines' calls don't see. These calls must not conclude that
/// files there are gone.
pub fn of_another_namespace(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let root = bundle.elsewhere("a").join("rootfs");
        fs::create_dir_all(&root).unwrap();
        let mut guest = Guest::on(bundle, "a", ID, &root);
        let engine = isolated(|| {
            tmpfs(&root, "mode=755");
            unpack(&root);
            guest.create()?;
            guest.end();
            Container::beside()
        })?;
        let elsewhere = || {
            Guest::new(bundle, "other", "other").poststop()?.silently()?;
            fs::remove_dir_all(bundle.elsewhere("other")).unwrap();
            Check::Ok(())
        };
        elsewhere()?;
        count(bundle, ID, 1)?;
        guest.poststop_without_bundle()?.with_warning(&["namespaces", "nsenter"])?;
        count(bundle, ID, 1)?;
        for path in MISSING {
            let found = fs::symlink_metadata(engine.path(&root.join(path)));
            ensure!(found.is_ok(), "{path} is gone: {found:?}");
        }
        // A record whose paths can no longer be resolved is removed.
        drop(engine);
        elsewhere()?;
        if realm == Realm::User {
            // Engines in other user namespaces can't be seen, so the record is kept until
            // the container's own poststop.
            count(bundle, ID, 1)?;
            guest.poststop()?.silently()?;
        }
        none(bundle)
    })
}

/// A record distinguishes a process from a later one with the same PID, and one boot from the next.
pub fn of_another_boot(realm: Realm) -> Check {
    type Change = fn(&mut Value);
    let changes: [(&str, Change, bool); 6] = [
        ("nothing", |_| {}, true),
        ("the boot", |container| container["boot"] = json!("00000000-0000-4000-8000-000000000000"), false),
        ("the start", |container| container["first"]["start-ticks"] = json!(1), false),
        ("the pid namespace", |container| container["first"]["pid-namespace"] = json!(1), false),
        // PIDs and start times from another PID or time namespace prove nothing.
        (
            "the start, and the runtime's pid namespace",
            |container| {
                container["first"]["start-ticks"] = json!(1);
                container["namespaces"]["pid"] = json!(1);
            },
            true,
        ),
        (
            "the start, and the runtime's time namespace",
            |container| {
                container["first"]["start-ticks"] = json!(1);
                container["namespaces"]["time"] = json!(1);
            },
            true,
        ),
    ];
    for (name, change, stays) in changes {
        with_bundle(realm, |bundle| {
            let mut guest = Guest::new(bundle, "a", ID);
            let before = guest.image();
            guest.create()?;
            let record = records(bundle, ID).pop().ok_or("there is no record")?;
            let text = fs::read_to_string(&record).unwrap();
            // This process keeps running, and has none of the container's mounts.
            let idle = Container::with_mounts(|| {})?;
            guest.end();
            let (first, rest) = text.split_once('\n').unwrap();
            let mut line: Value = serde_json::from_str(first).unwrap();
            let stat = fs::read_to_string(format!("/proc/{}/stat", idle.id())).unwrap();
            let start = stat.split(' ').nth(21).unwrap().parse::<u64>().unwrap();
            line["container"]["first"]["pid"] = json!(idle.id());
            line["container"]["first"]["start-ticks"] = json!(start);
            change(&mut line["container"]);
            fs::write(&record, format!("{line}\n{rest}")).unwrap();
            Guest::new(bundle, "other", "other").poststop()?.silently()?;
            count(bundle, ID, usize::from(stays))?;
            if stays { guest.has(true) } else { same("the image", &before, &guest.image()) }
        })
        .map_err(|message| format!("another one by {name}: {message}"))?;
    }
    Ok(())
}

/// A dead container's record is kept as long as its root isn't mounted, or is on a file server,
/// which may never answer.
pub fn out_of_reach(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let mut guest = Guest::new(bundle, "a", ID);
        let before = guest.image();
        guest.create()?;
        guest.end();
        let others = || {
            let mut other = Guest::new(bundle, "other", "other");
            other.create()?;
            other.end();
            other.poststop()?.silently()?;
            fs::remove_dir_all(bundle.elsewhere("other")).unwrap();
            count(bundle, ID, 1)
        };
        tmpfs(&guest.root, "mode=755");
        others().map_err(|message| format!("not mounted: {message}"))?;
        unmount(&guest.root, UnmountFlags::DETACH).unwrap();
        if let Some(server) = Server::mount(&guest.root) {
            server.is_mute();
            let asked = server.asked();
            others().map_err(|message| format!("on a server: {message}"))?;
            ensure!(server.asked() == asked, "the server was asked");
            Server::detach(&guest.root);
        }
        guest.has(true)?;
        guest.poststop()?.silently()?;
        same("the image", &before, &guest.image())?;
        none(bundle)
    })
}

/// Nothing is removed from a root on which a container is being prepared, which the lock on the root indicates.
pub fn locked_root(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let mut guest = Guest::new(bundle, "a", ID);
        let before = guest.image();
        guest.create()?;
        guest.end();
        let lock = fs::File::open(&guest.root).unwrap();
        flock(&lock, FlockOperation::LockShared).unwrap();
        guest.poststop()?.silently()?;
        guest.has(true)?;
        count(bundle, ID, 1)?;
        drop(lock);
        guest.poststop()?.silently()?;
        same("the image", &before, &guest.image())?;
        none(bundle)
    })
}

/// A container is not prepared on a root while something is removed from it, because that could remove its mounts.
pub fn root_locked_for_removing(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let mut guest = Guest::new(bundle, "a", ID);
        let lock = fs::File::open(&guest.root).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let is_free = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The pause is longer than a call takes.
                std::thread::sleep(Duration::from_millis(500));
                is_free.store(true, Ordering::SeqCst);
                drop(lock);
            });
            guest.create()?;
            ensure!(is_free.load(Ordering::SeqCst), "it didn't wait for the lock");
            Ok(())
        })?;
        guest.end();
        guest.poststop()?.silently()?;
        is_locked_until_the_end(&mut guest)?;
        guest.end();
        guest.poststop()?.silently()?;
        none(bundle)
    })
}

/// Checks that no other process can remove anything while the hook mounts.
fn is_locked_until_the_end(guest: &mut Guest<'_>) -> Check {
    guest.start()?;
    let log = guest.bundle.elsewhere("strace").join("log");
    let under = stopper("move_mount", 1, &log);
    let how = How { cwd: Some(guest.directory.clone()), under: &under, ..How::default() };
    let (bundle, state, lock) = (guest.bundle, guest.state.to_string(), fs::File::open(&guest.root).unwrap());
    std::thread::scope(|scope| {
        let call = scope.spawn(|| bundle.call(state.as_bytes(), &how));
        until("a hook that mounts", || stopped(&log).is_some())?;
        let is_locked = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err();
        kill_process(stopped(&log).unwrap(), Signal::CONT).unwrap();
        drop(lock);
        call.join().unwrap()?.silently()?;
        ensure!(is_locked, "another call could remove something");
        Ok(())
    })
}

/// Without birth times, the hook can't distinguish a file from a later one.
pub fn without_birth_time(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let root = bundle.elsewhere("a").join("rootfs");
        fs::create_dir_all(&root).unwrap();
        mount("ramfs", &root, "ramfs", MountFlags::empty(), None).unwrap();
        unpack(&root);
        let mut guest = Guest::on(bundle, "a", ID, &root);
        guest.create()?;
        guest.end();
        let finished = guest.poststop()?;
        let lines: Vec<&str> = finished.stderr.lines().collect();
        ensure!(finished.code == Some(0) && lines.len() == 2, "expected two warnings: {finished:?}");
        for (line, path) in lines.iter().zip(["/etc/machine-id", "/run"]) {
            ensure!(line.contains(path) && line.contains("does not report when"), "expected {path}: {line:?}");
        }
        guest.has(true)?;
        // This is reported only once.
        guest.poststop()?.silently()?;
        none(bundle)
    })
}

/// podman mounts a container's overlay again if it isn't mounted any more.
pub fn on_an_overlay(realm: Realm) -> Check {
    for lower_is_elsewhere in [false, true] {
        for is_mounted_anew in [false, true] {
            with_bundle(realm, |bundle| {
                let base = bundle.elsewhere("overlay");
                if lower_is_elsewhere {
                    fs::create_dir_all(base.join("lower")).unwrap();
                    tmpfs(&base.join("lower"), "mode=755");
                }
                let root = bundle.elsewhere("a").join("rootfs");
                for directory in [&root, &base.join("lower"), &base.join("upper"), &base.join("work")] {
                    fs::create_dir_all(directory).unwrap();
                }
                unpack(&base.join("lower"));
                // The overlay's first inode numbers are assigned to other files at the next mount.
                fs::create_dir_all(base.join("lower/first/second")).unwrap();
                let mount_root = || {
                    let [lower, upper, work] =
                        ["lower", "upper", "work"].map(|name| base.join(name).display().to_string());
                    let user = if realm == Realm::User { ",userxattr" } else { "" };
                    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}{user}");
                    let options = std::ffi::CString::new(options).unwrap();
                    mount("overlay", &root, "overlay", MountFlags::empty(), options.as_c_str())
                        .map_err(|error| format!("cannot mount an overlay: {error}"))
                };
                mount_root()?;
                let mut guest = Guest::on(bundle, "a", ID, &root);
                let before = guest.image();
                guest.create()?;
                guest.end();
                if is_mounted_anew {
                    unmount(&root, UnmountFlags::empty()).unwrap();
                    mount_root()?;
                }
                guest.poststop()?.silently()?;
                guest.has(false)?;
                // An overlay of two file systems assigns new inode numbers to its directories.
                if !lower_is_elsewhere {
                    same("the image", &before, &guest.image())?;
                }
                let upper = tree::read(&base.join("upper"), Detail::Restored);
                let upper: Vec<_> = upper.keys().filter(|path| path.to_string_lossy().contains("oci")).collect();
                ensure!(upper.is_empty(), "the upper layer has {upper:?}");
                none(bundle)
            })
            .map_err(|message| {
                format!(
                    "lower on another file system: {lower_is_elsewhere}, mounted anew: {is_mounted_anew}: {message}"
                )
            })?;
        }
    }
    Ok(())
}

/// A file or directory that was replaced after the hook created it is kept, even if it is as empty as the hook's.
pub fn stays_another_ones(realm: Realm) -> Check {
    type Change = fn(&Path);
    let changes: [(&str, Change); 3] = [
        ("an empty directory again", |root| {
            fs::remove_dir(root.join("run")).unwrap();
            fs::create_dir(root.join("run")).unwrap();
        }),
        ("an empty file again", |root| {
            fs::remove_file(root.join("etc/machine-id")).unwrap();
            fs::write(root.join("etc/machine-id"), "").unwrap();
        }),
        ("an id", |root| fs::write(root.join("etc/machine-id"), IMAGE_ID).unwrap()),
    ];
    for (name, change) in changes {
        with_bundle(realm, |bundle| {
            let mut guest = Guest::new(bundle, "a", ID);
            guest.create()?;
            guest.end();
            change(&guest.root);
            guest.poststop()?.silently()?;
            let left = MISSING.iter().filter(|path| guest.root.join(path).exists()).count();
            ensure!(left == 1, "{left} of the two are left");
            none(bundle)
        })
        .map_err(|message| format!("{name}: {message}"))?;
    }
    Ok(())
}

/// A container's author can claim any engine. Only conmon's arguments prove that podman cleans
/// up after the container.
pub fn forged_engine(realm: Realm) -> Check {
    // Only the host's root can create cgroups beside those of the runtime.
    if realm == Realm::User || own_cgroup_mount().is_none() {
        return Ok(());
    }
    let id = format!("{:08x}{}", std::process::id(), &ID[8..]);
    let cgroup = own_cgroup_mount().map(|(_, own)| own.join(format!("oci-systemd-hook-{id}"))).unwrap();
    for (name, of_id, is_podmans) in
        [("nobody", None, false), ("another", Some("c1"), false), ("its own", Some(&*id), true)]
    {
        with_bundle(realm, |bundle| {
            bundle.state["id"] = json!(id);
            bundle.config["annotations"] = json!({"io.container.manager": "libpod"});
            fs::remove_file(bundle.image("etc/machine-id")).unwrap();
            let container = Container::start_as(bundle, |bundle| bundle.start(Cgroup::Mounted))?;
            bundle.state["pid"] = json!(container.id());
            let watch = bundle.watch();
            let conmon = of_id.map(|id| conmon(bundle, id)).unwrap_or_default();
            let finished =
                bundle.create_as(&How { cwd: Some(bundle.directory()), under: &conmon, ..How::default() })?;
            if is_podmans {
                ensure!(finished.code == Some(0) && cgroup.exists(), "nothing was created: {finished:?}");
            } else {
                finished.refused(&["cgroup", "poststop"])?;
                ensure!(!cgroup.exists(), "a cgroup was created");
                watch.restored(bundle)?;
                none(bundle)?;
            }
            drop(container);
            bundle.end();
            bundle.poststop()?.silently()?;
            ensure!(!cgroup.exists(), "the cgroup is left");
            watch.restored(bundle)?;
            none(bundle)
        })
        .map_err(|message| format!("conmon of {name}: {message}"))?;
    }
    Ok(())
}

/// Returns a command that runs the hook under a program called conmon, with the arguments that podman passes to it.
fn conmon(bundle: &Bundle, id: &str) -> Vec<String> {
    let script = bundle.elsewhere("conmon").join("script");
    fs::write(&script, "for last; do :; done; \"$last\"; exit $?").unwrap();
    let directory = bundle.directory().display().to_string();
    let exit = ["--exit-command", "podman", "--exit-command-arg", "container", "--exit-command-arg", "cleanup"];
    let words = ["-c", "exec -a conmon bash \"$@\"", "bash", &script.display().to_string()].map(str::to_owned);
    let arguments = ["-c", id, "-b", &directory].into_iter().chain(exit).chain(["--exit-command-arg", id]);
    std::iter::once("bash".to_owned()).chain(words).chain(arguments.map(str::to_owned)).collect()
}

/// A record has no effect on containers of other users' engines, and other users can't read it.
pub fn are_private(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let mut guest = Guest::new(bundle, "a", ID);
        guest.create()?;
        let record = records(bundle, ID).pop().ok_or("there is no record")?;
        let modes = [(bundle.records(), 0o40700), (bundle.records().join(ID), 0o40700), (record, 0o100_600)];
        for (path, mode) in modes {
            let found = fs::metadata(&path).unwrap().mode();
            ensure!(found == mode, "{} has mode {found:o}", path.display());
        }
        let place = if realm == Realm::User { runtime_directory() } else { "/run".into() };
        ensure!(bundle.records().starts_with(place), "it is at {:?}", bundle.records());
        ensure!(Command::new(program()).arg("--version").output().is_ok(), "the hook doesn't run");
        Ok(())
    })
}
