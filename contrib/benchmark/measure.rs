// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Starts and measures a program, and computes medians.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Where a program runs while a container is being created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The program runs in the container's mount namespace, at createContainer.
    Inside,
    /// The program runs in the runtime's mount namespace, with the PID of a process of the
    /// container, at createRuntime or prestart.
    Outside,
}

/// A program that is compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Subject {
    /// The program's name in the tables.
    pub name: String,
    /// The command line, as it was given.
    pub command: String,
    /// The path of the program.
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Where the program runs for a systemd container.
    pub role: Role,
}

impl Subject {
    /// Returns a program that runs in the runtime's namespaces.
    pub fn new(name: &str, command: &str) -> Self {
        let mut words = command.split_whitespace();
        Self {
            name: name.to_owned(),
            command: command.to_owned(),
            program: words.next().unwrap_or_default().into(),
            arguments: words.map(str::to_owned).collect(),
            role: Role::Outside,
        }
    }

    /// Returns a program that runs in the container's mount namespace.
    pub fn inside(name: &str, command: &str) -> Self {
        Self { role: Role::Inside, ..Self::new(name, command) }
    }
}

/// The result of one run of a program.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    /// The time from before the start of the program until it was waited for.
    pub time: Duration,
    /// Why the measurement is invalid, or `None` if it is valid.
    pub problem: Option<String>,
}

/// Runs a program as a runtime would: without an environment, and with the state on standard input.
pub fn run(subject: &Subject, stdin: &Path, stderr: &Path) -> Run {
    let mut command = Command::new(&subject.program);
    command
        .args(&subject.arguments)
        .env_clear()
        .stdin(File::open(stdin).expect("cannot open the state"))
        .stdout(File::create("/dev/null").expect("cannot open /dev/null"))
        .stderr(File::create(stderr).expect("cannot create the file for stderr"));
    let start = Instant::now();
    let status = spawn_and_wait(&mut command);
    let time = start.elapsed();
    Run { time, problem: problem(status, stderr) }
}

/// Runs a program without measuring it, so that the next start finds this program's own code in memory.
pub fn warm_up(program: &Path) {
    let status = spawn_and_wait(&mut Command::new(program));
    assert!(status.expect("cannot start a program").success());
}

fn spawn_and_wait(command: &mut Command) -> std::io::Result<ExitStatus> {
    command.spawn()?.wait()
}

fn problem(status: std::io::Result<ExitStatus>, stderr: &Path) -> Option<String> {
    match status {
        Ok(status) if status.success() => None,
        Ok(status) => {
            let said = std::fs::read_to_string(stderr).unwrap_or_default();
            Some(format!("{status}: {}", said.trim()))
        }
        Err(error) => Some(error.to_string()),
    }
}

/// Discards the output of a command.
pub fn quiet(command: &mut Command) -> &mut Command {
    command.stdout(Stdio::null()).stderr(Stdio::null())
}

/// Returns the median of some times.
pub fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// Returns the median, in seconds, of the differences between each time and the other program's time in the same
/// round. It can be negative.
pub fn median_difference(times: &[Duration], others: &[Duration]) -> f64 {
    let mut differences: Vec<f64> =
        times.iter().zip(others).map(|(time, other)| time.as_secs_f64() - other.as_secs_f64()).collect();
    differences.sort_unstable_by(f64::total_cmp);
    differences[differences.len() / 2]
}

/// Returns the median of the ratios of each time to the other program's time in the same round.
pub fn median_ratio(times: &[Duration], others: &[Duration]) -> f64 {
    let mut ratios: Vec<f64> =
        times.iter().zip(others).map(|(time, other)| time.as_secs_f64() / other.as_secs_f64()).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}
