// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses SELinux contexts and their levels, such as `s0:c1,c5.c9`.

/// A security context, `user:role:type:level`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The context as a whole.
    pub text: String,
    pub kind: String,
    /// The level or range of levels. Empty if the policy has none.
    pub level: String,
}

impl Label {
    /// Parses a context. The parts that it doesn't have are empty.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(4, ':').skip(2).map(str::to_owned);
        let (kind, level) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        Self { text: text.to_owned(), kind, level }
    }

    /// Returns the same context with another level.
    #[must_use]
    pub fn at_level(&self, level: &str) -> Self {
        let without = self.text.strip_suffix(&self.level).unwrap_or(&self.text);
        Self::parse(&format!("{without}{level}"))
    }
}

/// Whether a process at one level may write a file at another: its sensitivity must be the same or higher, and it
/// must have all of the file's categories. Returns `None` if a level is written in some other way.
#[must_use]
pub fn dominates(process: &str, file: &str) -> Option<bool> {
    let (process, file) = (MlsLevel::parse(process)?, MlsLevel::parse(file)?);
    let holds = |category: u32| process.categories.iter().any(|(first, last)| (*first..=*last).contains(&category));
    let all = file.categories.iter().all(|(first, last)| (*first..=*last).all(holds));
    Some(process.sensitivity >= file.sensitivity && all)
}

/// The upper end of a range of levels.
struct MlsLevel {
    sensitivity: u32,
    categories: Vec<(u32, u32)>,
}

impl MlsLevel {
    fn parse(range: &str) -> Option<Self> {
        /// An upper bound for the number of categories in a policy.
        const CATEGORIES_MAX: u32 = 4096;
        let number = |text: &str, letter: char| text.strip_prefix(letter)?.parse::<u32>().ok();
        let level = range.rsplit('-').next()?;
        let (sensitivity, categories) = level.split_once(':').unwrap_or((level, ""));
        let span = |text: &str| {
            let (first, last) = text.split_once('.').unwrap_or((text, text));
            Some((number(first, 'c')?, number(last, 'c').filter(|last| *last < CATEGORIES_MAX)?))
        };
        let categories = categories.split(',').filter(|text| !text.is_empty()).map(span).collect::<Option<_>>()?;
        Some(Self { sensitivity: number(sensitivity, 's')?, categories })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_contexts() {
        let parts = |text| {
            let Label { kind, level, .. } = Label::parse(text);
            (kind, level)
        };
        let pair = |kind: &str, level: &str| (kind.to_owned(), level.to_owned());
        assert_eq!(parts("system_u:object_r:container_file_t:s0:c1,c2"), pair("container_file_t", "s0:c1,c2"));
        assert_eq!(parts("u:r:t:s0-s0:c0.c1023"), pair("t", "s0-s0:c0.c1023"));
        assert_eq!(parts("u:r:t"), pair("t", ""));
        assert_eq!(parts("nonsense"), pair("", ""));
    }

    #[test]
    fn changes_levels() {
        let at = |text, level| Label::parse(text).at_level(level).text;
        assert_eq!(at("u:r:t:s0:c1,c2", "s1"), "u:r:t:s1");
        assert_eq!(at("u:r:t", ""), "u:r:t");
    }

    #[test]
    fn compares_levels() {
        for (process, file, expected) in [
            ("s0:c1,c2", "s0:c1,c2", Some(true)),
            ("s0:c2,c1", "s0:c1,c2", Some(true)),
            ("s0:c1,c2", "s0", Some(true)),
            ("s0", "s0:c1", Some(false)),
            ("s0:c1,c2", "s0:c1,c3", Some(false)),
            ("s0-s0:c0.c1023", "s0:c1,c1023", Some(true)),
            ("s0-s0:c0.c99", "s0:c90.c100", Some(false)),
            ("s1", "s0", Some(true)),
            ("s0", "s1", Some(false)),
            ("SystemLow", "s0", None),
            ("s0", "s0:c1.c99999", None),
            ("", "s0", None),
        ] {
            assert_eq!(dominates(process, file), expected, "{process} {file}");
        }
    }
}
