// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lists the mounts below a directory with listmount(2) and statmount(2) of Linux 6.8,
//! in the form of proc_pid_mountinfo(5).
//!
//! Reading /proc/self/mountinfo takes about 5 µs per mount, and a host can have 10,000 mounts. These calls return
//! only those of the container. If the kernel can't report something that is needed, there is no table, and mountinfo
//! must be read instead.

#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::CWD;

use super::{SysError, fs};
use crate::kernel::mountinfo::{self, Entry};

/// The mount table of this process's mount namespace.
pub const OWN: &str = "/proc/self/mountinfo";

// These are from linux/mount.h and asm-generic/unistd.h. The numbers are the same on all architectures except alpha.
const SYS_STATMOUNT: libc::c_long = 457;
const SYS_LISTMOUNT: libc::c_long = 458;
const SB_BASIC: u64 = 0x1;
const MNT_BASIC: u64 = 0x2;
const MNT_ROOT: u64 = 0x8;
const MNT_POINT: u64 = 0x10;
const FS_TYPE: u64 = 0x20;
/// Available since Linux 6.11.
const MNT_OPTS: u64 = 0x80;
const NEEDED: u64 = SB_BASIC | MNT_BASIC | MNT_ROOT | MNT_POINT | FS_TYPE;
const MOUNT_ATTR_RDONLY: u64 = 1;
const SB_RDONLY: u32 = 1;
const MS_SHARED: u64 = 1 << 20;

/// A mount table, and the ID in it of the mount that the directory is on.
#[derive(Debug)]
pub struct Table {
    /// The table in the form of mountinfo.
    pub text: Vec<u8>,
    pub root_mount: u64,
}

/// Returns the mount that `directory` is on and all mounts below it, and the mounts that the host's paths `beside`
/// are on. Returns `None` if the kernel is older, or if there are more than `most` mounts below.
#[must_use]
pub fn below(directory: BorrowedFd<'_>, beside: &[&str], most: usize) -> Option<Table> {
    let root_mount = fs::unique_mount(directory, "")?;
    let below = list(root_mount).filter(|below| below.len() <= most)?;
    let beside = beside.iter().filter_map(|path| fs::unique_mount(CWD, path));
    let mut text = Vec::new();
    let mut buffer = vec![0_u64; 1152];
    for id in std::iter::once(root_mount).chain(below).chain(beside) {
        let line = match MountStatus::parse(describe(id, NEEDED, &mut buffer)?)? {
            // Only the options distinguish one v1 hierarchy from another.
            row if row.fs_type.starts_with(b"cgroup") => {
                MountStatus::parse(describe(id, NEEDED | MNT_OPTS, &mut buffer)?).filter(|row| row.has_options)?.line()
            }
            row => row.line(),
        };
        text.extend_from_slice(&line);
    }
    Some(Table { text, root_mount })
}

/// Returns the whole table of this process's mount namespace, or `None` if it is longer than
/// the tables of most hosts.
pub fn usual() -> Result<Option<Vec<u8>>, SysError> {
    /// The size of a table with about 150 mounts.
    const USUAL_BYTES: u64 = 16 * 1024;
    // The kernel lists mounts much faster than it writes their lines.
    if has_many() {
        return Ok(None);
    }
    fs::open_host(Path::new(OWN)).and_then(|file| fs::read_up_to(file, USUAL_BYTES))
}

/// Returns the lines of a table in /proc that satisfy `wanted`, in the order of the table.
pub fn read(table: &str, wanted: impl Fn(&Entry<'_>) -> bool) -> Result<Vec<u8>, SysError> {
    fs::read_host_lines(Path::new(table), |line| mountinfo::entry(line).is_some_and(|entry| wanted(&entry)))
}

/// Passes each line of a table in /proc to `act`, or `None` for a line that is too long, until `act` returns `true`.
/// Returns whether it did.
pub fn each(table: &str, act: impl FnMut(Option<&[u8]>) -> bool) -> Result<bool, SysError> {
    fs::each_host_line(Path::new(table), act)
}

#[repr(C)]
struct MountIdRequest {
    size: u32,
    spare: u32,
    mount: u64,
    parameter: u64,
}

impl MountIdRequest {
    fn new(mount: u64, parameter: u64) -> Self {
        Self { size: 24, spare: 0, mount, parameter }
    }
}

/// Whether this process's mount namespace has more mounts than most hosts. A `false` proves nothing.
fn has_many() -> bool {
    /// Stands for the root of the mount namespace in listmount(2).
    const LSMT_ROOT: u64 = u64::MAX;
    let mut part = [0; PART_MOUNTS];
    list_part(LSMT_ROOT, 0, &mut part) == Some(PART_MOUNTS)
}

/// How many mounts are listed in one call.
const PART_MOUNTS: usize = 256;

/// Returns the IDs of all mounts below one, or `None` if the kernel doesn't report them.
fn list(mount: u64) -> Option<Vec<u64>> {
    let mut all = Vec::new();
    let mut part = [0; PART_MOUNTS];
    loop {
        let count = list_part(mount, all.last().copied().unwrap_or_default(), &mut part)?;
        all.extend_from_slice(part.get(..count)?);
        if count < part.len() {
            return Some(all);
        }
    }
}

/// Lists the mounts below one whose IDs are above `after`, and returns how many there are in `part`. Returns `None`
/// if the kernel doesn't report them.
fn list_part(mount: u64, after: u64, part: &mut [u64; PART_MOUNTS]) -> Option<usize> {
    let request = MountIdRequest::new(mount, after);
    // SAFETY: the request has the size that it states, and the kernel writes at most as many
    // numbers as fit into `part`.
    let count = unsafe { libc::syscall(SYS_LISTMOUNT, &raw const request, part.as_mut_ptr(), part.len(), 0) };
    usize::try_from(count).ok()
}

/// Returns what statmount(2) reports about a mount. The buffer consists of numbers because the kernel writes some.
fn describe(mount: u64, mask: u64, buffer: &mut [u64]) -> Option<&[u8]> {
    let request = MountIdRequest::new(mount, mask);
    let length_bytes = size_of_val(buffer);
    // SAFETY: the request has the size that it states, and the kernel writes at most `length_bytes` bytes.
    let result = unsafe { libc::syscall(SYS_STATMOUNT, &raw const request, buffer.as_mut_ptr(), length_bytes, 0) };
    if result != 0 {
        return None;
    }
    // SAFETY: any number consists of eight initialized bytes, and bytes need no alignment.
    Some(unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), length_bytes) })
}

/// The fields of `struct statmount` that mountinfo also shows.
#[derive(Debug, PartialEq, Eq)]
struct MountStatus<'a> {
    id: u64,
    parent: u64,
    device: (u32, u32),
    root: &'a [u8],
    mount_point: &'a [u8],
    is_read_only: bool,
    shared: Option<u64>,
    fs_type: &'a [u8],
    is_super_read_only: bool,
    super_options: &'a [u8],
    /// Whether the kernel was asked for the options, and can report them.
    has_options: bool,
}

impl<'a> MountStatus<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        const STRINGS: usize = 512;
        let at32 = |offset: usize| bytes.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let at64 = |offset: usize| bytes.get(offset..offset + 8)?.try_into().ok().map(u64::from_ne_bytes);
        let string = |offset: usize| {
            let start = STRINGS + usize::try_from(at32(offset)?).ok()?;
            bytes.get(start..)?.split(|byte| *byte == 0).next()
        };
        let mask = at64(8)?;
        if mask & NEEDED != NEEDED {
            return None;
        }
        Some(Self {
            id: at64(40)?,
            parent: at64(48)?,
            device: (at32(16)?, at32(20)?),
            root: string(104)?,
            mount_point: string(108)?,
            is_read_only: at64(64)? & MOUNT_ATTR_RDONLY != 0,
            shared: if at64(72)? & MS_SHARED != 0 { at64(80) } else { None },
            fs_type: string(36)?,
            is_super_read_only: at32(32)? & SB_RDONLY != 0,
            super_options: if mask & MNT_OPTS != 0 { string(4)? } else { b"" },
            has_options: mask & MNT_OPTS != 0,
        })
    }

    fn line(&self) -> Vec<u8> {
        let access = |is_read_only: bool| if is_read_only { "ro" } else { "rw" };
        let mut line = format!("{} {} {}:{} ", self.id, self.parent, self.device.0, self.device.1).into_bytes();
        line.extend(mountinfo::escape(self.root));
        line.push(b' ');
        line.extend(mountinfo::escape(self.mount_point));
        line.extend(format!(" {} ", access(self.is_read_only)).bytes());
        line.extend(self.shared.map(|group| format!("shared:{group} ")).unwrap_or_default().bytes());
        line.extend(b"- ");
        line.extend(self.fs_type);
        line.extend(format!(" none {},", access(self.is_super_read_only)).bytes());
        line.extend(self.super_options);
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::fd::AsFd;

    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::test_runner::{Config, TestRunner};

    use crate::facts::Mounts;
    use crate::facts::mounts::{is_hosts_hierarchy, is_inside, tmpfs_devices};
    use crate::interface;
    use crate::path::InnerPath;

    /// The table and mountinfo agree about this process's own mounts.
    #[test]
    fn agrees_with_mountinfo() {
        let root = std::fs::File::open("/").unwrap();
        let Some(table) = below(root.as_fd(), &[], usize::MAX) else {
            println!("skipped: this kernel has no listmount(2) or no options in statmount(2), Linux 6.11");
            return;
        };
        let info = crate::sys::fs::fd_info(root.as_fd()).unwrap();
        let whole = std::fs::read(OWN).unwrap();
        let root_path = std::path::Path::new("/");
        let ours = Mounts::read(&table.text, root_path, table.root_mount);
        let kernels = Mounts::read(&whole, root_path, mountinfo::mount_of(&info).unwrap());
        let points = mountinfo::entries(&whole).map(|entry| InnerPath::new(entry.mount_point()));
        let mut compared = 0;
        for at in points {
            let (Some(ours), Some(kernels)) = (ours.at(&at), kernels.at(&at)) else { continue };
            assert_eq!(
                (&ours.fs_type, ours.read_only, ours.shared, &ours.cgroup),
                (&kernels.fs_type, kernels.read_only, kernels.shared, &kernels.cgroup),
                "{at}"
            );
            compared += 1;
        }
        assert!(compared > 3, "{compared} mounts compared");
    }

    /// Entries are also found by the last option of their line. The kernel writes `name=systemd` last.
    #[test]
    fn sees_a_lines_last_field() {
        let whole = std::fs::read_to_string(OWN).unwrap();
        let last = whole.lines().filter_map(|line| Some((line, line.split_once(" - ")?.1.rsplit([',', ' ']).next()?)));
        for (line, option) in last {
            let found = read(OWN, |entry| entry.has_super_option(option)).unwrap();
            assert!(String::from_utf8_lossy(&found).lines().any(|each| each == line), "{line}");
        }
    }

    /// A mount as the kernel knows it.
    #[derive(Debug, Clone)]
    struct Kernels {
        parent: u64,
        at: String,
        fs_type: &'static str,
        device: u32,
        root: &'static str,
        is_read_only: bool,
        is_shared: bool,
    }

    impl Kernels {
        fn options(&self) -> &'static str {
            match self.fs_type {
                "cgroup" => "name=systemd",
                "cgroup2" => "nsdelegate",
                _ => "size=1k",
            }
        }

        /// The line of the mount in /proc/self/mountinfo.
        fn in_mountinfo(&self, id: u64) -> String {
            let (access, peers) =
                (if self.is_read_only { "ro" } else { "rw" }, if self.is_shared { " shared:7" } else { "" });
            let Self { parent, at, fs_type, device, root, .. } = self;
            let options = self.options();
            format!(
                "{id} {parent} 0:{device} {root} {at} {access},relatime{peers} master:3 - {fs_type} source rw,{options}\n"
            )
        }

        /// What statmount(2) reports about the mount.
        fn row(&self, id: u64) -> MountStatus<'_> {
            MountStatus {
                id,
                parent: self.parent,
                device: (0, self.device),
                root: self.root.as_bytes(),
                mount_point: self.at.as_bytes(),
                is_read_only: self.is_read_only,
                shared: self.is_shared.then_some(7),
                fs_type: self.fs_type.as_bytes(),
                is_super_read_only: false,
                super_options: if self.fs_type.starts_with("cgroup") { self.options().as_bytes() } else { b"" },
                has_options: true,
            }
        }
    }

    const ROOT: &str = "/b/rootfs";
    const HOSTS_ROOT: u64 = 1;
    const ROOT_MOUNT: u64 = 2;

    /// The host's root, the container's root, and mounts on either of them and on each other, with their IDs.
    fn world() -> impl Strategy<Value = Vec<(u64, Kernels)>> {
        let places =
            select(&["/run", "/tmp", "/data", "/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/b/rootfs/run", "/b"][..]);
        let kind = select(&["tmpfs", "tmpfs", "ext4", "cgroup", "cgroup2"][..]);
        let root = select(&["/", "/", "/part"][..]);
        let mount = (any::<prop::sample::Index>(), places, kind, 20_u32..60, root, any::<[bool; 2]>());
        prop::collection::vec(mount, 0..12).prop_map(|mounts| {
            let of = |parent, at: &str| Kernels {
                parent,
                at: at.to_owned(),
                fs_type: "ext4",
                device: 8,
                root: "/",
                is_read_only: false,
                is_shared: false,
            };
            let mut all = vec![(HOSTS_ROOT, of(0, "/")), (ROOT_MOUNT, of(HOSTS_ROOT, ROOT))];
            for (id, (on, place, fs_type, device, root, [is_read_only, is_shared])) in (3..).zip(mounts) {
                let (parent, below) = on.get(&all).clone();
                let at = format!("{}{place}", below.at.trim_end_matches('/'));
                // Two mounts at the same place of the same mount would be stacked.
                let is_taken = all.iter().any(|(_, other)| other.parent == parent && other.at == at);
                if !is_taken {
                    all.push((id, Kernels { parent, at, fs_type, device, root, is_read_only, is_shared }));
                }
            }
            all
        })
    }

    fn is_below(world: &[(u64, Kernels)], id: u64, above: u64) -> bool {
        let parent = |id| world.iter().find(|(other, _)| *other == id).map(|(_, mount)| mount.parent);
        std::iter::successors(Some(id), |id| parent(*id)).any(|id| id == above)
    }

    /// A container gets the same plan regardless of how many mounts its host has: the facts are the same whether they
    /// come from the whole table, from its relevant lines, or from listmount(2) and statmount(2).
    #[test]
    fn each_way_gives_the_same_facts() {
        let paths = ["/run", "/tmp", "/data", "/run/run", "/data/data", "/run/tmp"].map(InnerPath::new);
        let asked = prop::sample::subsequence(paths.to_vec(), 0..=paths.len());
        let config = Config { cases: 4000, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new(config);
        let own = std::cell::Cell::new(0);
        let result = runner.run(&(world(), asked), |(world, asked)| {
            let asked = asked.into_iter().collect();
            let lines = |wanted: &dyn Fn(u64, &Entry<'_>) -> bool| -> Vec<u8> {
                let lines = world.iter().map(|(id, mount)| (*id, mount.in_mountinfo(*id)));
                let wanted =
                    lines.filter(|(id, line)| wanted(*id, &mountinfo::entry(line.trim_end().as_bytes()).unwrap()));
                wanted.flat_map(|(_, line)| line.into_bytes()).collect()
            };
            let whole = lines(&|_, _| true);
            let sieved = lines(&|_, entry| is_inside(entry, ROOT.as_bytes(), ROOT_MOUNT) || is_hosts_hierarchy(entry));
            // The kernel is asked for the mounts below the root's, and for the topmost mounts
            // at the host's cgroup paths.
            let asked_for = world.iter().filter(|(id, mount)| {
                let on_top = |at: &str| world.iter().rfind(|(_, other)| other.at == at).map(|(id, _)| *id);
                is_below(&world, *id, ROOT_MOUNT)
                    || interface::HIERARCHIES.contains(&mount.at.as_str()) && on_top(&mount.at) == Some(*id)
            });
            let told: Vec<u8> = asked_for.flat_map(|(id, mount)| mount.row(*id).line()).collect();
            let [first, rest @ ..] = [&whole, &sieved, &told].map(|table| {
                let mut mounts = Mounts::read(table, Path::new(ROOT), ROOT_MOUNT);
                let maybe_own = mounts.maybe_own(&asked);
                let devices: Vec<_> = tmpfs_devices(&whole).into_iter().filter(|own| maybe_own.contains(own)).collect();
                mounts.prove_own(&asked, &devices);
                let mut facts: Vec<String> = mounts.all().map(|mount| format!("{mount:?}")).collect();
                facts.sort();
                own.set(own.get() + mounts.all().filter(|mount| mount.is_own_tmpfs()).count());
                facts
            });
            for other in rest {
                prop_assert_eq!(&first, &other);
            }
            Ok(())
        });
        result.unwrap();
        assert!(own.get() > 200, "only {} mounts of the container's own", own.get());
    }

    #[test]
    fn refuses_what_is_too_short_or_lacks_something() {
        assert_eq!(MountStatus::parse(&[0; 8]), None);
        assert_eq!(MountStatus::parse(&[0; 600]), None);
    }
}
