// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line of OCI runtimes, in the forms that runc and crun accept and that engines use. It is parsed but
//! never rejected: the runtime reports what is wrong with it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::log::{Log, LogFormat};

/// Options before the command that take a value.
const GLOBAL: [&str; 7] = ["root", "log", "log-format", "log-level", "criu", "rootless", "cgroup-manager"];
/// Options before the command that take no value.
const GLOBAL_FLAGS: [&str; 8] = ["debug", "systemd-cgroup", "help", "h", "version", "v", "V", "no-pivot"];
/// Options of `create` and `run` that take a value. `config` and `f` are crun's.
const CREATE: [&str; 8] = ["bundle", "b", "config", "f", "console-socket", "pid-file", "pidfd-socket", "preserve-fds"];
/// The commands of runtimes. A word that is not one of them may be the value of an unknown option.
const COMMANDS: [&str; 20] = [
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "help",
    "init",
    "kill",
    "list",
    "mounts",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "update",
];

/// The parts of a command line that matter here.
#[derive(Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The options before the command, except for those about the log.
    pub globals: Vec<OsString>,
    /// Where the runtime is to report errors, in addition to its standard error.
    pub log: Option<Log>,
    pub command: RuntimeCommand,
}

/// A command that the runtime is to run.
#[derive(Debug, PartialEq, Eq)]
pub enum RuntimeCommand {
    /// `create` or `run`.
    Create {
        config: PathBuf,
        id: String,
    },
    /// `kill` for the first process of a single container.
    Kill {
        id: OsString,
        /// The index of the signal in the arguments; `None` for the default, TERM.
        signal: Option<usize>,
    },
    Other,
}

/// Parses the arguments, without the program's name.
#[must_use]
pub fn parse(arguments: &[OsString]) -> CommandLine {
    let mut globals = Vec::new();
    let (mut path, mut format) = (None, LogFormat::Text);
    let mut words = Words::new(arguments, 0, &GLOBAL);
    let mut follows_unknown_option = false;
    let mut command = RuntimeCommand::Other;
    while let Some(word) = words.next() {
        let (name, value) = match word.kind {
            WordKind::Option(name, value) => (name, value),
            WordKind::Plain(text) if follows_unknown_option && !COMMANDS.iter().any(|known| text == *known) => {
                follows_unknown_option = false;
                globals.push(text.to_owned());
                continue;
            }
            WordKind::Plain(text) => {
                command = match text.as_bytes() {
                    b"create" | b"run" => create(arguments, words.at),
                    b"kill" => kill(arguments, words.at),
                    _ => RuntimeCommand::Other,
                };
                break;
            }
        };
        follows_unknown_option = value.is_none() && !GLOBAL_FLAGS.contains(&name);
        match (name, value) {
            ("log", Some(value)) => path = Some(value),
            ("log-format", Some(value)) => format = if value == "json" { LogFormat::Json } else { LogFormat::Text },
            _ => globals.extend(arguments.get(word.at..words.at).unwrap_or_default().iter().cloned()),
        }
    }
    let log = path.and_then(log_file).map(|path| Log { path: path.to_owned(), format });
    CommandLine { globals, log, command }
}

/// Returns the path of the log file. Returns `None` for other destinations, which crun supports.
fn log_file(value: &OsStr) -> Option<&Path> {
    let bytes = value.as_bytes();
    if bytes.starts_with(b"journald:") || bytes.starts_with(b"syslog:") {
        return None;
    }
    let path = bytes.strip_prefix(b"file:").unwrap_or(bytes);
    if path.is_empty() { None } else { Some(Path::new(OsStr::from_bytes(path))) }
}

/// Parses the arguments of `create` or `run`. Without an ID, or if help is requested, the runtime creates nothing.
fn create(arguments: &[OsString], at: usize) -> RuntimeCommand {
    const FILE: &str = "config.json";
    let (mut bundle, mut file, mut id) = (OsStr::new(""), OsStr::new(FILE), None);
    for word in Words::new(arguments, at, &CREATE) {
        match word.kind {
            WordKind::Option("bundle" | "b", Some(value)) => bundle = value,
            WordKind::Option("config" | "f", Some(value)) => file = value,
            WordKind::Option("help" | "h" | "?" | "usage", _) => return RuntimeCommand::Other,
            WordKind::Option(..) => {}
            WordKind::Plain(text) => id = Some(text),
        }
    }
    match id {
        // crun resolves any other file relative to its working directory.
        Some(id) => RuntimeCommand::Create {
            config: if file == FILE { Path::new(bundle).join(file) } else { PathBuf::from(file) },
            id: id.to_string_lossy().into_owned(),
        },
        None => RuntimeCommand::Other,
    }
}

fn kill(arguments: &[OsString], at: usize) -> RuntimeCommand {
    let mut plain = Vec::new();
    for word in Words::new(arguments, at, &[]) {
        match word.kind {
            // `--all` affects every process, and crun's `--regex` several containers.
            WordKind::Option(..) => return RuntimeCommand::Other,
            WordKind::Plain(text) => plain.push((word.at, text)),
        }
    }
    match plain.as_slice() {
        [(_, id)] => RuntimeCommand::Kill { id: (*id).to_owned(), signal: None },
        [(_, id), (signal, _)] => RuntimeCommand::Kill { id: (*id).to_owned(), signal: Some(*signal) },
        _ => RuntimeCommand::Other,
    }
}

/// One argument, or two if an option's value is a separate argument.
struct Word<'a> {
    /// The index of this word's first argument.
    at: usize,
    kind: WordKind<'a>,
}

enum WordKind<'a> {
    Option(&'a str, Option<&'a OsStr>),
    Plain(&'a OsStr),
}

/// Splits arguments into words. Options may appear anywhere before `--`. runc also accepts `-name`, and crun also
/// accepts `-bVALUE` and the beginning of a name.
struct Words<'a> {
    arguments: &'a [OsString],
    at: usize,
    /// The options that take a value.
    valued: &'static [&'static str],
    options_ended: bool,
}

impl<'a> Words<'a> {
    fn new(arguments: &'a [OsString], at: usize, valued: &'static [&'static str]) -> Self {
        Self { arguments, at, valued, options_ended: false }
    }

    fn option(&mut self, text: &'a OsStr) -> Option<WordKind<'a>> {
        let (name, value) = split(text);
        let name = std::str::from_utf8(name).ok()?.strip_prefix('-')?;
        let (name, is_long) = name.strip_prefix('-').map_or((name, false), |long| (long, true));
        if name.is_empty() {
            return None;
        }
        let known = self.valued.iter().find(|valued| **valued == name);
        let known = known.or_else(|| self.valued.iter().find(|valued| is_long && valued.starts_with(name)));
        match known {
            Some(known) => Some(WordKind::Option(known, value.or_else(|| self.next_argument()))),
            None if is_long => Some(WordKind::Option(name, value)),
            None => Some(self.letters(text).unwrap_or(WordKind::Option(name, value))),
        }
    }

    /// Parses crun's short options, which may be combined, with `-d` in front of another and a value
    /// at the end: `-dbVALUE`.
    fn letters(&mut self, text: &'a OsStr) -> Option<WordKind<'a>> {
        let letters = text.as_bytes().get(1..)?;
        let letters = letters.strip_prefix(b"d").filter(|rest| !rest.is_empty()).unwrap_or(letters);
        let (first, value) = letters.split_first()?;
        let known = self.valued.iter().find(|valued| valued.as_bytes() == [*first])?;
        let value = if value.is_empty() { self.next_argument() } else { Some(OsStr::from_bytes(value)) };
        Some(WordKind::Option(known, value))
    }

    fn next_argument(&mut self) -> Option<&'a OsStr> {
        let argument = self.arguments.get(self.at)?;
        self.at += 1;
        Some(argument)
    }
}

/// Splits an option into its name, including the dashes, and its value, which follows a `=`.
pub fn split(option: &OsStr) -> (&[u8], Option<&OsStr>) {
    let bytes = option.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            let (name, value) = bytes.split_at(at);
            (name, value.get(1..).map(OsStr::from_bytes))
        }
        None => (bytes, None),
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let mut at = self.at;
        let mut text = self.next_argument()?;
        if text == "--" && !self.options_ended {
            self.options_ended = true;
            at = self.at;
            text = self.next_argument()?;
        }
        let option = if self.options_ended { None } else { self.option(text) };
        Some(Word { at, kind: option.unwrap_or(WordKind::Plain(text)) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(line: &str) -> CommandLine {
        parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn finds_the_bundle_and_the_id() {
        for (line, config, id) in [
            ("create --bundle /b c", "/b/config.json", "c"),
            ("run -b /b c", "/b/config.json", "c"),
            ("create --bundle=/b c", "/b/config.json", "c"),
            ("create -bundle /b c", "/b/config.json", "c"),
            ("create -b=/b c", "/b/config.json", "c"),
            ("create -b/b c", "/b/config.json", "c"),
            ("create --bun /b c", "/b/config.json", "c"),
            ("create c --bundle /b", "/b/config.json", "c"),
            ("run -d c", "config.json", "c"),
            ("create --bundle rel c", "rel/config.json", "c"),
            ("create -b /b -f other.json c", "other.json", "c"),
            ("run -db /b c", "/b/config.json", "c"),
            ("run -db/b c", "/b/config.json", "c"),
            ("run -b/b=x c", "/b=x/config.json", "c"),
            ("run -detach -b /b c", "/b/config.json", "c"),
            ("create --bundle /b --config=/x.json c", "/x.json", "c"),
            ("create --no-pivot --pid-file create --bundle /b --preserve-fds 2 -- -c", "/b/config.json", "-c"),
            ("create --unknown --bundle /b c", "/b/config.json", "c"),
            ("create c --bundle", "config.json", "c"),
            // As containerd's shim, podman's conmon and Docker call the runtime.
            (
                "--root /run/containerd/runc/k8s.io --log /b/log.json --log-format json --systemd-cgroup \
                 create --bundle /b --pid-file /b/init.pid --console-socket /tmp/pty.sock c",
                "/b/config.json",
                "c",
            ),
            ("--root=run --debug create -b /b c", "/b/config.json", "c"),
            ("--root run --rootless true create -b /b c", "/b/config.json", "c"),
            ("--cgroup-manager systemd --log-level debug run -b /b c", "/b/config.json", "c"),
            ("--platform ptrace --debug run -b /b c", "/b/config.json", "c"),
        ] {
            let expected = RuntimeCommand::Create { config: config.into(), id: id.to_owned() };
            assert_eq!(read(line).command, expected, "{line}");
        }
    }

    #[test]
    fn finds_the_signal() {
        for (line, id, signal) in [
            ("kill c", "c", None),
            ("kill c TERM", "c", Some(2)),
            ("--root /r kill c 15", "c", Some(4)),
            ("kill -- c KILL", "c", Some(3)),
        ] {
            assert_eq!(read(line).command, RuntimeCommand::Kill { id: id.into(), signal }, "{line}");
        }
    }

    #[test]
    fn leaves_the_rest_to_the_runtime() {
        for line in [
            "",
            "--version",
            "--help",
            "help create",
            "create --bundle /b",
            "create --help",
            "run -h --bundle /b c",
            "exec c create --bundle /b c",
            "kill --all c TERM",
            "kill -r c TERM",
            "kill c TERM more",
            "kill",
            "restore --bundle /b c",
            "-- -create",
        ] {
            assert_eq!(read(line).command, RuntimeCommand::Other, "{line}");
        }
    }

    #[test]
    fn finds_the_log_and_keeps_the_other_global_options() {
        let at = |path: &str, format| Some(Log { path: path.into(), format });
        for (line, globals, log) in [
            ("--root /r state c", &["--root", "/r"][..], None),
            ("--log /l --log-format json state c", &[], at("/l", LogFormat::Json)),
            ("--log-format=json --log=/l --debug state c", &["--debug"], at("/l", LogFormat::Json)),
            ("--log file:/l state c", &[], at("/l", LogFormat::Text)),
            ("--log journald:c state c", &[], None),
            ("--log file: state c", &[], None),
            ("--platform ptrace --log=/l state c", &["--platform", "ptrace"], at("/l", LogFormat::Text)),
        ] {
            let read = read(line);
            assert_eq!(read.globals, globals, "{line}");
            assert_eq!(read.log, log, "{line}");
        }
    }
}
