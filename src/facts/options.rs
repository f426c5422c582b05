// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The options that a container's author can set by annotations, and which of them the host honors.

use std::collections::BTreeMap;
use std::fmt;

use super::Layout;
use crate::interface::MIB;

/// The common prefix of the options' annotation keys.
pub const PREFIX: &str = "oci-systemd-hook.";

/// The definition of an option.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The annotation's full key, which begins with [`PREFIX`].
    pub annotation: &'static str,
    /// The values that it may have.
    pub kind: Kind,
    /// What the option changes, for `--help`.
    pub doc: &'static str,
    /// The behavior without the option, for `--help`, which puts "by default" in front of it. The numbers
    /// themselves are in [`crate::interface`].
    pub default: &'static str,
}

/// Generates [`Key`] from the table of options.
macro_rules! options {
    ($($key:ident { $($spec:tt)* })*) => {
        /// An option that annotations can set.
        ///
        /// All options are honored by default, since they give a pod's author nothing that a pod doesn't allow
        /// anyway: a tmpfs is never larger than the container's memory, just like an `emptyDir` in memory; and an
        /// image with an older systemd gets the same cgroup layouts without any option.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        // The table of options documents the variants.
        #[allow(missing_docs)]
        pub enum Key { $($key),* }

        impl Key {
            /// All options, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$key),*];

            /// Returns the option's definition.
            #[must_use]
            pub const fn spec(self) -> Spec {
                match self { $(Self::$key => Spec { $($spec)* }),* }
            }
        }
    };
}

// Error messages and --help take their lists and descriptions from this table, and tests/man.rs compares the
// manual page with it.
options! {
    Cgroup {
        annotation: "oci-systemd-hook.cgroup",
        kind: Kind::Layout,
        doc: "the layout of cgroups: legacy, hybrid or unified",
        default: "it depends on the version of the image's systemd and on what the runtime mounted",
    }
    JournalSize {
        annotation: "oci-systemd-hook.journal-size",
        kind: Kind::Size,
        doc: "the size of the tmpfs on /var/log/journal, as in 512m or 20%",
        default: "10% of the container's memory, at least 16 MiB",
    }
    RunSize {
        annotation: "oci-systemd-hook.run-size",
        kind: Kind::Size,
        doc: "the size of the tmpfs on /run",
        default: "20% of the container's memory, at least 64 MiB",
    }
    StopSignal {
        annotation: "oci-systemd-hook.stop-signal",
        kind: Kind::Word("unchanged"),
        doc: "with the value unchanged, oci-hooks-runtime passes on the engine's stop signal",
        default: "it is replaced by one on which systemd shuts down",
    }
    TmpSize {
        annotation: "oci-systemd-hook.tmp-size",
        kind: Kind::Size,
        doc: "the size of the tmpfs on /tmp",
        default: "50% of the container's memory",
    }
}

impl Key {
    /// Parses an option's name, which is the part of the key after [`PREFIX`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.name() == name)
    }

    /// Returns the annotation's full key.
    #[must_use]
    pub fn annotation(self) -> &'static str {
        self.spec().annotation
    }

    /// Returns the part of the key after [`PREFIX`].
    #[must_use]
    pub fn name(self) -> &'static str {
        self.annotation().strip_prefix(PREFIX).unwrap_or_default()
    }
}

/// The values that an option may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Layout,
    /// The size of a tmpfs.
    Size,
    /// A single keyword, which switches something on.
    Word(&'static str),
}

/// A parsed value of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Layout(Layout),
    Size(Size),
    Word,
}

impl Kind {
    fn read(self, text: &str) -> Option<Value> {
        match self {
            Self::Layout => Layout::parse(text).map(Value::Layout),
            Self::Size => Size::parse(text).map(Value::Size),
            Self::Word(word) => (text == word).then_some(Value::Word),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout => f.write_str("`legacy`, `hybrid` or `unified`"),
            Self::Size => f.write_str(
                "a number of bytes, optionally followed by `k`, `m` or `g`, of at least `1m`, or a percentage of the \
                 container's memory, as in `512m` or `20%`",
            ),
            Self::Word(word) => write!(f, "`{word}`"),
        }
    }
}

/// Whether the hook creates v1's name=systemd for a container that may have CAP_SYS_ADMIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V1WithSysAdmin {
    Refused,
    Allowed,
}

/// The maximum number of cgroups that a container may create below its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupsMax {
    /// At most this many.
    Of(u32),
    Unlimited,
}

impl CgroupsMax {
    /// About a hundred times the number of cgroups of a container with a few hundred services. Each cgroup takes
    /// some 6 KiB of kernel memory, most of which isn't charged to the container.
    const DEFAULT: u32 = 16_384;

    /// Parses a number from 1 to 2147483647 (the kernel's `cgroup.max.descendants` is an `int`), or `max` for no
    /// limit. Returns `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "max" => Some(Self::Unlimited),
            // Unlike from_str, a leading plus sign isn't accepted.
            _ if text.starts_with('+') => None,
            _ => text.parse().ok().filter(|number| *number > 0 && i32::try_from(*number).is_ok()).map(Self::Of),
        }
    }
}

/// What the host's administrator allows, as set by the hook's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The annotation options that are honored.
    pub allowed: Vec<Key>,
    /// Whether v1's name=systemd is created for a container that needs it and may have CAP_SYS_ADMIN.
    pub v1_with_sys_admin: V1WithSysAdmin,
    /// The maximum number of cgroups that a container may create below its own.
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
    /// Returns the default policy, but with only these options allowed.
    #[must_use]
    pub fn only(allowed: Vec<Key>) -> Self {
        Self { allowed, ..Self::default() }
    }

    /// Whether the option is honored.
    #[must_use]
    pub fn allows(&self, key: Key) -> bool {
        self.allowed.contains(&key)
    }
}

/// The size of a tmpfs, as in tmpfs(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Bytes(u64),
    /// A percentage of the container's memory.
    Percent(u8),
}

impl Size {
    /// Parses `512m`, `1g`, `8192k`, a number of bytes, or `20%`. Sizes below one MiB are rejected, since 0 would
    /// mean no limit at all.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        // Unlike from_str, a leading plus sign isn't accepted.
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

/// The value of an option, and the annotation that set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionChoice<'a, T> {
    pub value: T,
    /// The annotation's key as the author wrote it, which may name one container of a pod.
    pub key: &'a str,
}

/// The options that the container's author set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Each option that is set, with the annotation's key as the container's author wrote it.
    chosen: BTreeMap<Key, (String, Value)>,
    /// The host's policy, which determines the options that are honored.
    pub policy: Policy,
    /// The keys of annotations that the policy doesn't allow.
    pub not_allowed: Vec<String>,
}

/// An annotation that is invalid. This is an error, since a typo must not pass for a choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No option has this key.
    #[error("invalid annotation {0:?} (expected one of: {all})", all = list(Key::annotation))]
    Key(String),
    /// The value isn't valid for this option.
    #[error("the annotation {key} is {value:?}: it must be {kind}")]
    Value { key: String, value: String, kind: Kind },
}

/// Returns the names of all options as a comma-separated list, for messages.
#[must_use]
pub fn list(name: fn(Key) -> &'static str) -> String {
    Key::ALL.iter().map(|key| name(*key)).collect::<Vec<_>>().join(", ")
}

impl Options {
    /// Returns options with none set.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Parses the value of an option and sets it. `key` is the annotation's key as the author wrote it.
    pub fn set(&mut self, option: Key, key: String, value: &str) -> Result<(), OptionError> {
        let kind = option.spec().kind;
        let Some(read) = kind.read(value) else {
            return Err(OptionError::Value { key, value: value.to_owned(), kind });
        };
        self.chosen.insert(option, (key, read));
        Ok(())
    }

    #[must_use]
    pub fn layout(&self) -> Option<OptionChoice<'_, Layout>> {
        match self.chosen.get(&Key::Cgroup)? {
            (key, Value::Layout(value)) => Some(OptionChoice { value: *value, key }),
            _ => None,
        }
    }

    /// Returns the tmpfs size that `option` sets.
    #[must_use]
    pub fn size(&self, option: Key) -> Option<OptionChoice<'_, Size>> {
        match self.chosen.get(&option)? {
            (key, Value::Size(value)) => Some(OptionChoice { value: *value, key }),
            _ => None,
        }
    }

    /// Whether the engine's stop signal is passed on to systemd unchanged.
    #[must_use]
    pub fn keeps_stop_signal(&self) -> bool {
        self.chosen.contains_key(&Key::StopSignal)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
    fn each_option_is_found_by_its_name() {
        for key in Key::ALL.iter().copied() {
            assert!(key.annotation().starts_with(PREFIX), "{key:?}");
            assert_eq!(Key::parse(key.name()), Some(key));
        }
        assert_eq!(Key::parse("run-szie"), None);
    }

    #[test]
    fn what_is_set_can_be_asked_for() {
        let mut options = Options::default();
        assert!(options.layout().is_none() && options.size(Key::RunSize).is_none() && !options.keeps_stop_signal());
        for (option, key, value) in [
            (Key::Cgroup, "oci-systemd-hook.cgroup", "legacy"),
            (Key::RunSize, "oci-systemd-hook.run-size/web", "64m"),
            (Key::StopSignal, "oci-systemd-hook.stop-signal", "unchanged"),
        ] {
            options.set(option, key.to_owned(), value).unwrap();
        }
        assert_eq!(options.layout(), Some(OptionChoice { value: Layout::Legacy, key: "oci-systemd-hook.cgroup" }));
        let size = OptionChoice { value: Size::Bytes(64 << 20), key: "oci-systemd-hook.run-size/web" };
        assert_eq!((options.size(Key::RunSize), options.size(Key::TmpSize)), (Some(size), None));
        assert!(options.keeps_stop_signal());
    }

    #[test]
    fn an_error_lists_what_is_expected() {
        assert_eq!(
            OptionError::Key("oci-systemd-hook.run-szie".to_owned()).to_string(),
            "invalid annotation \"oci-systemd-hook.run-szie\" (expected one of: oci-systemd-hook.cgroup, \
             oci-systemd-hook.journal-size, oci-systemd-hook.run-size, oci-systemd-hook.stop-signal, \
             oci-systemd-hook.tmp-size)"
        );
        let mut options = Options::default();
        for (key, expected) in [
            (Key::Cgroup, "it must be `legacy`, `hybrid` or `unified`"),
            (
                Key::RunSize,
                "it must be a number of bytes, optionally followed by `k`, `m` or `g`, of at least `1m`, or a ",
            ),
            (Key::StopSignal, "it must be `unchanged`"),
        ] {
            let error = options.set(key, format!("{}/web", key.annotation()), "x").unwrap_err().to_string();
            let begin = format!("the annotation {}/web is \"x\": {expected}", key.annotation());
            assert!(error.starts_with(&begin), "{error}");
        }
        assert_eq!(options, Options::default());
    }
}
