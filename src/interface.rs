// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What systemd expects of a container manager, as names and numbers with their sources.
//!
//! Unless another source is given, it is <https://systemd.io/CONTAINER_INTERFACE/>.

use crate::systemd::Version;

pub mod capabilities;

/// Must be a mount before PID 1 starts. Otherwise PID 1 mounts it, and dies if it isn't allowed to
/// (`mount_table` in systemd's src/shared/mount-setup.c).
pub const RUN: &str = "/run";
/// Debian and its derivatives mount this separately, by run-lock.mount, which fails where systemd isn't allowed to mount.
pub const RUN_LOCK: &str = "/run/lock";
/// Mounted by systemd's tmp.mount if it isn't a mount yet, which fails where systemd may not mount.
pub const TMP: &str = "/tmp";
/// The directory in which journald keeps a persistent journal if it exists (systemd-journald.service(8)).
pub const JOURNAL: &str = "/var/log/journal";
/// The machine ID, machine-id(5).
pub const MACHINE_ID: &str = "/etc/machine-id";
/// Another copy of the machine ID. libdbus reads this copy first, and systemd copies it into an empty machine-id.
pub const DBUS_MACHINE_ID: &str = "/var/lib/dbus/machine-id";
/// The path of systemd itself. It is in /lib where that is not yet a link to /usr/lib.
pub const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
/// The last release of systemd that supports only cgroup v1. 230 is the first that supports v2 as
/// the kernel implements it.
pub const LAST_ON_V1_ALONE: Version = Version(229);
/// The first release of systemd that refuses v1 and hybrid: "Detected unsupported legacy cgroup hierarchy".
pub const FIRST_ON_V2_ALONE: Version = Version(258);
/// The first release of systemd that calls v1 obsolete: it warns, and on a host v1 must be forced.
pub const FIRST_THAT_WARNS_OF_V1: Version = Version(256);
/// The directory in which cgroup hierarchies are mounted, cgroups(7).
pub const CGROUP: &str = "/sys/fs/cgroup";
/// The mount point of v1's hierarchy without a controller, which systemd uses in the legacy and hybrid layouts.
pub const CGROUP_SYSTEMD: &str = "/sys/fs/cgroup/systemd";
/// The mount point of v2 in the hybrid layout, where it has no controllers.
pub const CGROUP_UNIFIED: &str = "/sys/fs/cgroup/unified";
/// The places at which hosts mount the cgroup hierarchies that systemd uses.
pub const HIERARCHIES: [&str; 3] = [CGROUP, CGROUP_SYSTEMD, CGROUP_UNIFIED];
/// The size of the tmpfs that holds these mount points. Nothing is written to it.
pub const CGROUP_TMPFS_BYTES: u64 = MIB;
/// The directory of what the container manager tells the container ("The Environment" in the source).
pub const RUN_HOST: &str = "/run/host";
/// The file that names the container manager. systemd 247 and newer reads it before `$container`.
pub const CONTAINER_MANAGER: &str = "/run/host/container-manager";
/// The file with the container's UUID, for programs other than systemd, which reads `$container_uuid`.
pub const CONTAINER_UUID: &str = "/run/host/container-uuid";
/// The copy of the host's os-release.
pub const HOST_OS_RELEASE: &str = "/run/host/os-release";
/// The directory of inaccessible nodes of each file type, which systemd bind-mounts over `InaccessiblePaths=`.
pub const INACCESSIBLE: &str = "/run/host/inaccessible";
/// The directory of runtime units, systemd.unit(5).
pub const RUNTIME_UNITS: &str = "/run/systemd/system";

/// The environment variables `container_host_…`, and the fields of os-release(5) that they are set to.
pub const HOST_FIELDS: [(&str, &str); 4] = [
    ("container_host_id", "ID"),
    ("container_host_version_id", "VERSION_ID"),
    ("container_host_build_id", "BUILD_ID"),
    ("container_host_variant_id", "VARIANT_ID"),
];

/// A unit that is masked because it fails without /dev/console, after the boot has finished.
pub const CONSOLE_GETTY: &str = "/run/systemd/system/console-getty.service";
/// A unit that is masked because it tries to unmount a mounted machine-id and to write the
/// file, which needs CAP_SYS_ADMIN.
pub const MACHINE_ID_COMMIT: &str = "/run/systemd/system/systemd-machine-id-commit.service";

/// The capabilities, out of those that engines grant, that systemd's own services need, with their names in
/// SELinux policies. The services switch to their own users and groups, change the owners of files, send
/// signals, and drop capabilities.
pub const CAPABILITIES: [(&str, &str); 7] = [
    ("CAP_CHOWN", "chown"),
    ("CAP_DAC_OVERRIDE", "dac_override"),
    ("CAP_FOWNER", "fowner"),
    ("CAP_KILL", "kill"),
    ("CAP_SETGID", "setgid"),
    ("CAP_SETPCAP", "setpcap"),
    ("CAP_SETUID", "setuid"),
];
/// The first user and group ID that isn't reserved for system services: login.defs(5), `UID_MIN`.
pub const FIRST_ORDINARY_ID: u32 = 1000;
/// The directory in which units with `StateDirectory=` keep their state, systemd.exec(5).
pub const STATE: &str = "/var/lib/systemd";
/// Stock units that write to [`STATE`], and fail if they can't.
pub const STATE_UNITS: [&str; 1] = ["systemd-logind.service"];
/// The directories in which distributions install units.
pub const UNITS: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// The signal that makes systemd shut down properly, systemd(1), in its different spellings, including
/// its number on Linux.
pub const STOP_SIGNALS: [&str; 3] = ["SIGRTMIN+3", "RTMIN+3", "37"];

/// The policy boolean that lets containers manage cgroups, container_selinux(8).
pub const MANAGE_CGROUP: &str = "container_manage_cgroup";
/// The SELinux class of capabilities, and the boolean that lets containers use the capabilities that they are
/// granted; first outside user namespaces, then inside. These booleans are in Debian's policy, and apply to
/// [`CONTAINER_T`] alone.
pub const USE_CAPABILITIES: [(&str, &str); 2] =
    [("capability", "container_use_host_all_caps"), ("cap_userns", "container_use_userns_all_caps")];
/// The corresponding boolean of Fedora's policy, which applies to all types and to both classes.
pub const USE_ALL_CAPABILITIES: &str = "virt_sandbox_use_all_caps";
/// The type of containers for which no other type is configured.
pub const CONTAINER_T: &str = "container_t";
/// The annotation that selects how mounts are labeled if not by `context=`: see crun(1), and podman's documentation
/// of `--security-opt label=nested`, with which an engine in the container can label its own files.
pub const MOUNT_CONTEXT_TYPE: &str = "run.oci.mount_context_type";
/// The file in which the kernel lists the files of a cgroup that should be owned by its delegatee, cgroups(7).
pub const DELEGATE: &str = "/sys/kernel/cgroup/delegate";
/// The files of both versions to delegate where the kernel has no such list (before Linux 4.15) or lists only v2's
/// files, as in cg_set_access() in systemd's src/shared/cgroup-setup.c. None of these files sets a limit.
pub const DELEGATED: [&str; 5] =
    ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks", "cgroup.clone_children"];

/// The inode limit of /run in systemd's mount table (`TMPFS_LIMITS_RUN`, "nr_inodes=800k").
pub const RUN_INODES: u64 = 800 * 1024;
/// The inode limit of /tmp in systemd's tmp.mount ("nr_inodes=1m").
pub const TMP_INODES: u64 = 1024 * 1024;

/// /run's share of memory, as in systemd's mount table ("size=20%").
pub const RUN_PERCENT: u64 = 20;
/// The minimum size of /run. A smaller one fills up under a small memory limit; users saw that with the
/// old hook's 64 MiB.
pub const RUN_LEAST_BYTES: u64 = 64 * MIB;
/// The size of /run/lock, as in Debian's run-lock.mount (5 MiB).
pub const RUN_LOCK_BYTES: u64 = 5 * MIB;
/// /tmp's share of memory, as in systemd's tmp.mount ("size=50%").
pub const TMP_PERCENT: u64 = 50;
/// The share of memory for the journal. journald's own default is 10 % of its file system (`SystemMaxUse=`).
pub const JOURNAL_PERCENT: u64 = 10;
/// The minimum size of the journal's tmpfs: two journal files of the smallest useful size.
pub const JOURNAL_LEAST_BYTES: u64 = 16 * MIB;

/// The places at which systemd expects a tmpfs.
pub const TMPFS: [&str; 4] = [RUN, RUN_LOCK, TMP, JOURNAL];

/// Every path that a plan may look up. Each directory comes before the paths below it.
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

pub const MIB: u64 = 1024 * 1024;
