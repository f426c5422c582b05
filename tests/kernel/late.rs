// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows that each call of the hook ends with a line, whoever doesn't answer: a file server, a lock, its runtime.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::mount::{MountFlags, mount};
use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, ID, bind, with_bundle};
use crate::fuse::Server;
use crate::hook::{Finished, How, program};
use crate::hostile::clear;
use crate::namespace::Realm;
use crate::runtime::Container;

const LIMIT: &[&str] = &["--time-limit=1"];
/// What it says, whatever it waited for.
const SAYS: &str = "gave up after 1 s";

fn create(bundle: &Bundle, cwd: Option<&Path>) -> Result<Finished, String> {
    bundle.create_as(&How { cwd: cwd.map(Path::to_owned), options: LIMIT, ..How::default() })
}

/// Where the machine lacks something.
fn skipped(why: &str) -> Check {
    ensure!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: {why}");
    Ok(())
}

/// The root itself is a server's, or the layer of an overlay.
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
                    // Older kernels have no overlay of such a layer in a user namespace.
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

/// poststop of a container whose root is a server's: its status is 0 nonetheless, and what was noted stays noted.
pub fn poststop(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        fs::remove_file(bundle.image("etc/machine-id")).unwrap();
        bundle.start(Cgroup::Mounted);
        bundle.create()?.silently()?;
        ensure!(bundle.records().exists(), "nothing was noted");
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

/// A record that another call has locked, which never ends.
pub fn lock(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        fs::remove_file(bundle.image("etc/machine-id")).unwrap();
        let container = Container::start_as(bundle, |bundle| bundle.start(Cgroup::Nowhere))?;
        bundle.state["pid"] = json!(container.id());
        let watch = bundle.watch();
        let record = bundle.records().join(ID).join("made");
        fs::create_dir_all(record.parent().unwrap()).unwrap();
        let held = File::create(&record).unwrap();
        rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
        create(bundle, Some(&bundle.directory()))?.refused(&[SAYS, "waiting for the lock of", "made"])?;
        let how = How { cwd: Some("/".into()), options: LIMIT, ..How::default() };
        bundle.poststop_as(&how)?.with_warning(&[SAYS, "waiting for the lock of"])?;
        drop(held);
        bundle.poststop()?.silently()?;
        watch.everything(bundle)
    })
}

/// A runtime that keeps standard input open, and one that doesn't read what is said.
pub fn runtime(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        bundle.start(Cgroup::Mounted);
        for (word, status) in [("createContainer", 1), ("poststop", 0), ("precreate", 1)] {
            let mut hook = Command::new(program());
            hook.args(LIMIT).arg(word).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let begun = Instant::now();
            let mut hook = hook.spawn().unwrap();
            let input = hook.stdin.take();
            let status_seen = hook.wait().unwrap();
            drop(input);
            let mut said = String::new();
            hook.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            ensure!(status_seen.code() == Some(status), "{word}: {status_seen}, {said}");
            ensure!(said.lines().count() == 1 && said.contains("ETIMEDOUT"), "{word} said {said:?}");
            ensure!(begun.elapsed() < Duration::from_secs(4), "{word} took {:?}", begun.elapsed());
        }
        Ok(())
    })
}

/// Where all answers come, the limit does nothing, however short.
pub fn in_time(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        clear(&bundle.image("srv/nothing"));
        symlink("/srv/inside", bundle.image("srv/nothing")).unwrap();
        bundle.start(Cgroup::Mounted);
        create(bundle, None)?.silently()
    })
}
