// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows the stage createRuntime: the hook is in the runtime's mount namespace, the container in another.

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

/// The first process of a container, while its runtime still prepares it.
#[derive(Debug)]
pub struct Container(Child);

impl Container {
    /// Starts the bundle in a mount namespace of its own.
    fn start(bundle: &mut Bundle) -> Result<Self, String> {
        Self::start_as(bundle, |bundle| {
            bundle.start(Cgroup::Nowhere);
            bundle.submount("run/secrets");
        })
    }

    /// The same, with what the runtime mounts there.
    pub fn start_as(bundle: &mut Bundle, mount: impl FnOnce(&mut Bundle) + Send) -> Result<Self, String> {
        Self::start_under(bundle, &[], mount)
    }

    /// The same, with a program that runs it.
    pub fn start_under(
        bundle: &mut Bundle,
        under: &[&str],
        mount: impl FnOnce(&mut Bundle) + Send,
    ) -> Result<Self, String> {
        let words: Vec<&str> = under.iter().copied().chain(["cat"]).collect();
        // The runtime sees the root's files, and not what is mounted there.
        bind(&bundle.image(""), &bundle.root(""));
        isolated(|| {
            mount(bundle);
            // It ends with its standard input at the latest.
            let child = Command::new(words[0]).args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
            let container = child.map(Self).map_err(|error| format!("cannot run cat: {error}"))?;
            // Before that, the process still has the rights that the other program takes from it.
            let comm = format!("/proc/{}/comm", container.id());
            until("cat", || fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "cat"))?;
            Ok(container)
        })
    }

    /// Starts a process that adds mounts of its own to those that it finds.
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

    /// Its pid.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// A path of its namespace, in which the root's mounts are seen.
    pub fn path(&self, path: &Path) -> PathBuf {
        Path::new("/proc").join(self.id().to_string()).join("root").join(path.strip_prefix("/").unwrap())
    }

    pub fn mounts(&self) -> String {
        fs::read_to_string(format!("/proc/{}/mountinfo", self.id())).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Worst case: it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A copy of this process.
#[derive(Debug)]
pub struct Forked(Pid);

impl Forked {
    /// Forks this process. `act` must not return, and may only make system calls, since other threads don't exist there.
    #[allow(unsafe_code)]
    pub fn start(act: impl FnOnce()) -> Self {
        // SAFETY: the child makes system calls only, and is killed.
        match Pid::from_raw(unsafe { libc::fork() }) {
            Some(child) => Self(child),
            None => {
                // Locks and pipes of other trials would stay open. SAFETY: the child uses no file.
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
        // Worst case: it is gone already.
        let _ = kill_process(self.0, Signal::KILL);
        let _ = waitpid(Some(self.0), WaitOptions::empty());
    }
}

/// Where no createContainer follows, all is done in the container's namespace, for the container's root, and
/// nothing in the runtime's.
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
            ensure!((file.uid(), file.gid()) == (owner, owner), "{path} is {}:{}'s", file.uid(), file.gid());
        }
        // Once more finds it done.
        let before = container.mounts();
        bundle.create_as(&how)?.silently()?;
        ensure!(before == container.mounts(), "a second run changed the mounts");
        watch.everything(bundle)
    })
}

/// Where config.json lists the hook for createContainer too, nothing happens yet.
pub fn leaves_it_to_create_container(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        // What others have listed there, and lost, is not this hook's business.
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

/// An engine whose runtime was killed unmounts the container's root, while the hook may still be at work in the container's
/// mount namespace.
pub fn root_is_not_kept(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let container = Container::start(bundle)?;
        bundle.state["pid"] = json!(container.id());
        let log = bundle.elsewhere("strace").join("log");
        // After it has entered that namespace, and before it mounts.
        let call = stopper("flock", 1, &log);
        let how = How { cwd: Some(bundle.directory()), under: &call, ..How::default() };
        let bundle = &*bundle;
        std::thread::scope(|scope| {
            // In this mount namespace, which a thread gets from who starts it.
            let call = scope.spawn(|| bundle.create_as(&how));
            until("a hook that locks the root", || stopped(&log).is_some())?;
            let unmounted = rustix::mount::unmount(bundle.root(""), UnmountFlags::empty());
            kill_process(stopped(&log).unwrap(), Signal::CONT).unwrap();
            call.join().unwrap()?.silently()?;
            unmounted.map_err(|errno| format!("cannot unmount the root: {errno}"))
        })
    })
}

/// How strace(1) is called to stop a hook at one of its calls of a kind.
pub fn stopper(call: &str, number: usize, log: &Path) -> [String; 9] {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=SIGSTOP:when={number}"));
    ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", &trace, "-e", &inject].map(str::to_owned)
}

/// The process that strace has stopped.
pub fn stopped(log: &Path) -> Option<Pid> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().find(|line| line.ends_with("--- stopped by SIGSTOP ---"))?;
    line.split_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw)
}

/// A runtime that is killed leaves the hook working, and the engine calls poststop at once: what is made after that
/// would stay. So it is undone where the runtime or the container has ended meanwhile.
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
            // It waits for this lock, as for the poststop of an earlier container of this name.
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
            let words = "poststop would not take it back: the runtime, or the container's first process, has ended";
            ensure!(said().lines().count() == 1 && said().contains(words), "it said {:?}", said());
            // Which may be before its end, but is after all else that it does.
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

/// A runtime that waits for the hook.
fn begun(bundle: &Bundle) -> Result<Child, String> {
    let (state, said) = (bundle.host("../state"), bundle.host("../said"));
    fs::write(&state, bundle.state.to_string()).unwrap();
    // The shell would become the hook if there were nothing to do after it.
    let mut runtime = Command::new("/bin/sh");
    runtime.args(["-c", "\"$0\"; exit"]).arg(program()).current_dir(bundle.directory());
    runtime.stdin(File::open(state).unwrap()).stdout(Stdio::null()).stderr(File::create(said).unwrap());
    runtime.spawn().map_err(|error| format!("cannot run sh: {error}"))
}

pub fn until(what: &str, is_so: impl Fn() -> bool) -> Check {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        ensure!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
