// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures what the runtime wrapper adds to the time of a runtime: for a call that it passes on, and for a `create`,
//! for which it reads descriptors and writes config.json. A runtime that does nothing shows this best; runc shows
//! what part of a container's creation it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, ID};
use crate::cgroup::Janitor;
use crate::descriptors::{Container, HooksD, lengthened};
use crate::in_own_mount_namespace;
use crate::measure::{self, Run, Subject, quiet};
use crate::surroundings::{Line, ROOM, cover_writable_places, interleave, write_program};

/// What to measure, and with which programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    pub wrapper: PathBuf,
    /// The program that only executes another one.
    pub exec: PathBuf,
    /// The program that does nothing.
    pub empty: PathBuf,
    /// oci-add-hooks, the other wrapper, if it is measured.
    pub add_hooks: Option<PathBuf>,
    /// How many times each program runs.
    pub rounds: usize,
    /// How many times runc creates a container with each program.
    pub runc_rounds: usize,
    /// What runc's containers need, or `None` if runc can't be measured.
    pub runc: Option<Runc>,
}

/// The program runc, and the cgroups for it and its containers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Runc {
    program: PathBuf,
    /// The cgroups that the runtime is in.
    runtime_cgroups: Vec<PathBuf>,
    /// The name of the container's parent cgroup, in each hierarchy.
    parent_cgroup: String,
}

impl Runc {
    /// Finds runc and creates its cgroups, or returns why it can't be measured. This needs a
    /// host with a hybrid layout.
    pub fn find(janitor: impl FnOnce() -> Janitor) -> Result<(Self, Janitor), String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path).map(|folder| folder.join("runc")).find(|file| file.is_file());
        let program = program.ok_or("runc is not installed")?;
        if !Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
            return Err("the host's layout of cgroups is not hybrid".to_owned());
        }
        let janitor = janitor();
        let (runtime_cgroups, parent_cgroup) = (janitor.cgroups().to_vec(), janitor.name().to_owned());
        Ok((Self { program, runtime_cgroups, parent_cgroup }, janitor))
    }
}

/// The results. The first line of each is the reference for the others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Measures {
    /// The results for a call that is passed on: of the program that executes another, the runtime alone, the
    /// wrapper, and the other wrapper.
    pub passed_on: Vec<Line>,
    /// The results for `create`, with the row's name: of the runtime alone, the wrapper, and the other wrapper.
    pub create: Vec<(String, Vec<Line>)>,
}

/// Runs the measurements in a new mount namespace.
pub fn measure(order: &Order) -> Measures {
    let program = std::env::current_exe().expect("where is this program?");
    let order = serde_json::to_string(order).expect("an order is serialisable");
    let output = in_own_mount_namespace(&program, &["in-wrapper".into(), order.into()])
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("cannot start unshare");
    assert!(output.status.success(), "measuring failed: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("cannot read the results")
}

/// Runs in the new mount namespace. Measures what an order in JSON says, and prints the results as JSON.
pub fn main(order: &str) {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let order: Order = serde_json::from_str(order).unwrap();
    let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let empty = read(&order.empty);
    let programs = [("exec", read(&order.exec)), ("oci-hooks-runtime", read(&order.wrapper)), ("empty", empty.clone())];
    let peer = order.add_hooks.as_deref().map(read);
    cover_writable_places();
    let room = Path::new(ROOM);
    for (name, program) in programs.into_iter().chain(peer.map(|program| ("oci-add-hooks", program))) {
        write_program(&room.join(name), &program);
    }
    let hooks_d = HooksD::write(room.join("hooks.d"), room.join("hooks"), &empty);
    let stand = Stand { hooks_d, has_peer: order.add_hooks.is_some() };
    eprintln!("benchmark: measuring: passed on …");
    let passed_on = stand.passed_on(order.rounds);
    let mut create = Vec::new();
    let kinds = [("another command", Container::Ordinary), ("systemd", Container::Systemd)];
    for (name, container) in kinds {
        eprintln!("benchmark: measuring: create, {name} …");
        create.push((name.to_owned(), stand.create(container, order.rounds)));
    }
    if let Some(runc) = &order.runc {
        for cgroup in &runc.runtime_cgroups {
            fs::write(cgroup.join("cgroup.procs"), "0").expect("cannot move to the cgroup");
        }
        for (name, container) in kinds {
            eprintln!("benchmark: measuring: create by runc, {name} …");
            create.push((format!("{name}, by runc"), stand.create_by_runc(runc, container, order.runc_rounds)));
        }
    }
    println!("{}", serde_json::to_string(&Measures { passed_on, create }).unwrap());
}

struct Stand {
    hooks_d: HooksD,
    has_peer: bool,
}

impl Stand {
    /// Returns the ways to call a runtime: directly, through our wrapper, and through the other one.
    fn ways(&self, runtime: &Path, arguments: &[&str], add_hooks: &Path) -> Vec<Subject> {
        let room = Path::new(ROOM);
        let subject = |name: &str, program: &Path, own: &[&str]| {
            let arguments: Vec<String> = own.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
            let command = format!("{} {}", program.display(), arguments.join(" "));
            Subject { program: program.to_owned(), arguments, ..Subject::new(name, &command) }
        };
        let (runtime_path, hooks_dir) = (runtime.to_str().unwrap(), self.hooks_d.directory().to_str().unwrap());
        let mut ways = vec![
            subject("runtime alone", runtime, &[]),
            subject(
                "oci-hooks-runtime",
                &room.join("oci-hooks-runtime"),
                &["--runtime-path", runtime_path, "--hooks-dir", hooks_dir],
            ),
        ];
        if self.has_peer {
            let own = ["--hook-config-path", add_hooks.to_str().unwrap(), "--runtime-path", runtime_path];
            ways.push(subject("oci-add-hooks", &room.join("oci-add-hooks"), &own));
        }
        ways
    }

    /// Measures a call that doesn't create a container.
    fn passed_on(&self, rounds: usize) -> Vec<Line> {
        let room = Path::new(ROOM);
        let mut subjects = self.ways(&room.join("empty"), &["--version"], &room.join("nothing"));
        let empty = subjects[0].command.clone();
        let becomes = format!("{} {empty}", room.join("exec").display());
        subjects.insert(0, Subject::new("program that execs", &becomes));
        interleave(&subjects, rounds, run)
    }

    /// Measures `create` with a runtime that does nothing.
    fn create(&self, container: Container, rounds: usize) -> Vec<Line> {
        let room = Path::new(ROOM);
        let bundle = Bundle::write(room.join(format!("{container:?}")), container.command(), 0, false);
        fill_root(&bundle, container);
        let text = lengthened(&fs::read_to_string(bundle.config()).unwrap());
        let add_hooks = room.join("hooks.json");
        self.hooks_d.write_for_add_hooks(container, &add_hooks);
        let subjects = self.ways(&room.join("empty"), &create_arguments(&bundle, &[]), &add_hooks);
        interleave(&subjects, rounds, |subject| {
            fs::write(bundle.config(), &text).unwrap();
            let mut run = run(subject);
            if subject.name != "runtime alone" {
                run.problem = run.problem.or_else(|| self.problem(&bundle, container));
            }
            run
        })
    }

    /// Measures `create` with runc, which also calls the hooks. Without a wrapper, it gets a
    /// config.json that already has them.
    fn create_by_runc(&self, runc: &Runc, container: Container, rounds: usize) -> Vec<Line> {
        let room = Path::new(ROOM);
        let cgroup = format!("/{}/{ID}", runc.parent_cgroup);
        let empty = room.join("empty");
        let directory = room.join(format!("{container:?}-runc"));
        let bundle = Bundle::write_bootable(directory, &[empty.to_str().unwrap()], &cgroup, None);
        fill_root(&bundle, container);
        let text = fs::read_to_string(bundle.config()).unwrap();
        let text = lengthened(&text.replace(Container::Systemd.command(), container.command()));
        let add_hooks = room.join("hooks.json");
        self.hooks_d.write_for_add_hooks(container, &add_hooks);
        let state = room.join("state");
        let root = ["--root", state.to_str().unwrap()];
        let subjects = self.ways(&runc.program, &create_arguments(&bundle, &root), &add_hooks);
        let with_hooks = with_hooks(&subjects[1], &bundle, &text);
        interleave(&subjects, rounds, |subject| {
            let is_alone = subject.name == "runtime alone";
            fs::write(bundle.config(), if is_alone { &with_hooks } else { &text }).unwrap();
            let mut run = run(subject);
            run.problem = run.problem.or_else(|| self.problem(&bundle, container));
            delete(&runc.program, &state);
            run
        })
    }

    fn problem(&self, bundle: &Bundle, container: Container) -> Option<String> {
        self.hooks_d.problem(&fs::read_to_string(bundle.config()).unwrap(), container)
    }
}

/// Returns what our wrapper turns a config.json into, without the effects of any runtime.
fn with_hooks(wrapper: &Subject, bundle: &Bundle, text: &str) -> String {
    fs::write(bundle.config(), text).unwrap();
    let arguments = wrapper.arguments.iter().map(String::as_str).map(|argument| match argument {
        path if path.ends_with("/runc") => Path::new(ROOM).join("empty").to_str().unwrap().to_owned(),
        other => other.to_owned(),
    });
    let status = Command::new(&wrapper.program).args(arguments).status().expect("cannot start the wrapper");
    assert!(status.success(), "the wrapper failed: {status}");
    fs::read_to_string(bundle.config()).unwrap()
}

fn run(subject: &Subject) -> Run {
    measure::run(subject, Path::new("/dev/null"), &Path::new(ROOM).join("stderr"))
}

fn create_arguments<'a>(bundle: &'a Bundle, globals: &[&'a str]) -> Vec<&'a str> {
    [globals, &["create", "--bundle", bundle.directory().to_str().unwrap(), ID]].concat()
}

/// Fills the root with systemd and, for an ordinary container, with its command.
fn fill_root(bundle: &Bundle, container: Container) {
    let empty = Path::new(ROOM).join("empty");
    bundle.fill_root(&empty, 0);
    if container == Container::Ordinary {
        fs::copy(&empty, bundle.root().join(container.command().trim_start_matches('/'))).unwrap();
    }
}

fn delete(runc: &Path, state: &Path) {
    let mut command = Command::new(runc);
    let status = quiet(command.arg("--root").arg(state).args(["delete", "--force", ID])).status();
    assert!(status.expect("cannot start runc").success(), "a container can't be deleted");
}
