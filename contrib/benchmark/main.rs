// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures the hook in comparison with an empty program and with any other hooks, in private mount namespaces.
//!
//! `contrib/benchmark.sh` builds what this program needs and starts it. A measurement covers one process, from its
//! spawning to its end; the container around it is created before that, anew for each run. Everything that a run
//! creates is in private mount namespaces and disappears with the last process, except for the container's cgroups. A
//! janitor process, which briefly outlives this program, removes those no matter how this program ends.
//!
//! The measurements of boot times and of the runtime wrapper are in `boot` and `wrapper`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on says where and stops"
)]

mod boot;
mod bundle;
mod cgroup;
mod container;
mod descriptors;
mod host;
mod measure;
mod surroundings;
mod table;
mod wrapper;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::cgroup::Janitor;
use crate::measure::Subject;
use crate::surroundings::{Layout, Results, Setting};
use crate::wrapper::Runc;

/// The number of mounts in the host's mount table, in the setting for that.
const HOST_MOUNTS: usize = 10_000;
/// The number of mounts in config.json, in the setting for that.
const CONFIG_MOUNTS: usize = 2_000;
/// How many times each program runs on the skip path.
const ROUNDS: usize = 400;
/// How many times each image boots in each layout.
const BOOT_ROUNDS: usize = 10;
/// The rounds on the skip path are divided by this for systemd containers, because each
/// of those rounds creates containers.
const CONTAINER_ROUNDS_DIVISOR: usize = 4;

const USAGE: &str = "\
usage: benchmark.sh [--rounds N] [--peer 'PROGRAM [ARGUMENT…]']… [--only skip|create]
                    [--hook 'PROGRAM [ARGUMENT…]'] [--empty PROGRAM]
       benchmark.sh --boot ROOTS [--rounds N] [--hook 'PROGRAM [ARGUMENT…]']
       benchmark.sh --runtime [--rounds N] [--add-hooks PROGRAM] [--wrapper PROGRAM]
                    [--exec PROGRAM] [--empty PROGRAM]

  --rounds N  how often each program runs on the skip path (400); a quarter of
              it for systemd containers
  --peer P    another hook to compare with; as root, on a host with cgroup v1
              or hybrid. Like the hook, it is called at createRuntime, or
              prestart, which the descriptors name; the hook is also measured
              at createContainer
  --only M    one of the two measures
  --boot R    how long the images bullseye, bookworm, trixie and sid, which are
              below R, take to boot with runc in several cgroup layouts, each
              --rounds times (10); as root, on a host with a hybrid layout
  --runtime   what the runtime wrapper adds: to a call that it passes on, and to
              `create` with 20 descriptors and a config.json of 100 KiB; a
              quarter of the rounds with runc, on a host with a hybrid layout
  --add-hooks P  awslabs' oci-add-hooks, to compare with
  --hook P    the hook, instead of the one that was just built
  --wrapper P the runtime wrapper to use instead
  --exec P    the program to use instead that executes another
  --empty P   the program to use instead that does nothing";

/// The options on the command line.
#[derive(Debug, Default)]
struct Options {
    rounds: Option<usize>,
    boot: Option<PathBuf>,
    hook: Option<String>,
    empty: Option<String>,
    runtime: bool,
    wrapper: Option<PathBuf>,
    exec: Option<PathBuf>,
    add_hooks: Option<PathBuf>,
    peers: Vec<String>,
    only: Option<String>,
    help: bool,
}

impl Options {
    fn parse() -> Result<Self, lexopt::Error> {
        use lexopt::prelude::{Long, ValueExt};
        let mut options = Self::default();
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("rounds") => options.rounds = Some(parser.value()?.parse()?),
                Long("boot") => options.boot = Some(parser.value()?.into()),
                Long("hook") => options.hook = Some(parser.value()?.string()?),
                Long("empty") => options.empty = Some(parser.value()?.string()?),
                Long("peer") => options.peers.push(parser.value()?.string()?),
                Long("runtime") => options.runtime = true,
                Long("wrapper") => options.wrapper = Some(parser.value()?.into()),
                Long("exec") => options.exec = Some(parser.value()?.into()),
                Long("add-hooks") => options.add_hooks = Some(parser.value()?.into()),
                Long("only") => options.only = Some(parser.value()?.string()?),
                Long("help") => options.help = true,
                // `cargo bench` adds this option.
                Long("bench") => {}
                other => return Err(other.unexpected()),
            }
        }
        let least = if options.boot.is_some() { 1 } else { CONTAINER_ROUNDS_DIVISOR };
        if options.rounds.is_some_and(|rounds| rounds < least) {
            return Err(format!("--rounds: at least {least}").into());
        }
        if (options.boot.is_some() || options.runtime) && (options.only.is_some() || !options.peers.is_empty()) {
            return Err("--boot and --runtime: neither with --only nor with --peer".into());
        }
        if options.boot.is_some() && options.runtime {
            return Err("--boot or --runtime, not both".into());
        }
        if options.add_hooks.is_some() && !options.runtime {
            return Err("--add-hooks: only with --runtime".into());
        }
        if !matches!(options.only.as_deref(), None | Some("skip" | "create")) {
            return Err("--only: skip or create".into());
        }
        Ok(options)
    }

    /// Returns the programs to compare. The first is the empty program, which is the reference for the others.
    fn subjects(&self) -> Option<Vec<Subject>> {
        let hook = self.hook.as_ref()?;
        let mut subjects = vec![
            Subject::new("empty program", self.empty.as_ref()?),
            Subject::new("hook", hook),
            Subject::inside("at createContainer", hook),
        ];
        for (index, peer) in self.peers.iter().enumerate() {
            let name = format!("peer {}", index + 1);
            subjects.push(Subject::new(&name, peer));
        }
        Some(subjects)
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("in-surroundings") => {
            surroundings::main(&arguments.next().expect("a setting"));
            return ExitCode::SUCCESS;
        }
        Some("in-container") => {
            container::main(&arguments.next().expect("an order"));
            return ExitCode::SUCCESS;
        }
        Some("in-host") => {
            host::main(&arguments.next().expect("an order"));
            return ExitCode::SUCCESS;
        }
        Some("in-wrapper") => {
            wrapper::main(&arguments.next().expect("an order"));
            return ExitCode::SUCCESS;
        }
        Some("janitor") => {
            cgroup::clean_up_at_end_of_input(arguments.map(PathBuf::from));
            return ExitCode::SUCCESS;
        }
        Some(_) | None => {}
    }
    let options = match Options::parse() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("benchmark: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.help {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Some(subjects) = options.subjects() else {
        eprintln!("benchmark: --hook and --empty are needed\n{USAGE}");
        return ExitCode::from(2);
    };
    if !rustix::process::geteuid().is_root() {
        eprintln!("benchmark: needs root, for mount namespaces and cgroups");
        return ExitCode::from(2);
    }
    if options.runtime {
        return measure_wrapper(&options);
    }
    let Some(roots) = options.boot else {
        compare(&options, &subjects);
        return ExitCode::SUCCESS;
    };
    match boot::measure(&roots, &subjects[1], options.rounds.unwrap_or(BOOT_ROUNDS)) {
        Ok(all) => {
            table::print_boots(&all);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("benchmark: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures the wrapper and prints the tables.
fn measure_wrapper(options: &Options) -> ExitCode {
    let (Some(wrapper), Some(exec), Some(empty)) = (&options.wrapper, &options.exec, &options.empty) else {
        eprintln!("benchmark: --wrapper, --exec and --empty are needed\n{USAGE}");
        return ExitCode::from(2);
    };
    let (runc, _janitor) = match Runc::find(Janitor::start_for_runtimes) {
        Ok((runc, janitor)) => (Some(runc), Some(janitor)),
        Err(why) => {
            eprintln!("benchmark: without runc: {why}");
            (None, None)
        }
    };
    let rounds = options.rounds.unwrap_or(ROUNDS);
    let order = wrapper::Order {
        wrapper: wrapper.clone(),
        exec: exec.clone(),
        empty: empty.into(),
        add_hooks: options.add_hooks.clone(),
        rounds,
        runc_rounds: rounds / CONTAINER_ROUNDS_DIVISOR,
        runc,
    };
    table::print_wrapper(&wrapper::measure(&order));
    ExitCode::SUCCESS
}

/// Runs all settings, then prints the two tables.
fn compare(options: &Options, subjects: &[Subject]) {
    let janitor = Janitor::start();
    let rounds = options.rounds.unwrap_or(ROUNDS);
    let wants = |measure| options.only.as_deref().is_none_or(|only| only == measure);
    let plain = Setting {
        name: "plain".to_owned(),
        subjects: subjects.to_vec(),
        layout: Layout::V1,
        cgroups: janitor
            .cgroups()
            .iter()
            .filter(|path| !path.starts_with(Path::new(cgroup::ROOT).join("unified")))
            .cloned()
            .collect(),
        skip_rounds: wants("skip").then_some(rounds),
        create_rounds: wants("create").then_some(rounds / CONTAINER_ROUNDS_DIVISOR),
        host_mounts: 0,
        config_mounts: 0,
    };
    let settings = [
        plain.clone(),
        Setting {
            name: "cgroup v2".to_owned(),
            layout: Layout::V2,
            cgroups: janitor.cgroups_of_v2(),
            // Nothing on the skip path depends on cgroups.
            skip_rounds: None,
            ..plain.clone()
        },
        Setting { name: format!("{HOST_MOUNTS} mounts on the host"), host_mounts: HOST_MOUNTS, ..plain.clone() },
        Setting {
            name: format!("{CONFIG_MOUNTS} mounts in config.json"),
            config_mounts: CONFIG_MOUNTS,
            ..plain.clone()
        },
    ];
    let results: Vec<(String, Results)> = settings
        .iter()
        .map(|setting| {
            eprintln!("benchmark: measuring: {} …", setting.name);
            (setting.name.clone(), run_setting(setting))
        })
        .collect();
    table::print(&results);
}

/// Runs one setting in a new mount namespace.
fn run_setting(setting: &Setting) -> Results {
    let order = serde_json::to_string(setting).expect("a setting is serialisable");
    let program = std::env::current_exe().expect("where is this program?");
    let output = in_own_mount_namespace(&program, &["in-surroundings".into(), order.into()])
        .stderr(Stdio::inherit())
        .output()
        .expect("cannot start unshare");
    assert!(output.status.success(), "measuring failed: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("cannot read the results")
}

/// Returns a command that runs this program, wherever it is, with these arguments in a new private mount namespace.
fn in_own_mount_namespace(program: &Path, arguments: &[OsString]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(program).args(arguments);
    command
}
