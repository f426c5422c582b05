// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can happen to a container, and how often it does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use super::chance::{Chance, Span};

/// The process that is killed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    Nobody,
    HookAtCreate,
    HookAtPoststop,
    RuntimeAtCreate,
    RuntimeAtDelete,
    /// While the runtime creates the container and the hook prepares it.
    ContainerAtCreate,
    /// After its creation, whether or not systemd is booting in it.
    Container,
}

impl Victim {
    const KILLED: [Self; 6] = [
        Self::HookAtCreate,
        Self::HookAtPoststop,
        Self::RuntimeAtCreate,
        Self::RuntimeAtDelete,
        Self::ContainerAtCreate,
        Self::Container,
    ];

    /// Returns the initial estimate of the victim's duration, in the crowd on two processors.
    fn seconds(self) -> f64 {
        match self {
            Self::HookAtPoststop => 0.03,
            Self::HookAtCreate => 0.1,
            Self::RuntimeAtDelete => 0.2,
            Self::Nobody | Self::RuntimeAtCreate | Self::ContainerAtCreate | Self::Container => 1.0,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::HookAtCreate => "hooks at createRuntime",
            Self::HookAtPoststop => "hooks at poststop",
            Self::RuntimeAtCreate => "runtimes at create",
            Self::RuntimeAtDelete => "runtimes at delete",
            Self::ContainerAtCreate => "containers at create",
            Self::Container => "containers later",
        }
    }
}

/// The fate of one container.
#[derive(Clone, Debug)]
pub struct Fate {
    pub victim: Victim,
    /// The fraction of the victim's duration after which it is killed.
    share: f64,
    /// Whether systemd is started in the container.
    pub boots: bool,
    /// Whether the image lacks a mount point, so that the hook has to create one in the root and to remove it.
    pub lacks_machine_id: bool,
    /// Whether the cgroup layout differs from the runtime's, so that the hook has to create a cgroup
    /// and to remove it.
    pub other_layout: bool,
}

impl Fate {
    pub fn draw(chance: &mut Chance) -> Self {
        let victim = match chance.below(100) {
            0..30 => Victim::Nobody,
            30..46 => Victim::HookAtCreate,
            46..56 => Victim::HookAtPoststop,
            56..72 => Victim::RuntimeAtCreate,
            72..82 => Victim::RuntimeAtDelete,
            82..90 => Victim::ContainerAtCreate,
            _ => Victim::Container,
        };
        Self {
            victim,
            share: chance.share(),
            boots: match victim {
                Victim::Nobody => chance.once_in(8),
                Victim::Container => chance.once_in(4),
                _ => false,
            },
            // Otherwise there would be nothing to interrupt at poststop.
            lacks_machine_id: chance.once_in(3) || victim == Victim::HookAtPoststop,
            other_layout: chance.once_in(3),
        }
    }
}

/// The fates of all containers of a test.
#[derive(Debug)]
pub struct Fates {
    spans: BTreeMap<Victim, Span>,
    /// The number of victims that were to be killed, and of those that were killed in time.
    counts: Mutex<BTreeMap<Victim, (u32, u32)>>,
    booted: Mutex<u32>,
}

impl Fates {
    pub fn new() -> Self {
        Self {
            spans: Victim::KILLED.into_iter().map(|victim| (victim, Span::new(victim.seconds()))).collect(),
            counts: Mutex::default(),
            booted: Mutex::default(),
        }
    }

    /// Returns the time to wait before the victim is killed.
    pub fn moment(&self, fate: &Fate) -> Duration {
        self.spans.get(&fate.victim).map_or(Duration::ZERO, |span| span.moment(fate.share))
    }

    pub fn note(&self, fate: &Fate, in_time: bool) {
        if let Some(span) = self.spans.get(&fate.victim) {
            span.note(in_time);
        }
        let mut counts = self.counts.lock().expect("no holder of the lock panics");
        let (all, killed) = counts.entry(fate.victim).or_default();
        *all += 1;
        *killed += u32::from(in_time);
    }

    pub fn note_boot(&self) {
        *self.booted.lock().expect("no holder of the lock panics") += 1;
    }

    /// Returns a summary for the test's output.
    pub fn told(&self) -> String {
        let counts = self.counts.lock().expect("no holder of the lock panics");
        let untouched = counts.get(&Victim::Nobody).map_or(0, |(all, _)| *all);
        let booted = *self.booted.lock().expect("no holder of the lock panics");
        let mut told = format!("{untouched} untouched, {booted} of them booted; killed in time");
        for victim in Victim::KILLED {
            let (all, killed) = counts.get(&victim).copied().unwrap_or_default();
            // Writing to a string can't fail.
            let _ = write!(told, ", {killed} of {all} {}", victim.words());
        }
        told
    }

    /// Returns the kinds of victims of which none was killed in time. A test without such kills proves nothing.
    pub fn missed(&self) -> Vec<&'static str> {
        let counts = self.counts.lock().expect("no holder of the lock panics");
        let missed =
            Victim::KILLED.into_iter().filter(|victim| counts.get(victim).is_none_or(|(_, killed)| *killed == 0));
        missed.map(Victim::words).collect()
    }
}
