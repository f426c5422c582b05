// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that nothing outside the root changes, whatever an image has at the paths that the hook uses.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FileType, makedev};

use crate::Check;
use crate::bundle::{Bundle, Cgroup, ELF, bind, tmpfs, with_bundle};
use crate::copy_up::node;
use crate::harness::tree::{self, Detail, same};
use crate::hook::How;
use crate::namespace::Realm;
use crate::table;

/// The number of cases that were tried.
pub static TRIED: AtomicU64 = AtomicU64::new(0);

/// The paths that the hook examines, and the directories above them.
pub const PATHS: [&str; 22] = [
    "run",
    "run/lock",
    "run/host",
    "run/host/container-manager",
    "run/host/container-uuid",
    "run/host/os-release",
    "run/host/inaccessible",
    "run/host/inaccessible/reg",
    "run/systemd",
    "run/systemd/system",
    "run/systemd/system/console-getty.service",
    "tmp",
    "var",
    "var/log",
    "var/log/journal",
    "var/lib",
    "var/lib/dbus/machine-id",
    "etc",
    "etc/machine-id",
    "sys",
    "sys/fs",
    "sys/fs/cgroup",
];

/// The targets on the host of symlinks that try to lead out of the root, one of each kind.
const TARGETS: [&str; 4] = ["full", "empty", "file", "nothing"];

#[derive(Debug, Clone, Copy)]
enum Way {
    Absolute,
    /// More `..` than there are directories above.
    Relative,
    ProcSelfRoot,
    ProcThreadSelfRoot,
    ProcOneRoot,
    /// Relative to the hook's working directory, which is on the host: with crun it is the bundle.
    ProcCwd,
    ProcSelfTaskCwd,
}

const WAYS: [Way; 7] = [
    Way::Absolute,
    Way::Relative,
    Way::ProcSelfRoot,
    Way::ProcThreadSelfRoot,
    Way::ProcOneRoot,
    Way::ProcCwd,
    Way::ProcSelfTaskCwd,
];

#[derive(Debug, Clone, Copy)]
enum Thing {
    /// A symlink that tries to lead out of the root.
    Out(Way, &'static str),
    /// A symlink with exactly this target.
    Link(&'static str),
    /// A symlink with a peculiar target.
    Peculiar(Target),
    /// A chain of this many symlinks, the last of which leads to a directory.
    Chain(u32),
    File,
    Directory(u32),
    /// A directory with this many nested directories.
    Deep(usize),
    Mount(Source),
    Fifo,
    Socket,
    /// A device node, which only the initial user namespace's root can create.
    Device(u32, u32),
}

#[derive(Debug, Clone, Copy)]
enum Target {
    /// A nonexistent name of the maximum length.
    LongName,
    /// As many components as fit into the path, none of which exists.
    Components,
    /// As many components as fit, the first of which is such a symlink itself, and so on.
    ComponentsOfLinks,
    NotText,
    /// A name with sequences that move a terminal's cursor, and with a newline.
    Controls,
    /// An existing directory that contains names of all these kinds.
    Strange,
}

/// What the user mounts at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Tmpfs,
    /// A volume: a directory of the host with everything that the hook looks for.
    Directory,
    File,
}

/// The maximum length of a symlink's target, `PATH_MAX` without its final NUL.
const TARGET_MAX_BYTES: usize = 4095;
/// The maximum length of a name, `NAME_MAX`.
const NAME_MAX_BYTES: usize = 255;

/// The targets of symlinks that don't try to lead out of the root.
const LINKS: [&str; 21] = [
    "/nowhere",
    "/nowhere/at/all",
    "nowhere",
    "/",
    ".",
    "..",
    "../..",
    "/etc",
    "/srv/inside",
    "/srv/nothing",
    "/srv/inside/kept",
    "/srv/inside/kept/below",
    "/srv/fifo/below",
    "/proc/self/fd/0",
    "/proc/self/exe",
    "/proc/self/ns/mnt",
    "/proc/self",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/run/run",
    "/sys/fs/cgroup",
];

fn things() -> Vec<Thing> {
    let out = WAYS.into_iter().flat_map(|way| TARGETS.into_iter().map(move |target| Thing::Out(way, target)));
    let others = [
        Thing::Link("loop"),
        Thing::Peculiar(Target::LongName),
        Thing::Peculiar(Target::Components),
        Thing::Peculiar(Target::ComponentsOfLinks),
        Thing::Peculiar(Target::NotText),
        Thing::Peculiar(Target::Controls),
        Thing::Peculiar(Target::Strange),
        Thing::Chain(39),
        Thing::Chain(40),
        Thing::Chain(41),
        Thing::File,
        Thing::Directory(0),
        Thing::Directory(0o1000),
        Thing::Directory(0o2711),
        Thing::Directory(0o7777),
        Thing::Deep(300),
        Thing::Mount(Source::Tmpfs),
        Thing::Mount(Source::Directory),
        Thing::Mount(Source::File),
        Thing::Fifo,
        Thing::Socket,
        Thing::Device(1, 3),
        Thing::Device(0, 0),
    ];
    out.chain(LINKS.into_iter().map(Thing::Link)).chain(others).collect()
}

fn possible(realm: Realm) -> Vec<Thing> {
    things().into_iter().filter(|thing| realm == Realm::Initial || !matches!(thing, Thing::Device(..))).collect()
}

/// Returns the number of cases for one path.
pub fn count(realm: Realm) -> usize {
    possible(realm).len()
}

/// Tests one path with each thing in its place.
pub fn path(realm: Realm, path: &'static str) -> Check {
    crate::all(possible(realm).into_iter().map(|thing| {
        TRIED.fetch_add(1, Ordering::Relaxed);
        let result = with_bundle(realm, |bundle| check(bundle, path, thing));
        (format!("/{path} as {thing:?}"), result)
    }))
}

fn check(bundle: &mut Bundle, path: &str, thing: Thing) -> Check {
    let cwd = put(bundle, path, thing);
    let cgroup = if path.starts_with("sys") { Cgroup::Nowhere } else { Cgroup::Mounted };
    bundle.start(cgroup);
    let mounted = match thing {
        Thing::Mount(source) => Some(Mounted::put(bundle, path, source)),
        _ => None,
    };
    let watch = bundle.watch();
    let finished = bundle.create_as(&How { cwd, ..How::default() })?;
    finished.in_order()?;
    watch.host(bundle)?;
    if let Some(mounted) = &mounted {
        mounted.unchanged(bundle)?;
    }
    if finished.code == Some(0) {
        // Files that were created in the image are removed at the end, and nothing else was changed.
        bundle.end();
        bundle.poststop()?.silently()?;
        watch.restored(bundle)?;
        ensure!(!bundle.records().exists(), "a record is left");
        return Ok(());
    }
    watch.everything(bundle)
}

/// A mount that the user has configured.
struct Mounted {
    path: String,
    source: Source,
    id: String,
    content: tree::Snapshot,
}

impl Mounted {
    fn put(bundle: &Bundle, path: &str, source: Source) -> Self {
        let at = bundle.root(path);
        match source {
            Source::Tmpfs => tmpfs(&at, "mode=750"),
            Source::Directory => {
                let volume = bundle.elsewhere("volume");
                crate::bundle::furnish_host(&volume);
                bind(&volume.join("full"), &at);
            }
            Source::File => {
                let file = bundle.elsewhere("volume").join("file");
                fs::write(&file, "the user's\n").unwrap();
                bind(&file, &at);
            }
        }
        let id = table::at(&at).unwrap().id;
        Self { path: path.to_owned(), source, id, content: tree::read(&at, Detail::Untouched) }
    }

    /// Checks that the mount is still there and that its content was not written to. The content of a tmpfs isn't
    /// checked: it ends with its container, and the hook creates missing files on it.
    fn unchanged(&self, bundle: &Bundle) -> Check {
        let at = bundle.root(&self.path);
        let found = table::at(&at).map(|mount| mount.id);
        ensure!(found.as_ref() == Some(&self.id), "the user's mount was {}, is {found:?}", self.id);
        if self.source == Source::Tmpfs {
            return Ok(());
        }
        same("the user's mount", &self.content, &tree::read(&at, Detail::Untouched))
    }
}

/// Creates a thing at a path of the image. Returns the hook's working directory if it matters.
fn put(bundle: &Bundle, path: &str, thing: Thing) -> Option<PathBuf> {
    let at = bundle.image(path);
    clear(&at);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    let mut cwd = None;
    match thing {
        Thing::Out(way, target) => {
            // The first process's root is in another mount namespace.
            let host = if matches!(way, Way::ProcOneRoot) { bundle.sentinel().to_owned() } else { bundle.host("") };
            let target = host.join(target);
            symlink(lead(way, &target), at).unwrap();
            if matches!(way, Way::ProcCwd | Way::ProcSelfTaskCwd) {
                cwd = target.parent().map(Path::to_owned);
            }
        }
        Thing::Link("loop") => {
            symlink("loop-2", &at).unwrap();
            symlink(at.file_name().unwrap(), at.with_file_name("loop-2")).unwrap();
        }
        Thing::Link(target) => {
            if target.starts_with("/srv/fifo") {
                node(&bundle.image("srv/fifo"), FileType::Fifo, 0o666, 0);
            }
            symlink(target, at).unwrap();
        }
        Thing::Peculiar(target) => symlink(peculiar(bundle, target), at).unwrap(),
        Thing::Chain(links) => {
            symlink("/srv/link-1", at).unwrap();
            for number in 1..links {
                let next = if number + 1 == links { "nothing".to_owned() } else { format!("link-{}", number + 1) };
                symlink(next, bundle.image(&format!("srv/link-{number}"))).unwrap();
            }
        }
        Thing::File | Thing::Mount(Source::File) => fs::write(at, "a file").unwrap(),
        Thing::Deep(levels) => {
            let deep: PathBuf = std::iter::repeat_n("d", levels).collect();
            fs::create_dir_all(at.join(&deep)).unwrap();
            fs::write(at.join(deep).join("bottom"), "bottom").unwrap();
        }
        Thing::Mount(Source::Tmpfs | Source::Directory) => fs::create_dir(&at).unwrap(),
        Thing::Directory(mode) => {
            fs::create_dir(&at).unwrap();
            fs::set_permissions(at, Permissions::from_mode(mode)).unwrap();
        }
        Thing::Fifo => node(&at, FileType::Fifo, 0o666, 0),
        Thing::Socket => node(&at, FileType::Socket, 0o666, 0),
        Thing::Device(major, minor) => node(&at, FileType::CharacterDevice, 0o666, makedev(major, minor)),
    }
    cwd
}

/// Creates the target of a symlink, if it is one that exists, and returns its path.
fn peculiar(bundle: &Bundle, target: Target) -> PathBuf {
    let components = |first: &str| {
        let mut target = first.to_owned();
        while target.len() + 2 <= TARGET_MAX_BYTES {
            target.push_str("/d");
        }
        PathBuf::from(target)
    };
    match target {
        Target::LongName => Path::new("/srv").join("n".repeat(NAME_MAX_BYTES)),
        Target::Components => components("/d"),
        Target::ComponentsOfLinks => {
            for number in 1..39 {
                let at = bundle.image(&format!("srv/link-{number}"));
                symlink(components(&format!("/srv/link-{}", number + 1)), at).unwrap();
            }
            components("/srv/link-1")
        }
        Target::NotText => PathBuf::from(OsStr::from_bytes(b"/srv/not-\xff\x9b\xfe")),
        Target::Controls => PathBuf::from("/srv/\x1b[2J\x1b]0;title\x07\r\n\u{9b}31m\u{7f}"),
        Target::Strange => {
            let strange = bundle.image("srv/inside/\x1b[31m\n");
            fs::create_dir(&strange).unwrap();
            for name in [&b"\x1b]0;title\x07"[..], b"\n\n", b"not-\xff\x9b", &[b'n'; NAME_MAX_BYTES], b" ", b"-rf"] {
                fs::write(strange.join(OsStr::from_bytes(name)), "x").unwrap();
            }
            PathBuf::from("/srv/inside/\x1b[31m\n")
        }
    }
}

fn lead(way: Way, target: &Path) -> PathBuf {
    let relative = target.strip_prefix("/").unwrap();
    let name = target.file_name().unwrap();
    match way {
        Way::Absolute => target.to_owned(),
        Way::Relative => Path::new("../../../../../../../../../../../../../../../..").join(relative),
        Way::ProcSelfRoot => Path::new("/proc/self/root").join(relative),
        Way::ProcThreadSelfRoot => Path::new("/proc/thread-self/root").join(relative),
        Way::ProcOneRoot => Path::new("/proc/1/root").join(relative),
        Way::ProcCwd => Path::new("/proc/self/cwd").join(name),
        Way::ProcSelfTaskCwd => Path::new("../proc/self/task/../cwd").join(name),
    }
}

pub fn clear(at: &Path) {
    match fs::symlink_metadata(at) {
        Ok(file) if file.is_dir() => fs::remove_dir_all(at).unwrap(),
        Ok(_) => fs::remove_file(at).unwrap(),
        Err(_) => {}
    }
}

/// The hook must not take a program on the host for the image's systemd, nor read what isn't a program.
pub fn init(realm: Realm) -> Check {
    let outside = WAYS.into_iter().map(|way| Thing::Out(way, "systemd/systemd"));
    let others = [Thing::Fifo, Thing::Socket, Thing::File, Thing::Directory(0o755), Thing::Link("loop")];
    let all = outside.chain(others).chain(LINKS.into_iter().map(Thing::Link));
    crate::all(all.flat_map(|thing| {
        ["sbin/init", "sbin", "usr/lib/systemd/systemd", "usr/lib/systemd"].into_iter().map(move |path| {
            let result = with_bundle(realm, |bundle| check_init(bundle, path, thing));
            (format!("/{path} as {thing:?}"), result)
        })
    }))
}

fn check_init(bundle: &mut Bundle, path: &str, thing: Thing) -> Check {
    let is_directory = matches!((path, thing), ("usr/lib/systemd" | "sbin", Thing::Out(..)));
    let cwd = put(bundle, path, if is_directory { above(thing) } else { thing });
    if path == "sbin" && is_directory {
        // The target is a directory on the host that contains the command's name.
        bundle.config["process"]["args"] = serde_json::json!(["/sbin/systemd"]);
    }
    fs::write(bundle.image("srv/inside/systemd"), b"#!/bin/sh\n").unwrap();
    bundle.start(Cgroup::Mounted);
    let watch = bundle.watch();
    let finished = bundle.create_as(&How { cwd, ..How::default() })?;
    finished.in_order()?;
    ensure!(finished.code == Some(0), "{finished:?}");
    watch.everything(bundle)?;
    watch.image(bundle)
}

/// Replaces a target that is a program by its directory.
fn above(thing: Thing) -> Thing {
    match thing {
        Thing::Out(way, _) => Thing::Out(way, "systemd"),
        other => other,
    }
}

/// The result of `..` after a name depends on what the name is. If the resulting path doesn't exist,
/// nothing is created anywhere.
pub fn up_behind_a_name(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        clear(&bundle.image("run"));
        fs::create_dir(bundle.image("srv/inside/deep")).unwrap();
        symlink("/srv/inside/deep", bundle.image("a")).unwrap();
        symlink("/a/../run2", bundle.image("run")).unwrap();
        bundle.start(Cgroup::Mounted);
        let watch = bundle.watch();
        // The kernel resolves it to /srv/inside/run2, but as a string it would be /run2.
        bundle.create()?.refused(&["/run", "`..` after a component"])?;
        watch.everything(bundle)
    })
}

/// This is the counterpart of [`init`]: symlinks that stay in the root do lead to systemd, including absolute ones
/// and those with too many `..`.
pub fn init_inside(realm: Realm) -> Check {
    for target in ["/usr/lib/systemd/systemd", "../../../../usr/lib/systemd/systemd", "/opt/link"] {
        with_bundle(realm, |bundle| {
            clear(&bundle.image("sbin/init"));
            symlink(target, bundle.image("sbin/init")).unwrap();
            fs::create_dir(bundle.image("opt")).unwrap();
            symlink("../usr/./lib/../lib/systemd/systemd", bundle.image("opt/link")).unwrap();
            fs::write(bundle.image("usr/lib/systemd/systemd"), ELF).unwrap();
            bundle.start(Cgroup::Mounted);
            bundle.create()?.silently()?;
            ensure!(crate::table::at(&bundle.root("run")).is_some(), "systemd was not recognized");
            Ok(())
        })
        .map_err(|message| format!("{target}: {message}"))?;
    }
    Ok(())
}
