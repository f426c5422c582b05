// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end-to-end tests: real systemd in real containers of real OCI runtimes, with the hook as
//! the runtime starts it.
//!
//! `OCI_SYSTEMD_HOOK_ROOTS` is the directory that contains the root file systems. `OCI_SYSTEMD_HOOK` is the path of
//! a hook to test in place of the one that cargo built. If the machine lacks something that a test needs, the test
//! fails if `CI` is set and is skipped otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../harness/mod.rs"]
mod harness;

mod boot;
mod cgroup;
mod cgroup_files;
mod command;
mod config;
mod container;
mod docker;
mod engines;
mod hierarchy;
mod holder;
mod host;
mod idmap;
mod inside;
mod layouts;
mod load;
mod matrix;
mod mounts;
mod namespace;
mod one_id;
mod others;
mod outside;
mod podman;
mod shutdown;
mod site;
mod special;
mod stage;
mod suites;
mod system_container;
mod tree;
mod upper;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use libtest_mimic::{Arguments, Failed};

use crate::config::{CgroupNs, Config, Users};
use crate::container::{Cell, message};
use crate::harness::List;
use crate::harness::scratch::Scratch;
use crate::matrix::Matrix;
use crate::site::{Layout, MARK, Runtime, Site, Suite};

/// The combinations on which containers boot. crun 1.8 refuses hybrid hosts, which a separate test covers.
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
    // A boot is one busy process and much waiting. More than two at once only slow down the shutdowns, which have
    // systemd's own timeouts. Ignored tests run one at a time, because they need the machine to themselves.
    arguments.test_threads.get_or_insert(if arguments.ignored { 1 } else { 2 });
    // Not below /tmp, because each test's host has its own /tmp.
    let scratch = Scratch::new(MARK, Path::new("/var/tmp")).map_err(Failed::from);
    let (scratch, site) = match scratch.and_then(|scratch| {
        let site = Site::new(scratch.path())?;
        Ok((scratch, Arc::new(site)))
    }) {
        Ok(both) => both,
        Err(failed) => {
            eprintln!("e2e: {}", message(&failed));
            return ExitCode::FAILURE;
        }
    };
    let matrix = Arc::new(Matrix::default());
    let trials = Trials::new(&site).all(&matrix);
    let conclusion = trials.list.run(&arguments);
    println!("{} boots", inside::BOOTS.load(Ordering::Relaxed));
    let readme = matrix.is_in_document(&site);
    drop(scratch);
    if let Err(failed) = readme {
        eprintln!("e2e: {}", message(&failed));
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Returns the combinations of namespaces with which engines create containers.
fn ways() -> [(&'static str, Config); matrix::WAYS] {
    let of = |cgroupns, users| Config { cgroupns, users, ..Config::default() };
    [
        ("private", of(CgroupNs::Private, Users::Hosts)),
        ("host", of(CgroupNs::Host, Users::Hosts)),
        ("private/user-namespace", of(CgroupNs::Private, Users::Own)),
        ("host/user-namespace", of(CgroupNs::Host, Users::Own)),
    ]
}

struct Trials<'a> {
    site: &'a Arc<Site>,
    list: List,
}

impl<'a> Trials<'a> {
    fn new(site: &'a Arc<Site>) -> Self {
        Self { site, list: List::default() }
    }

    fn add(&mut self, name: &str, cell: Cell, check: impl Fn(&Arc<Site>, Cell) -> Result<(), Failed> + Send + 'static) {
        let site = Arc::clone(self.site);
        let missing = site.missing(cell.runtime, cell.layout, cell.suite);
        self.list.push(name, missing, move || check(&site, cell));
    }

    /// Adds one test for each of the given platforms.
    fn each(&mut self, name: &str, platforms: &[(Runtime, Layout)], check: Check) {
        for &(runtime, layout) in platforms {
            let suite = Suite::Bookworm;
            let cell = Cell { runtime, layout, suite };
            self.add(&format!("{name}/{runtime}/{layout}"), cell, check);
        }
    }

    /// Adds a boot of each image on each platform with each combination of namespaces.
    fn boots(&mut self, matrix: &Arc<Matrix>) {
        for (layout, runtime) in matrix::ROWS {
            for suite in Suite::ALL {
                let cell = Cell { runtime, layout, suite };
                for (way, config) in ways() {
                    let matrix = Arc::clone(matrix);
                    if PLATFORMS.contains(&(runtime, layout)) {
                        self.add(&format!("boot/{runtime}/{layout}/{way}/{suite}"), cell, move |site, cell| {
                            let expected = cgroup::expected(cell, None);
                            boot::whole_life(site, cell, config.clone(), expected)?;
                            matrix.note(cell, matrix::word(expected));
                            Ok(())
                        });
                    } else {
                        self.add(&format!("refused-by-{runtime}/{layout}/{way}/{suite}"), cell, move |site, cell| {
                            outside::refused_by_runtime(site, cell, &config)?;
                            matrix.note(cell, "refused by crun");
                            Ok(())
                        });
                    }
                }
            }
        }
    }

    /// Adds the tests with a cgroup layout other than the runtime's.
    fn layouts(&mut self) {
        let (runc, crun) = (Runtime::Runc, Runtime::Crun);
        let (legacy, hybrid, unified) = (Layout::Legacy, Layout::Hybrid, Layout::Unified);
        let on_unified = [(runc, unified), (crun, unified)];
        let on_legacy = [(runc, legacy), (crun, legacy)];
        let on_hybrid = [(runc, hybrid)];
        for (forced, suite, platforms) in [
            (legacy, Suite::Bullseye, &on_unified[..]),
            (legacy, Suite::Bookworm, &on_unified),
            (legacy, Suite::Trixie, &on_unified),
            (unified, Suite::Bookworm, &on_legacy),
            (unified, Suite::Bookworm, &on_hybrid),
            (hybrid, Suite::Bookworm, &on_unified),
            (hybrid, Suite::Bookworm, &on_legacy),
            (hybrid, Suite::Bookworm, &on_hybrid),
        ] {
            for &(runtime, layout) in platforms {
                for (way, config) in ways() {
                    let cell = Cell { runtime, layout, suite };
                    let name = format!("forced/{forced}/{runtime}/{layout}/{way}/{suite}");
                    self.add(&name, cell, move |site, cell| layouts::forced(site, cell, config.clone(), forced));
                }
            }
        }
        let mut one = |name: &str, runtime, layout, suite, check: Check| {
            let cell = Cell { runtime, layout, suite };
            self.add(&format!("{name}/{runtime}/{layout}/{suite}"), cell, check);
        };
        for (runtime, layout) in PLATFORMS {
            one("forced-too-far", runtime, layout, Suite::Sid, layouts::forced_too_far);
            one("bad-layout", runtime, layout, Suite::Bookworm, layouts::bad_value);
        }
        for (runtime, layout) in on_legacy {
            one("missing-stage", runtime, layout, Suite::Sid, layouts::missing_stage);
            one("missing-stage", runtime, layout, Suite::Trixie, layouts::missing_stage_without_need);
            one("killed", runtime, layout, Suite::Sid, special::killed);
            one("two-at-once", runtime, layout, Suite::Bookworm, |site, cell| {
                layouts::two_at_once(site, cell, Layout::Unified)
            });
        }
        for (runtime, layout) in on_unified {
            one("two-at-once", runtime, layout, Suite::Bookworm, |site, cell| {
                layouts::two_at_once(site, cell, Layout::Legacy)
            });
        }
    }

    /// Adds the tests that use podman in place of plain runtimes.
    fn podman(&mut self) {
        for trial in podman::trials() {
            let site = Arc::clone(self.site);
            let Cell { runtime, layout, suite } = trial.cell;
            let missing = site.missing(runtime, layout, suite).or_else(|| site::missing_program(&podman::PROGRAMS));
            self.list.push(trial.name.clone(), missing, move || trial.run(&site));
        }
    }

    fn docker(&mut self) {
        for trial in docker::trials() {
            let site = Arc::clone(self.site);
            let Cell { runtime, layout, suite } = trial.cell;
            let missing = site
                .missing(runtime, layout, suite)
                .or_else(|| site::missing_program(&docker::PROGRAMS))
                .or_else(|| trial.missing(&site));
            self.list.push(trial.name.clone(), missing, move || trial.run(&site));
        }
    }

    /// Adds the tests of the files of contrib/system-container.
    fn system_containers(&mut self) {
        let trials: [(&str, Check); 2] = [
            ("system-container", system_container::whole_life),
            ("system-container-without-hooks", system_container::without_hooks),
        ];
        let runtime = Runtime::Runc;
        for layout in [Layout::Hybrid, Layout::Unified] {
            let cell = Cell { runtime, layout, suite: Suite::Bookworm };
            for (name, check) in trials {
                let site = Arc::clone(self.site);
                let missing = site.missing(runtime, layout, cell.suite);
                let missing = missing.or_else(|| site::missing_program(&system_container::PROGRAMS));
                self.list.push(format!("{name}/{runtime}/{layout}"), missing, move || check(&site, cell));
            }
        }
    }

    /// Adds the tests that interrupt the hook, which need strace.
    fn interrupted_hooks(&mut self) {
        for (runtime, layout) in PLATFORMS {
            let cell = Cell { runtime, layout, suite: Suite::Bookworm };
            let site = Arc::clone(self.site);
            let missing = site.missing(runtime, layout, cell.suite).or_else(|| site::missing_program(&["strace"]));
            let name = format!("interrupted-hook/{runtime}/{layout}");
            self.list.push(name, missing, move || outside::interrupted_hook(&site, cell));
        }
    }

    /// Adds the tests that use all resources of the machine. They run only on request.
    fn load(&mut self) {
        for (runtime, layout) in load::PLATFORMS {
            let site = Arc::clone(self.site);
            let cell = Cell { runtime, layout, suite: Suite::Bookworm };
            let missing = site.missing(runtime, layout, cell.suite);
            self.list.push_ignored(format!("load/{runtime}/{layout}"), missing, move || load::crowd(&site, cell));
        }
    }

    /// Adds the tests that take minutes each. They run only on request.
    fn suites(&mut self) {
        for suites::SuiteTrial { name, missing, run } in suites::trials(self.site) {
            let site = Arc::clone(self.site);
            self.list.push_ignored(name, missing, move || run(&site));
        }
    }

    fn all(mut self, matrix: &Arc<Matrix>) -> Self {
        self.boots(matrix);
        self.layouts();
        self.podman();
        self.docker();
        self.system_containers();
        self.load();
        self.suites();
        for (runtime, layout) in PLATFORMS {
            for suite in Suite::ALL {
                let cell = Cell { runtime, layout, suite };
                self.add(&format!("without-hook/{runtime}/{layout}/{suite}"), cell, outside::missing_hook_warning);
            }
        }
        let runc_hybrid = (Runtime::Runc, Layout::Hybrid);
        let runc_unified = (Runtime::Runc, Layout::Unified);
        let crun_legacy = (Runtime::Crun, Layout::Legacy);
        let crun_unified = (Runtime::Crun, Layout::Unified);
        let two = [runc_hybrid, crun_unified];
        self.each("disabled", &two, outside::disabled);
        self.each("other-init", &PLATFORMS, outside::other_init);
        self.each("failing-hook", &PLATFORMS, outside::failing_hook);
        self.interrupted_hooks();
        self.each("links-that-lead-out", &PLATFORMS, outside::links_that_lead_out);
        self.each("prestart-only", &PLATFORMS, special::prestart_only);
        self.each("cri-o", &PLATFORMS, special::cri_o);
        self.each("create-container-too", &PLATFORMS, special::create_container_too);
        self.each("create-container-only", &PLATFORMS, special::create_container_only);
        self.each("stage", &[runc_hybrid, crun_legacy, crun_unified], stage::of_each_runtime);
        self.each("hidden-runtime", &two, stage::hidden_runtime);
        self.each("twice", &two, special::twice);
        self.each("uninitialized", &two, special::uninitialized);
        self.each("no-machine-id", &two, special::no_machine_id);
        self.each("one-id", &[(Runtime::Runc, Layout::Legacy)], one_id::of_two_runtimes);
        self.each("enabled", &two, special::enabled);
        let with_controllers = [(Runtime::Runc, Layout::Legacy), runc_hybrid, crun_legacy];
        self.each("memory-limit", &with_controllers, special::memory_limit);
        self.each("memory-of-copies", &with_controllers, special::memory_of_copies);
        self.each("user-namespace", &PLATFORMS, special::user_namespace);
        let once_each = [runc_hybrid, runc_unified, crun_legacy, crun_unified];
        self.each("read-only-root", &once_each, special::read_only_root);
        let name = "read-only-root-without-machine-id";
        self.each(name, &two, special::read_only_root_without_machine_id);
        self.each("old-systemd", &[runc_unified, crun_unified], layouts::old_systemd);
        self.each("cgroups-of-others", &PLATFORMS, others::are_left_alone);
        self.each("cgroup-of-another-container", &[runc_hybrid, crun_legacy], others::container_is_left_alone);
        let on_v2 = [runc_unified, crun_unified];
        self.each("v1-with-sys-admin", &on_v2, others::no_v1_with_sys_admin);
        self.each("cgroup-files", &on_v2, cgroup_files::are_the_cgroups_own);
        self.each("cgroup-files-and-others", &on_v2, cgroup_files::show_others);
        self.each("bounded-cgroups", &on_v2, others::are_bounded);
        self.each("little-room-for-cgroups", &on_v2, others::little_room);
        self.each("host-cgroups", &PLATFORMS, outside::host_cgroups);
        for suite in Suite::ALL {
            let cell = Cell { runtime: Runtime::Crun, layout: Layout::Unified, suite };
            self.add(&format!("four-capabilities/crun/unified/{suite}"), cell, special::four_capabilities);
        }
        let trixie = Cell { runtime: Runtime::Crun, layout: Layout::Unified, suite: Suite::Trixie };
        self.add("missed-capability/crun/unified/trixie", trixie, special::missed_capability);
        self.each("unreadable-config-of-others", &two, outside::unreadable_config_of_others);
        self.each("unreadable-config", &two, special::unreadable_config);
        self.each("unreadable-config-without-create-runtime", &two, outside::unreadable_config);
        self.each("unreadable-config-enabled", &[crun_unified], special::unreadable_config_enabled);
        self.each("mounts-below-run", &once_each, special::mounts_below_run);
        self.each("killed", &once_each, special::killed);
        self.each("shared-propagation", &once_each, special::shared_propagation);
        self.each("eight-at-once", &two, special::eight_at_once);
        self
    }
}
