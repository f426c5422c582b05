// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests the options of `podman run` that change what the hook finds.

use std::fs;

use libtest_mimic::Failed;

use crate::boot::{has_come_up, same};
use crate::command::{Look, SHORT, until};
use crate::container::message;
use crate::engines::image::{BAKED_ID, SUITE};
use crate::inside::Inside;
use crate::mounts::{self, Mount};
use crate::podman::engine::{Engine, Hooks};
use crate::podman::guest::{Guest, PLAIN, gives_up_without_hook};
use crate::upper;

const INIT: [&str; 1] = ["/sbin/init"];

/// Tests a container in which the user has mounted something at `mounted`. `look` is an additional check.
fn with_mounts(
    engine: &Engine,
    options: &[&str],
    mounted: &[&str],
    look: impl Fn(&Guest<'_>) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let options = [&PLAIN, options].concat();
    gives_up_without_hook(engine, &options, &INIT)?;
    let guest = Guest::run(engine, Hooks::Installed, &options, &INIT)?;
    guest.explain(|guest| {
        guest.is_well_beside(mounted)?;
        look(guest)?;
        guest.ends_in_order("0")?;
        guest.removed()
    })
}

/// Tests a read-only root. systemd writes to /var; podman mounts the other directories that must be writable.
pub fn read_only(engine: &Engine) -> Result<(), Failed> {
    with_mounts(engine, &["--read-only", "--tmpfs=/var"], &["/run", "/tmp"], |guest| {
        let root = guest.exec(&["touch", "/written"])?;
        same("a writable root", &root.status.success().to_string(), "false")
    })
}

/// Tests that the user's tmpfs is kept. As without the hook, it covers the image's content.
pub fn tmpfs_on_run(engine: &Engine) -> Result<(), Failed> {
    with_mounts(engine, &["--tmpfs=/run:size=64m"], &["/run"], |guest| run_has(guest, "size=65536k"))
}

/// Tests an annotation that is an option of the hook.
pub fn size_of_run(engine: &Engine) -> Result<(), Failed> {
    let options = ["--annotation=oci-systemd-hook.run-size=96m"];
    with_mounts(engine, &options, &[], |guest| run_has(guest, "size=98304k"))
}

fn run_has(guest: &Guest<'_>, size: &str) -> Result<(), Failed> {
    let seen = guest.mounts()?;
    let run = mounts::at(&seen, "/run").ok_or("no mount on /run")?;
    if run.has_super(size) { Ok(()) } else { Err(format!("/run should have {size}: {run:?}").into()) }
}

/// Tests that a file that a user mounts below /run stays visible and remains the user's.
pub fn volume_below_run(engine: &Engine) -> Result<(), Failed> {
    let given = engine.host().users_home().join("given");
    fs::create_dir(&given)?;
    fs::write(given.join("token"), "hush\n")?;
    let option = format!("--volume={}:/run/given", given.display());
    with_mounts(engine, &[&option], &[], |guest| {
        same("the volume's file", &guest.ask(&["cat", "/run/given/token"])?, "hush\n")
    })?;
    let left: Vec<_> = fs::read_dir(&given)?.flatten().map(|entry| entry.file_name()).collect();
    same("the volume's files", &format!("{left:?}"), r#"["token"]"#)
}

/// Tests that the journal is on the user's volume and outlives the container.
pub fn volume_on_var(engine: &Engine) -> Result<(), Failed> {
    let options = ["--volume=kept:/var"];
    with_mounts(engine, &options, &[], |guest| {
        let seen = guest.mounts()?;
        let above = mounts::at(&seen, "/var/log/journal");
        same("a mount over the user's journal", &format!("{above:?}"), "None")?;
        guest.ask(&["test", "-d", &format!("/var/log/journal/{}", &guest.id()[..32])]).map(drop)
    })?;
    engine.ask(&["volume", "rm", "kept"]).map(drop)
}

/// Tests container IDs that podman chooses. The container gets the image's files through an idmapped mount.
pub fn users_of_its_own(engine: &Engine) -> Result<(), Failed> {
    in_user_namespace(engine, "--userns=auto")
}

pub fn mapped_users(engine: &Engine) -> Result<(), Failed> {
    in_user_namespace(engine, "--uidmap=0:100000:65536")
}

fn in_user_namespace(engine: &Engine, option: &str) -> Result<(), Failed> {
    with_mounts(engine, &[option], &[], |guest| {
        let map = guest.ask(&["cat", "/proc/self/uid_map"])?;
        if map.split_whitespace().nth(1) == Some("0") {
            return Err(format!("the container's root user is the host's: {map}").into());
        }
        let paths = ["/run", "/run/lock", "/tmp", "/etc/machine-id", "/run/host", "/run/host/container-manager"];
        let owners = guest.ask(&[&["stat", "-c", "%u:%g"], &paths[..]].concat())?;
        same("owners", &owners, &"0:0\n".repeat(paths.len()))
    })
}

pub fn hosts_cgroup_namespace(engine: &Engine) -> Result<(), Failed> {
    with_mounts(engine, &["--cgroupns=host"], &[], |guest| {
        let cgroups = guest.ask(&["cat", "/proc/1/cgroup"])?;
        if cgroups.contains(&format!("/{}/libpod-{}", engine.host().cgroup(), guest.id())) {
            return Ok(());
        }
        Err(format!("not the host's cgroup namespace: {cgroups}").into())
    })
}

/// Tests a privileged container. It also boots without the hook, but without its own machine ID. Its systemd could
/// set the machine's kernel parameters, which the read-only mount prevents. It ends with reboot(2), for which the
/// kernel sets an exit code.
pub fn privileged(engine: &Engine) -> Result<(), Failed> {
    let options = [&PLAIN[..], &["--privileged", "--volume=/proc/sys:/proc/sys:ro"]].concat();
    let without = Guest::run(engine, Hooks::None, &options, &INIT)?;
    without.explain(|guest| {
        has_come_up(guest)?;
        guest.ask(&["grep", "-q", BAKED_ID, "/etc/machine-id"])?;
        guest.ends_in_order("130")?;
        guest.removed()
    })?;
    let guest = Guest::run(engine, Hooks::Installed, &options, &INIT)?;
    guest.explain(|guest| {
        guest.is_well()?;
        guest.ends_in_order("130")?;
        guest.removed()
    })
}

/// Tests that a container whose first process is podman's init has the same mounts with and without the hook, which
/// isn't meant for it.
pub fn other_init(engine: &Engine) -> Result<(), Failed> {
    let options = ["--init", "--systemd=false"];
    let mounts_with = |hooks| -> Result<Vec<Mount>, Failed> {
        let guest = Guest::run(engine, hooks, &options, &["/bin/sleep", "infinity"])?;
        let mut seen = Vec::new();
        guest.explain(|guest| {
            until("podman's init", SHORT, || match guest.ask(&["cat", "/proc/1/comm"]) {
                Ok(name) if name.trim() == "podman-init" => Look::Done(()),
                Ok(name) => Look::NotYet(name),
                Err(failed) => Look::Never(message(&failed)),
            })?;
            guest.ask(&["grep", "-q", BAKED_ID, "/etc/machine-id"])?;
            seen = guest.mounts()?;
            guest.call(&["kill"])?;
            guest.until_stopped()?;
            guest.removed()
        })?;
        for mount in &mut seen {
            mount.root = mount.root.replace(guest.id(), "its-own");
            mount.super_options.clear();
        }
        // podman writes them in any order.
        seen.sort();
        Ok(seen)
    };
    let (with, without) = (mounts_with(Hooks::Installed)?, mounts_with(Hooks::None)?);
    if with != without {
        return Err(format!("mounts with the hook {with:#?}, without {without:#?}").into());
    }
    // The same applies if that init starts systemd, which refuses to run because it isn't the first process.
    let guest = Guest::run(engine, Hooks::Installed, &options, &INIT)?;
    guest.explain(|guest| {
        guest.until_stopped()?;
        same("the exit code", &guest.inspect(".State.ExitCode")?, "1")?;
        guest.removed()
    })
}

/// Tests that the only changes in a user's own tree are those of systemd and podman, not the hook's.
pub fn users_tree(engine: &Engine) -> Result<(), Failed> {
    let tree = engine.host().tree().display().to_string();
    let options = [&PLAIN[..], &["--rootfs"]].concat();
    let without = Guest::run_image(engine, Hooks::None, &options, &tree, &INIT)?;
    without.gives_up()?;
    let guest = Guest::run_image(engine, Hooks::Installed, &options, &tree, &INIT)?;
    guest.explain(|guest| {
        guest.is_well()?;
        guest.ends_in_order("0")?;
        guest.removed()
    })?;
    let podmans = ["etc/hosts", "etc/hostname", "etc/resolv.conf", "run/.containerenv"];
    upper::are_systemds(&engine.host().tree_changes()?, &engine.host().upper(), SUITE, &podmans)
}
