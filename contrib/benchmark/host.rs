// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A host with one cgroup layout that boots containers: a process in separate namespaces. It is the first process of
//! a PID namespace, so that the kernel ends all containers and runtimes with it, no matter how it ends.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Lines, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, unmount};
use rustix::process::{WaitOptions, wait};
use serde::{Deserialize, Serialize};

use crate::boot::{Boot, CELLS, Cell, Layout};
use crate::bundle::{Bundle, ID};
use crate::cgroup;
use crate::measure::Subject;
use crate::surroundings::{ROOM, cover_writable_places, show_cgroup_v1_only, write_program};

/// How long a program or a boot may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The configuration of a host.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// The cgroup layout of the host.
    pub layout: Layout,
    /// The directory that contains the images.
    pub roots: PathBuf,
    pub hook: Subject,
    /// The cgroups that the runtime is in.
    pub runtime_cgroups: Vec<PathBuf>,
    /// The name of the container's parent cgroup, in each hierarchy.
    pub parent_cgroup: String,
}

/// The benchmark's handle to the process of a host.
#[derive(Debug)]
pub struct Host {
    process: Child,
    orders: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Host {
    /// Starts the process in new namespaces.
    pub fn start(order: &Order) -> Self {
        let mut process = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .arg(std::env::current_exe().expect("where is this program?"))
            .args(["in-host", &serde_json::to_string(order).expect("an order is serialisable")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cannot start unshare");
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, orders, answers }
    }

    /// Boots a cell, which is given by its index in [`CELLS`], and removes the container.
    pub fn boot(&mut self, index: usize) -> Result<Boot, String> {
        let mut orders = self.orders.as_ref().expect("it is there until the end");
        writeln!(orders, "{index}").map_err(|error| format!("the host takes no orders: {error}"))?;
        let answer = self.answers.next().ok_or("the host has ended")?.map_err(|error| error.to_string())?;
        serde_json::from_str::<Result<Boot, String>>(&answer).map_err(|error| error.to_string())?
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.orders.take());
        // At worst, the process has already ended.
        let _ = self.process.wait();
    }
}

/// Runs in the host's process. Boots the cells whose indices it reads from standard input, and exits
/// as soon as that ends.
pub fn main(order: &str) {
    let mut order: Order = serde_json::from_str(order).unwrap();
    let (sender, indices) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lines() {
            sender.send(line.unwrap().parse::<usize>().expect("a number")).unwrap();
        }
        // Exits immediately, even if a container hangs.
        std::process::exit(0);
    });
    for cgroup in &order.runtime_cgroups {
        fs::write(cgroup.join("cgroup.procs"), "0").expect("cannot move to the cgroup");
    }
    let hook = fs::read(&order.hook.program).expect("cannot read the hook");
    // Because image paths are relative to this directory, images below /tmp are also found after /tmp is covered.
    std::env::set_current_dir(&order.roots).expect("cannot go to the images");
    cover_writable_places();
    order.hook.program = Path::new(ROOM).join("hook");
    write_program(&order.hook.program, &hook);
    make_layout(order.layout);
    for index in indices {
        let answer = boot(&order, &CELLS[index]);
        println!("{}", serde_json::to_string(&answer).unwrap());
    }
}

/// Turns the layout of a hybrid host into this one.
fn make_layout(layout: Layout) {
    match layout {
        Layout::Hybrid => {}
        Layout::Legacy => show_cgroup_v1_only(),
        Layout::Unified => {
            // The existing mount is moved, because the options of a new one would apply to all mounts of v2.
            let place = Path::new(ROOM).join("unified");
            fs::create_dir(&place).unwrap();
            mount_move(Path::new(cgroup::ROOT).join("unified"), &place).expect("cannot move cgroup v2");
            unmount(cgroup::ROOT, UnmountFlags::DETACH).expect("cannot unmount cgroup v1");
            mount_move(&place, cgroup::ROOT).expect("cannot move cgroup v2");
        }
    }
}

/// Boots one container, and removes it whether or not that succeeds.
fn boot(order: &Order, cell: &Cell) -> Result<Boot, String> {
    let directory = Path::new(ROOM).join("boot");
    let mut hook = vec![order.hook.program.to_str().expect("a path of ours")];
    hook.extend(order.hook.arguments.iter().map(String::as_str));
    let cgroup = format!("/{}/{ID}", order.parent_cgroup);
    let layout = cell.is_forced.then(|| cell.inside.word());
    let bundle = Bundle::write_bootable(directory.clone(), &hook, &cgroup, layout);
    mount_image(cell.image, &bundle);
    let result = run(cell, &bundle);
    let deleted = output(&mut runc(&["delete", "--force", ID]));
    // The containers' processes become children of this process, the first one of the PID namespace.
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    let boot = result?;
    deleted?;
    unmount(bundle.root(), UnmountFlags::empty()).map_err(|error| format!("cannot unmount the root: {error}"))?;
    fs::remove_dir_all(&directory).map_err(|error| format!("cannot remove the bundle: {error}"))?;
    Ok(boot)
}

/// Mounts an image as the container's root. What the container writes stays in memory.
fn mount_image(image: &str, bundle: &Bundle) {
    let upper = bundle.directory().join("upper");
    let work = bundle.directory().join("work");
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    // The container's users must be able to pass through the top directory of the root.
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).unwrap();
    let options = format!("lowerdir={image},upperdir={},workdir={}", upper.display(), work.display());
    let options = std::ffi::CString::new(options).unwrap();
    mount("benchmark", bundle.root(), "overlay", MountFlags::empty(), options.as_c_str())
        .expect("cannot mount the image");
}

/// Starts a container, measures the time until it is running, and checks its layout and systemd's version.
fn run(cell: &Cell, bundle: &Bundle) -> Result<Boot, String> {
    let path = |name: &str| bundle.directory().join(name);
    let said = File::create(path("said")).unwrap();
    let mut command = runc(&["run", "--detach"]);
    command.arg("--pid-file").arg(path("pid")).arg("--bundle").arg(bundle.directory()).arg(ID);
    command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
    let start = Instant::now();
    let status = command.status().expect("cannot start timeout");
    if !status.success() {
        return Err(format!("runc run: {status}: {}", fs::read_to_string(path("said")).unwrap_or_default().trim()));
    }
    let pid = fs::read_to_string(path("pid")).unwrap();
    wait_until_running(&format!("/proc/{pid}/root/run/systemd/private"), start).map_err(|error| {
        format!("{error}; it said: {}", fs::read_to_string(path("said")).unwrap_or_default().trim())
    })?;
    let time = start.elapsed();
    let told = output(&mut runc(&["exec", ID, "sh", "-c", "stat -f -c %T /sys/fs/cgroup && systemctl --version"]))?;
    let mut lines = told.lines();
    let expected = match cell.inside {
        Layout::Unified => "cgroup2fs",
        Layout::Legacy | Layout::Hybrid => "tmpfs",
    };
    let found = lines.next().unwrap_or_default();
    if found != expected {
        return Err(format!("on /sys/fs/cgroup in the container is {found}, not {expected}"));
    }
    // The line is like "systemd 252 (252.39-1~deb12u2)".
    let systemd = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or("?").to_owned();
    Ok(Boot { time, systemd })
}

/// Waits until systemd reports that the boot is complete.
fn wait_until_running(socket: &str, start: Instant) -> Result<(), String> {
    // The socket is checked from outside. A process inside the container would slow down the boot, and would be in
    // the cgroup that systemd rearranges.
    while !Path::new(socket).exists() {
        pause(start, "systemd listens nowhere")?;
    }
    loop {
        // The exit status is of no use: it says the same, but is also a failure while systemd isn't ready to answer.
        let finished = finish(&mut runc(&["exec", ID, "systemctl", "is-system-running", "--wait"]));
        match String::from_utf8_lossy(&finished.stdout).trim() {
            "running" => return Ok(()),
            state @ ("degraded" | "maintenance" | "stopping") => {
                let failed = output(&mut runc(&["exec", ID, "systemctl", "--failed", "--no-legend", "--no-pager"]));
                return Err(format!("systemd is {state}: {}", failed.unwrap_or_else(|error| error).trim()));
            }
            state => pause(start, &format!("systemd says {state:?}, {}", String::from_utf8_lossy(&finished.stderr)))?,
        }
    }
}

fn pause(start: Instant, why: &str) -> Result<(), String> {
    if start.elapsed() > PATIENCE {
        return Err(format!("after {} s {why}", PATIENCE.as_secs()));
    }
    thread::sleep(Duration::from_millis(1));
    Ok(())
}

/// Returns a command that runs runc, and kills it if it hangs. `timeout` costs each start the same millisecond.
fn runc(arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE.as_secs().to_string()).args(["runc", "--root"]).arg(Path::new(ROOM).join("state"));
    command.args(arguments);
    command
}

/// Returns the output of a program, or an error if it fails.
fn output(command: &mut Command) -> Result<String, String> {
    let finished = finish(command);
    if finished.status.success() {
        Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
    } else {
        Err(format!("{command:?}: {}: {}", finished.status, String::from_utf8_lossy(&finished.stderr).trim()))
    }
}

fn finish(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("cannot start timeout")
}
