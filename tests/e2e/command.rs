// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs a program to its end, or waits for something, within a deadline.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

/// The time limit for programs that only query or mount something. Programs that boot a system have other limits.
pub const SHORT: Duration = Duration::from_secs(30);

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    pub line: String,
    pub status: ExitStatus,
    pub output: String,
    pub errors: String,
}

impl Finished {
    /// Returns the standard output of a program, or an error if the program failed.
    pub fn expect_success(self) -> Result<String, Failed> {
        if self.status.success() { Ok(self.output) } else { Err(self.told().into()) }
    }

    pub fn told(&self) -> String {
        format!("`{}`: {}\n{}{}", self.line, self.status, self.output, self.errors)
    }
}

/// Runs a program to its end. Its output goes to files, because a grandchild that is left behind could keep a pipe
/// open and make the reader wait forever.
pub fn run(command: &mut Command, limit: Duration) -> Result<Finished, Failed> {
    run_from(command, Stdio::null(), limit)
}

/// Does the same as [`run`] with a standard input.
pub fn run_from(command: &mut Command, input: Stdio, limit: Duration) -> Result<Finished, Failed> {
    let mut output = tempfile::tempfile()?;
    let mut errors = tempfile::tempfile()?;
    let line = spelled(command);
    let mut child = command
        .stdin(input)
        .stdout(output.try_clone()?)
        .stderr(errors.try_clone()?)
        .spawn()
        .map_err(|error| format!("`{line}` did not start: {error}"))?;
    let status = ended(&mut child, &line, limit)?;
    Ok(Finished { line, status, output: everything(&mut output)?, errors: everything(&mut errors)? })
}

/// Runs several programs at the same time and returns their output. Fails if one of them fails.
pub fn run_at_once(commands: Vec<Command>, limit: Duration) -> Result<Vec<String>, Failed> {
    let mut calls = Vec::new();
    for mut command in commands {
        let line = spelled(&command);
        calls.push((command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?, line));
    }
    let mut told = Vec::new();
    for (mut call, line) in calls {
        let status = ended(&mut call, &line, limit)?;
        told.push(std::io::read_to_string(call.stdout.take().ok_or("no pipe")?)?);
        if !status.success() {
            return Err(format!("`{line}`: {status}").into());
        }
    }
    Ok(told)
}

/// Does the same as [`run`] with all output in a file, to which processes that are left running
/// can continue to write.
pub fn run_into(command: &mut Command, file: &Path, limit: Duration) -> Result<Finished, Failed> {
    let said = File::options().create(true).append(true).open(file)?;
    let line = spelled(command);
    let mut child = command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).spawn()?;
    let status = ended(&mut child, &line, limit)?;
    Ok(Finished {
        line,
        status,
        output: String::from_utf8_lossy(&std::fs::read(file)?).into_owned(),
        errors: String::new(),
    })
}

/// Waits for a child, and kills it at the deadline.
pub fn ended(child: &mut Child, line: &str, limit: Duration) -> Result<ExitStatus, Failed> {
    let waited = until(&format!("the end of `{line}`"), limit, || match child.try_wait() {
        Ok(Some(status)) => Look::Done(status),
        Ok(None) => Look::NotYet("still runs".to_owned()),
        Err(error) => Look::Never(error.to_string()),
    });
    if waited.is_err() {
        child.kill()?;
        child.wait()?;
    }
    waited
}

/// A child that is killed when this value is dropped.
#[derive(Debug)]
pub struct Kept(pub Child);

impl Drop for Kept {
    fn drop(&mut self) {
        // The child may already have ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The result of one check of something that is waited for.
pub enum Look<T> {
    Done(T),
    NotYet(String),
    /// Waiting longer can't help.
    Never(String),
}

/// Repeats a check until it succeeds. At the deadline, fails with the last result.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Look<T>) -> Result<T, Failed> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let last = match look() {
            Look::Done(value) => return Ok(value),
            Look::Never(why) => return Err(format!("no {what}: {why}").into()),
            Look::NotYet(last) => last,
        };
        if begun.elapsed() > limit {
            return Err(format!("waited {} s for {what}; last: {last}", limit.as_secs()).into());
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

pub fn spelled(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn everything(file: &mut File) -> Result<String, Failed> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
