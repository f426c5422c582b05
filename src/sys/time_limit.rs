// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A limit to how long a call takes, with a word at its end; knows nothing of what takes long.
//!
//! Who waits for a file server that doesn't answer can't look at a clock, and runs no signal handler. So a thread waits for
//! the end of the time, says what was waited for, and ends the process. It is started just before something is touched that
//! may not answer: most calls never have it.

#![allow(unsafe_code)]

use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::{Context, SysError};

/// How long a call may take if nobody says otherwise: less than the `timeout` of 60 seconds in the descriptors, after which
/// the runtime would kill it without a word.
pub const USUAL: Duration = Duration::from_secs(45);

/// What the thread needs: it formats a line, and sends it. In a program without optimization that takes some 20 KiB.
const STACK_BYTES: usize = 64 * 1024;

/// What a call is at, in the words of a line that says so: `looking at /run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// A path in the container's root.
    Looking,
    /// A file that another process has locked.
    Locking,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Looking => "looking at",
            Self::Locking => "waiting for the lock of",
        })
    }
}

type Say = Box<dyn Fn(&str) + Send>;

struct Call {
    /// None: there is no limit.
    limit: Option<(Instant, Duration, Say)>,
    is_watched: bool,
    doing: Doing,
    at: String,
    status: i32,
}

static CALL: Mutex<Call> =
    Mutex::new(Call { limit: None, is_watched: false, doing: Doing::Looking, at: String::new(), status: 1 });

fn call() -> MutexGuard<'static, Call> {
    CALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time begins. At its end `say` gets a line, and the process ends with status 1.
pub fn begin(limit: Duration, say: impl Fn(&str) + Send + 'static) {
    call().limit = Some((Instant::now(), limit, Box::new(say)));
}

/// Lets the process end with another status.
pub fn end_with(status: u8) {
    call().status = status.into();
}

/// From here on something may not answer. Does nothing where there is no limit.
pub fn watch() {
    let mut call = call();
    let Some((begun, limit, _)) = &call.limit else { return };
    if call.is_watched {
        return;
    }
    let left = limit.saturating_sub(begun.elapsed());
    let wait = move || {
        std::thread::sleep(left);
        end();
    };
    // Worst case: no thread can be had, and the runtime's own limit ends the call.
    call.is_watched = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(wait).is_ok();
}

/// Notes what is waited for, if it is.
pub fn note(doing: Doing, at: &Path) {
    let mut call = call();
    if call.is_watched {
        call.doing = doing;
        call.at.clear();
        // Writing to a string can't fail.
        let _ = write!(call.at, "{}", at.display());
    }
}

fn end() {
    let call = call();
    if let Some((_, limit, say)) = &call.limit {
        let (doing, at) = (call.doing, &call.at);
        say(&format!(
            "gave up after {} s while {doing} {at}, or soon after: what doesn't answer there is a file server (FUSE, NFS), \
             or another call of this program",
            limit.as_secs()
        ));
    }
    // SAFETY: it ends the process, and runs nothing of it.
    unsafe { libc::_exit(call.status) };
}

/// Waits until a stream has something to read, or its end; `ETIMEDOUT` where that takes too long.
pub fn await_input(stream: impl std::os::fd::AsFd) -> Result<(), SysError> {
    let left = call().limit.as_ref().map(|(begun, limit, _)| limit.saturating_sub(begun.elapsed()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match rustix::event::poll(&mut [PollFd::new(&stream, PollFlags::IN)], left.as_ref()) {
        Ok(0) => Err(SysError::new("poll() of what nobody has closed", Errno::TIMEDOUT)),
        // A signal that stops and continues a process.
        Err(Errno::INTR) => await_input(stream),
        result => result.map(drop).call(|| "poll()"),
    }
}

/// Writes a line to standard error if that takes it at once.
pub fn say_on_stderr(line: &str) {
    /// A pipe that can be written to takes as much.
    const PIPE_BUF_BYTES: usize = 4096;
    let stderr = rustix::stdio::stderr();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_ready = rustix::event::poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&at_once));
    if matches!(is_ready, Ok(1..)) {
        let line = line.as_bytes();
        // Worst case: it is closed, and the status has to say it all.
        let _ = rustix::io::write(stderr, line.get(..PIPE_BUF_BYTES).unwrap_or(line));
    }
}
