// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows the system calls of a run, as strace(1) writes them down, and with which errors each can fail.

use std::fmt;
use std::path::Path;

/// One system call of a run.
#[derive(Debug, Clone)]
pub struct Call {
    pub name: String,
    /// How many of this name there were, this one included.
    pub ordinal: usize,
    /// As strace prints it.
    line: String,
    /// Whether it is the C library's or Rust's, before `main`.
    is_early: bool,
}

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error.
    Error(&'static str),
    /// The process is killed when it is about to make it.
    Kill,
}

/// A call, and what happens there.
#[derive(Debug, Clone)]
pub struct Point {
    pub call: Call,
    pub fault: Fault,
}

/// How strace is called to write down a run in a file.
pub fn recorder(log: &Path) -> Vec<String> {
    ["strace", "-qq", "-o", &log.to_string_lossy()].map(str::to_owned).into()
}

/// How strace is called so that there is no such system call, as on an older kernel.
pub fn without(name: &str) -> Vec<String> {
    let inject = format!("inject={name}:error=ENOSYS");
    ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", &inject].map(str::to_owned).into()
}

/// Runs a program so that it sees only its own processes. The number of other processes changes from run to run.
pub fn alone(program: &[String]) -> Vec<String> {
    if program.is_empty() {
        return Vec::new();
    }
    let own = ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child"];
    own.into_iter().map(str::to_owned).chain(program.iter().cloned()).collect()
}

/// The calls of the run that is written down there.
pub fn read(log: &Path) -> Vec<Call> {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    let mut calls: Vec<Call> = Vec::new();
    let mut is_early = true;
    for line in text.lines().filter(|line| !line.starts_with(['+', '-'])) {
        let name = line.split('(').next().unwrap_or_default();
        // The hook's first call waits for the state.
        is_early &= !line.starts_with("ppoll([{fd=0,");
        let ordinal = 1 + calls.iter().filter(|call| call.name == name).count();
        calls.push(Call { name: name.to_owned(), ordinal, line: line.to_owned(), is_early });
    }
    calls
}

impl Call {
    /// Whether memory is asked for or given back: without it Rust's programs abort.
    pub fn is_of_memory(&self) -> bool {
        matches!(self.name.as_str(), "brk" | "mmap" | "mprotect" | "mremap" | "munmap" | "madvise")
    }

    /// Whether strace has no name for it.
    fn is_unnamed(&self) -> bool {
        self.name.starts_with("syscall_")
    }

    /// Whether it belongs to the start of any program. What that does when it can't start is not the hook's: it may
    /// end in any way, having done nothing.
    pub fn is_early(&self) -> bool {
        self.is_early
    }

    /// Whether what was before it differs from what is after it for anybody but the process itself.
    pub fn may_change_something(&self) -> bool {
        // Of open files only what is created.
        let creates = self.line.contains("O_CREAT");
        match self.name.as_str() {
            "open" | "openat" => creates,
            name => !HARMLESS.contains(&name),
        }
    }

    /// The errors that it can give, as its man page has them, each of another sort: a limit of the process's, a limit
    /// of the machine's, a broken disk, a signal, a right that lacks. No error where it can't fail.
    fn errors(&self) -> Result<&'static [&'static str], String> {
        Ok(match self.name.as_str() {
            "open" | "openat" if self.line.contains("O_CREAT") => &["ENOSPC", "EMFILE", "EROFS"],
            // Of a process that is hidden (hidepid, proc(5)) nothing is known, which is told in other words.
            "open" | "openat"
                if self.line.contains("\"/proc/")
                    && (self.line.contains("/status\"") || self.line.contains("/cgroup\"")) =>
            {
                &["EIO", "EMFILE", "EINTR"]
            }
            "open" | "openat" => &["EIO", "EMFILE", "EACCES", "EINTR"],
            // EPERM and ENOSYS are what a seccomp filter says that doesn't know it.
            "openat2" => &["EIO", "EMFILE", "EAGAIN", "EPERM"],
            "read" | "pread64" => &["EIO", "EINTR"],
            "write" | "pwrite64" | "copy_file_range" | "sendfile" | "splice" => &["ENOSPC", "EIO", "EINTR"],
            // rustix probes whether the kernel has this call.
            "statx" if self.line.contains("NULL, AT_STATX_SYNC_AS_STAT, 0, NULL") => &[],
            "fstat" | "newfstatat" | "statx" | "statfs" | "fstatfs" | "lseek" | "getdents64" | "ftruncate"
            | "utimensat" | "flistxattr" | "fgetxattr" | "readlink" | "readlinkat" => &["EIO", "ENOMEM"],
            "fchmod" | "fchmodat" | "fchmodat2" | "unlink" | "unlinkat" | "rmdir" => &["EIO", "EACCES"],
            // In a user namespace EPERM and EINVAL are of an owner without a mapping, and passed over.
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
            // strace can't make a call fail that it has no name for.
            name if UNNAMED.contains(&name) => &[],
            // close(2) closes, whatever it returns, and strace would keep it from that.
            // With assertions, Rust's library checks by fcntl(2) that a descriptor is open before it closes it.
            "close" | "fcntl" | "prlimit64" | "sysinfo" | "sched_getaffinity" | "sched_yield" | "rt_sigaction"
            | "rt_sigprocmask" | "setitimer" | "sigaltstack" | "set_tid_address" | "set_robust_list" | "rseq"
            | "arch_prctl" | "execve" | "umask" | "getpid" | "getppid" | "gettid" | "geteuid" | "getuid"
            | "setfsuid" | "setfsgid" | "exit_group" => &[],
            other => return Err(format!("which errors has {other}? It was called as: {}", self.line)),
        })
    }
}

/// What a strace calls listmount(2) that is older than this call of Linux 6.8.
const UNNAMED: [&str; 1] = ["syscall_0x1ca"];

/// Calls that change nothing outside of the process.
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

/// Each of the calls, failing in each way.
pub fn failing(calls: &[Call]) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    for call in calls {
        let errors = call.errors()?.iter();
        points.extend(errors.map(|error| Point { call: call.clone(), fault: Fault::Error(error) }));
    }
    Ok(points)
}

/// Each moment at which something else is there than at the one before it: the calls before which the one that was made
/// last changed something, and the first.
pub fn kills(calls: &[Call]) -> Vec<Point> {
    // How often memory is asked for differs from run to run, since hash tables are seeded at random.
    let calls: Vec<&Call> = calls.iter().filter(|call| !call.is_of_memory() && !call.is_unnamed()).collect();
    let after_changes = calls.windows(2).filter(|pair| pair[0].may_change_something()).map(|pair| pair[1]);
    let first = calls.iter().copied().find(|call| !call.is_early);
    first.into_iter().chain(after_changes).map(|call| Point { call: call.clone(), fault: Fault::Kill }).collect()
}

impl Point {
    /// How strace is called to bring it about and to write it down. A filter keeps the other calls from being stopped at,
    /// which needs `-f`; at its stops no signal can be given, ptrace(2).
    pub fn injector(&self, log: &Path) -> Vec<String> {
        let Call { name, ordinal, .. } = &self.call;
        let what = match self.fault {
            // The call itself says nothing of errors: it returns the end of the memory, brk(2).
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

    /// Whether it came about in the run that is written down there.
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
