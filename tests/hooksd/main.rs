// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of directories of hook descriptors, including the project's own: which descriptors are read, in which order,
//! and for which containers. The expected values are the results of the engines' own package for the same files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ours;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use oci_systemd_hook::hooksd::{self, Fault, HookSet, HookStage, MatchedContainer};
use tempfile::TempDir;

/// Directories of descriptors in the order of their precedence, and a hook that exists.
struct Site {
    top: TempDir,
    directories: Vec<PathBuf>,
}

impl Site {
    fn new(directories: &[&[(&str, &str)]]) -> Self {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("hook"), "").unwrap();
        let mut site = Self { top, directories: Vec::new() };
        for (number, files) in directories.iter().enumerate() {
            let directory = site.top.path().join(number.to_string());
            fs::create_dir(&directory).unwrap();
            for (name, text) in *files {
                fs::write(directory.join(name), text.replace("@HOOK@", site.hook().to_str().unwrap())).unwrap();
            }
            site.directories.push(directory);
        }
        site
    }

    fn hook(&self) -> PathBuf {
        self.top.path().join("hook")
    }

    fn read(&self) -> HookSet {
        hooksd::read(&self.directories, &[])
    }
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Returns the file names of the valid descriptors, and those of the problems with whether they are fatal.
fn names(hooks: &HookSet) -> (Vec<String>, Vec<(String, bool)>) {
    (
        hooks.descriptors.iter().map(|each| file_name(&each.path)).collect(),
        hooks.problems.iter().map(|each| (file_name(&each.path), each.fatal)).collect(),
    )
}

const GOOD: &str = r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"when":{"always":true},"stages":["poststop"]}"#;
const MISSING_HOOK: &str =
    r#"{"version":"1.0.0","hook":{"path":"@HOOK@-not"},"when":{"always":true},"stages":["poststop"]}"#;
const BELOW_A_FILE: &str =
    r#"{"version":"1.0.0","hook":{"path":"@HOOK@/not"},"when":{"always":true},"stages":["poststop"]}"#;

#[test]
fn hooks_run_in_the_order_of_lower_case_names() {
    let all = ["10-b.json", "10-A.json", "9-a.json", "Z.json", "a.json", "_.json", "a-b.json", "aB.json", "É.json"];
    let files = all.map(|name| (name, GOOD));
    let (first, second) = files.split_at(4);
    let (good, problems) = names(&Site::new(&[second, first]).read());
    let order = ["10-A.json", "10-b.json", "9-a.json", "_.json", "a-b.json", "a.json", "aB.json", "Z.json", "É.json"];
    assert_eq!((good.as_slice(), problems.as_slice()), (&order.map(str::to_owned)[..], &[][..]));
}

#[test]
fn a_good_file_masks_those_of_its_name_in_earlier_directories() {
    let off = GOOD.replace(r#"["poststop"]"#, "[]");
    let site = Site::new(&[
        &[("a.json", GOOD), ("b.json", GOOD), ("c.json", GOOD), ("D.json", GOOD)],
        &[("a.json", &off), ("b.json", MISSING_HOOK), ("d.json", GOOD)],
    ]);
    let hooks = site.read();
    let found: Vec<_> = (hooks.descriptors.iter())
        .map(|each| each.path.strip_prefix(site.top.path()).unwrap().to_str().unwrap())
        .collect();
    // A descriptor whose hook is missing masks nothing.
    assert_eq!(found, ["1/a.json", "0/b.json", "0/c.json", "0/D.json", "1/d.json"]);
    assert_eq!(names(&hooks).1, [("b.json".to_owned(), false)]);
    assert_eq!(hooks.descriptors.first().unwrap().stages, []);
}

#[test]
fn a_problem_is_fatal_where_the_engines_stop() {
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a [(&'a str, bool)]);
    let unknown_stage = GOOD.replace("poststop", "precreate");
    let missing_with_more = MISSING_HOOK.replace(r#""always":true"#, r#""commands":["a**"]"#);
    // Each row has a directory's files, the valid ones, and the problems with the others.
    let table: &[Row] = &[
        (&[], &[], &[]),
        (&[("a.json", "{")], &[], &[("a.json", true)]),
        (&[("a.json", "")], &[], &[("a.json", true)]),
        (&[("a.json", &unknown_stage), ("b.json", GOOD)], &["b.json"], &[("a.json", true)]),
        (&[("a.json", BELOW_A_FILE)], &[], &[("a.json", true)]),
        (
            &[("a.JSON", "{"), ("README", "{"), ("a.json.bak", "{"), (".json", GOOD)],
            &[".json"],
            &[("README", false), ("a.JSON", false), ("a.json.bak", false)],
        ),
        (&[("a.json", MISSING_HOOK), ("b.json", GOOD)], &["b.json"], &[("a.json", false)]),
        // A missing hook hides any other problem in its file.
        (&[("a.json", &missing_with_more)], &[], &[("a.json", false)]),
        // It also hides problems in the files after it, but not before it; `B` sorts before `a`.
        (&[("a.json", MISSING_HOOK), ("b.json", "{")], &[], &[("a.json", false), ("b.json", false)]),
        (&[("B.json", "{"), ("a.json", MISSING_HOOK)], &[], &[("B.json", true), ("a.json", false)]),
        (
            &[("README", ""), ("a.json", MISSING_HOOK), ("b.json", BELOW_A_FILE), ("c.json", GOOD)],
            &["c.json"],
            &[("README", false), ("a.json", false), ("b.json", false)],
        ),
    ];
    for (files, good, problems) in table {
        let hooks = Site::new(&[files]).read();
        let expected = (
            good.iter().map(|name| (*name).to_owned()).collect(),
            problems.iter().map(|(name, fatal)| ((*name).to_owned(), *fatal)).collect(),
        );
        assert_eq!(names(&hooks), expected, "{files:?}");
    }
    // A file that only this project may refuse is never ignored silently.
    let refused = GOOD.replace(r#""always":true"#, r#""commands":["[a&&b]"]"#);
    let twice = GOOD.replace(r#""stages""#, r#""stages":[],"stages""#);
    for text in [&refused, &twice] {
        let hooks = Site::new(&[&[("a.json", MISSING_HOOK), ("b.json", text)]]).read();
        assert_eq!(names(&hooks), (vec![], vec![("a.json".into(), false), ("b.json".into(), true)]), "{text}");
    }
    // A missing hook hides no problems in other directories, and masking doesn't hide one that was already found.
    let hooks = Site::new(&[&[("a.json", MISSING_HOOK)], &[("b.json", "{")], &[("b.json", GOOD)]]).read();
    assert_eq!(names(&hooks), (vec!["b.json".into()], vec![("a.json".into(), false), ("b.json".into(), true)]));
}

#[test]
fn what_is_no_file_of_text() {
    let mut site = Site::new(&[&[("b.json", GOOD)], &[], &[]]);
    // A file that is removed before it is opened looks like this symlink, and doesn't count as a problem.
    symlink("gone", site.directories.first().unwrap().join("a.json")).unwrap();
    symlink("/dev/null", site.directories.get(1).unwrap().join("b.json")).unwrap();
    fs::create_dir(site.directories.get(2).unwrap().join("c.json")).unwrap();
    site.directories.push(site.top.path().join("missing"));
    site.directories.push(site.hook());
    let hooks = site.read();
    let problems = [("a.json", false), ("b.json", true), ("c.json", true), ("missing", false), ("hook", true)];
    assert_eq!(names(&hooks), (vec!["b.json".into()], problems.map(|(name, fatal)| (name.into(), fatal)).into()));
}

/// Reads one file's content, as it is read without and with podman's own stages.
fn read_one(text: &str) -> Result<(hooksd::HookEntry, Vec<HookStage>, Vec<String>), Fault> {
    let site = Site::new(&[&[("x.json", text)]]);
    let mut hooks = hooksd::read(&site.directories, &["precreate", "poststop"]);
    if let Some(problem) = hooks.problems.pop() {
        assert!(problem.fatal, "{text}");
        return Err(problem.fault);
    }
    let mut read = hooks.descriptors.pop().unwrap();
    assert_eq!(read.hook.path, site.hook());
    read.hook.path = "@HOOK@".into();
    if let Some(first) = read.hook.args.first_mut().filter(|first| **first == site.hook().to_str().unwrap()) {
        "@HOOK@".clone_into(first);
    }
    Ok((read.hook, read.stages, read.extension_stages))
}

#[test]
fn reads_both_versions() {
    type Row<'a> = (&'a str, &'a [&'a str], Option<i64>, &'a [HookStage], &'a [&'a str]);
    let table: &[Row] = &[
        // All fields of 1.0.0, and unknown ones. `prestart` is another name for createRuntime.
        (
            r#"{"version":"1.0.0","hook":{"path":"@HOOK@","args":["h",""],"timeout":-3,"cwd":7},"when":{"or":7},
                "stages":["prestart","createRuntime","startContainer","poststart"],"comment":[{}],"comment":7}"#,
            &["h", ""],
            Some(-3),
            &[HookStage::CreateRuntime, HookStage::CreateRuntime, HookStage::StartContainer, HookStage::Poststart],
            &[],
        ),
        // The caller's stages take precedence over the specification's stages of the same name.
        (
            r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"stages":["precreate","createContainer","poststop"]}"#,
            &[],
            None,
            &[HookStage::CreateContainer],
            &["precreate", "poststop"],
        ),
        // Field names match in any case, and null is the same as a missing field.
        (
            r#"{"VERSION":"1.0.0","Hook":{"PATH":"@HOOK@","env":null,"Timeout":1},"when":null,"Stages":[]}"#,
            &[],
            Some(1),
            &[],
            &[],
        ),
        // Version 0.1.0, with and without the field `version`.
        (
            r#"{"version":"0.1.0","hook":"@HOOK@","arguments":["a","b"],"stages":["prestart"]}"#,
            &["@HOOK@", "a", "b"],
            None,
            &[HookStage::CreateRuntime],
            &[],
        ),
        (
            r#"{"hook":"@HOOK@","arguments":[],"stages":null,"stage":["poststart","poststop"],"hasbindmounts":true}"#,
            &["@HOOK@"],
            None,
            &[HookStage::Poststart],
            &["poststop"],
        ),
        (r#"{"version":"","hook":"@HOOK@","stage":[],"when":{"always":7}}"#, &[], None, &[], &[]),
    ];
    for (text, args, timeout, stages, extension_stages) in table {
        let (hook, read_stages, read_extension_stages) = read_one(text).expect(text);
        assert_eq!((hook.args, hook.timeout), (args.iter().map(|arg| (*arg).to_owned()).collect(), *timeout), "{text}");
        assert_eq!(
            (read_stages.as_slice(), read_extension_stages),
            (*stages, extension_stages.iter().map(|stage| (*stage).to_owned()).collect()),
            "{text}"
        );
    }
}

#[test]
fn refuses_what_the_engines_refuse() {
    // Each row has the document and the beginning of the error.
    let table = [
        ("null", r#"the required field "hook" is missing"#),
        ("{}", r#"the required field "hook" is missing"#),
        ("[]", "invalid descriptor"),
        ("{} {}", "invalid descriptor"),
        (r#"{"version":"2.0.0"}"#, r#"its version "2.0.0" is unknown"#),
        (r#"{"version":1}"#, "invalid descriptor"),
        (r#"{"version":"1.0.0"}"#, r#"the required field "hook.path" is missing"#),
        (r#"{"version":"1.0.0","hook":{"path":"@HOOK@"}}"#, r#"the required field "stages" is missing"#),
        (r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"stages":null}"#, r#"the required field "stages" is missing"#),
        (r#"{"version":"1.0.0","hook":"@HOOK@","stages":[]}"#, "invalid descriptor"),
        (r#"{"version":"1.0.0","hook":{"path":"@HOOK@","timeout":1.0},"stages":[]}"#, "invalid descriptor"),
        (r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"when":{"always":"yes"},"stages":[]}"#, "invalid descriptor"),
        (
            r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"when":{"annotations":{"(":""}},"stages":[]}"#,
            r#"when.annotations has the pattern "(""#,
        ),
        (
            r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"when":{"commands":["a**"]},"stages":[]}"#,
            r#"when.commands has the pattern "a**""#,
        ),
        (r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"stages":["CreateRuntime"]}"#, r#"its stage "CreateRuntime""#),
        (r#"{"version":"1.0.0","hook":{"path":"/a\u0000b"},"stages":[]}"#, r#"its hook "/a\0b" can't be found"#),
        (r#"{"hook":"@HOOK@"}"#, r#"the required field "stages" is missing"#),
        (r#"{"hook":"@HOOK@","stages":[],"stage":[]}"#, r#"it has both "stage" and "stages""#),
        (r#"{"hook":"@HOOK@","stages":[],"cmd":["a"],"cmds":["a"]}"#, r#"it has both "cmd" and "cmds""#),
        (r#"{"hook":"@HOOK@","stages":[],"annotation":[],"annotations":[]}"#, r#"it has both "annotation""#),
        (r#"{"hook":"@HOOK@","stages":[],"annotations":["("]}"#, r#"when.annotations has the pattern "(""#),
        (r#"{"hook":{"path":"@HOOK@"},"stages":[]}"#, "invalid descriptor"),
    ];
    for (text, expected) in table {
        let fault = read_one(text).expect_err(text).to_string();
        assert!(fault.starts_with(expected), "{text}: {fault}");
    }
}

/// Version 0.1.0 requires only one of several conditions, and matches only the values of annotations.
#[test]
fn the_old_version_matches_any_condition() {
    // Each row has the conditions, whether they match `/sbin/init` without annotations and bind mounts, and whether
    // they match `/bin/x` with an annotation a=12 and bind mounts.
    let table = [
        ("", false, false),
        (r#","cmds":["init$"]"#, true, false),
        (r#","cmd":["init$"],"hasbindmounts":true"#, true, true),
        (r#","cmd":["init$"],"annotation":["3","^1"]"#, true, true),
        (r#","annotations":["3","a"]"#, false, false),
        // Patterns are joined by `|` before they are parsed as one regular expression, and an empty one matches.
        (r#","annotations":["(3","2)$"]"#, false, true),
        (r#","annotation":[]"#, false, true),
        (r#","hasbindmounts":false,"when":{"always":true},"always":true"#, false, false),
    ];
    for (conditions, bare, annotated) in table {
        let site =
            Site::new(&[&[("x.json", &format!(r#"{{"hook":"@HOOK@","stages":["prestart"]{conditions}}}"#) as &str)]]);
        let hooks = site.read();
        assert_eq!(names(&hooks), (vec!["x.json".into()], vec![]), "{conditions}");
        let annotations = [BTreeMap::new(), BTreeMap::from([("a".to_owned(), "12".to_owned())])];
        let [none, one] = &annotations;
        let matches = |command: &str, annotations, has_bind_mounts| {
            let args = [command.to_owned()];
            let subject = MatchedContainer { args: Some(&args), annotations, has_bind_mounts };
            !hooks.matching(&subject).unwrap().is_empty()
        };
        assert_eq!(
            (matches("/sbin/init", none, false), matches("/bin/x", one, true)),
            (bare, annotated),
            "{conditions}"
        );
    }
}

#[test]
fn commands_without_arguments_to_match_are_an_error() {
    let commands = GOOD.replace(r#""always":true"#, r#""commands":["init"]"#);
    let hooks = Site::new(&[&[("a.json", GOOD), ("b.json", &commands)]]).read();
    let subject = MatchedContainer { args: Some(&[]), annotations: &BTreeMap::new(), has_bind_mounts: false };
    let error = hooks.matching(&subject).unwrap_err();
    assert_eq!(file_name(&error.path), "b.json");
    let matching = hooks.matching(&MatchedContainer { args: None, ..subject }).unwrap();
    assert_eq!(matching.iter().map(|each| file_name(&each.path)).collect::<Vec<_>>(), ["a.json"]);
}

/// A problem is one line that names the file. The line includes its sources.
#[test]
fn a_problem_names_the_file_and_what_is_wrong() {
    let text = GOOD.replace(r#""always":true"#, r#""commands":["/init$","/systemd**"]"#);
    let hooks = Site::new(&[&[("a.json", &text)]]).read();
    let problem = hooks.problems.first().unwrap();
    let mut line = problem.to_string();
    let mut source = std::error::Error::source(problem);
    while let Some(error) = source {
        line = format!("{line}: {error}");
        source = error.source();
    }
    let expected = "/0/a.json\" is not used: when.commands has the pattern \"/systemd**\", which can't be used: \"d**\": \
                    Go does not allow this; put the inner repetition into (?:…)";
    assert!(line.ends_with(expected), "{line}");
}

fn names_of(descriptors: &[&hooksd::Descriptor]) -> Vec<String> {
    descriptors.iter().map(|each| file_name(&each.path)).collect()
}
