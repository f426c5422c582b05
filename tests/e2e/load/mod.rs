// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that a host is unchanged after hundreds of containers, a hundred at a time, while hooks, runtimes
//! and containers are killed.

mod chance;
mod fate;
mod guest;
mod stand;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use libtest_mimic::Failed;

use chance::Chance;
use fate::{Fate, Fates};
use guest::Guest;
use stand::Stand;

use crate::container::{Cell, message};
use crate::inside::Inside;
use crate::site::{Layout, Runtime, Site};

/// The platforms. Together they run a thousand containers.
pub const PLATFORMS: [(Runtime, Layout); 4] = [
    (Runtime::Runc, Layout::Legacy),
    (Runtime::Runc, Layout::Unified),
    (Runtime::Crun, Layout::Legacy),
    (Runtime::Crun, Layout::Unified),
];
const CYCLES: u32 = 250;
const AT_A_TIME: u32 = 100;

pub fn crowd(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let seed = chance::seed()?;
    one_crowd(site, cell, seed).map_err(|failed| format!("with {}={seed}: {}", chance::SEED, message(&failed)).into())
}

fn one_crowd(site: &Arc<Site>, cell: Cell, seed: u64) -> Result<(), Failed> {
    let begun = Instant::now();
    let stand = Stand::new(site, cell)?;
    let fates = Fates::new();
    let next = AtomicU32::new(0);
    let guests = Mutex::new(Vec::new());
    let errors = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                // After an error, running containers complete and no others are started.
                while errors.lock().is_ok_and(|errors| errors.is_empty()) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CYCLES {
                        return;
                    }
                    let fate = Fate::draw(&mut Chance::of_cycle(seed, number));
                    match cycle(&stand, &fates, number, &fate) {
                        Ok(guest) => guests.lock().expect("no holder of the lock panics").push(guest),
                        Err(failed) => {
                            let told = format!("container {number}, {fate:?}: {}", message(&failed));
                            errors.lock().expect("no holder of the lock panics").push(told);
                        }
                    }
                }
            });
        }
    });
    let errors = errors.into_inner()?;
    if !errors.is_empty() {
        return Err(errors.join("\n\n").into());
    }
    let guests = guests.into_inner()?;
    stand.clean_up_after_runtimes()?;
    // They are checked once more, because something that was killed may have left a process that continued.
    guests.iter().try_for_each(|guest| guest.explain(Guest::leaves_nothing))?;
    stand.is_as_before()?;
    let Cell { runtime, layout, .. } = cell;
    let (told, seconds) = (fates.told(), begun.elapsed().as_secs());
    eprintln!("load/{runtime}/{layout}: {CYCLES} cycles, {AT_A_TIME} at a time: {told}; in {seconds} s, seed {seed}");
    let missed = fates.missed();
    if missed.is_empty() { Ok(()) } else { Err(format!("no kill was in time for: {}", missed.join(", ")).into()) }
}

/// Runs one container from the creation of its bundle to its end.
fn cycle<'a>(stand: &'a Stand, fates: &Fates, number: u32, fate: &Fate) -> Result<Guest<'a>, Failed> {
    let guest = Guest::new(stand, number, fate.clone(), fates.moment(fate))?;
    guest.explain(|guest| {
        let in_time = guest.live(fates)?;
        fates.note(fate, in_time);
        guest.leaves_nothing()?;
        guest.unmount()
    })?;
    Ok(guest)
}
