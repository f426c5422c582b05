// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The namespaces in which trials run: one user namespace for all, and a mount namespace for each.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use caps::{CapSet, Capability};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

/// The user namespace in which a trial runs the hook as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Realm {
    /// A new user namespace, as under rootless engines.
    User,
    /// The initial user namespace, as under Docker.
    Initial,
}

impl Realm {
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Initial => "initial",
        }
    }
}

/// The number of IDs that the user namespace has if it is created by root, which may map more than one.
const IDS: u32 = 65536;

/// Returns the reason if the trials of [`Realm::Initial`] can't run here.
pub fn missing_for_initial() -> Option<String> {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !map.split_ascii_whitespace().eq(["0", "0", "4294967295"]) {
        return Some("this process is not in the initial user namespace".to_owned());
    }
    let wanted = [Capability::CAP_SYS_ADMIN, Capability::CAP_MKNOD, Capability::CAP_DAC_OVERRIDE];
    let missing = wanted.into_iter().find(|each| !caps::has_cap(None, CapSet::Effective, *each).unwrap_or(false));
    missing.map(|capability| format!("this process has no {capability}: run as root"))
}

/// Moves this process to a new mount namespace.
pub fn enter_initial() -> Result<(), String> {
    unshare(UnshareFlags::NEWNS)?;
    make_private()
}

/// Moves this process, which must have only one thread, to a new user namespace and a new mount namespace, in
/// which it is root.
pub fn enter_user() -> Result<(), String> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if uid == 0 {
        // Only a process in the parent namespace may map IDs other than its own.
        let pid = std::process::id();
        let map = format!("0 0 {IDS}");
        let script = r#"read -r go && printf %s "$1" >"/proc/$0/uid_map" && printf %s "$1" >"/proc/$0/gid_map""#;
        let mut mapper = Command::new("sh")
            .args(["-c", script, &pid.to_string(), &map])
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run sh: {error}"))?;
        let entered = unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS);
        let word: &[u8] = if entered.is_ok() { b"go\n" } else { b"" };
        let told = mapper.stdin.take().map(|mut input| input.write_all(word));
        let status = mapper.wait().map_err(|error| error.to_string())?;
        entered?;
        if !matches!(told, Some(Ok(()))) || !status.success() {
            return Err("cannot map the ids of a user namespace".to_owned());
        }
    } else {
        unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
        for (file, text) in
            [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))]
        {
            std::fs::write(Path::new("/proc/self").join(file), text)
                .map_err(|error| format!("cannot write /proc/self/{file}: {error}"))?;
        }
    }
    make_private()
}

/// Runs `work` in a new mount namespace, which is removed afterwards with all its mounts.
pub fn isolated<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            // A thread that shares its working directory with others can't have a separate mount namespace.
            unshare(UnshareFlags::FS | UnshareFlags::NEWNS)?;
            make_private()?;
            work()
        });
        worker.join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(format!("panicked: {}", text.unwrap_or("with a value that is not a string")))
        })
    })
}

fn make_private() -> Result<(), String> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", flags).map_err(|error| format!("cannot make / private: {error}"))
}

/// Moves this thread to new namespaces.
#[allow(unsafe_code)]
pub fn unshare(flags: UnshareFlags) -> Result<(), String> {
    // SAFETY: the descriptor table, whose unsharing would be unsound, remains shared.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(|error| format!("unshare({flags:?}): {error}"))
}
