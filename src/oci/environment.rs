// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `process.env`: of thousands of variables, only the few that matter here are kept.

use serde::{Deserialize, Deserializer};

use super::bounded;

/// The names of all variables that this program reads.
const KEPT_VARIABLES: [&str; 8] = [
    "PATH",
    "container",
    "container_uuid",
    "container_host_id",
    "container_host_version_id",
    "container_host_build_id",
    "container_host_variant_id",
    "oci-systemd-hook",
];

#[derive(Debug, Default)]
pub struct Environment([Option<Box<str>>; KEPT_VARIABLES.len()]);

impl Environment {
    /// Returns a variable's value. If a name occurs more than once, the last entry wins, as in a shell.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = KEPT_VARIABLES.iter().position(|known| *known == name);
        debug_assert!(at.is_some(), "{name} is missing in KEPT_VARIABLES");
        self.0.get(at?)?.as_deref()
    }

    fn keep(&mut self, entry: &str) {
        /// A longer string can't be passed to a program: `MAX_ARG_STRLEN`, execve(2).
        const LONGEST_BYTES: usize = 128 * 1024;
        let Some((name, value)) = entry.split_once('=').filter(|_| entry.len() < LONGEST_BYTES) else { return };
        let of_that_name = KEPT_VARIABLES.iter().zip(&mut self.0).find(|(known, _)| **known == name);
        if let Some((_, kept)) = of_that_name {
            *kept = Some(value.into());
        }
    }
}

impl<'de> Deserialize<'de> for Environment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut environment = Self::default();
        bounded::for_each_text(deserializer, |entry| environment.keep(entry.as_ref()))?;
        Ok(environment)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_of_a_name_counts() {
        let text = r#"["PATH=/a","X=1","container=","container","PATH=/b=\u0063","PATHS=/d","PAT"]"#;
        let environment: Environment = serde_json::from_str(text).unwrap();
        assert_eq!(environment.get("PATH"), Some("/b=c"));
        assert_eq!(environment.get("container"), Some(""));
        assert_eq!(environment.get("container_uuid"), None);
    }

    #[test]
    fn what_no_program_can_be_given_is_not_kept() {
        for (length, is_kept) in [(100, true), (128 * 1024 - 11, true), (128 * 1024 - 10, false)] {
            let text = serde_json::json!(["container=first", format!("container={}", "x".repeat(length))]).to_string();
            let environment: Environment = serde_json::from_str(&text).unwrap();
            assert_eq!(environment.get("container").map(|value| value.len() == length), Some(is_kept), "{length}");
        }
    }

    #[test]
    fn what_is_no_text_is_an_error() {
        for text in ["[1]", "[null]", "{}", "7", "[\"A=1\",[]]"] {
            assert!(serde_json::from_str::<Environment>(text).is_err(), "{text}");
        }
    }
}
