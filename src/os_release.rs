// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses os-release(5), in which a host or an image identifies its operating system.

/// Returns the value of a field, or `None` if it is missing or empty.
#[must_use]
pub fn field(text: &str, name: &str) -> Option<String> {
    // As in a shell, the last assignment counts.
    text.lines().rev().find_map(|line| {
        let value = line.trim_start().strip_prefix(name)?.strip_prefix('=')?;
        let words = shlex::split(value)?;
        <[String; 1]>::try_from(words).ok().map(|[word]| word).filter(|word| !word.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn reads_fields_as_a_shell_does() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n# ID=no\nID=debian\nVERSION_ID='13'\nVARIANT_ID=\n\
                    VARIANT=a b\nBUILD_ID=old\nBUILD_ID=2026\\-11\nOPEN=\"x\n";
        for (name, value) in [
            ("ID", Some("debian")),
            ("VERSION_ID", Some("13")),
            ("PRETTY_NAME", Some("Debian GNU/Linux 13 (trixie)")),
            ("BUILD_ID", Some("2026-11")),
            ("VARIANT_ID", None),
            ("VARIANT", None),
            ("OPEN", None),
            ("NAME", None),
        ] {
            assert_eq!(field(text, name).as_deref(), value, "{name}");
        }
    }
}
