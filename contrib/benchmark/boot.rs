// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures how long images take to boot in the cgroup layout that the runtime mounts, and in
//! one that the hook creates.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Janitor};
use crate::host::{Host, Order};
use crate::measure::Subject;
use crate::surroundings::shuffle;

/// The way in which a host or a container mounts its cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Only cgroup v1 is mounted.
    Legacy,
    /// All controllers are on cgroup v1, and cgroup v2 has none.
    Hybrid,
    /// Only cgroup v2 is mounted.
    Unified,
}

use Layout::{Hybrid, Legacy, Unified};

impl Layout {
    /// Returns the layout's name in the hook's annotation.
    pub fn word(self) -> &'static str {
        match self {
            Legacy => "legacy",
            Hybrid => "hybrid",
            Unified => "unified",
        }
    }

    /// Returns the layout that a runtime mounts on such a host. On a hybrid host, runc 1.1 doesn't
    /// mount v2 in a container.
    fn mounted(self) -> Self {
        match self {
            Legacy | Hybrid => Legacy,
            Unified => Unified,
        }
    }
}

/// A combination of an image, a host's layout and a container's layout.
#[derive(Debug)]
pub struct Cell {
    /// The name of the image's directory.
    pub image: &'static str,
    /// The cgroup layout of the host.
    pub host: Layout,
    /// The cgroup layout that the container should have.
    pub inside: Layout,
    /// Whether the annotation requests the container's layout. Otherwise, the hook chooses it.
    pub is_forced: bool,
}

impl Cell {
    fn is_native(&self) -> bool {
        self.inside == self.host.mounted()
    }

    /// Returns which program creates the container's layout, and whether the annotation forces it.
    pub fn origin(&self) -> &'static str {
        match (self.is_native(), self.is_forced) {
            (true, false) => "runtime",
            (true, true) => "runtime, forced",
            (false, false) => "hook",
            (false, true) => "hook, forced",
        }
    }
}

const fn chosen(image: &'static str, host: Layout, inside: Layout) -> Cell {
    Cell { image, host, inside, is_forced: false }
}

const fn forced(image: &'static str, host: Layout, inside: Layout) -> Cell {
    Cell { image, host, inside, is_forced: true }
}

/// The combinations that are booted.
pub static CELLS: [Cell; 15] = [
    chosen("bullseye", Unified, Unified),
    forced("bullseye", Unified, Legacy),
    chosen("bullseye", Legacy, Legacy),
    forced("bullseye", Legacy, Unified),
    chosen("bookworm", Unified, Unified),
    forced("bookworm", Unified, Legacy),
    chosen("bookworm", Legacy, Legacy),
    forced("bookworm", Legacy, Unified),
    chosen("trixie", Unified, Unified),
    chosen("trixie", Legacy, Unified),
    chosen("trixie", Hybrid, Unified),
    forced("trixie", Legacy, Legacy),
    chosen("sid", Unified, Unified),
    chosen("sid", Legacy, Unified),
    chosen("sid", Hybrid, Unified),
];

/// The result of one boot.
#[derive(Debug, Serialize, Deserialize)]
pub struct Boot {
    /// The time from the start of the runtime until systemd reports that it is running.
    pub time: Duration,
    /// The version that systemd reports.
    pub systemd: String,
}

/// The boots of one cell.
#[derive(Debug)]
pub struct Boots {
    /// The combination that was booted.
    pub cell: &'static Cell,
    /// The version of the image's systemd.
    pub systemd: String,
    /// The time of each round.
    pub times: Vec<Duration>,
}

/// Finds the boots of the same image in the layout that the runtime mounts on the same host.
pub fn same_host<'a>(all: &'a [Boots], cell: &Cell) -> Option<&'a Boots> {
    native(all, cell.image, |other| other.host == cell.host)
}

/// Finds the boots of the same image in the same layout, mounted by the runtime.
pub fn same_layout<'a>(all: &'a [Boots], cell: &Cell) -> Option<&'a Boots> {
    native(all, cell.image, |other| other.inside == cell.inside)
}

fn native<'a>(all: &'a [Boots], image: &str, fits: impl Fn(&Cell) -> bool) -> Option<&'a Boots> {
    all.iter().find(|boots| boots.cell.image == image && boots.cell.is_native() && fits(boots.cell))
}

/// Boots each combination once per round, one after the other in shuffled order.
pub fn measure(roots: &Path, hook: &Subject, rounds: usize) -> Result<Vec<Boots>, String> {
    check(roots)?;
    let mut all: Vec<Boots> =
        CELLS.iter().map(|cell| Boots { cell, systemd: String::new(), times: Vec::with_capacity(rounds) }).collect();
    // The janitor is dropped after the hosts, whose processes are in its cgroups.
    let janitor = Janitor::start_for_runtimes();
    let mut hosts = [Legacy, Hybrid, Unified].map(|layout| {
        let order = Order {
            layout,
            roots: roots.to_owned(),
            hook: hook.clone(),
            runtime_cgroups: janitor.cgroups().to_vec(),
            parent_cgroup: janitor.name().to_owned(),
        };
        (layout, Host::start(&order))
    });
    let mut order: Vec<usize> = (0..CELLS.len()).collect();
    let mut random = 1;
    // Round 0 isn't counted, because it reads the images' files into memory.
    for round in 0..=rounds {
        eprintln!("benchmark: booting: round {round} of {rounds} …");
        shuffle(&mut order, &mut random);
        for &index in &order {
            let boots = &mut all[index];
            let cell = boots.cell;
            let (_, host) = hosts.iter_mut().find(|(layout, _)| *layout == cell.host).expect("a host of each layout");
            let boot = host.boot(index).map_err(|error| {
                let (host, inside) = (cell.host.word(), cell.inside.word());
                format!("{} on a host that is {host}, {inside} inside: {error}", cell.image)
            })?;
            if round > 0 {
                boots.times.push(boot.time);
            }
            boots.systemd = boot.systemd;
        }
    }
    Ok(all)
}

/// Checks that nothing is missing before anything is created.
fn check(roots: &Path) -> Result<(), String> {
    for hierarchy in ["systemd", "unified"] {
        let path = Path::new(cgroup::ROOT).join(hierarchy);
        if !path.join("cgroup.procs").exists() {
            // A controller that is on v2 isn't available on v1 at the same time.
            return Err(format!("hosts of all layouts can be made of a hybrid one alone: no {}", path.display()));
        }
    }
    for cell in &CELLS {
        let root = roots.join(cell.image);
        if !root.join("lib/systemd/systemd").exists() {
            return Err(format!("no systemd in {}", root.display()));
        }
    }
    Ok(())
}
