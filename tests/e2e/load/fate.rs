// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows what can become of a container, and how often it does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use super::chance::{Chance, Span};

/// Who is killed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    Nobody,
    HookAtCreate,
    HookAtPoststop,
    RuntimeAtCreate,
    RuntimeAtDelete,
    /// While the runtime creates the container, and the hook prepares it.
    ContainerAtCreate,
    /// After that, with systemd booting in it or not.
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

    /// What each takes, to begin with, in the crowd on two processors.
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

/// One container's.
#[derive(Clone, Debug)]
pub struct Fate {
    pub victim: Victim,
    /// Which part of the time that the victim has is over when it is killed.
    share: f64,
    /// systemd is started in it.
    pub boots: bool,
    /// The image lacks a mount point, so that something in its root has to be taken back.
    pub lacks_machine_id: bool,
    /// The cgroup layout is not the runtime's, so that a cgroup has to be taken back.
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
            // At poststop there is nothing to interrupt else.
            lacks_machine_id: chance.once_in(3) || victim == Victim::HookAtPoststop,
            other_layout: chance.once_in(3),
        }
    }
}

/// What became of all containers of a trial.
#[derive(Debug)]
pub struct Fates {
    spans: BTreeMap<Victim, Span>,
    /// How many of whom were to be killed, and how many were in time.
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

    /// How long to wait before the victim is killed.
    pub fn moment(&self, fate: &Fate) -> Duration {
        self.spans.get(&fate.victim).map_or(Duration::ZERO, |span| span.moment(fate.share))
    }

    pub fn note(&self, fate: &Fate, in_time: bool) {
        if let Some(span) = self.spans.get(&fate.victim) {
            span.note(in_time);
        }
        let mut counts = self.counts.lock().expect("nothing panics with it");
        let (all, killed) = counts.entry(fate.victim).or_default();
        *all += 1;
        *killed += u32::from(in_time);
    }

    pub fn note_boot(&self) {
        *self.booted.lock().expect("nothing panics with it") += 1;
    }

    /// For who reads the test's output.
    pub fn told(&self) -> String {
        let counts = self.counts.lock().expect("nothing panics with it");
        let untouched = counts.get(&Victim::Nobody).map_or(0, |(all, _)| *all);
        let booted = *self.booted.lock().expect("nothing panics with it");
        let mut told = format!("{untouched} untouched, {booted} of them booted; killed in time");
        for victim in Victim::KILLED {
            let (all, killed) = counts.get(&victim).copied().unwrap_or_default();
            // Writing to a string can't fail.
            let _ = write!(told, ", {killed} of {all} {}", victim.words());
        }
        told
    }

    /// The kills that are told of were some: a test without them shows nothing.
    pub fn missed(&self) -> Vec<&'static str> {
        let counts = self.counts.lock().expect("nothing panics with it");
        let missed =
            Victim::KILLED.into_iter().filter(|victim| counts.get(victim).is_none_or(|(_, killed)| *killed == 0));
        missed.map(Victim::words).collect()
    }
}
