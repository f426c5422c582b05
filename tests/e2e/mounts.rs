// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses /proc/PID/mountinfo.

/// A mount, as described by one line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    pub point: String,
    pub kind: String,
    pub options: String,
    /// Whether the mount is in a peer group.
    pub shared: bool,
    /// The options of the file system as a whole.
    pub super_options: String,
    /// The directory of the file system that is mounted.
    pub root: String,
}

impl Mount {
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|one| one == option)
    }

    pub fn has_super(&self, option: &str) -> bool {
        self.super_options.split(',').any(|one| one == option)
    }
}

/// Returns all mounts in the kernel's order. If two have the same mount point, the later one covers the other.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let front: Vec<&str> = front.split(' ').collect();
            Some(Mount {
                point: (*front.get(4)?).to_owned(),
                kind: back.split(' ').next()?.to_owned(),
                options: (*front.get(5)?).to_owned(),
                shared: front.iter().skip(6).any(|field| field.starts_with("shared:")),
                super_options: back.split(' ').nth(2)?.to_owned(),
                root: (*front.get(3)?).to_owned(),
            })
        })
        .collect()
}

/// Returns the visible mount at a mount point.
pub fn at<'a>(mounts: &'a [Mount], point: &str) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.point == point)
}
