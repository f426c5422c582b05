// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests what a user does at a terminal, from the boot messages and the login to the shutdown messages.

use std::time::Duration;

use libtest_mimic::Failed;

use crate::boot::same;
use crate::command::SHORT;
use crate::docker::engine::{Engine, WRAPPED};
use crate::docker::stock::PASSWORD;
use crate::docker::terminal::Terminal;
use crate::engines::image::IMAGE;
use crate::inside::BOOT;

/// The time limit for agetty and login, which are slow on a busy machine.
const LOGIN: Duration = Duration::from_secs(60);

pub fn through(engine: &Engine) -> Result<(), Failed> {
    let words = ["run", "-it", "--runtime", WRAPPED, "--name=web", IMAGE, "/sbin/init"];
    let mut terminal = Terminal::new(&engine.command(&words))?;
    terminal.expect("Welcome to Debian GNU/Linux 12", BOOT)?;
    terminal.expect("nginx.service", BOOT)?;
    terminal.expect("login: ", LOGIN)?;
    terminal.type_line("root")?;
    terminal.expect("Password: ", LOGIN)?;
    terminal.type_line(PASSWORD)?;
    terminal.expect(PROMPT, LOGIN)?;
    let said = ask(&mut terminal, "systemctl is-system-running --wait")?;
    same("the system", said.trim(), "running")?;
    let status = ask(&mut terminal, "systemctl status --no-pager nginx")?;
    let tree = status.split_once("CGroup: ").map(|(_, tree)| tree).unwrap_or_default();
    for process in ["nginx: master process", "nginx: worker process"] {
        if !tree.contains(process) {
            return Err(format!("no {process:?} in nginx's tree: {status}").into());
        }
    }
    let page = ask(&mut terminal, "curl --silent --show-error localhost")?;
    if !page.contains("<title>Welcome to nginx!</title>") {
        return Err(format!("not nginx's page: {page}").into());
    }
    engine.ask(&["stop", "web"])?;
    // Units stop at the same time, so their messages come in any order.
    let told = terminal.expect("Reached target umount.target", SHORT)?;
    for words in ["Stopped target", "nginx.service"] {
        if !told.contains(words) {
            return Err(format!("no {words:?} at the end: {told}").into());
        }
    }
    same("docker's exit code", &format!("{:?}", terminal.ended(SHORT)?.code()), "Some(0)")?;
    engine.ask(&["rm", "web"]).map(drop)
}

/// The prompt of root's shell.
const PROMPT: &str = ":~# ";

/// Returns the output of a command. The shell echoes the command first.
fn ask(terminal: &mut Terminal, command: &str) -> Result<String, Failed> {
    terminal.type_line(command)?;
    terminal.expect(command, SHORT)?;
    terminal
        .expect(PROMPT, SHORT)
        .map(|told| told.rsplit_once('\n').map_or_else(String::new, |(told, _)| told.to_owned()))
}
