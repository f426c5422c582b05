// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What systemd asks of a container manager, as names and numbers with their source.
//!
//! The source is <https://systemd.io/CONTAINER_INTERFACE/> where nothing else is said.

use crate::systemd::Version;

pub mod capabilities;

/// Must be a mount before PID 1 starts, or PID 1 mounts it and dies where it may not
/// (`mount_table` in systemd's src/shared/mount-setup.c).
pub const RUN: &str = "/run";
/// A mount of its own on Debian and its kin (run-lock.mount), which fails where systemd may not mount.
pub const RUN_LOCK: &str = "/run/lock";
/// Otherwise tmp.mount tries, and fails where systemd may not mount.
pub const TMP: &str = "/tmp";
/// Where journald keeps a persistent journal, if the directory is there (systemd-journald.service(8)).
pub const JOURNAL: &str = "/var/log/journal";
/// The machine's identity, machine-id(5).
pub const MACHINE_ID: &str = "/etc/machine-id";
/// libdbus reads this copy first, and systemd copies it into an empty machine-id.
pub const DBUS_MACHINE_ID: &str = "/var/lib/dbus/machine-id";
/// systemd's own program: in /lib where that is not yet a link to /usr/lib.
pub const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
/// The last release that knows only cgroup v1: 230 is the first to know v2 as the kernel has it.
pub const LAST_ON_V1_ALONE: Version = Version(229);
/// From here on systemd refuses v1 and hybrid: "Detected unsupported legacy cgroup hierarchy".
pub const FIRST_ON_V2_ALONE: Version = Version(258);
/// From here on systemd calls v1 obsolete: it warns, and on a host it wants to be forced.
pub const FIRST_THAT_WARNS_OF_V1: Version = Version(256);
/// Where cgroup hierarchies are mounted, cgroups(7).
pub const CGROUP: &str = "/sys/fs/cgroup";
/// Where v1's hierarchy without a controller is, which systemd uses in the legacy and hybrid layouts.
pub const CGROUP_SYSTEMD: &str = "/sys/fs/cgroup/systemd";
/// Where v2 is in the hybrid layout, without controllers.
pub const CGROUP_UNIFIED: &str = "/sys/fs/cgroup/unified";
/// Where hosts mount the cgroup hierarchies that systemd uses.
pub const HIERARCHIES: [&str; 3] = [CGROUP, CGROUP_SYSTEMD, CGROUP_UNIFIED];
/// What these directories lie on; nothing is written to it.
pub const CGROUP_TMPFS_BYTES: u64 = MIB;
/// "The Environment": what the container manager tells the container.
pub const RUN_HOST: &str = "/run/host";
/// systemd 247 and newer reads it before `$container`.
pub const CONTAINER_MANAGER: &str = "/run/host/container-manager";
/// For others than systemd, which reads `$container_uuid`.
pub const CONTAINER_UUID: &str = "/run/host/container-uuid";
/// The host's os-release.
pub const HOST_OS_RELEASE: &str = "/run/host/os-release";
/// Nodes of each kind without any access, which systemd binds over `InaccessiblePaths=`.
pub const INACCESSIBLE: &str = "/run/host/inaccessible";
/// Units of the running system only, systemd.unit(5).
pub const RUNTIME_UNITS: &str = "/run/systemd/system";

/// `container_host_…`, and the fields of os-release(5) that they are.
pub const HOST_FIELDS: [(&str, &str); 4] = [
    ("container_host_id", "ID"),
    ("container_host_version_id", "VERSION_ID"),
    ("container_host_build_id", "BUILD_ID"),
    ("container_host_variant_id", "VARIANT_ID"),
];

/// Fails without /dev/console, after the boot has finished.
pub const CONSOLE_GETTY: &str = "/run/systemd/system/console-getty.service";
/// Wants to unmount a mounted machine-id and write the file, which needs CAP_SYS_ADMIN.
pub const MACHINE_ID_COMMIT: &str = "/run/systemd/system/systemd-machine-id-commit.service";

/// What systemd's own services need of the capabilities that engines grant: users and groups of
/// services, files of theirs, signals to them, and fewer capabilities than they begin with. With their names in SELinux
/// policies.
pub const CAPABILITIES: [(&str, &str); 7] = [
    ("CAP_CHOWN", "chown"),
    ("CAP_DAC_OVERRIDE", "dac_override"),
    ("CAP_FOWNER", "fowner"),
    ("CAP_KILL", "kill"),
    ("CAP_SETGID", "setgid"),
    ("CAP_SETPCAP", "setpcap"),
    ("CAP_SETUID", "setuid"),
];
/// The users and groups of system services are below: login.defs(5), `UID_MIN`.
pub const FIRST_ORDINARY_ID: u32 = 1000;
/// Where units keep their state by `StateDirectory=`, systemd.exec(5).
pub const STATE: &str = "/var/lib/systemd";
/// Stock units that write there, and fail if they can't.
pub const STATE_UNITS: [&str; 1] = ["systemd-logind.service"];
/// Where distributions install units.
pub const UNITS: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// What shuts systemd down in order, systemd(1); by its number on Linux, too.
pub const STOP_SIGNALS: [&str; 3] = ["SIGRTMIN+3", "RTMIN+3", "37"];

/// Lets containers manage cgroups, container_selinux(8).
pub const MANAGE_CGROUP: &str = "container_manage_cgroup";
/// The class that a policy knows capabilities by, and the boolean that lets containers use those that they are given, of
/// Debian's policy in [`OF_CONTAINER_T`] alone; then the same in a user namespace.
pub const USE_CAPABILITIES: [(&str, &str); 2] =
    [("capability", "container_use_host_all_caps"), ("cap_userns", "container_use_userns_all_caps")];
/// The same boolean of Fedora's policy, of all types and both classes.
pub const USE_ALL_CAPABILITIES: &str = "virt_sandbox_use_all_caps";
/// The type of containers whose engine isn't told another.
pub const OF_CONTAINER_T: &str = "container_t";
/// How mounts get their label, other than by `context=`: crun(1), and what podman says for `--security-opt label=nested`,
/// in which an engine labels files of its own.
pub const MOUNT_CONTEXT_TYPE: &str = "run.oci.mount_context_type";
/// The names of the files that the kernel says belong to whom a cgroup is delegated, cgroups(7).
pub const DELEGATE: &str = "/sys/kernel/cgroup/delegate";
/// Such files of both versions, where the kernel names none (before Linux 4.15) or only v2's: as
/// cg_set_access() in systemd's src/shared/cgroup-setup.c. None of them sets a limit.
pub const DELEGATED: [&str; 5] =
    ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks", "cgroup.clone_children"];

/// The inode limit of /run in systemd's mount table (`TMPFS_LIMITS_RUN`, "nr_inodes=800k").
pub const RUN_INODES: u64 = 800 * 1024;
/// The inode limit of /tmp in systemd's tmp.mount ("nr_inodes=1m").
pub const TMP_INODES: u64 = 1024 * 1024;

/// /run's share of memory, as in systemd's mount table ("size=20%").
pub const RUN_PERCENT: u64 = 20;
/// A smaller /run fills up under a small memory limit: users saw it with the old hook's 64 MiB.
pub const RUN_LEAST_BYTES: u64 = 64 * MIB;
/// Debian's run-lock.mount: 5 MiB.
pub const RUN_LOCK_BYTES: u64 = 5 * MIB;
/// /tmp's share of memory, as in systemd's tmp.mount ("size=50%").
pub const TMP_PERCENT: u64 = 50;
/// journald's own default is a share of 10 % of its file system (`SystemMaxUse=`).
pub const JOURNAL_PERCENT: u64 = 10;
/// Two journal files of the smallest useful size.
pub const JOURNAL_LEAST_BYTES: u64 = 16 * MIB;

/// Where systemd wants a tmpfs.
pub const TMPFS: [&str; 4] = [RUN, RUN_LOCK, TMP, JOURNAL];

/// Every path that a plan may ask about, a directory before what lies below it.
pub const PATHS: [&str; 14] = [
    RUN,
    RUN_LOCK,
    TMP,
    JOURNAL,
    MACHINE_ID,
    DBUS_MACHINE_ID,
    RUN_HOST,
    CONTAINER_MANAGER,
    CONTAINER_UUID,
    HOST_OS_RELEASE,
    INACCESSIBLE,
    RUNTIME_UNITS,
    CONSOLE_GETTY,
    MACHINE_ID_COMMIT,
];

/// A mebibyte, in bytes.
pub const MIB: u64 = 1024 * 1024;
