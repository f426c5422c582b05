// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The list of other projects' test suites that run in a container with the hook, and the comparison of their
//! results with those in a container of podman's own systemd mode.

mod autopkgtest;
mod unit_tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use libtest_mimic::Failed;

use crate::docker;
use crate::podman;
use crate::site::{Site, Suite, missing_program};

/// The programs that the tests with autopkgtest call in addition to podman and Docker, from Debian's
/// packages autopkgtest and runc.
const PROGRAMS: [&str; 3] = ["autopkgtest", "autopkgtest-virt-podman", "runc"];

/// The names of a suite's tests, and whether each passed.
type Results = BTreeMap<String, bool>;

type Run = Box<dyn FnOnce(&Site) -> Result<(), Failed> + Send>;

/// A test suite that runs in containers of engines.
pub struct SuiteTrial {
    pub name: String,
    pub missing: Option<String>,
    pub run: Run,
}

pub fn trials(site: &Site) -> Vec<SuiteTrial> {
    let podmans = Arc::new(podman::store::Store::default());
    let dockers = Arc::new(docker::stock::Store::default());
    let missing = site
        .missing(podman::CRUN_UNIFIED.runtime, podman::CRUN_UNIFIED.layout, Suite::Bookworm)
        .or_else(|| missing_program(&podman::PROGRAMS))
        .or_else(|| missing_program(&docker::PROGRAMS));
    let mut list = Vec::new();
    for suite in Suite::ALL {
        let store = Arc::clone(&podmans);
        list.push(SuiteTrial {
            name: format!("suites/systemd-tests/{suite}"),
            missing: missing.clone().or_else(|| site.unit_tests(suite).err()),
            run: Box::new(move |site| unit_tests::run_in(site, &store, suite)),
        });
    }
    for package in autopkgtest::PACKAGES {
        let (podmans, dockers) = (Arc::clone(&podmans), Arc::clone(&dockers));
        list.push(SuiteTrial {
            name: format!("suites/autopkgtest/{package}"),
            missing: missing.clone().or_else(|| missing_program(&PROGRAMS)).or_else(|| site.services().err()),
            run: Box::new(move |site| autopkgtest::run_in(site, &podmans, &dockers, package)),
        });
    }
    list
}

/// Returns the tests that passed in `before` and that failed, or have no result, in `after`.
fn lost<'a>(before: &'a Results, after: &Results) -> Vec<&'a str> {
    before.iter().filter(|&(name, &passed)| passed && after.get(name) != Some(&true)).map(|(name, _)| &**name).collect()
}
