// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The bundle, image and mounts that a runtime has set up when it calls the hook at createContainer, and snapshots of
//! what must not change.

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

/// The directory on which each trial mounts a separate tmpfs.
pub static BASE: OnceLock<PathBuf> = OnceLock::new();

/// The temporary directory of the whole run.
pub static SCRATCH: OnceLock<PathBuf> = OnceLock::new();

/// A container ID of 64 hexadecimal digits, as Docker and podman create them.
pub const ID: &str = "c0ffee00112233445566778899aabbccddeeff00112233445566778899aabbcc";
/// The first bytes of an ELF executable.
pub const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
/// The content of the image's own /etc/machine-id.
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

/// Directories like the paths that the hook looks for, so that a symlink to one of them offers all of them.
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
    /// The container has a read-only cgroup mount, as runtimes create it.
    Mounted,
    /// The container has no cgroup mount. To be prepared it needs CAP_SYS_ADMIN in config.json.
    Nowhere,
}

/// A bundle, the image that its root shows, and a part of the host.
#[derive(Debug)]
pub struct Bundle {
    pub realm: Realm,
    base: PathBuf,
    sentinel: OnceLock<TempDir>,
    /// The container's cgroup. At createContainer the hook is in it as well.
    pub cgroup: Option<OwnCgroup>,
    pub config: Value,
    pub state: Value,
}

/// Creates files on the host that a container might reach.
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

/// Returns the runtime directory of the namespace's root user, as seen from outside the user namespace.
pub fn runtime_directory() -> PathBuf {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    Path::new("/run/user").join(map.split_ascii_whitespace().nth(1).unwrap())
}

/// Runs a trial with a new bundle in a private mount namespace.
pub fn with_bundle(realm: Realm, work: impl FnOnce(&mut Bundle) -> Check + Send) -> Check {
    isolated(|| work(&mut Bundle::new(realm)))
}

impl Drop for Bundle {
    /// Unmounts the bundle, since a cgroup on which something is mounted in this namespace can't be removed.
    fn drop(&mut self) {
        // At worst, the cgroup remains.
        let _ = rustix::mount::unmount(&self.base, UnmountFlags::DETACH);
    }
}

impl Bundle {
    /// Creates the files. [`Self::start`] creates the mounts.
    fn new(realm: Realm) -> Self {
        let base = BASE.get().unwrap().clone();
        tmpfs(&base, "mode=755");
        // These trials must neither use the host's records nor its journal's socket.
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

    /// Returns the path of a FIFO, which blocks a process that opens it.
    pub fn fifo(&self) -> PathBuf {
        self.base.join("fifo")
    }

    /// Returns the bundle's directory, whose name mountinfo has to escape.
    pub fn directory(&self) -> PathBuf {
        self.base.join("bundle of\tc1")
    }

    /// Returns a path in the image, without what is mounted in the container.
    pub fn image(&self, path: &str) -> PathBuf {
        join(&self.base, "image", path)
    }

    pub fn root(&self, path: &str) -> PathBuf {
        join(&self.directory(), "rootfs", path)
    }

    /// Returns a path on the host, where nothing may change.
    pub fn host(&self, path: &str) -> PathBuf {
        join(&self.base, "host", path)
    }

    /// Returns a copy of the host's files that the host's first process also sees. It is created on first use.
    pub fn sentinel(&self) -> &Path {
        let make = || {
            let sentinel = tempfile::Builder::new().prefix("sentinel.").tempdir_in(SCRATCH.get().unwrap()).unwrap();
            furnish_host(sentinel.path());
            sentinel
        };
        self.sentinel.get_or_init(make).path()
    }

    /// Creates a further directory on the host.
    pub fn elsewhere(&self, name: &str) -> PathBuf {
        let path = self.base.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Returns the directory of the hook's records.
    pub fn records(&self) -> PathBuf {
        match self.realm {
            Realm::User => runtime_directory().join("oci-systemd-hook"),
            Realm::Initial => PathBuf::from("/run/oci-systemd-hook"),
        }
    }

    pub fn write_config(&self) {
        fs::write(self.directory().join("config.json"), self.config.to_string()).unwrap();
    }

    /// Sets up the container as a runtime does before createContainer.
    pub fn start(&mut self, cgroup: Cgroup) {
        self.start_from(&self.image(""), cgroup);
    }

    /// Does the same as [`Self::start`] with another image.
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

    /// Mounts a tmpfs in the root, like one of config.json's mounts, and creates a file on it.
    pub fn submount(&self, path: &str) {
        fs::create_dir_all(self.root(path)).unwrap();
        tmpfs(&self.root(path), "mode=750");
        fs::write(self.root(path).join("kept"), path).unwrap();
    }

    /// Mounts a file of the host in the root.
    pub fn submount_file(&self, path: &str) {
        let source = self.elsewhere("files").join(path.replace('/', "-"));
        fs::write(&source, path).unwrap();
        fs::create_dir_all(self.root(path).parent().unwrap()).unwrap();
        fs::write(self.root(path), "").unwrap();
        bind(&source, &self.root(path));
    }

    /// Unmounts the root with everything below it, as at the container's end, and binds the image there again.
    pub fn end(&self) {
        rustix::mount::unmount(self.root(""), UnmountFlags::DETACH).unwrap();
        bind(&self.image(""), &self.root(""));
    }

    /// Returns a snapshot of the directories that contain the records' directory, without the records.
    fn surroundings(&self) -> Snapshot {
        let mut all = Snapshot::new();
        for top in ["/run".into(), runtime_directory()] {
            let tree = tree::read(&top, Detail::Restored).into_iter();
            let tree = tree.map(|(path, line)| (top.join(path), line));
            all.extend(tree.filter(|(path, _)| !path.starts_with(self.records())));
        }
        all
    }

    /// Takes snapshots of everything that must not change.
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

/// The state before the hook was called.
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
    /// Checks what must hold whatever the hook does: nothing outside the root was changed or read.
    pub fn host(&self, bundle: &Bundle) -> Check {
        self.opened.nothing().map_err(|seen| format!("files of the host were {seen}"))?;
        self.unchanged(bundle)
    }

    /// Checks the same as [`Self::host`], except that files may have been read. This is for files that the host and
    /// the image have in common.
    pub fn unchanged(&self, bundle: &Bundle) -> Check {
        same("the host's tree", &self.host, &tree::read(&bundle.host(""), Detail::Untouched))?;
        same("the host's own tree", &self.sentinel, &bundle.read_sentinel())?;
        self.opened.forget();
        same("what is around the records", &self.surroundings, &bundle.surroundings())?;
        same("the mounts outside the root", &self.outside, &table::outside(&bundle.root("")))
    }

    /// Checks that the image was not written to.
    pub fn image(&self, bundle: &Bundle) -> Check {
        same("the image", &self.image, &tree::read(&bundle.image(""), Detail::Untouched))
    }

    /// Checks that the image is again as it was before.
    pub fn restored(&self, bundle: &Bundle) -> Check {
        same("the image", &self.restored, &tree::read(&bundle.image(""), Detail::Restored))
    }

    /// Checks that the mounts are exactly as before.
    pub fn mounts(&self) -> Check {
        same("the mount table", &self.whole, &table::whole())
    }

    /// Checks that everything is as if the hook had never run.
    pub fn everything(&self, bundle: &Bundle) -> Check {
        self.mounts()?;
        self.host(bundle)?;
        self.restored(bundle)?;
        ensure!(!bundle.records().exists(), "a record is left");
        Ok(())
    }
}

/// Returns the config.json of an unprivileged container, with the fields that the hook reads. It has no PID
/// namespace, since these trials run the hook without one; the trials in `stage` use PID namespaces.
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

/// A cgroup that only one trial uses.
#[derive(Debug)]
pub struct OwnCgroup(PathBuf);

impl OwnCgroup {
    /// Creates a cgroup. Returns `None` if this process isn't allowed to.
    pub fn below(above: &Path) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("osh-kernel-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = above.join(name);
        fs::create_dir(&path).is_ok().then_some(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        // A killed process remains in the cgroup for a moment.
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

/// Returns a mount of the v2 hierarchy, and this process's own cgroup in it.
pub fn own_cgroup_mount() -> Option<(PathBuf, PathBuf)> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    table::read().into_iter().filter(|mount| mount.fs_type == "cgroup2").find_map(|mount| {
        let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
        let cgroup = mount.at.join(path.trim_start_matches('/'));
        (mount.root == Path::new("/") && cgroup.is_dir()).then_some((mount.at, cgroup))
    })
}

/// Returns the flags that a remount must repeat because a more privileged namespace has locked them.
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

/// Joins the parts without a slash at the end if `path` is empty.
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
