// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes bundles like those of Docker, with a root that has just enough of systemd.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The ID of all containers in the benchmark.
pub const ID: &str = "6f0c1d0a3f6f4f0c8d2c8c1b7f7e5d3a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e";

const CAPABILITIES: &str = r#"["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FSETID","CAP_FOWNER","CAP_MKNOD","CAP_NET_RAW","CAP_SETGID","CAP_SETUID","CAP_SETFCAP","CAP_SETPCAP","CAP_NET_BIND_SERVICE","CAP_SYS_CHROOT","CAP_KILL","CAP_AUDIT_WRITE"]"#;

const ENV: &str = r#"["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","HOSTNAME=6f0c1d0a3f6f","container=oci","LANG=C.UTF-8"]"#;

/// The kernel's file systems, as Docker lists them in the `mounts` of every container.
const MOUNTS: &str = r#"{"destination":"/proc","type":"proc","source":"proc","options":["nosuid","noexec","nodev"]},{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","strictatime","mode=755","size=65536k"]},{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620","gid=5"]},{"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","noexec","nodev","ro"]},{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["ro","nosuid","noexec","nodev"]},{"destination":"/dev/mqueue","type":"mqueue","source":"mqueue","options":["nosuid","noexec","nodev"]},{"destination":"/dev/shm","type":"tmpfs","source":"shm","options":["nosuid","noexec","nodev","mode=1777","size=67108864"]}"#;

const MASKED: &str = r#""maskedPaths":["/proc/asound","/proc/acpi","/proc/interrupts","/proc/kcore","/proc/keys","/proc/latency_stats","/proc/timer_list","/proc/timer_stats","/proc/sched_debug","/proc/scsi","/sys/firmware","/sys/devices/virtual/powercap"],"readonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]"#;

const DEVICES: &str = r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":5,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":9,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":8,"access":"rwm"},{"allow":true,"type":"c","major":5,"minor":0,"access":"rwm"},{"allow":true,"type":"c","major":5,"minor":1,"access":"rwm"},{"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"}]"#;

/// The system calls that Docker's seccomp profile allows unconditionally.
const SYSTEM_CALLS: &str = "accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/// A directory with config.json, and the root below it.
#[derive(Debug)]
pub struct Bundle {
    directory: PathBuf,
}

impl Bundle {
    /// Writes a bundle for a command. Its root is empty until [`Self::fill_root`] is called.
    pub fn write(directory: PathBuf, command: &str, extra_mounts: usize, has_cgroup_namespace: bool) -> Self {
        let bundle = Self { directory };
        fs::create_dir_all(bundle.root()).unwrap();
        fs::write(bundle.config(), config(&bundle, command, extra_mounts, has_cgroup_namespace)).unwrap();
        bundle
    }

    /// Writes a bundle that runc can boot. Its root is whatever is mounted there.
    pub fn write_bootable(directory: PathBuf, hook: &[&str], cgroup: &str, layout: Option<&str>) -> Self {
        let bundle = Self { directory };
        fs::create_dir_all(bundle.root()).unwrap();
        fs::write(bundle.config(), bootable_config(hook, cgroup, layout)).unwrap();
        bundle
    }

    /// Returns a bundle that has already been written.
    pub fn open(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the path of config.json.
    pub fn config(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    /// Returns the path of the container's root.
    pub fn root(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// Writes the state that a hook receives. Without a PID, this is the state at createContainer.
    pub fn write_state(&self, pid: Option<u32>) -> PathBuf {
        let path = self.directory.join("state.json");
        let (status, pid) = pid.map_or(("creating", 0), |pid| ("created", pid));
        let directory = self.directory.display();
        let state =
            format!(r#"{{"ociVersion":"1.0.2","id":"{ID}","status":"{status}","pid":{pid},"bundle":"{directory}"}}"#);
        fs::write(&path, state).unwrap();
        path
    }

    /// Creates the files of the root: those of a merged /usr, and another program in place of systemd.
    pub fn fill_root(&self, any_elf: &Path, extra_mounts: usize) {
        let root = self.root();
        for directory in [
            "dev",
            "etc",
            "proc",
            "root",
            "run",
            "sys",
            "usr/bin",
            "usr/lib/systemd/system",
            "usr/sbin",
            "var/log",
            "var/tmp",
        ] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::create_dir(root.join("tmp")).unwrap();
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        for name in ["bin", "lib", "sbin"] {
            symlink(format!("usr/{name}"), root.join(name)).unwrap();
        }
        fs::copy(any_elf, root.join("usr/lib/systemd/systemd")).unwrap();
        symlink("../lib/systemd/systemd", root.join("usr/sbin/init")).unwrap();
        for name in [
            "etc/hostname",
            "etc/hosts",
            "etc/machine-id",
            "etc/resolv.conf",
            "usr/lib/systemd/libsystemd-shared-257.so",
        ] {
            fs::write(root.join(name), "").unwrap();
        }
        fs::write(root.join("usr/lib/os-release"), "ID=debian\n").unwrap();
        symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
        for index in 0..extra_mounts {
            fs::create_dir_all(root.join(extra_mount(index))).unwrap();
        }
    }
}

/// Returns the mount point of the n-th additional mount of config.json, relative to the root.
pub fn extra_mount(index: usize) -> String {
    format!("srv/volumes/volume-{index:05}")
}

/// Returns the content of config.json, with its keys in the order in which engines write them.
fn config(bundle: &Bundle, command: &str, extra_mounts: usize, has_cgroup_namespace: bool) -> String {
    let cgroup_namespace = if has_cgroup_namespace { r#",{"type":"cgroup"}"# } else { "" };
    let mut text = format!(
        r#"{{"ociVersion":"1.2.0","process":{{"user":{{"uid":0,"gid":0,"additionalGids":[0,1,2,3,4,6,10,11,20,26,27]}},"args":["{command}"],"env":{ENV},"cwd":"/","capabilities":{{"bounding":{CAPABILITIES},"effective":{CAPABILITIES},"permitted":{CAPABILITIES}}},"apparmorProfile":"docker-default","oomScoreAdj":0}},"root":{{"path":"rootfs"}},"hostname":"6f0c1d0a3f6f","mounts":[{MOUNTS}"#
    );
    let source = bundle.directory().display();
    let mut bind = |source: &str, destination: &str| {
        write!(
            text,
            r#",{{"destination":"{destination}","type":"bind","source":"{source}","options":["rbind","rprivate"]}}"#
        )
        .unwrap();
    };
    for name in ["resolv.conf", "hostname", "hosts"] {
        bind(&format!("{source}/{name}"), &format!("/etc/{name}"));
    }
    for index in 0..extra_mounts {
        bind("/srv/volume", &format!("/{}", extra_mount(index)));
    }
    let system_calls = SYSTEM_CALLS.split(' ').collect::<Vec<_>>().join(r#"",""#);
    write!(
        text,
        r#"],"hooks":{{"prestart":[{{"path":"/proc/1046/exe","args":["libnetwork-setkey","-exec-root=/var/run/docker","{ID}","2c7c29c4d8bd"]}}]}},"annotations":{{"org.opencontainers.image.os":"linux"}},"linux":{{"sysctl":{{"net.ipv4.ip_unprivileged_port_start":"0","net.ipv4.ping_group_range":"0 2147483647"}},"resources":{{"devices":{DEVICES},"memory":{{}},"cpu":{{"shares":0}},"pids":{{"limit":0}},"blockIO":{{"weight":0}}}},"cgroupsPath":"/docker/{ID}","namespaces":[{{"type":"mount"}},{{"type":"network"}},{{"type":"uts"}},{{"type":"pid"}},{{"type":"ipc"}}{cgroup_namespace}],"seccomp":{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],"syscalls":[{{"names":["{system_calls}"],"action":"SCMP_ACT_ALLOW"}},{{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":40,"op":"SCMP_CMP_NE"}}]}},{{"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":0,"op":"SCMP_CMP_EQ"}}]}}]}},{MASKED}}}}}"#
    )
    .unwrap();
    text
}

/// Returns the content of a config.json that requires nothing that the machine may lack, such as `AppArmor`.
fn bootable_config(hook: &[&str], cgroup: &str, layout: Option<&str>) -> String {
    let hook = serde_json::json!([{"path": hook[0], "args": hook}]);
    let annotations = layout.map_or_else(String::new, |layout| format!(r#""oci-systemd-hook.cgroup":"{layout}""#));
    format!(
        r#"{{"ociVersion":"1.0.2","process":{{"user":{{"uid":0,"gid":0}},"args":["/sbin/init"],"env":{ENV},"cwd":"/","capabilities":{{"bounding":{CAPABILITIES},"effective":{CAPABILITIES},"permitted":{CAPABILITIES}}}}},"root":{{"path":"rootfs"}},"hostname":"6f0c1d0a3f6f","mounts":[{MOUNTS}],"hooks":{{"createRuntime":{hook},"createContainer":{hook},"poststop":{hook}}},"annotations":{{{annotations}}},"linux":{{"resources":{{"devices":{DEVICES}}},"cgroupsPath":"{cgroup}","namespaces":[{{"type":"mount"}},{{"type":"network"}},{{"type":"uts"}},{{"type":"pid"}},{{"type":"ipc"}},{{"type":"cgroup"}}],{MASKED}}}}}"#
    )
}
