// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The file systems that systemd wants to find mounted: /run, /run/lock, /tmp and /var/log/journal.

use super::Refusal;
use crate::facts::options::{Key, OptionChoice, Policy, Size};
use crate::facts::{Found, Image, Memory, MemorySource, Options, Payer, Surroundings};
use crate::interface::{
    JOURNAL, JOURNAL_LEAST_BYTES, JOURNAL_PERCENT, MIB, RUN, RUN_INODES, RUN_LEAST_BYTES, RUN_LOCK, RUN_LOCK_BYTES,
    RUN_PERCENT, TMP, TMP_INODES, TMP_PERCENT,
};
use crate::path::InnerPath;
use crate::plan::{Action, Cgroup, Content, Copying, Excess, Need, Node, Plan};

/// The most that is copied from an image onto one tmpfs whose size nobody chose, and onto all tmpfs together if
/// there is no memory limit. This is more than any image ships below these paths, and can still be copied
/// before the container starts.
const COPIED_MOST_BYTES: u64 = 512 * MIB;
/// The most that is copied onto all tmpfs together if it can't be charged to the container. The engine is charged for
/// it, at the expense of all other containers.
const UNCHARGED_MOST_BYTES: u64 = 16 * MIB;

/// A tmpfs that systemd wants to find mounted.
struct WantedTmpfs<'a> {
    path: &'static str,
    mode: u32,
    limit: Limit<'a>,
    inodes: Option<u64>,
    need: Need,
    if_missing: IfMissing,
    excess: Excess,
    why: &'static str,
}

/// What to do if the image lacks the directory.
#[derive(Clone, Copy)]
enum IfMissing {
    Make,
    Leave,
}

pub(super) fn plan(facts: &Surroundings, plan: &mut Plan) -> Result<(), Refusal> {
    let mut all = wanted(&facts.options);
    // An image may have one of these directories below another through a symbolic link, such as /run -> /tmp/run. The
    // upper one must be mounted first.
    all.sort_by_key(|wanted| leads_to(&facts.image, wanted.path));
    all.iter().try_for_each(|wanted| tmpfs(facts, plan, wanted))?;
    let is_copied = |action: &Action| matches!(action, Action::Tmpfs { content: Content::Copied { .. }, .. });
    if plan.steps.iter().any(|step| is_copied(&step.action)) {
        plan.copying = Some(copying(facts));
    }
    Ok(())
}

/// Returns how much may be copied onto all tmpfs together. The limit applies regardless of the sizes that the author
/// chose, since a container whose memory is already full would not start.
fn copying(facts: &Surroundings) -> Copying {
    let half = facts.memory.bytes / 2;
    let (most_bytes, why) = match facts.memory.source {
        MemorySource::Limit => (half, "half of the memory limit".to_owned()),
        MemorySource::Host if half < COPIED_MOST_BYTES => (half, "half of the host's memory".to_owned()),
        MemorySource::Host => (COPIED_MOST_BYTES, "there is no memory limit".to_owned()),
    };
    let payer = facts.memory_cgroup.payer;
    let place = facts.memory_cgroup.place.clone();
    let cgroup = place.map(|(hierarchy, path)| Cgroup { hierarchy, path, inode: None });
    let unentered_bytes = most_bytes.min(UNCHARGED_MOST_BYTES);
    match (payer, &cgroup) {
        (Payer::Container, _) => Copying { most_bytes, why, payer, cgroup, most_unentered_bytes: None },
        (Payer::Caller, Some(_)) => {
            Copying { most_bytes, why, payer, cgroup, most_unentered_bytes: Some(unentered_bytes) }
        }
        (Payer::Caller, None) => {
            let why = "the container's cgroup can't be entered".to_owned();
            Copying { most_bytes: unentered_bytes, why, payer, cgroup, most_unentered_bytes: None }
        }
    }
}

fn leads_to(image: &Image, path: &str) -> InnerPath {
    match image.at(path) {
        Found::Directory(at)
        | Found::EmptyDirectory(at)
        | Found::File(at)
        | Found::Nothing(at)
        | Found::Other(at, _)
        | Found::OnServer(at) => at,
        Found::Unreachable(_) => InnerPath::new(path),
    }
}

/// The size of a tmpfs.
enum Limit<'a> {
    /// A fixed number of bytes.
    Of(u64),
    /// The size that the author chose by the option `key`, or else this percentage of the memory, but
    /// at least `least` bytes.
    Share { key: Key, chosen: Option<OptionChoice<'a, Size>>, percent: u64, least: u64 },
}

impl Limit<'_> {
    /// Returns the size in bytes, and the reason for it.
    fn of(&self, memory: Memory) -> Result<(u64, String), Refusal> {
        let of = match memory.source {
            MemorySource::Limit => "of the memory limit",
            MemorySource::Host => "of the host's memory",
        };
        let part = |percent: u64| {
            let bytes = u128::from(memory.bytes) * u128::from(percent) / 100;
            // A size of 0 would mean no limit at all, tmpfs(5).
            whole(u64::try_from(bytes).unwrap_or(u64::MAX)).max(MIB)
        };
        Ok(match self {
            Self::Of(bytes) => (*bytes, format!("{} MiB", bytes / MIB)),
            Self::Share { chosen: Some(OptionChoice { value: Size::Bytes(bytes), key }), .. } => {
                if *bytes > memory.bytes {
                    let (key, asked_bytes, memory_bytes) = ((*key).to_owned(), *bytes, memory.bytes);
                    return Err(Refusal::TooLarge { key, asked_bytes, memory_bytes });
                }
                (whole(*bytes), format!("set by the annotation {key}"))
            }
            Self::Share { chosen: Some(OptionChoice { value: Size::Percent(percent), key }), .. } => {
                (part((*percent).into()), format!("{percent} % {of}, set by the annotation {key}"))
            }
            Self::Share { chosen: None, percent, least, .. } if *least > MIB => {
                (part(*percent).max(*least), format!("{percent} % {of}, at least {} MiB", least / MIB))
            }
            Self::Share { chosen: None, percent, .. } => (part(*percent), format!("{percent} % {of}")),
        })
    }

    /// Returns the annotation by which the author chose the size.
    fn annotation(&self) -> Option<&str> {
        match self {
            Self::Of(_) => None,
            Self::Share { chosen, .. } => chosen.map(|chosen| chosen.key),
        }
    }

    /// Returns how much of the image's content is copied onto a tmpfs of this size.
    fn content(&self, size_bytes: u64, policy: &Policy, excess: Excess) -> Content {
        match self {
            Self::Of(_) => Content::Copied { most_bytes: size_bytes, excess, option: None },
            Self::Share { key, chosen, .. } => {
                let most_bytes = if chosen.is_some() { size_bytes } else { size_bytes.min(COPIED_MOST_BYTES) };
                Content::Copied { most_bytes, excess, option: policy.allows(*key).then_some(key.annotation()) }
            }
        }
    }
}

/// Rounds down to whole mebibytes, which are easier to read in the plan.
fn whole(bytes: u64) -> u64 {
    bytes / MIB * MIB
}

fn share(options: &Options, key: Key, percent: u64, least: u64) -> Limit<'_> {
    Limit::Share { key, chosen: options.size(key), percent, least }
}

fn wanted(options: &Options) -> [WantedTmpfs<'_>; 4] {
    [
        WantedTmpfs {
            path: RUN,
            mode: 0o755,
            limit: share(options, Key::RunSize, RUN_PERCENT, RUN_LEAST_BYTES),
            inodes: Some(RUN_INODES),
            need: Need::Required,
            if_missing: IfMissing::Make,
            excess: Excess::Refused,
            why: "systemd exits if /run isn't a mount",
        },
        WantedTmpfs {
            path: RUN_LOCK,
            mode: 0o755,
            limit: Limit::Of(RUN_LOCK_BYTES),
            inodes: None,
            need: Need::Required,
            if_missing: IfMissing::Make,
            excess: Excess::Refused,
            why: "otherwise run-lock.mount fails",
        },
        WantedTmpfs {
            path: TMP,
            mode: 0o1777,
            limit: share(options, Key::TmpSize, TMP_PERCENT, MIB),
            inodes: Some(TMP_INODES),
            need: Need::Required,
            if_missing: IfMissing::Make,
            excess: Excess::LeftOut,
            why: "otherwise tmp.mount fails",
        },
        WantedTmpfs {
            path: JOURNAL,
            mode: 0o755,
            limit: share(options, Key::JournalSize, JOURNAL_PERCENT, JOURNAL_LEAST_BYTES),
            inodes: None,
            need: Need::BestEffort,
            if_missing: IfMissing::Leave,
            excess: Excess::LeftOut,
            why: "otherwise the journal can fill the root file system",
        },
    ]
}

fn tmpfs(facts: &Surroundings, plan: &mut Plan, wanted: &WantedTmpfs<'_>) -> Result<(), Refusal> {
    let (at, is_empty) = match facts.image.at(wanted.path) {
        // A path on a file server is on a mount of the user's, and is left alone below.
        Found::Directory(at) | Found::OnServer(at) => (at, false),
        Found::EmptyDirectory(at) => (at, true),
        Found::Nothing(at) => match wanted.if_missing {
            IfMissing::Leave => {
                leave(plan, wanted, at, "the image has no such directory");
                return Ok(());
            }
            IfMissing::Make => (at, true),
        },
        Found::File(at) => return occupied(plan, wanted, at, "a file"),
        Found::Other(at, kind) => return occupied(plan, wanted, at, kind),
        Found::Unreachable(why) => {
            return occupied(plan, wanted, InnerPath::new(wanted.path), &format!("unreachable ({why})"));
        }
    };
    let missing = matches!(facts.image.at(wanted.path), Found::Nothing(_));
    if let Some(why) = taken(facts, plan, wanted, &at) {
        leave(plan, wanted, at, &why);
        return Ok(());
    }
    if missing {
        let on_tmpfs = plan.covers(&at) || facts.mounts.holding(&at).is_some_and(|mount| mount.at != InnerPath::root());
        let (action, why) = if on_tmpfs {
            (Action::Directory { at: at.clone(), mode: wanted.mode }, "it is the mount point")
        } else {
            (Action::MountPoint { at: at.clone(), node: Node::Dir }, "the image has no such directory")
        };
        plan.step(wanted.need, action, why);
    }
    let (size_bytes, size_why) = wanted.limit.of(facts.memory)?;
    let content =
        if is_empty { Content::None } else { wanted.limit.content(size_bytes, &facts.options.policy, wanted.excess) };
    let keep = facts.mounts.directly_below(&at).into_iter().map(|mount| mount.at.clone()).collect();
    plan.step(
        wanted.need,
        Action::Tmpfs {
            at,
            mode: wanted.mode,
            size_bytes,
            inodes: wanted.inodes,
            context: facts.selinux.context().map(str::to_owned),
            content,
            keep,
        },
        format!("{}; the size is {}", wanted.why, size_why),
    );
    Ok(())
}

/// Leaves a path alone. If the author chose a size for it, warns that the choice has no effect.
fn leave(plan: &mut Plan, wanted: &WantedTmpfs<'_>, at: InnerPath, why: &str) {
    if let Some(key) = wanted.limit.annotation() {
        plan.warn(format!("the annotation {key} has no effect, since this hook mounts nothing on {at}: {why}"));
    }
    plan.leave(at, why);
}

/// Returns the reason why nothing may be mounted on a path, if there is one: an earlier tmpfs of the plan is mounted
/// there, or a mount that the user asked for is there or above it.
fn taken(facts: &Surroundings, plan: &Plan, wanted: &WantedTmpfs<'_>, at: &InnerPath) -> Option<String> {
    if plan.steps.iter().any(|step| step.action.mounts_at() == Some(at)) {
        return Some(format!("{} leads there as well, and an earlier step mounts a tmpfs on it", wanted.path));
    }
    let holder = facts.mounts.holding(at)?;
    if holder.at == *at {
        return Some(format!("{} is already mounted there", holder.fs_type));
    }
    if plan.covers(at) || holder.at == InnerPath::root() {
        return None;
    }
    // A tmpfs on /run that this hook didn't mount still lacks /run/lock, without which Debian's run-lock.mount would
    // fail. A mount there leaves no trace on that tmpfs.
    if wanted.path == RUN_LOCK && holder.is_own_tmpfs() {
        return None;
    }
    Some(format!("it is on the mount at {}, which config.json asks for", holder.at))
}

fn occupied(plan: &mut Plan, wanted: &WantedTmpfs<'_>, at: InnerPath, kind: &str) -> Result<(), Refusal> {
    match wanted.need {
        Need::Required => Err(Refusal::Occupied { at, kind: kind.to_owned() }),
        Need::BestEffort => {
            plan.warn(format!("no tmpfs is mounted on {}: {at} in the image is {kind}", wanted.path));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_the_table_of_options_says() {
        for WantedTmpfs { path, limit, .. } in wanted(&Options::default()) {
            let Limit::Share { key, percent, least, .. } = limit else { continue };
            let at_least = if least > MIB { format!(", at least {} MiB", least / MIB) } else { String::new() };
            assert_eq!(key.spec().default, format!("{percent}% of the container's memory{at_least}"));
            assert!(key.spec().doc.contains(path), "{path}");
        }
    }
}
