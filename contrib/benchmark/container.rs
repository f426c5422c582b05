// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A container that has its mounts, but has not called `pivot_root` yet. It is created by a process in a separate
//! mount namespace, which then starts a hook there, or waits while a hook enters that namespace from outside.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, extra_mount};
use crate::cgroup;
use crate::measure::{self, Run, Subject};

/// The instructions for the process that creates the container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// The directory of the bundle.
    pub bundle: PathBuf,
    /// The container's cgroups, which are created for it.
    pub cgroups: Vec<PathBuf>,
    /// Whether the cgroups become the root of a cgroup namespace.
    pub has_cgroup_namespace: bool,
    /// The program that stands in for systemd's binary.
    pub any_elf: PathBuf,
    /// The number of additional mounts in config.json.
    pub extra_mounts: usize,
    /// The program to measure. Without one, the process waits until standard input ends.
    pub run: Option<Subject>,
}

/// The report that the process prints at its end.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    run: Option<Run>,
    has_run_tmpfs: bool,
}

/// The arguments of unshare(1) for the namespaces of config.json, without the network namespace: no hook uses it, and
/// its removal slows down what is measured next. As under a runtime, the parent of the container's first process is
/// in none of these namespaces.
const IN_OWN_NAMESPACES: [&str; 10] =
    ["--pid", "--ipc", "--uts", "--fork", "--kill-child", "unshare", "--mount", "--propagation", "private", "--"];

/// Returns the path of this program in the mount namespace of a setting.
pub fn program() -> PathBuf {
    PathBuf::from("/run/benchmark/self")
}

/// Creates a container and measures a program on it.
pub fn run(order: &Order, bundle: &Bundle, subject: &Subject) -> Run {
    for cgroup in &order.cgroups {
        fs::create_dir(cgroup).expect("cannot make the container's cgroup");
    }
    // An engine mounts the root where its runtime sees it, so that the hook finds systemd's binary at createRuntime.
    mount_on(&bundle.root(), "", "tmpfs", MountFlags::empty(), "mode=755");
    bundle.fill_root(&order.any_elf, order.extra_mounts);
    let mut process = Command::new("unshare")
        .args(IN_OWN_NAMESPACES)
        .arg(program())
        .args(["in-container", &serde_json::to_string(order).unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cannot start unshare");
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let outside = order.run.is_none().then(|| {
        let pid = lines.next().expect("no container").unwrap().parse().expect("no pid");
        let state = bundle.write_state(Some(pid));
        measure::warm_up(&order.any_elf);
        measure::run(subject, &state, &bundle.directory().join("stderr"))
    });
    drop(process.stdin.take());
    let outcome = lines.next().expect("no outcome").unwrap();
    assert!(process.wait().unwrap().success());
    unmount(bundle.root(), UnmountFlags::DETACH).expect("cannot unmount the root");
    for cgroup in &order.cgroups {
        cgroup::remove_once_empty(cgroup);
    }
    let outcome: Outcome = serde_json::from_str(&outcome).unwrap();
    let mut run = outside.or(outcome.run).expect("nothing was run");
    if run.problem.is_none() && !outcome.has_run_tmpfs {
        run.problem = Some("exited with 0 and left /run without a tmpfs".to_owned());
    }
    run
}

/// Creates the container that an order in JSON describes, and carries out the order.
#[allow(unsafe_code)]
pub fn main(order: &str) {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let order: Order = serde_json::from_str(order).unwrap();
    for cgroup in &order.cgroups {
        fs::write(cgroup.join("cgroup.procs"), "0").expect("cannot move to the cgroup");
    }
    let bundle = Bundle::open(order.bundle);
    make_mounts(&bundle, order.extra_mounts);
    if order.has_cgroup_namespace {
        // SAFETY: there are no other threads that could rely on the cgroup namespace.
        unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }.unwrap();
    }
    std::env::set_current_dir(bundle.root()).unwrap();
    let run = if let Some(subject) = order.run {
        let state = bundle.write_state(None);
        measure::warm_up(&order.any_elf);
        Some(measure::run(&subject, &state, &bundle.directory().join("stderr")))
    } else {
        // The /proc of this mount namespace is still the host's.
        say(&fs::read_link("/proc/self").unwrap().to_string_lossy());
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        None
    };
    let outcome = Outcome { run, has_run_tmpfs: device(&bundle.root().join("run")) != device(&bundle.root()) };
    say(&serde_json::to_string(&outcome).unwrap());
}

fn say(line: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").unwrap();
    stdout.flush().unwrap();
}

fn device(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().dev()
}

/// Creates the mounts of config.json, in the same order.
fn make_mounts(bundle: &Bundle, extra_mounts: usize) {
    let root = bundle.root();
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_on(&root, "proc", "proc", strict, "");
    mount_on(&root, "dev", "tmpfs", MountFlags::NOSUID, "mode=755,size=64m");
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        let path = root.join("dev").join(name);
        mknodat(CWD, path, FileType::CharacterDevice, Mode::from(0o666), makedev(1, minor)).unwrap();
    }
    for name in ["pts", "mqueue", "shm"] {
        fs::create_dir(root.join("dev").join(name)).unwrap();
    }
    mount_on(&root, "dev/pts", "devpts", MountFlags::NOSUID, "newinstance,ptmxmode=0666");
    mount_on(&root, "sys", "sysfs", strict | MountFlags::RDONLY, "");
    make_cgroup_mounts(&root.join("sys/fs/cgroup"));
    mount_on(&root, "dev/mqueue", "mqueue", strict, "");
    mount_on(&root, "dev/shm", "tmpfs", strict, "mode=1777,size=64m");
    for name in ["resolv.conf", "hostname", "hosts"] {
        let source = bundle.directory().join(name);
        fs::write(&source, "").unwrap();
        mount_bind(&source, root.join("etc").join(name)).unwrap();
    }
    let volume = root.join("srv");
    for index in 0..extra_mounts {
        mount_bind(&volume, root.join(extra_mount(index))).unwrap();
    }
}

fn mount_on(root: &Path, name: &str, kind: &str, flags: MountFlags, options: &str) {
    let options = std::ffi::CString::new(options).unwrap();
    mount("benchmark", root.join(name), kind, flags, options.as_c_str())
        .unwrap_or_else(|error| panic!("cannot mount {kind} on {name}: {error}"));
}

/// Mounts the process's own cgroups read-only: a single mount on v2, and one per hierarchy below a tmpfs on v1.
fn make_cgroup_mounts(target: &Path) {
    let host = Path::new(cgroup::ROOT);
    let read_only = MountFlags::BIND | MountFlags::RDONLY;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let hierarchies = own.lines().map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next().unwrap();
        let path = fields.next().unwrap().trim_start_matches('/');
        (controllers.trim_start_matches("name="), path)
    });
    let is_v2 = host.join("cgroup.procs").exists();
    if !is_v2 {
        mount_on(target, "", "tmpfs", MountFlags::empty(), "mode=755");
    }
    for (controllers, path) in hierarchies {
        // On v1 the line without controllers is v2's, which is not mounted.
        if controllers.is_empty() != is_v2 {
            continue;
        }
        let (source, target) = (host.join(controllers), target.join(controllers));
        if source.exists() {
            fs::create_dir_all(&target).unwrap();
            mount_bind(source.join(path), &target).unwrap();
            mount_remount(&target, read_only, "").unwrap();
        }
    }
    if !is_v2 {
        mount_remount(target, read_only, "").unwrap();
    }
}
