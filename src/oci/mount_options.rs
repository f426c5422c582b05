// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The options of one of config.json's mounts: as in mount(8), with the runtimes' own additions. Only what matters here is
//! kept of them.

use serde::{Deserialize, Deserializer};

use super::bounded;

/// What the options say.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MountOptions {
    /// How many they are.
    length: usize,
    /// Of two that contradict each other, runtimes take the last.
    last_access: Option<bool>,
    last_read_only: Option<usize>,
    /// Whether they say how mounts below it are passed on, mount_namespaces(7).
    pub propagation: bool,
    /// Whether it shows what is mounted elsewhere.
    pub bind: bool,
}

impl MountOptions {
    /// Whether the mount is to be read-only.
    #[must_use]
    pub fn is_read_only(self) -> bool {
        self.last_access == Some(true)
    }

    /// The number of the last option that makes it so.
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
