// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests what an ordinary systemd container has after the hook.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, ID, with_bundle};
use crate::namespace::Realm;
use crate::table;

const MIB: u64 = 1024 * 1024;

struct Tmpfs {
    path: &'static str,
    mode: u32,
    percent: u64,
    least: u64,
    most: u64,
    inodes: Option<u64>,
}

/// The tmpfs with their documented sizes and modes.
const TMPFS: [Tmpfs; 4] = [
    Tmpfs { path: "run", mode: 0o755, percent: 20, least: 64 * MIB, most: u64::MAX, inodes: Some(800 * 1024) },
    Tmpfs { path: "run/lock", mode: 0o755, percent: 0, least: 5 * MIB, most: 5 * MIB, inodes: None },
    Tmpfs { path: "tmp", mode: 0o1777, percent: 50, least: 0, most: u64::MAX, inodes: Some(1024 * 1024) },
    Tmpfs { path: "var/log/journal", mode: 0o755, percent: 10, least: 16 * MIB, most: u64::MAX, inodes: None },
];

/// Tests a container with default settings as a whole.
pub fn whole(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        bundle.start(Cgroup::Mounted);
        let watch = bundle.watch();
        bundle.create()?.silently()?;
        for tmpfs in &TMPFS {
            check_tmpfs(bundle, tmpfs)?;
        }
        check_machine_id(bundle)?;
        check_run_host(bundle, realm, "oci\n")?;
        check_mask(bundle, "console-getty.service", true)?;
        check_mask(bundle, "systemd-machine-id-commit.service", true)?;
        check_cgroup(bundle)?;
        let mut expected = vec!["/", "/dev/null", "/etc/machine-id", "/run", "/run/lock", "/tmp", "/var/log/journal"];
        let mounts = table::below(&bundle.root(""));
        let mounts: Vec<&str> = mounts
            .iter()
            .map(String::as_str)
            .filter(|at| !at.starts_with("/proc") && !at.starts_with("/sys/fs/cgroup"))
            .collect();
        expected.sort_unstable();
        ensure!(mounts == expected, "the mounts are {mounts:?}");
        watch.image(bundle)?;
        watch.host(bundle)?;
        ensure!(!bundle.records().exists(), "there is a record, although nothing was created outside the container");
        bundle.end();
        watch.image(bundle)
    })
}

/// Tests what config.json can change.
pub fn choices(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        bundle.config["process"]["terminal"] = json!(true);
        bundle.config["process"]["env"] =
            json!(["container=podman", "container_uuid=00112233-4455-6677-8899-AABBCCDDEEFF"]);
        fs::remove_dir(bundle.image("var/log/journal")).unwrap();
        bundle.start(Cgroup::Mounted);
        let watch = bundle.watch();
        bundle.create()?.silently()?;
        check_mask(bundle, "console-getty.service", false)?;
        let manager = fs::read_to_string(bundle.root("run/host/container-manager")).unwrap();
        ensure!(manager == "podman\n", "container-manager is {manager:?}");
        let id = fs::read_to_string(bundle.root("etc/machine-id")).unwrap();
        ensure!(id == "00112233445566778899aabbccddeeff\n", "the machine id is {id:?}");
        ensure!(!bundle.root("var/log/journal").exists(), "a journal directory was created");
        watch.image(bundle)?;
        watch.host(bundle)
    })
}

/// If the whole root is read-only, nothing has to be written to it.
pub fn read_only_root(realm: Realm) -> Check {
    use rustix::mount::{MountFlags, mount_remount};
    with_bundle(realm, |bundle| {
        bundle.start(Cgroup::Mounted);
        mount_remount(bundle.root(""), MountFlags::BIND | MountFlags::RDONLY | MountFlags::RELATIME, "").unwrap();
        let watch = bundle.watch();
        bundle.create()?.silently()?;
        check_machine_id(bundle)?;
        check_run_host(bundle, realm, "oci\n")?;
        watch.image(bundle)?;
        watch.host(bundle)
    })
}

fn check_tmpfs(bundle: &Bundle, wanted: &Tmpfs) -> Check {
    let at = bundle.root(wanted.path);
    let path = wanted.path;
    let mount = table::at(&at).ok_or_else(|| format!("nothing is mounted on {path}"))?;
    ensure!(mount.fs_type == "tmpfs", "{path}: {mount:?}");
    ensure!(mount.has("rw") && mount.has("nosuid") && mount.has("nodev"), "{path}: {mount:?}");
    ensure!(!mount.has("noexec"), "{path}: {mount:?}");
    ensure!((mount.propagation.contains("shared:")) == (path == "run"), "{path}: {mount:?}");
    let mode = fs::metadata(&at).unwrap().mode() & 0o7777;
    ensure!(mode == wanted.mode, "{path} has mode {mode:o}");
    let stat = rustix::fs::statvfs(&at).unwrap();
    let page = stat.f_frsize;
    let size = stat.f_blocks * page;
    let expected = (memory_bytes(bundle) * wanted.percent / 100 / MIB * MIB).clamp(wanted.least, wanted.most);
    ensure!(size.abs_diff(expected) < page, "{path} is {size} bytes large, expected {expected}");
    if let Some(inodes) = wanted.inodes {
        ensure!(stat.f_files == inodes, "{path} has {} inodes", stat.f_files);
    }
    Ok(())
}

/// Returns the cgroup's limit if it has one, and otherwise the host's memory.
fn memory_bytes(bundle: &Bundle) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let total = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let limit = own.lines().find_map(|line| line.strip_prefix("0::/")).and_then(|path| {
        fs::read_to_string(bundle.root("sys/fs/cgroup").join(path).join("memory.max")).ok()?.trim().parse().ok()
    });
    limit.map_or(total, |limit: u64| limit.min(total))
}

fn check_machine_id(bundle: &Bundle) -> Check {
    for path in ["etc/machine-id", "proc/self/root"] {
        ensure!(bundle.root(path).exists(), "{path} is gone");
    }
    let at = bundle.root("etc/machine-id");
    let text = fs::read_to_string(&at).unwrap();
    ensure!(text == format!("{}\n", &ID[..32]), "the machine id is {text:?}");
    let mode = fs::metadata(&at).unwrap().mode();
    ensure!(mode == 0o100_444, "/etc/machine-id has mode {mode:o}");
    let mount = table::at(&at).ok_or("/etc/machine-id is not a mount point")?;
    ensure!(mount.has("ro") && mount.has("nosuid") && mount.has("nodev"), "{mount:?}");
    Ok(())
}

type IsKind = fn(&fs::FileType) -> bool;

fn check_run_host(bundle: &Bundle, realm: Realm, manager: &str) -> Check {
    let at = |name: &str| bundle.root("run/host").join(name);
    let read = |name: &str| fs::read_to_string(at(name)).unwrap_or_default();
    ensure!(read("container-manager") == manager, "container-manager is {:?}", read("container-manager"));
    let uuid = read("container-uuid");
    ensure!(uuid.replace('-', "") == format!("{}\n", &ID[..32]) && uuid.len() == 37, "container-uuid is {uuid:?}");
    let os_release = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| fs::read_to_string(path).ok());
    ensure!(read("os-release") == os_release.unwrap_or_default(), "os-release is {:?}", read("os-release"));
    for name in ["container-manager", "container-uuid", "os-release"] {
        let mode = fs::metadata(at(name)).map_or(0o100_444, |file| file.mode());
        ensure!(mode == 0o100_444, "{name} has mode {mode:o}");
    }
    let devices = realm == Realm::Initial;
    let nodes: [(&str, IsKind, bool); 6] = [
        ("reg", fs::FileType::is_file, true),
        ("dir", fs::FileType::is_dir, true),
        ("fifo", FileTypeExt::is_fifo, true),
        ("sock", FileTypeExt::is_socket, true),
        ("chr", FileTypeExt::is_char_device, devices),
        ("blk", FileTypeExt::is_block_device, devices),
    ];
    for (name, is_kind, expected) in nodes {
        match fs::symlink_metadata(at("inaccessible").join(name)) {
            Ok(file) => {
                let mode = file.mode() & 0o7777;
                ensure!(expected && is_kind(&file.file_type()) && mode == 0, "{name}: {file:?}");
            }
            Err(error) => ensure!(!expected, "{name}: {error}"),
        }
    }
    Ok(())
}

fn check_mask(bundle: &Bundle, unit: &str, expected: bool) -> Check {
    let target = fs::read_link(bundle.root("run/systemd/system").join(unit)).ok();
    let wanted = expected.then_some(Path::new("/dev/null"));
    ensure!(target.as_deref() == wanted, "{unit} leads to {target:?}");
    Ok(())
}

/// Checks that the container's own cgroup is writable, and that what is above it isn't.
fn check_cgroup(bundle: &Bundle) -> Check {
    let mounts: Vec<_> = table::read().into_iter().filter(|m| m.at.starts_with(bundle.root("sys/fs/cgroup"))).collect();
    if let [first, rest @ ..] = mounts.as_slice() {
        ensure!(first.has("ro"), "{first:?}");
        ensure!(rest.len() == 1 && rest[0].has("rw"), "{rest:?}");
        ensure!(rest[0].fs_type.starts_with("cgroup") && rest[0].device == first.device, "{rest:?}");
    }
    Ok(())
}
