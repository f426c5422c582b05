// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Makes the container's own cgroup writable for systemd, at its path in /proc/1/cgroup, and no other cgroup.
//! <https://systemd.io/CGROUP_DELEGATION/>

use super::view::{self, MountsBelow, make};
use super::{Refusal, layout};
use crate::facts::options::CgroupsMax;
use crate::facts::{
    CgroupCreation, CgroupNamespace, CgroupOwner, CgroupRoot, Layout, Membership, Mount, Sharing, Surroundings,
};
use crate::interface::{CGROUP, CGROUP_SYSTEMD, CGROUP_TMPFS_BYTES, CGROUP_UNIFIED};
use crate::kernel::cgroup::Hierarchy;
use crate::path::{CgroupPath, InnerCgroupPath, InnerPath};
use crate::plan::{Action, Cgroup, Content, Lifetime, Need, Plan, Processes, Writer};

const WHY: &str = "systemd creates a cgroup for each service below its own";

/// The name of the cgroup that systemd gets if the cgroup above it must not be writable. systemd-nspawn
/// uses the same name.
const PAYLOAD: &str = "payload";

pub(super) fn plan(facts: &Surroundings, plan: &mut Plan) -> Result<(), Refusal> {
    let Some(mounted) = mounted(facts) else {
        if !facts.privileges.capabilities.may_have("CAP_SYS_ADMIN") {
            return Err(Refusal::NoCgroup);
        }
        let why = "no cgroup hierarchy is mounted, and systemd has CAP_SYS_ADMIN to mount one itself";
        plan.leave(InnerPath::new(CGROUP), why);
        return Ok(());
    };
    let chosen = layout::choose(facts, mounted)?;
    let layout = chosen.layout;
    if layout != mounted && layout.hierarchies().contains(&Hierarchy::Systemd) {
        layout::may_make_v1(facts, plan, &chosen)?;
    }
    plan.layout = Some(chosen);
    if layout == mounted {
        // In the hybrid layout, systemd versions before 233 need the v1 hierarchy, and newer ones use the v2
        // hierarchy. runc 1.1 and crun 1.8 don't mount this layout. If another runtime does, it isn't an error that
        // the container has no cgroup in v2.
        let mut need = Need::Required;
        for hierarchy in layout.hierarchies() {
            if let Some(found) = top(facts, *hierarchy) {
                writable(facts, plan, *hierarchy, found, need)?;
            }
            need = Need::BestEffort;
        }
        return Ok(());
    }
    let base = InnerPath::new(CGROUP);
    if layout != Layout::Unified {
        // Runtimes do the same: they mount a tmpfs with a directory for each hierarchy.
        let tmpfs = Action::Tmpfs {
            at: base.clone(),
            mode: 0o755,
            size_bytes: CGROUP_TMPFS_BYTES,
            inodes: None,
            context: facts.selinux.context().map(str::to_owned),
            content: Content::None,
            keep: Vec::new(),
        };
        plan.step(Need::Required, tmpfs, "v1's hierarchies are mounted below it");
    }
    for hierarchy in layout.hierarchies() {
        let at = match (hierarchy, layout) {
            (Hierarchy::Unified, Layout::Unified) => base.clone(),
            (Hierarchy::Unified, _) => InnerPath::new(CGROUP_UNIFIED),
            (Hierarchy::Systemd | Hierarchy::Memory, _) => InnerPath::new(CGROUP_SYSTEMD),
        };
        if at != base {
            plan.step(
                Need::Required,
                Action::Directory { at: at.clone(), mode: 0o755 },
                "it is the mount point of a hierarchy",
            );
        }
        show(facts, plan, *hierarchy, &at)?;
    }
    if layout != Layout::Unified {
        plan.step(
            Need::Required,
            Action::MakeReadOnly { at: base },
            "otherwise systemd tries to mount v1's controllers there",
        );
    }
    Ok(())
}

/// Returns the layout that the container's mounts amount to. Returns `None` if no hierarchy is mounted.
fn mounted(facts: &Surroundings) -> Option<Layout> {
    match (top(facts, Hierarchy::Systemd), top(facts, Hierarchy::Unified)) {
        (Some(_), Some(_)) => Some(Layout::Hybrid),
        (Some(_), None) => Some(Layout::Legacy),
        (None, Some(_)) => Some(Layout::Unified),
        (None, None) => None,
    }
}

/// Returns the mount of a hierarchy that any other mounts of this hierarchy are below.
fn top(facts: &Surroundings, hierarchy: Hierarchy) -> Option<(&Mount, &CgroupRoot)> {
    let base = InnerPath::new(CGROUP);
    let mounts = facts.mounts.of_hierarchy(hierarchy).filter(|(mount, _)| mount.at.is_at_or_below(&base));
    mounts.min_by(|(a, _), (b, _)| a.at.cmp(&b.at))
}

/// Makes the container's own cgroup writable in a hierarchy that the runtime mounted.
fn writable(
    facts: &Surroundings,
    plan: &mut Plan,
    hierarchy: Hierarchy,
    (mount, mount_root): (&Mount, &CgroupRoot),
    need: Need,
) -> Result<(), Refusal> {
    let at = &mount.at;
    // This also applies if the mount is already writable, since systemd moves all processes of the cgroup that it
    // takes for its own.
    let unless_needed = |plan: &mut Plan, refusal: Refusal, why: &str| {
        if need == Need::Required {
            return Err(refusal);
        }
        plan.leave(at.clone(), why);
        Ok(())
    };
    let member = facts.cgroups.of(hierarchy);
    let Some((member, inside)) = member.and_then(|member| Some((member, member.inside.as_ref()?))) else {
        let why = "the container isn't in any cgroup of this hierarchy";
        return unless_needed(plan, Refusal::NoMembership { at: at.clone() }, why);
    };
    let own = at.join(inside.as_path());
    if is_bound(facts, hierarchy, &member.path, &own) {
        match member.owner {
            CgroupOwner::Container => {
                plan.leave(own.clone(), "it is already writable through its own mount");
                delegate(facts, plan, own);
                return Ok(());
            }
            // An earlier run of this hook may have been able to see more processes.
            CgroupOwner::Shared(Sharing::Unknown) => {
                plan.leave(own, "it is already writable through its own mount");
                return Ok(());
            }
            CgroupOwner::Shared(Sharing::Engine | Sharing::Others | Sharing::AnotherContainer) => {}
        }
    }
    if let CgroupOwner::Shared(sharing) = member.owner {
        if need == Need::Required
            && facts.cgroups.creation == CgroupCreation::Possible
            && sharing != Sharing::AnotherContainer
        {
            // The existing mount may also show other cgroups.
            return show(facts, plan, hierarchy, at);
        }
        return unless_needed(plan, shared(facts, at, sharing), because(sharing));
    }
    let below = match mount_root {
        CgroupRoot::At(root) => member.path.below(root),
        CgroupRoot::Outside => None,
    };
    let is_at_own_path = below.is_some_and(|below| at.join(below) == own);
    if below.is_none() && matches!(mount_root, CgroupRoot::At(_)) {
        // A volume with another cgroup is mounted there.
        let refusal = Refusal::CoveredCgroup { at: own, fs_type: mount.fs_type.clone(), by: at.clone() };
        return unless_needed(plan, refusal, "a cgroup other than the container's is mounted there");
    }
    if is_at_own_path {
        // A volume with another cgroup, even one of the host's, may be mounted there.
        let by = facts.mounts.holding(&own).filter(|by| shown(by, &own) != Some((hierarchy, member.path.clone())));
        if let Some(by) = by {
            let refusal = Refusal::CoveredCgroup { at: own, fs_type: by.fs_type.clone(), by: by.at.clone() };
            return unless_needed(plan, refusal, "something else is mounted over the container's cgroup");
        }
    } else if facts.cgroups.namespace == CgroupNamespace::Private {
        let why = "it shows the host's cgroups, which have no path in the container's cgroup namespace";
        return unless_needed(plan, Refusal::HostHierarchy { at: at.clone() }, why);
    }
    let cgroup = Cgroup { hierarchy, path: member.path.clone(), inode: member.inode };
    let hides = facts.cgroups.namespace == CgroupNamespace::Host
        && view::can_hide_others(facts, plan, at, MountsBelow::Kept, Some(member));
    if hides {
        view::show_own(plan, need, &cgroup, at, &own);
    } else if !is_at_own_path {
        // runc bind-mounts only the container's cgroup on the hierarchy's mount point. systemd would look below it
        // for the path from /proc/1/cgroup, which doesn't exist there.
        let Some(from) = &member.on_host else {
            let refusal = Refusal::HiddenCgroup { at: at.clone(), path: inside.clone() };
            return unless_needed(plan, refusal, "no mount shows the whole hierarchy");
        };
        let why = format!("the path {inside} in /proc/1/cgroup must exist below {at}");
        plan.step(need, Action::BindHost { from: from.clone(), at: at.clone() }, why);
    }
    let place = below_limits(facts, plan, member, cgroup.clone(), own.clone(), need);
    let is_as_mounted = is_at_own_path && !hides;
    if place != own && is_as_mounted && !mount.read_only {
        let why = "the engine set the limits there, and the container must not change them";
        plan.step(need, Action::MakeReadOnly { at: at.clone() }, why);
    }
    if place == own && is_as_mounted && !mount.read_only && facts.cgroups.is_asked_writable(&own) {
        plan.leave(own.clone(), "config.json already makes it writable");
        delegate(facts, plan, own.clone());
    } else {
        make_writable(facts, plan, place, need);
    }
    if hides {
        view::cover_ancestors(plan, &cgroup, at, &own);
    }
    Ok(())
}

/// Returns the path of the cgroup that systemd gets: the one that the engine created, which is at `own`, or a
/// new one below it. Also limits the number of cgroups that can be created below, in a cgroup where systemd
/// can't change the limit.
fn below_limits(
    facts: &Surroundings,
    plan: &mut Plan,
    member: &Membership,
    cgroup: Cgroup,
    own: InnerPath,
    need: Need,
) -> InnerPath {
    if !could_write_limits(cgroup.hierarchy, member) {
        limit(facts, plan, cgroup, Writer::Outside);
        return own;
    }
    let why = "the container must not be able to change the limits of the cgroup above it";
    let payload = make(plan, need, &cgroup, PAYLOAD, Lifetime::WithParent, why);
    let why = "a cgroup can't have both processes and children with controllers";
    enter(plan, need, payload, &cgroup, Processes::All, why);
    // In other layouts the limits are in v1. There, runc moves the processes that it starts later into the cgroup
    // above, which the kernel refuses if that cgroup has controllers enabled for its children.
    if mounted(facts) == Some(Layout::Unified) {
        let why = "systemd uses them to limit its services";
        plan.step(Need::BestEffort, Action::EnableControllers { cgroup: cgroup.clone() }, why);
    }
    limit(facts, plan, cgroup, Writer::Inside);
    own.join(PAYLOAD)
}

/// Whether the container could change its own limits if its cgroup were writable. This is the case if the limits are
/// in v2 (v1's controllers are read-only, and v1's hierarchy for systemd has no limits), and if an ID of the
/// container owns the files.
///
/// The mount option `nsdelegate`, cgroups(7), doesn't protect the limits: it applies only to processes in a cgroup
/// namespace with its root at that cgroup, and a process of the container can create another namespace for itself.
/// Besides, each container with the host's cgroup namespace takes the option away from all others, because its
/// runtime mounts the hierarchy.
fn could_write_limits(hierarchy: Hierarchy, member: &Membership) -> bool {
    hierarchy == Hierarchy::Unified && member.owns_limits
}

/// Limits how many cgroups can be created below a cgroup of v2.
fn limit(facts: &Surroundings, plan: &mut Plan, cgroup: Cgroup, writer: Writer) {
    let CgroupsMax::Of(most) = facts.options.policy.cgroups_max else { return };
    let is_out_of_reach = writer == Writer::Outside && facts.cgroups.creation == CgroupCreation::InContainer;
    if cgroup.hierarchy != Hierarchy::Unified || is_out_of_reach {
        return;
    }
    let why = "most of the kernel memory that they use is not charged to the container";
    plan.step(Need::BestEffort, Action::LimitCgroups { cgroup, most, writer }, why);
}

/// Mounts a hierarchy that the runtime didn't mount, or mounted only with other cgroups. The container then sees its
/// own cgroup at its path, and no other cgroup.
fn show(facts: &Surroundings, plan: &mut Plan, hierarchy: Hierarchy, at: &InnerPath) -> Result<(), Refusal> {
    let member = facts.cgroups.of(hierarchy);
    // A hierarchy that isn't mounted anywhere yet has only a root cgroup, which contains all processes.
    let (root, inside_root) = (CgroupPath::root(), InnerCgroupPath::root());
    let (path, inside) = member.map_or((&root, Some(&inside_root)), |member| (&member.path, member.inside.as_ref()));
    let Some(inside) = inside.filter(|_| facts.cgroups.is_showable(hierarchy)) else {
        // The container joined another container's namespace, or left its own cgroup.
        return Err(Refusal::NoMembership { at: at.clone() });
    };
    let cgroup = Cgroup { hierarchy, path: path.clone(), inode: member.and_then(|member| member.inode) };
    if let Some(CgroupOwner::Shared(sharing @ Sharing::AnotherContainer)) = member.map(|member| member.owner) {
        return Err(shared(facts, at, sharing));
    }
    let own = at.join(inside.as_path());
    match member.filter(|member| member.owner == CgroupOwner::Container) {
        Some(member) => show_own(facts, plan, member, cgroup, at, own),
        None => create_and_show(facts, plan, member, &cgroup, at, &own),
    }
    Ok(())
}

fn show_own(
    facts: &Surroundings,
    plan: &mut Plan,
    member: &Membership,
    cgroup: Cgroup,
    at: &InnerPath,
    own: InnerPath,
) {
    if facts.cgroups.namespace == CgroupNamespace::Private {
        let why = "it is the container's own cgroup, and `/` in its cgroup namespace";
        view::show(plan, Need::Required, cgroup.clone(), at.clone(), why);
        let place = below_limits(facts, plan, member, cgroup, own, Need::Required);
        make_writable(facts, plan, place, Need::Required);
    } else if view::can_hide_others(facts, plan, at, MountsBelow::Covered, Some(member)) {
        view::show_own(plan, Need::Required, &cgroup, at, &own);
        let place = below_limits(facts, plan, member, cgroup.clone(), own.clone(), Need::Required);
        make_writable(facts, plan, place, Need::Required);
        view::cover_ancestors(plan, &cgroup, at, &own);
    } else {
        view::show_whole(plan, cgroup.hierarchy, at);
        let place = below_limits(facts, plan, member, cgroup, own, Need::Required);
        make_writable(facts, plan, place, Need::Required);
    }
}

/// Creates a cgroup for the container below `above`, which the container shares with others, and shows the new one.
fn create_and_show(
    facts: &Surroundings,
    plan: &mut Plan,
    member: Option<&Membership>,
    above: &Cgroup,
    at: &InnerPath,
    above_at: &InnerPath,
) {
    let name = facts.cgroups.name.as_str();
    let why_made = match member.map(|member| member.owner) {
        Some(CgroupOwner::Shared(sharing @ (Sharing::Others | Sharing::Unknown))) => because(sharing),
        _ => "the container has no cgroup of its own there",
    };
    let made = make(plan, Need::Required, above, name, Lifetime::PostStop, why_made);
    let payload =
        make(plan, Need::Required, &made, PAYLOAD, Lifetime::WithParent, "the cgroup above it stays read-only");
    enter(
        plan,
        Need::Required,
        payload.clone(),
        above,
        Processes::First,
        "systemd creates its services' cgroups below the one that it is in",
    );
    limit(facts, plan, made.clone(), Writer::Inside);
    let place = above_at.join(name).join(PAYLOAD);
    let is_private = facts.cgroups.namespace == CgroupNamespace::Private;
    // The root of a private cgroup namespace is the cgroup above, which the container shares with others.
    if is_private || view::can_hide_others(facts, plan, at, MountsBelow::Covered, member) {
        view::show_at_path(plan, Need::Required, made, payload, at, &place);
    } else {
        view::show_whole(plan, above.hierarchy, at);
    }
    make_writable(facts, plan, place, Need::Required);
}

fn shared(facts: &Surroundings, at: &InnerPath, sharing: Sharing) -> Refusal {
    let remedy = match sharing {
        // That container could rename and write to any cgroup created below its own.
        Sharing::AnotherContainer => "stop that container first",
        // This is the case under su(1) and cron(8), which don't start a systemd instance for the user.
        Sharing::Engine if facts.cgroups.creation == CgroupCreation::Rootless => {
            "run the engine as root, because only the host's root can create one; for a rootless engine systemd can \
             create one: log in directly instead of using su, or run loginctl enable-linger"
        }
        Sharing::Engine | Sharing::Others | Sharing::Unknown => layout::remedy(facts.cgroups.creation),
    };
    Refusal::SharedCgroup { at: at.clone(), why: because(sharing), remedy }
}

/// Returns the reason why the container may not write to a cgroup, for plans and errors.
fn because(sharing: Sharing) -> &'static str {
    match sharing {
        Sharing::Engine => "the engine gave the container no cgroup of its own there",
        Sharing::Others => "processes that are not the container's are in its cgroup there or in one below it",
        Sharing::AnotherContainer => "processes of another container are in its cgroup there or in one below it",
        Sharing::Unknown => "it can't be determined whose processes are in its cgroup there or in one below it",
    }
}

fn enter(plan: &mut Plan, need: Need, cgroup: Cgroup, from: &Cgroup, processes: Processes, why: &str) {
    plan.step(need, Action::EnterCgroup { cgroup, from: from.clone(), processes }, why);
}

fn make_writable(facts: &Surroundings, plan: &mut Plan, own: InnerPath, need: Need) {
    // This is also done if the cgroup is writable now: crun may later make the existing mount read-only, but
    // not this new one.
    plan.step(need, Action::MakeWritable { at: own.clone() }, WHY);
    delegate(facts, plan, own);
}

fn delegate(facts: &Surroundings, plan: &mut Plan, own: InnerPath) {
    let label = facts.selinux.cgroup_label().map(str::to_owned);
    let why = match (facts.owner, &label) {
        (None, None) => return,
        // Some runtimes change the owner themselves on v2, with some cgroup drivers.
        (Some(_), None) => "its owner is outside the container's user namespace",
        (None, Some(_)) => "the SELinux policy doesn't let the container write to it under its current label",
        (Some(_), Some(_)) => {
            "its owner is outside the container's user namespace, and with its current label, the SELinux policy \
             doesn't let the container write to it"
        }
    };
    let files = facts.delegated.clone();
    plan.step(Need::BestEffort, Action::Delegate { at: own, files, owner: facts.owner, label }, why);
}

/// Whether the container's own cgroup is already mounted writable at `own`, on top of the hierarchy's mount, by an
/// earlier run of this hook. A mount there may instead be a volume, with any of the host's cgroups.
fn is_bound(facts: &Surroundings, hierarchy: Hierarchy, path: &CgroupPath, own: &InnerPath) -> bool {
    facts
        .mounts
        .at(own)
        .filter(|top| !top.read_only && shown(top, own) == Some((hierarchy, path.clone())))
        .and_then(|top| facts.mounts.below(top))
        .is_some_and(|below| below.cgroup.as_ref().is_some_and(|(kind, _)| *kind == hierarchy))
}

/// Returns the cgroup that a mount shows at a path, if it is known.
fn shown(mount: &Mount, at: &InnerPath) -> Option<(Hierarchy, CgroupPath)> {
    match mount.cgroup.as_ref()? {
        (hierarchy, CgroupRoot::At(root)) => Some((*hierarchy, root.join(at.below(&mount.at)?))),
        (_, CgroupRoot::Outside) => None,
    }
}
