// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows what a runtime has set up when it calls the hook at createContainer, and what must not change there.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Check;
use crate::harness::tree::{self, Detail, Snapshot, same};
use crate::hook::DEADLINE;
use crate::namespace::{Realm, isolated};
use crate::opened::Opened;
use crate::table;

/// The directory that each trial mounts a tmpfs of its own on.
pub static BASE: OnceLock<PathBuf> = OnceLock::new();

/// The directory of the whole run.
pub static SCRATCH: OnceLock<PathBuf> = OnceLock::new();

/// 64 digits, as Docker and podman make them.
pub const ID: &str = "c0ffee00112233445566778899aabbccddeeff00112233445566778899aabbcc";
/// The bytes that a program of machine code begins with.
pub const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
/// An image's own id.
pub const IMAGE_ID: &str = "0123456789abcdef0123456789abcdef\n";

const IMAGE_DIRECTORIES: [&str; 15] = [
    "dev",
    "etc",
    "proc",
    "run/lock",
    "sbin",
    "srv/inside",
    "srv/nothing",
    "sys/fs/cgroup",
    "tmp",
    "usr/bin",
    "usr/lib/systemd",
    "var/lib/dbus",
    "var/log/journal",
    "var/tmp",
    "root",
];

/// Like the paths that the hook looks for, so that a link to it offers all of them.
const HOST_DIRECTORIES: [&str; 8] = [
    "empty",
    "full/lock",
    "full/host/inaccessible",
    "full/systemd/system",
    "full/log/journal",
    "full/lib/dbus",
    "full/fs/cgroup",
    "full/run",
];

/// Whether the container has a cgroup mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroup {
    /// As runtimes make it.
    Mounted,
    /// None, which takes CAP_SYS_ADMIN in config.json.
    Nowhere,
}

/// A bundle, the image that its root shows, and a piece of the host.
#[derive(Debug)]
pub struct Bundle {
    pub realm: Realm,
    base: PathBuf,
    sentinel: OnceLock<TempDir>,
    /// The container's cgroup, which at createContainer the hook is in as well.
    pub cgroup: Option<OwnCgroup>,
    pub config: Value,
    pub state: Value,
}

/// Makes a piece of the host.
pub fn furnish_host(at: &Path) {
    for directory in HOST_DIRECTORIES {
        fs::create_dir_all(at.join(directory)).unwrap();
    }
    for file in ["file", "full/machine-id", "full/lib/dbus/machine-id", "full/kept"] {
        fs::write(at.join(file), "the host's\n").unwrap();
    }
    fs::create_dir(at.join("systemd")).unwrap();
    fs::write(at.join("systemd/systemd"), ELF).unwrap();
}

/// The runtime directory of whoever is the namespace's root, as seen from outside it.
pub fn runtime_directory() -> PathBuf {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    Path::new("/run/user").join(map.split_ascii_whitespace().nth(1).unwrap())
}

/// Works with a bundle in a mount namespace of its own.
pub fn with_bundle(realm: Realm, work: impl FnOnce(&mut Bundle) -> Check + Send) -> Check {
    isolated(|| work(&mut Bundle::new(realm)))
}

impl Drop for Bundle {
    /// Unmounts the bundle, since a cgroup on which something is mounted in this namespace can't be removed.
    fn drop(&mut self) {
        // Worst case: the cgroup stays.
        let _ = rustix::mount::unmount(&self.base, UnmountFlags::DETACH);
    }
}

impl Bundle {
    /// Makes the files; mounts come with [`Self::start`].
    fn new(realm: Realm) -> Self {
        let base = BASE.get().unwrap().clone();
        tmpfs(&base, "mode=755");
        // The host's records and its journal's socket are not for these trials.
        if Path::new("/run").is_dir() && !base.starts_with("/run") {
            tmpfs(Path::new("/run"), "mode=755");
        }
        let mut bundle =
            Self { realm, config: config(), state: Value::Null, base, sentinel: OnceLock::new(), cgroup: None };
        bundle.state = json!({"ociVersion": "1.0.2", "id": ID, "status": "creating", "bundle": bundle.directory()});
        for directory in IMAGE_DIRECTORIES {
            fs::create_dir_all(bundle.image(directory)).unwrap();
        }
        furnish_host(&bundle.host(""));
        fs::create_dir_all(bundle.directory().join("rootfs")).unwrap();
        fs::create_dir_all(runtime_directory()).unwrap();
        mknodat(CWD, bundle.fifo(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        fs::set_permissions(bundle.image("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::write(bundle.image("etc/machine-id"), IMAGE_ID).unwrap();
        symlink("/etc/machine-id", bundle.image("var/lib/dbus/machine-id")).unwrap();
        symlink("../usr/lib/systemd/systemd", bundle.image("sbin/init")).unwrap();
        fs::write(bundle.image("usr/lib/systemd/systemd"), ELF).unwrap();
        fs::write(bundle.image("srv/inside/kept"), "inside").unwrap();
        fs::write(bundle.image("dev/null"), "").unwrap();
        bundle
    }

    /// What blocks who opens it.
    pub fn fifo(&self) -> PathBuf {
        self.base.join("fifo")
    }

    /// The bundle's own directory; its name is one that mountinfo has to escape.
    pub fn directory(&self) -> PathBuf {
        self.base.join("bundle of\tc1")
    }

    /// A path in the image, below whatever is mounted in the container.
    pub fn image(&self, path: &str) -> PathBuf {
        join(&self.base, "image", path)
    }

    /// A path in the container's root.
    pub fn root(&self, path: &str) -> PathBuf {
        join(&self.directory(), "rootfs", path)
    }

    /// A path on the host, where nothing may change.
    pub fn host(&self, path: &str) -> PathBuf {
        join(&self.base, "host", path)
    }

    /// The same where the host's own first process sees it; made when it is asked for.
    pub fn sentinel(&self) -> &Path {
        let make = || {
            let sentinel = tempfile::Builder::new().prefix("sentinel.").tempdir_in(SCRATCH.get().unwrap()).unwrap();
            furnish_host(sentinel.path());
            sentinel
        };
        self.sentinel.get_or_init(make).path()
    }

    /// A further place on the host.
    pub fn elsewhere(&self, name: &str) -> PathBuf {
        let path = self.base.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Where the hook keeps its records.
    pub fn records(&self) -> PathBuf {
        match self.realm {
            Realm::User => runtime_directory().join("oci-systemd-hook"),
            Realm::Initial => PathBuf::from("/run/oci-systemd-hook"),
        }
    }

    /// Writes config.json.
    pub fn write_config(&self) {
        fs::write(self.directory().join("config.json"), self.config.to_string()).unwrap();
    }

    /// Does what a runtime does before createContainer.
    pub fn start(&mut self, cgroup: Cgroup) {
        self.start_from(&self.image(""), cgroup);
    }

    /// As [`Self::start`], with another image.
    pub fn start_from(&mut self, image: &Path, cgroup: Cgroup) {
        bind(image, &self.root(""));
        rbind(Path::new("/proc"), &self.root("proc"));
        bind(Path::new("/dev/null"), &self.root("dev/null"));
        let own = own_cgroup_mount().filter(|_| cgroup == Cgroup::Mounted);
        match own.and_then(|(source, above)| Some((source, OwnCgroup::below(&above)?))) {
            Some((source, own)) => {
                self.mount_cgroup(&source);
                self.cgroup = Some(own);
            }
            None => self.config["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]),
        }
        self.write_config();
    }

    fn mount_cgroup(&self, source: &Path) {
        bind(source, &self.root("sys/fs/cgroup"));
        let flags = MountFlags::BIND | MountFlags::RDONLY | kept(source);
        rustix::mount::mount_remount(self.root("sys/fs/cgroup"), flags, "").unwrap();
    }

    /// Mounts a tmpfs in the root as config.json's mounts are made, and puts a file on it.
    pub fn submount(&self, path: &str) {
        fs::create_dir_all(self.root(path)).unwrap();
        tmpfs(&self.root(path), "mode=750");
        fs::write(self.root(path).join("kept"), path).unwrap();
    }

    /// Mounts a file of the host's in the root.
    pub fn submount_file(&self, path: &str) {
        let source = self.elsewhere("files").join(path.replace('/', "-"));
        fs::write(&source, path).unwrap();
        fs::create_dir_all(self.root(path).parent().unwrap()).unwrap();
        fs::write(self.root(path), "").unwrap();
        bind(&source, &self.root(path));
    }

    /// Takes the root away as the end of the container does, and puts it back as it was.
    pub fn end(&self) {
        rustix::mount::unmount(self.root(""), UnmountFlags::DETACH).unwrap();
        bind(&self.image(""), &self.root(""));
    }

    /// The directories that hold records, but for the records.
    fn surroundings(&self) -> Snapshot {
        let mut all = Snapshot::new();
        for top in ["/run".into(), runtime_directory()] {
            let tree = tree::read(&top, Detail::Restored).into_iter();
            let tree = tree.map(|(path, line)| (top.join(path), line));
            all.extend(tree.filter(|(path, _)| !path.starts_with(self.records())));
        }
        all
    }

    /// Takes note of everything.
    pub fn watch(&self) -> Watch {
        Watch {
            host: tree::read(&self.host(""), Detail::Untouched),
            sentinel: self.read_sentinel(),
            surroundings: self.surroundings(),
            image: tree::read(&self.image(""), Detail::Untouched),
            restored: tree::read(&self.image(""), Detail::Restored),
            outside: table::outside(&self.root("")),
            whole: table::whole(),
            opened: Opened::watch(
                [Some(self.host("").as_path()), self.sentinel.get().map(TempDir::path)].into_iter().flatten(),
            ),
        }
    }

    fn read_sentinel(&self) -> Snapshot {
        self.sentinel.get().map(|sentinel| tree::read(sentinel.path(), Detail::Untouched)).unwrap_or_default()
    }
}

/// What there was before the hook.
#[derive(Debug)]
pub struct Watch {
    host: Snapshot,
    sentinel: Snapshot,
    surroundings: Snapshot,
    image: Snapshot,
    restored: Snapshot,
    outside: Snapshot,
    whole: Snapshot,
    opened: Opened,
}

impl Watch {
    /// Whatever the hook does: nothing outside the root is touched, nor read.
    pub fn host(&self, bundle: &Bundle) -> Check {
        self.opened.nothing().map_err(|seen| format!("of the host's files, {seen}"))?;
        self.unchanged(bundle)
    }

    /// As [`Self::host`], where a file is the host's and the image's, which may be read.
    pub fn unchanged(&self, bundle: &Bundle) -> Check {
        same("the host's tree", &self.host, &tree::read(&bundle.host(""), Detail::Untouched))?;
        same("the host's own tree", &self.sentinel, &bundle.read_sentinel())?;
        self.opened.forget();
        same("what is around the records", &self.surroundings, &bundle.surroundings())?;
        same("the mounts outside the root", &self.outside, &table::outside(&bundle.root("")))
    }

    /// The image was not written to.
    pub fn image(&self, bundle: &Bundle) -> Check {
        same("the image", &self.image, &tree::read(&bundle.image(""), Detail::Untouched))
    }

    /// The image is again what it was.
    pub fn restored(&self, bundle: &Bundle) -> Check {
        same("the image", &self.restored, &tree::read(&bundle.image(""), Detail::Restored))
    }

    /// Mounts are exactly what they were.
    pub fn mounts(&self) -> Check {
        same("the mount table", &self.whole, &table::whole())
    }

    /// As if the hook had never run.
    pub fn everything(&self, bundle: &Bundle) -> Check {
        self.mounts()?;
        self.host(bundle)?;
        self.restored(bundle)?;
        ensure!(!bundle.records().exists(), "a record is left");
        Ok(())
    }
}

/// The config.json of an unprivileged container, as far as the hook looks at it. It has no pid namespace, since the
/// trials run the hook without one; `stage` has those.
fn config() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "args": ["/sbin/init"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": ["CAP_CHOWN", "CAP_MKNOD"]},
        },
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}],
        "linux": {"namespaces": [{"type": "mount"}, {"type": "cgroup"}]},
    })
}

/// A cgroup of one trial alone.
#[derive(Debug)]
pub struct OwnCgroup(PathBuf);

impl OwnCgroup {
    /// `None` if this process may not make any.
    pub fn below(above: &Path) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("osh-kernel-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = above.join(name);
        // This process may not be allowed to.
        fs::create_dir(&path).is_ok().then_some(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        // A killed process remains for a moment.
        while self.0.exists() && remove_cgroup(&self.0).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn remove_cgroup(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroup(&entry.path())?;
    }
    fs::remove_dir(path)
}

/// A mount of v2's hierarchy, and this process's own cgroup in it.
pub fn own_cgroup_mount() -> Option<(PathBuf, PathBuf)> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    table::read().into_iter().filter(|mount| mount.fs_type == "cgroup2").find_map(|mount| {
        let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
        let cgroup = mount.at.join(path.trim_start_matches('/'));
        (mount.root == Path::new("/") && cgroup.is_dir()).then_some((mount.at, cgroup))
    })
}

/// A remount must repeat what a more privileged namespace has locked.
fn kept(source: &Path) -> MountFlags {
    let Some(mount) = table::at(source) else {
        return MountFlags::empty();
    };
    [("nosuid", MountFlags::NOSUID), ("nodev", MountFlags::NODEV), ("noexec", MountFlags::NOEXEC)]
        .into_iter()
        .chain([("noatime", MountFlags::NOATIME), ("relatime", MountFlags::RELATIME)])
        .filter(|(name, _)| mount.has(name))
        .fold(MountFlags::empty(), |all, (_, flag)| all | flag)
}

/// No slash at the end where `path` is empty.
fn join(base: &Path, name: &str, path: &str) -> PathBuf {
    [base, Path::new(name), Path::new(path)].iter().filter(|part| !part.as_os_str().is_empty()).collect()
}

pub fn tmpfs(at: &Path, options: &str) {
    let options = CString::new(options).unwrap();
    rustix::mount::mount("tmpfs", at, "tmpfs", MountFlags::empty(), options.as_c_str()).unwrap();
}

pub fn bind(from: &Path, to: &Path) {
    rustix::mount::mount_bind(from, to).unwrap();
}

pub fn rbind(from: &Path, to: &Path) {
    rustix::mount::mount_bind_recursive(from, to).unwrap();
}
