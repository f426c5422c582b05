// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows the list of the end-to-end tests: real systemd in real containers of
//! real runtimes, with the hook as the runtime starts it.
//!
//! `OCI_SYSTEMD_HOOK_ROOTS` names the directory that holds the root file
//! systems, `OCI_SYSTEMD_HOOK` another hook than the one that cargo built.
//! What the machine lacks is a failure where `CI` is `true` and else skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod boot;
mod command;
mod config;
mod container;
mod holder;
mod host;
mod mounts;
mod outside;
mod shutdown;
mod site;
mod special;
mod tree;
mod upper;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::config::CgroupNs;
use crate::container::{Cell, message};
use crate::site::{Layout, MARK, Runtime, Site, Suite};

/// crun 1.8 refuses hybrid hosts, so that combination is not there.
const PLATFORMS: [(Runtime, Layout); 5] = [
    (Runtime::Runc, Layout::Legacy),
    (Runtime::Runc, Layout::Hybrid),
    (Runtime::Runc, Layout::Unified),
    (Runtime::Crun, Layout::Legacy),
    (Runtime::Crun, Layout::Unified),
];

type Check = fn(&Arc<Site>, Cell) -> Result<(), Failed>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A boot is one busy process and much waiting; more at once only slows the
    // shutdowns, which have timeouts of systemd's own.
    arguments.test_threads.get_or_insert(2);
    // Not below /tmp, which the tests' hosts have one of their own of.
    let scratch = tempfile::Builder::new().prefix(MARK).tempdir_in("/var/tmp").map_err(Failed::from);
    let (scratch, site) = match scratch.and_then(|scratch| {
        let site = Site::new(&scratch)?;
        Ok((scratch, Arc::new(site)))
    }) {
        Ok(both) => both,
        Err(failed) => {
            eprintln!("e2e: {}", message(&failed));
            return ExitCode::FAILURE;
        }
    };
    let trials = Trials::new(&site).all();
    for (why, count) in &trials.skipped {
        eprintln!("skipped: {why} ({count} tests)");
    }
    let conclusion = libtest_mimic::run(&arguments, trials.list);
    drop(scratch);
    conclusion.exit_code()
}

struct Trials<'a> {
    site: &'a Arc<Site>,
    list: Vec<Trial>,
    /// How many tests can't run here, by the reason.
    skipped: BTreeMap<String, u32>,
}

impl<'a> Trials<'a> {
    fn new(site: &'a Arc<Site>) -> Self {
        Self { site, list: Vec::new(), skipped: BTreeMap::new() }
    }

    fn add(&mut self, name: &str, cell: Cell, check: impl Fn(&Arc<Site>, Cell) -> Result<(), Failed> + Send + 'static) {
        let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        let site = Arc::clone(self.site);
        let missing = site.missing(cell.runtime, cell.layout, cell.suite);
        let trial = match missing {
            None => Trial::test(name, move || check(&site, cell)),
            Some(why) if in_ci => Trial::test(name, move || Err(why.into())),
            Some(why) => {
                *self.skipped.entry(why.clone()).or_default() += 1;
                Trial::test(name, move || Err(why.into())).with_ignored_flag(true)
            }
        };
        self.list.push(trial);
    }

    /// One test for each of some platforms.
    fn each(&mut self, name: &str, platforms: &[(Runtime, Layout)], check: Check) {
        for &(runtime, layout) in platforms {
            let suite = Suite::Bookworm;
            let cell = Cell { runtime, layout, suite };
            self.add(&format!("{name}/{runtime}/{layout}"), cell, check);
        }
    }

    fn all(mut self) -> Self {
        let namespaces = [(CgroupNs::Private, "private"), (CgroupNs::Host, "host")];
        for (runtime, layout) in PLATFORMS {
            for suite in [Suite::Bookworm, Suite::Trixie] {
                for (cgroupns, word) in namespaces {
                    let cell = Cell { runtime, layout, suite };
                    let name = format!("boot/{runtime}/{layout}/{word}/{suite}");
                    self.add(&name, cell, move |site, cell| boot::whole_life(site, cell, cgroupns));
                }
            }
        }
        let runc_hybrid = (Runtime::Runc, Layout::Hybrid);
        let runc_unified = (Runtime::Runc, Layout::Unified);
        let crun_legacy = (Runtime::Crun, Layout::Legacy);
        let crun_unified = (Runtime::Crun, Layout::Unified);
        let two = [runc_hybrid, crun_unified];
        self.each("without-hook", &PLATFORMS, outside::without_hook);
        self.each("disabled", &two, outside::disabled);
        self.each("other-init", &PLATFORMS, outside::other_init);
        self.each("failing-hook", &PLATFORMS, outside::failing_hook);
        self.each("links-that-lead-out", &PLATFORMS, outside::links_that_lead_out);
        self.each("prestart-only", &PLATFORMS, special::prestart_only);
        self.each("twice", &two, special::twice);
        self.each("uninitialized", &two, special::uninitialized);
        self.each("no-machine-id", &two, special::no_machine_id);
        self.each("enabled", &two, special::enabled);
        let with_controllers = [(Runtime::Runc, Layout::Legacy), runc_hybrid, crun_legacy];
        self.each("memory-limit", &with_controllers, special::memory_limit);
        self.each("user-namespace", &PLATFORMS, special::user_namespace);
        let once_each = [runc_hybrid, runc_unified, crun_legacy, crun_unified];
        self.each("read-only-root", &once_each, special::read_only_root);
        let name = "read-only-root-without-machine-id";
        self.each(name, &two, special::read_only_root_without_machine_id);
        self.each("unfit-systemd", &two, outside::unfit_systemd);
        self.each("host-cgroups", &PLATFORMS, outside::host_cgroups);
        self.each("unreadable-bundle", &two, outside::unreadable_bundle);
        self.each("mounts-below-run", &once_each, special::mounts_below_run);
        self.each("killed", &once_each, special::killed);
        self.each("shared-propagation", &once_each, special::shared_propagation);
        self.each("eight-at-once", &two, special::eight_at_once);
        self
    }
}
