// SPDX-License-Identifier: Apache-2.0 OR MIT
//! This process, and the namespaces of other processes.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, makedev};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, UnshareFlags};

use super::{Context, SysError, fs, mount, time_limit};
use crate::kernel::id_map;

/// Returns the PID of this process's parent in this process's PID namespace.
#[must_use]
pub fn parent() -> Option<u32> {
    rustix::process::getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok())
}

/// Whether a process is in the mount namespace of this one. A process that has ended is in none.
pub fn shares_mount_namespace(pid: u32) -> Result<bool, SysError> {
    let own = namespace("self", "mnt")?;
    Ok(own.is_some() && own == namespace(&pid.to_string(), "mnt")?)
}

/// Returns the namespace of a process, as the target of its link in /proc, which is unique. `of` is a PID or `self`.
/// Returns `None` if the process has ended, or if the kernel has no namespaces of this kind.
pub fn namespace(of: &str, kind: &str) -> Result<Option<PathBuf>, SysError> {
    let link = format!("/proc/{of}/ns/{kind}");
    match std::fs::read_link(&link) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some).call(|| format!("readlink({link:?})")),
    }
}

#[allow(unsafe_code)]
#[must_use]
pub fn page_bytes() -> u64 {
    // SAFETY: the call takes a number, and the C library knows the answer from the start.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Enters the mount namespace of another process, and none of its other namespaces. This process's root is then the
/// root of that namespace.
pub fn enter_mount_namespace(pid: u32) -> Result<(), SysError> {
    enter_mount_namespace_of(&pid.to_string())
}

#[allow(unsafe_code)]
fn enter_mount_namespace_of(task: &str) -> Result<(), SysError> {
    let path = PathBuf::from(format!("/proc/{task}/ns/mnt"));
    let namespace = fs::open_host(&path)?;
    // A thread that shares its working directory with another one can't enter a mount namespace, setns(2). SAFETY: no
    // code relies on the threads sharing their working directory.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.call(|| "unshare(CLONE_FS)")?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .call(|| format!("setns({path:?}, CLONE_NEWNS)"))
}

/// Enters the mount namespace of another process, given by its name in /proc, and calls `act` with the path of this
/// process's mount table there.
pub fn with_mount_table_of<T>(task: &str, act: impl FnOnce(&str) -> Result<T, SysError>) -> Result<T, SysError> {
    // In that namespace, /proc may not be mounted, or be another one.
    let own = fs::open_host_directory(Path::new("/proc/self"))?;
    enter_mount_namespace_of(task)?;
    rustix::process::fchdir(own).call(|| "fchdir(\"/proc/self\")")?;
    act("mountinfo")
}

/// Returns the effective capabilities of this process, capabilities(7).
pub fn effective_capabilities() -> Result<CapabilitySet, SysError> {
    rustix::thread::capabilities(None).map(|sets| sets.effective).call(|| "capget()")
}

/// Whether the user namespace that owns this process's mount namespace is the process's own or a descendant of that,
/// where its capabilities apply; ioctl_ns(2).
#[must_use]
pub fn has_capabilities_over_mounts() -> bool {
    // Other errors are left to the call that needs the namespace to report.
    !matches!(mount_namespace_owner(), Ok(None))
}

/// Whether this process may inspect all processes of its user namespace, as with CAP_SYS_PTRACE.
#[must_use]
pub fn may_trace() -> bool {
    caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_PTRACE).unwrap_or(false)
}

/// Whether this process's mount namespace is owned by its own user namespace.
#[must_use]
pub fn owns_mount_namespace() -> bool {
    let own = fs::open_host(Path::new("/proc/self/ns/user")).and_then(fs::stat);
    let owner = mount_namespace_owner().and_then(|owner| owner.map(fs::stat).transpose());
    matches!((own, owner), (Ok(own), Ok(Some(owner))) if (own.st_dev, own.st_ino) == (owner.st_dev, owner.st_ino))
}

/// Returns the user namespace that owns this process's mount namespace, or `None` if it is neither this process's
/// user namespace nor a descendant of it.
#[allow(unsafe_code)]
fn mount_namespace_owner() -> Result<Option<OwnedFd>, SysError> {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    let namespace = fs::open_host(Path::new("/proc/self/ns/mnt"))?;
    // SAFETY: the call takes no argument.
    let owner = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if owner < 0 {
        return match std::io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EPERM) => Ok(None),
            error => Err(error).call(|| "ioctl(NS_GET_USERNS)"),
        };
    }
    // SAFETY: the call returned a new descriptor, which nothing else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(owner) }))
}

/// Whether a process is in the cgroup namespace of this one.
pub fn shares_cgroup_namespace(pid: u32) -> Result<bool, SysError> {
    Ok(namespace(&pid.to_string(), "cgroup")? == namespace("self", "cgroup")?)
}

/// Calls `act` in the cgroup namespace of another process, where the paths of cgroups are those that it sees. This
/// must not be the namespace that this process is in: even entering that requires privileges in it.
#[allow(unsafe_code)]
pub fn in_cgroup_namespace<T: Send>(of: u32, act: impl FnOnce() -> Result<T, SysError> + Send) -> Result<T, SysError> {
    let path = PathBuf::from(format!("/proc/{of}/ns/cgroup"));
    let its = fs::open_host(&path)?;
    let enter_and_act = || {
        // SAFETY: no code relies on the threads sharing their working directory. Without this call, the new
        // thread would still share it for a moment after it was joined, and a process whose threads share it
        // can't enter a mount namespace, setns(2).
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.call(|| "unshare(CLONE_FS)")?;
        rustix::thread::move_into_link_name_space(its.as_fd(), Some(LinkNameSpaceType::ControlGroup))
            .call(|| format!("setns({path:?}, CLONE_NEWCGROUP)"))?;
        act()
    };
    // This needs a thread, which ends in that namespace: a rootless engine's hook may enter the container's
    // namespace, but not return to the host's.
    std::thread::scope(|scope| scope.spawn(enter_and_act).join())
        .unwrap_or_else(|_| Err(SysError::Finding(format!("the thread that entered {path:?} panicked"))))
}

/// Runs `act` in a child process and returns its result. Returns `None` if the child was killed before. If it doesn't
/// end within `limit`, it and the processes that it started are killed, and the call fails. A process that waits for
/// a file server only ends once the server answers.
///
/// The child is killed when this process ends, and is the first one that the kernel kills if memory runs out.
#[allow(unsafe_code)]
pub fn in_child(limit: Option<Duration>, act: impl FnOnce() -> Vec<u8>) -> Result<Option<Vec<u8>>, SysError> {
    /// Larger than the longest path as a JSON array of bytes.
    const LIMIT_BYTES: u64 = 1024 * 1024;
    let own = rustix::process::getpid();
    let (from, to) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).call(|| "pipe2()")?;
    // SAFETY: the only other thread is that of `time_limit`, which holds no lock until it ends the process. The C
    // library keeps its own locks usable in the child, and the child exits below without returning.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(std::io::Error::last_os_error()).call(|| "fork()");
    }
    match Pid::from_raw(child) {
        None => {
            drop(from);
            let said = catch_unwind(AssertUnwindSafe(|| {
                // At worst, the child isn't killed with its parent and runs to its end.
                let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
                if limit.is_some() {
                    // At worst, the processes that the child started go on when it is killed.
                    let _ = rustix::process::setpgid(None, None);
                }
                // At worst, the kernel kills another process first.
                let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
                if rustix::process::getppid() == Some(own) { act() } else { Vec::new() }
            }));
            // At worst, the parent believes that this process was killed.
            let _ = std::io::Write::write_all(&mut std::fs::File::from(to), &said.unwrap_or_default());
            // SAFETY: the call doesn't return, and doesn't run exit handlers, which belong to the parent.
            unsafe { libc::_exit(0) }
        }
        Some(child) => {
            drop(to);
            // If the wait fails, so does the read below.
            let is_late =
                |limit: &Duration| matches!(time_limit::is_readable(&from, Some(Instant::now() + *limit)), Ok(false));
            if let Some(limit) = limit.filter(is_late) {
                // At worst, the child has just ended.
                let _ = rustix::process::kill_process_group(child, Signal::KILL);
                return Err(SysError::Finding(format!("a child process did not finish within {} s", limit.as_secs())));
            }
            let said = fs::read_up_to(from, LIMIT_BYTES);
            // At worst, this process ignores SIGCHLD, and there is no child to wait for.
            while matches!(rustix::process::waitpid(Some(child), WaitOptions::empty()), Err(Errno::INTR)) {}
            Ok(said?.filter(|said| !said.is_empty()))
        }
    }
}

/// Whether this process is in a user namespace other than the host's, where it can create neither
/// device nodes nor v1 hierarchies.
///
/// The initial user namespace is recognized by its inode number. Containers of OpenVZ's kernels have another number
/// but are equivalent to hosts, since their root may create devices. Their ID map is the identity, but so is any map
/// that is written that way, as by systemd's `PrivateUsers=full`. So if everything else looks like a host, this
/// process tries to create a device node.
#[must_use]
pub fn is_in_user_namespace() -> bool {
    // This program enters no other user namespace.
    static IS_IN_ONE: OnceLock<bool> = OnceLock::new();
    *IS_IN_ONE.get_or_init(find_user_namespace)
}

/// Whether /proc shows this process all processes of the host: CAP_SYS_PTRACE in the host's user namespace overrides
/// the mount option `hidepid`, proc(5).
#[must_use]
pub fn sees_all() -> bool {
    may_trace() && !is_in_user_namespace()
}

fn find_user_namespace() -> bool {
    /// `PROC_USER_INIT_INO` in linux/proc_ns.h, since Linux 3.8.
    const INITIAL: u64 = 0xefff_fffd;
    let id_map = || fs::read_host_text("/proc/self/uid_map");
    let number = |of: &str| std::fs::metadata(format!("/proc/{of}/ns/user")).map(|namespace| namespace.ino());
    match number("self") {
        Ok(INITIAL) => false,
        Ok(own) => {
            // The namespace of process 1 isn't visible from a descendant of it.
            let is_with_init = || number("1").is_ok_and(|its| its == own);
            !(id_map().is_ok_and(|map| id_map::is_identity(&map)) && is_with_init() && may_make_devices())
        }
        // A kernel without user namespaces has no ID map either.
        Err(_) => id_map().is_ok_and(|map| !id_map::is_identity(&map)),
    }
}

/// Tries to create a device node in a detached file system. That requires CAP_MKNOD in the initial user namespace;
/// capabilities in other user namespaces don't count.
fn may_make_devices() -> bool {
    match mount::new_tmpfs(&[]) {
        // 1, 3 is /dev/null. 0, 0 would be a whiteout of overlayfs, which any process may create.
        Ok(place) => {
            fs::mknod_at(place.as_fd(), OsStr::new("null"), FileType::CharacterDevice, 0, makedev(1, 3)).is_ok()
        }
        // Kernels before Linux 5.2 are older than the systemd that writes such a map.
        Err(error) => error.errno() == Some(Errno::NOSYS),
    }
}

/// Returns the size of the machine's memory, as reported by sysinfo(2). /proc/meminfo calls it `MemTotal`.
#[must_use]
// The field is 32 bits wide on 32-bit machines.
#[allow(clippy::useless_conversion)]
pub fn host_memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit))
}

/// Returns the name of an environment variable that the dynamic loader acts on, or `None` if there is none, or if
/// this program has no dynamic loader (`AT_BASE` in getauxval(3) is 0).
#[must_use]
#[allow(unsafe_code)]
pub fn loader_variable() -> Option<String> {
    // SAFETY: the call takes a number, and reads what the kernel passed at the start of the program.
    if unsafe { libc::getauxval(libc::AT_BASE) } == 0 {
        return None;
    }
    let is_for_it = |name: &String| name.starts_with("LD_") || name == "GLIBC_TUNABLES";
    std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).find(is_for_it)
}

/// Clears the environment. runc 1.1 passes the container's environment to hooks, which the container's author
/// controls, and libc reacts to more variables than one would expect: `TZ` makes syslog(3) open a file.
#[allow(unsafe_code)]
pub fn clear_environment() {
    // SAFETY: no other thread exists that could read the environment meanwhile.
    unsafe { libc::clearenv() };
}

/// Calls `act` with another owner for new files, setfsuid(2), and without the capabilities that apply to files,
/// capabilities(7). Both are restored afterwards.
// The calls take unsigned IDs and return signed ones.
#[allow(unsafe_code, clippy::cast_sign_loss)]
pub fn as_file_owner<T>(uid: u32, gid: u32, act: impl FnOnce() -> T) -> T {
    // SAFETY: both calls only change the IDs of this thread, and return the previous ones.
    let (before_gid, before_uid) = unsafe { (libc::setfsgid(gid), libc::setfsuid(uid)) };
    let done = act();
    // SAFETY: as above. The thread may always return to the IDs that it had.
    unsafe {
        libc::setfsuid(before_uid as libc::uid_t);
        libc::setfsgid(before_gid as libc::gid_t);
    }
    done
}

/// The arguments of `main`, as the kernel gave them, with the program's name first.
///
/// # Safety
///
/// They must be those that `main` was called with.
#[must_use]
#[allow(unsafe_code)]
pub unsafe fn arguments(count: libc::c_int, values: *const *const libc::c_char) -> Vec<OsString> {
    let count = usize::try_from(count).unwrap_or_default();
    // SAFETY: the C library has passed the caller as many strings, each of which ends in a NUL.
    let texts = (0..count).map(|number| unsafe { CStr::from_ptr(*values.add(number)) });
    texts.map(|text| OsStr::from_bytes(text.to_bytes()).to_owned()).collect()
}

/// Executes another program in this process. Its PID, open files, environment and signal settings are
/// kept. Returns only on failure.
#[must_use]
#[allow(unsafe_code)]
pub fn become_program(path: &Path, arguments: &[OsString]) -> SysError {
    let string = |text: &OsStr| CString::new(text.as_bytes());
    let texts: Result<Vec<_>, _> = arguments.iter().map(|argument| string(argument)).collect();
    let (Ok(program), Ok(texts)) = (string(path.as_os_str()), texts) else {
        return SysError::Finding(format!("the path {path:?} or an argument contains a NUL byte"));
    };
    // A timer outlives execve(2).
    time_limit::stop_timer();
    let pointers: Vec<_> = texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: the strings and the list of pointers to them, which ends in a null pointer, outlive the call.
    unsafe { libc::execv(program.as_ptr(), pointers.as_ptr()) };
    SysError::of_std(format!("execv({path:?})"), &std::io::Error::last_os_error())
}

/// Clears the umask, so that files get exactly the permissions that they are created with.
pub fn clear_umask() {
    rustix::process::umask(rustix::fs::Mode::empty());
}
