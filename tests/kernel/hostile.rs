// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows that nothing outside the root changes, whatever an image has at the paths that the hook touches.

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

/// How many cases were tried.
pub static TRIED: AtomicU64 = AtomicU64::new(0);

/// The paths that the hook looks at, and those above them.
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

/// What a link that tries to lead out is aimed at: the host's, of each kind.
const TARGETS: [&str; 4] = ["full", "empty", "file", "nothing"];

#[derive(Debug, Clone, Copy)]
enum Way {
    Absolute,
    /// More `..` than there are directories.
    Relative,
    ProcSelfRoot,
    ProcThreadSelfRoot,
    ProcOneRoot,
    /// The hook's working directory is on the host, as it is a bundle with crun.
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
    /// A link that tries to lead out.
    Out(Way, &'static str),
    /// A link to this very path.
    Link(&'static str),
    /// A link with a peculiar target.
    Peculiar(Target),
    /// So many links, one to the next, the last one to a directory.
    Chain(u32),
    File,
    Directory(u32),
    /// A directory with so many in it, one below the other.
    Deep(usize),
    Mount(Source),
    Fifo,
    Socket,
    /// Only the initial user namespace's root makes these.
    Device(u32, u32),
}

#[derive(Debug, Clone, Copy)]
enum Target {
    /// A name as long as they get, of nothing.
    LongName,
    /// As many components as there is room for, none of which is there.
    Components,
    /// The same, and the first is a link of this kind, and so on.
    ComponentsOfLinks,
    NotText,
    /// What moves a terminal's cursor, and ends a line.
    Controls,
    /// There, and with names of all these kinds in it.
    Strange,
}

/// What the user mounts there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Tmpfs,
    /// A volume: a directory of the host's, with all that the hook looks for.
    Directory,
    File,
}

/// The longest target of a link, `PATH_MAX` with its final NUL.
const TARGET_MAX_BYTES: usize = 4095;
/// The longest name, `NAME_MAX`.
const NAME_MAX_BYTES: usize = 255;

/// Links that need no way out.
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

/// How many cases there are for one path.
pub fn count(realm: Realm) -> usize {
    possible(realm).len()
}

/// One path as each thing.
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
        // What was made in the image is taken back at the end, and there was nothing else.
        bundle.end();
        bundle.poststop()?.silently()?;
        watch.restored(bundle)?;
        ensure!(!bundle.records().exists(), "a record is left");
        return Ok(());
    }
    watch.everything(bundle)
}

/// A mount of the user's own.
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

    /// It is where it was, and what it shows was not written to; but a tmpfs goes with its container, and on the user's
    /// own the hook makes what is missing.
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

/// Puts a thing at a path of the image. Returns the hook's working directory, where it matters.
fn put(bundle: &Bundle, path: &str, thing: Thing) -> Option<PathBuf> {
    let at = bundle.image(path);
    clear(&at);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    let mut cwd = None;
    match thing {
        Thing::Out(way, target) => {
            // The first process's root is another mount namespace's.
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

/// Makes what a link is to lead to, as far as that is there.
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

/// A program on the host is not the image's systemd, and what is no program is not read.
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
        // A directory on the host in which the command's name is.
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

/// The directory of a program.
fn above(thing: Thing) -> Thing {
    match thing {
        Thing::Out(way, _) => Thing::Out(way, "systemd"),
        other => other,
    }
}

/// What `..` behind a name leads to depends on what that name is: where it dangles, nothing is made anywhere.
pub fn up_behind_a_name(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        clear(&bundle.image("run"));
        fs::create_dir(bundle.image("srv/inside/deep")).unwrap();
        symlink("/srv/inside/deep", bundle.image("a")).unwrap();
        symlink("/a/../run2", bundle.image("run")).unwrap();
        bundle.start(Cgroup::Mounted);
        let watch = bundle.watch();
        // To the kernel it is /srv/inside/run2, and as a text it would be /run2.
        bundle.create()?.refused(&["/run", "`..` behind a name"])?;
        watch.everything(bundle)
    })
}

/// The counterpart: links that stay inside do lead to systemd, also absolute ones and those that climb too high.
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
            ensure!(crate::table::at(&bundle.root("run")).is_some(), "it was not recognised");
            Ok(())
        })
        .map_err(|message| format!("{target}: {message}"))?;
    }
    Ok(())
}
