// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the createRuntime stage, at which the hook is in the runtime's mount namespace, and the
//! container in another one.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, ID, bind, with_bundle};
use crate::hook::{DEADLINE, How, program};
use crate::namespace::{Realm, isolated};

/// The first process of a container that its runtime is still preparing.
#[derive(Debug)]
pub struct Container(Child);

impl Container {
    /// Sets up the bundle in a new mount namespace.
    fn start(bundle: &mut Bundle) -> Result<Self, String> {
        Self::start_as(bundle, |bundle| {
            bundle.start(Cgroup::Nowhere);
            bundle.submount("run/secrets");
        })
    }

    /// Does the same with the mounts of `mount`.
    pub fn start_as(bundle: &mut Bundle, mount: impl FnOnce(&mut Bundle) + Send) -> Result<Self, String> {
        Self::start_under(bundle, &[], mount)
    }

    /// Does the same with a program that starts the process.
    pub fn start_under(
        bundle: &mut Bundle,
        under: &[&str],
        mount: impl FnOnce(&mut Bundle) + Send,
    ) -> Result<Self, String> {
        let words: Vec<&str> = under.iter().copied().chain(["cat"]).collect();
        // The runtime sees the root's files, but not the mounts in it.
        bind(&bundle.image(""), &bundle.root(""));
        isolated(|| {
            mount(bundle);
            // The process exits when its standard input is closed, or before.
            let child = Command::new(words[0]).args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
            let container = child.map(Self).map_err(|error| format!("cannot run cat: {error}"))?;
            // Until then, the process still has the privileges that the other program removes.
            let comm = format!("/proc/{}/comm", container.id());
            until("cat", || fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "cat"))?;
            Ok(container)
        })
    }

    /// Starts a process that adds private mounts to those that it inherits.
    pub fn with_mounts(mount: impl FnOnce() + Send) -> Result<Self, String> {
        isolated(|| {
            mount();
            let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
            child.map(Self).map_err(|error| format!("cannot run cat: {error}"))
        })
    }

    /// Starts another process in the runtime's namespaces.
    pub fn beside() -> Result<Self, String> {
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        child.map(Self).map_err(|error| format!("cannot run cat: {error}"))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Returns the path through which a file in the process's mount namespace can be accessed.
    pub fn path(&self, path: &Path) -> PathBuf {
        Path::new("/proc").join(self.id().to_string()).join("root").join(path.strip_prefix("/").unwrap())
    }

    pub fn mounts(&self) -> String {
        fs::read_to_string(format!("/proc/{}/mountinfo", self.id())).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // At worst, the process has already exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A copy of this process.
#[derive(Debug)]
pub struct Forked(Pid);

impl Forked {
    /// Forks this process. `act` must not return, and may only make system calls, since the child
    /// has no other threads.
    #[allow(unsafe_code)]
    pub fn start(act: impl FnOnce()) -> Self {
        // SAFETY: the child only makes system calls, and is killed.
        match Pid::from_raw(unsafe { libc::fork() }) {
            Some(child) => Self(child),
            None => {
                // Otherwise locks and pipes of other trials would stay open. SAFETY: the child uses no file.
                unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
                act();
                unreachable!("the child goes on without what it is for")
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.0.as_raw_pid().unsigned_abs()
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        // At worst, the child has already exited.
        let _ = kill_process(self.0, Signal::KILL);
        let _ = waitpid(Some(self.0), WaitOptions::empty());
    }
}

/// If no createContainer hook follows, everything is done in the container's namespace with the container's root as
/// its owner, and nothing is done in the runtime's.
pub fn does_the_whole_job(realm: Realm) -> Check {
    const OWNER: u32 = 1000;
    with_bundle(realm, |bundle| {
        let may_chown = std::os::unix::fs::lchown(bundle.elsewhere("owned"), Some(OWNER), Some(OWNER)).is_ok();
        if may_chown {
            let map = json!([{"containerID": 0, "hostID": OWNER, "size": 1000}]);
            bundle.config["linux"]["uidMappings"] = map.clone();
            bundle.config["linux"]["gidMappings"] = map;
        }
        let container = Container::start(bundle)?;
        bundle.state["pid"] = json!(container.id());
        let watch = bundle.watch();
        let how = How { cwd: Some(bundle.directory()), ..How::default() };
        bundle.create_as(&how)?.silently()?;
        watch.everything(bundle)?;
        watch.image(bundle)?;
        for (path, is_ours) in [
            ("run", true),
            ("run/lock", true),
            ("tmp", true),
            ("run/host/container-manager", true),
            ("run/secrets/kept", false),
            ("etc/machine-id", true),
        ] {
            let file = fs::metadata(container.path(&bundle.root(path))).map_err(|error| format!("{path}: {error}"))?;
            let owner = if is_ours && may_chown { OWNER } else { 0 };
            ensure!((file.uid(), file.gid()) == (owner, owner), "{path} has the owner {}:{}", file.uid(), file.gid());
        }
        // A second call finds everything done.
        let before = container.mounts();
        bundle.create_as(&how)?.silently()?;
        ensure!(before == container.mounts(), "a second run changed the mounts");
        watch.everything(bundle)
    })
}

/// If config.json also lists the hook for createContainer, the call at createRuntime does nothing.
pub fn leaves_it_to_create_container(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        // Missing hooks that others have listed there have no effect on this hook.
        let others = ["/nowhere".to_owned(), "/proc/self/status/x".to_owned(), format!("/{}", "x".repeat(300))];
        let hooks = others.into_iter().map(PathBuf::from).chain([program()]);
        let hooks: Vec<_> = hooks.map(|path| json!({ "path": path })).collect();
        bundle.config["hooks"] = json!({ "createContainer": hooks });
        let container = Container::start(bundle)?;
        bundle.state["pid"] = json!(container.id());
        let (watch, before) = (bundle.watch(), container.mounts());
        let how = How { cwd: Some(bundle.directory()), ..How::default() };
        bundle.create_as(&how)?.silently()?;
        ensure!(before == container.mounts(), "something was mounted");
        watch.everything(bundle)?;
        watch.image(bundle)
    })
}

/// If its runtime is killed, an engine unmounts the container's root, while the hook may still be running in
/// the container's mount namespace.
pub fn root_is_not_kept(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let container = Container::start(bundle)?;
        bundle.state["pid"] = json!(container.id());
        let log = bundle.elsewhere("strace").join("log");
        // The hook is stopped after it has entered that namespace, and before it mounts.
        let call = stopper("flock", 1, &log);
        let how = How { cwd: Some(bundle.directory()), under: &call, ..How::default() };
        let bundle = &*bundle;
        std::thread::scope(|scope| {
            // The thread inherits this mount namespace from the one that starts it.
            let call = scope.spawn(|| bundle.create_as(&how));
            until("a hook that locks the root", || stopped(&log).is_some())?;
            let unmounted = rustix::mount::unmount(bundle.root(""), UnmountFlags::empty());
            kill_process(stopped(&log).unwrap(), Signal::CONT).unwrap();
            call.join().unwrap()?.silently()?;
            unmounted.map_err(|errno| format!("cannot unmount the root: {errno}"))
        })
    })
}

/// Returns the strace(1) command that stops a hook after a system call of this name.
pub fn stopper(call: &str, number: usize, log: &Path) -> [String; 9] {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=SIGSTOP:when={number}"));
    ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", &trace, "-e", &inject].map(str::to_owned)
}

/// Returns the process that strace has stopped.
pub fn stopped(log: &Path) -> Option<Pid> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().find(|line| line.ends_with("--- stopped by SIGSTOP ---"))?;
    line.split_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw)
}

/// If the runtime is killed, the hook continues, and the engine calls poststop at once. Files that the hook creates
/// after that would remain, so they are undone if the runtime or the container has ended in the meantime.
pub fn given_up(realm: Realm) -> Check {
    type End = fn(&mut Container, &mut Child);
    let ends: [(&str, End); 2] =
        [("the container", |container, _| end(&mut container.0)), ("the runtime", |_, runtime| end(runtime))];
    for (who, end) in ends {
        with_bundle(realm, |bundle| {
            fs::remove_file(bundle.image("etc/machine-id")).unwrap();
            let mut container = Container::start(bundle)?;
            bundle.state["pid"] = json!(container.id());
            let watch = bundle.watch();
            // The hook waits for this lock, as it does for the poststop of an earlier container with this name.
            let record = bundle.records().join(ID);
            fs::create_dir_all(&record).unwrap();
            let record = File::open(record).unwrap();
            rustix::fs::flock(&record, FlockOperation::LockExclusive).unwrap();
            let mut runtime = begun(bundle)?;
            until("a hook that waits for its record", || {
                let inode = format!(":{} ", record.metadata().unwrap().ino());
                fs::read_to_string("/proc/locks")
                    .unwrap()
                    .lines()
                    .any(|line| line.contains(&inode) && line.contains("->"))
            })?;
            end(&mut container, &mut runtime);
            drop(record);
            let said = || fs::read_to_string(bundle.host("../said")).unwrap();
            until("what the hook says", || said().ends_with('\n'))?;
            let words = "poststop might not undo it: the runtime, or the container's first process, has already ended";
            ensure!(said().lines().count() == 1 && said().contains(words), "it said {:?}", said());
            // The message may come before the hook's exit, but it comes after everything else that the hook does.
            watch.everything(bundle)
        })
        .map_err(|message| format!("without {who}: {message}"))?;
    }
    Ok(())
}

fn end(process: &mut Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

/// Starts a runtime that waits for the hook.
fn begun(bundle: &Bundle) -> Result<Child, String> {
    let (state, said) = (bundle.host("../state"), bundle.host("../said"));
    fs::write(&state, bundle.state.to_string()).unwrap();
    // Without a command after the hook, the shell would exec it instead of waiting for it.
    let mut runtime = Command::new("/bin/sh");
    runtime.args(["-c", "\"$0\"; exit"]).arg(program()).current_dir(bundle.directory());
    runtime.stdin(File::open(state).unwrap()).stdout(Stdio::null()).stderr(File::create(said).unwrap());
    runtime.spawn().map_err(|error| format!("cannot run sh: {error}"))
}

pub fn until(what: &str, is_so: impl Fn() -> bool) -> Check {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        ensure!(Instant::now() < deadline, "timed out while waiting for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
