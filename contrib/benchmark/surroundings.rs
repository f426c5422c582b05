// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host as a hook sees it: a mount namespace with a cgroup layout, room to write, and as many
//! mounts as a setting wants.

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

/// Everything of ours is below it: a tmpfs that only our namespace sees.
pub const ROOM: &str = "/run/benchmark";
/// Runs before those that count.
const WARM_UP_ROUNDS: usize = 10;

/// The cgroup hierarchies that a hook sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// On a hybrid host, only those of v1.
    V1,
    /// Only that of v2.
    V2,
}

impl Layout {
    /// Whether engines give a container a cgroup namespace of its own by default.
    fn has_cgroup_namespace(self) -> bool {
        self == Self::V2
    }
}

/// What is measured in one namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setting {
    /// What the table calls it.
    pub name: String,
    /// The programs; the first is the measure of the others.
    pub subjects: Vec<Subject>,
    /// How cgroups are mounted.
    pub layout: Layout,
    /// The cgroups in which the container's are made.
    pub cgroups: Vec<PathBuf>,
    /// Rounds of the skip path, if it is wanted.
    pub skip_rounds: Option<usize>,
    /// Rounds of the making of a systemd container, if it is wanted.
    pub create_rounds: Option<usize>,
    /// Additional mounts in the host's table.
    pub host_mounts: usize,
    /// Additional mounts in config.json.
    pub config_mounts: usize,
}

/// One line of a table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// The program's name.
    pub name: String,
    /// Its command line.
    pub command: String,
    /// The time of each round.
    pub times: Vec<Duration>,
    /// What went wrong first.
    pub problem: Option<String>,
}

/// What a setting gave.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    /// The container that is not ours.
    pub skip: Vec<Line>,
    /// The container with systemd.
    pub create: Vec<Line>,
    /// What reading alone costs, of which a hook can't need less if it has to read it.
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

/// On a hybrid host, hides v2, which hooks of cgroup v1's time fail on.
pub fn show_cgroup_v1_only() {
    let unified = Path::new(cgroup::ROOT).join("unified");
    if unified.exists() {
        unmount(&unified, UnmountFlags::DETACH).expect("cannot unmount cgroup v2");
    }
}

/// On a hybrid host, shows v2 where a host with v2 alone has it.
fn show_cgroup_v2_only() {
    let unified = Path::new(cgroup::ROOT).join("unified");
    if unified.exists() {
        // Out of the way of the tmpfs that it lies on.
        mount_bind(&unified, "/tmp").expect("cannot bind cgroup v2");
        unmount(cgroup::ROOT, UnmountFlags::DETACH).expect("cannot unmount the hierarchies");
        mount_move("/tmp", cgroup::ROOT).expect("cannot move cgroup v2");
    }
}

/// Covers the places that hooks write to, and copies the programs where they stay in reach.
///
/// Copies on one tmpfs are equal before the page cache, too: how a file came to be in that decides
/// how many page faults starting it takes.
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

/// Hides the places that hooks and runtimes write to, and makes the room.
pub fn cover_writable_places() {
    for directory in ["/run", "/tmp", "/var/log"] {
        tmpfs(directory);
    }
    fs::create_dir(ROOM).unwrap();
}

/// Makes an executable file.
pub fn write_program(path: &Path, program: &[u8]) {
    fs::write(path, program).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn tmpfs(path: &str) {
    mount("benchmark", path, "tmpfs", MountFlags::empty(), None)
        .unwrap_or_else(|error| panic!("cannot mount tmpfs on {path}: {error}"));
}

/// Fills the host's mount table, with paths about as long as those of containers.
fn add_host_mounts(count: usize) {
    let parent = Path::new(ROOM).join("mounts/var/lib/containers/storage/overlay");
    for index in 0..count {
        let target = parent.join(format!("{index:064x}/merged"));
        fs::create_dir_all(&target).unwrap();
        mount_bind(&parent, &target).expect("cannot make the host's mounts");
    }
}

/// A container that hooks have nothing to do with.
fn skip(setting: &Setting, rounds: usize) -> Vec<Line> {
    let directory = Path::new(ROOM).join("skip");
    let bundle = Bundle::write(directory, "nginx", setting.config_mounts, setting.layout.has_cgroup_namespace());
    let state = bundle.write_state(None);
    std::env::set_current_dir(bundle.root()).unwrap();
    // The stage makes no difference yet.
    let subjects: Vec<_> = setting.subjects.iter().filter(|subject| subject.role == Role::Outside).cloned().collect();
    interleave(&subjects, rounds, |subject| measure::run(subject, &state, &Path::new(ROOM).join("stderr")))
}

/// A container of systemd, made anew for each run.
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
    // That the empty program leaves the container as it was is no problem.
    lines[0].problem = None;
    lines
}

/// Runs each program once per round, in a mixed order, so that what slows the machine slows all of them.
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
    // What ran just before bears on a program: no fixed order.
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

/// Puts indices into an order that is another each time, but the same in each benchmark.
pub fn shuffle(order: &mut [usize], random: &mut u64) {
    for last in (1..order.len()).rev() {
        // Knuth's MMIX generator, whose upper bits are good enough.
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = usize::try_from(*random >> 33).unwrap();
        order.swap(last, bits % (last + 1));
    }
}

/// What it costs to read the mount table and config.json, and nothing else.
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
