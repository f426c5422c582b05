// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that the runtime finds everything as if the wrapper's caller had started it directly.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::json;

use crate::command::Finished;
use crate::room::{ALWAYS, RECORDED, Room, lines_of};
use crate::site::Site;
use crate::{Check, all};

/// What a caller may have done before: shell commands, and the program that then starts the last one.
#[derive(Debug)]
pub struct Conditions {
    first: &'static str,
    starter: &'static str,
}

const fn after(first: &'static str) -> Conditions {
    Conditions { first, starter: "" }
}

const fn by(starter: &'static str) -> Conditions {
    Conditions { first: "", starter }
}

pub const CONDITIONS: &[(&str, Conditions)] = &[
    ("nothing-special", after("")),
    ("no-stdin", after("exec <&-")),
    ("no-stdout", after("exec >&-")),
    ("no-stderr", after("exec 2>&-")),
    ("no-stdin-nor-stdout", after("exec <&- >&-")),
    ("no-stdin-nor-stderr", after("exec <&- 2>&-")),
    ("no-standard-descriptor", after("exec <&- >&- 2>&-")),
    ("stdin-half-read", after("read -r line")),
    ("stdin-is-a-fifo", after("mkfifo fifo; exec <>fifo; echo text >fifo; rm fifo; exec </dev/null")),
    ("stdin-is-for-writing", after("exec 0>zero")),
    ("stdout-is-for-reading", after("exec 1<input")),
    ("one-file-for-all", after("exec <>out >&0 2>&0")),
    ("more-descriptors", after("exec 3<input 4>four 7<>seven 9>>nine")),
    ("more-descriptors-and-no-standard-ones", after("exec 3<input 7>seven <&- >&- 2>&-")),
    ("sigpipe-ignored", after("trap '' PIPE")),
    ("sigpipe-default", by("env --default-signal=PIPE")),
    ("many-ignored", by("env --ignore-signal=HUP,INT,QUIT,USR1,PIPE,TERM,CHLD,TSTP,WINCH,37,64")),
    ("all-default", by("env --default-signal")),
    // CHLD is not blocked: asking the runtime for a state creates a child, whose exit would be pending.
    ("some-blocked", by("env --block-signal=INT,PIPE,TERM,USR1,37,64")),
    (
        "many-blocked",
        by(
            "env --block-signal=HUP,INT,QUIT,ILL,ABRT,FPE,USR1,SEGV,USR2,PIPE,ALRM,TERM,CONT,TSTP,TTIN,TTOU,URG,WINCH,PWR",
        ),
    ),
    ("one-pending", by(r#"env --block-signal=USR1,37 sh -c 'kill -USR1 $$; kill -37 $$; exec "$@"' sh"#)),
    ("umask-0", after("umask 0")),
    ("umask-077", after("umask 077")),
    ("umask-0777", after("umask 0777")),
    ("in-the-root", after("cd /")),
    ("in-a-directory-without-name", after("mkdir gone; cd gone; rmdir ../gone")),
    ("in-a-directory-that-is-no-text", after("d=$(printf 'd\\377\\n-'); mkdir -p \"$d\"; cd \"$d\"")),
    ("without-environment", by("env -i")),
    ("without-path", by("env -u PATH")),
    ("nice", by("nice -n 5")),
    ("for-batch", by("chrt --batch 0")),
    ("on-one-processor", by("taskset 1")),
    ("dear-to-the-oom-killer", after("echo 700 >/proc/$$/oom_score_adj")),
    ("with-limits", after("ulimit -n 64; ulimit -c 0; ulimit -s 512; ulimit -l 64")),
    ("session-of-its-own", by("setsid")),
    ("without-address-randomisation", by("setarch --addr-no-randomize")),
    ("no-new-privileges", by("setpriv --no-new-privs")),
    ("fewer-capabilities", by("setpriv --bounding-set -net_raw --inh-caps -all")),
    ("killed-with-the-parent", by("setpriv --pdeathsig HUP")),
];

/// Runs three calls under some conditions: one that is passed on, one for which the bundle is changed, and one for
/// which the wrapper first asks the runtime for the state.
pub fn under(site: &Site, conditions: &Conditions) -> Check {
    let room = Room::new(site)?;
    room.describe("first/a.json", ALWAYS);
    fs::write(room.path("input"), "first line\nsecond line\n").unwrap();
    let Conditions { first, starter } = conditions;
    // Standard streams are files of the room, since the descriptors must lead to the same files each time.
    let script = format!("exec <input >out 2>err\nset -e\n{first}\nexec {starter} \"$@\"");
    let start = |command: &Command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
        shell.current_dir(room.path(""));
        shell
    };
    let bundle = room.path("bundle");
    let create = [OsStr::new("create"), OsStr::new("--bundle"), bundle.as_os_str(), OsStr::new("c")];
    is_the_same(&room, &["state", "c"].map(OsStr::new), start).map_err(|why| format!("passed on: {why}"))?;
    is_the_same(&room, &create, start).map_err(|why| format!("create: {why}"))?;
    // Otherwise the second call did not add hooks.
    ensure!(room.hooks()? == json!({"poststop": ["always"]}), "config.json has {}", room.hooks()?);
    room.runs_systemd();
    let (stop, halt) = (["kill", "c", "TERM"].map(OsStr::new), ["kill", "c", "37"].map(OsStr::new));
    becomes(&room, (&stop, &halt), start).map_err(|why| format!("kill: {why}"))
}

/// Starts the recorder with and without the wrapper, and compares what it recorded and all output.
fn is_the_same(room: &Room, arguments: &[&OsStr], start: impl Fn(&Command) -> Command) -> Check {
    becomes(room, (arguments, arguments), start)
}

/// Does the same with different arguments for the runtime than for the wrapper.
fn becomes(room: &Room, (from, to): (&[&OsStr], &[&OsStr]), start: impl Fn(&Command) -> Command) -> Check {
    let mut bare = Command::new(room.path("runtime"));
    let mut wrapped = room.wrapper();
    let expected = recorded(room, &mut start(bare.args(to)))?;
    let found = recorded(room, &mut start(wrapped.args(from)))?;
    let differences: Vec<String> = difference(&expected, &found);
    ensure!(differences.is_empty(), "the runtime sees these differences:\n{}", differences.join("\n"));
    Ok(())
}

/// Returns what a run of the recorder recorded, and the content of the files that its output went to.
fn recorded(room: &Room, command: &mut Command) -> Result<String, String> {
    let finished = room.run(command)?.expect_code(RECORDED)?;
    let Finished { pid, output, errors, .. } = finished;
    let record = room.record().ok_or("the runtime was not started")?;
    // The started process itself becomes the runtime: no parent waits for it or forwards signals to it.
    let own = lines_of(&record, "pid");
    ensure!(own == [format!("pid {pid}")], "started {pid}, but the runtime is {own:?}");
    // If the process leads a session, another line also contains its PID.
    let same = record.replace(&format!("group {pid} session {pid}\n"), "group and session of its own\n");
    let rest: Vec<&str> = same.lines().filter(|line| !own.contains(line)).collect();
    let file = |name: &str| fs::read_to_string(room.path(name)).unwrap_or_default();
    Ok(format!("{}\n{output}{errors}out: {}err: {}", rest.join("\n"), file("out"), file("err")))
}

fn difference(expected: &str, found: &str) -> Vec<String> {
    let lacks = expected.lines().filter(|line| !found.lines().any(|other| other == *line));
    let has = found.lines().filter(|line| !expected.lines().any(|other| other == *line));
    let mut told: Vec<String> = lacks.map(|line| format!("  not:     {line}")).collect();
    told.extend(has.map(|line| format!("  instead: {line}")));
    if told.is_empty() && expected != found {
        told.push(format!("  not:     {expected}\n  instead: {found}"));
    }
    told
}

/// All arguments are passed on unchanged.
pub fn arguments(site: &Site) -> Check {
    let room = Room::new(site)?;
    let bytes = |text: &'static [u8]| OsStr::from_bytes(text);
    let table: &[&[&[u8]]] = &[
        &[],
        &[b""],
        &[b"", b"", b"state", b""],
        &[b"--version"],
        &[b"-v"],
        &[b"--help"],
        &[b"-"],
        &[b"--"],
        &[b"--", b"--runtime-path", b"x"],
        &[b"state", b"--runtime-path", b"x"],
        &[b"--root", b"--hooks-dir", b"state", b"c"],
        &[b"--root=/x", b"--hooks-dir", b"state", b"c"],
        &[b"exec", b"c", b"create", b"--bundle", b"x"],
        &[b"exec", b"c", b"--hook-config-path=x", b"--skip-bad-descriptors"],
        &[b"exec", b"c", b"\xff\xfe", b"a b", b"'", b"\"", b"\n", b"\\"],
        &[b"\xff"],
        &[b"--\xff=\xff", b"state"],
        &[b"--root", b"\xff", b"state", b"\xc3\x28"],
        &[b"--unknown", b"create"],
        &[b"unknown", b"command"],
        &[b"kill", b"c", b"KILL"],
        &[b"kill", b"c", b"\xff"],
        &[b"kill", b"\xff", b"TERM"],
        &[b"kill", b"nobody", b"TERM"],
        &[b"kill", b"nobody", b"15"],
        &[b"kill", b"nobody"],
        &[b"kill"],
        &[b"kill", b"TERM"],
        &[b"kill", b"--all", b"nobody", b"TERM"],
        &[b"create", b"--bundle"],
        &[b"create", b"-b"],
        &[b"create", b"--bundle=", b"c"],
        &[b"create", b"--bundle", b"", b"c"],
        &[b"create", b"--bundle", b"\xff", b"c"],
        &[b"create", b"--bundle", b"/nowhere", b"--pid-file", b"p", b"c"],
        &[b"run", b"-d", b"-b", b"/nowhere", b"c"],
        &[b"--log"],
        &[b"--log-format"],
        &[b"h"],
    ];
    let long: OsString = "x".repeat(100_000).into();
    let many: Vec<&OsStr> = std::iter::repeat_n(OsStr::new("state"), 5_000).collect();
    let rows = table.iter().map(|row| row.iter().map(|each| bytes(each)).collect::<Vec<_>>());
    all(rows.chain([vec![OsStr::new("state"), &long], many]).map(|row| {
        let name = format!("{:.200}", format!("{row:?}"));
        (name, is_the_same(&room, &row, clone))
    }))
}

fn clone(command: &Command) -> Command {
    let mut cloned = Command::new(command.get_program());
    // This directory has no config.json.
    cloned.args(command.get_args()).current_dir("/");
    // The recorder's descriptors must lead to the same files in both runs. `/dev/null` does, but the output
    // files have no name.
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"exec </dev/null >/dev/null 2>&1; exec "$@""#, "sh"]);
    shell.arg(cloned.get_program()).args(cloned.get_args()).current_dir("/");
    shell
}

/// Tests variables that aren't UTF-8, have no name, or are set twice.
pub fn environment(site: &Site) -> Check {
    let room = Room::new(site)?;
    let table: &[&[(&[u8], &[u8])]] = &[
        &[(b"A", b"\xff\xfe"), (b"\xff", b"x")],
        &[(b"EMPTY", b""), (b"EQUALS", b"=="), (b"LINES", b"a\nb\n")],
        &[(b"RUST_BACKTRACE", b"full"), (b"RUST_LOG", b"trace"), (b"LD_PRELOAD", b"/nowhere.so"), (b"LANG", b"xx")],
        &[
            (b"_LIBCONTAINER_INITPIPE", b"3"),
            (b"NOTIFY_SOCKET", b"@n"),
            (b"LISTEN_FDS", b"1"),
            (b"XDG_RUNTIME_DIR", b""),
        ],
        &[(b"PATH", b"\xff:relative:")],
        &[(b"HOME", b""), (b"TMPDIR", b"/nowhere"), (b"TZ", b":/nowhere")],
    ];
    all(table.iter().map(|row| {
        let start = |command: &Command| {
            // Each of the last variables is set twice, and they aren't in alphabetical order.
            let mut shell = Command::new("/usr/bin/env");
            shell.args(["-i", "-S", "/bin/sh -c"]).arg(r#"exec </dev/null >/dev/null 2>&1; exec "$@""#).arg("sh");
            shell.args(["/usr/bin/env", "-u", "PWD", "Z=1", "A0=2"]);
            for (name, value) in *row {
                shell.arg(OsString::from_iter([OsStr::from_bytes(name), OsStr::new("="), OsStr::from_bytes(value)]));
            }
            shell.arg(command.get_program()).args(command.get_args()).current_dir("/");
            shell
        };
        (format!("{row:?}"), is_the_same(&room, &["state", "c"].map(OsStr::new), start))
    }))
}

/// Tests which program is started as the runtime, for each way to specify it.
pub fn program(site: &Site) -> Check {
    let room = Room::new(site)?;
    for (folder, names) in [("both", &["runc", "crun"][..]), ("crun", &["crun"]), ("other", &["my-runtime"])] {
        fs::create_dir(room.path(folder)).unwrap();
        for name in names {
            symlink(site.recorder()?, room.path(folder).join(name)).unwrap();
        }
    }
    // These aren't programs: a name in PATH doesn't make a file executable.
    fs::create_dir_all(room.path("directory/runc")).unwrap();
    fs::create_dir(room.path("data")).unwrap();
    fs::write(room.path("data/runc"), "").unwrap();
    let table: &[(&[&str], &str, &str)] = &[
        (&["--runtime-path", "@ROOM@/runtime"], "", "@ROOM@/runtime"),
        (&["--runtime-path=@ROOM@/runtime"], "", "@ROOM@/runtime"),
        (&["--runtime-path", "./runtime"], "", "./runtime"),
        (&["--runtime-path", "other/my-runtime"], "", "other/my-runtime"),
        (&["--runtime-path", "my-runtime"], "@ROOM@/both:@ROOM@/other", "@ROOM@/other/my-runtime"),
        (&[], "@ROOM@/both", "@ROOM@/both/runc"),
        (&[], "@ROOM@/crun", "@ROOM@/crun/crun"),
        (&[], "@ROOM@/crun:@ROOM@/both", "@ROOM@/both/runc"),
        (&[], "/nowhere:@ROOM@/directory:@ROOM@/data:@ROOM@/both", "@ROOM@/both/runc"),
    ];
    all(table.iter().map(|(options, path, expected)| {
        let mut command = room.bare_wrapper();
        command.args(options.iter().map(|option| room.filled_in(option))).args(["state", "c"]);
        command.env("PATH", room.filled_in(path));
        let expected = room.filled_in(expected);
        let mut check = || {
            // The recorder writes its record beside the path by which it was started.
            let record = room.path("").join(&expected).with_file_name("record");
            room.run(&mut command)?.expect_code(RECORDED)?;
            let text = fs::read_to_string(&record).map_err(|_| format!("{expected} was not started"))?;
            fs::remove_file(record).unwrap();
            let found = lines_of(&text, "started");
            ensure!(found == [format!("started as {expected}")], "{found:?}");
            Ok(())
        };
        (format!("{options:?} {path}"), check())
    }))
}
