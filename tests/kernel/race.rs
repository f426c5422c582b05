// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that nothing outside the root is touched while another process swaps files in the image as fast as possible.
//!
//! That process is outside the container, in a separate mount namespace, and is allowed to write to the image's
//! directory. A process that could also move a directory of the image out of it, or one of the host's into it, could
//! change the host without the hook.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, RenameFlags, makedev, renameat_with};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, bind, with_bundle};
use crate::copy_up::node;
use crate::harness::tree::{self, Detail, same};
use crate::hook::{Finished, How};
use crate::namespace::{Realm, isolated};
use crate::opened::Opened;
use crate::runtime::Container;
use crate::table;

/// The normal and the maximum duration of a trial, which may take longer on a busy machine.
const LENGTH: Duration = Duration::from_secs(1);
const LENGTH_MAX: Duration = Duration::from_secs(30);
/// The required number of calls and swaps, which is below what an idle machine achieves in [`LENGTH`].
const CALLS_MIN: u64 = 20;
const SWAPS_MIN: u64 = 1000;

/// The numbers of calls and swaps in all trials.
pub static CALLS: AtomicU64 = AtomicU64::new(0);
pub static SWAPS: AtomicU64 = AtomicU64::new(0);

/// What a path of the image is swapped with.
#[derive(Debug, Clone, Copy)]
pub enum Other {
    /// A symlink to this path of the host.
    Host(&'static str),
    Fifo,
    /// Each file in the directory is swapped with a FIFO.
    Fifos,
    /// Each file in the directory is swapped with a device, which only the initial user namespace's root can create.
    Devices,
    /// A directory on which a volume of the user is mounted.
    Volume,
}

/// The paths of the image, and what they are swapped with.
pub const PAIRS: [(&str, Other); 24] = [
    ("run", Other::Host("full")),
    ("run/lock", Other::Host("full/lock")),
    ("run/host", Other::Host("full/host")),
    ("run/systemd", Other::Host("full/systemd")),
    ("tmp", Other::Host("full")),
    ("tmp/deep/d", Other::Host("full")),
    ("tmp/deep/d/kept", Other::Host("full/kept")),
    ("tmp/deep/files", Other::Fifos),
    ("tmp/deep/files", Other::Devices),
    ("var/log", Other::Host("full/log")),
    ("var/log/journal", Other::Host("full/log/journal")),
    ("etc", Other::Host("full")),
    ("etc/machine-id", Other::Host("full/machine-id")),
    ("etc/machine-id", Other::Fifo),
    ("sys/fs/cgroup", Other::Host("full/fs/cgroup")),
    ("usr/lib/systemd/systemd", Other::Host("systemd/systemd")),
    ("usr/lib/systemd/systemd", Other::Fifo),
    ("usr/lib/systemd", Other::Host("systemd")),
    // A volume that is mounted there moves with the directory, and must not be copied as if it were
    // part of the image.
    ("run", Other::Volume),
    ("tmp/deep/d", Other::Volume),
    ("run/lock", Other::Volume),
    ("var/log", Other::Volume),
    ("etc", Other::Volume),
    ("sys", Other::Volume),
];

/// A thread that swaps pairs of paths while it is told to.
struct Racer<'a> {
    go: Sender<()>,
    swaps: Receiver<u64>,
    is_stopped: &'a AtomicBool,
}

/// Stops the racer when dropped, even if a check panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Racer<'_> {
    /// Swaps during a call, after which everything is again where it was. Also returns the number of swaps.
    fn during<T>(&self, call: impl FnOnce() -> T) -> (T, u64) {
        self.is_stopped.store(false, Ordering::Relaxed);
        let stop = Stop(self.is_stopped);
        self.go.send(()).unwrap();
        let result = call();
        drop(stop);
        (result, self.swaps.recv().unwrap())
    }
}

/// Runs `work` with a racer, whose mount namespace is a copy of the current one.
fn with_racer(pairs: &[(PathBuf, PathBuf)], work: impl FnOnce(&Racer<'_>) -> Check) -> Check {
    let is_stopped = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let (go, told) = channel();
        let (done, swaps) = channel();
        let stopped = &is_stopped;
        scope.spawn(move || {
            isolated(move || {
                swap(pairs, stopped, &told, &done);
                Ok(())
            })
        });
        // The racer has started.
        swaps.recv().map_err(|_| "there is no racer")?;
        work(&Racer { go, swaps, is_stopped: &is_stopped })
    })
}

fn swap(pairs: &[(PathBuf, PathBuf)], is_stopped: &AtomicBool, told: &Receiver<()>, done: &Sender<u64>) {
    let exchange =
        |(one, other): &(PathBuf, PathBuf)| renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    done.send(0).unwrap();
    while told.recv().is_ok() {
        let mut counts = vec![0_u64; pairs.len()];
        while !is_stopped.load(Ordering::Relaxed) {
            for (pair, count) in pairs.iter().zip(&mut counts) {
                *count += u64::from(exchange(pair));
            }
            if pairs.len() > 1 {
                continue;
            }
            // This is a xorshift generator. Files sometimes stay in place for two system calls, and sometimes
            // for a whole step.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let stays = Duration::from_micros([0, 2, 10, 50, 300][usize::try_from(random % 5).unwrap()]);
            let until = Instant::now() + stays;
            while Instant::now() < until && !is_stopped.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        }
        for (pair, count) in pairs.iter().zip(&counts) {
            if count % 2 == 1 {
                exchange(pair);
            }
        }
        done.send(counts.iter().sum()).unwrap();
    }
}

/// Swaps one path during createContainer.
pub fn pair(realm: Realm, (path, other): (&'static str, Other)) -> Check {
    with_bundle(realm, |bundle| {
        for file in ["run/host/container-manager", "run/systemd/system/kept", "tmp/deep/d/kept", "var/log/journal/kept"]
        {
            fs::create_dir_all(bundle.image(file).parent().unwrap()).unwrap();
            fs::write(bundle.image(file), file).unwrap();
        }
        let pairs = put(bundle, path, other);
        let volume = bundle.elsewhere("volume");
        fs::write(volume.join("of-the-volume"), "the user's").unwrap();
        // The volume is like an rshared one: what is mounted on it in the container appears on the host.
        bind(&volume, &volume);
        mount_change(&volume, MountPropagationFlags::SHARED).unwrap();
        let of_the_volume = tree::read(&volume, Detail::Untouched);
        let inode = |at: PathBuf| fs::metadata(at).map(|file| file.ino()).ok();
        let special = matches!(other, Other::Fifo | Other::Fifos | Other::Devices);
        with_racer(&pairs, |racer| {
            rounds(|| {
                bundle.start(Cgroup::Mounted);
                if matches!(other, Other::Volume) {
                    bind(&volume, &bundle.root("other"));
                }
                let watch = bundle.watch();
                let never = pairs.iter().map(|(_, other)| other.as_path()).filter(|_| special);
                let opened = Opened::watch(never);
                let (finished, swaps) = racer.during(|| bundle.create());
                let finished = finished?;
                in_order(&finished)?;
                watch.host(bundle)?;
                opened
                    .nothing()
                    .map_err(|seen| format!("something that is not a regular file was {seen}: {finished:?}"))?;
                for path in ["run", "other", "tmp/deep/d"] {
                    let is_volume = inode(bundle.root(path)) == inode(volume.clone());
                    let copy = bundle.root(path).join("of-the-volume");
                    ensure!(is_volume || !copy.exists(), "{} was copied: {finished:?}", copy.display());
                }
                same("the volume", &of_the_volume, &tree::read(&volume, Detail::Untouched))?;
                unmount(bundle.root(""), UnmountFlags::DETACH).unwrap();
                let (poststop, more) = racer.during(|| bundle.poststop());
                in_order(&poststop?)?;
                watch.host(bundle)?;
                ensure!(finished.code == Some(0) || !bundle.records().exists(), "a record is left: {finished:?}");
                bundle.poststop()?.silently()?;
                ensure!(!bundle.records().exists(), "a record is left at the end: {finished:?}");
                Ok((2, swaps + more))
            })
        })
    })
}

/// The hook changes the owner of a directory that it has just created to the container's root. A directory with a
/// volume on it may have replaced it in the meantime.
pub fn new_directory(realm: Realm) -> Check {
    const OWNER: u32 = 1000;
    with_bundle(realm, |bundle| {
        let volume = bundle.elsewhere("volume");
        if lchown(bundle.elsewhere("owned"), Some(OWNER), Some(OWNER)).is_err() {
            // With only one ID, there is no other owner.
            return Ok(());
        }
        let map = json!([{"containerID": 0, "hostID": OWNER, "size": 1000}]);
        bundle.config["linux"]["uidMappings"] = map.clone();
        bundle.config["linux"]["gidMappings"] = map;
        let (run, other) = (bundle.image("run"), bundle.image("other"));
        fs::create_dir(&other).unwrap();
        with_racer(&[(run.clone(), other)], |racer| {
            rounds(|| {
                // The hook has to create the directory.
                let _ = fs::remove_dir_all(&run);
                let container = Container::start_as(bundle, |bundle| {
                    bundle.start(Cgroup::Nowhere);
                    bind(&volume, &bundle.root("other"));
                })?;
                bundle.state["pid"] = json!(container.id());
                let how = How { cwd: Some(bundle.directory()), ..How::default() };
                let (finished, swaps) = racer.during(|| bundle.create_as(&how));
                in_order(&finished?)?;
                let status = fs::metadata(&volume).unwrap();
                ensure!(
                    (status.uid(), status.gid()) == (0, 0),
                    "the volume's owner is {}:{}",
                    status.uid(),
                    status.gid()
                );
                drop(container);
                unmount(bundle.root(""), UnmountFlags::DETACH).unwrap();
                in_order(&bundle.poststop()?)?;
                Ok((2, swaps))
            })
        })
    })
}

/// Swaps the paths that poststop removes with symlinks to directories on the host that are just as empty.
pub fn poststop(realm: Realm) -> Check {
    for (path, target) in [("srv", "bait"), ("srv/new", "bait/new"), ("tmp", "bait/new/newer/still-newer")] {
        with_bundle(realm, |bundle| during_poststop(bundle, path, target))
            .map_err(|message| format!("{path}: {message}"))?;
    }
    Ok(())
}

fn during_poststop(bundle: &mut Bundle, path: &str, target: &str) -> Check {
    let bait = bundle.host("bait/new/newer");
    fs::create_dir_all(bait.join("still-newer")).unwrap();
    fs::write(bait.join("machine-id"), "").unwrap();
    fs::remove_file(bundle.image("etc/machine-id")).unwrap();
    fs::remove_dir(bundle.image("tmp")).unwrap();
    symlink("/srv/new/newer/machine-id", bundle.image("etc/machine-id")).unwrap();
    symlink(bundle.host(target), bundle.image("other")).unwrap();
    with_racer(&[(bundle.image(path), bundle.image("other"))], |racer| {
        rounds(|| {
            bundle.start(Cgroup::Mounted);
            let watch = bundle.watch();
            bundle.create()?.silently()?;
            ensure!(bundle.image("srv/new/newer/machine-id").exists(), "nothing was created");
            bundle.end();
            let (finished, swaps) = racer.during(|| bundle.poststop());
            let finished = finished?;
            ensure!(finished.code == Some(0), "{finished:?}");
            in_order(&finished)?;
            watch.host(bundle)?;
            // What was in the way during the first call isn't any more.
            bundle.poststop()?.silently()?;
            ensure!(!bundle.records().exists(), "the record is left");
            unmount(bundle.root(""), UnmountFlags::DETACH).unwrap();
            for made in ["tmp", "srv/new"].map(|made| bundle.image(made)) {
                // A path that was a symlink when the hook came to it doesn't belong to the hook any more.
                if made.exists() {
                    fs::remove_dir_all(made).unwrap();
                }
            }
            Ok((1, swaps))
        })
    })
}

/// Repeats a round until the time is over.
fn rounds(mut round: impl FnMut() -> Result<(u64, u64), String>) -> Check {
    let before = table::whole();
    let start = Instant::now();
    let (mut calls, mut swaps) = (0, 0);
    let is_enough = |calls, swaps| start.elapsed() > LENGTH && calls >= CALLS_MIN && swaps >= SWAPS_MIN;
    while !is_enough(calls, swaps) && start.elapsed() < LENGTH_MAX {
        let (called, swapped) = round()?;
        calls += called;
        swaps += swapped;
        same("the mount table after the container's end", &before, &table::whole())?;
    }
    CALLS.fetch_add(calls, Ordering::Relaxed);
    SWAPS.fetch_add(swaps, Ordering::Relaxed);
    ensure!(calls >= CALLS_MIN && swaps >= SWAPS_MIN, "only {calls} calls and {swaps} swaps");
    Ok(())
}

/// Checks that the hook succeeded, or failed with a message. It may also report that something could not be undone,
/// since at that point the hook no longer owns it.
fn in_order(finished: &Finished) -> Check {
    let all_ours = finished.stderr.lines().all(|line| line.starts_with("oci-systemd-hook: "));
    let is_clear = match finished.code {
        Some(0) => true,
        Some(1) => !finished.stderr.is_empty(),
        _ => false,
    };
    ensure!(is_clear && all_ours, "no clear outcome: {finished:?}");
    Ok(())
}

/// Creates the files to swap with at the top of the image, which the hook doesn't examine.
fn put(bundle: &Bundle, path: &str, other: Other) -> Vec<(PathBuf, PathBuf)> {
    /// The number of files, which is large enough that some are swapped between two system calls of the hook.
    const FILES: usize = 16;
    let (at, to) = (bundle.image(path), bundle.image("other"));
    let of_each = |make: &dyn Fn(&Path)| {
        fs::create_dir_all(&at).unwrap();
        fs::create_dir_all(&to).unwrap();
        let pairs = (0..FILES).map(|number| (at.join(number.to_string()), to.join(number.to_string())));
        let pairs: Vec<_> = pairs.collect();
        for (file, other) in &pairs {
            fs::write(file, "a file").unwrap();
            make(other);
        }
        pairs
    };
    match other {
        Other::Host(target) => symlink(bundle.host(target), &to).unwrap(),
        Other::Fifo => node(&to, FileType::Fifo, 0o666, 0),
        Other::Fifos => return of_each(&|other| node(other, FileType::Fifo, 0o666, 0)),
        Other::Devices => return of_each(&|other| node(other, FileType::CharacterDevice, 0o666, makedev(1, 3))),
        Other::Volume => fs::create_dir(&to).unwrap(),
    }
    vec![(at, to)]
}

/// Returns the name of the trial.
pub fn name((path, other): (&str, Other)) -> String {
    let other = match other {
        Other::Host(target) => format!("a link to the host's {}", Path::new(target).display()),
        Other::Fifo => "a fifo".to_owned(),
        Other::Fifos => "fifos".to_owned(),
        Other::Devices => "devices".to_owned(),
        Other::Volume => "what a volume is on".to_owned(),
    };
    format!("race/{path} and {other}")
}
