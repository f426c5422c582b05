// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the hook made that outlives the container's mounts: written down before it is made, and the
//! only thing that poststop works from, since then neither annotations nor the root may be there.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, FlockOperation};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::kernel::cgroup::Hierarchy;
use crate::kernel::id_map;
use crate::path::InnerPath;
use crate::plan::{Cgroup, Node};
use crate::root::Root;
use crate::sys::{self, Context, SysError, fs};

const NAME: &str = "oci-systemd-hook";
const FILE: &str = "made";
/// A record has a line for each of at most four mount points, and four for cgroups, with two paths of at most
/// 4096 bytes, and a byte takes at most four.
const LIMIT_BYTES: u64 = 256 * 1024;

/// Why a record can't be written or worked off.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Whose it is can't be told.
    #[error("cannot find the place of the container's record")]
    Place(#[source] SysError),
    /// No place for it.
    #[error("cannot write the record {}: without it nothing is made that poststop would have to take back", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: SysError,
    },
    /// It can't be read.
    #[error("cannot read the record {}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: SysError,
    },
    /// Something in it can't be taken back.
    #[error("cannot remove {at} from the root {}", root.display())]
    TakeBack {
        /// Which root.
        root: PathBuf,
        /// What.
        at: String,
        /// Why.
        source: SysError,
    },
    /// Processes are in it, or are just ending.
    #[error("cannot remove the cgroup {cgroup}")]
    Cgroup {
        /// Which.
        cgroup: Cgroup,
        /// Why.
        source: SysError,
    },
    /// The record itself stays.
    #[error("cannot remove the record {}", path.display())]
    Remove {
        /// Where.
        path: PathBuf,
        /// Why.
        source: SysError,
    },
}

/// One thing that was made, as a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Made {
    MountPoint(MountPoint),
    /// With all that is below it.
    Cgroup {
        hierarchy: Hierarchy,
        /// From the root of the runtime's cgroup namespace, which is that of poststop, too.
        path: OsString,
        /// None: it is just being made.
        inode: Option<u64>,
    },
}

/// An empty file or directory in an image's root.
#[derive(Debug, Serialize, Deserialize)]
struct MountPoint {
    root: OsString,
    // The root directory itself: the same path may be another file system by then.
    device: u64,
    inode: u64,
    // Of bytes: an image's names need not be text.
    at: OsString,
    is_directory: bool,
    // How many directories above it were missing too, and were made.
    above: usize,
}

/// The record of one container. Nothing is written until something lasting is to be made.
#[derive(Debug, Clone)]
pub struct Record {
    id: String,
}

/// Where records are: in the runtime directory of the user on whose behalf the engine runs. Not
/// where the environment says, since that may be the container's.
fn place() -> Result<PathBuf, RecordError> {
    let map = match fs::read_host_text("/proc/self/uid_map") {
        // A kernel without user namespaces.
        Err(error) if error.errno() == Errno::NOENT => id_map::WHOLE.to_owned(),
        result => result.map_err(RecordError::Place)?,
    };
    Ok(match (id_map::is_identity(&map), id_map::parent_of_root(&map)) {
        (true, _) if rustix::process::geteuid().is_root() => PathBuf::from("/run"),
        (true, _) => PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw())),
        (false, root) => PathBuf::from(format!("/run/user/{}", root.unwrap_or_default())),
    })
}

impl Record {
    /// The record of the container `id`, which may have none.
    #[must_use]
    pub fn of(id: &str) -> Self {
        Self { id: id.to_owned() }
    }

    /// Writes down that a cgroup will be made, and then which it is.
    pub fn note_cgroup(&self, cgroup: &Cgroup, inode: Option<u64>) -> Result<(), RecordError> {
        let path = cgroup.path.as_path().as_os_str().to_owned();
        self.note(&Made::Cgroup { hierarchy: cgroup.hierarchy, path, inode })
    }

    /// How much is written down.
    pub fn length_bytes(&self) -> Result<u64, RecordError> {
        let path = place()?.join(NAME).join(&self.id).join(FILE);
        match std::fs::metadata(&path) {
            Err(error) if is_missing(&error) => Ok(0),
            result => match result.call(|| format!("stat({path:?})")) {
                Ok(file) => Ok(file.len()),
                Err(source) => Err(RecordError::Read { path, source }),
            },
        }
    }

    /// Writes down that `at` will be made in `root`.
    pub fn note_mount_point(&self, root: &Root, at: &InnerPath, node: Node) -> Result<(), RecordError> {
        let stat =
            fs::stat(root.directory()).map_err(|source| RecordError::Write { path: root.path().to_owned(), source })?;
        self.note(&Made::MountPoint(MountPoint {
            root: root.path().as_os_str().to_owned(),
            device: stat.st_dev,
            inode: stat.st_ino,
            at: at.as_path().as_os_str().to_owned(),
            is_directory: node == Node::Dir,
            above: std::iter::successors(at.parent(), InnerPath::parent)
                .take_while(|above| root.place(above).is_err_and(|error| error.errno() == Errno::NOENT))
                .count(),
        }))
    }

    fn note(&self, made: &Made) -> Result<(), RecordError> {
        let place = place()?;
        append(&place, &self.id, made)
            .map_err(|source| RecordError::Write { path: place.join(NAME).join(&self.id), source })
    }

    /// Takes back what was made, the last thing first, and then the record. Goes on after an error
    /// and returns them all; what is gone already is no error.
    #[must_use]
    pub fn take_back(&self) -> Vec<RecordError> {
        self.take_back_from(0)
    }

    /// The same for what was written down from that byte on.
    #[must_use]
    pub fn take_back_from(&self, from_byte: u64) -> Vec<RecordError> {
        let place = match place() {
            Ok(place) => place,
            Err(error) => return vec![error],
        };
        let directory = place.join(NAME).join(&self.id);
        let mut errors = work_off(&directory, from_byte);
        if errors.is_empty() {
            errors.extend(remove_if_empty(place.join(NAME)).err());
        }
        errors
    }
}

/// Removes the directory of all records, unless another container's is in it. Where nothing can be written there is none.
fn remove_if_empty(path: PathBuf) -> Result<(), RecordError> {
    use ErrorKind::{DirectoryNotEmpty, NotADirectory, NotFound, ReadOnlyFilesystem};
    let harmless = [NotFound, NotADirectory, DirectoryNotEmpty, ReadOnlyFilesystem];
    match std::fs::remove_dir(&path) {
        Err(error) if harmless.contains(&error.kind()) => Ok(()),
        result => result.call(|| format!("rmdir({path:?})")).map_err(|source| RecordError::Remove { path, source }),
    }
}

fn work_off(directory: &Path, from_byte: u64) -> Vec<RecordError> {
    let path = directory.join(FILE);
    let file = match open_locked(&path) {
        Ok(Some(file)) => file,
        Ok(None) => {
            // A record that was to be written and wasn't.
            let _ = std::fs::remove_dir(directory);
            return Vec::new();
        }
        Err(source) => return vec![RecordError::Read { path, source }],
    };
    let made = match read(&file, from_byte) {
        Ok(made) => made,
        Err(source) => return vec![RecordError::Read { path, source }],
    };
    let mut errors: Vec<_> = made.iter().rev().filter_map(|made| take_back(made).err()).collect();
    if errors.is_empty() && from_byte == 0 {
        errors.extend(remove(directory).err());
    } else if errors.is_empty() {
        let result = file.set_len(from_byte).call(|| format!("ftruncate({path:?}, {from_byte})"));
        errors.extend(result.err().map(|source| RecordError::Remove { path, source }));
    }
    errors
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Opens a record for as long as the file is open: a new container of this name waits until the old one's is
/// worked off, since runtimes free a name before poststop.
fn open_locked(path: &Path) -> Result<Option<File>, SysError> {
    let file = match OpenOptions::new().read(true).append(true).open(path) {
        Err(error) if is_missing(&error) => return Ok(None),
        result => result.call(|| format!("open({path:?})"))?,
    };
    rustix::fs::flock(&file, FlockOperation::LockExclusive).call(|| format!("flock({path:?})"))?;
    // Whoever had it may have removed it.
    Ok((fs::stat(&file)?.st_nlink > 0).then_some(file))
}

fn append(place: &Path, id: &str, made: &Made) -> Result<(), SysError> {
    let mut line = serde_json::to_vec(made).map_err(|_| SysError::new("write()", Errno::ILSEQ))?;
    line.push(b'\n');
    let directory = place.join(NAME).join(id);
    let path = directory.join(FILE);
    // The directory above may be removed by another container's poststop between two calls.
    for _ in 0..100 {
        // The place itself isn't ours to make: nobody would take it back.
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
        match OpenOptions::new().append(true).create(true).mode(0o600).open(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).call(|| format!("open({path:?}, O_APPEND|O_CREAT)")),
        }
        if let Some(mut file) = open_locked(&path)? {
            return file.write_all(&line).call(|| format!("write({path:?})"));
        }
    }
    Err(SysError::new(format!("open({path:?})"), Errno::NOENT))
}

fn read(mut file: &File, from_byte: u64) -> Result<Vec<Made>, SysError> {
    file.seek(SeekFrom::Start(from_byte)).call(|| "lseek()")?;
    let text = fs::read_up_to(file, LIMIT_BYTES)?.ok_or_else(|| SysError::new("read()", Errno::FBIG))?;
    // A line that a kill cut short is of a thing that wasn't made.
    Ok(text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

fn take_back(made: &Made) -> Result<(), RecordError> {
    match made {
        Made::MountPoint(made) => remove_mount_point(made),
        Made::Cgroup { hierarchy, path, inode } => {
            let cgroup = Cgroup { hierarchy: *hierarchy, path: InnerPath::new(path), inode: *inode };
            sys::cgroup::remove(*hierarchy, &cgroup.path, *inode)
                .map_err(|source| RecordError::Cgroup { cgroup, source })
        }
    }
}

/// Removes one thing and what was made above it, if it is still what was made: empty, and in the same root.
fn remove_mount_point(made: &MountPoint) -> Result<(), RecordError> {
    let at = InnerPath::new(&made.at);
    let error = |source| RecordError::TakeBack { root: PathBuf::from(&made.root), at: at.to_string(), source };
    let root = match Root::open(Path::new(&made.root)) {
        Err(failed) if is_gone(&failed) => return Ok(()),
        result => result.map_err(error)?,
    };
    let stat = fs::stat(root.directory()).map_err(error)?;
    if (stat.st_dev, stat.st_ino) != (made.device, made.inode) {
        return Ok(());
    }
    remove_empty(&root, &at, made.is_directory).map_err(error)?;
    let above = std::iter::successors(at.parent(), InnerPath::parent).take(made.above);
    above.into_iter().try_for_each(|directory| remove_empty(&root, &directory, true)).map_err(error)
}

/// Whether the path leads to nothing, or by what became a link, or to a server that is no more. Any other error says
/// nothing of what is there.
fn is_gone(error: &SysError) -> bool {
    let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::XDEV, Errno::NOTCONN, Errno::STALE];
    gone.contains(&error.errno())
}

fn remove_empty(root: &Root, at: &InnerPath, is_directory: bool) -> Result<(), SysError> {
    let found = root.parent(at).and_then(|(directory, name)| {
        let found = fs::stat_at(directory.as_fd(), &name)?;
        Ok((directory, name, found))
    });
    let (directory, name, found) = match found {
        Err(failed) if is_gone(&failed) => return Ok(()),
        result => result?,
    };
    let kind = fs::kind(&found);
    let is_ours = match kind {
        FileType::Directory => is_directory,
        FileType::RegularFile => !is_directory && found.st_size == 0,
        _ => false,
    };
    if !is_ours {
        return Ok(());
    }
    match fs::unlink_at(directory.as_fd(), &name, kind) {
        Err(failed) if is_others_by_now(failed.errno()) => Ok(()),
        result => result,
    }
}

/// It is gone, has something in it, or is of another kind.
fn is_others_by_now(failed: Errno) -> bool {
    matches!(failed, Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR)
}

fn remove(directory: &Path) -> Result<(), RecordError> {
    let path = directory.join(FILE);
    for result in [std::fs::remove_file(&path), std::fs::remove_dir(directory)] {
        match result.call(|| format!("remove({directory:?})")) {
            Err(source) if source.errno() != Errno::NOENT => {
                return Err(RecordError::Remove { path: directory.to_owned(), source });
            }
            _ => {}
        }
    }
    Ok(())
}
