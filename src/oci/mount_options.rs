// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The options of an entry of config.json's `mounts`: those of mount(8), with the runtimes' own additions. Only the
//! information that matters here is kept.

use serde::{Deserialize, Deserializer};

use super::bounded;

/// The properties that the options set.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MountOptions {
    /// The number of options.
    length: usize,
    /// Whether the last option that sets the access mode is a read-only one. Runtimes take the last
    /// of two contradictory options.
    last_access: Option<bool>,
    last_read_only: Option<usize>,
    /// Whether an option sets the mount's propagation type, mount_namespaces(7).
    pub propagation: bool,
    /// Whether an option requests a bind mount.
    pub bind: bool,
}

impl MountOptions {
    #[must_use]
    pub fn is_read_only(self) -> bool {
        self.last_access == Some(true)
    }

    /// Returns the index of the last option that requests a read-only mount, even if a later option overrides it.
    #[must_use]
    pub fn last_read_only(self) -> Option<usize> {
        self.last_read_only
    }

    fn add(&mut self, option: &str) {
        match option {
            "ro" | "rro" => (self.last_access, self.last_read_only) = (Some(true), Some(self.length)),
            "rw" | "rrw" => self.last_access = Some(false),
            "bind" | "rbind" => self.bind = true,
            _ => {
                let word = option.strip_prefix('r').unwrap_or(option);
                self.propagation |= matches!(word, "private" | "slave" | "shared" | "unbindable");
            }
        }
        self.length += 1;
    }
}

impl<'de> Deserialize<'de> for MountOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut options = Self::default();
        bounded::for_each_text(deserializer, |option| options.add(option.as_ref()))?;
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_word_counts() {
        for (text, is_read_only, last) in [
            ("[]", false, None),
            (r#"["nosuid","ro"]"#, true, Some(1)),
            (r#"["ro","rw"]"#, false, Some(0)),
            (r#"["rro","rw","ro","x"]"#, true, Some(2)),
        ] {
            let options: MountOptions = serde_json::from_str(text).unwrap();
            assert_eq!((options.is_read_only(), options.last_read_only()), (is_read_only, last), "{text}");
        }
        let all = |text| serde_json::from_str::<MountOptions>(text).map(|options| (options.bind, options.propagation));
        assert_eq!(all(r#"["rbind","private"]"#).unwrap(), (true, true));
        assert_eq!(all(r#"["rslave"]"#).unwrap(), (false, true));
        assert_eq!(all(r#"["bind","rprivated"]"#).unwrap(), (true, false));
        assert!(all("[1]").is_err() && all("{}").is_err());
    }
}
