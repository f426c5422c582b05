// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a descriptor's conditions hold for a container.

use super::MatchedContainer;
use super::pattern::{Pattern, TooLarge};

/// The conditions of a descriptor.
#[derive(Debug, Default)]
pub(super) struct When {
    pub(super) always: Option<bool>,
    pub(super) has_bind_mounts: Option<bool>,
    /// Pairs of patterns, for the key and for the value of the same annotation.
    pub(super) annotations: Vec<(Pattern, Pattern)>,
    pub(super) commands: Vec<Pattern>,
    /// Whether one condition is enough, as in version 0.1.0. In 1.0.0, all conditions must hold.
    pub(super) any: bool,
}

/// Why the conditions can't be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum WhenError {
    /// The engines fail the container because of this, even if the hook is not meant for it.
    #[error("process.args is empty, expected at least one entry")]
    NoArguments,
    /// The engines have no such limit.
    #[error(transparent)]
    Pattern(#[from] TooLarge),
}

impl When {
    /// Evaluates the conditions in the same order as the engines.
    ///
    /// `"hasBindMounts": false` never holds: it does not mean "has none". oci-hooks(5) says that `when` is required,
    /// but for the engines a descriptor without it is valid, and its hook never runs.
    pub(super) fn holds(&self, subject: &MatchedContainer<'_>) -> Result<bool, WhenError> {
        let conditions = (self.always.map(Ok).into_iter())
            .chain(self.has_bind_mounts.map(|wanted| Ok(wanted && subject.has_bind_mounts)))
            .chain(self.annotations.iter().map(|wanted| is_annotated(wanted, subject)));
        let mut held = false;
        for holds in conditions {
            match (self.any, holds?) {
                (true, true) => return Ok(true),
                (false, false) => return Ok(false),
                (true, false) => {}
                (false, true) => held = true,
            }
        }
        match subject.args {
            Some(args) if !self.commands.is_empty() => {
                let command = args.first().ok_or(WhenError::NoArguments)?;
                for pattern in &self.commands {
                    if pattern.matches(command)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Some(_) | None => Ok(held),
        }
    }
}

/// Whether there is an annotation whose key and value both match.
fn is_annotated((key, value): &(Pattern, Pattern), subject: &MatchedContainer<'_>) -> Result<bool, WhenError> {
    for (name, text) in subject.annotations {
        if key.matches(name)? && value.matches(text)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;

    const ALL: bool = false;
    const ANY: bool = true;

    fn when(any: bool, always: Option<bool>, mounts: Option<bool>, keys: &[(&str, &str)], commands: &[&str]) -> When {
        let pattern = |text: &str| Pattern::new(text).unwrap();
        When {
            always,
            has_bind_mounts: mounts,
            annotations: keys.iter().map(|(key, value)| (pattern(key), pattern(value))).collect(),
            commands: commands.iter().map(|text| pattern(text)).collect(),
            any,
        }
    }

    /// The container has the command `/sbin/init`, bind mounts, and the annotations a=1 and b=2.
    #[test]
    fn conditions_hold_as_in_the_engines() {
        let annotations = [("a", "1"), ("b", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let args = ["/sbin/init".to_owned()];
        let subject =
            MatchedContainer { args: Some(&args), annotations: &BTreeMap::from(annotations), has_bind_mounts: true };
        let table = [
            (when(ALL, None, None, &[], &[]), false),
            (when(ALL, Some(true), None, &[], &[]), true),
            (when(ALL, Some(false), None, &[], &[]), false),
            (when(ALL, Some(false), Some(true), &[("a", "1")], &["init"]), false),
            (when(ALL, None, Some(true), &[], &[]), true),
            (when(ALL, None, Some(false), &[], &[]), false),
            (when(ALL, Some(true), Some(false), &[], &[]), false),
            (when(ALL, None, None, &[("a", "1")], &[]), true),
            // Key and value must match in the same annotation.
            (when(ALL, None, None, &[("a", "2")], &[]), false),
            (when(ALL, None, None, &[(".", "2")], &[]), true),
            (when(ALL, None, None, &[("a", "1"), ("b", "2")], &[]), true),
            (when(ALL, None, None, &[("a", "1"), ("b", "3")], &[]), false),
            // Patterns match anywhere in the string.
            (when(ALL, None, None, &[("", "")], &["bin"]), true),
            (when(ALL, None, None, &[], &["^init", "init$"]), true),
            (when(ALL, Some(true), None, &[], &["^init"]), false),
            (when(ALL, None, None, &[("a", "3")], &["init"]), false),
            (when(ANY, None, None, &[], &[]), false),
            (when(ANY, None, Some(false), &[], &["^init"]), false),
            (when(ANY, None, Some(false), &[], &["init"]), true),
            (when(ANY, None, Some(true), &[("c", "")], &["^init"]), true),
            (when(ANY, None, None, &[("c", ""), ("b", "2")], &["^init"]), true),
            (when(ANY, None, None, &[("c", "")], &[]), false),
        ];
        for (when, expected) in table {
            assert_eq!(when.holds(&subject).unwrap(), expected, "{when:?}");
        }
    }

    #[test]
    fn a_command_is_looked_at_last() {
        let annotations = BTreeMap::new();
        let without = |args| MatchedContainer { args, annotations: &annotations, has_bind_mounts: true };
        let table = [
            // Without a process, commands are ignored.
            (when(ALL, None, Some(true), &[], &["init"]), None, Some(true)),
            (when(ALL, None, None, &[], &["init"]), None, Some(false)),
            (when(ANY, None, Some(true), &[], &["init"]), None, Some(true)),
            // The process has no arguments.
            (when(ALL, None, Some(true), &[], &["init"]), Some(&[][..]), None),
            (when(ALL, None, Some(false), &[], &["init"]), Some(&[]), Some(false)),
            (when(ALL, None, Some(true), &[], &[]), Some(&[]), Some(true)),
            (when(ANY, None, Some(true), &[], &["init"]), Some(&[]), Some(true)),
            (when(ANY, None, Some(false), &[], &["init"]), Some(&[]), None),
        ];
        for (when, args, expected) in table {
            match (when.holds(&without(args)), expected) {
                (Ok(holds), Some(expected)) => assert_eq!(holds, expected, "{when:?} {args:?}"),
                (Err(WhenError::NoArguments), None) => {}
                other => panic!("{other:?}: {when:?} {args:?}"),
            }
        }
    }
}
