// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows the namespaces that trials run in: one user namespace for all, a mount namespace for each.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use caps::{CapSet, Capability};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

/// Whose root a trial's hook is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Realm {
    /// Root of a user namespace, as under rootless engines.
    User,
    /// The host's root, as under Docker.
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

/// How many ids the user namespace has where root may map more than its own.
const IDS: u32 = 65536;

/// Why the trials of [`Realm::Initial`] can't run here, if they can't.
pub fn missing_for_initial() -> Option<String> {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !map.split_ascii_whitespace().eq(["0", "0", "4294967295"]) {
        return Some("this process is not in the initial user namespace".to_owned());
    }
    let wanted = [Capability::CAP_SYS_ADMIN, Capability::CAP_MKNOD, Capability::CAP_DAC_OVERRIDE];
    let missing = wanted.into_iter().find(|each| !caps::has_cap(None, CapSet::Effective, *each).unwrap_or(false));
    missing.map(|capability| format!("this process has no {capability}: run as root"))
}

/// Gives this process a mount namespace of its own.
pub fn enter_initial() -> Result<(), String> {
    unshare(UnshareFlags::NEWNS)?;
    make_private()
}

/// Gives this process, which must have one thread, a user and a mount namespace of its own, in which it is
/// root.
pub fn enter_user() -> Result<(), String> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if uid == 0 {
        // Only a process of the namespace above may map ids that are not its own.
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

/// Works in a mount namespace of its own, which is gone afterwards with all that was mounted there.
pub fn isolated<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            // A thread that shares its working directory with others can't have its own mounts.
            unshare(UnshareFlags::FS | UnshareFlags::NEWNS)?;
            make_private()?;
            work()
        });
        worker.join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(format!("panicked: {}", text.unwrap_or("with something that is no text")))
        })
    })
}

fn make_private() -> Result<(), String> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", flags).map_err(|error| format!("cannot make / private: {error}"))
}

/// Gives this thread namespaces of its own.
#[allow(unsafe_code)]
pub fn unshare(flags: UnshareFlags) -> Result<(), String> {
    // SAFETY: the descriptor table, whose unsharing would be unsound, stays shared.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(|error| format!("unshare({flags:?}): {error}"))
}
