// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a container's author can choose by annotations, and what of it the host lets count.

use std::fmt;

use super::Layout;
use crate::interface::MIB;

/// What the keys of options begin with.
pub const PREFIX: &str = "oci-systemd-hook.";

/// One option, by the end of its annotation's key.
///
/// All count by default, since they give a pod's author nothing that a pod doesn't give anyway: a tmpfs is never larger
/// than the container's memory, as an `emptyDir` in memory may be; and a layout of cgroups is what an image gets as well
/// that has an older systemd in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The layout of cgroups.
    Cgroup,
    /// The size of the tmpfs on /var/log/journal.
    JournalSize,
    /// The size of the tmpfs on /run.
    RunSize,
    /// What `oci-hooks-runtime` makes of the signal by which the engine stops the container.
    StopSignal,
    /// The size of the tmpfs on /tmp.
    TmpSize,
}

impl Key {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cgroup, Self::JournalSize, Self::RunSize, Self::StopSignal, Self::TmpSize];

    /// Reads the part after [`PREFIX`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The annotation's whole key.
    #[must_use]
    pub fn annotation(self) -> &'static str {
        match self {
            Self::Cgroup => "oci-systemd-hook.cgroup",
            Self::JournalSize => "oci-systemd-hook.journal-size",
            Self::RunSize => "oci-systemd-hook.run-size",
            Self::StopSignal => "oci-systemd-hook.stop-signal",
            Self::TmpSize => "oci-systemd-hook.tmp-size",
        }
    }

    /// The part after [`PREFIX`].
    #[must_use]
    pub fn name(self) -> &'static str {
        self.annotation().strip_prefix(PREFIX).unwrap_or_default()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.annotation())
    }
}

/// Whether v1's name=systemd is created for a container that may have CAP_SYS_ADMIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V1WithSysAdmin {
    /// The container is refused.
    Refused,
    /// The hierarchy is created.
    Allowed,
}

/// How many cgroups a container may make below its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupsMax {
    /// At most this many.
    Of(u32),
    /// No limit.
    Unlimited,
}

impl CgroupsMax {
    /// A hundred times as many as a container with a few hundred services has. Each cgroup takes some 6 KiB of kernel
    /// memory, most of which isn't charged to the container.
    const DEFAULT: u32 = 16_384;

    /// Reads a number from 1 to 2147483647 (the kernel's `cgroup.max.descendants` is an `int`), or `max` for no limit.
    /// Returns `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "max" => Some(Self::Unlimited),
            // Not what from_str takes besides: a sign.
            _ if text.starts_with('+') => None,
            _ => text.parse().ok().filter(|number| *number > 0 && i32::try_from(*number).is_ok()).map(Self::Of),
        }
    }
}

/// What the host's administrator allows, from the hook's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The annotation options that are honored.
    pub allowed: Vec<Key>,
    /// What to do about a container that may have CAP_SYS_ADMIN and needs v1's name=systemd.
    pub v1_with_sys_admin: V1WithSysAdmin,
    /// How many cgroups a container may make below its own.
    pub cgroups_max: CgroupsMax,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            allowed: Key::ALL.into(),
            v1_with_sys_admin: V1WithSysAdmin::Refused,
            cgroups_max: CgroupsMax::Of(CgroupsMax::DEFAULT),
        }
    }
}

impl Policy {
    /// The default policy, but with only these annotation options.
    #[must_use]
    pub fn only(allowed: Vec<Key>) -> Self {
        Self { allowed, ..Self::default() }
    }

    /// Whether this one counts.
    #[must_use]
    pub fn allows(&self, key: Key) -> bool {
        self.allowed.contains(&key)
    }
}

/// The size of a tmpfs, as in tmpfs(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// In bytes.
    Bytes(u64),
    /// Of the container's memory.
    Percent(u8),
}

impl Size {
    /// Reads `512m`, `1g`, `8192k`, a number of bytes or `20%`; at least a mebibyte, since 0 would be no limit at all.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        // Not what from_str takes besides: a sign.
        let number: u64 = digits.parse().ok().filter(|number| *number > 0 && !digits.starts_with('+'))?;
        let shift = match text.strip_prefix(digits)? {
            "%" => return u8::try_from(number).ok().filter(|percent| *percent <= 100).map(Self::Percent),
            "" => 0,
            "k" | "K" => 10,
            "m" | "M" => 20,
            "g" | "G" => 30,
            _ => return None,
        };
        number.checked_mul(1 << shift).filter(|bytes| *bytes >= MIB).map(Self::Bytes)
    }
}

/// A choice, and the annotation that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen<T> {
    /// What.
    pub value: T,
    /// The whole key.
    pub key: String,
}

/// What the author chose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// A layout of cgroups.
    pub cgroup: Option<Chosen<Layout>>,
    /// The size of the tmpfs on /var/log/journal.
    pub journal_size: Option<Chosen<Size>>,
    /// The size of the tmpfs on /run.
    pub run_size: Option<Chosen<Size>>,
    /// The size of the tmpfs on /tmp.
    pub tmp_size: Option<Chosen<Size>>,
    /// Whether the engine's stop signal reaches systemd as it was sent.
    pub keeps_stop_signal: bool,
    /// Which count on this host.
    pub policy: Policy,
    /// The annotations' keys that don't.
    pub not_allowed: Vec<String>,
}

/// An annotation that can't be followed: a typing error must not look like a choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such key.
    #[error(
        "the annotation {0:?} is no option of this hook; there are {PREFIX}cgroup, {PREFIX}journal-size, \
         {PREFIX}run-size, {PREFIX}stop-signal and {PREFIX}tmp-size"
    )]
    Key(String),
    /// Not a layout.
    #[error("the annotation {key} is {value:?}: it must be `legacy`, `hybrid` or `unified`")]
    Layout {
        /// The whole key.
        key: String,
        /// What it says.
        value: String,
    },
    /// Not what can be done with a signal.
    #[error("the annotation {key} is {value:?}: it must be `unchanged`")]
    StopSignal {
        /// The whole key.
        key: String,
        /// What it says.
        value: String,
    },
    /// Not a size.
    #[error(
        "the annotation {key} is {value:?}: it must be a number of bytes with or without `k`, `m` or `g` behind it, at \
         least `1m`, or a percentage of the container's memory, as in `512m` or `20%`"
    )]
    Size {
        /// The whole key.
        key: String,
        /// What it says.
        value: String,
    },
}

impl Options {
    /// Takes one in. `key` is as the author wrote it.
    pub fn set(&mut self, option: Key, key: String, value: &str) -> Result<(), OptionError> {
        let place = match option {
            Key::Cgroup => {
                let Some(layout) = Layout::parse(value) else {
                    return Err(OptionError::Layout { key, value: value.to_owned() });
                };
                self.cgroup = Some(Chosen { value: layout, key });
                return Ok(());
            }
            Key::StopSignal => {
                self.keeps_stop_signal = value == "unchanged";
                let value = value.to_owned();
                return if self.keeps_stop_signal { Ok(()) } else { Err(OptionError::StopSignal { key, value }) };
            }
            Key::JournalSize => &mut self.journal_size,
            Key::RunSize => &mut self.run_size,
            Key::TmpSize => &mut self.tmp_size,
        };
        let Some(size) = Size::parse(value) else {
            return Err(OptionError::Size { key, value: value.to_owned() });
        };
        *place = Some(Chosen { value: size, key });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_as_tmpfs_does() {
        for (text, size) in [
            ("1048576", Some(Size::Bytes(1 << 20))),
            ("1048575", None),
            ("1024k", Some(Size::Bytes(1 << 20))),
            ("64k", None),
            ("512m", Some(Size::Bytes(512 << 20))),
            ("512M", Some(Size::Bytes(512 << 20))),
            ("2g", Some(Size::Bytes(2 << 30))),
            ("1%", Some(Size::Percent(1))),
            ("100%", Some(Size::Percent(100))),
            ("101%", None),
            ("0%", None),
            ("0", None),
            ("0m", None),
            ("", None),
            ("m", None),
            ("-1", None),
            ("+1", None),
            ("1.5g", None),
            ("64Mi", None),
            ("64 m", None),
            ("64m,mode=777", None),
            ("18446744073709551615", Some(Size::Bytes(u64::MAX))),
            ("18446744073709551615k", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(Size::parse(text), size, "{text:?}");
        }
    }

    #[test]
    fn reads_numbers_of_cgroups() {
        for (text, expected) in [
            ("16384", Some(CgroupsMax::Of(16384))),
            ("1", Some(CgroupsMax::Of(1))),
            ("2147483647", Some(CgroupsMax::Of(i32::MAX as u32))),
            ("2147483648", None),
            ("0", None),
            ("max", Some(CgroupsMax::Unlimited)),
            ("+5", None),
            ("-1", None),
            ("", None),
            ("1k", None),
        ] {
            assert_eq!(CgroupsMax::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn each_option_has_its_key() {
        for key in Key::ALL {
            assert_eq!(Key::parse(key.name()), Some(key));
            assert!(OptionError::Key(String::new()).to_string().contains(&key.to_string()), "{key}");
        }
        assert_eq!(Key::parse("run-szie"), None);
    }
}
