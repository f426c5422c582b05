// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The system calls of a run, as recorded by strace(1), and the errors with which each can fail.

use std::fmt;
use std::path::Path;

/// One system call of a run.
#[derive(Debug, Clone)]
pub struct Call {
    pub name: String,
    /// The number of calls of this name so far, including this one.
    pub ordinal: usize,
    /// The line that strace printed for the call.
    line: String,
    /// Whether the C library or Rust makes it before `main`.
    is_early: bool,
}

/// What is done at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails with this error.
    Error(&'static str),
    /// The process is killed before it makes the call.
    Kill,
}

/// A call, and the fault that is injected there.
#[derive(Debug, Clone)]
pub struct Point {
    pub call: Call,
    pub fault: Fault,
}

/// Returns the strace command that records a run in a file.
pub fn recorder(log: &Path) -> Vec<String> {
    ["strace", "-qq", "-o", &log.to_string_lossy()].map(str::to_owned).into()
}

/// Returns the strace command that makes a system call unavailable, as on an older kernel.
pub fn without(name: &str) -> Vec<String> {
    let inject = format!("inject={name}:error=ENOSYS");
    ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", &inject].map(str::to_owned).into()
}

/// Returns a command that runs a program so that it sees only its own processes. The number of other processes
/// changes from run to run.
pub fn alone(program: &[String]) -> Vec<String> {
    if program.is_empty() {
        return Vec::new();
    }
    let own = ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child"];
    own.into_iter().map(str::to_owned).chain(program.iter().cloned()).collect()
}

/// Returns the calls of a recorded run.
pub fn read(log: &Path) -> Vec<Call> {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    let mut calls: Vec<Call> = Vec::new();
    let mut is_early = true;
    for line in text.lines().filter(|line| !line.starts_with(['+', '-'])) {
        let name = line.split('(').next().unwrap_or_default();
        // The hook's own first call waits for the state.
        is_early &= !line.starts_with("ppoll([{fd=0,");
        let ordinal = 1 + calls.iter().filter(|call| call.name == name).count();
        calls.push(Call { name: name.to_owned(), ordinal, line: line.to_owned(), is_early });
    }
    calls
}

impl Call {
    /// Whether the call allocates or frees memory. Rust's programs abort if it fails.
    pub fn is_of_memory(&self) -> bool {
        matches!(self.name.as_str(), "brk" | "mmap" | "mprotect" | "mremap" | "munmap" | "madvise")
    }

    /// Whether the call is one that strace has no name for.
    fn is_unnamed(&self) -> bool {
        self.name.starts_with("syscall_")
    }

    /// Whether the call is part of the start of any program. How the program ends if it can't start isn't determined
    /// by the hook. It may end in any way, since it has done nothing.
    pub fn is_early(&self) -> bool {
        self.is_early
    }

    /// Whether the call may change something that other processes can see.
    pub fn may_change_something(&self) -> bool {
        // A call that opens a file only counts if it creates the file.
        let creates = self.line.contains("O_CREAT");
        match self.name.as_str() {
            "open" | "openat" => creates,
            name => !HARMLESS.contains(&name),
        }
    }

    /// Returns errors that the man page of the call lists, each of a different kind: a limit of the process, a limit
    /// of the machine, a broken disk, a signal, a missing privilege. Returns no errors if the call can't fail.
    fn errors(&self) -> Result<&'static [&'static str], String> {
        Ok(match self.name.as_str() {
            "open" | "openat" if self.line.contains("O_CREAT") => &["ENOSPC", "EMFILE", "EROFS"],
            // EACCES is left out: for a hidden process (hidepid, see proc(5)) nothing is known, which is
            // reported in other words.
            "open" | "openat"
                if self.line.contains("\"/proc/")
                    && (self.line.contains("/status\"") || self.line.contains("/cgroup\"")) =>
            {
                &["EIO", "EMFILE", "EINTR"]
            }
            "open" | "openat" => &["EIO", "EMFILE", "EACCES", "EINTR"],
            // EPERM and ENOSYS are the errors of a seccomp filter that doesn't know the call.
            "openat2" => &["EIO", "EMFILE", "EAGAIN", "EPERM"],
            "read" | "pread64" => &["EIO", "EINTR"],
            "write" | "pwrite64" | "copy_file_range" | "sendfile" | "splice" => &["ENOSPC", "EIO", "EINTR"],
            // rustix probes whether the kernel has this call.
            "statx" if self.line.contains("NULL, AT_STATX_SYNC_AS_STAT, 0, NULL") => &[],
            "fstat" | "newfstatat" | "statx" | "statfs" | "fstatfs" | "lseek" | "getdents64" | "ftruncate"
            | "utimensat" | "flistxattr" | "fgetxattr" | "readlink" | "readlinkat" => &["EIO", "ENOMEM"],
            "fchmod" | "fchmodat" | "fchmodat2" | "unlink" | "unlinkat" | "rmdir" => &["EIO", "EACCES"],
            // In a user namespace EPERM and EINVAL mean that an owner has no mapping, and are ignored.
            "fchown" | "fchownat" => &["EIO", "EROFS"],
            "fsetxattr" | "mkdir" | "mkdirat" | "mknodat" | "symlinkat" | "linkat" => &["ENOSPC", "EROFS"],
            "fsopen" | "fsmount" | "open_tree" => &["EPERM", "EMFILE", "ENOMEM"],
            "fsconfig" | "mount_setattr" | "move_mount" | "mount" => &["EPERM", "EINVAL", "ENOMEM"],
            "umount2" => &["EPERM", "EBUSY"],
            "setns" | "unshare" | "clone3" | "clone" => &["EPERM", "ENOMEM"],
            "renameat" | "renameat2" => &["EINVAL", "EROFS"],
            "flock" => &["EINTR", "ENOLCK"],
            "capget" => &["EPERM"],
            "ioctl" => &["ENOTTY", "EMFILE"],
            "faccessat2" | "access" => &["EACCES"],
            "socket" => &["EMFILE", "EAFNOSUPPORT"],
            "setsockopt" => &["ENOPROTOOPT"],
            "connect" => &["ECONNREFUSED", "EINTR"],
            "sendto" => &["ENOBUFS", "EINTR"],
            "ppoll" => &["EINTR", "ENOMEM"],
            "poll" | "clock_nanosleep" | "futex" => &["EINTR"],
            "brk" | "mmap" | "mprotect" | "mremap" | "munmap" | "madvise" => &["ENOMEM"],
            "getrandom" => &["ENOSYS", "EINTR"],
            "listmount" => &["ENOSYS", "EPERM", "ENOMEM"],
            // strace can't inject an error into a call that it has no name for.
            name if UNNAMED.contains(&name) => &[],
            // close(2) closes the descriptor whatever it returns, but not if strace injects an error. Rust's library,
            // if built with assertions, calls fcntl(2) to check that a descriptor is open before it closes it.
            "close" | "fcntl" | "prlimit64" | "sysinfo" | "sched_getaffinity" | "sched_yield" | "rt_sigaction"
            | "rt_sigprocmask" | "setitimer" | "sigaltstack" | "set_tid_address" | "set_robust_list" | "rseq"
            | "arch_prctl" | "execve" | "umask" | "getpid" | "getppid" | "gettid" | "geteuid" | "getuid"
            | "setfsuid" | "setfsgid" | "exit_group" => &[],
            other => return Err(format!("no errors are listed for {other}, which was called as: {}", self.line)),
        })
    }
}

/// The name of listmount(2) in strace versions that are older than this call of Linux 6.8.
const UNNAMED: [&str; 1] = ["syscall_0x1ca"];

/// Calls that change nothing outside the process.
const HARMLESS: [&str; 47] = [
    "access",
    "arch_prctl",
    "brk",
    "capget",
    "close",
    "execve",
    "exit_group",
    "fcntl",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fstat",
    "fstatfs",
    "getdents64",
    "geteuid",
    "getpid",
    "getppid",
    "getrandom",
    "ioctl",
    "listmount",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "openat2",
    "poll",
    "ppoll",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "readlinkat",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "set_robust_list",
    "set_tid_address",
    "setitimer",
    "setsockopt",
    "sigaltstack",
    "statfs",
    "statx",
    "syscall_0x1ca",
    "sysinfo",
];

/// Returns each of the calls with each of its errors.
pub fn failing(calls: &[Call]) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    for call in calls {
        let errors = call.errors()?.iter();
        points.extend(errors.map(|error| Point { call: call.clone(), fault: Fault::Error(error) }));
    }
    Ok(points)
}

/// Returns the moments at which a kill finds a different state than at the previous one: before the first call, and
/// before each call whose predecessor may have changed something.
pub fn kills(calls: &[Call]) -> Vec<Point> {
    // The number of calls that allocate memory differs from run to run, since hash tables are seeded at random.
    let calls: Vec<&Call> = calls.iter().filter(|call| !call.is_of_memory() && !call.is_unnamed()).collect();
    let after_changes = calls.windows(2).filter(|pair| pair[0].may_change_something()).map(|pair| pair[1]);
    let first = calls.iter().copied().find(|call| !call.is_early);
    first.into_iter().chain(after_changes).map(|call| Point { call: call.clone(), fault: Fault::Kill }).collect()
}

impl Point {
    /// Returns the strace command that injects the fault and records it. A seccomp filter keeps strace from stopping
    /// at other calls, which requires `-f`. At the stops of the filter no signal can be injected, see ptrace(2).
    pub fn injector(&self, log: &Path) -> Vec<String> {
        let Call { name, ordinal, .. } = &self.call;
        let what = match self.fault {
            // The brk(2) system call doesn't return errors: it returns the end of the memory.
            Fault::Error(_) if name == "brk" => "retval=0".to_owned(),
            Fault::Error(error) => format!("error={error}"),
            Fault::Kill => "signal=KILL".to_owned(),
        };
        let filter: &[&str] = if self.fault == Fault::Kill { &[] } else { &["-f", "--seccomp-bpf"] };
        let (trace, inject) = (format!("trace={name}"), format!("inject={name}:{what}:when={ordinal}"));
        let log = log.to_string_lossy();
        let rest = ["-qq", "-o", &log, "-e", &trace, "-e", &inject];
        ["strace"].iter().chain(filter).chain(&rest).map(|word| (*word).to_owned()).collect()
    }

    /// Whether the fault occurred in the recorded run.
    pub fn happened(&self, log: &Path) -> bool {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        match self.fault {
            Fault::Error(_) => text.contains("(INJECTED)"),
            Fault::Kill => text.contains("+++ killed by SIGKILL"),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault {
            Fault::Error(error) => error,
            Fault::Kill => "killed",
        };
        let command = self.injector(Path::new("/dev/null")).join(" ");
        write!(f, "{} #{} {what} ({}; {command} HOOK)", self.call.name, self.call.ordinal, self.call.line)
    }
}
