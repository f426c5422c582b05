// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random choices of what happens to each container, which can be repeated.

use std::env;
use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use libtest_mimic::Failed;

/// The variable with the seed to use. A run prints its seed.
pub const SEED: &str = "OCI_SYSTEMD_HOOK_LOAD_SEED";

/// Returns the seed from the variable, or a random one if it isn't set.
pub fn seed() -> Result<u64, Failed> {
    if let Some(given) = env::var_os(SEED) {
        let number = given.to_str().and_then(|text| text.parse().ok());
        return number.ok_or_else(|| format!("{SEED} is {given:?}, which is not a number").into());
    }
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let digits: String = random.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    Ok(u64::from_str_radix(&digits, 16)?)
}

/// A pseudorandom number generator (splitmix64).
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// Returns the generator of one cycle. Each cycle has its own, since the order in which
    /// threads draw is undefined.
    pub fn of_cycle(seed: u64, cycle: u32) -> Self {
        let mut chance = Self(seed ^ u64::from(cycle) << 32);
        chance.draw();
        chance
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.draw() % u64::from(limit)).expect("less than the limit")
    }

    /// Returns `true` with a probability of 1 in `times`.
    pub fn once_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }

    /// Returns a number from 0 to 1.
    pub fn share(&mut self) -> f64 {
        f64::from(self.below(u32::MAX)) / f64::from(u32::MAX)
    }
}

/// The longest wait before a kill. A kill in time makes it longer, and one that comes too late shorter. This
/// spreads the moments over the whole life of the victim, however long that is on a busy machine.
#[derive(Debug)]
pub struct Span(Mutex<f64>);

impl Span {
    pub fn new(seconds: f64) -> Self {
        Self(Mutex::new(seconds))
    }

    pub fn moment(&self, share: f64) -> Duration {
        let longest = *self.0.lock().expect("no holder of the lock panics");
        // timeout(1) treats 0 as no timeout.
        Duration::from_secs_f64(longest * share).max(Duration::from_micros(1))
    }

    pub fn note(&self, in_time: bool) {
        /// Equal numbers of kills in time and too late leave the span unchanged.
        const STEP: f64 = 1.1;
        /// The limits of the span. They are needed because a hundred processes that start at once all change it
        /// in the same direction.
        const SECONDS: std::ops::RangeInclusive<f64> = 0.001..=4.0;
        let mut longest = self.0.lock().expect("no holder of the lock panics");
        *longest = if in_time { *longest * STEP } else { *longest / STEP }.clamp(*SECONDS.start(), *SECONDS.end());
    }
}
