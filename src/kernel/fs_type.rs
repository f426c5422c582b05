// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Distinguishes file systems that store data from those that expose the kernel or depend on a server, by the magic
//! number from statfs(2) or by name. Accesses no file.
//!
//! The numbers are from linux/magic.h or, if missing there, from the file system's source.

/// Where the data comes from when a file is opened and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataSource {
    /// Storage: a disk, memory, or the layers of an overlay.
    Stored,
    /// The kernel, which generates it on the spot. That can have side effects:
    /// reading /proc/kmsg consumes the messages.
    Kernel,
    /// A program or another machine, which may take any time to answer.
    Server,
}

/// The kernel's own file systems, by their names in /proc/filesystems, with their magic numbers.
const OF_THE_KERNEL: [(&str, u32); 45] = [
    ("anon_inodefs", 0x0904_1934),
    ("apparmorfs", 0x5a3c_69f0),
    // Looking up a file on it makes the automounter mount something.
    ("autofs", 0x0187),
    ("bdev", 0x6264_6576),
    ("binder", 0x6c6f_6f70),
    ("binfmt_misc", 0x4249_4e4d),
    ("bpf", 0xcafe_4a11),
    ("cgroup", 0x0027_e0eb),
    ("cgroup2", 0x6367_7270),
    ("configfs", 0x6265_6570),
    ("cpuset", 0x0027_e0eb),
    ("dax", 0x6461_6178),
    ("debugfs", 0x6462_6720),
    ("devmem", 0x454d_444d),
    ("devpts", 0x1cd1),
    ("dmabuf", 0x444d_4142),
    ("drm", 0x0102_03ff),
    ("efivarfs", 0xde5e_81e4),
    ("functionfs", 0x0a64_7361),
    ("fusectl", 0x6573_5543),
    ("gadgetfs", 0xaee7_1ee7),
    ("guest_memfd", 0x474d_454d),
    ("mqueue", 0x1980_0202),
    ("mtd_inodefs", 0x1130_7854),
    ("nfsd", 0x6e66_7364),
    ("nsfs", 0x6e73_6673),
    ("nullfs", 0x4e55_4c4c),
    ("ocfs2_dlmfs", 0x76a9_f425),
    ("openpromfs", 0x9fa1),
    ("pidfs", 0x5049_4446),
    ("pipefs", 0x5049_5045),
    ("proc", 0x9fa0),
    ("pstore", 0x6165_676c),
    ("resctrl", 0x0765_5821),
    ("rpc_pipefs", 0x6759_6969),
    ("secretmem", 0x5345_434d),
    ("securityfs", 0x7363_6673),
    ("selinuxfs", 0xf97c_ff8c),
    ("smackfs", 0x4341_5d53),
    ("sockfs", 0x534f_434b),
    ("spufs", 0x23c9_b64e),
    ("sysfs", 0x6265_6572),
    ("tracefs", 0x7472_6163),
    ("usbfs", 0x9fa2),
    ("xenfs", 0xabba_1974),
];

/// The file systems that depend on a server.
const OF_A_SERVER: [(&str, u32); 24] = [
    ("9p", 0x0102_1997),
    ("afs", 0x5346_414f),
    ("beegfs", 0x1983_0326),
    ("ceph", 0x00c3_6400),
    ("cifs", 0xff53_4d42),
    ("coda", 0x7375_7245),
    ("fuse", FUSE),
    ("fuseblk", FUSE),
    ("gpfs", 0x4750_4653),
    ("hostfs", 0x00c0_ffee),
    // The kernel's own AFS client.
    ("kafs", 0x6b41_4653),
    ("lustre", 0x0bd0_0bd0),
    ("ncpfs", 0x564c),
    ("nfs", NFS),
    ("nfs4", NFS),
    ("orangefs", 0x2003_0528),
    ("prl_fs", 0x7c7c_6673),
    ("pvfs2", 0x2003_0528),
    // The number of cifs if it is mounted with SMB 2 or later.
    ("smb3", 0xfe53_4d42),
    ("smbfs", 0x517b),
    ("vboxsf", 0x786f_4256),
    ("virtiofs", FUSE),
    ("vmhgfs", 0xbacb_acbc),
    ("vxfs", 0xa501_fcf5),
];

const FUSE: u32 = 0x6573_5546;
const NFS: u32 = 0x6969;

/// Returns where the data on a file system with this magic number comes from.
#[must_use]
pub fn answers(number: u32) -> DataSource {
    let is_in = |list: &[(&str, u32)]| list.iter().any(|(_, each)| *each == number);
    if is_in(&OF_THE_KERNEL) {
        DataSource::Kernel
    } else if is_in(&OF_A_SERVER) {
        DataSource::Server
    } else {
        DataSource::Stored
    }
}

/// Whether a lookup on a file system of this type, as named in a mount table, depends on a server that may not answer.
#[must_use]
pub fn needs_server(name: &str) -> bool {
    // FUSE has subtypes, such as `fuse.sshfs`.
    let kind = name.split('.').next().unwrap_or(name);
    kind == "autofs" || OF_A_SERVER.iter().any(|(each, _)| *each == kind)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The file systems that store data but have no device. tmpfs and devtmpfs have the same number.
    const STORED: [&str; 9] =
        ["tmpfs", "devtmpfs", "ramfs", "hugetlbfs", "overlay", "overlayfs", "aufs", "ecryptfs", "zfs"];

    /// Each file system of the running kernel that has no device is in one of the lists.
    #[test]
    fn each_file_system_of_this_kernel_is_known() {
        let listed = std::fs::read_to_string("/proc/filesystems").unwrap();
        let without_device = listed.lines().filter_map(|line| line.strip_prefix("nodev\t"));
        let is_known = |name: &&str| {
            STORED.contains(name) || OF_THE_KERNEL.iter().chain(&OF_A_SERVER).any(|(known, _)| known == name)
        };
        let unknown: Vec<&str> = without_device.filter(|name| !is_known(name)).collect();
        assert!(
            unknown.is_empty(),
            "decide for each of {unknown:?} in kernel/fs_type.rs whether it is the kernel's own"
        );
    }

    /// Each mounted file system has the magic number that is listed for it.
    #[test]
    fn the_numbers_are_those_of_this_kernel() {
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap();
        let mut compared = 0;
        for entry in crate::kernel::mountinfo::entries(&mounts) {
            let name = entry.fs_type();
            let known = OF_THE_KERNEL.iter().chain(&OF_A_SERVER).find(|(known, _)| *known == name);
            let Ok(found) = rustix::fs::statfs(entry.mount_point()) else { continue };
            let is_top = STORED.contains(&name.as_str());
            match known {
                // Another mount may cover this one.
                Some((_, number)) if u32::try_from(found.f_type) != Ok(*number) => {
                    let others = crate::kernel::mountinfo::entries(&mounts)
                        .filter(|other| other.mount_point() == entry.mount_point());
                    assert!(others.count() > 1, "{name} is {:#x}", found.f_type);
                }
                Some(_) => compared += 1,
                None if is_top => {
                    assert_eq!(answers(u32::try_from(found.f_type).unwrap()), DataSource::Stored, "{name}");
                }
                None => {}
            }
        }
        assert!(compared >= 2, "{compared} compared");
    }

    #[test]
    fn knows_servers_by_name() {
        for name in ["fuse", "fuse.sshfs", "fuseblk", "nfs4", "9p", "autofs"] {
            assert!(needs_server(name), "{name}");
        }
        for name in ["", "tmpfs", "overlay", "ext4", "nfsd", "fusectl", "proc"] {
            assert!(!needs_server(name), "{name}");
        }
    }

    #[test]
    fn knows_them_by_number() {
        for (number, expected) in [
            (0x9fa0, DataSource::Kernel),
            (0x6265_6572, DataSource::Kernel),
            (FUSE, DataSource::Server),
            (NFS, DataSource::Server),
            // These are tmpfs, overlay and ext4.
            (0x0102_1994, DataSource::Stored),
            (0x794c_7630, DataSource::Stored),
            (0xef53, DataSource::Stored),
        ] {
            assert_eq!(answers(number), expected, "{number:#x}");
        }
    }
}
