// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The list of the tests with Docker, and with containerd without Docker.

mod containerd;
mod daemon;
pub mod engine;
mod guest;
mod lives;
mod logs;
mod ordinary;
mod readme;
mod refused;
pub mod stock;
mod terminal;
mod walk;

use std::sync::Arc;

use libtest_mimic::Failed;

use crate::container::Cell;
use crate::docker::engine::{Engine, Spot};
use crate::docker::stock::{Kind, Store};
use crate::engines::image::SUITE;
use crate::site::{Layout, Runtime, Site};

/// The programs that these tests call in addition to a runtime, from Debian's packages docker.io, jq and catatonit.
pub const PROGRAMS: [&str; 6] = ["docker", "dockerd", "containerd", "ctr", "jq", "catatonit"];

/// The function of a test and what it runs on.
#[derive(Clone, Copy)]
enum Check {
    /// A test on a dockerd of this kind.
    Docker(Kind, fn(&Engine) -> Result<(), Failed>),
    /// A test that starts everything that it needs itself.
    Containerd(fn(&Site, Spot) -> Result<(), Failed>),
}

const fn spot(runtime: Runtime, layout: Layout) -> Spot {
    Spot { runtime, layout }
}

const RUNC_LEGACY: Spot = spot(Runtime::Runc, Layout::Legacy);
const RUNC_HYBRID: Spot = spot(Runtime::Runc, Layout::Hybrid);
pub const RUNC_UNIFIED: Spot = spot(Runtime::Runc, Layout::Unified);
const CRUN_UNIFIED: Spot = spot(Runtime::Crun, Layout::Unified);

const ALL: [Spot; 4] = [RUNC_LEGACY, RUNC_HYBRID, RUNC_UNIFIED, CRUN_UNIFIED];

/// A test with its own host, which it must leave unchanged.
pub struct DockerTrial {
    pub name: String,
    pub cell: Cell,
    spot: Spot,
    check: Check,
    store: Arc<Store>,
}

impl DockerTrial {
    /// Returns the reason why the test can't run on this machine, apart from the requirements of its
    /// cell and the programs.
    pub fn missing(&self, site: &Site) -> Option<String> {
        match self.check {
            Check::Docker(kind, _) => kind.missing(site),
            Check::Containerd(_) => None,
        }
    }

    pub fn run(&self, site: &Site) -> Result<(), Failed> {
        match self.check {
            Check::Docker(kind, check) => {
                let engine = Engine::new(site, &self.store, kind, self.spot)?;
                check(&engine)?;
                engine.host_is_as_before()
            }
            Check::Containerd(check) => check(site, self.spot),
        }
    }
}

pub fn trials() -> Vec<DockerTrial> {
    let store = Arc::new(Store::default());
    let mut list = Vec::new();
    let mut each = |name: &str, spots: &[Spot], check: Check| {
        for &spot in spots {
            let name = format!("docker/{name}/{}/{}", spot.runtime, spot.layout);
            let cell = Cell { runtime: spot.runtime, layout: spot.layout, suite: SUITE };
            list.push(DockerTrial { name, cell, spot, check, store: Arc::clone(&store) });
        }
    };
    let usual = |check| Check::Docker(Kind::Usual, check);
    let two = [RUNC_HYBRID, CRUN_UNIFIED];
    let both_layouts = [RUNC_HYBRID, RUNC_UNIFIED];
    each("run", &ALL, usual(lives::whole));
    each("all-stages", &[RUNC_HYBRID, RUNC_UNIFIED, CRUN_UNIFIED], usual(lives::all_stages));
    each("without-wrapper", &ALL, usual(lives::without_wrapper));
    each("disabled", &two, usual(lives::disabled));
    each("untranslated", &two, usual(lives::untranslated));
    each("restart", &both_layouts, usual(lives::restarted));
    each("thirty-at-once", &both_layouts, usual(lives::thirty_at_once));
    each("userns-remap", &both_layouts, Check::Docker(Kind::Remapped, lives::in_user_namespace));
    each("ordinary", &two, usual(ordinary::says_the_same));
    each("config-json", &two, usual(ordinary::keeps_config_json));
    each("ordinary-stop", &two, usual(ordinary::stops_as_ever));
    each("logs", &both_layouts, usual(logs::with_and_without_terminal));
    each("terminal", &[RUNC_LEGACY, RUNC_HYBRID, RUNC_UNIFIED], Check::Docker(Kind::Web, walk::through));
    each("readme", &both_layouts, Check::Docker(Kind::Readers, readme::steps));
    each("bad-descriptor", &two, usual(refused::bad_descriptor));
    each("host-cgroups", &[RUNC_UNIFIED], usual(refused::hosts_cgroups));
    each("add-hooks", &two, usual(refused::add_hooks));
    each("containerd", &ALL, Check::Containerd(containerd::whole));
    each("containerd-all-stages", &two, Check::Containerd(containerd::all_stages));
    list
}
