// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host as a hook sees it: a mount namespace with a cgroup layout, writable directories, and as many
//! mounts as a setting requires.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_move, unmount};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, ID};
use crate::cgroup;
use crate::container::{self, Order};
use crate::measure::{self, Role, Run, Subject};

/// The directory for all files of the benchmark: a tmpfs that only this mount namespace sees.
pub const ROOM: &str = "/run/benchmark";
/// The number of rounds before those that are counted.
const WARM_UP_ROUNDS: usize = 10;

/// The cgroup hierarchies that a hook sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Only the hierarchies of v1, which is mounted on a hybrid host.
    V1,
    /// Only the hierarchy of v2.
    V2,
}

impl Layout {
    /// Whether engines create a cgroup namespace for a container by default.
    fn has_cgroup_namespace(self) -> bool {
        self == Self::V2
    }
}

/// What is measured in one mount namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setting {
    /// The setting's name in the tables.
    pub name: String,
    /// The programs to compare. The first is the reference for the others.
    pub subjects: Vec<Subject>,
    /// The cgroup hierarchies that are mounted.
    pub layout: Layout,
    /// The parents of the container's cgroups.
    pub cgroups: Vec<PathBuf>,
    /// The number of rounds on the skip path, if that is measured.
    pub skip_rounds: Option<usize>,
    /// The number of rounds that create a systemd container, if that is measured.
    pub create_rounds: Option<usize>,
    /// The number of additional mounts in the host's mount table.
    pub host_mounts: usize,
    /// The number of additional mounts in config.json.
    pub config_mounts: usize,
}

/// One line of a table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    pub name: String,
    pub command: String,
    /// The time of each round.
    pub times: Vec<Duration>,
    /// The first problem, or `None` if the measurement is valid.
    pub problem: Option<String>,
}

/// The results of a setting.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    /// The results for the container that the hook skips.
    pub skip: Vec<Line>,
    /// The results for the container with systemd.
    pub create: Vec<Line>,
    /// The cost of reading alone, which is the minimum for a hook that has to read the files.
    pub reading: Vec<Line>,
}

/// Measures one setting, given as JSON, and prints the results as JSON.
pub fn main(setting: &str) {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let mut setting: Setting = serde_json::from_str(setting).unwrap();
    match setting.layout {
        Layout::V1 => show_cgroup_v1_only(),
        Layout::V2 => show_cgroup_v2_only(),
    }
    make_room(&mut setting.subjects);
    add_host_mounts(setting.host_mounts);
    let results = Results {
        skip: setting.skip_rounds.map_or_else(Vec::new, |rounds| skip(&setting, rounds)),
        create: setting.create_rounds.map_or_else(Vec::new, |rounds| create(&setting, rounds)),
        reading: reading(&setting),
    };
    println!("{}", serde_json::to_string(&results).unwrap());
}

/// Hides v2 on a hybrid host, because hooks from the time of cgroup v1 fail on it.
pub fn show_cgroup_v1_only() {
    let unified = Path::new(cgroup::ROOT).join("unified");
    if unified.exists() {
        unmount(&unified, UnmountFlags::DETACH).expect("cannot unmount cgroup v2");
    }
}

/// Shows v2 on a hybrid host at the path where a host with only v2 has it.
fn show_cgroup_v2_only() {
    let unified = Path::new(cgroup::ROOT).join("unified");
    if unified.exists() {
        // v2 is mounted on the tmpfs that is about to be unmounted.
        mount_bind(&unified, "/tmp").expect("cannot bind cgroup v2");
        unmount(cgroup::ROOT, UnmountFlags::DETACH).expect("cannot unmount the hierarchies");
        mount_move("/tmp", cgroup::ROOT).expect("cannot move cgroup v2");
    }
}

/// Covers the directories that hooks write to, and copies the programs to where they stay accessible.
///
/// Copies on one tmpfs are also equal with regard to the page cache: how a file got there determines the number of
/// page faults when it is started.
fn make_room(subjects: &mut [Subject]) {
    let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let this = read(Path::new("/proc/self/exe"));
    let programs: Vec<_> = subjects.iter().map(|subject| read(&subject.program)).collect();
    cover_writable_places();
    let room = Path::new(ROOM);
    write_program(&container::program(), &this);
    for (subject, program) in subjects.iter_mut().zip(programs) {
        subject.program = room.join(subject.name.replace(' ', "-"));
        write_program(&subject.program, &program);
    }
}

/// Hides the directories that hooks and runtimes write to, and creates [`ROOM`].
pub fn cover_writable_places() {
    for directory in ["/run", "/tmp", "/var/log"] {
        tmpfs(directory);
    }
    fs::create_dir(ROOM).unwrap();
}

/// Writes an executable file.
pub fn write_program(path: &Path, program: &[u8]) {
    fs::write(path, program).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn tmpfs(path: &str) {
    mount("benchmark", path, "tmpfs", MountFlags::empty(), None)
        .unwrap_or_else(|error| panic!("cannot mount tmpfs on {path}: {error}"));
}

/// Fills the host's mount table with paths that are about as long as those of containers.
fn add_host_mounts(count: usize) {
    let parent = Path::new(ROOM).join("mounts/var/lib/containers/storage/overlay");
    for index in 0..count {
        let target = parent.join(format!("{index:064x}/merged"));
        fs::create_dir_all(&target).unwrap();
        mount_bind(&parent, &target).expect("cannot make the host's mounts");
    }
}

/// Measures the programs with a container that hooks skip.
fn skip(setting: &Setting, rounds: usize) -> Vec<Line> {
    let directory = Path::new(ROOM).join("skip");
    let bundle = Bundle::write(directory, "nginx", setting.config_mounts, setting.layout.has_cgroup_namespace());
    let state = bundle.write_state(None);
    std::env::set_current_dir(bundle.root()).unwrap();
    // The stage makes no difference on the skip path.
    let subjects: Vec<_> = setting.subjects.iter().filter(|subject| subject.role == Role::Outside).cloned().collect();
    interleave(&subjects, rounds, |subject| measure::run(subject, &state, &Path::new(ROOM).join("stderr")))
}

/// Measures the programs with a systemd container, which is created anew for each run.
fn create(setting: &Setting, rounds: usize) -> Vec<Line> {
    let directory = Path::new(ROOM).join("create");
    let bundle = Bundle::write(directory, "/sbin/init", setting.config_mounts, setting.layout.has_cgroup_namespace());
    std::env::set_current_dir(bundle.directory()).unwrap();
    let any_elf = setting.subjects[0].program.clone();
    let mut lines = interleave(&setting.subjects, rounds, |subject| {
        let order = Order {
            bundle: bundle.directory().to_owned(),
            cgroups: setting.cgroups.iter().map(|above| above.join(ID)).collect(),
            has_cgroup_namespace: setting.layout.has_cgroup_namespace(),
            any_elf: any_elf.clone(),
            extra_mounts: setting.config_mounts,
            run: (subject.role == Role::Inside).then(|| subject.clone()),
        };
        container::run(&order, &bundle, subject)
    });
    // The empty program leaves the container unmodified, which isn't a problem.
    lines[0].problem = None;
    lines
}

/// Runs each program once per round, in shuffled order, so that anything that slows down the
/// machine affects all of them.
pub fn interleave(subjects: &[Subject], rounds: usize, run: impl Fn(&Subject) -> Run) -> Vec<Line> {
    let mut lines: Vec<Line> = subjects
        .iter()
        .map(|subject| Line {
            name: subject.name.clone(),
            command: subject.command.clone(),
            times: Vec::with_capacity(rounds),
            problem: None,
        })
        .collect();
    // The order varies, because a program is affected by what ran just before it.
    let mut order: Vec<usize> = (0..lines.len()).collect();
    let mut random = 1;
    for round in 0..WARM_UP_ROUNDS + rounds {
        shuffle(&mut order, &mut random);
        for &index in &order {
            let run = run(&subjects[index]);
            let line = &mut lines[index];
            line.problem = line.problem.take().or(run.problem);
            if round >= WARM_UP_ROUNDS {
                line.times.push(run.time);
            }
        }
    }
    lines
}

/// Shuffles indices. The order is different each time, but the same in each run of the benchmark.
pub fn shuffle(order: &mut [usize], random: &mut u64) {
    for last in (1..order.len()).rev() {
        // Knuth's MMIX generator, whose upper bits are good enough.
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = usize::try_from(*random >> 33).unwrap();
        order.swap(last, bits % (last + 1));
    }
}

/// Measures how long it takes to read the mount table and config.json, and nothing else.
fn reading(setting: &Setting) -> Vec<Line> {
    let directory = Path::new(ROOM).join("read");
    let bundle = Bundle::write(directory, "nginx", setting.config_mounts, setting.layout.has_cgroup_namespace());
    let kibibytes = |path: &Path| format!("{} KiB", fs::read(path).unwrap().len().div_ceil(1024));
    let mountinfo = Path::new("/proc/self/mountinfo");
    vec![
        time_reading("reading mountinfo", &kibibytes(mountinfo), || {
            fs::read(mountinfo).unwrap();
        }),
        time_reading("parsing config.json", &kibibytes(&bundle.config()), || {
            let text = fs::read(bundle.config()).unwrap();
            serde_json::from_slice::<serde::de::IgnoredAny>(&text).unwrap();
        }),
    ]
}

fn time_reading(name: &str, command: &str, read: impl Fn()) -> Line {
    let times = (0..50).map(|_| {
        let start = Instant::now();
        read();
        start.elapsed()
    });
    Line { name: name.to_owned(), command: command.to_owned(), times: times.collect(), problem: None }
}
