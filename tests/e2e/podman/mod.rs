// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The list of the tests with podman, rootful and rootless.

pub mod engine;
pub mod guest;
mod lives;
mod modes;
mod options;
mod pods;
mod readme;
mod refused;
pub mod store;

use std::sync::Arc;

use libtest_mimic::Failed;

use crate::container::Cell;
use crate::engines::image::SUITE;
use crate::engines::user::User;
use crate::podman::engine::{Engine, Spot};
use crate::podman::store::Store;
use crate::site::{Layout, Runtime, Site};

/// The programs that these tests or podman call in addition to a runtime, from Debian's packages podman,
/// jq, uidmap and catatonit.
pub const PROGRAMS: [&str; 5] = ["podman", "conmon", "jq", "newuidmap", "catatonit"];

/// The function of a test, which runs on a podman.
#[derive(Clone, Copy)]
enum Check {
    Podman(fn(&Engine) -> Result<(), Failed>),
    /// A test that needs more than the usual image.
    Site(fn(&Engine, &Site) -> Result<(), Failed>),
}

const fn spot(user: User, runtime: Runtime, layout: Layout) -> Spot {
    Spot { user, runtime, layout }
}

const RUNC_HYBRID: Spot = spot(User::Root, Runtime::Runc, Layout::Hybrid);
pub const RUNC_UNIFIED: Spot = spot(User::Root, Runtime::Runc, Layout::Unified);
pub const CRUN_UNIFIED: Spot = spot(User::Root, Runtime::Crun, Layout::Unified);
const RUNC_ROOTLESS: Spot = spot(User::Other, Runtime::Runc, Layout::Unified);
const CRUN_ROOTLESS: Spot = spot(User::Other, Runtime::Crun, Layout::Unified);

const ALL: [Spot; 5] = [RUNC_HYBRID, RUNC_UNIFIED, CRUN_UNIFIED, RUNC_ROOTLESS, CRUN_ROOTLESS];

/// A test with its own podman, which must leave its host unchanged.
pub struct PodmanTrial {
    pub name: String,
    pub cell: Cell,
    spot: Spot,
    check: Check,
    store: Arc<Store>,
}

impl PodmanTrial {
    pub fn run(&self, site: &Site) -> Result<(), Failed> {
        let engine = Engine::new(site, &self.store, self.spot)?;
        match self.check {
            Check::Podman(check) => check(&engine)?,
            Check::Site(check) => check(&engine, site)?,
        }
        engine.host_is_as_before()
    }
}

pub fn trials() -> Vec<PodmanTrial> {
    let store = Arc::new(Store::default());
    let mut list = Vec::new();
    let mut add = |name: &str, spots: &[Spot], check: Check| {
        for &spot in spots {
            let name = format!("podman/{name}/{}/{}/{}", spot.user, spot.runtime, spot.layout);
            let cell = Cell { runtime: spot.runtime, layout: spot.layout, suite: SUITE };
            list.push(PodmanTrial { name, cell, spot, check, store: Arc::clone(&store) });
        }
    };
    add("readme", &[RUNC_HYBRID, CRUN_UNIFIED], Check::Site(readme::steps));
    let mut each = |name: &str, spots: &[Spot], check| add(name, spots, Check::Podman(check));
    each("hook-alone", &ALL, modes::hook_alone);
    each("all-stages", &ALL, modes::all_stages);
    each("own-mode", &ALL, modes::own_mode);
    each("always", &[CRUN_UNIFIED], modes::always);
    each("enabled", &ALL, modes::enabled);
    each("precreate", &[RUNC_HYBRID, CRUN_UNIFIED, CRUN_ROOTLESS], modes::precreate);
    each("not-asked-for", &[CRUN_UNIFIED], modes::not_asked_for);
    each("disabled", &[RUNC_HYBRID, CRUN_ROOTLESS], modes::disabled);
    let two = [RUNC_HYBRID, CRUN_UNIFIED];
    let three = [RUNC_HYBRID, CRUN_UNIFIED, CRUN_ROOTLESS];
    each("read-only", &two, options::read_only);
    each("tmpfs-on-run", &two, options::tmpfs_on_run);
    each("size-of-run", &[CRUN_UNIFIED], options::size_of_run);
    each("volume-below-run", &three, options::volume_below_run);
    each("volume-on-var", &[CRUN_UNIFIED], options::volume_on_var);
    each("userns-auto", &two, options::users_of_its_own);
    each("uidmap", &two, options::mapped_users);
    each("cgroupns-host", &two, options::hosts_cgroup_namespace);
    each("privileged", &[CRUN_UNIFIED], options::privileged);
    each("init", &two, options::other_init);
    each("rootfs", &two, options::users_tree);
    each("restart", &three, lives::restarted);
    each("commit", &[CRUN_UNIFIED], lives::committed);
    each("no-machine-id", &three, lives::without_machine_id);
    each("ten-at-once", &two, lives::ten_at_once);
    each("removed-early", &three, lives::removed_early);
    each("killed", &two, lives::killed);
    each("bad-annotation", &two, refused::bad_annotation);
    each("pod", &[RUNC_HYBRID], pods::in_pod);
    each("played", &[RUNC_ROOTLESS, CRUN_ROOTLESS], pods::played);
    list
}
