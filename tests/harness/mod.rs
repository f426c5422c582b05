// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parts that the test suites share: how a trial fails, and how a trial is skipped if
//! the machine lacks something.

#![allow(dead_code)] // Not all suites use all of this module.

pub mod machine;
pub mod scratch;
pub mod tree;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use oci_systemd_hook::interface::PATHS;

/// The result of a trial.
pub type Check = Result<(), String>;

/// Fails the trial with a message if a condition is false.
#[allow(unused_macros)]
macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err(format!($($message)+));
        }
    };
}

/// Checks that all cases hold, and names those that don't.
pub fn all<Name: Display>(cases: impl Iterator<Item = (Name, Check)>) -> Check {
    let mut count = 0;
    let mut wrong = Vec::new();
    for (name, result) in cases {
        count += 1;
        wrong.extend(result.err().map(|message| format!("{name}: {message}")));
    }
    ensure!(count > 0, "no case");
    ensure!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Whether no other program removes or renames a mount point, or the hook mounts something on it in a container.
/// Elsewhere other programs may remove the directory that a mount lies on, which removes the mount from all mount
/// namespaces, as podman does below /run/netns.
pub fn is_lasting(at: &Path) -> bool {
    let of_the_kernel = ["/proc", "/sys", "/dev"];
    at == Path::new("/")
        || of_the_kernel.iter().any(|top| at.starts_with(top))
        || PATHS.iter().any(|path| at == Path::new(path))
}

/// The trials of a suite.
#[derive(Default)]
pub struct List {
    trials: Vec<Trial>,
    /// The number of trials that can't run here, by reason.
    skipped: BTreeMap<String, u32>,
    times: Times,
}

/// How long each trial took.
type Times = Arc<Mutex<Vec<(Duration, String)>>>;

/// How many of the slowest trials are named at the end.
const LONGEST: usize = 10;

/// Measures how long a trial takes.
fn timed(
    name: String,
    times: &Times,
    run: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> impl FnOnce() -> Result<(), Failed> + Send + 'static {
    let times = Arc::clone(times);
    move || {
        let start = Instant::now();
        let result = run();
        times.lock().unwrap_or_else(PoisonError::into_inner).push((start.elapsed(), name));
        result
    }
}

impl List {
    /// Adds a trial. `missing` is what the machine lacks for it, if anything; in that case the trial fails if `CI` is
    /// set, and is skipped otherwise.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        missing: Option<String>,
        run: impl FnOnce() -> Result<(), Failed> + Send + 'static,
    ) {
        let is_in_ci = std::env::var_os("CI").is_some();
        let name = name.into();
        self.trials.push(match missing {
            None => Trial::test(name.clone(), timed(name, &self.times, run)),
            Some(why) => {
                if !is_in_ci {
                    *self.skipped.entry(why.clone()).or_default() += 1;
                }
                Trial::test(name, move || Err(why.into())).with_ignored_flag(!is_in_ci)
            }
        });
    }

    /// Adds a trial that runs only if the command line asks for the ignored ones. `missing` is what the machine lacks
    /// for it, if anything; in that case the trial fails if `CI` is set, and is skipped otherwise.
    pub fn push_ignored(
        &mut self,
        name: String,
        missing: Option<String>,
        run: impl FnOnce() -> Result<(), Failed> + Send + 'static,
    ) {
        let run = move || match missing {
            None => run(),
            Some(why) if std::env::var_os("CI").is_some() => Err(why.into()),
            Some(why) => {
                eprintln!("skipped: {why}");
                Ok(())
            }
        };
        self.trials.push(Trial::test(name.clone(), timed(name, &self.times, run)).with_ignored_flag(true));
    }

    /// Keeps only the trials whose names match.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.trials.retain(|trial| is_kept(trial.name()));
    }

    /// Runs the trials as the command line specifies.
    pub fn run(self, arguments: &Arguments) -> Conclusion {
        for (why, count) in &self.skipped {
            eprintln!("skipped: {why} ({count} trials)");
        }
        let conclusion = libtest_mimic::run(arguments, self.trials);
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.sort_unstable_by(|a, b| b.cmp(a));
        for (time, name) in times.iter().take(LONGEST) {
            println!("{:6.1} s  {name}", time.as_secs_f64());
        }
        conclusion
    }
}
