// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The file systems that systemd wants to find mounted: /run, /run/lock, /tmp and /var/log/journal.

use super::Refusal;
use crate::facts::options::{Key, Size};
use crate::facts::{Found, Memory, MemorySource, Options, Surroundings};
use crate::interface::{
    JOURNAL, JOURNAL_LEAST_BYTES, JOURNAL_PERCENT, MIB, RUN, RUN_INODES, RUN_LEAST_BYTES, RUN_LOCK, RUN_LOCK_BYTES,
    RUN_PERCENT, TMP, TMP_INODES, TMP_PERCENT,
};
use crate::path::InnerPath;
use crate::plan::{Action, Content, Need, Node, Plan};

/// One tmpfs as systemd wants it.
struct Wanted {
    path: &'static str,
    mode: u32,
    size: Limit,
    inodes: Option<u64>,
    need: Need,
    if_missing: IfMissing,
    why: &'static str,
}

/// What to do where the image has no such directory.
#[derive(Clone, Copy)]
enum IfMissing {
    Make,
    Leave,
}

pub(super) fn plan(facts: &Surroundings, plan: &mut Plan) -> Result<(), Refusal> {
    for wanted in wanted(facts.memory, &facts.options)? {
        tmpfs(facts, plan, &wanted)?;
    }
    Ok(())
}

/// How large a tmpfs is to be, and what says so.
struct Limit {
    bytes: u64,
    why: String,
}

/// What the author chose, or the share of the memory that systemd takes itself.
fn limit(memory: Memory, chosen: Option<Size>, key: Key, share: (u64, u64)) -> Result<Limit, Refusal> {
    let of = match memory.source {
        MemorySource::Limit => "of the memory limit",
        MemorySource::Host => "of the host's memory",
    };
    let part = |percent: u64| {
        let bytes = u128::from(memory.bytes) * u128::from(percent) / 100;
        // Whole mebibytes, for whoever reads the plan; and 0 would be no limit at all, tmpfs(5).
        (u64::try_from(bytes).unwrap_or(u64::MAX) / MIB * MIB).max(MIB)
    };
    Ok(match (chosen, share) {
        (Some(Size::Bytes(bytes)), _) if bytes > memory.bytes => {
            return Err(Refusal::TooLarge { key, asked_bytes: bytes, memory_bytes: memory.bytes });
        }
        (Some(Size::Bytes(bytes)), _) => Limit { bytes, why: format!("the annotation {key}") },
        (Some(Size::Percent(percent)), _) => {
            Limit { bytes: part(percent.into()), why: format!("{percent} % {of}, the annotation {key}") }
        }
        (None, (percent, MIB)) => Limit { bytes: part(percent), why: format!("{percent} % {of}") },
        (None, (percent, least)) => {
            Limit { bytes: part(percent).max(least), why: format!("{percent} % {of}, at least {} MiB", least / MIB) }
        }
    })
}

fn wanted(memory: Memory, options: &Options) -> Result<[Wanted; 4], Refusal> {
    let run = limit(memory, options.run_size, Key::RunSize, (RUN_PERCENT, RUN_LEAST_BYTES))?;
    let tmp = limit(memory, options.tmp_size, Key::TmpSize, (TMP_PERCENT, MIB))?;
    let journal = limit(memory, options.journal_size, Key::JournalSize, (JOURNAL_PERCENT, JOURNAL_LEAST_BYTES))?;
    Ok([
        Wanted {
            path: RUN,
            mode: 0o755,
            size: run,
            inodes: Some(RUN_INODES),
            need: Need::Required,
            if_missing: IfMissing::Make,
            why: "systemd exits without",
        },
        Wanted {
            path: RUN_LOCK,
            mode: 0o755,
            size: Limit { bytes: RUN_LOCK_BYTES, why: "5 MiB".to_owned() },
            inodes: None,
            need: Need::Required,
            if_missing: IfMissing::Make,
            why: "otherwise run-lock.mount fails",
        },
        Wanted {
            path: TMP,
            mode: 0o1777,
            size: tmp,
            inodes: Some(TMP_INODES),
            need: Need::Required,
            if_missing: IfMissing::Make,
            why: "otherwise tmp.mount fails",
        },
        Wanted {
            path: JOURNAL,
            mode: 0o755,
            size: journal,
            inodes: None,
            need: Need::BestEffort,
            if_missing: IfMissing::Leave,
            why: "the journal doesn't fill the image's root",
        },
    ])
}

fn tmpfs(facts: &Surroundings, plan: &mut Plan, wanted: &Wanted) -> Result<(), Refusal> {
    let (at, content) = match facts.image.at(wanted.path) {
        Found::Directory(at) => (at, Content::Copied),
        Found::EmptyDirectory(at) => (at, Content::None),
        Found::Nothing(at) => match wanted.if_missing {
            IfMissing::Leave => {
                plan.leave(at, "the image has no such directory");
                return Ok(());
            }
            IfMissing::Make => (at, Content::None),
        },
        Found::File(at) => return occupied(plan, wanted, at, "a file"),
        Found::Else(at, kind) => return occupied(plan, wanted, at, kind),
        Found::Unreachable(why) => {
            return occupied(plan, wanted, InnerPath::new(wanted.path), &format!("unreachable ({why})"));
        }
    };
    let missing = matches!(facts.image.at(wanted.path), Found::Nothing(_));
    if let Some(why) = taken(facts, plan, wanted, &at) {
        plan.leave(at, why);
        return Ok(());
    }
    if missing {
        let on_tmpfs = plan.covers(&at) || facts.mounts.holding(&at).is_some_and(|mount| mount.at != InnerPath::root());
        let (action, why) = if on_tmpfs {
            (Action::Directory { at: at.clone(), mode: wanted.mode }, "the mount point")
        } else {
            (Action::MountPoint { at: at.clone(), node: Node::Dir }, "the image has no such directory")
        };
        plan.step(wanted.need, action, why);
    }
    let keep = facts.mounts.directly_below(&at).into_iter().map(|mount| mount.at.clone()).collect();
    plan.step(
        wanted.need,
        Action::Tmpfs {
            at,
            mode: wanted.mode,
            size_bytes: wanted.size.bytes,
            inodes: wanted.inodes,
            context: facts.selinux.context().map(str::to_owned),
            content,
            keep,
        },
        format!("{}; {}", wanted.why, wanted.size.why),
    );
    Ok(())
}

/// Why a path is not ours to mount on: a mount that the user asked for is there, or above it.
fn taken(facts: &Surroundings, plan: &Plan, wanted: &Wanted, at: &InnerPath) -> Option<String> {
    if plan.steps.iter().any(|step| step.action.mounts_at() == Some(at)) {
        return Some(format!("{} leads to the same directory as a path before it", wanted.path));
    }
    let holder = facts.mounts.holding(at)?;
    if holder.at == *at {
        return Some(format!("{} is mounted there already", holder.fs_type));
    }
    if plan.covers(at) || holder.at == InnerPath::root() {
        return None;
    }
    // A tmpfs on /run that somebody else mounted still lacks /run/lock, and a mount there leaves no
    // trace on it; Debian's run-lock.mount would fail without.
    if wanted.path == RUN_LOCK && holder.is_own_tmpfs() {
        return None;
    }
    Some(format!("it lies on the mount at {}, which config.json asks for", holder.at))
}

fn occupied(plan: &mut Plan, wanted: &Wanted, at: InnerPath, kind: &str) -> Result<(), Refusal> {
    match wanted.need {
        Need::Required => Err(Refusal::Occupied { at, kind: kind.to_owned() }),
        Need::BestEffort => {
            plan.warn(format!("no tmpfs on {}: {at} in the image is {kind}", wanted.path));
            Ok(())
        }
    }
}
