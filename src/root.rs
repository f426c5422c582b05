// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A handle of the container's root directory. Images are untrusted: this handle is the only way to get from an
//! [`InnerPath`] to a file, and no symbolic link leads out of the root.
//!
//! For why paths must not be joined as strings, see
//! <https://github.com/cyphar/libpathrs/blob/main/docs/avoidable-vulnerabilities.md>.

mod lock;
mod read;

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use pathrs::error::ErrorKind;
use pathrs::flags::ResolverFlags;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

pub use self::read::ReadError;
use crate::facts::Found;
use crate::kernel::fs_type::{DataSource, needs_server};
use crate::kernel::mountinfo::{self, Entry};
use crate::path::InnerPath;
use crate::sys::time_limit::{self, Operation};
use crate::sys::{Context, SysError, fs, mount_table};

/// The maximum number of symbolic links in a path, which is the kernel's own limit, path_resolution(7).
const LINKS_MAX: u32 = 40;

/// The number of times that openat2(2) is tried without a pause. pathrs tries as often.
const TRIES_AT_ONCE: u32 = 128;
/// The total number of times that openat2(2) is tried, with a pause of a millisecond before each further try. Even
/// if mounts and renames never cease, one of the calls succeeds in between.
const TRIES_MAX: u32 = TRIES_AT_ONCE + 1000;

/// The container's root directory.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    path: PathBuf,
    /// The device number of the directory's file system.
    device: u64,
    /// The table that [`Self::mount_table`] returns.
    mount_table: Option<Vec<u8>>,
    /// The mount points of file servers below the root, as paths of the host. Unset until they have been looked up.
    servers: OnceCell<Vec<PathBuf>>,
}

/// The result of resolving a path to something that exists.
enum Reached {
    Place(OwnedFd),
    /// The path leads to a file server's mount, or below one. It is resolved only as far as possible
    /// without asking the server.
    Server(InnerPath),
}

/// The result of resolving a nonexistent path.
enum Missing {
    /// The file would be here. This path has no symbolic links.
    Nothing(InnerPath),
    /// There is a dangling symbolic link with this target.
    Link(InnerPath),
}

/// How symbolic links in a path are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    /// Symbolic links are followed inside the root.
    Followed,
    /// A symbolic link in any component is an error.
    Refused,
}

impl Root {
    /// Opens the root directory at a path of the host, which is trusted.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        // An error isn't reported here, but by the code that needs the table.
        let mount_table = mount_table::usual().ok().flatten();
        // The root, or a layer of it, may be on a file server, which may not answer.
        if mount_table.as_deref().is_none_or(has_file_server) {
            time_limit::watch();
        }
        time_limit::note(Operation::Looking, path);
        let directory = fs::open_host_directory(path)?;
        Ok(Self {
            path: fs::path_of(directory.as_fd())?,
            device: fs::stat(&directory)?.st_dev,
            directory,
            mount_table,
            servers: OnceCell::new(),
        })
    }

    /// Returns the mount table of the namespace in which the root was opened, as it was before that. Returns `None`
    /// if it is longer than the tables of most hosts.
    #[must_use]
    pub fn mount_table(&self) -> Option<&[u8]> {
        self.mount_table.as_deref()
    }

    /// Returns the root's path on the host, without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the ID of the mount that holds the root, as in mountinfo.
    pub fn mount(&self) -> Result<u64, SysError> {
        fs::mount_number(self.directory())
    }

    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Finds out what is at a path, following symbolic links inside the root. A path that can't be followed is
    /// reported as [`Found::Unreachable`]; an error doesn't mean that anything is wrong with the path.
    pub fn find(&self, path: &InnerPath) -> Result<Found, SysError> {
        self.find_by_links(path.clone()).or_else(unreachable)
    }

    fn find_by_links(&self, mut path: InnerPath) -> Result<Found, SysError> {
        for _ in 0..=LINKS_MAX {
            match self.reach(&path) {
                Err(error) if error.errno() == Some(Errno::NOENT) => match self.missing(&path)? {
                    Missing::Nothing(at) => return Ok(Found::Nothing(at)),
                    Missing::Link(target) => path = target,
                },
                result => match result? {
                    Reached::Place(place) => return self.describe(place.as_fd()),
                    Reached::Server(at) => return Ok(Found::OnServer(at)),
                },
            }
        }
        Ok(Found::Unreachable(format!("{path}: too many symbolic links")))
    }

    /// Resolves a path, following symbolic links, without asking any file server except for one that holds the root
    /// itself. A process that waits for a server's answer can't even be killed.
    fn reach(&self, path: &InnerPath) -> Result<Reached, SysError> {
        if self.servers.get().is_none() {
            // A path that crosses no mount can't reach the mount of a file server.
            if let Some(place) = self.resolve_on_own_mount(path)? {
                return Ok(Reached::Place(place));
            }
        }
        if self.servers()?.is_empty() {
            self.resolve(path, OFlags::empty(), Links::Followed).map(Reached::Place)
        } else {
            self.walk(path)
        }
    }

    /// Resolves a path component by component, as described in path_resolution(7), and stops at the mount of a file
    /// server before anything is looked up in it.
    fn walk(&self, path: &InnerPath) -> Result<Reached, SysError> {
        let servers = self.servers()?;
        let mut rest: Vec<OsString> = path.as_path().iter().rev().map(OsStr::to_owned).collect();
        let mut way: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            let here = way.last().map_or(self.directory(), OwnedFd::as_fd);
            match name.as_encoded_bytes() {
                b"/" => way.clear(),
                b"." => {}
                b".." => drop(way.pop()),
                _ => {
                    let next = fs::open_at(here, &name, OFlags::PATH)?;
                    let at = fs::path_of(next.as_fd())?;
                    if servers.contains(&at) {
                        let below: PathBuf = rest.iter().rev().collect();
                        return Ok(Reached::Server(self.inner_path(next.as_fd())?.join(below)));
                    }
                    if fs::kind(&fs::stat(&next)?) == FileType::Symlink {
                        links += 1;
                        if links > LINKS_MAX {
                            return Err(SysError::Elsewhere(format!("{path}: too many symbolic links")));
                        }
                        // The kernel's magic links, such as /proc/self/fd/3, bypass path resolution.
                        if fs::answers(&next)? == DataSource::Kernel {
                            let link = at.display();
                            return Err(SysError::Elsewhere(format!(
                                "{path} leads through {link}, which is a magic link of the kernel"
                            )));
                        }
                        let target = fs::readlink_at(next.as_fd(), OsStr::new(""))?;
                        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                        rest.extend(target.iter().rev().map(OsStr::to_owned));
                    } else {
                        way.push(next);
                    }
                }
            }
        }
        match way.pop() {
            Some(place) => Ok(Reached::Place(place)),
            None => fs::open_at(self.directory(), ".", OFlags::PATH).map(Reached::Place),
        }
    }

    /// Records the file servers among the mounts of this namespace. `table` has the form of mountinfo.
    pub fn record_servers(&self, table: &[u8]) {
        let servers = mountinfo::entries(table).filter(|entry| needs_server(&entry.fs_type()));
        let mut servers: Vec<PathBuf> = servers.map(|entry| entry.mount_point()).collect();
        servers.retain(|server| server.starts_with(&self.path) && *server != self.path);
        // At worst, the file servers are known already and stay as they are.
        let _ = self.servers.set(servers);
    }

    fn servers(&self) -> Result<&[PathBuf], SysError> {
        if self.servers.get().is_none() {
            let prefix = mountinfo::escape(self.path.as_os_str().as_bytes());
            let is_wanted = |entry: &Entry<'_>| entry.may_be_below(&prefix) && needs_server(&entry.fs_type());
            self.record_servers(&mount_table::read(mount_table::OWN, is_wanted)?);
        }
        Ok(self.servers.get().map(Vec::as_slice).unwrap_or_default())
    }

    /// Whether a file server would have to be asked about a path without symbolic links. `is_asked` decides that
    /// from the path's remainder below the server's mount.
    fn asks_a_server(&self, at: &InnerPath, is_asked: impl Fn(&Path) -> bool) -> bool {
        let servers = self.servers.get().map(Vec::as_slice).unwrap_or_default();
        let path = at.below(&InnerPath::root()).map(|below| self.path.join(below)).unwrap_or_default();
        servers.iter().filter_map(|server| path.strip_prefix(server).ok()).any(is_asked)
    }

    fn describe(&self, file: BorrowedFd<'_>) -> Result<Found, SysError> {
        let at = self.inner_path(file)?;
        let stat = fs::stat(file)?;
        Ok(match fs::kind(&stat) {
            FileType::Directory if self.has_empty(file, &stat)? => Found::EmptyDirectory(at),
            FileType::Directory => Found::Directory(at),
            FileType::RegularFile => Found::File(at),
            FileType::Fifo => Found::Other(at, "a FIFO"),
            FileType::Socket => Found::Other(at, "a socket"),
            FileType::CharacterDevice | FileType::BlockDevice => Found::Other(at, "a device"),
            FileType::Symlink | FileType::Unknown => Found::Other(at, "a file of unknown type"),
        })
    }

    /// Whether a directory is known to be empty. A directory on another mount that belongs to the kernel or to a file
    /// server is not opened, and counts as not empty: no tmpfs is mounted there that would need a copy of its content.
    fn has_empty(&self, directory: BorrowedFd<'_>, stat: &Stat) -> Result<bool, SysError> {
        let is_the_roots = stat.st_dev == self.device
            || fs::mount_number(directory)? == self.mount()?
            || fs::answers(directory)? == DataSource::Stored;
        if !is_the_roots {
            return Ok(false);
        }
        let opened = fs::open_at(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        fs::is_empty_dir(opened.as_fd())
    }

    /// Resolves a nonexistent path as far as possible, following symbolic links, including a dangling final one.
    fn missing(&self, path: &InnerPath) -> Result<Missing, SysError> {
        let names: Vec<&OsStr> = path.as_path().iter().skip(1).collect();
        let first = |count: usize| InnerPath::new(names.iter().take(count).collect::<PathBuf>());
        let open = |path: &InnerPath| self.resolve(path, OFlags::DIRECTORY, Links::Followed);
        // The first missing component is found by bisection, since the path can have 2,000 components if it comes
        // from a link in the image. The root itself exists, and the whole path doesn't.
        let (mut there, mut missing, mut deepest) = (0, names.len(), None);
        while missing - there > 1 {
            let half = usize::midpoint(there, missing);
            match open(&first(half)) {
                Ok(directory) => (there, deepest) = (half, Some(directory)),
                Err(error) if error.errno() == Some(Errno::NOENT) => missing = half,
                Err(error) => return Err(error),
            }
        }
        let directory = deepest.map_or_else(|| open(&InnerPath::root()), Ok)?;
        let at = self.inner_path(directory.as_fd())?;
        let rest: PathBuf = names.iter().skip(there).collect();
        match names.get(there).map(|name| fs::readlink_at(directory.as_fd(), name)) {
            Some(Ok(target)) => {
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                let mut behind_a_name = target.components().skip_while(|part| !matches!(part, Component::Normal(_)));
                if behind_a_name.any(|part| part == Component::ParentDir) {
                    // The name before the `..` may be a link, and then `..` means the parent directory
                    // of the link's target.
                    return Err(SysError::Elsewhere(format!(
                        "{path}: the symbolic link to {target:?} has `..` after a component that may itself be a symbolic link"
                    )));
                }
                // `at` has no links, so that each leading `..` can be resolved lexically.
                let target = at.as_path().join(target);
                Ok(Missing::Link(InnerPath::new(target.join(names.iter().skip(there + 1).collect::<PathBuf>()))))
            }
            Some(Err(error)) if !matches!(error.errno(), Some(Errno::NOENT | Errno::INVAL)) => Err(error),
            Some(Err(_)) | None => Ok(Missing::Nothing(at.join(rest))),
        }
    }

    fn inner_path(&self, file: BorrowedFd<'_>) -> Result<InnerPath, SysError> {
        let path = fs::path_of(file)?;
        path.strip_prefix(&self.path).map(InnerPath::new).map_err(|_| {
            let (path, root) = (path.display(), self.path.display());
            SysError::Elsewhere(format!("{path} is not below the container's root {root}"))
        })
    }

    /// Opens a path that contains no symbolic links, with `O_PATH`. If the path is the mount point of a file server,
    /// this doesn't ask the server.
    pub fn place(&self, at: &InnerPath) -> Result<OwnedFd, SysError> {
        if self.asks_a_server(at, |way| !way.as_os_str().is_empty()) {
            return Err(on_server(at));
        }
        self.resolve(at, OFlags::NOFOLLOW, Links::Refused)
    }

    /// Opens a directory whose path contains no symbolic links, with `O_PATH`. A file server's mount is refused,
    /// because the next lookup in the directory would ask the server.
    pub fn open_directory(&self, at: &InnerPath) -> Result<OwnedFd, SysError> {
        if self.asks_a_server(at, |_| true) {
            return Err(on_server(at));
        }
        self.resolve(at, OFlags::DIRECTORY, Links::Refused)
    }

    /// Opens the directory that holds a path, and returns it with the path's last component.
    pub fn parent(&self, at: &InnerPath) -> Result<(OwnedFd, OsString), SysError> {
        let (parent, name) = at.split().ok_or_else(|| SysError::Finding(format!("{at} has no parent directory")))?;
        Ok((self.open_directory(&parent)?, name.to_owned()))
    }

    /// Resolves a path with openat2(2), or with pathrs if the kernel is older than Linux 5.6 or a seccomp filter
    /// doesn't know the call.
    fn resolve(&self, path: &InnerPath, flags: OFlags, links: Links) -> Result<OwnedFd, SysError> {
        let refused = match links {
            Links::Followed => ResolveFlags::empty(),
            Links::Refused => ResolveFlags::NO_SYMLINKS,
        };
        match self.openat2(path, flags, refused) {
            Err(error) if is_unknown(&error) => self.resolve_by_hand(path, flags, links),
            result => result,
        }
    }

    /// Resolves a path that crosses no mount point. Returns `None` if it crosses one, or if openat2(2) isn't
    /// available, since pathrs can't refuse to cross mount points.
    fn resolve_on_own_mount(&self, path: &InnerPath) -> Result<Option<OwnedFd>, SysError> {
        match self.openat2(path, OFlags::empty(), ResolveFlags::NO_XDEV) {
            Err(error) if error.errno() == Some(Errno::XDEV) || is_unknown(&error) => Ok(None),
            result => result.map(Some),
        }
    }

    fn openat2(&self, path: &InnerPath, flags: OFlags, refused: ResolveFlags) -> Result<OwnedFd, SysError> {
        time_limit::note(Operation::Looking, path.as_path());
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | refused;
        let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
        let open = || rustix::fs::openat2(&self.directory, path.as_path(), flags, Mode::empty(), within);
        // EAGAIN means that something was renamed or mounted anywhere on the machine while a `..` was resolved.
        let mut tries = (0..TRIES_MAX).map(|number| {
            if number >= TRIES_AT_ONCE {
                std::thread::sleep(Duration::from_millis(1));
            }
            open()
        });
        let settled = tries.find(|result| !matches!(result, Err(Errno::AGAIN)));
        settled.unwrap_or(Err(Errno::AGAIN)).call(|| format!("openat2(\"{path}\", {within:?})"))
    }

    fn resolve_by_hand(&self, path: &InnerPath, flags: OFlags, links: Links) -> Result<OwnedFd, SysError> {
        let resolver = match links {
            Links::Followed => ResolverFlags::empty(),
            Links::Refused => ResolverFlags::NO_SYMLINKS,
        };
        let root = pathrs::RootRef::from_fd(self.directory.as_fd()).with_resolver_flags(resolver);
        let handle = if flags.contains(OFlags::NOFOLLOW) {
            root.resolve_nofollow(path.as_path())
        } else {
            root.resolve(path.as_path())
        };
        let file = OwnedFd::from(handle.map_err(|error| of_pathrs(path, &error))?);
        if flags.contains(OFlags::DIRECTORY) && fs::kind(&fs::stat(&file)?) != FileType::Directory {
            return Err(SysError::Elsewhere(format!("{path} is not a directory")));
        }
        Ok(file)
    }
}

/// Whether a mount table has a file server's mount, on which a root may be. If there is none, the thread that
/// watches the time limit isn't needed, which costs more than searching a mount table of usual size.
fn has_file_server(table: &[u8]) -> bool {
    // systemd mounts one such file system on every host, and no root is on it.
    let is_of_systemd = |entry: &Entry<'_>| entry.is_type("autofs") && entry.is_at("/proc/sys/fs/binfmt_misc");
    mountinfo::entries(table).any(|entry| needs_server(&entry.fs_type()) && !is_of_systemd(&entry))
}

/// Whether openat2(2) isn't available, because Linux is older than 5.6 or because a seccomp filter doesn't know it.
fn is_unknown(error: &SysError) -> bool {
    matches!(error.errno(), Some(Errno::NOSYS | Errno::PERM))
}

fn on_server(at: &InnerPath) -> SysError {
    SysError::Elsewhere(format!("{at} is on the mount of a file server (FUSE, NFS), which the hook does not access"))
}

/// Converts an error that is due to the path itself into [`Found::Unreachable`].
fn unreachable(error: SysError) -> Result<Found, SysError> {
    let is_of_the_path =
        matches!(error.errno(), Some(Errno::LOOP | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::XDEV | Errno::ACCESS));
    if is_of_the_path || error.is_from_file_server() || matches!(error, SysError::Elsewhere(_)) {
        Ok(Found::Unreachable(error.to_string()))
    } else {
        Err(error)
    }
}

/// Converts an error of pathrs, which comes either from the kernel or from pathrs's own checks.
fn of_pathrs(path: &InnerPath, error: &pathrs::error::Error) -> SysError {
    match error.kind() {
        ErrorKind::OsError(Some(number)) => {
            SysError::new(format!("open(\"{path}\")"), Errno::from_raw_os_error(number))
        }
        ErrorKind::SafetyViolation => SysError::Elsewhere(format!("resolving {path} led out of the container's root")),
        _ => SysError::Finding(format!("{path} can't be resolved: {error}")),
    }
}
