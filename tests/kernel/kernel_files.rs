// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that no file on the kernel's own file systems is opened because an image, or a mount of the container's
//! author, leads there. Reading some of them has side effects on the host; for instance, reading /proc/kmsg consumes
//! the messages.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};
use rustix::thread::UnshareFlags;
use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, ELF, SCRATCH, bind, rbind, tmpfs, with_bundle};
use crate::fuse::Server;
use crate::hook::{Finished, How};
use crate::hostile::clear;
use crate::namespace::{self, Realm, isolated};
use crate::opened::Opened;
use crate::runtime::Container;
use crate::table;

/// Files in /proc and /sys, which every container has. Most runtimes hide some of them only after their hooks.
const FILES: [&str; 10] = [
    "/proc/kmsg",
    "/proc/kcore",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/1/environ",
    "/proc/1/mem",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/kernel/core_pattern",
    "/sys/kernel/uevent_seqnum",
    "/sys/kernel/notes",
];
/// The file systems that can be mounted.
const KINDS: [&str; 10] =
    ["tracefs", "debugfs", "securityfs", "binfmt_misc", "mqueue", "pstore", "bpf", "configfs", "fusectl", "cgroup2"];
/// The file that is used on tracefs, which is consumed by reading it. On the other file systems any file is used.
const TELLING: &str = "trace_pipe";
/// Directories that no other process accesses.
const DIRECTORIES: [&str; 3] = ["/proc/tty/driver", "/proc/sys/fs/mqueue", "/sys/kernel/slab"];

/// How a path leads to such a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A symlink in the image.
    Link,
    /// A mount that the container's author configures.
    Mount,
}

const WAYS: [Way; 2] = [Way::Link, Way::Mount];

/// The stage at which the hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    CreateRuntime,
    CreateContainer,
}

const STAGES: [Stage; 2] = [Stage::CreateRuntime, Stage::CreateContainer];

/// The paths that the hook reads, with the container's command, and whether a container that enables the hook by
/// annotation is prepared nonetheless.
const PATHS: [(&str, &str, bool); 10] = [
    ("usr/lib/systemd/systemd", "/sbin/init", true),
    ("lib/systemd/systemd", "/sbin/init", true),
    ("sbin/init", "/sbin/init", true),
    ("opt/systemd/systemd", "/opt/systemd/systemd", true),
    ("usr/bin/init", "init", true),
    ("etc/os-release", "/sbin/init", true),
    ("run/host/os-release", "/sbin/init", true),
    ("run", "/sbin/init", false),
    ("tmp", "/sbin/init", false),
    ("etc/machine-id", "/sbin/init", false),
];

/// The directories that the hook lists, or in which it looks up names.
const DIRECTORY_PATHS: [&str; 9] = [
    "run",
    "run/lock",
    "run/host",
    "tmp",
    "var/log/journal",
    "usr/lib/systemd/system",
    "usr/lib/systemd",
    "sbin",
    "usr/bin",
];

struct Case<'a> {
    stage: Stage,
    way: Way,
    annotation: Option<&'static str>,
    path: &'static str,
    command: &'static str,
    target: &'a Path,
}

/// Tests each path with each file.
pub fn none_is_read(realm: Realm) -> Check {
    isolated(|| {
        let (files, _connection) = files();
        ensure!(files.len() > 8, "only {files:?}");
        let mut cases = Vec::new();
        for (stage, way, annotation) in calls() {
            // Paths that only matter for the setup aren't examined before the decision.
            for (path, command, is_prepared) in PATHS.into_iter().filter(|each| each.2 || annotation.is_some()) {
                for target in &files {
                    let case = Case { stage, way, annotation, path, command, target };
                    cases.push((case, is_prepared && annotation.is_some()));
                }
            }
        }
        crate::all(cases.iter().map(|(case, is_prepared)| (case.name(), case.check(realm, *is_prepared))))
    })
}

/// Tests each path that is listed with each directory.
pub fn no_directory_is_listed(realm: Realm) -> Check {
    isolated(|| {
        let (_, _connection) = files();
        let mut cases = Vec::new();
        for (stage, way, annotation) in calls() {
            for path in DIRECTORY_PATHS {
                for target in DIRECTORIES.map(Path::new).into_iter().filter(|directory| directory.is_dir()) {
                    cases.push(Case { stage, way, annotation, path, command: "/sbin/init", target });
                }
            }
        }
        crate::all(cases.iter().map(|case| (case.name(), case.check(realm, false))))
    })
}

fn calls() -> impl Iterator<Item = (Stage, Way, Option<&'static str>)> {
    STAGES.into_iter().flat_map(|stage| {
        WAYS.into_iter().flat_map(move |way| [None, Some("enabled")].map(|annotation| (stage, way, annotation)))
    })
}

/// Returns the directory on the host where the kernel's file systems are mounted. In the container
/// they are at /srv/kernel.
fn place() -> PathBuf {
    SCRATCH.get().unwrap().join("kernel")
}

/// Returns the kernel's files that exist, by their paths on the host, and the FUSE server that one of them belongs
/// to. No other trial may use these files, because the watch reports every process that opens one of them.
fn files() -> (Vec<PathBuf>, Option<Server>) {
    fs::create_dir_all(place()).unwrap();
    tmpfs(&place(), "mode=755");
    // All mounts of mqueue in one IPC namespace show the same queues.
    namespace::unshare(UnshareFlags::NEWIPC).unwrap();
    let volume = place().with_file_name("kernel-fuse");
    fs::create_dir_all(&volume).unwrap();
    let server = Server::mount(&volume);
    let mut files: Vec<PathBuf> = FILES.map(PathBuf::from).into();
    for kind in KINDS {
        let at = place().join(kind);
        fs::create_dir(&at).unwrap();
        // File systems that this kernel or user namespace lacks are left out.
        if mount(kind, &at, kind, MountFlags::empty(), None).is_ok() {
            match kind {
                "mqueue" => {
                    fs::write(at.join("queue"), "").unwrap();
                    files.push(at.join("queue"));
                }
                // The directory of a connection disappears with it. It is named after the device number of the mount.
                "fusectl" if server.is_some() => {
                    let device = rustix::fs::minor(fs::metadata(&volume).unwrap().dev());
                    files.push(at.join(device.to_string()).join("waiting"));
                }
                "fusectl" => {}
                _ => files.extend(regular_file_in(&at)),
            }
        }
    }
    let namespace = place().join("nsfs");
    fs::write(&namespace, "").unwrap();
    bind(Path::new("/proc/thread-self/ns/net"), &namespace);
    files.push(namespace);
    files.retain(|file| fs::symlink_metadata(file).is_ok_and(|file| file.is_file()));
    (files, server)
}

fn regular_file_in(top: &Path) -> Option<PathBuf> {
    let mut directories = vec![top.to_owned()];
    let mut found = None;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).ok()?.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_file() && entry.file_name() == TELLING => return Some(entry.path()),
                Ok(kind) if kind.is_file() => found = found.or(Some(entry.path())),
                Ok(kind) if kind.is_dir() && directories.len() < 4 && found.is_none() => directories.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

impl Case<'_> {
    fn name(&self) -> String {
        let Self { stage, way, annotation, path, target, .. } = self;
        format!("/{path} as {way:?} to {} at {stage:?}, annotation {annotation:?}", target.display())
    }

    fn check(&self, realm: Realm, is_prepared: bool) -> Check {
        with_bundle(realm, |bundle| {
            self.furnish(bundle);
            let watch = Opened::watch_one(self.target);
            let (finished, has_run) = self.call(bundle)?;
            // In a user namespace, files that its root can't read can't be watched either.
            if let Some(watch) = watch {
                watch.nothing()?;
            }
            finished.in_order()?;
            ensure!(!is_prepared || (finished.code == Some(0) && has_run), "it wasn't prepared: {finished:?}");
            Ok(())
        })
    }

    fn furnish(&self, bundle: &mut Bundle) {
        if let Some(word) = self.annotation {
            bundle.config["annotations"]["oci-systemd-hook"] = json!(word);
        }
        bundle.config["process"]["args"] = json!([self.command]);
        for directory in ["srv/kernel", "opt/systemd", "usr/lib/systemd/system"] {
            fs::create_dir_all(bundle.image(directory)).unwrap();
        }
        if self.path.starts_with("lib/") {
            fs::remove_file(bundle.image("usr/lib/systemd/systemd")).unwrap();
            fs::remove_file(bundle.image("sbin/init")).unwrap();
            fs::write(bundle.image("sbin/init"), ELF).unwrap();
        }
        let at = bundle.image(self.path);
        clear(&at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        match (self.way, self.target.is_dir()) {
            (Way::Link, _) => {
                let below = self.target.strip_prefix(place()).ok();
                let inside = below.map_or_else(|| self.target.to_owned(), |below| Path::new("/srv/kernel").join(below));
                symlink(inside, at).unwrap();
            }
            (Way::Mount, true) => fs::create_dir(at).unwrap(),
            (Way::Mount, false) => fs::write(at, "").unwrap(),
        }
    }

    fn call(&self, bundle: &mut Bundle) -> Result<(Finished, bool), String> {
        let is_prepared = |process: &str, bundle: &Bundle| {
            let run = bundle.root("run");
            table::of(process).iter().any(|mount| mount.at == run && mount.fs_type == "tmpfs")
        };
        if self.stage == Stage::CreateContainer {
            self.mount(bundle);
            let finished = bundle.create()?;
            return Ok((finished, is_prepared("thread-self", bundle)));
        }
        let container = Container::start_as(bundle, |bundle| self.mount(bundle))?;
        bundle.state["pid"] = json!(container.id());
        let finished = bundle.create_as(&How { cwd: Some(bundle.directory()), ..How::default() })?;
        Ok((finished, is_prepared(&container.id().to_string(), bundle)))
    }

    fn mount(&self, bundle: &mut Bundle) {
        bundle.start(Cgroup::Nowhere);
        rbind(Path::new("/sys"), &bundle.root("sys"));
        // This hides the cgroup mounts, which the hook would find.
        tmpfs(&bundle.root("sys/fs/cgroup"), "mode=755");
        rbind(&place(), &bundle.root("srv/kernel"));
        if self.way == Way::Mount {
            bind(self.target, &bundle.root(self.path));
        }
    }
}

/// A file that is mounted over the one with the container's memory limit is not read in its place.
pub fn no_memory_limit(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let Some(hierarchy) = table::read()
            .into_iter()
            .find(|mount| mount.fs_type == "cgroup" && mount.at.ends_with("memory") && mount.root == Path::new("/"))
        else {
            return Ok(());
        };
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = own.lines().find_map(|line| line.split_once(":memory:/")).map(|(_, path)| path).unwrap().to_owned();
        bundle.start(Cgroup::Nowhere);
        bind(&hierarchy.at, &bundle.root("sys/fs/cgroup"));
        let file = bundle.root("sys/fs/cgroup").join(path).join("memory.limit_in_bytes");
        let target = Path::new("/proc/sys/kernel/core_pattern");
        bind(target, &file);
        let watch = Opened::watch_one(target);
        let finished = bundle.create()?;
        watch.map_or(Ok(()), |watch| watch.nothing())?;
        finished.refused(&["memory.limit_in_bytes", "no longer part of a cgroup hierarchy"])
    })
}

/// A volume is read only if systemd's own path leads to it.
pub fn volumes(realm: Realm) -> Check {
    const VERSIONED: &[u8] = b"\x7fELF\0libsystemd-shared-257.so\0";
    for (at, link, is_read) in [
        ("usr", None, true),
        ("usr/lib", None, true),
        ("usr/lib/systemd", None, true),
        ("data", Some(("usr/lib/systemd/systemd", "/data/lib/systemd/systemd")), false),
        ("data", Some(("usr/lib/systemd", "/data/lib/systemd")), false),
        ("data", Some(("sbin/init", "/data/lib/systemd/systemd")), false),
    ] {
        with_bundle(realm, |bundle| {
            let volume = bundle.elsewhere("volume");
            fs::create_dir_all(volume.join("lib/systemd")).unwrap();
            let program = volume.join("lib/systemd/systemd");
            fs::write(&program, VERSIONED).unwrap();
            fs::create_dir_all(bundle.image(at)).unwrap();
            if let Some((path, target)) = link {
                clear(&bundle.image(path));
                symlink(target, bundle.image(path)).unwrap();
            }
            bundle.start(Cgroup::Nowhere);
            let source = volume.join(Path::new(at).strip_prefix("usr").unwrap_or(Path::new("")));
            bind(&source, &bundle.root(at));
            let watch = Opened::watch_one(&program).unwrap();
            let finished = bundle.create()?;
            if is_read {
                finished.silently()?;
                ensure!(watch.nothing().is_err(), "it was not read");
                ensure!(table::at(&bundle.root("run")).is_some(), "the container was skipped");
                return Ok(());
            }
            watch.nothing()?;
            finished.with_warning(&["can't be determined", "is on a different mount than the container's root"])
        })
        .map_err(|why| format!("a volume at /{at}, {link:?}: {why}"))?;
    }
    Ok(())
}
