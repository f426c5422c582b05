// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that neither a failing system call nor a kill at any moment leaves a container half prepared, or anything on
//! the host after poststop. strace(1) makes each call of a run fail, one per run.

mod calls;
mod prepared;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps, XattrFlags};
use rustix::process::Signal;
use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, ID, Watch, own_cgroup_mount, with_bundle};
use crate::copy_up::node;
use crate::faults::calls::{Call, Fault, Point};
use crate::faults::prepared::{Prepared, differences, see};
use crate::harness::tree::{Snapshot, same};
use crate::hook::{Finished, How, SAYS, program};
use crate::namespace::Realm;
use crate::runtime::Container;
use crate::table;

/// The numbers of faults that were tried.
static FAILING: AtomicUsize = AtomicUsize::new(0);
static KILLS: AtomicUsize = AtomicUsize::new(0);
static OF_POSTSTOP: AtomicUsize = AtomicUsize::new(0);

/// Returns the reason if these trials can't run here.
pub fn missing() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|directory| directory.join("strace").is_file());
    (!is_there).then(|| "strace is not installed".to_owned())
}

/// Prints how many faults were tried, if any.
pub fn print_counts(realm: Realm) {
    let [failing, kills, of_poststop] = [&FAILING, &KILLS, &OF_POSTSTOP].map(|count| count.load(Ordering::Relaxed));
    if failing + kills + of_poststop > 0 {
        println!(
            "{}: faults: {failing} failing calls, {kills} kills, {of_poststop} of either in poststop",
            realm.name()
        );
    }
}

/// The way in which a container is set up and the hook is called.
#[derive(Debug, Clone, Copy)]
enum SetUp {
    CreateContainer,
    CreateRuntime,
    /// As `CreateRuntime`, for a container that needs a cgroup beside the runtime's.
    WithCgroup,
    /// A container with another command.
    LeftAlone,
}

impl SetUp {
    fn name(self) -> &'static str {
        match self {
            Self::CreateContainer => "createContainer",
            Self::CreateRuntime => "createRuntime",
            Self::WithCgroup => "createRuntime with a cgroup",
            Self::LeftAlone => "another command",
        }
    }
}

/// A container that the runtime has set up, and how the hook is called for it.
struct Stand<'a> {
    bundle: &'a mut Bundle,
    container: Option<Container>,
    cwd: PathBuf,
    log: PathBuf,
    /// The cgroup that the hook may create beside the runtime's.
    cgroup: Option<PathBuf>,
}

impl<'a> Stand<'a> {
    fn new(bundle: &'a mut Bundle, set_up: SetUp) -> Result<Self, String> {
        furnish(bundle);
        let log = bundle.elsewhere("strace").join("log");
        let mount = |bundle: &mut Bundle, cgroup| {
            bundle.start(cgroup);
            bundle.submount("run/secrets");
            bundle.submount_file("run/.containerenv");
        };
        let container = match set_up {
            SetUp::CreateContainer => {
                mount(bundle, Cgroup::Mounted);
                None
            }
            SetUp::CreateRuntime => Some(Container::start_as(bundle, |bundle| mount(bundle, Cgroup::Nowhere))?),
            SetUp::WithCgroup => {
                // The ID is unique, since others may run these tests at the same time.
                bundle.state["id"] = json!(format!("{:08x}{}", std::process::id(), &ID[8..]));
                bundle.config["hooks"] = json!({"poststop": [{"path": program()}]});
                Some(Container::start_as(bundle, |bundle| mount(bundle, Cgroup::Mounted))?)
            }
            SetUp::LeftAlone => {
                bundle.config["process"]["args"] = json!(["/usr/bin/other"]);
                mount(bundle, Cgroup::Mounted);
                None
            }
        };
        let mut cwd = bundle.root("");
        if let Some(container) = &container {
            bundle.state["pid"] = json!(container.id());
            cwd = bundle.directory();
        }
        let name = format!("oci-systemd-hook-{}", bundle.state["id"].as_str().unwrap());
        let cgroup = own_cgroup_mount().map(|(_, own)| own.join(name));
        Ok(Self { bundle, container, cwd, log, cgroup })
    }

    /// Returns the name in /proc of a process that sees the container's mounts.
    fn process(&self) -> String {
        self.container.as_ref().map_or_else(|| "thread-self".to_owned(), |container| container.id().to_string())
    }

    /// Returns what the hook may change for the container: its mounts and cgroups.
    fn surroundings(&self) -> Snapshot {
        let process = self.process();
        let mut all = table::whole_of(&process);
        let path = PathBuf::from(format!("/proc/{process}/cgroup"));
        all.insert(path.clone(), fs::read_to_string(path).unwrap());
        let own = self.bundle.cgroup.as_ref().map(|own| own.path().to_owned());
        let mut cgroups: Vec<PathBuf> = own.into_iter().collect();
        while let Some(cgroup) = cgroups.pop() {
            let entries = fs::read_dir(&cgroup).unwrap().map(|entry| entry.unwrap());
            cgroups.extend(entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()));
            all.insert(cgroup, "a cgroup of the container".to_owned());
        }
        all
    }

    fn prepared(&self) -> Prepared {
        see(self.bundle, &self.process())
    }

    fn create(&self, under: &[String]) -> Result<Finished, String> {
        self.bundle.create_as(&How { cwd: Some(self.cwd.clone()), under, ..How::default() })
    }

    /// Calls poststop with the stage as an argument. Without it only the state says that it is poststop, and reading
    /// the state may be what fails.
    fn poststop(&self, under: &[String]) -> Result<Finished, String> {
        let under = calls::alone(under);
        let how = How { cwd: Some("/".into()), word: Some("poststop"), under: &under, ..How::default() };
        let finished = self.bundle.poststop_as(&how)?;
        // strace can't kill itself with the hook's signal, since it is the first process of a PID namespace.
        Ok(match finished.code {
            Some(code) if code > 128 => Finished { code: None, signal: Some(code - 128), ..finished },
            _ => finished,
        })
    }

    /// Ends the container and removes its mounts.
    fn end(&mut self) {
        self.container = None;
        self.bundle.end();
    }
}

/// Creates files of each type to copy, removes mount points, and causes one warning.
fn furnish(bundle: &mut Bundle) {
    fs::remove_dir(bundle.image("run/lock")).unwrap();
    fs::remove_dir(bundle.image("tmp")).unwrap();
    fs::remove_file(bundle.image("etc/machine-id")).unwrap();
    fs::remove_file(bundle.image("var/lib/dbus/machine-id")).unwrap();
    fs::write(bundle.image("var/lib/dbus/machine-id"), "another\n").unwrap();
    fs::write(bundle.image("var/log/journal/kept"), "kept").unwrap();
    fs::create_dir(bundle.image("run/directory")).unwrap();
    fs::write(bundle.image("run/directory/file"), "content").unwrap();
    let attribute = rustix::fs::setxattr(bundle.image("run/directory/file"), "user.x", b"y", XattrFlags::empty());
    attribute.or_else(|error| if error == rustix::io::Errno::NOTSUP { Ok(()) } else { Err(error) }).unwrap();
    fs::hard_link(bundle.image("run/directory/file"), bundle.image("run/link")).unwrap();
    std::os::unix::fs::symlink("directory", bundle.image("run/symlink")).unwrap();
    node(&bundle.image("run/fifo"), FileType::Fifo, 0o640, 0);
    age(&bundle.image(""));
    bundle.config["annotations"] = json!({"org.opencontainers.image.stopSignal": "SIGTERM"});
}

/// Sets the same time on everything below a directory.
fn age(top: &Path) {
    let at = Timespec { tv_sec: prepared::WRITTEN, tv_nsec: 0 };
    for path in crate::harness::tree::read(top, crate::harness::tree::Detail::Copied).into_keys().rev() {
        let times = Timestamps { last_access: at, last_modification: at };
        let path = top.join(path);
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// The result of a run without a fault.
struct Model {
    calls: Vec<Call>,
    prepared: Prepared,
    stderr: String,
}

fn model(realm: Realm, set_up: SetUp) -> Result<Model, String> {
    let mut model = None;
    with_bundle(realm, |bundle| {
        let mut stand = Stand::new(bundle, set_up)?;
        let watch = stand.bundle.watch();
        let finished = stand.create(&calls::recorder(&stand.log))?;
        ensure!(finished.code == Some(0), "without a fault: {finished:?}");
        model = Some(Model { calls: calls::read(&stand.log), prepared: stand.prepared(), stderr: finished.stderr });
        stand.end();
        stand.bundle.poststop()?.silently()?;
        gone(&stand, &watch)
    })?;
    Ok(model.unwrap())
}

pub fn create_container_fails(realm: Realm) -> Check {
    fails(realm, SetUp::CreateContainer)
}

pub fn create_container_is_killed(realm: Realm) -> Check {
    is_killed(realm, SetUp::CreateContainer)
}

pub fn create_runtime_fails(realm: Realm) -> Check {
    fails(realm, SetUp::CreateRuntime)
}

pub fn create_runtime_is_killed(realm: Realm) -> Check {
    is_killed(realm, SetUp::CreateRuntime)
}

/// These trials run one after the other, since their cgroups have the same name.
pub fn with_cgroup(realm: Realm) -> Check {
    // Only the host's root can create the cgroup.
    if realm == Realm::User {
        return Ok(());
    }
    fails(realm, SetUp::WithCgroup)?;
    is_killed(realm, SetUp::WithCgroup)?;
    poststop_of(realm, SetUp::WithCgroup)
}

pub fn another_command(realm: Realm) -> Check {
    fails(realm, SetUp::LeftAlone)?;
    is_killed(realm, SetUp::LeftAlone)
}

/// Each call fails once with each of its errors.
fn fails(realm: Realm, set_up: SetUp) -> Check {
    let model = model(realm, set_up)?;
    let points = calls::failing(&model.calls)?;
    FAILING.fetch_add(points.len(), Ordering::Relaxed);
    each(realm, set_up, points, |bundle, point| fault(bundle, set_up, point, &model))
}

/// The hook is killed at each moment.
fn is_killed(realm: Realm, set_up: SetUp) -> Check {
    let model = model(realm, set_up)?;
    let points = calls::kills(&model.calls);
    KILLS.fetch_add(points.len(), Ordering::Relaxed);
    each(realm, set_up, points, |bundle, point| fault(bundle, set_up, point, &model))
}

fn each(realm: Realm, set_up: SetUp, points: Vec<Point>, check: impl Fn(&mut Bundle, &Point) -> Check + Sync) -> Check {
    crate::all(points.into_iter().map(|point| {
        let result = with_bundle(realm, |bundle| check(bundle, &point));
        (format!("{}, {}: {point}", set_up.name(), realm.name()), result)
    }))
}

/// Without the mount calls of Linux 5.2 the hook can't do anything, and a line says which kernel it needs. It
/// works without newer calls.
pub fn older_kernel(realm: Realm) -> Check {
    let calls = ["fsopen", "fsconfig", "fsmount", "open_tree", "move_mount"];
    let set_ups = [SetUp::CreateContainer, SetUp::CreateRuntime];
    let cases = calls.into_iter().flat_map(|call| set_ups.map(|set_up| (call, set_up)));
    crate::all(cases.map(|(call, set_up)| {
        let result = with_bundle(realm, |bundle| {
            let mut stand = Stand::new(bundle, set_up)?;
            let (watch, before) = (stand.bundle.watch(), stand.surroundings());
            let Finished { code, stderr, .. } = stand.create(&calls::without(call))?;
            let is_told = stderr.lines().any(|line| line.contains("ENOSYS") && line.contains("Linux 5.2 or newer"));
            ensure!(code == Some(1) && is_told, "it ended with {code:?} and said {stderr:?}");
            untouched(&stand, &watch, &before)?;
            stand.end();
            stand.bundle.poststop()?.silently()?;
            gone(&stand, &watch)
        });
        (format!("{}, {}, without {call}", set_up.name(), realm.name()), result)
    }))
}

/// Injects one fault, and then ends the container.
fn fault(bundle: &mut Bundle, set_up: SetUp, point: &Point, model: &Model) -> Check {
    let mut stand = Stand::new(bundle, set_up)?;
    let (watch, before) = (stand.bundle.watch(), stand.surroundings());
    let finished = stand.create(&point.injector(&stand.log))?;
    ensure!(has_happened(point, &stand), "the fault did not occur: {finished:?}");
    let told: Vec<&str> = finished.stderr.lines().filter(|line| !model.stderr.contains(line)).collect();
    match (point.fault, finished.code) {
        (Fault::Kill, None) => {}
        _ if may_abort(point, &finished) => {}
        // In this case the hook can't determine whether the container runs systemd.
        (Fault::Error(error), Some(0)) if told.iter().any(|line| line.contains(": skipped at ")) => {
            ensure!(told.len() == 1 && told[0].contains(error), "expected one line with {error}: {told:?}");
            untouched(&stand, &watch, &before)?;
        }
        (Fault::Error(_), Some(0)) => {
            as_told(&stand, &model.prepared, &told).map_err(|message| format!("{message}\n  it said {told:?}"))?;
        }
        (Fault::Error(error), Some(1)) => {
            let is_one = told.len() == 1 && told[0].starts_with(SAYS) && told[0].contains(error);
            ensure!(is_one, "expected one line from the hook with {error}: {told:?}");
            untouched(&stand, &watch, &before).map_err(|message| format!("{message}\n  it said {told:?}"))?;
        }
        _ => return Err(format!("unexpected outcome: {finished:?}")),
    }
    watch.host(stand.bundle)?;
    stand.end();
    stand.bundle.poststop()?.silently()?;
    gone(&stand, &watch)
}

/// Whether the fault occurred. It need not occur in a call that allocates memory: the number of these calls differs
/// from run to run, since hash tables are seeded at random.
fn has_happened(point: &Point, stand: &Stand<'_>) -> bool {
    point.happened(&stand.log) || point.call.is_of_memory()
}

/// Whether the program may have ended at once because it could not start or got no memory, which has the same
/// effect as a kill.
fn may_abort(point: &Point, finished: &Finished) -> bool {
    const STATUS_OF_LIBC: i32 = 127;
    let is_abort = finished.signal == Some(Signal::ABORT.as_raw());
    if point.call.is_early() {
        return is_abort || finished.signal == Some(Signal::SEGV.as_raw()) || finished.code == Some(STATUS_OF_LIBC);
    }
    point.call.is_of_memory() && is_abort
}

/// Checks that everything is as if the hook had not run.
fn untouched(stand: &Stand<'_>, watch: &Watch, before: &Snapshot) -> Check {
    gone(stand, watch)?;
    same("the container's mounts and cgroups", before, &stand.surroundings())
}

/// Checks that nothing is left after poststop.
fn gone(stand: &Stand<'_>, watch: &Watch) -> Check {
    watch.host(stand.bundle)?;
    watch.restored(stand.bundle)?;
    ensure!(!stand.bundle.records().exists(), "a record is left");
    ensure!(!stand.cgroup.as_ref().is_some_and(|cgroup| cgroup.exists()), "{:?} is left", stand.cgroup);
    Ok(())
}

/// Checks that the container is prepared as in other runs, or that a line mentions each difference.
fn as_told(stand: &Stand<'_>, expected: &Prepared, told: &[&str]) -> Check {
    let different = differences(expected, &stand.prepared());
    let untold: Vec<String> = different
        .into_iter()
        .filter(|(path, _)| !told.iter().any(|line| names(line, path)))
        .map(|(path, how)| format!("{} is {how}", path.display()))
        .collect();
    ensure!(untold.is_empty(), "{} differences are not reported:\n  {}", untold.len(), untold.join("\n  "));
    Ok(())
}

/// Whether a line contains a path, or one above it.
fn names(line: &str, path: &Path) -> bool {
    let words = line.split(|letter: char| letter.is_whitespace() || "\"{}():,".contains(letter));
    words.filter(|word| word.starts_with('/')).any(|word| path.starts_with(word))
}

/// If poststop fails or is killed, the runtime continues, and a second call undoes the rest.
pub fn poststop(realm: Realm) -> Check {
    poststop_of(realm, SetUp::CreateContainer)
}

fn poststop_of(realm: Realm, set_up: SetUp) -> Check {
    let mut calls = Vec::new();
    with_bundle(realm, |bundle| {
        let (stand, watch) = ended(bundle, set_up)?;
        stand.poststop(&calls::recorder(&stand.log))?.silently()?;
        calls = calls::read(&stand.log);
        gone(&stand, &watch)
    })?;
    let mut points = calls::failing(&calls)?;
    points.extend(calls::kills(&calls));
    OF_POSTSTOP.fetch_add(points.len(), Ordering::Relaxed);
    crate::all(points.into_iter().map(|point| {
        let result = with_bundle(realm, |bundle| stopped(bundle, set_up, &point));
        (format!("poststop of {}, {}: {point}", set_up.name(), realm.name()), result)
    }))
}

/// Prepares a container, and ends it.
fn ended(bundle: &mut Bundle, set_up: SetUp) -> Result<(Stand<'_>, Watch), String> {
    let mut stand = Stand::new(bundle, set_up)?;
    let watch = stand.bundle.watch();
    let finished = stand.create(&[])?;
    ensure!(finished.code == Some(0), "without a fault: {finished:?}");
    stand.end();
    Ok((stand, watch))
}

fn stopped(bundle: &mut Bundle, set_up: SetUp, point: &Point) -> Check {
    let (stand, watch) = ended(bundle, set_up)?;
    let finished = stand.poststop(&point.injector(&stand.log))?;
    ensure!(has_happened(point, &stand), "the fault did not occur: {finished:?}");
    let lines = finished.stderr.lines().count();
    match (point.fault, finished.code) {
        (Fault::Kill, None) => {}
        (Fault::Error(error), Some(0)) => {
            ensure!(lines <= 1 && finished.stderr.starts_with(if lines == 1 { SAYS } else { "" }), "{finished:?}");
            let is_told = finished.stderr.contains(error);
            // Runtimes call poststop only once, so whatever is left must be reported.
            gone(&stand, &watch).or_else(|message| if is_told { Ok(()) } else { Err(message) })?;
        }
        _ if may_abort(point, &finished) => {}
        _ => return Err(format!("unexpected outcome: {finished:?}")),
    }
    stand.bundle.poststop()?.silently()?;
    gone(&stand, &watch)
}
