// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that a step acts on the cgroup that was examined before, and not on another one that has its
//! path in the meantime.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use oci_systemd_hook::apply::{Outcome, apply};
use oci_systemd_hook::facts::Owner;
use oci_systemd_hook::kernel::cgroup::Hierarchy;
use oci_systemd_hook::path::{CgroupPath, InnerPath};
use oci_systemd_hook::plan::{Action, Cgroup, Lifetime, Need, Place, Plan, Processes, Writer};
use oci_systemd_hook::record::{ContainerView, Record};
use oci_systemd_hook::report::chain;
use oci_systemd_hook::root::Root;
use oci_systemd_hook::sys::cgroup::{self, RemovalBudget, all_processes, remove_unused};
use oci_systemd_hook::sys::fs::identity as fs_identity;
use rustix::mount::{MountFlags, mount};
use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup as CgroupMount, OwnCgroup, bind, own_cgroup_mount, with_bundle};
use crate::hook::How;
use crate::namespace::{Realm, isolated};
use crate::runtime::Container;

/// Tests all steps that open a cgroup.
pub fn are_the_same(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let Some((top, above)) = own_cgroup_mount() else { return Ok(()) };
        // A process that isn't allowed to create cgroups can't replace one.
        let Some(own) = OwnCgroup::below(&above) else { return Ok(()) };
        let path = CgroupPath::new(own.path().strip_prefix(&top).unwrap());
        let inode = fs::metadata(own.path()).unwrap().ino();
        let cgroup = |inode| Cgroup { hierarchy: Hierarchy::Unified, path: path.clone(), inode: Some(inode) };
        for (name, action) in actions(bundle, &cgroup(inode)) {
            done(bundle, action).map_err(|message| format!("{name}, the same cgroup: {message}"))?;
        }
        let before = fs::read_dir(own.path()).unwrap().count();
        for (name, action) in actions(bundle, &cgroup(inode + 1)) {
            let failed = done(bundle, action).err().unwrap_or_default();
            ensure!(failed.contains("changed while the container was being created"), "{name}, another: {failed:?}");
        }
        ensure!(fs::read_dir(own.path()).unwrap().count() == before, "something was created in another cgroup");
        let bound = fs::read_to_string(own.path().join("cgroup.max.descendants")).unwrap();
        ensure!(bound.trim() == "7", "the limit is {bound:?}");
        Ok(())
    })
}

/// Removing what another container has left behind stops when the time budget for it is exhausted, so that the
/// call's own container starts.
pub fn removed_in_time(_: Realm) -> Check {
    let Some((_, above)) = own_cgroup_mount() else { return Ok(()) };
    let Some(own) = OwnCgroup::below(&above) else { return Ok(()) };
    fs::create_dir(own.path().join("below")).unwrap();
    let above = fs::File::open(&above).unwrap();
    let remove = |budget: RemovalBudget| remove_unused(above.as_fd(), own.path().file_name().unwrap(), &budget);
    let failed = remove(RemovalBudget::spare(Instant::now())).err().map(|error| chain(&error)).unwrap_or_default();
    ensure!(failed.contains("no time is left to remove"), "without time left: {failed:?}");
    ensure!(own.path().join("below").is_dir(), "something was removed");
    // The cgroup may have been removed, and another one with the same name may have been created.
    let (top, _) = own_cgroup_mount().unwrap();
    let path = CgroupPath::new(own.path().strip_prefix(top).unwrap());
    let inode = fs::metadata(own.path()).unwrap().ino();
    cgroup::remove(Hierarchy::Unified, &path, Some(inode + 1), &RemovalBudget::FULL).map_err(|error| chain(&error))?;
    ensure!(own.path().join("below").is_dir(), "another cgroup of this name was removed");
    remove(RemovalBudget::FULL).map_err(|error| chain(&error))?;
    ensure!(!own.path().exists(), "it is still there");
    Ok(())
}

/// If a later step fails, the cgroup's original owner is restored.
pub fn owner_again(realm: Realm) -> Check {
    const OWNER: Owner = Owner { uid: 1000, gid: 1000 };
    with_bundle(realm, |bundle| {
        let Some((top, above)) = own_cgroup_mount() else { return Ok(()) };
        let Some(own) = OwnCgroup::below(&above) else { return Ok(()) };
        bind(&top, &bundle.image("srv/nothing"));
        let at = InnerPath::new("/srv/nothing").join(own.path().strip_prefix(&top).unwrap());
        let root = Root::open(Path::new(&bundle.image(""))).map_err(|error| chain(&error))?;
        let identity = fs_identity(root.place(&at).unwrap()).unwrap();
        let owners = || ["", "cgroup.procs"].map(|name| fs::metadata(own.path().join(name)).unwrap().uid());
        let before = owners();
        for (fails, expected) in [(true, before), (false, [OWNER.uid; 2])] {
            let mut plan = Plan::default();
            let files = vec!["cgroup.procs".to_owned()];
            let delegate = Action::Delegate { at: at.clone(), files, owner: Some(OWNER), label: None };
            plan.step(Need::Required, delegate, "the trial's");
            plan.steps[0].on = vec![Place { at: at.clone(), identity }];
            if fails {
                let unidentified = Action::Directory { at: InnerPath::new("/nowhere/new"), mode: 0o755 };
                plan.step(Need::Required, unidentified, "it fails");
            }
            let record = Record::of("trial", Path::new("/"), ContainerView::FromInside);
            let outcome = apply(&root, &plan, &record, None, &|| Ok(true));
            ensure!(matches!(outcome, Outcome::Undone(..)) == fails, "it ended with {outcome:?}");
            ensure!(owners() == expected, "the owners are {:?}, not {expected:?}", owners());
        }
        Ok(())
    })
}

/// It is not a failure if other processes create and remove cgroups while the hook lists those below a cgroup.
pub fn come_and_go(_: Realm) -> Check {
    const LOOKS: usize = 2000;
    let Some((_, above)) = own_cgroup_mount() else { return Ok(()) };
    let Some(own) = OwnCgroup::below(&above) else { return Ok(()) };
    let directory = fs::File::open(own.path()).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let names: Vec<_> = (0..20).map(|number| own.path().join(format!("other-{number}"))).collect();
            let mut rounds = 0;
            while !is_over.load(Ordering::Relaxed) {
                for name in &names {
                    fs::create_dir_all(name.join("below")).unwrap();
                }
                for name in &names {
                    fs::remove_dir(name.join("below")).unwrap();
                    fs::remove_dir(name).unwrap();
                }
                rounds += 1;
            }
            rounds
        });
        let looked = (0..LOOKS).try_for_each(|_| match all_processes(directory.as_fd()) {
            Ok(Some(pids)) if pids.is_empty() => Ok(()),
            result => Err(format!("{result:?}")),
        });
        is_over.store(true, Ordering::Relaxed);
        let rounds = others.join().unwrap();
        ensure!(rounds > 10, "too few processes came and went: {rounds} rounds");
        looked
    })
}

/// A process in the container's cgroup that /proc hides from the hook is not one of the container's.
pub fn of_hidden_processes(realm: Realm) -> Check {
    const STRANGER: u32 = 12345;
    /// Runs a program without the capability that shows hidden processes.
    const UNDER: [&str; 2] = ["setpriv", "--bounding-set=-sys_ptrace"];
    if realm == Realm::User {
        return Ok(());
    }
    for is_there in [false, true] {
        with_bundle(realm, |bundle| {
            bundle.config["linux"]["cgroupsPath"] = json!("/own");
            // Without poststop no cgroup is created below.
            bundle.config["hooks"] = json!({});
            isolated(|| {
                mount("proc", "/proc", "proc", MountFlags::empty(), c"hidepid=4").unwrap();
                let container = Container::start_under(bundle, &UNDER, |bundle| bundle.start(CgroupMount::Mounted))?;
                bundle.state["pid"] = json!(container.id());
                let Some(own) = bundle.cgroup.as_ref().map(|own| own.path().to_owned()) else { return Ok(()) };
                let mut stranger = Command::new("sleep").arg("600").uid(STRANGER).gid(STRANGER).spawn().unwrap();
                for pid in [Some(container.id()), is_there.then(|| stranger.id())].into_iter().flatten() {
                    fs::write(own.join("cgroup.procs"), pid.to_string()).unwrap();
                }
                let how = How { cwd: Some(bundle.directory()), under: &UNDER.map(str::to_owned), ..How::default() };
                let finished = bundle.create_as(&how);
                stranger.kill().unwrap();
                stranger.wait().unwrap();
                let finished = finished?;
                if is_there {
                    finished.refused(&["processes that are not the container's"])
                } else {
                    finished.silently()
                }
            })
        })
        .map_err(|message| format!("whether somebody is there: {is_there}: {message}"))?;
    }
    Ok(())
}

/// A volume can show any cgroup where the container's own one belongs. The hook must not mistake
/// it for the container's.
pub fn of_volumes(realm: Realm) -> Check {
    for is_above in [false, true] {
        with_bundle(realm, |bundle| {
            bundle.start(CgroupMount::Mounted);
            let Some((top, above)) = own_cgroup_mount() else { return Ok(()) };
            let Some(own) = bundle.cgroup.as_ref().map(|own| own.path().to_owned()) else { return Ok(()) };
            let Some(another) = OwnCgroup::below(&above) else { return Ok(()) };
            let child = another.path().join(own.file_name().unwrap());
            fs::create_dir(&child).unwrap();
            let place = if is_above { own.parent().unwrap() } else { &own };
            let below = place.strip_prefix(&top).unwrap();
            // If this process's own cgroup is the root, this covers the hierarchy itself, and the container's cgroup
            // has no path in it.
            bind(another.path(), &bundle.root("sys/fs/cgroup").join(below));
            let watch = bundle.watch();
            bundle.create()?.refused(&["cgroup", "/sys/fs/cgroup", "mounted"])?;
            watch.everything(bundle)?;
            for path in [another.path(), &child] {
                let names = fs::read_dir(path).unwrap().filter(|each| each.as_ref().unwrap().path().is_dir()).count();
                ensure!(names == usize::from(path == another.path()), "{names} cgroups are in {path:?}");
                let bound = fs::read_to_string(path.join("cgroup.max.descendants")).unwrap();
                ensure!(bound.trim() == "max", "the limit of {path:?} is {bound}");
            }
            Ok(())
        })
        .map_err(|message| format!("at the cgroup above, {is_above}: {message}"))?;
    }
    Ok(())
}

fn actions(bundle: &Bundle, cgroup: &Cgroup) -> Vec<(&'static str, Action)> {
    let at = InnerPath::new("/srv/nothing");
    assert!(bundle.image("srv/nothing").is_dir());
    let made =
        Action::MakeCgroup { cgroup: cgroup.child("made"), above_inode: cgroup.inode, until: Lifetime::WithParent };
    let entered = Action::EnterCgroup { cgroup: cgroup.clone(), from: cgroup.clone(), processes: Processes::All };
    vec![
        ("make", made),
        ("enter", entered),
        ("enable", Action::EnableControllers { cgroup: cgroup.clone() }),
        ("limit", Action::LimitCgroups { cgroup: cgroup.clone(), most: 7, writer: Writer::Inside }),
        ("show", Action::ShowCgroup { cgroup: cgroup.clone(), at }),
    ]
}

fn done(bundle: &Bundle, action: Action) -> Check {
    let mut plan = Plan::default();
    let root = Root::open(Path::new(&bundle.image(""))).map_err(|error| chain(&error))?;
    let place = action.mounts_at().map(|at| (at.clone(), fs_identity(root.place(at).unwrap()).unwrap()));
    plan.step(Need::Required, action, "the trial's");
    plan.steps[0].on = place.into_iter().map(|(at, identity)| Place { at, identity }).collect();
    match apply(&root, &plan, &Record::of("trial", Path::new("/"), ContainerView::FromInside), None, &|| Ok(true)) {
        Outcome::Prepared(failed) if failed.is_empty() => Ok(()),
        Outcome::Prepared(failed) => Err(format!("{failed:?}")),
        Outcome::Undone(error, _) => Err(chain(&error)),
    }
}
