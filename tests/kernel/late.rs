// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that each call of the hook ends with a message, even if a file server, the holder of a lock, or its runtime
//! doesn't answer.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};
use rustix::mount::{MountFlags, mount};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, ID, bind, with_bundle};
use crate::fuse::Server;
use crate::hook::{Finished, How, program};
use crate::hostile::clear;
use crate::namespace::Realm;
use crate::runtime::{Container, until};

const LIMIT: &[&str] = &["--time-limit=1"];
/// The beginning of the message, whatever the hook waited for.
const SAYS: &str = "gave up after 1 s";

fn create(bundle: &Bundle, cwd: Option<&Path>) -> Result<Finished, String> {
    bundle.create_as(&How { cwd: cwd.map(Path::to_owned), options: LIMIT, ..How::default() })
}

/// Skips a trial for which the machine lacks something.
fn skipped(why: &str) -> Check {
    ensure!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: {why}");
    Ok(())
}

/// Tests a root that is on a file server, or has a layer of its overlay there.
pub fn root(realm: Realm) -> Check {
    for is_layer in [false, true] {
        with_bundle(realm, |bundle| {
            let image = bundle.elsewhere("served");
            let Some(server) = Server::mount(&image) else { return skipped("FUSE is missing") };
            bundle.config["annotations"]["oci-systemd-hook"] = json!("enabled");
            bundle.config["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
            bundle.write_config();
            if is_layer {
                let (upper, work) = (bundle.elsewhere("upper"), bundle.elsewhere("work"));
                let layers = [("lowerdir", &image), ("upperdir", &upper), ("workdir", &work)];
                let layers = layers.map(|(key, path)| format!("{key}={}", path.display())).join(",");
                let layers = std::ffi::CString::new(layers).unwrap();
                let mounted = mount("overlay", bundle.root(""), "overlay", MountFlags::empty(), layers.as_c_str());
                if mounted.is_err() {
                    // Older kernels can't mount an overlay with such a layer in a user namespace.
                    return Ok(());
                }
            } else {
                bind(&image, &bundle.root(""));
            }
            server.is_mute();
            let finished = create(bundle, Some(Path::new("/")));
            Server::detach(&bundle.root(""));
            finished?.refused(&[SAYS, "FUSE"])?;
            ensure!(!bundle.records().exists(), "a record is left");
            Ok(())
        })
        .map_err(|why| format!("a layer {is_layer}: {why}"))?;
    }
    Ok(())
}

/// No server of a volume receives any request, even if the container's paths lead to the volume or through it: a
/// process that waits for an answer can't even be killed.
pub fn volume(realm: Realm) -> Check {
    type Make = fn(&Bundle);
    let cases: [(&str, &str, Make); 17] = [
        ("data", "the command", |bundle| put_link(bundle, "sbin/init", "/data/init")),
        ("data", "its directory", |bundle| put_link(bundle, "sbin", "../data/./sbin")),
        ("data", "systemd", |bundle| put_link(bundle, "usr/lib/systemd/systemd", "/data/x/../systemd")),
        ("data", "the units", |bundle| put_link(bundle, "usr/lib/systemd/system", "/data/units")),
        ("data", "/tmp", |bundle| put_link(bundle, "tmp", "/data/tmp")),
        ("data", "the journal", |bundle| put_link(bundle, "var/log/journal", "/srv/up/data/journal")),
        ("data", "the machine id", |bundle| put_link(bundle, "etc/machine-id", "/srv/up/data")),
        ("usr", "all of /usr", |_| {}),
        ("usr/lib/systemd", "systemd's directory", |_| {}),
        ("usr/lib/systemd/system", "the units' directory", |_| {}),
        ("etc/systemd/system", "the administrator's units", |_| {}),
        ("dev", "all of /dev", |_| {}),
        ("tmp", "/tmp itself", |_| {}),
        ("var", "all of /var", |_| {}),
        ("etc", "all of /etc", |_| {}),
        ("run/lock", "/run/lock itself", |_| {}),
        ("run", "all of /run", |_| {}),
    ];
    crate::all(cases.into_iter().flat_map(|(at, name, make)| {
        [false, true].map(|is_enabled| {
            let check = |bundle: &mut Bundle| {
                if is_enabled {
                    bundle.config["annotations"]["oci-systemd-hook"] = json!("enabled");
                }
                fs::create_dir_all(bundle.image(at)).unwrap();
                symlink("..", bundle.image("srv/up")).unwrap();
                make(bundle);
                bundle.start(Cgroup::Mounted);
                let Some(server) = Server::mount(&bundle.root(at)) else { return skipped("FUSE is missing") };
                let before = server.asked();
                let finished = create(bundle, Some(Path::new("/")))?;
                let asked = server.asked() - before;
                ensure!(asked == 0, "it was asked {asked} times, and said {finished:?}");
                finished.in_order()?;
                // A volume that the user mounted there must not cause an error, but one to which a symlink in the
                // image leads may.
                ensure!(at == "data" || finished.code == Some(0), "{finished:?}");
                Ok(())
            };
            (format!("{name}, enabled {is_enabled}"), with_bundle(realm, check))
        })
    }))
}

fn put_link(bundle: &Bundle, path: &str, target: &str) {
    clear(&bundle.image(path));
    symlink(target, bundle.image(path)).unwrap();
}

/// If a container's root is on a file server, poststop exits with 0, and the record is kept.
pub fn poststop(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        fs::remove_file(bundle.image("etc/machine-id")).unwrap();
        bundle.start(Cgroup::Mounted);
        bundle.create()?.silently()?;
        ensure!(bundle.records().exists(), "nothing was recorded");
        bundle.end();
        let served = bundle.elsewhere("served");
        let Some(server) = Server::mount(&served) else { return skipped("FUSE is missing") };
        bind(&served, &bundle.root(""));
        server.is_mute();
        let how = How { cwd: Some("/".into()), options: LIMIT, ..How::default() };
        let finished = bundle.poststop_as(&how);
        Server::detach(&bundle.root(""));
        finished?.with_warning(&[SAYS])?;
        ensure!(bundle.records().exists(), "the record is gone");
        bundle.poststop()?.silently()?;
        ensure!(!bundle.records().exists(), "a record is left");
        Ok(())
    })
}

/// The time limit also applies to a call that is very slow but not blocked, whether it examines the container or
/// copies the image's content.
pub fn slow(realm: Realm) -> Check {
    // A tracer delays each of these calls.
    for call in ["getdents64", "flistxattr"] {
        with_bundle(realm, |bundle| {
            let watch = bundle.watch();
            bundle.start(Cgroup::Nowhere);
            for number in 0..100 {
                fs::write(bundle.image("tmp").join(number.to_string()), "content").unwrap();
            }
            let inject = format!("inject={call}:delay_enter=200000");
            let under = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject].map(str::to_owned);
            let finished = bundle.create_as(&How { options: LIMIT, under: &under, ..How::default() })?;
            finished.refused(&["time limit exceeded"])?;
            watch.host(bundle)
        })
        .map_err(|message| format!("{call}: {message}"))?;
    }
    Ok(())
}

/// Tests a call for an ID whose records are locked by another call that never ends.
pub fn lock(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        fs::remove_file(bundle.image("etc/machine-id")).unwrap();
        let container = Container::start_as(bundle, |bundle| bundle.start(Cgroup::Nowhere))?;
        bundle.state["pid"] = json!(container.id());
        let watch = bundle.watch();
        let records = bundle.records().join(ID);
        fs::create_dir_all(&records).unwrap();
        let held = File::open(&records).unwrap();
        rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
        create(bundle, Some(&bundle.directory()))?.refused(&[SAYS, "waiting for the lock on", ID])?;
        // The container's limit on processes doesn't allow another thread.
        let under = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=clone,clone3:error=EAGAIN"];
        let under = under.map(str::to_owned);
        let how = How { cwd: Some(bundle.directory()), options: LIMIT, under: &under, ..How::default() };
        bundle.create_as(&how)?.refused(&["time limit exceeded"])?;
        let how = How { cwd: Some("/".into()), word: Some("poststop"), ..how };
        bundle.poststop_as(&how)?.with_warning(&["time limit exceeded"])?;
        let how = How { cwd: Some("/".into()), options: LIMIT, ..How::default() };
        bundle.poststop_as(&how)?.with_warning(&[SAYS, "waiting for the lock on"])?;
        drop(held);
        bundle.poststop()?.silently()?;
        watch.everything(bundle)
    })
}

/// A call that waits for a file server when its time is over keeps its files open until the server answers, but not
/// its locks, so another container with the same ID can be created.
pub fn lock_of_a_stuck_call(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        fs::remove_file(bundle.image("etc/machine-id")).unwrap();
        bundle.start(Cgroup::Mounted);
        bundle.create()?.silently()?;
        bundle.end();
        let served = bundle.elsewhere("served");
        let Some(server) = Server::mount(&served) else { return skipped("FUSE is missing") };
        bind(&served, &bundle.root(""));
        // This ensures that the server has begun to answer.
        fs::metadata(&served).unwrap();
        server.keeps_requests();
        let state = bundle.state.to_string().replace("creating", "stopped");
        let mut hook = Command::new(program());
        hook.args(LIMIT).arg("poststop").stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut hook = hook.spawn().unwrap();
        hook.stdin.take().unwrap().write_all(state.as_bytes()).unwrap();
        let mut said = String::new();
        let told = BufReader::new(hook.stderr.take().unwrap()).read_line(&mut said);
        let records = File::open(bundle.records().join(ID)).unwrap();
        let is_free =
            until("the lock", || rustix::fs::flock(&records, FlockOperation::NonBlockingLockExclusive).is_ok());
        let is_stuck = hook.try_wait().unwrap().is_none();
        drop(records);
        drop(server);
        Server::detach(&bundle.root(""));
        hook.wait().unwrap();
        ensure!(told.is_ok() && said.contains(SAYS), "it said {said:?}");
        is_free?;
        ensure!(is_stuck, "it did not wait for the server");
        bundle.poststop()?.silently()
    })
}

/// Tests a runtime that keeps standard input open, or doesn't read standard error.
pub fn runtime(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        bundle.start(Cgroup::Mounted);
        for (word, status) in [("createContainer", 1), ("poststop", 0), ("precreate", 1)] {
            let mut hook = Command::new(program());
            hook.args(LIMIT).arg(word).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut hook = hook.spawn().unwrap();
            let status_seen = ended(&mut hook).map_err(|why| format!("{word}: {why}"))?;
            let mut said = String::new();
            hook.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            ensure!(status_seen.code() == Some(status), "{word}: {status_seen}, {said}");
            ensure!(said.lines().count() == 1 && said.contains("within the time limit"), "{word} said {said:?}");
        }
        Ok(())
    })
}

/// Waits until a hook with a short time limit exits.
fn ended(hook: &mut Child) -> Result<ExitStatus, String> {
    let begun = Instant::now();
    loop {
        if let Some(status) = hook.try_wait().unwrap() {
            return Ok(status);
        }
        if begun.elapsed() > Duration::from_secs(4) {
            hook.kill().unwrap();
            hook.wait().unwrap();
            return Err("it didn't end".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tests a call whose standard error is a full pipe that nobody reads.
pub fn full_stderr(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        fs::remove_file(bundle.image("etc/machine-id")).unwrap();
        bundle.start(Cgroup::Nowhere);
        let records = bundle.records().join(ID);
        fs::create_dir_all(&records).unwrap();
        let held = File::open(&records).unwrap();
        rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
        let (unread, full) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let flags = rustix::fs::fcntl_getfl(&full).unwrap();
        rustix::fs::fcntl_setfl(&full, flags | OFlags::NONBLOCK).unwrap();
        while rustix::io::write(&full, &[b'x'; 512]).is_ok() {}
        rustix::fs::fcntl_setfl(&full, flags).unwrap();
        let mut hook = Command::new(program());
        hook.args(LIMIT).current_dir(bundle.root("")).stdin(Stdio::piped()).stderr(full);
        let mut hook = hook.spawn().unwrap();
        hook.stdin.take().unwrap().write_all(bundle.state.to_string().as_bytes()).unwrap();
        let status = ended(&mut hook)?;
        drop(unread);
        ensure!(status.code() == Some(1), "{status}");
        Ok(())
    })
}

/// If everything answers in time, even a short limit has no effect.
pub fn in_time(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        clear(&bundle.image("srv/nothing"));
        symlink("/srv/inside", bundle.image("srv/nothing")).unwrap();
        bundle.start(Cgroup::Mounted);
        create(bundle, None)?.silently()
    })
}
