// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tests of the runtime wrapper: what it passes through, what it adds to a bundle, and what it reports.
//!
//! `OCI_HOOKS_RUNTIME` is the path of a wrapper to test instead of the one that cargo built. No test needs an image.
//! If the machine lacks something that a test needs, the test fails if `CI` is set and is skipped otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod bad_config;
mod command;
mod commands;
mod errors;
mod hooks;
mod hooks_file;
mod host;
mod life;
mod refusal;
mod room;
mod settings;
mod signals;
mod site;
mod stand;
mod text;
mod transparency;
mod untouched;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed};

use crate::harness::machine::Runtime;
use crate::harness::{Check, List, all};
use crate::site::Site;

/// A trial that needs no runtime.
type Run = fn(&Site) -> Check;
/// A trial with a real runtime.
type RunWith = fn(&Site, Runtime) -> Check;

/// Trials that need only the wrapper and the recorder.
const PLAIN: &[(&str, Run)] = &[
    ("transparency/arguments", transparency::arguments),
    ("transparency/environment", transparency::environment),
    ("transparency/program", transparency::program),
    ("hooks/which", hooks::which),
    ("hooks/two-directories", hooks::two_directories),
    ("hooks/order", hooks::order),
    ("hooks/members", hooks::members),
    ("hooks/where-the-bundle-is", hooks::where_the_bundle_is),
    ("hooks/no-other-command", hooks::no_other_command),
    ("hooks/twice", hooks::twice),
    ("hook-config/before-all", hooks_file::before_all),
    ("hook-config/example", hooks_file::example),
    ("hook-config/as-they-are", hooks_file::as_they_are),
    ("hook-config/twice", hooks_file::twice),
    ("hook-config/bad", hooks_file::bad),
    ("text/kept", text::is_kept),
    ("text/of-hooks", text::of_hooks_is_kept),
    ("text/attributes", text::attributes_stay),
    ("text/link", text::link_stays),
    ("untouched/nothing-matches", untouched::nothing_matches),
    ("untouched/no-bundle", untouched::no_bundle),
    ("bad-config", bad_config::each),
    ("bad-config/no-file", bad_config::no_file),
    ("errors/descriptors", errors::descriptors),
    ("errors/skipped-descriptors", errors::skipped_descriptors),
    ("errors/runtime", errors::runtime),
    ("errors/own-options", errors::own_options),
    ("errors/log", errors::log),
    ("errors/no-log", errors::no_log),
    ("signals/without-an-answer", signals::without_an_answer),
];

/// Trials that mount something.
const ROOTS: &[(&str, Run)] = &[
    ("untouched/read-only", untouched::read_only),
    ("errors/read-only", errors::read_only),
    ("errors/full", errors::full),
    ("errors/without-hook", errors::missing_hook_warning),
    ("settings/good", settings::good),
    ("settings/bad", settings::bad),
    ("settings/defaults", settings::defaults),
];

const WITH_RUNTIMES: &[(&str, RunWith)] = &[
    ("commands", commands::each),
    ("life", life::each),
    ("life/injected", life::injected),
    ("life/failing-hook", life::failing_hook),
    ("signals/systemd", signals::of_systemd),
    ("signals/others", signals::of_others),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each trial mostly waits for processes, even if these are its own.
    arguments.test_threads.get_or_insert(2);
    let site = match Site::new() {
        Ok(site) => Arc::new(site),
        Err(why) => {
            eprintln!("runtime: {why}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = Trials { site: Arc::clone(&site), list: List::default() };
    for &(name, run) in PLAIN {
        trials.push(name.to_owned(), site.missing(), run);
    }
    for &(name, ref conditions) in transparency::CONDITIONS {
        let run = move |site: &Site| transparency::under(site, conditions);
        trials.push(format!("transparency/under/{name}"), site.missing(), run);
    }
    for &(name, run) in ROOTS {
        trials.push(name.to_owned(), site.missing().or_else(harness::machine::missing_root), run);
    }
    for runtime in Runtime::ALL {
        for &(name, run) in WITH_RUNTIMES {
            let missing = site.missing().or_else(|| host::missing(runtime));
            trials.push(format!("{name}/{runtime}"), missing, move |site| run(site, runtime));
        }
    }
    let conclusion = trials.list.run(&arguments);
    drop(site);
    conclusion.exit_code()
}

struct Trials {
    site: Arc<Site>,
    list: List,
}

impl Trials {
    fn push(&mut self, name: String, missing: Option<String>, run: impl FnOnce(&Site) -> Check + Send + 'static) {
        let site = Arc::clone(&self.site);
        self.list.push(name, missing, move || run(&site).map_err(Failed::from));
    }
}
