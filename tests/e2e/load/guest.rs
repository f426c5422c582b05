// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The life of one container among a hundred, in which one of the processes is killed, and what
//! an engine does then.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use libtest_mimic::Failed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

use super::fate::{Fate, Fates, Victim};
use super::stand::{Stand, pids};
use crate::boot::{PROBE, has_what_systemd_needs, same};
use crate::command::{Finished, Look, ended, run, run_from, spelled, until};
use crate::config::{Config, HOOK_SAID, Place};
use crate::container::{Planted, message, plant};
use crate::inside::Inside;
use crate::mounts::{self, Mount};
use crate::site::Layout;
use crate::{host, tree, upper};

/// The time limit for everything, since two processors have to run a hundred containers.
const CROWDED: Duration = Duration::from_secs(120);

/// One container. Its files stay until the end of the test, when they are checked again.
#[derive(Debug)]
pub struct Guest<'a> {
    stand: &'a Stand,
    fate: Fate,
    id: String,
    home: PathBuf,
    planted: BTreeSet<PathBuf>,
}

impl<'a> Guest<'a> {
    pub fn new(stand: &'a Stand, number: u32, fate: Fate, moment: Duration) -> Result<Self, Failed> {
        let home = stand.home().join(number.to_string());
        for name in ["", "bundle", "bundle/rootfs", "upper", "work"] {
            fs::create_dir(home.join(name))?;
        }
        fs::set_permissions(home.join("upper"), fs::Permissions::from_mode(0o755))?;
        let mut image = PROBE.to_vec();
        image.extend(fate.lacks_machine_id.then_some(Planted::Gone("etc/machine-id")));
        let planted = plant(&home.join("upper"), &image)?;
        let guest = Self { stand, fate, id: stand.new_id()?, home, planted };
        fs::write(guest.home.join("bundle/config.json"), guest.config(moment).to_string())?;
        let (image, home) = (stand.image(), guest.home.display());
        let options = format!("lowerdir={},upperdir={home}/upper,workdir={home}/work", image.display());
        let mut mount = stand.command("mount");
        mount.args(["-t", "overlay", "-o", &options, "overlay"]);
        run(mount.arg(guest.rootfs()), CROWDED)?.expect_success()?;
        Ok(guest)
    }

    fn config(&self, moment: Duration) -> Value {
        let (runtime, layout) = (self.stand.cell.runtime, self.stand.cell.layout);
        let other = match layout {
            Layout::Legacy | Layout::Hybrid => Layout::Unified,
            Layout::Unified => Layout::Legacy,
        };
        let config = Config { cgroup: self.fate.other_layout.then_some(other.word()), ..Config::default() };
        let cgroup = format!("/{}/{}", self.stand.cgroup, self.id);
        let hook = &self.stand.hook;
        let mut json = config.json(runtime, layout, &Place { hook, cgroup: &cgroup, home: &self.home });
        let seconds = format!("{:.6}", moment.as_secs_f64());
        let killed = json!({"path": "/usr/bin/timeout", "args": ["timeout", "--signal=KILL", seconds, hook]});
        match self.fate.victim {
            Victim::HookAtCreate => json["hooks"]["createRuntime"] = json!([killed]),
            // The hook creates a cgroup only if config.json also lists it at poststop.
            Victim::HookAtPoststop => {
                json["hooks"]["poststop"] = json!([killed, {"path": hook, "args": [hook, "--version"]}]);
            }
            _ => {}
        }
        json
    }

    fn rootfs(&self) -> PathBuf {
        self.home.join("bundle/rootfs")
    }

    /// Runs the container from its creation to its deletion. Returns whether the victim was killed in time.
    pub fn live(&self, fates: &Fates) -> Result<bool, Failed> {
        let moment = fates.moment(&self.fate);
        let (created, mut killed) = self.create(moment)?;
        if killed {
            // Whether the runtime has created it depends on the moment.
            self.clean_up_as_engine()?;
            return Ok(true);
        }
        if !created.success() {
            return Err(format!("the runtime can't create it: {created}").into());
        }
        let first = FirstProcess::of(&self.home)?;
        self.is_prepared()?;
        if self.fate.boots {
            run(self.stand.runtime().args(["start", &self.id]), CROWDED)?.expect_success()?;
        }
        if self.fate.victim == Victim::Nobody && self.fate.boots {
            self.has_come_up(&first)?;
            has_what_systemd_needs(self)?;
            fates.note_boot();
        }
        if self.fate.victim == Victim::Container {
            sleep(moment);
            killed = true;
        }
        first.kill()?;
        killed |= self.delete(moment)?;
        // A warning would mean that the crowd has interfered with something. With runc no warnings are recorded.
        let said = fs::read_to_string(self.home.join(HOOK_SAID)).unwrap_or_default();
        if killed || said.is_empty() { Ok(killed) } else { Err("the hook printed a message".into()) }
    }

    /// Returns the runtime's exit status, and whether the victim was killed in time.
    fn create(&self, moment: Duration) -> Result<(ExitStatus, bool), Failed> {
        let mut command = self.stand.runtime();
        command.args(["create", "--pid-file"]).arg(self.home.join("pid"));
        command.arg("--bundle").arg(self.home.join("bundle")).arg(&self.id);
        let mut child = self.begin(&mut command)?;
        let mut killed = false;
        match self.fate.victim {
            // The purpose of this test is to kill at any moment.
            Victim::RuntimeAtCreate => {
                sleep(moment);
                child.kill()?;
            }
            Victim::ContainerAtCreate => {
                sleep(moment);
                killed = self.kill_first_process_of(&mut child)?;
            }
            _ => {}
        }
        let status = ended(&mut child, &spelled(&command), CROWDED)?;
        killed |= match self.fate.victim {
            Victim::RuntimeAtCreate => status.signal() == Some(Signal::KILL.as_raw()),
            Victim::HookAtCreate => {
                let said = self.said();
                // The messages of runc and crun.
                ["error running hook: signal: killed", "(exit code: 137)"].iter().any(|words| said.contains(words))
            }
            _ => false,
        };
        Ok((status, killed))
    }

    /// Waits for the first process and kills it. Returns `false` if the runtime ends before there is one.
    fn kill_first_process_of(&self, runtime: &mut Child) -> Result<bool, Failed> {
        let above = runtime.id();
        let is_first = |pid: u32| self.stand.is_elsewhere(pid) && parent(pid) == Some(above);
        until("a first process", CROWDED, || {
            let found = match pids() {
                Ok(pids) => pids.into_iter().find(|pid| is_first(*pid)),
                Err(failed) => return Look::Never(message(&failed)),
            };
            let Some(first) = found.and_then(|pid| FirstProcess::open(pid).ok().filter(|_| is_first(pid))) else {
                return match runtime.try_wait() {
                    Ok(Some(_)) => Look::Done(false),
                    Ok(None) => Look::NotYet("the runtime has no child".to_owned()),
                    Err(error) => Look::Never(error.to_string()),
                };
            };
            match first.kill() {
                Ok(()) => Look::Done(true),
                Err(failed) => Look::Never(message(&failed)),
            }
        })
    }

    /// Deletes the container, whose first process has ended. Returns whether the victim was killed in time.
    fn delete(&self, moment: Duration) -> Result<bool, Failed> {
        let mut command = self.stand.runtime();
        command.args(["delete", &self.id]);
        let mut child = self.begin(&mut command)?;
        if self.fate.victim == Victim::RuntimeAtDelete {
            sleep(moment);
            child.kill()?;
        }
        let status = ended(&mut child, &spelled(&command), CROWDED)?;
        match self.fate.victim {
            Victim::RuntimeAtDelete if status.signal() == Some(Signal::KILL.as_raw()) => {}
            // crun doesn't report it.
            Victim::HookAtPoststop if !status.success() || self.stand.record(&self.id).is_some() => {}
            _ if status.success() => return Ok(false),
            _ => return Err(format!("the runtime can't delete it: {status}").into()),
        }
        self.clean_up_as_engine()?;
        Ok(true)
    }

    /// Deletes what is left after a kill, and calls the hook as podman does, which runs poststop hooks itself.
    fn clean_up_as_engine(&self) -> Result<(), Failed> {
        until("a runtime that has forgotten the container", CROWDED, || {
            let deleted = run(self.stand.runtime().args(["delete", "--force", &self.id]), CROWDED);
            match (deleted, run(self.stand.runtime().args(["state", &self.id]), CROWDED)) {
                (Ok(_), Ok(state)) if !state.status.success() && !self.stand.has_runtimes_state(&self.id) => {
                    Look::Done(())
                }
                (Ok(deleted), Ok(state)) => Look::NotYet([deleted.told(), state.told()].concat()),
                (Err(failed), _) | (_, Err(failed)) => Look::Never(message(&failed)),
            }
        })?;
        self.remove_runtimes_cgroup()?;
        let mut state = tempfile::tempfile()?;
        let told =
            json!({"ociVersion": "1.0.2", "id": self.id, "status": "stopped", "bundle": self.home.join("bundle")});
        state.write_all(told.to_string().as_bytes())?;
        std::io::Seek::rewind(&mut state)?;
        let hook = self.stand.hook.to_str().ok_or("the hook's path is not UTF-8")?;
        let poststop = run_from(&mut self.stand.command(hook), Stdio::from(state), CROWDED)?;
        let told = poststop.told();
        if !poststop.status.success() || !poststop.errors.is_empty() {
            return Err(told.into());
        }
        Ok(())
    }

    /// Removes the cgroup of a runtime that was killed, with the processes that are left in it. crun's container
    /// waits for a start that never comes.
    fn remove_runtimes_cgroup(&self) -> Result<(), Failed> {
        for cgroup in self.runtimes_cgroups() {
            until("the end of a container whose runtime was killed", CROWDED, || match remove_cgroup(&cgroup) {
                Ok(()) => Look::Done(()),
                Err(error) => Look::NotYet(format!("{}: {error}", cgroup.display())),
            })?;
        }
        Ok(())
    }

    /// Returns the container's existing cgroups in all hierarchies that the host has mounted.
    fn runtimes_cgroups(&self) -> Vec<PathBuf> {
        let top = Path::new("/sys/fs/cgroup");
        let tops = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
        let own = tops.chain([top.to_owned()]).map(|top| top.join(&self.stand.cgroup).join(&self.id));
        own.filter(|cgroup| cgroup.exists()).collect()
    }

    fn begin(&self, command: &mut Command) -> Result<Child, Failed> {
        let said = File::options().create(true).append(true).open(self.home.join("said"))?;
        Ok(command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).spawn()?)
    }

    /// Checks that everything that systemd needs is mounted exactly once.
    fn is_prepared(&self) -> Result<(), Failed> {
        let seen = self.mounts()?;
        for point in ["/run", "/run/lock", "/tmp", "/var/log/journal", "/etc/machine-id"] {
            let kinds: Vec<&str> =
                seen.iter().filter(|mount| mount.point == point).map(|mount| mount.kind.as_str()).collect();
            same(&format!("the mounts on {point}"), &kinds.join(" "), "tmpfs")?;
        }
        Ok(())
    }

    /// Repeated queries would slow systemd down, so it is asked to report when it is done.
    fn has_come_up(&self, first: &FirstProcess) -> Result<(), Failed> {
        let socket = PathBuf::from(format!("/proc/{}/root/run/systemd/private", first.pid));
        until("systemd that listens", CROWDED, || {
            if socket.exists() { Look::Done(()) } else { Look::NotYet("no socket".to_owned()) }
        })?;
        let told = self.ask(&["systemctl", "is-system-running", "--wait"])?;
        same("systemd's state", told.trim(), "running")
    }

    /// Checks that nothing of the container is left that shouldn't outlive it.
    pub fn leaves_nothing(&self) -> Result<(), Failed> {
        until(&format!("the end of {}, {:?}", self.id, self.fate), CROWDED, || match self.left() {
            Ok(left) if left.is_empty() => Look::Done(()),
            Ok(left) => Look::NotYet(left.join("; ")),
            Err(failed) => Look::Never(message(&failed)),
        })
    }

    fn left(&self) -> Result<Vec<String>, Failed> {
        let mut left: Vec<String> =
            self.stand.record(&self.id).map(|record| format!("record: {record}")).into_iter().collect();
        left.extend(self.runtimes_cgroups().iter().map(|cgroup| cgroup.display().to_string()));
        left.extend(host::left_cgroups(&format!("{}/{}", self.stand.cgroup, self.id), &self.id)?);
        left.extend(self.root_is_as_before().err().map(|failed| message(&failed)));
        Ok(left)
    }

    /// Checks that the image's upper directory contains only what systemd writes.
    fn root_is_as_before(&self) -> Result<(), Failed> {
        let changes = tree::changes(&self.home.join("upper"), &self.stand.lower, &self.planted)?;
        match (changes.is_empty(), self.fate.boots, self.fate.victim) {
            (true, false, _) => Ok(()),
            (false, false, _) => Err(format!("changed in the container's root: {changes:?}").into()),
            (_, true, Victim::Nobody) => {
                upper::are_systemds(&changes, &self.home.join("upper"), self.stand.cell.suite, &[])
            }
            (_, true, _) => upper::may_be_systemds(&changes, self.stand.cell.suite, &[]),
        }
    }

    /// Unmounts the root file system, as an engine does when it removes a container.
    pub fn unmount(&self) -> Result<(), Failed> {
        run(self.stand.command("umount").arg(self.rootfs()), CROWDED)?.expect_success()?;
        Ok(())
    }
}

impl Inside for Guest<'_> {
    fn id(&self) -> &str {
        &self.id
    }

    fn manager(&self) -> Result<&'static str, Failed> {
        Ok("oci")
    }

    fn status(&self) -> Result<String, Failed> {
        let text = run(self.stand.runtime().args(["state", &self.id]), CROWDED)?.expect_success()?;
        Ok(serde_json::from_str::<Value>(&text)?["status"].as_str().unwrap_or_default().to_owned())
    }

    fn exec(&self, arguments: &[&str]) -> Result<Finished, Failed> {
        run(self.stand.runtime().args(["exec", &self.id]).args(arguments), CROWDED)
    }

    fn mounts(&self) -> Result<Vec<Mount>, Failed> {
        let pid = FirstProcess::pid(&self.home)?;
        Ok(mounts::parse(&fs::read_to_string(format!("/proc/{pid}/mountinfo"))?))
    }

    fn said(&self) -> String {
        ["said", HOOK_SAID].map(|name| fs::read_to_string(self.home.join(name)).unwrap_or_default()).concat()
    }
}

/// A container's first process, which is not a child of the tests.
struct FirstProcess {
    pid: u32,
    handle: OwnedFd,
}

impl FirstProcess {
    /// Returns the PID that the runtime wrote to its PID file.
    fn pid(home: &Path) -> Result<u32, Failed> {
        Ok(fs::read_to_string(home.join("pid"))?.trim().parse()?)
    }

    fn of(home: &Path) -> Result<Self, Failed> {
        Self::open(Self::pid(home)?)
    }

    fn open(pid: u32) -> Result<Self, Failed> {
        let id = Pid::from_raw(i32::try_from(pid)?).ok_or("a pid that is 0")?;
        Ok(Self { pid, handle: pidfd_open(id, PidfdFlags::empty())? })
    }

    /// Kills the process and waits until it has ended.
    fn kill(&self) -> Result<(), Failed> {
        match pidfd_send_signal(&self.handle, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        let limit = Timespec { tv_sec: CROWDED.as_secs().try_into()?, tv_nsec: 0 };
        match poll(&mut [PollFd::new(&self.handle, PollFlags::IN)], Some(&limit))? {
            0 => Err(format!("{} outlives SIGKILL", self.pid).into()),
            _ => Ok(()),
        }
    }
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Kills the processes in a cgroup and removes it with everything below it.
fn remove_cgroup(cgroup: &Path) -> std::io::Result<()> {
    let processes = match fs::read_to_string(cgroup.join("cgroup.procs")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    for pid in processes.lines().filter_map(|line| line.parse().ok()) {
        // The process may already have ended.
        FirstProcess::open(pid).and_then(|process| process.kill()).ok();
    }
    for entry in fs::read_dir(cgroup)?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroup(&entry.path())?;
    }
    fs::remove_dir(cgroup)
}
