// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses `/proc/<pid>/mountinfo`, which lists the mounts of a mount namespace, see proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount. Its fields are kept as the kernel wrote and escaped them until they are needed: a host can have
/// thousands of mounts, of which few matter.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    id: &'a [u8],
    parent: &'a [u8],
    device: &'a [u8],
    root: &'a [u8],
    mount_point: &'a [u8],
    options: &'a [u8],
    optional: &'a [u8],
    fs_type: &'a [u8],
    super_options: &'a [u8],
}

/// Parses the entries in the order of the table, in which a mount that covers another one comes after it. Lines that
/// don't have the documented form, such as those of a future kernel, are skipped.
pub fn entries(text: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    text.split(|byte| *byte == b'\n').filter_map(entry)
}

/// Parses one line. Returns `None` if it doesn't have the documented form.
#[must_use]
pub fn entry(line: &[u8]) -> Option<Entry<'_>> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (id, parent, device) = (fields.next()?, fields.next()?, fields.next()?);
    let (root, mount_point, options) = (fields.next()?, fields.next()?, fields.next()?);
    // There may be any number of optional fields. A single hyphen ends them.
    let mut optional: &[u8] = b"";
    loop {
        match fields.next()? {
            b"-" => break,
            field if field.starts_with(b"shared:") => optional = field,
            _ => {}
        }
    }
    let (fs_type, _source) = (fields.next()?, fields.next()?);
    Some(Entry {
        id,
        parent,
        device,
        root,
        mount_point,
        options,
        optional,
        fs_type,
        super_options: fields.next().unwrap_or_default(),
    })
}

impl Entry<'_> {
    /// The mount's ID, which is unique in its namespace.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        number(self.id)
    }

    /// The ID of the mount that this one is mounted on.
    #[must_use]
    pub fn parent(&self) -> Option<u64> {
        number(self.parent)
    }

    /// The device number of the file system, as `major:minor`.
    #[must_use]
    pub fn device(&self) -> String {
        String::from_utf8_lossy(self.device).into_owned()
    }

    /// The path of the mount point, relative to the root directory of the process.
    #[must_use]
    pub fn mount_point(&self) -> PathBuf {
        unescape(self.mount_point)
    }

    /// The directory of the file system that is mounted, as a path in that file system.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        unescape(self.root)
    }

    /// The type of the file system, such as `tmpfs`.
    #[must_use]
    pub fn fs_type(&self) -> String {
        String::from_utf8_lossy(self.fs_type).into_owned()
    }

    /// Whether the type of the file system begins with `prefix`.
    #[must_use]
    pub fn is_type(&self, prefix: &str) -> bool {
        self.fs_type.starts_with(prefix.as_bytes())
    }

    /// Whether the mount point is at or below `path`, which must be escaped as by [`escape`]. This
    /// is a cheap first filter.
    #[must_use]
    pub fn may_be_below(&self, path: &[u8]) -> bool {
        let below = self.mount_point.strip_prefix(path);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || path.ends_with(b"/"))
    }

    /// Whether the mount point is `path`, which must not contain characters that the kernel escapes.
    #[must_use]
    pub fn is_at(&self, path: &str) -> bool {
        self.mount_point == path.as_bytes()
    }

    /// Whether the mount, or its file system as a whole, is read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        has(self.options, b"ro") || has(self.super_options, b"ro")
    }

    /// Whether the mount is in a peer group, so that mounts below it also appear elsewhere, see mount_namespaces(7).
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !self.optional.is_empty()
    }

    /// Whether the file system has this option, such as `name=systemd`.
    #[must_use]
    pub fn has_super_option(&self, option: &str) -> bool {
        has(self.super_options, option.as_bytes())
    }

    /// The options of the file system, as opposed to those of the mount.
    #[must_use]
    pub fn super_options(&self) -> Vec<String> {
        self.super_options.split(|byte| *byte == b',').map(|each| String::from_utf8_lossy(each).into_owned()).collect()
    }
}

/// Returns the ID of the mount that an open file is on, from the content of `/proc/<pid>/fdinfo/<fd>`.
#[must_use]
pub fn mount_of(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

/// Escapes a path as the kernel does.
#[must_use]
pub fn escape(path: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(path.len());
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => {
                escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes());
            }
            _ => escaped.push(*byte),
        }
    }
    escaped
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn has(options: &[u8], option: &[u8]) -> bool {
    options.split(|byte| *byte == b',').any(|each| each == option)
}

fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let octal = if *first == b'\\' { tail.first_chunk::<3>() } else { None };
        let value = octal
            .and_then(|digits| std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok()));
        match value {
            Some(value) => {
                bytes.push(value);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    const TEXT: &[u8] = b"\
36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
41 36 0:35 / /sys/fs/cgroup/systemd ro,nosuid shared:7 master:2 - cgroup cgroup rw,xattr,name=systemd
42 36 0:36 / /run rw - tmpfs tmpfs ro,size=1k
not a line
43 36 0:37 / /x rw propagate_from:2";

    #[test]
    fn reads_the_documented_form() {
        let all: Vec<_> = entries(TEXT).collect();
        assert_eq!(all.len(), 3, "{all:?}");
        let [bind, cgroup, tmpfs] = all.try_into().unwrap();
        assert_eq!((bind.id(), bind.parent()), (Some(36), Some(35)));
        assert_eq!(bind.mount_point(), Path::new("/mnt 2"));
        assert_eq!(bind.root(), Path::new("/mnt1"));
        assert!(!bind.is_shared() && !bind.is_read_only());
        assert!(cgroup.is_shared() && cgroup.is_read_only() && cgroup.has_super_option("name=systemd"));
        assert!(!cgroup.has_super_option("name=system"));
        assert!(tmpfs.is_read_only(), "the file system as a whole is read-only");
    }

    #[test]
    fn finds_the_mount_of_a_file() {
        assert_eq!(mount_of("pos:\t0\nflags:\t012000000\nmnt_id:\t29\nino:\t2\n"), Some(29));
        assert_eq!(mount_of("pos:\t0\n"), None);
    }

    #[test]
    fn escapes_as_the_kernel_does() {
        for path in ["/a b", "/a\\b", "/a\nb\tc", "/\\040", "/plain"] {
            assert_eq!(unescape(&escape(path.as_bytes())), Path::new(path));
        }
        assert_eq!(unescape(b"/a\\9"), Path::new("/a\\9"));
    }
}
