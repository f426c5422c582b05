// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs a program until it exits, or waits for a condition, within a deadline.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Much longer than any call takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// A program that has exited.
#[derive(Debug, Clone)]
pub struct Finished {
    pub pid: u32,
    /// The exit code. `None` if a signal killed the program.
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {:?}\nstdout: {}\nstderr: {}", self.code, self.output, self.errors)
    }
}

impl Finished {
    pub fn expect_code(self, code: i32) -> Result<Self, String> {
        if self.code == Some(code) { Ok(self) } else { Err(format!("expected code {code}, not {self}")) }
    }
}

/// Runs a program until it exits. Its output goes to files: if a remaining grandchild kept a pipe open, the
/// reader would wait forever.
pub fn run(command: &mut Command) -> Result<Finished, String> {
    let tempfile = || tempfile::tempfile().map_err(|error| format!("cannot make a file: {error}"));
    let (mut output, mut errors) = (tempfile()?, tempfile()?);
    let handle = |file: &File| file.try_clone().map_err(|error| format!("cannot duplicate a descriptor: {error}"));
    let line = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(handle(&output)?)
        .stderr(handle(&errors)?)
        .spawn()
        .map_err(|error| format!("{line} did not start: {error}"))?;
    let pid = child.id();
    let status = ended(&mut child, &line)?;
    Ok(Finished { pid, code: status.code(), output: everything(&mut output)?, errors: everything(&mut errors)? })
}

/// Polls until `look` succeeds. The error after the deadline contains the last error of `look`.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(last) if begun.elapsed() > DEADLINE => return Err(format!("waited too long for {what}: {last}")),
            Err(_) => {}
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn everything(file: &mut File) -> Result<String, String> {
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read output: {error}"))?;
    Ok(text_of(&bytes))
}

/// Returns the bytes as a string in which those that aren't UTF-8 are escaped, so that they remain distinct.
pub fn text_of(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.push_str(&chunk.invalid().escape_ascii().to_string());
    }
    text
}

/// Runs a program as [`run`] does, but appends all output to a file, which processes that it leaves running can
/// continue to write to.
pub fn run_into(command: &mut Command, file: &Path) -> Result<Finished, String> {
    let said = File::options().create(true).append(true).open(file).unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn()
        .map_err(|error| format!("{command:?} did not start: {error}"))?;
    let pid = child.id();
    let status = ended(&mut child, &format!("{command:?}"))?;
    let output = text_of(&std::fs::read(file).unwrap());
    Ok(Finished { pid, code: status.code(), output, errors: String::new() })
}

/// Waits for a child, and kills it after the deadline.
fn ended(child: &mut Child, line: &str) -> Result<ExitStatus, String> {
    let status = until(&format!("the end of {line}"), || match child.try_wait() {
        Ok(status) => status.ok_or("it still runs".to_owned()),
        Err(error) => Err(error.to_string()),
    });
    if status.is_err() {
        // At worst, it has exited in the meantime.
        let _ = child.kill();
        let _ = child.wait();
    }
    status
}
