// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chooses the records that a call cleans up. At poststop these are the records of the container that the state
//! names. Each call that prepares or cleans up a container also includes the records of containers that are provably
//! gone, because an engine may never call poststop.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::container::{FirstProcess, Life, Namespaces, RecordedContainer};
use super::made::{Line, Locking, Made};
use super::{
    Locked, NAME, RecordError, Wait, append, is_missing, lock, open_directory, place, read, remove_file,
    remove_if_empty,
};
use crate::kernel::{fs_type, mountinfo};
use crate::oci::state::State;
use crate::sys::cgroup::RemovalBudget;
use crate::sys::{Context, SysError, fs, mount_table, others, process};

/// The pause between two checks of a process that is ending.
const PAUSE: Duration = Duration::from_millis(5);
/// How long to wait until the first process of a container that is being killed has ended.
const PATIENCE: Duration = Duration::from_secs(2);
/// The maximum number of records of one ID that a call cleans up.
const OF_ID_MAX: usize = 64;

/// The number of IDs for which a call checks whether their containers are gone. poststop checks more,
/// because if two containers have the same root, the poststop of the second one finds what the poststop of
/// the first one had to leave.
const IDS_MAX_AT_POSTSTOP: usize = 256;
const IDS_MAX_AT_CREATE: usize = 16;
/// How long a call cleans up for other containers. What their processes have left, such as a million cgroups, must
/// not keep this container from starting.
const SPARE_AT_POSTSTOP: Duration = Duration::from_secs(10);
const SPARE_AT_CREATE: Duration = Duration::from_secs(1);

/// An error about a container's record.
#[derive(Debug)]
pub struct RecordProblem {
    pub id: String,
    pub error: RecordError,
    /// Whether the record belongs to another container, and the next call will try again to clean it up.
    pub is_of_another_call: bool,
}

/// Cleans up the record of the container that the state names, and then, as [`sweep`]
/// does, those of other containers.
#[must_use]
pub fn clean_up(state: &State) -> Vec<RecordProblem> {
    let told = |error| RecordProblem { id: state.id.clone(), error, is_of_another_call: false };
    let place = match place() {
        Ok(place) => place.join(NAME),
        Err(error) => return vec![told(error)],
    };
    let bundle = state.bundle().ok();
    let mut all: Vec<RecordProblem> = of_id(&place.join(&state.id), bundle).into_iter().map(told).collect();
    if all.is_empty() || all.iter().all(|told| told.error.is_deferred()) {
        // Without a bundle it is unknown which container of this ID the state means.
        let but = if bundle.is_some() { None } else { Some(state.id.as_str()) };
        all.extend(sweep_below(&place, IDS_MAX_AT_POSTSTOP, SPARE_AT_POSTSTOP, but).unwrap_or_default());
    }
    all.extend(remove_if_empty(place).err().map(told));
    all
}

/// Cleans up the records of containers that are provably gone. Each call checks a limited number of records, and
/// starts at a random one.
#[must_use]
pub fn sweep() -> Vec<RecordProblem> {
    // If the directory can't be determined, the call that has something to note reports the error.
    let Ok(place) = place() else { return Vec::new() };
    let place = place.join(NAME);
    match sweep_below(&place, IDS_MAX_AT_CREATE, SPARE_AT_CREATE, None) {
        None => Vec::new(),
        Some(all) => {
            // At worst, an empty directory is left until the next call.
            let _ = remove_if_empty(place);
            all
        }
    }
}

/// The namespaces that still have processes, determined on first use.
type LiveNamespaces = OnceCell<Option<HashSet<Namespaces>>>;

/// A record that was found on disk.
struct StoredRecord {
    path: PathBuf,
    file: File,
    made: Made,
}

impl StoredRecord {
    fn life(&self) -> Life {
        self.made.container.as_ref().map_or(Life::Unknown, RecordedContainer::life)
    }

    /// Whether this process's view of the container is conclusive; see [`RecordedContainer::is_here`].
    fn is_here(&self, living: &LiveNamespaces) -> bool {
        let living = || living.get_or_init(living_namespaces).as_ref();
        self.made.container.as_ref().is_some_and(|container| container.is_here(living))
    }

    /// Whether a call for another container can clean up this record. Such a call must not wait for the file server
    /// of a root, because nothing can end a thread that waits for one. If the root isn't mounted now, it may be
    /// mounted again as long as there is a bundle.
    fn is_within_reach(&self) -> bool {
        let Some(container) = &self.made.container else { return false };
        let mut paths = self.made.roots().chain([container.bundle()]);
        if paths.any(|path| is_on_server(path).unwrap_or(true)) {
            return false;
        }
        let may_come_back = container.is_in_these_namespaces() && container.has_bundle();
        !(may_come_back && self.made.roots().any(is_unmounted))
    }

    /// Whether the record was written by a release that didn't note which container a record belongs to.
    fn is_old(&self) -> bool {
        self.path.file_name().is_some_and(|name| name == "made")
    }

    fn replay(&self, budget: &RemovalBudget) -> Vec<RecordError> {
        let mut errors = self.made.take_back(budget, Locking::Needed);
        for error in &errors {
            if let RecordError::InUse { pid, .. } = error {
                self.note_user(*pid);
            }
        }
        if !errors.iter().any(RecordError::keeps_record) {
            errors.extend(remove_file(&self.path).err());
        }
        errors
    }

    /// Notes that a process still uses what the record names, so that later calls need not examine all processes
    /// while it runs. If this fails, later calls examine all processes.
    fn note_user(&self, pid: u32) {
        /// Far below `LIMIT_BYTES`, the size up to which a record is read.
        const RECORD_BYTES_MAX: u64 = 64 * 1024;
        let has_room = self.file.metadata().is_ok_and(|file| file.len() < RECORD_BYTES_MAX);
        let user = FirstProcess::of(pid).filter(|user| has_room && self.made.used_by != Some(*user));
        let _ = user.map(|user| append(&self.file, &self.path, &Line::UsedBy(user)));
    }
}

fn of_id(directory: &Path, bundle: Option<&Path>) -> Vec<RecordError> {
    let read_error = |source| RecordError::Read { path: directory.to_owned(), source };
    let lock = match lock(directory, Wait::Yes) {
        Ok(Locked::Yes(lock)) => lock,
        Ok(Locked::Nothing | Locked::Busy) => return Vec::new(),
        Err(source) => return vec![read_error(source)],
    };
    let is_of = |record: &StoredRecord| {
        let is_of = |bundle| record.made.container.as_ref().is_some_and(|container| container.is_of(bundle));
        record.is_old() || bundle.is_none_or(is_of)
    };
    let (found, mut errors) = match records(&lock, directory, is_of) {
        Ok(all) => all,
        Err(source) => return vec![read_error(source)],
    };
    match bundle {
        Some(_) => errors.extend(of_bundle(&found)),
        None => errors.extend(of_any_bundle(&found, directory)),
    }
    if errors.is_empty() {
        errors.extend(remove_if_empty(directory.to_owned()).err());
    }
    errors
}

/// Returns the records in the directory of an ID that are `wanted`, and the errors for those that can't be read.
/// Removes empty records, which a killed hook leaves behind.
fn records(
    lock: &File,
    directory: &Path,
    wanted: impl Fn(&StoredRecord) -> bool,
) -> Result<(Vec<StoredRecord>, Vec<RecordError>), SysError> {
    let (mut found, mut errors, mut names) = (Vec::new(), Vec::new(), fs::Names::default());
    while found.len() + errors.len() < OF_ID_MAX {
        let Some(name) = names.next(lock.as_fd())? else { break };
        let path = directory.join(name);
        match open(&path) {
            Ok(Some((file, made))) => {
                let record = StoredRecord { path, file, made };
                if record.made.container.is_none() && !record.is_old() {
                    errors.extend(remove_file(&record.path).err());
                } else if wanted(&record) {
                    found.push(record);
                }
            }
            Ok(None) => {}
            Err(source) => errors.push(RecordError::Read { path, source }),
        }
    }
    Ok((found, errors))
}

fn open(path: &Path) -> Result<Option<(File, Made)>, SysError> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.read(true).append(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.open(path) {
        Err(error) if is_missing(&error) => return Ok(None),
        result => result.call(|| format!("open({path:?})"))?,
    };
    let made = read(&file, 0)?;
    Ok(Some((file, made)))
}

/// Cleans up the records of a bundle's containers whose first process has ended. Another container with the
/// same ID may still be running in the same bundle. If all of them are running, waits a moment for a
/// process that is being killed.
fn of_bundle(these: &[StoredRecord]) -> Vec<RecordError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let is_alive = |record: &StoredRecord| matches!(record.life(), Life::Alive(_));
        let ended: Vec<&StoredRecord> = these.iter().filter(|record| !is_alive(record)).collect();
        if !ended.is_empty() {
            return ended.into_iter().flat_map(|record| record.replay(&RemovalBudget::FULL)).collect();
        }
        match these.first().map(StoredRecord::life) {
            Some(Life::Alive(_)) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Some(Life::Alive(pid)) => return vec![RecordError::Alive { pid }],
            Some(Life::Gone | Life::Unknown) => {}
            None => return Vec::new(),
        }
    }
}

/// Cleans up the only record of an ID, if its container is gone.
fn of_any_bundle(found: &[StoredRecord], directory: &Path) -> Vec<RecordError> {
    match found {
        [] => Vec::new(),
        [record] if record.is_old() => record.replay(&RemovalBudget::FULL),
        [record] => match record.life() {
            Life::Gone if record.is_here(&LiveNamespaces::new()) => record.replay(&RemovalBudget::FULL),
            Life::Gone => vec![RecordError::Elsewhere],
            Life::Alive(pid) => vec![RecordError::Alive { pid }],
            Life::Unknown => {
                let bundle = record.made.container.as_ref().map(|container| container.bundle().to_owned());
                vec![RecordError::Unproven { bundle: bundle.unwrap_or_default() }]
            }
        },
        several => vec![RecordError::Ambiguous { count: several.len(), path: directory.to_owned() }],
    }
}

/// Cleans up the records of containers that are gone, except for those of the ID `but`. Checks at most `most` IDs,
/// and takes no longer than `spare`. Returns `None` if there are no records at all.
fn sweep_below(place: &Path, most: usize, spare: Duration, but: Option<&str>) -> Option<Vec<RecordProblem>> {
    /// The maximum number of IDs whose names are read.
    const NAMES_MAX: usize = 4096;
    // Without a directory there are no records, and the call that has something to note reports other errors.
    let names = open_directory(place).and_then(|directory| names(&directory, NAMES_MAX)).ok()?;
    let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos() as usize);
    let start = start.checked_rem(names.len()).unwrap_or_default();
    let mut told = Vec::new();
    let (budget, living) = (RemovalBudget::spare(Instant::now() + spare), LiveNamespaces::new());
    for name in names.iter().cycle().skip(start).take(names.len().min(most)) {
        if but.is_some_and(|but| name == but) {
            continue;
        }
        let id = name.to_string_lossy().into_owned();
        if budget.is_over() {
            break;
        }
        let errors = sweep_id(&place.join(name), &budget, &living);
        told.extend(errors.into_iter().map(|error| {
            let is_of_another_call = error.keeps_record();
            RecordProblem { id: id.clone(), error, is_of_another_call }
        }));
    }
    Some(told)
}

fn sweep_id(directory: &Path, budget: &RemovalBudget, living: &LiveNamespaces) -> Vec<RecordError> {
    // The process that holds the lock is working on these records.
    let Ok(Locked::Yes(lock)) = lock(directory, Wait::No) else { return Vec::new() };
    // A record that can't be read is reported at its own container's poststop.
    let is_used = |record: &StoredRecord| record.made.used_by.is_some_and(|user| user.life() != Life::Gone);
    let is_of_dead = |record: &StoredRecord| {
        !budget.is_over()
            && record.life() == Life::Gone
            && !is_used(record)
            && record.is_here(living)
            && record.is_within_reach()
    };
    let Ok((of_the_dead, _)) = records(&lock, directory, is_of_dead) else { return Vec::new() };
    let errors: Vec<_> = of_the_dead.iter().flat_map(|record| record.replay(budget)).collect();
    // At worst, an empty directory is left until the next call.
    let _ = remove_if_empty(directory.to_owned());
    errors
}

/// Whether a root isn't mounted: its mount point is empty or gone.
fn is_unmounted(root: &Path) -> bool {
    std::fs::read_dir(root).is_ok_and(|mut names| names.next().is_none()) || !root.exists()
}

/// Whether access to a path of the host involves a file server.
fn is_on_server(path: &Path) -> Result<bool, SysError> {
    let table = mount_table::read(mount_table::OWN, |entry| path.starts_with(entry.mount_point()))?;
    let mut holder = (PathBuf::new(), false);
    for entry in mountinfo::entries(&table) {
        let (at, is_server) = (entry.mount_point(), fs_type::needs_server(&entry.fs_type()));
        if at.as_os_str().len() > holder.0.as_os_str().len() {
            holder = (at, is_server);
        } else if at == holder.0 {
            // It isn't worth finding out which of these mounts is on top.
            holder.1 |= is_server;
        }
    }
    Ok(holder.1)
}

/// Returns the namespaces of all processes, or `None` if they can't be determined or this process isn't permitted to
/// see those of other engines.
fn living_namespaces() -> Option<HashSet<Namespaces>> {
    if !process::sees_all() {
        return None;
    }
    let pids = others::pids().ok()?;
    Some(pids.into_iter().filter_map(|pid| Namespaces::of(&others::living_task(pid))).collect())
}

/// Returns the names in a directory, but at most `most` of them.
fn names(directory: &File, most: usize) -> Result<Vec<OsString>, SysError> {
    let (mut names, mut all) = (fs::Names::default(), Vec::new());
    while all.len() < most {
        let Some(name) = names.next(directory.as_fd())? else { break };
        all.push(name);
    }
    Ok(all)
}
