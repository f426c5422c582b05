// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests the system container in contrib/system-container under runc: its files as `atomic install --system` would
//! install them, run as the host's systemd would run them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::boot::{PROBE, has_come_up, has_what_systemd_needs, same};
use crate::command::{SHORT, run, run_into};
use crate::config::Config;
use crate::container::{Cell, Container, Planted};
use crate::inside::{BOOT, Inside};
use crate::site::Site;
use crate::upper;

const CONFIG: &str = include_str!("../../contrib/system-container/config.json.template");
const MANIFEST: &str = include_str!("../../contrib/system-container/manifest.json");
const SERVICE: &str = include_str!("../../contrib/system-container/service.template");
const TMPFILES: &str = include_str!("../../contrib/system-container/tmpfiles.template");

pub const PROGRAMS: [&str; 2] = ["systemd-analyze", "systemd-tmpfiles"];

/// A file for the mount point in the read-only root.
const RESOLV_CONF: Planted = Planted::File("etc/resolv.conf", 0o644, "");

/// Tests the container from its boot to its end as a unit of the host.
pub fn whole_life(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let container = new(site, cell)?;
    let installed = Installed::new(site, &container)?;
    container.explain(|container| {
        installed.unit_is_valid()?;
        installed.starts(container)?;
        has_come_up(container)?;
        has_what_systemd_needs(container)?;
        same("the host's name", container.ask(&["cat", "/proc/sys/kernel/hostname"])?.trim(), container.id())?;
        // /var is a copy of the image's that the first start has created. The rest of the image is unchanged.
        container.ask(&["test", "-e", "/var/lib/dpkg/status"])?;
        container.ask(&["touch", "/var/lib/kept"])?;
        let written = container.exec(&["touch", "/etc/written"])?;
        if written.status.success() {
            return Err("the root can be written to".into());
        }
        installed.sends_its_signal(container)?;
        container.until_stopped()?;
        installed.cleans_up(container)
    })?;
    fs::metadata(installed.var.join("lib/kept"))?;
    container.host_is_as_before()?;
    upper::nobody_wrote(&container)
}

/// Tests that the same files fail without the hooks. Otherwise the test above would prove nothing.
pub fn without_hooks(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let container = new(site, cell)?;
    let installed = Installed::new(site, &container)?;
    let file = container.home().join("bundle/config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    config.as_object_mut().and_then(|config| config.remove("hooks")).ok_or("config.json has no hooks")?;
    fs::write(&file, config.to_string())?;
    container.explain(|container| {
        installed.starts(container)?;
        container.until_stopped()?;
        installed.cleans_up(container)
    })?;
    container.host_is_as_before()?;
    upper::nobody_wrote(&container)
}

fn new(site: &Arc<Site>, cell: Cell) -> Result<Container, Failed> {
    Container::new(site, cell, &Config::default(), &[&PROBE[..], &[RESOLV_CONF]].concat())
}

/// The files that `atomic` installs on the host.
struct Installed {
    /// The settings of the unit's section `Service`.
    service: BTreeMap<String, String>,
    unit: PathBuf,
    /// The host's directory that is mounted as the container's /var.
    var: PathBuf,
}

impl Installed {
    /// Installs the files in the container's bundle, with directories of the test in place of the host's.
    fn new(site: &Site, container: &Container) -> Result<Self, Failed> {
        let home = container.home();
        let runtime = home.join("runtime");
        let script = format!("#!/bin/sh\nexec {} --root {}/state \"$@\"\n", container.cell().runtime, home.display());
        fs::write(&runtime, script)?;
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755))?;
        for name in ["etc", "run", "lib"] {
            fs::create_dir(home.join(name))?;
        }
        fs::write(home.join("etc/resolv.conf"), "nameserver 192.0.2.1\n")?;

        let manifest: Value = serde_json::from_str(MANIFEST)?;
        let defaults = manifest["defaultValues"].as_object().ok_or("the manifest has no defaultValues")?;
        let mut values: BTreeMap<&str, String> = BTreeMap::new();
        for (name, value) in defaults {
            values.insert(name, value.as_str().ok_or("a default value is not a string")?.to_owned());
        }
        // Corresponds to --set, for values that differ from the manifest's.
        for (name, value) in [("HOOK", site.hook().display().to_string()), ("CGROUPS_PATH", container.cgroup())] {
            values.insert(name, value).ok_or(format!("the manifest has no {name}"))?;
        }
        let at = |name: &str| home.join(name).display().to_string();
        let pid_file = at(&format!("run/container-{}.pid", container.id()));
        // Without --systemd-cgroup, which atomic adds on a host that runs systemd.
        let start = format!("{} run -d --pid-file {pid_file} '{}'", at("runtime"), container.id());
        values.extend([
            ("RUN_DIRECTORY", at("run")),
            ("CONF_DIRECTORY", at("etc")),
            ("STATE_DIRECTORY", at("lib")),
            ("PIDFILE", pid_file),
            ("RUNTIME", at("runtime")),
            ("DESTDIR", at("bundle")),
            ("NAME", container.id().to_owned()),
            ("UUID", "6a5f1b7c-3f0e-4d53-9d6b-0d8c0f5d2a11".to_owned()),
            ("EXEC_START", start),
            ("EXEC_STARTPRE", String::new()),
            ("EXEC_STOP", String::new()),
            ("EXEC_STOPPOST", format!("{} delete '{}'", at("runtime"), container.id())),
            ("HOST_UID", "0".to_owned()),
            ("HOST_GID", "0".to_owned()),
            ("IMAGE_NAME", "web".to_owned()),
            ("IMAGE_ID", container.id().to_owned()),
        ]);

        let config = render(CONFIG, &values)?;
        let root = &serde_json::from_str::<Value>(&config)?["root"];
        // atomic accepts nothing else.
        same("the root", &root.to_string(), r#"{"path":"rootfs","readonly":true}"#)?;
        fs::write(home.join("bundle/config.json"), config)?;

        let tmpfiles = home.join("tmpfiles.conf");
        fs::write(&tmpfiles, render(TMPFILES, &values)?)?;
        let mut make = container.holder().command("systemd-tmpfiles");
        let made = run(make.arg("--create").arg(&tmpfiles), SHORT)?;
        same("what systemd-tmpfiles says", &made.errors, "")?;
        made.expect_success()?;

        let service = render(SERVICE, &values)?;
        let unit = home.join(format!("{}.service", container.id()));
        fs::write(&unit, &service)?;
        Ok(Self { service: section(&service, "Service"), unit, var: home.join("lib").join(container.id()) })
    }

    /// Checks that the host's systemd understands every line of the unit.
    fn unit_is_valid(&self) -> Result<(), Failed> {
        let mut verify = Command::new("systemd-analyze");
        let verified = run(verify.args(["--man=no", "verify"]).arg(&self.unit), SHORT)?;
        let name = self.unit.file_stem().unwrap_or_default().to_string_lossy();
        // Messages about other units, with which this one would start, are ignored.
        let said: Vec<&str> = verified.errors.lines().filter(|line| line.contains(&*name)).collect();
        same("what systemd-analyze says", &said.join("\n"), "")?;
        verified.expect_success()?;
        Ok(())
    }

    fn setting(&self, name: &str) -> Result<&str, Failed> {
        Ok(self.service.get(name).ok_or(format!("the unit has no {name}="))?)
    }

    /// Runs the command of a setting as systemd does.
    fn execute(&self, container: &Container, setting: &str) -> Result<(), Failed> {
        let words = shlex::split(self.setting(setting)?).ok_or(format!("{setting}= is badly quoted"))?;
        let mut command = container.holder().command("env");
        command.arg(format!("--chdir={}", self.setting("WorkingDirectory")?)).args(words);
        run_into(&mut command, &container.home().join("said"), BOOT)?.expect_success()?;
        Ok(())
    }

    fn starts(&self, container: &Container) -> Result<(), Failed> {
        same("the unit's type", self.setting("Type")?, "forking")?;
        self.execute(container, "ExecStart")
    }

    /// Sends the unit's stop signal to the main process, as systemd does to stop the unit.
    fn sends_its_signal(&self, container: &Container) -> Result<(), Failed> {
        same("who gets the signal", self.setting("KillMode")?, "mixed")?;
        let signal = self.setting("KillSignal")?.trim_start_matches("SIG");
        let mut kill = container.holder().command("sh");
        kill.args(["-c", r#"kill -s "$0" "$(cat "$1")""#, signal, self.setting("PIDFile")?]);
        run(&mut kill, SHORT)?.expect_success()?;
        Ok(())
    }

    fn cleans_up(&self, container: &Container) -> Result<(), Failed> {
        self.execute(container, "ExecStopPost")
    }
}

/// Expands a template in the way that Python's string.Template does, which also treats a name without a
/// value as an error.
fn render(template: &str, values: &BTreeMap<&str, String>) -> Result<String, Failed> {
    let is_of_a_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut made = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        let (name, after) = match after.strip_prefix('{') {
            Some(after) => after.split_once('}').ok_or("an unclosed brace in a template")?,
            None => after.split_at(after.find(|character| !is_of_a_name(character)).unwrap_or(after.len())),
        };
        made += before;
        made += values.get(name).ok_or_else(|| format!("no value for ${name} in a template"))?;
        rest = after;
    }
    Ok(made + rest)
}

/// Returns the settings of a section. No setting occurs twice in this unit.
fn section(unit: &str, name: &str) -> BTreeMap<String, String> {
    let header = format!("[{name}]");
    let lines = unit.lines().skip_while(|line| *line != header).skip(1).take_while(|line| !line.starts_with('['));
    let settings = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    settings.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
