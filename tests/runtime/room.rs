// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The directory of one trial, the room: a bundle, directories of descriptors, and a runtime that records
//! how it is started.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::{Finished, run, text_of};
use crate::harness::tree::{self, Detail, Snapshot};
use crate::site::Site;

/// A descriptor whose hook matches every container.
pub const ALWAYS: &str =
    r#"{"version":"1.0.0","hook":{"path":"@HOOK@","args":["always"]},"when":{"always":true},"stages":["poststop"]}"#;

/// The exit code of the recorder.
pub const RECORDED: i32 = 7;

#[derive(Debug)]
pub struct Room {
    top: TempDir,
    wrapper: PathBuf,
}

impl Room {
    pub fn new(site: &Site) -> Result<Self, String> {
        let top = tempfile::Builder::new().prefix("room-").tempdir_in(site.scratch()).unwrap();
        for name in ["bundle", "bundle/rootfs", "first", "second"] {
            fs::create_dir(top.path().join(name)).unwrap();
        }
        fs::write(top.path().join("hook"), "").unwrap();
        symlink(site.recorder()?, top.path().join("runtime")).unwrap();
        let room = Self { top, wrapper: site.wrapper().to_owned() };
        room.write_config(&config());
        Ok(room)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// Replaces each `@NAME@` in a string by one of the room's paths.
    pub fn filled_in(&self, text: &str) -> String {
        let path = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let text = text.replace("@HOOK@", &path("hook")).replace("@BUNDLE@", &path("bundle"));
        text.replace("@RUNTIME@", &path("runtime")).replace("@ROOM@", self.top.path().to_str().unwrap())
    }

    pub fn config(&self) -> PathBuf {
        self.path("bundle/config.json")
    }

    pub fn write_config(&self, config: &Value) {
        fs::write(self.config(), config.to_string()).unwrap();
    }

    pub fn read_config(&self) -> Result<Value, String> {
        let text = fs::read_to_string(self.config()).map_err(|error| format!("config.json: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("config.json: {error} in {text}"))
    }

    /// Returns the hooks of config.json, each as its first argument.
    pub fn hooks(&self) -> Result<Value, String> {
        let mut names = serde_json::Map::new();
        for (stage, hooks) in self.read_config()?["hooks"].as_object().cloned().unwrap_or_default() {
            let hooks = hooks.as_array().ok_or(format!("{stage} is not a list"))?;
            names.insert(stage, hooks.iter().map(|hook| hook["args"][0].clone()).collect());
        }
        Ok(Value::Object(names))
    }

    /// Writes a descriptor into one of the room's directories.
    pub fn describe(&self, file: &str, text: &str) {
        fs::write(self.path(file), self.filled_in(text)).unwrap();
    }

    /// Makes the bundle's container one that runs systemd. The recorder reports the container as running.
    pub fn runs_systemd(&self) {
        let root = self.path("bundle/rootfs");
        fs::create_dir_all(root.join("usr/lib/systemd")).unwrap();
        fs::create_dir(root.join("sbin")).unwrap();
        fs::write(root.join("usr/lib/systemd/systemd"), b"\x7fELF").unwrap();
        symlink("../usr/lib/systemd/systemd", root.join("sbin/init")).unwrap();
        let mut config = config();
        config["process"]["args"] = json!(["/sbin/init"]);
        self.write_config(&config);
        let state =
            json!({"ociVersion": "1.0.2", "id": "c", "status": "running", "pid": 1, "bundle": self.path("bundle")});
        fs::write(self.path("state.json"), state.to_string()).unwrap();
    }

    /// Returns a command for the wrapper with the recorder as its runtime and the room's first directory as the
    /// only one for descriptors.
    pub fn wrapper(&self) -> Command {
        let mut command = self.bare_wrapper();
        command.arg("--runtime-path").arg(self.path("runtime")).arg("--hooks-dir").arg(self.path("first"));
        command
    }

    /// Returns a command for the wrapper without any option.
    pub fn bare_wrapper(&self) -> Command {
        let mut command = Command::new(&self.wrapper);
        command.current_dir(self.top.path());
        command
    }

    /// Calls the wrapper to create the bundle's container.
    pub fn create(&self, own: &[&str]) -> Result<Finished, String> {
        let mut command = self.wrapper();
        command.args(own.iter().map(|argument| self.filled_in(argument)));
        self.run(command.args(["create", "--bundle"]).arg(self.path("bundle")).arg("c"))
    }

    /// Runs a program that may start the recorder. The recorder's file is then that of this run.
    pub fn run(&self, command: &mut Command) -> Result<Finished, String> {
        // At worst, there is no record to remove.
        let _ = fs::remove_file(self.path("record"));
        run(command)
    }

    /// Returns what the recorder wrote, or `None` if it wasn't started.
    pub fn record(&self) -> Option<String> {
        fs::read(self.path("record")).ok().map(|bytes| text_of(&bytes))
    }

    /// Returns a snapshot of the bundle.
    pub fn snapshot(&self) -> Snapshot {
        tree::read(&self.path("bundle"), Detail::Untouched)
    }

    /// Fails if the bundle has changed since the snapshot.
    pub fn is_as(&self, before: &Snapshot) -> Result<(), String> {
        tree::same("the bundle", before, &self.snapshot())
    }
}

/// Returns a config.json with the fields that descriptors match.
pub fn config() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "args": ["/usr/sbin/nginx", "-g"], "env": ["PATH=/bin"]},
        "root": {"path": "rootfs"},
        "annotations": {"org.example.role": "web"},
    })
}

/// Returns the record's lines that begin with a word.
pub fn lines_of<'r>(record: &'r str, word: &str) -> Vec<&'r str> {
    record.lines().filter(|line| line.split(' ').next() == Some(word)).collect()
}
