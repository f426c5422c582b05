// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that the image's content below /run, /tmp and the journal is present and unchanged on the new tmpfs.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev, mknodat, utimensat};

use crate::Check;
use crate::bundle::{Bundle, Cgroup, SCRATCH, bind, with_bundle};
use crate::harness::tree::{self, Detail, Snapshot, same};
use crate::namespace::Realm;

const COPIED: [&str; 4] = ["run", "run/lock", "tmp", "var/log/journal"];
/// The names that the hook itself creates below /run, and the mount point of /run/lock's own tmpfs.
const OURS: [&str; 3] = ["host", "systemd", "lock"];

/// Tests all types of files with all their attributes.
pub fn everything(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        for top in COPIED {
            fill(bundle, top);
        }
        for top in COPIED {
            age(&bundle.image(top));
        }
        bundle.start(Cgroup::Mounted);
        let watch = bundle.watch();
        let expected: Vec<Snapshot> = COPIED.iter().map(|top| content(&bundle.image(top), top)).collect();
        bundle.create()?.silently()?;
        for (top, expected) in COPIED.iter().zip(expected) {
            same(top, &expected, &content(&bundle.root(top), top))?;
        }
        watch.image(bundle)?;
        watch.host(bundle)
    })
}

/// Files may be hard links to files of the host. The copy must be a different file, and the host's file must remain
/// unchanged, with all its names.
pub fn links_to_the_host(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let host = bundle.host("");
        for (name, mode) in [("program", 0o4755), ("sealed", 0o400), ("secret", 0o600)] {
            fs::write(host.join(name), name).unwrap();
            fs::set_permissions(host.join(name), Permissions::from_mode(mode)).unwrap();
        }
        node(&host.join("fifo"), FileType::Fifo, 0o600, 0);
        node(&host.join("socket"), FileType::Socket, 0o600, 0);
        symlink("/etc/passwd", host.join("link")).unwrap();
        let names: Vec<_> = fs::read_dir(&host).unwrap().map(|entry| entry.unwrap()).collect();
        let names = names.iter().filter(|entry| !entry.file_type().unwrap().is_dir()).map(fs::DirEntry::file_name);
        let names: Vec<_> = names.collect();
        for (top, name) in COPIED.iter().flat_map(|top| names.iter().map(move |name| (top, name))) {
            fs::hard_link(host.join(name), bundle.image(top).join(name)).unwrap();
        }
        // /etc/machine-id is a hard link to a file of the host, which must not be changed.
        fs::hard_link(host.join("secret"), bundle.image("etc/machine-id-too")).unwrap();
        fs::remove_file(bundle.image("etc/machine-id")).unwrap();
        fs::rename(bundle.image("etc/machine-id-too"), bundle.image("etc/machine-id")).unwrap();
        bundle.start(Cgroup::Mounted);
        let watch = bundle.watch();
        bundle.create()?.silently()?;
        watch.unchanged(bundle)?;
        let hosts = tree::read(&host, Detail::Copied);
        for (top, name) in COPIED.iter().flat_map(|top| names.iter().map(move |name| (top, name))) {
            let copy = bundle.root(top).join(name);
            let of_one = |line: &String| Snapshot::from([(PathBuf::from(name), line.clone())]);
            let copied = tree::read(&copy, Detail::Copied);
            same(top, &of_one(&hosts[Path::new(name)]), &of_one(&copied[Path::new("")]))?;
            let [copy, hosts] = [copy, host.join(name)]
                .map(|path| fs::symlink_metadata(path).map(|file| (file.dev(), file.ino())).unwrap());
            ensure!(copy != hosts, "/{top}/{} is the host's own file", name.to_string_lossy());
        }
        let is_nosuid = |top: &&str| crate::table::at(&bundle.root(top)).is_some_and(|mount| mount.has("nosuid"));
        ensure!(
            COPIED.iter().all(is_nosuid),
            "a program of the image's keeps its set-user-id in a mount without nosuid"
        );
        watch.image(bundle)
    })
}

/// Device nodes are not copied, under any of their names: a container with CAP_SYS_ADMIN in its own user namespace
/// could remount the tmpfs so that devices work, even if the root is mounted with nodev.
pub fn devices(realm: Realm) -> Check {
    if realm == Realm::User {
        return devices_in_a_user_namespace(realm);
    }
    with_bundle(realm, |bundle| {
        let nodes = [
            ("null", FileType::CharacterDevice, makedev(1, 3)),
            ("whiteout", FileType::CharacterDevice, 0),
            ("loop", FileType::BlockDevice, makedev(7, 0)),
        ];
        for top in COPIED {
            let image = bundle.image(top);
            fs::create_dir_all(image.join("deep")).unwrap();
            fs::write(image.join("deep/kept"), "kept").unwrap();
            for (name, kind, device) in nodes {
                node(&image.join(name), kind, 0o640, device);
                fs::hard_link(image.join(name), image.join("deep").join(name)).unwrap();
            }
        }
        bundle.start(Cgroup::Mounted);
        let watch = bundle.watch();
        bundle.create()?.silently()?;
        for top in COPIED {
            let copy = bundle.root(top);
            ensure!(copy.join("deep/kept").exists(), "/{top} has no copy");
            for path in nodes.iter().flat_map(|(name, ..)| [copy.join(name), copy.join("deep").join(name)]) {
                ensure!(fs::symlink_metadata(&path).is_err(), "{path:?} was copied");
            }
        }
        watch.image(bundle)
    })
}

fn devices_in_a_user_namespace(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let devices = SCRATCH.get().unwrap().join("devices");
        if realm == Realm::Initial || !devices.exists() {
            return Ok(());
        }
        // The root is on a file system of the host, where these nodes were created before.
        bind(&devices, &bundle.image("srv/inside"));
        let image = bundle.image("srv/inside");
        for directory in ["dev", "etc", "proc", "sys/fs/cgroup", "tmp", "usr/lib/systemd", "sbin"] {
            fs::create_dir_all(image.join(directory)).unwrap();
        }
        fs::write(image.join("etc/machine-id"), "").unwrap();
        fs::write(image.join("dev/null"), "").unwrap();
        fs::write(image.join("run/kept"), "kept").unwrap();
        fs::copy(bundle.image("usr/lib/systemd/systemd"), image.join("sbin/init")).unwrap();
        bundle.config["annotations"] = serde_json::json!({"oci-systemd-hook": "enabled"});
        bundle.start_from(&image, Cgroup::Mounted);
        bundle.create()?.silently()?;
        ensure!(
            bundle.root("run/kept").exists() && !bundle.root("run/null").exists(),
            "a file was not copied, or a device was"
        );
        Ok(())
    })
}

fn content(top: &Path, name: &str) -> Snapshot {
    tree::read(top, Detail::Copied)
        .into_iter()
        .filter(|(path, _)| !path.as_os_str().is_empty())
        .filter(|(path, _)| name != "run" || !OURS.iter().any(|ours| path.starts_with(ours)))
        .collect()
}

fn fill(bundle: &Bundle, top: &str) {
    let at = |name: &str| bundle.image(top).join(name);
    for (name, mode) in [
        ("plain", 0o640),
        ("setuid", 0o4755),
        ("setgid-file", 0o2711),
        ("sealed", 0),
        ("with\nnewline", 0o644),
        ("-rf *", 0o644),
        ("owned", 0o4750),
    ] {
        fs::write(at(name), format!("{top}/{name}")).unwrap();
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    let raw = |bytes: &[u8]| bundle.image(top).join(OsStr::from_bytes(bytes));
    fs::write(raw(b"not-\xff\xfe-utf8"), "x").unwrap();
    fs::create_dir(raw(&[b'n'; 255])).unwrap();
    for (name, mode) in [("sticky", 0o1777), ("setgid", 0o2770), ("shut", 0), ("empty", 0o700)] {
        fs::create_dir(at(name)).unwrap();
        if name != "empty" {
            fs::write(at(name).join("inside"), name).unwrap();
        }
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    let deep: PathBuf = std::iter::repeat_n("d", 60).collect();
    fs::create_dir_all(at("deep").join(&deep)).unwrap();
    fs::write(at("deep").join(deep).join("bottom"), "bottom").unwrap();

    links(bundle, top);
    node(&at("fifo"), FileType::Fifo, 0o620, 0);
    node(&at("socket"), FileType::Socket, 0o700, 0);
    fs::hard_link(at("fifo"), at("deep/fifo")).unwrap();

    // The size is larger than a page and than one copy call, and a multiple of neither.
    let large: Vec<u8> = (0..1_500_017_u32).map(|number| (number % 251) as u8).collect();
    fs::write(at("large"), large).unwrap();
    let sparse = fs::File::create(at("sparse")).unwrap();
    sparse.set_len(1_200_000).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", 1_199_997).unwrap();

    for name in ["owned", "setgid", "absolute", "fifo", "socket"] {
        // An unprivileged caller has only one ID in its user namespace.
        if lchown(at(name), Some(1000), Some(1001)).is_ok() && name == "owned" {
            fs::set_permissions(at(name), Permissions::from_mode(0o4750)).unwrap();
        }
    }
    attributes(&bundle.image(top), bundle.realm);
}

fn links(bundle: &Bundle, top: &str) {
    let at = |name: &str| bundle.image(top).join(name);
    let out = Path::new("../../../../../../../../..").join(bundle.host("full").strip_prefix("/").unwrap());
    for (name, target) in [
        ("absolute", Path::new("/etc/passwd")),
        ("relative", Path::new("deep/d")),
        ("dangling", Path::new("nowhere/at all")),
        ("out", &bundle.host("file")),
        ("out-relative", &out),
        ("magic", Path::new("/proc/self/root/etc")),
    ] {
        symlink(target, at(name)).unwrap();
    }
    fs::hard_link(at("plain"), at("deep/plain-too")).unwrap();
    fs::hard_link(at("plain"), at("sticky/plain-three")).unwrap();
    fs::hard_link(at("dangling"), at("deep/dangling-too")).unwrap();
    fs::write(at("elsewhere-too"), "x").unwrap();
    fs::hard_link(at("elsewhere-too"), bundle.image("srv").join(top.replace('/', "-"))).unwrap();
}

/// Sets the extended attributes that the kernel allows this process to set.
fn attributes(top: &Path, realm: Realm) {
    // An ACL of version 2 with entries besides the mode's, for a user and the mask; see acl(5).
    let acl = |user: u32| {
        let entries = [(1_u16, 6_u16, u32::MAX), (2, 4, user), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    };
    // The capability cap_net_raw=ep, in revision 2.
    let capability: Vec<u8> = [0x0200_0001_u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    for (name, key, value) in [
        ("large", "user.note", b"a note".to_vec()),
        ("empty", "user.note", Vec::new()),
        ("large", "security.capability", capability),
        ("large", "trusted.note", b"trusted".to_vec()),
        ("large", "system.posix_acl_access", acl(0)),
        ("empty", "system.posix_acl_default", acl(0)),
        ("sticky", "system.posix_acl_default", acl(0)),
    ] {
        if realm == Realm::User && key.starts_with("trusted.") {
            continue;
        }
        if let Err(error) = rustix::fs::lsetxattr(top.join(name), key, &value, XattrFlags::empty()) {
            eprintln!("skipped: {key} can't be set here: {error}");
        }
    }
}

/// Sets times on everything below `top` that a copy wouldn't have by chance.
fn age(top: &Path) {
    for (path, nanoseconds) in tree::read(top, Detail::Copied).into_keys().rev().zip(123_456_789..) {
        let seconds = match path.to_str() {
            Some("plain") => -315_619_200,
            Some("large") => 4_102_444_800,
            _ => 1_000_000_000 + nanoseconds % 1000,
        };
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, top.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

pub fn node(at: &Path, kind: FileType, mode: u32, device: u64) {
    mknodat(CWD, at, kind, Mode::from_raw_mode(mode), device).unwrap();
    fs::set_permissions(at, Permissions::from_mode(mode)).unwrap();
}
