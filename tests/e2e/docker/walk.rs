// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows what a user does in front of a terminal, from the boot messages by the login prompt to the last ones.

use std::time::Duration;

use libtest_mimic::Failed;

use crate::boot::same;
use crate::command::SHORT;
use crate::docker::engine::{Engine, WRAPPED};
use crate::docker::stock::PASSWORD;
use crate::docker::terminal::Terminal;
use crate::engines::image::IMAGE;
use crate::inside::BOOT;

/// agetty and login take their time on a busy machine.
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
    // Units stop at the same time, so that their messages come in any order.
    let told = terminal.expect("Reached target umount.target", SHORT)?;
    for words in ["Stopped target", "nginx.service"] {
        if !told.contains(words) {
            return Err(format!("no {words:?} at the end: {told}").into());
        }
    }
    same("docker's exit code", &format!("{:?}", terminal.ended(SHORT)?.code()), "Some(0)")?;
    engine.ask(&["rm", "web"]).map(drop)
}

/// What root's shell shows when it is ready.
const PROMPT: &str = ":~# ";

/// What a command shows, which the shell repeats first.
fn ask(terminal: &mut Terminal, command: &str) -> Result<String, Failed> {
    terminal.type_line(command)?;
    terminal.expect(command, SHORT)?;
    terminal
        .expect(PROMPT, SHORT)
        .map(|told| told.rsplit_once('\n').map_or_else(String::new, |(told, _)| told.to_owned()))
}
