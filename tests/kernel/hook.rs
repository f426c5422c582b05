// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls the hook as a runtime does, with a deadline.

use std::ffi::OsString;
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use crate::Check;
use crate::bundle::Bundle;

/// A call takes some milliseconds, or seconds on a busy machine if other processes constantly rename files, since
/// openat2(2) then fails with EAGAIN and is tried again. A call that is blocked ends after 45 s by its own time
/// limit, which must count as a failure.
pub const DEADLINE: Duration = Duration::from_secs(40);
/// The program's name, which begins each line that the hook prints.
pub const SAYS: &str = "oci-systemd-hook: ";

/// How the hook is called, if not as usual.
#[derive(Debug, Default)]
pub struct How<'a> {
    /// The working directory. By default it is the root, as with runc.
    pub cwd: Option<PathBuf>,
    /// Shell commands that run first, such as one that sets a limit.
    pub first: Option<&'a str>,
    /// A program that runs the hook, such as a tracer, with its arguments.
    pub under: &'a [String],
    /// The hook's options.
    pub options: &'a [&'a str],
    /// The stage, as a command-line argument.
    pub word: Option<&'a str>,
    /// Whether the hook gets an empty environment, as with runc.
    pub no_environment: bool,
}

/// The result of a call.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    /// The signal that killed the hook, if one did.
    pub signal: Option<i32>,
    pub stderr: String,
}

impl Finished {
    /// Checks that the hook succeeded and printed nothing.
    pub fn silently(&self) -> Check {
        ensure!(self.code == Some(0) && self.stderr.is_empty(), "expected silence and status 0: {self:?}");
        Ok(())
    }

    /// Checks that the hook succeeded and printed one line with these words.
    pub fn with_warning(&self, words: &[&str]) -> Check {
        ensure!(self.code == Some(0), "expected status 0: {self:?}");
        self.one_line(words)
    }

    /// Checks that the hook failed and printed one line with these words.
    pub fn refused(&self, words: &[&str]) -> Check {
        ensure!(self.code == Some(1), "expected status 1: {self:?}");
        self.one_line(words)
    }

    fn one_line(&self, words: &[&str]) -> Check {
        let lines: Vec<&str> = self.stderr.lines().collect();
        ensure!(lines.len() == 1 && lines[0].starts_with(SAYS), "expected one line from the hook: {:?}", self.stderr);
        ensure!(self.stderr.ends_with('\n'), "the line does not end in a newline: {:?}", self.stderr);
        for word in words {
            ensure!(self.stderr.contains(word), "expected {word:?} in {:?}", self.stderr);
        }
        Ok(())
    }

    /// Checks that the hook either succeeded, with or without warnings, or failed with one line.
    pub fn in_order(&self) -> Check {
        match self.code {
            Some(0) => {
                let all_ours = self.stderr.lines().all(|line| line.starts_with(SAYS));
                ensure!(all_ours, "not all lines are from the hook: {:?}", self.stderr);
                Ok(())
            }
            _ => self.refused(&[]),
        }
    }
}

/// Returns the path of the hook's binary.
pub fn program() -> PathBuf {
    std::env::var_os("OCI_SYSTEMD_HOOK").unwrap_or_else(|| env!("CARGO_BIN_EXE_oci-systemd-hook").into()).into()
}

impl Bundle {
    /// Calls the hook as at createContainer.
    pub fn create(&self) -> Result<Finished, String> {
        self.create_as(&How::default())
    }

    pub fn create_as(&self, how: &How<'_>) -> Result<Finished, String> {
        self.call(self.state.to_string().as_bytes(), how)
    }

    /// Calls the hook as after the container's end.
    pub fn poststop(&self) -> Result<Finished, String> {
        self.poststop_as(&How { cwd: Some("/".into()), ..How::default() })
    }

    pub fn poststop_as(&self, how: &How<'_>) -> Result<Finished, String> {
        let mut state = self.state.clone();
        state["status"] = json!("stopped");
        state["annotations"] = Value::Null;
        self.call(state.to_string().as_bytes(), how)
    }

    /// Calls the hook with this on standard input.
    pub fn call(&self, input: &[u8], how: &How<'_>) -> Result<Finished, String> {
        let shell = |first: &str| ["/bin/sh", "-c", &format!("{first} exec \"$0\" \"$@\"")].map(OsString::from);
        let mut words: Vec<OsString> = Vec::new();
        // The next hook runs in the cgroup to which an earlier hook has moved the container.
        let enter = "cd \"$OSH_CGROUP\"; { echo $$ >payload/cgroup.procs || echo $$ >cgroup.procs; } 2>/dev/null; cd \"$OSH_CWD\"; unset OSH_CGROUP OSH_CWD;";
        let cwd = how.cwd.clone().unwrap_or_else(|| self.root(""));
        let own_cgroup = self.cgroup.as_ref().filter(|_| self.state.get("pid").is_none());
        if own_cgroup.is_some() {
            words.extend(shell(enter));
        }
        match how.first {
            Some(first) => words.extend(shell(first)),
            None => words.extend(how.under.iter().map(OsString::from)),
        }
        words.push(program().into());
        let mut command = Command::new(words.remove(0));
        command.args(words);
        let mut stderr = tempfile::tempfile().unwrap();
        let mut stdout = tempfile::tempfile().unwrap();
        command
            .args(how.options)
            .args(how.word)
            .env_clear()
            .current_dir(&cwd)
            .stdin(Stdio::piped())
            .stdout(stdout.try_clone().unwrap())
            .stderr(stderr.try_clone().unwrap())
            .process_group(0);
        // A tracer would obey TZ.
        if !how.no_environment && how.under.is_empty() {
            // As with runc 1.1, the hook gets the container's environment, none of which it may obey.
            command.env("XDG_RUNTIME_DIR", self.host("")).env("TZ", format!(":{}", self.fifo().display()));
        }
        if let Some(cgroup) = own_cgroup {
            command.env("OSH_CGROUP", cgroup.path()).env("OSH_CWD", &cwd);
        }
        let mut child = command.spawn().map_err(|error| format!("cannot run the hook: {error}"))?;
        let mut stdin = child.stdin.take().unwrap();
        let until = Instant::now() + DEADLINE;
        let status = std::thread::scope(|scope| {
            // The hook may exit without having read all of it.
            scope.spawn(move || drop(stdin.write_all(input)));
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    return Ok(status);
                }
                if Instant::now() > until {
                    // The process group includes the tracer, which would otherwise leave the hook running.
                    rustix::process::kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
                    child.wait().unwrap();
                    return Err(format!("the hook still ran after {DEADLINE:?}"));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        })?;
        let mut said = String::new();
        for (name, file) in [("stdout", &mut stdout), ("stderr", &mut stderr)] {
            said.clear();
            file.rewind().unwrap();
            file.read_to_string(&mut said).map_err(|error| format!("cannot read {name}: {error}"))?;
            ensure!(name == "stderr" || said.is_empty(), "it said {said:?} on stdout");
            // Names in the line come from the image, and the line goes to a terminal and to logs.
            let controls = said.contains(|c: char| c.is_control() && c != '\n');
            ensure!(!controls, "control characters in {said:?}");
        }
        Ok(Finished { code: status.code(), signal: status.signal(), stderr: said })
    }
}
