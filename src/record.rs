// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records of what the hook creates that outlives the container's mounts. A record is written before
//! anything is created, and is the only thing that poststop works from, because the annotations and the root
//! may be unavailable at that stage.
//!
//! A record is a file `<id>/<pid>-<start>` and belongs to one container, even if others have the same ID. A process
//! that writes or cleans up a record locks the directory of the ID, so that a new container with that ID waits until
//! the clean-up for the old one is done.

mod clean_up;
mod container;
mod in_use;
mod made;

use std::cell::RefCell;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

pub use self::clean_up::{RecordProblem, clean_up, sweep};
use self::container::RecordedContainer;
pub use self::container::{ContainerView, Namespaces};
use self::made::{Line, Locking, Made, PlannedFile};
use crate::kernel::id_map;
use crate::path::InnerPath;
use crate::plan::Cgroup;
use crate::root::Root;
use crate::sys::birth::Birth;
use crate::sys::cgroup::RemovalBudget;
use crate::sys::time_limit::{self, Operation};
use crate::sys::{self, Context, SysError, fs};

const NAME: &str = "oci-systemd-hook";
/// The size limit of a record. There are at most four mount points, each with one line for what will be
/// created and one for what was created, which lists all missing directories (a path of 4096 bytes has up to
/// 2048), and four lines for cgroups.
const LIMIT_BYTES: u64 = 1024 * 1024;

/// Why a record can't be written, or why what it names was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The directory for records can't be determined.
    #[error("cannot determine the path of the container's record")]
    Place(#[source] SysError),
    /// The record can't be written.
    #[error("cannot write the record {}; without it, the hook creates nothing outside the container", path.display())]
    Write { path: PathBuf, source: SysError },
    /// The record can't be read.
    #[error("cannot read the record {}", path.display())]
    Read { path: PathBuf, source: SysError },
    /// A file or directory that the record names can't be removed.
    #[error("cannot remove {at} from the root {}", root.display())]
    TakeBack { root: PathBuf, at: String, source: SysError },
    /// The cgroup can't be removed, because processes are in it or are just ending.
    #[error("cannot remove the cgroup {cgroup}")]
    Cgroup { cgroup: Cgroup, source: SysError },
    /// A file can't be proven to be the hook's. The file is kept, but the record is removed.
    #[error(
        "kept {at} in the root {}: its file system does not report when a file was created, so it can't be proven that \
         the hook created it; remove it if it is not needed", root.display()
    )]
    NoBirthTime {
        /// The root that contains the file.
        root: PathBuf,
        /// The path of the file in the root.
        at: String,
    },
    /// Another container has mounts on what should be removed. A call after that container has ended removes it.
    #[error(
        "kept what the hook created in the root {}: the container of process {pid} still has mounts there, and a call \
         after its end will remove it", root.display()
    )]
    InUse {
        /// The root that both containers use.
        root: PathBuf,
        /// The PID of that container's first process.
        pid: u32,
    },
    /// Another container is being prepared on the same root. A later call removes what was left.
    #[error(
        "kept what the hook created in the root {}: another container is being created on it, and a later call will \
         remove it",
        root.display()
    )]
    Busy {
        /// The root that both containers use.
        root: PathBuf,
    },
    /// The container that poststop was called for is still running.
    #[error("kept the record: the container's first process {pid} still runs; call poststop after it has ended")]
    Alive {
        /// The PID of the container's first process.
        pid: u32,
    },
    /// The state has no bundle, so it can't be proven that the container is gone.
    #[error(
        "kept the record: without a bundle in the state it can't be determined whether the container is gone; add the \
         bundle {} to the state", bundle.display()
    )]
    Unproven {
        /// The bundle that the record names.
        bundle: PathBuf,
    },
    /// The record was written in other namespaces.
    #[error(
        "kept the record: its paths are valid only in the engine's mount and cgroup namespaces, which differ from this \
         process's; call poststop there, see nsenter(1)"
    )]
    Elsewhere,
    /// Several containers have the same ID, and the state has no bundle.
    #[error(
        "kept the records of {count} containers with this ID below {}: without a bundle in the state it can't be \
         determined which one is meant; add the bundle to the state", path.display()
    )]
    Ambiguous {
        count: usize,
        /// The directory that contains the records.
        path: PathBuf,
    },
    /// The record itself can't be removed.
    #[error("cannot remove the record {}", path.display())]
    Remove { path: PathBuf, source: SysError },
}

impl RecordError {
    /// Whether the record must be kept because a later call may be able to remove what is left.
    fn keeps_record(&self) -> bool {
        !matches!(self, Self::NoBirthTime { .. })
    }

    /// Whether nothing failed and a later call will remove the rest.
    #[must_use]
    pub fn is_deferred(&self) -> bool {
        matches!(self, Self::InUse { .. } | Self::Busy { .. })
    }
}

/// Returns the directory below which records are kept: the runtime directory of the user on whose behalf the engine
/// runs. The environment is not consulted, because it may be the container's.
fn place() -> Result<PathBuf, RecordError> {
    let map = match fs::read_host_text("/proc/self/uid_map") {
        // The kernel has no user namespaces.
        Err(error) if error.errno() == Some(Errno::NOENT) => id_map::WHOLE.to_owned(),
        result => result.map_err(RecordError::Place)?,
    };
    Ok(match (id_map::is_identity(&map), id_map::outer_id_of_root(&map)) {
        (true, _) if rustix::process::geteuid().is_root() => PathBuf::from("/run"),
        (true, _) => PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw())),
        (false, root) => PathBuf::from(format!("/run/user/{}", root.unwrap_or_default())),
    })
}

/// The record of one container. Its file is created only when there is something to note.
#[derive(Debug, Clone)]
pub struct Record(Rc<RecordState>);

#[derive(Debug)]
struct RecordState {
    id: String,
    bundle: PathBuf,
    seen: ContainerView,
    /// The open record, or `None` before the first note. It is locked until this process ends, so that no other
    /// process cleans it up in the meantime.
    written: RefCell<Option<OpenRecord>>,
}

#[derive(Debug)]
struct OpenRecord {
    /// The lock on the directory of the ID.
    _lock: File,
    path: PathBuf,
    file: File,
    /// The length of the file before this call.
    before_bytes: u64,
}

impl Record {
    /// Returns the record of a container that is being created. Nothing is written yet.
    #[must_use]
    pub fn of(id: &str, bundle: &Path, seen: ContainerView) -> Self {
        let (id, bundle) = (id.to_owned(), bundle.to_owned());
        Self(Rc::new(RecordState { id, bundle, seen, written: RefCell::new(None) }))
    }

    /// Notes that a cgroup will be created or, with its inode number, that it has been created.
    pub fn note_cgroup(&self, cgroup: &Cgroup, inode: Option<u64>) -> Result<(), RecordError> {
        let path = cgroup.path.as_path().as_os_str().to_owned();
        self.note(&Line::Cgroup { hierarchy: cgroup.hierarchy, path, inode })
    }

    /// Notes that a directory or an empty file will be created at `at` in `root`, with `above` missing parent
    /// directories. Returns the temporary name of the topmost of them, which is used until [`Self::note_made`]
    /// has noted what was created.
    pub fn note_making(
        &self,
        root: &Root,
        at: &InnerPath,
        is_directory: bool,
        above: usize,
    ) -> Result<String, RecordError> {
        let path = root.path();
        let number = sys::random_number().map_err(|source| RecordError::Write { path: path.to_owned(), source })?;
        let temporary = format!(".{NAME}-{number:032x}");
        self.note(&Line::Making(PlannedFile {
            root: path.as_os_str().to_owned(),
            at: at.as_path().as_os_str().to_owned(),
            is_directory,
            above,
            temporary: temporary.clone(),
        }))?;
        Ok(temporary)
    }

    /// Notes what was created, the topmost directory first.
    pub fn note_made(&self, births: Vec<Birth>) -> Result<(), RecordError> {
        self.note(&Line::Made(births))
    }

    fn note(&self, line: &Line) -> Result<(), RecordError> {
        let mut written = self.0.written.borrow_mut();
        let written = match written.as_mut() {
            Some(written) => written,
            None => written.insert(self.0.open()?),
        };
        let error = |source| RecordError::Write { path: written.path.clone(), source };
        append(&written.file, &written.path, line).map_err(error)
    }

    /// Removes what this call noted, in reverse order, and then the lines that it added to the record. Continues
    /// after an error and returns all errors. It is not an error if something is already gone.
    #[must_use]
    pub fn take_back(&self) -> Vec<RecordError> {
        let place = match place() {
            Ok(place) => place.join(NAME),
            Err(error) => return vec![error],
        };
        let mut errors = Vec::new();
        if let Some(OpenRecord { path, file, before_bytes, .. }) = self.0.written.borrow_mut().take() {
            errors.extend(take_back_from(&path, &file, before_bytes));
        }
        if errors.is_empty() {
            errors.extend(remove_if_empty(place.join(&self.0.id)).err());
            errors.extend(remove_if_empty(place).err());
        }
        errors
    }
}

fn take_back_from(path: &Path, file: &File, before_bytes: u64) -> Vec<RecordError> {
    let made = match read(file, before_bytes) {
        Ok(made) => made,
        Err(source) => return vec![RecordError::Read { path: path.to_owned(), source }],
    };
    let mut errors = made.take_back(&RemovalBudget::FULL, Locking::Held);
    if errors.iter().any(RecordError::keeps_record) {
        return errors;
    }
    if before_bytes == 0 {
        errors.extend(remove_file(path).err());
    } else {
        let result = file.set_len(before_bytes).call(|| format!("ftruncate({path:?}, {before_bytes})"));
        errors.extend(result.err().map(|source| RecordError::Remove { path: path.to_owned(), source }));
    }
    errors
}

impl RecordState {
    fn open(&self) -> Result<OpenRecord, RecordError> {
        let place = place()?;
        let container = RecordedContainer::of(&self.bundle, &self.seen);
        let path = place.join(NAME).join(&self.id).join(container.file_name());
        let write = |source| RecordError::Write { path: path.clone(), source };
        let lock = make_directory(&place, &self.id).map_err(write)?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .call(|| format!("open({path:?}, O_APPEND|O_CREAT)"))
            .map_err(write)?;
        let begun = fs::stat(&file).and_then(|status| match u64::try_from(status.st_size) {
            Ok(bytes) if bytes > 0 => Ok(bytes),
            _ => append(&file, &path, &Line::Container(container)).map(|()| 0),
        });
        let before_bytes = begun.map_err(|source| {
            // This call has noted nothing yet. At worst, the empty file is left until this container's poststop.
            if std::fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
                let _ = std::fs::remove_file(&path);
            }
            write(source)
        })?;
        Ok(OpenRecord { _lock: lock, path, file, before_bytes })
    }
}

fn append(mut file: &File, path: &Path, line: &Line) -> Result<(), SysError> {
    let mut text =
        serde_json::to_vec(line).map_err(|error| SysError::Finding(format!("it can't be written as JSON: {error}")))?;
    text.push(b'\n');
    file.write_all(&text).call(|| format!("write({path:?})"))
}

/// Creates and locks the directory for the records of an ID.
fn make_directory(place: &Path, id: &str) -> Result<File, SysError> {
    /// The number of attempts. Another container's poststop may remove either directory between two system calls.
    const TRIES_MAX: u32 = 100;
    let directory = place.join(NAME).join(id);
    for _ in 0..TRIES_MAX {
        // `place` itself is not created, because nothing would remove it.
        let result = [&place.join(NAME), &directory].into_iter().try_for_each(|each| {
            match DirBuilder::new().mode(0o700).create(each) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                result => result,
            }
        });
        match result {
            Err(error) if error.kind() == ErrorKind::NotFound && place.exists() => continue,
            result => result.call(|| format!("mkdir({directory:?})"))?,
        }
        if let Locked::Yes(lock) = lock(&directory, Wait::Yes)? {
            return Ok(lock);
        }
    }
    let directory = directory.display();
    Err(SysError::Finding(format!(
        "other processes removed {directory} each of the {TRIES_MAX} times that this process created it"
    )))
}

/// Whether to wait until another process releases a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    No,
}

#[derive(Debug)]
enum Locked {
    Yes(File),
    /// The directory doesn't exist.
    Nothing,
    /// Another process holds the lock.
    Busy,
}

/// Locks the directory with the records of an ID for as long as the returned file is open.
fn lock(directory: &Path, wait: Wait) -> Result<Locked, SysError> {
    let operation = match wait {
        Wait::Yes => FlockOperation::LockExclusive,
        Wait::No => FlockOperation::NonBlockingLockExclusive,
    };
    let file = match open_directory(directory) {
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => return Ok(Locked::Nothing),
        result => result?,
    };
    time_limit::watch();
    time_limit::note(Operation::Locking, directory);
    match rustix::fs::flock(&file, operation) {
        Err(Errno::WOULDBLOCK) => return Ok(Locked::Busy),
        result => result.call(|| format!("flock({directory:?})"))?,
    }
    // The process that held the lock may have removed the directory, and another may have created a new one.
    let own = fs::stat(&file)?;
    match std::fs::symlink_metadata(directory) {
        Ok(now) if (now.dev(), now.ino()) == (own.st_dev, own.st_ino) => {
            time_limit::unlock_at_end(file.as_fd());
            Ok(Locked::Yes(file))
        }
        Err(error) if !is_missing(&error) => Err(error).call(|| format!("lstat({directory:?})")),
        _ => Ok(Locked::Nothing),
    }
}

fn open_directory(path: &Path) -> Result<File, SysError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map(File::from).call(|| format!("open({path:?})"))
}

/// Removes a directory of records if it is empty. A read-only file system is not an error, because it has no records.
fn remove_if_empty(path: PathBuf) -> Result<(), RecordError> {
    use ErrorKind::{DirectoryNotEmpty, NotADirectory, NotFound, ReadOnlyFilesystem};
    let harmless = [NotFound, NotADirectory, DirectoryNotEmpty, ReadOnlyFilesystem];
    match std::fs::remove_dir(&path) {
        Err(error) if harmless.contains(&error.kind()) => Ok(()),
        result => result.call(|| format!("rmdir({path:?})")).map_err(|source| RecordError::Remove { path, source }),
    }
}

fn remove_file(path: &Path) -> Result<(), RecordError> {
    match std::fs::remove_file(path) {
        Err(error) if is_missing(&error) => Ok(()),
        result => result
            .call(|| format!("unlink({path:?})"))
            .map_err(|source| RecordError::Remove { path: path.to_owned(), source }),
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn read(mut file: &File, from_byte: u64) -> Result<Made, SysError> {
    file.seek(SeekFrom::Start(from_byte)).call(|| "lseek()")?;
    let text = fs::read_up_to(file, LIMIT_BYTES)?;
    let text = text.ok_or_else(|| SysError::TooMuch(format!("it is larger than {LIMIT_BYTES} bytes")))?;
    Ok(Made::parse(&text))
}
