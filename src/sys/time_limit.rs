// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A limit on the time that a call takes, with a message when it expires. This module doesn't know what takes long.
//!
//! A thread that waits for a file server can't check a clock, and runs no signal handler. So another thread waits for
//! the time to expire, reports what the first one was waiting for, and ends the process. It is started just before
//! the first operation that is known to block; most calls never start it. Anything else that takes long, for example
//! because the container's cgroup gets hardly any processor time, is ended by a timer soon afterwards.

#![allow(unsafe_code)]

use std::fmt::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::{Context, SysError};

/// The default limit. It is less than the `timeout` of 60 seconds in the descriptors, after which the runtime kills the
/// hook without a message.
pub const USUAL: Duration = Duration::from_secs(45);

/// The stack size of the thread, which formats a line and sends it. Without optimization that takes about 20 KiB.
const STACK_BYTES: usize = 64 * 1024;

/// What a call is doing, as in the message `looking up /run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Resolving a path in the container's root.
    Looking,
    /// Waiting for a lock that another process may hold.
    Locking,
    /// Waiting for a process in the container's memory cgroup that copies files of the image.
    Copying,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Looking => "looking up",
            Self::Locking => "waiting for the lock on",
            Self::Copying => "copying",
        })
    }
}

type Say = Box<dyn Fn(&str) + Send>;

struct CurrentCall {
    /// The start and length of the time limit, and the function that reports its end. `None` if there is no limit.
    limit: Option<(Instant, Duration, Say)>,
    is_watched: bool,
    doing: Operation,
    at: String,
    locks: Vec<RawFd>,
}

static CALL: Mutex<CurrentCall> = Mutex::new(CurrentCall {
    limit: None,
    is_watched: false,
    doing: Operation::Looking,
    at: String::new(),
    locks: Vec::new(),
});

/// The status with which the process exits when the time expires.
static STATUS: AtomicI32 = AtomicI32::new(1);

fn call() -> MutexGuard<'static, CurrentCall> {
    CALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the time limit. When it expires, `say` is called with a message, and the process exits with status 1 or the
/// one set by [`end_with`].
pub fn begin(limit: Duration, say: impl Fn(&str) + Send + 'static) {
    call().limit = Some((Instant::now(), limit, Box::new(say)));
}

/// Sets the status with which the process exits when the time expires.
pub fn end_with(status: u8) {
    STATUS.store(status.into(), Ordering::Relaxed);
}

/// Starts the watching thread, before an operation that may block. Does nothing if there is no limit.
pub fn watch() {
    let mut call = call();
    let Some((begun, limit, _)) = &call.limit else { return };
    if call.is_watched {
        return;
    }
    let left = limit.saturating_sub(begun.elapsed());
    LEFT.store(u64::try_from(left.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    call.is_watched = start_thread();
    if !call.is_watched {
        // At createContainer this process is in the container's cgroup, whose limit on processes may not allow another thread.
        start_timer_of(left);
    }
}

/// Makes a signal end this process with a message soon after the limit, whatever takes long. It can't end a call that
/// waits in the kernel for a file server. It changes the handling of SIGALRM, so it isn't meant for a program that
/// executes another one in its place.
pub fn start_timer() {
    let left = call().limit.as_ref().map(|(begun, limit, _)| limit.saturating_sub(begun.elapsed()));
    if let Some(left) = left {
        start_timer_of(left);
    }
}

#[allow(clippy::cast_lossless, clippy::cast_possible_wrap, reason = "the type differs from machine to machine")]
fn start_timer_of(left: Duration) {
    /// The timer expires after the thread, which knows better what took long.
    const AFTER_THREAD: Duration = Duration::from_millis(500);
    extern "C" fn expired(_: libc::c_int) {
        const LINE: &[u8] =
            b"oci-systemd-hook: time limit exceeded: the hook was blocked, or got hardly any processor time\n";
        let mut stderr = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
        // SAFETY: all these calls are allowed in a signal handler, signal-safety(7).
        unsafe {
            if libc::poll(&raw mut stderr, 1, 0) == 1 {
                libc::write(libc::STDERR_FILENO, LINE.as_ptr().cast(), LINE.len());
            }
            libc::_exit(STATUS.load(Ordering::Relaxed));
        }
    }
    let then = left + AFTER_THREAD;
    let handler = expired as extern "C" fn(libc::c_int);
    // SAFETY: the handler has the signature that signal(2) requires, and makes only the calls above. The set is
    // initialized before it is used.
    unsafe {
        libc::signal(libc::SIGALRM, handler as libc::sighandler_t);
        let mut alarm = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(alarm.as_mut_ptr());
        libc::sigaddset(alarm.as_mut_ptr(), libc::SIGALRM);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, alarm.as_ptr(), std::ptr::null_mut());
        let once = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let then = libc::timeval {
            tv_sec: libc::time_t::try_from(then.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_usec: then.subsec_micros() as libc::suseconds_t,
        };
        let timer = libc::itimerval { it_interval: once, it_value: then };
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
}

pub fn stop_timer() {
    // SAFETY: the call takes a number.
    unsafe { libc::alarm(0) };
}

/// Releases a lock, flock(2), when the time expires: a process that waits for a file server keeps its files open
/// until the server answers.
pub fn unlock_at_end(file: BorrowedFd<'_>) {
    call().locks.push(file.as_raw_fd());
}

/// How long the thread waits, in milliseconds.
static LEFT: AtomicU64 = AtomicU64::new(0);

/// Starts the thread with the functions of the C library: what Rust's standard library sets up for a thread, such as
/// an arena of the allocator, takes longer than all other steps of gathering together.
fn start_thread() -> bool {
    extern "C" fn wait(_: *mut libc::c_void) -> *mut libc::c_void {
        std::thread::sleep(Duration::from_millis(LEFT.load(Ordering::Relaxed)));
        end()
    }
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = std::mem::MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: the attributes are initialized before they are used and destroyed afterwards, and the thread's function
    // takes no argument and never returns.
    unsafe {
        if libc::pthread_attr_init(attributes.as_mut_ptr()) != 0 {
            return false;
        }
        let is_started = libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK_BYTES) == 0
            && libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), wait, std::ptr::null_mut()) == 0;
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        is_started
    }
}

/// Records what the call is doing, if it is being watched.
pub fn note(doing: Operation, at: &Path) {
    let mut call = call();
    if call.is_watched {
        call.doing = doing;
        call.at.clear();
        // Writing to a string can't fail.
        let _ = write!(call.at, "{}", at.display());
    }
}

fn end() -> ! {
    let call = call();
    if let Some((_, limit, say)) = &call.limit {
        let (doing, at) = (call.doing, &call.at);
        say(&format!(
            "gave up after {} s while {doing} {at} or shortly afterwards: a file server (FUSE, NFS) or another call of \
             this program is not responding, or the container's cgroup is frozen",
            limit.as_secs()
        ));
    }
    for lock in &call.locks {
        // SAFETY: the call does no harm if the descriptor has since become that of another file, since no
        // file is used any more.
        unsafe { libc::flock(*lock, libc::LOCK_UN) };
    }
    // SAFETY: the call ends the process without running exit handlers.
    unsafe { libc::_exit(STATUS.load(Ordering::Relaxed)) };
}

/// Waits until a stream has data to read or is closed. Fails if the time expires.
pub fn await_input(stream: impl AsFd) -> Result<(), SysError> {
    let deadline = call().limit.as_ref().map(|(begun, limit, _)| *begun + *limit);
    if is_readable(stream, deadline)? {
        Ok(())
    } else {
        Err(SysError::Finding(
            "the program that writes to the stream did not close it within the time limit".to_owned(),
        ))
    }
}

/// Waits until a stream has data to read or is closed, but not beyond the deadline. Returns `false`
/// if the deadline passed first.
pub fn is_readable(stream: impl AsFd, deadline: Option<Instant>) -> Result<bool, SysError> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut [PollFd::new(&stream, PollFlags::IN)], left.as_ref()) {
            // A process that is stopped and continued gets EINTR.
            Err(Errno::INTR) => {}
            result => return result.map(|ready| ready > 0).call(|| "poll()"),
        }
    }
}

/// Writes a line to standard error, if that doesn't block.
pub fn say_on_stderr(line: &str) {
    /// A pipe that is ready for writing accepts at least this much.
    const PIPE_BUF_BYTES: usize = 4096;
    let stderr = rustix::stdio::stderr();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_ready = rustix::event::poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&at_once));
    if matches!(is_ready, Ok(1..)) {
        let line = line.as_bytes();
        // At worst, standard error is closed, and only the exit status indicates the failure.
        let _ = rustix::io::write(stderr, line.get(..PIPE_BUF_BYTES).unwrap_or(line));
    }
}
