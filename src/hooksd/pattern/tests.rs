// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What Go's regexp makes of each pattern, mostly of those that the crate reads differently.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

#[test]
fn matches_where_go_does() {
    // The pattern, texts that it matches, and texts that it doesn't.
    let table: &[(&str, &[&str], &[&str])] = &[
        ("", &["", "a"], &[]),
        // Anywhere in the text, and `$` is the end of the text and of nothing else.
        ("b", &["abc"], &["a"]),
        ("b$", &["ab"], &["b\n", "b\na"]),
        (r"^a|b$", &["ac", "cb"], &["ca", "bc"]),
        (r"\Aa\z", &["a"], &["a\n", "ba"]),
        // Flags, and how far they reach.
        ("(?m)^b$", &["a\nb\nc"], &["ab"]),
        ("(?m)a\\z", &["b\na"], &["a\nb"]),
        ("(?m:^b)|^c", &["a\nb"], &["a\nc"]),
        ("^.$", &["a", "é"], &["\n", "ab"]),
        ("(?s)^.$", &["\n"], &[""]),
        ("((?i)a)b", &["Ab"], &["AB"]),
        ("(a|(?i)b|c)d", &["Bd", "Cd"], &["Ad"]),
        ("(?i-s:A)A", &["aA"], &["aa"]),
        ("(?i)(?-i)A", &["A"], &["a"]),
        ("(?ii)(?i-i)()(?)(?:)a", &["a"], &["A"]),
        ("(?U)^a*?$", &["aa"], &["b"]),
        // Classes are ASCII, except for the letters that only folding brings in.
        (r"^\d$", &["7"], &["٧"]),
        (r"^\w$", &["a", "_"], &["é", "ſ"]),
        (r"(?i)^\w$", &["a", "ſ", "\u{212a}"], &["é"]),
        (r"(?i)^\W$", &["é"], &["a", "ſ"]),
        (r"(?i)^[^\W]$", &["ſ"], &["é"]),
        (r"^\s$", &["\t", "\x0c", " "], &["\x0b", "\u{a0}"]),
        ("^[[:space:]]$", &["\x0b"], &["\u{a0}"]),
        (r"\bé", &["aé"], &["é"]),
        (r"^\Bé", &["é"], &["aé"]),
        ("(?i)^k$", &["K", "\u{212a}"], &["c"]),
        ("(?i)^[^s]$", &["k"], &["S", "ſ"]),
        ("(?i)[[:^lower:]]", &["1"], &["A", "ſ"]),
        ("[^a]", &["\n"], &["a"]),
        // What is syntax in the crate's brackets alone.
        ("^[a&&b]$", &["a", "&", "b"], &["c"]),
        ("^[+--]$", &["+", ",", "-"], &["."]),
        ("^[a~~b]$", &["~"], &["c"]),
        ("^[[a]$", &["[", "a"], &["]"]),
        ("^[[a]b]$", &["[b]", "ab]"], &["b"]),
        ("^[]a]$", &["]"], &["b"]),
        ("^[^]a]$", &["b"], &["]"]),
        ("^[a-]$", &["-"], &["b"]),
        (r"^[\d-z]$", &["-", "z"], &["a"]),
        ("^[[:alpha:]-z]$", &["-", "q"], &["1"]),
        ("^[[:alpha]$", &[":", "h"], &["b"]),
        ("^[:alpha:]$", &[":", "h"], &["b"]),
        ("^[[.a.]]$", &["a]", "[]"], &["a"]),
        (r"[^\x{0}-\x{10FFFF}]", &[], &["", "a"]),
        // Escapes.
        (r"^\101\12$", &["A\n"], &["101"]),
        (r"^\08$", &["\x008"], &["8"]),
        (r"^\777$", &["\u{1ff}"], &["7"]),
        (r"^\x41\x{00041}$", &["AA"], &["A"]),
        (r"\<a\>", &["<a>"], &["a"]),
        (r"\-\_\!\ \/\~\&", &["-_! /~&"], &[]),
        (r"\a|\f|\v", &["\x07", "\x0b"], &["a"]),
        // A surrogate is no character of any text.
        (r"\x{d800}", &[], &["\u{fffd}"]),
        (r"^[\x{d7ff}-\x{e000}]$", &["\u{d7ff}", "\u{e000}"], &["\u{fffd}"]),
        (r"^[a\x{d800}-\x{dfff}]$", &["a"], &["b"]),
        (r"\p{Cs}", &[], &["a"]),
        (r"^[\P{Cs}]$", &["a"], &[]),
        (r"^\Qa.b\E$", &["a.b"], &["axb"]),
        (r"^\Qa(", &["a("], &["a"]),
        (r"^\Qab\E{2}$", &["abb"], &["abab"]),
        (r"^\Q\\E$", &["\\"], &[]),
        // Unicode's own classes.
        (r"^\pLu$", &["au"], &["u"]),
        (r"^\p{^Greek}\P{^Greek}$", &["aΩ"], &["Ωa"]),
        (r"^[^\p{Greek}a]$", &["b"], &["Ω", "a"]),
        (r"(?i)^\p{Lu}$", &["a"], &["1"]),
        (r"^\p{lower case-letter}\p{digit}$", &["a1", "a٣"], &["A1"]),
        (r"^\p{Any}\p{Assigned}\p{ASCII}$", &["éaa"], &["aaé"]),
        (r"^\p{Thai}\p{LC}$", &["ไa"], &["aa"]),
        // Repetitions; a brace that counts nothing is a brace.
        ("^a{2}b{0}$", &["aa"], &["aab"]),
        ("^a{,2}$", &["a{,2}"], &["a"]),
        ("^a{01}{x}{}{ 1}{-1}{1$", &["a{01}{x}{}{ 1}{-1}{1"], &[]),
        ("^{}]$", &["{}]"], &[]),
        ("^(a|)*$", &["", "aa"], &["b"]),
        ("(?:a*)+$", &["b"], &[]),
        ("^*a", &["ba"], &["b"]),
        ("^a{1,2}?$", &["aa"], &["aaa"]),
        // Something without a meaning of its own makes it a repetition of the repetition.
        ("^a+(?i)*$", &["", "aa"], &["A"]),
        (r"^a+\Q\E?$", &["", "aa"], &["b"]),
        ("((a{10}){10}){10}", &[], &["a"]),
        ("(a{0,}){1000}", &["b"], &[]),
        ("((a{1000}){0}){1000}", &["b"], &[]),
        // Groups, empty ones as well.
        ("(|a)|", &["b"], &[]),
        ("^(?P<n>a)(?P<n>b)(?<n_1>c)$", &["abc"], &["ab"]),
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

#[test]
fn refuses_what_go_refuses() {
    use PatternFault::*;
    // Each row: patterns, and their fault.
    type Row = (&'static [&'static str], fn(&PatternFault) -> bool);
    let table: &[Row] = &[
        (&["(", "(a", "((a)", "(?:", "(?P<n>a"], |fault| matches!(fault, OpenGroup)),
        (&[")", "a)", "(a))"], |fault| matches!(fault, NoGroup)),
        (&["(?P<>a)", "(?P<n-m>a)", "(?P<é>a)", "(?P<n", "(?<=a)", "(?<!a>)"], |fault| matches!(fault, GroupName)),
        (
            &[
                "(?", "(?i", "(?x)a b", "(?u)a", "(?R)a", "(?-)", "(?i-)", "(?i-:a)", "(?--i)", "(?=a)", "(?!a)",
                "(?>a)", "(?#a)", "(?|a)", "(?P=n)", "(?P>n)", "(?'n'a)", "(?1)",
            ],
            |fault| matches!(fault, GroupFlags),
        ),
        (&["[", "[]", "[^]", "[a", r"[a\]", "[[:alpha:]", "[a-"], |fault| matches!(fault, OpenClass)),
        (&["[z-a]", "[a-[:alpha:]]"], |fault| matches!(fault, ClassRange(_))),
        (&["[[:foo:]]", "[[:ALPHA:]]", "[[:a]b:]", "[[::]]"], |fault| matches!(fault, PosixClass(_))),
        (
            &[
                r"\p{Alphabetic}",
                r"\p{IsGreek}",
                r"\p{Grek}",
                r"\p{sc=Greek}",
                r"\p{Emoji}",
                r"\p{}",
                r"\p",
                r"\pé",
                r"\p^",
                r"\p{^}",
                r"\p{Latin",
                r"[\p{Foo}]",
            ],
            |fault| matches!(fault, UnicodeClass(_)),
        ),
        (
            &[
                r"\1",
                r"\8",
                r"\Z",
                r"\C",
                r"\e",
                r"\cA",
                r"\h",
                r"\R",
                r"\K",
                r"\G",
                r"\u0041",
                r"\k<n>",
                r"\é",
                r"\E",
                r"\x",
                r"\x4",
                r"\x4g",
                r"\x{}",
                r"\x{41",
                r"\x{110000}",
                r"\x{+41}",
                r"[\b]",
                r"[\A]",
                r"[\Qa\E]",
                r"[a-\d]",
                r"[\1]",
            ],
            |fault| matches!(fault, Escape(_)),
        ),
        (&[r"\", r"a\", r"(\"], |fault| matches!(fault, Backslash)),
        (&["*", "+a", "?", "{2}", "(*a)", "a|*", "(?i)*a", "(?:+)", r"\Q\E*"], |fault| matches!(fault, RepeatsNothing)),
        (&["a**", "a*+", "a*??", "a++", "a???", "a{2}{3}", "a{2}*", "a*{2}", "(a{500}){2}{1}"], |fault| {
            matches!(fault, RepeatsRepetition)
        }),
        (
            &[
                "a{1001}",
                "a{1,1001}",
                "a{1001,}",
                "a{99999999999}",
                "a{3,1}",
                "(a{100}){11}",
                "((a{10}){10}){11}",
                "(a{2,}){501}",
                "((a{1000})*){2}",
                "(a|b{600}|c){2}",
                "(?:ab{501}c){0,2}",
            ],
            |fault| matches!(fault, RepeatsOften),
        ),
    ];
    for (patterns, is_expected) in table {
        for pattern in *patterns {
            let fault = Pattern::new(pattern).expect_err(pattern);
            assert!(is_expected(&fault), "{pattern:?} {fault:?}");
        }
    }
}

#[test]
fn a_fault_names_the_place() {
    for (pattern, expected) in [
        ("a[0z-a]", "the range \"z-a\" in brackets runs backwards"),
        (r"a\Z", r"the escape \Z is unknown or not complete; Go has neither back references nor \Z"),
        ("[[:foo:]]", "\"[:foo:]\" is no POSIX class; an example of one is \"[:alpha:]\""),
        (r"\p{^Foo}", "\"^Foo\" is neither a Unicode category nor a script"),
    ] {
        assert_eq!(Pattern::new(pattern).expect_err(pattern).to_string(), expected);
    }
}

/// These Go takes; nesting like this would need a larger stack.
#[test]
fn the_crates_limits_are_errors() {
    for pattern in [r"\pL{1000}".to_owned(), "(?:".repeat(300) + &")*".repeat(300)] {
        assert!(Pattern::new(&pattern).unwrap().matches("a").is_err());
    }
}
