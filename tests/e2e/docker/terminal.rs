// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Communicates with a program on a terminal, like a user in front of it.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use libtest_mimic::Failed;
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::command::{Kept, Look, ended, spelled, until};

/// A terminal, and the program whose controlling terminal it is.
#[derive(Debug)]
pub struct Terminal {
    child: Kept,
    line: String,
    /// The user's end of the terminal.
    screen: File,
    /// All output so far, including escape sequences.
    bytes: Vec<u8>,
    /// The offset in the plain text of the output up to which the user has read.
    read: usize,
}

impl Terminal {
    pub fn new(command: &Command) -> Result<Self, Failed> {
        let screen = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::grantpt(&screen)?;
        rustix::pty::unlockpt(&screen)?;
        let name = rustix::pty::ptsname(&screen, Vec::new())?;
        let tty = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::termios::tcsetwinsize(&tty, Winsize { ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 })?;
        rustix::fs::fcntl_setfl(&screen, OFlags::RDWR | OFlags::NONBLOCK)?;
        let mut on_it = Command::new("setsid");
        on_it.args(["--ctty", "--wait", "--"]).arg(command.get_program()).args(command.get_args());
        on_it.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir("/");
        let tty = File::from(tty);
        let child = Kept(on_it.stdin(tty.try_clone()?).stdout(tty.try_clone()?).stderr(tty).spawn()?);
        let line = spelled(command);
        let screen = File::from(screen);
        Ok(Self { child, line, screen, bytes: Vec::new(), read: 0 })
    }

    /// Reads until `words` are shown, and returns everything up to their end.
    pub fn expect(&mut self, words: &str, limit: Duration) -> Result<String, Failed> {
        until(&format!("{words:?} on the terminal"), limit, || {
            let at_end = self.see();
            let text = plain(&String::from_utf8_lossy(&self.bytes));
            let unread = &text[self.read..];
            match (unread.find(words), at_end) {
                (Some(at), _) => {
                    let told = unread[..at + words.len()].to_owned();
                    self.read += told.len();
                    Look::Done(told)
                }
                (None, Ok(false)) => Look::NotYet(unread.to_owned()),
                (None, Ok(true)) => Look::Never(format!("it is closed after {unread:?}")),
                (None, Err(error)) => Look::Never(error.to_string()),
            }
        })
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) -> Result<(), Failed> {
        // A terminal sends a carriage return for the Enter key.
        Ok(self.screen.write_all(format!("{line}\r").as_bytes())?)
    }

    /// Waits for the program's end.
    pub fn ended(mut self, limit: Duration) -> Result<ExitStatus, Failed> {
        ended(&mut self.child.0, &self.line, limit)
    }

    /// Reads the available output. Returns `true` at the end.
    fn see(&mut self) -> std::io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            match self.screen.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(length) => self.bytes.extend(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                // Linux returns this error if no process has the other end open.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Returns the text without colors, links and carriage returns. An incomplete escape sequence at
/// the end is omitted.
fn plain(text: &str) -> String {
    const ESCAPE: char = '\u{1b}';
    const BELL: char = '\u{7}';
    let mut told = String::new();
    let mut rest = text.chars();
    while let Some(one) = rest.next() {
        match one {
            ESCAPE => match rest.next() {
                Some('[') => drop(rest.find(|one| ('@'..='~').contains(one))),
                Some(']') => drop(rest.find(|&one| one == BELL || one == '\\')),
                _ => {}
            },
            '\r' => {}
            one => told.push(one),
        }
    }
    told
}
