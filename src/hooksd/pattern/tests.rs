// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How Go's regexp interprets each pattern. Most of them are patterns that the crate interprets differently.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

#[test]
fn matches_where_go_does() {
    // Each row has a pattern, strings that it matches, and strings that it doesn't match.
    let table: &[(&str, &[&str], &[&str])] = &[
        ("", &["", "a"], &[]),
        // Patterns as real descriptors have them.
        (".*/init$", &["/sbin/init"], &["/sbin/init2", "init"]),
        ("^.*/systemd$", &["/usr/lib/systemd/systemd"], &["systemd"]),
        ("(^|/)(init|systemd)$", &["/sbin/init", "systemd"], &["/sbin/initctl"]),
        (r"^/usr/(s)?bin/(skopeo|umoci)$", &["/usr/sbin/umoci"], &["/usr/bin/umoci2"]),
        (r"/python[23](\.[0-9]+)?$", &["/usr/bin/python3.12"], &["/usr/bin/python4"]),
        (r"^com\.nvidia\.(cdi|gpu)\..*$", &["com.nvidia.gpu.x"], &["com-nvidia-gpu-x"]),
        (r"^[a-zA-Z0-9_.-]+/[\w.-]+$", &["a-b/c.d"], &["a/é"]),
        (r"^\d{1,3}(,\d{1,3})*$", &["1,22,333"], &["1,2222", "٣"]),
        // A match may be anywhere in the string, and `$` matches only at the end of the string.
        ("b", &["abc"], &["a"]),
        ("b$", &["ab"], &["b\n", "b\na"]),
        (r"^a|b$", &["ac", "cb"], &["ca", "bc"]),
        (r"\Aa\z", &["a"], &["a\n", "ba"]),
        // Flags, and the scope of flags.
        ("(?m)^b$", &["a\nb\nc"], &["ab"]),
        ("(?m)a\\z", &["b\na"], &["a\nb"]),
        ("(?m:^b)|^c", &["a\nb"], &["a\nc"]),
        ("^.$", &["a", "é"], &["\n", "ab"]),
        ("(?s)^.$", &["\n"], &[""]),
        ("((?i)a)b", &["Ab"], &["AB"]),
        ("(a|(?i)b|c)d", &["Bd", "Cd"], &["Ad"]),
        ("(?i-s:A)A", &["aA"], &["aa"]),
        ("(?i)(?-i)A", &["A"], &["a"]),
        ("(?U)^a*?$", &["aa"], &["b"]),
        // Classes are ASCII, except for the letters that case folding adds.
        (r"^\d$", &["7"], &["٧"]),
        (r"^\D$", &["٧"], &["7"]),
        (r"^\w$", &["a", "_"], &["é", "ſ"]),
        (r"(?i)^\w$", &["a", "ſ", "\u{212a}"], &["é"]),
        (r"(?i)^\W$", &["é"], &["a", "ſ"]),
        (r"(?i)^[^\W]$", &["ſ"], &["é"]),
        (r"^\s$", &["\t", "\x0c", " "], &["\x0b", "\u{a0}"]),
        (r"^\S$", &["\x0b", "\u{a0}"], &["\t"]),
        (r"^[\d\s-]$", &["7", " ", "-"], &["\x0b", "٧"]),
        (r"^[^\D]\w+é\d$", &["7aé7"], &["7éé7"]),
        ("^[[:space:]]$", &["\x0b"], &["\u{a0}"]),
        (r"\bé", &["aé"], &["é"]),
        (r"^\Bé", &["é"], &["aé"]),
        ("(?i)^k$", &["K", "\u{212a}"], &["c"]),
        ("(?i)^[^s]$", &["k"], &["S", "ſ"]),
        ("(?i)[[:^lower:]]", &["1"], &["A", "ſ"]),
        ("[^a]", &["\n"], &["a"]),
        // Classes in brackets.
        ("^[a&b~c]$", &["&", "~"], &["d"]),
        ("^[]a]$", &["]"], &["b"]),
        ("^[^]a]$", &["b"], &["]"]),
        ("^[]-]$", &["]", "-"], &["^"]),
        ("^[a-]$", &["-"], &["b"]),
        ("^[-a-c]$", &["-", "b"], &["d"]),
        ("^[a-c-e]$", &["-", "e"], &["d"]),
        (r"^[+-\-]$", &["+", ",", "-"], &["."]),
        (r"^[\--/]$", &["-", ".", "/"], &[","]),
        ("^[[:alpha:]-z]$", &["-", "q"], &["1"]),
        ("^[:alpha:]$", &[":", "h"], &["b"]),
        (r"[^\x{0}-\x{10FFFF}]", &[], &["", "a"]),
        (r"^[\x{d7ff}-\x{e000}]$", &["\u{d7ff}", "\u{e000}"], &["\u{fffd}"]),
        // Escapes.
        (r"^\x41\x{00041}$", &["AA"], &["A"]),
        (r"\-\_\!\ \/\~\&", &["-_! /~&"], &[]),
        (r"\a|\f|\v", &["\x07", "\x0b"], &["a"]),
        // Unicode classes.
        (r"^\pLu$", &["au"], &["u"]),
        (r"^\p{Greek}\P{Greek}$", &["Ωa"], &["aΩ"]),
        (r"^[^\p{Greek}a]$", &["b"], &["Ω", "a"]),
        (r"(?i)^\p{Lu}$", &["a"], &["1"]),
        (r"^\p{Any}\p{Thai}\p{Nd}$", &["éไ٣"], &["éaa"]),
        // Repetitions.
        ("^a{2}b{0}$", &["aa"], &["aab"]),
        ("^}]$", &["}]"], &[]),
        ("^(a|)*$", &["", "aa"], &["b"]),
        ("(?:a*)+$", &["b"], &[]),
        ("^*a", &["ba"], &["b"]),
        ("^a{1,2}?$", &["aa"], &["aaa"]),
        ("((a{10}){10}){10}", &[], &["a"]),
        ("(a{0,}){1000}", &["b"], &[]),
        // Groups, including empty ones.
        ("(|a)|", &["b"], &[]),
        ("()(?:)", &["a"], &[]),
        ("^(?P<n>a)(?<n_1>c)$", &["ac"], &["a"]),
    ];
    for (pattern, matching, others) in table {
        let compiled = Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for text in *matching {
            assert!(compiled.matches(text).unwrap(), "{pattern:?} {text:?}");
        }
        for text in *others {
            assert!(!compiled.matches(text).unwrap(), "{pattern:?} {text:?}");
        }
    }
}

/// The crate accepts all of these patterns, and Go accepts some of them. Each row has a part of the
/// error message, and patterns.
#[test]
fn refuses_what_go_reads_differently() {
    let table = [
        ("no set operations", "[a&&b] [+--] [a~~b] [^&&]"),
        ("no nested classes", "^[[a]b]$ [[.a.]] [[:foo:]] [[:ALPHA:]] [[:a]b:] [[::]]"),
        ("as a range", "[--/] [^--/] []--a] []-a] [^]-a]"),
        ("flags i, m, s and U", "(?x)ab (?u)a (?R)a a(?i-u:b) (?-u)a"),
        ("a group's name", "(?P<é>a) (?P<n.m>a) (?<n[0]>a)"),
        (r"neither \u nor \U", r"\u0041 \u{41} \U00000041 [\u0041] [A-\u{5a}] [\U{41}-Z]"),
        ("no such word boundary", r"\<a\> a\> \b{start}a \b{end-half}"),
        ("put the inner repetition into", "a** a*+ a*?? a++ a??? a{2}{3} a{2}* a*{2} (a{500}){2}{1}"),
        ("as a count", "a{\t1} a{1\t} a{1,\t2} a{01} a{1,02}? a{007,} a+{02}"),
        ("at most 1000", "a{1001} a{1,1001} a{1001,} (a{100}){11} ((a{10}){10}){11} (a{2,}){501}"),
        ("at most 1000", "((a{1000})*){2} (a|b{600}|c){2} (?:ab{501}c){0,2} ((a{1000}){0}){1000}"),
        (
            "not every version of Go supports this",
            r"\p{Alphabetic} \p{Emoji} \p{IsGreek} \p{Isgreek} \p{Grek} \p{greek} \p{éGreek}",
        ),
        (
            "not every version of Go supports this",
            r"\p{sc=Greek} \p{gc!=Lu} \p{Old_Italic} \p{Letter} \p{lu} \p{^Greek} \p{}",
        ),
        ("not every version of Go supports this", r"\pC \pé \p^ [\p{Foo}] [^\P{Cs}]"),
    ];
    for (reason, patterns) in table {
        for pattern in patterns.split(' ') {
            let fault = Pattern::new(pattern).expect_err(pattern).to_string();
            assert!(fault.contains(reason), "{pattern:?} {fault:?}");
        }
    }
}

#[test]
fn refuses_what_the_crate_cannot_read() {
    let go_refuses = [
        "( (a ((a) (?: (?P<n>a ) a) (a)) (?P<>a) (?P<n-m>a) (?P<n (?<=a) (?<!a>) (? (?i (?-) (?i-) (?i-:a) (?--i)",
        "(?=a) (?!a) (?>a) (?#a) (?|a) (?P=n) (?P>n) (?'n'a) (?1) * +a ? {2} (*a) a|* (?i)*a (?:+) a{99999999999} a{3,1}",
        r"[ [] [^] [a [a\] [[:alpha:] [a- [z-a] [a-[:alpha:]] [\b] [\A] [\Qa\E] [a-\d] [\1] \p \p{Latin \Q\E*",
        r"\1 \8 \Z \C \e \cA \h \R \K \G \k<n> \é \E \x \x4 \x4g \x{} \x{41 \x{110000} \x{+41} \ a\ (\",
    ];
    let go_takes = [
        "(?)a (?ii)a (?i-i)a (?P<n>a)(?P<n>b) (?P<1>a) a+(?i)* [[a] [[:alpha] a{,2} a{x} a{} {}] a{-1} a{1",
        r"[\d-z] [\<] [a\x{d800}-\x{dfff}] \101 \08 \x{d800} \Qa.b\E \Qa( \b{a}",
    ];
    for pattern in go_refuses.into_iter().chain(go_takes).flat_map(|patterns| patterns.split(' ')) {
        Pattern::new(pattern).expect_err(pattern);
    }
    Pattern::new(&("(?:".repeat(300) + &")*".repeat(300))).expect_err("nested too deeply");
}

#[test]
fn a_fault_names_the_place() {
    for (pattern, expected) in [
        ("a[0z-a]", r#""z-a]": invalid character class range, the start must be <= the end"#),
        (r"a\Z", r#""\\Z": unrecognized escape sequence"#),
        (r"a\1b", r#""\\1b": backreferences are not supported; write a character code as \x{…}"#),
        ("a|*b", r#""*b": repetition operator missing expression"#),
        (r"\p", r#""\\p": incomplete escape sequence, reached end of pattern prematurely"#),
        ("a[[b]", r#""[[b]": unclosed character class; write a literal bracket as \["#),
        ("a{,2}b", r#"",2}b": repetition quantifier expects a valid decimal; write a literal brace as \{"#),
        ("a[[:foo:]]", r#""[:foo:]": Go has no nested classes; write a literal bracket as \["#),
        ("xa**y", r#""a**": Go does not allow this; put the inner repetition into (?:…)"#),
    ] {
        assert_eq!(Pattern::new(pattern).expect_err(pattern).to_string(), expected);
    }
}

#[test]
fn the_crate_has_each_class() {
    for name in
        go::CATEGORIES.iter().chain(&go::FOUR_LETTER_SCRIPTS).chain(&["Lao", "Latin", "Han", "Inherited", "Common"])
    {
        Pattern::new(&format!(r"\p{{{name}}}")).unwrap().matches("a").expect(name);
    }
}

#[test]
fn what_becomes_too_large_is_an_error() {
    assert!(Pattern::new(r"\pL{1000}").unwrap().matches("a").is_err());
}
