// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that nothing is done to a directory that another process exchanges for a different one between two system
//! calls of the hook.
//!
//! strace(1) stops the hook in turn after each call that examines a path or acts on one. While it is stopped, a
//! directory of the image is exchanged for one on which a volume is mounted. `race` does the same at full speed.

use std::fs;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind_recursive, mount_change, mount_remount, unmount,
};
use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, bind, furnish_host, own_cgroup_mount, tmpfs, with_bundle};
use crate::harness::tree::{self, Detail, same};
use crate::hook::How;
use crate::namespace::{Realm, isolated};
use crate::runtime::{Container, stopped, stopper};
use crate::table;

/// The directories that a plan acts on, and those above them.
pub const PATHS: [&str; 11] = [
    "run",
    "run/lock",
    "run/secrets",
    "tmp",
    "var",
    "var/log",
    "var/log/journal",
    "var/lib/dbus",
    "etc",
    "sys",
    "sys/fs/cgroup",
];
/// Stands for the directory that the hook creates for /run if the image has none, which has a
/// temporary name at first.
const NEW: &str = "a new directory";
/// The prefix of the temporary name.
const NEW_NAME: &str = ".oci-";
/// The calls after which the hook is stopped.
const CALLS: [&str; 5] = ["openat2", "statx", "mkdirat", "open_tree", "move_mount"];
/// A bound that is larger than the number of these calls that the hook makes.
const STOPS_MAX: usize = 1000;

/// The number of exchanges.
pub static EXCHANGES: AtomicUsize = AtomicUsize::new(0);

/// How the hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// At createContainer, with a shared volume and root: what is mounted on the volume in the container appears on the
    /// host.
    CreateContainer,
    /// At createRuntime, for a container whose root user has a different ID, which becomes the owner of
    /// what the hook creates.
    CreateRuntime,
}

/// The directories above the container's cgroups are exchanged for cgroups of others, none of which may become
/// writable.
pub fn others_cgroups(realm: Realm) -> Check {
    let Some(victim) = Victim::new() else {
        // The trial has to create a cgroup, which requires privileges.
        ensure!(realm == Realm::User, "no cgroup can be created");
        return Ok(());
    };
    let paths = ["sys", "sys/fs", "sys/fs/cgroup"];
    crate::all(paths.into_iter().map(|path| (path, each_call(realm, path, Way::CreateContainer, Some(&victim)))))
}

/// A cgroup below which the container's own path exists, as it does below the root of the hierarchy.
struct Victim {
    top: PathBuf,
    own: PathBuf,
}

impl Victim {
    fn new() -> Option<Self> {
        let (hierarchy, own) = own_cgroup_mount()?;
        let top = own.join(format!("osh-kernel-victim-{}", std::process::id()));
        let own = own.strip_prefix(hierarchy).unwrap().to_owned();
        fs::create_dir(&top).ok()?;
        fs::create_dir_all(top.join(&own)).unwrap();
        Some(Self { top, own })
    }

    /// Returns the mounts through which the cgroup can be written to.
    fn writable(&self) -> Vec<PathBuf> {
        let name = self.top.file_name().unwrap();
        let shows = |mount: &table::Mount| mount.root.iter().any(|part| part == name) && !mount.has("ro");
        table::read().into_iter().filter(shows).map(|mount| mount.at).collect()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // At worst, another process has removed it.
        for above in self.own.ancestors() {
            let _ = fs::remove_dir(self.top.join(above));
        }
    }
}

/// Exchanges a directory that the hook has just created, before the hook renames it and changes its owner.
pub fn new_directory(realm: Realm) -> Check {
    each_call(realm, NEW, Way::CreateRuntime, None)
}

/// Exchanges one directory after each call in turn.
pub fn path(realm: Realm, path: &'static str, way: Way) -> Check {
    each_call(realm, path, way, None)
}

fn each_call(realm: Realm, path: &'static str, way: Way, victim: Option<&Victim>) -> Check {
    for call in CALLS {
        for number in 1..=STOPS_MAX {
            let mut was_stopped = false;
            with_bundle(realm, |bundle| {
                was_stopped = exchanged(bundle, &Point { path, way, call, number, victim })?;
                Ok(())
            })
            .map_err(|message| format!("after {call} number {number}: {message}"))?;
            ensure!(was_stopped || number > 1, "the hook never calls {call}");
            ensure!(number < STOPS_MAX, "the hook was still stopped after {STOPS_MAX} times {call}");
            if !was_stopped {
                break;
            }
        }
    }
    Ok(())
}

/// The call after which the hook is stopped, and what is exchanged.
struct Point<'a> {
    path: &'static str,
    way: Way,
    call: &'static str,
    number: usize,
    /// A cgroup that is mounted on the volume in place of the container's cgroups.
    victim: Option<&'a Victim>,
}

impl Point<'_> {
    /// Whether the volume and the root are shared with the host.
    fn is_shared(&self) -> bool {
        self.way == Way::CreateContainer && self.victim.is_none()
    }
}

/// Runs one exchange. Returns whether the hook made the call of `point`.
fn exchanged(bundle: &mut Bundle, point: &Point<'_>) -> Result<bool, String> {
    let Point { path, .. } = *point;
    let host = bundle.elsewhere("volume");
    tmpfs(&host, "mode=755");
    furnish_host(&host);
    let volume = host.join("full");
    // The rest of the path must exist in the volume.
    for inside in ["run/lock", "lock", "secrets", "lib/dbus", "log/journal", "fs/cgroup"] {
        fs::create_dir_all(volume.join(inside)).unwrap();
    }
    if path == NEW {
        fs::remove_dir_all(bundle.image("run")).unwrap();
    } else {
        for directory in ["run/secrets", path] {
            fs::create_dir_all(bundle.image(directory)).unwrap();
        }
    }
    fs::create_dir(bundle.image("other")).unwrap();
    fs::remove_file(bundle.image("var/lib/dbus/machine-id")).unwrap();
    fs::write(bundle.image("var/lib/dbus/machine-id"), "").unwrap();
    if point.is_shared() {
        mount_change(&host, MountPropagationFlags::SHARED).unwrap();
    }
    let log = bundle.elsewhere("strace").join("log");
    let (image, other) = (bundle.image(""), bundle.image("other"));
    let one = || {
        if path != NEW {
            return Some(image.join(path));
        }
        let mut entries = fs::read_dir(&image).unwrap().flatten();
        entries.find(|entry| entry.file_name().to_string_lossy().starts_with(NEW_NAME)).map(|entry| entry.path())
    };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (there, is_there) = channel();
        let is_over = &is_over;
        let (log_read, one, other) = (log.clone(), &one, &other);
        // The exchange is done in a mount namespace without the container's mounts, since a mount point of one's own
        // namespace can't be renamed.
        let swapper = scope.spawn(move || isolated(move || exchange_once(&log_read, one, other, is_over, &there)));
        is_there.recv().map_err(|_| "there is no mount namespace for who exchanges")?;
        let result = call(bundle, point, &log, &host, || is_over.store(true, Ordering::Relaxed));
        is_over.store(true, Ordering::Relaxed);
        let was_stopped = swapper.join().unwrap()?;
        result.map(|()| was_stopped)
    })
}

/// Calls the hook as `way` specifies, and checks the volume and the host afterwards.
fn call(bundle: &mut Bundle, point: &Point<'_>, log: &Path, host: &Path, exchange_back: impl FnOnce()) -> Check {
    const OWNER: u32 = 1000;
    let way = point.way;
    let mount = |bundle: &mut Bundle| {
        // At createRuntime, other processes would be in the trial's own cgroup.
        bundle.start(if way == Way::CreateContainer { Cgroup::Mounted } else { Cgroup::Nowhere });
        if point.path != NEW {
            bundle.submount("run/secrets");
        }
        mount_bind_recursive(host.join("full"), bundle.root("other")).unwrap();
        if let Some(victim) = point.victim {
            let below = Path::new("sys/fs/cgroup").strip_prefix(point.path).unwrap();
            let at = bundle.root("other").join(below);
            fs::create_dir_all(&at).unwrap();
            bind(&victim.top, &at);
            mount_remount(&at, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
        }
        if point.is_shared() {
            mount_change(bundle.root(""), MountPropagationFlags::SHARED).unwrap();
        }
    };
    let mut container = None;
    let mut cwd = bundle.root("");
    match way {
        Way::CreateContainer => mount(bundle),
        Way::CreateRuntime => {
            if lchown(bundle.elsewhere("owned"), Some(OWNER), Some(OWNER)).is_ok() {
                let map = json!([{"containerID": 0, "hostID": OWNER, "size": 1000}]);
                bundle.config["linux"]["uidMappings"] = map.clone();
                bundle.config["linux"]["gidMappings"] = map;
            }
            let started = Container::start_as(bundle, mount)?;
            bundle.state["pid"] = json!(started.id());
            container = Some(started);
            cwd = bundle.directory();
        }
    }
    let (before, writable_before) = (tree::read(host, Detail::Untouched), point.victim.map(Victim::writable));
    let outside = table::outside(&bundle.root(""));
    let under = stopper(point.call, point.number, log);
    let how = How { cwd: Some(cwd), under: &under, ..How::default() };
    let finished = bundle.create_as(&how);
    exchange_back();
    let finished = finished?;
    // A directory that was moved away can't be removed, which is reported in a separate line.
    if point.path != NEW || finished.code == Some(0) {
        finished.in_order()?;
    }
    same("the volume", &before, &tree::read(host, Detail::Untouched))
        .map_err(|wrong| format!("{finished:?}: {wrong}"))?;
    same("the mounts outside the root", &outside, &table::outside(&bundle.root("")))
        .map_err(|wrong| format!("{finished:?}: {wrong}"))?;
    let writable = point.victim.map(Victim::writable);
    ensure!(writable == writable_before, "others' cgroups are writable at {writable:?}: {finished:?}");
    let may_leave = finished.code == Some(0) || point.path == NEW;
    ensure!(may_leave || !bundle.records().exists(), "a record is left: {finished:?}");
    drop(container);
    unmount(bundle.root(""), UnmountFlags::DETACH).unwrap();
    let after = bundle.poststop()?;
    ensure!(after.code == Some(0), "poststop: {after:?}");
    if point.path == NEW { Ok(()) } else { after.silently() }
}

/// Exchanges two directories of the image once the hook is stopped, and again at the end. Returns whether it was
/// stopped.
fn exchange_once(
    log: &Path,
    one: &dyn Fn() -> Option<PathBuf>,
    other: &Path,
    is_over: &AtomicBool,
    there: &Sender<()>,
) -> Result<bool, String> {
    let pause = || std::thread::sleep(Duration::from_micros(200));
    let exchange = |one: &Path| {
        let result = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
        result.map_err(|errno| format!("cannot exchange {one:?} and {other:?}: {errno}"))
    };
    there.send(()).map_err(|_| "nobody waits")?;
    while !is_over.load(Ordering::Relaxed) {
        let Some(pid) = stopped(log) else {
            pause();
            continue;
        };
        // The hook may not have created the directory yet, or may have renamed it already.
        let one = one();
        let exchanged = one.as_deref().map_or(Ok(()), exchange);
        EXCHANGES.fetch_add(usize::from(one.is_some()), Ordering::Relaxed);
        kill_process(pid, Signal::CONT).map_err(|errno| format!("cannot continue {pid:?}: {errno}"))?;
        exchanged?;
        while !is_over.load(Ordering::Relaxed) {
            pause();
        }
        // If the hook has renamed the directory, it remains where it is.
        if let Some(one) = one.filter(|one| one.exists()) {
            exchange(&one)?;
        }
        return Ok(true);
    }
    Ok(false)
}
