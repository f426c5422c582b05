// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A host's hooks.d with twenty descriptors, some of which match a container, and a config.json of 100 KiB.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::surroundings::write_program;

/// The size of config.json, which is as large as one that Kubernetes creates for a pod with many services.
pub const CONFIG_BYTES: usize = 100 * 1024;
/// An annotation that one of the descriptors requires.
const ANNOTATION: &str = r#""com.example.trace/enabled":"true","#;

/// A kind of container, which determines the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// The container runs a web server.
    Ordinary,
    /// The container runs systemd.
    Systemd,
}

impl Container {
    pub fn command(self) -> &'static str {
        match self {
            Self::Ordinary => "/usr/sbin/nginx",
            Self::Systemd => "/sbin/init",
        }
    }
}

/// The containers that a descriptor matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    None,
    All,
    One(Container),
}

/// The name and the `when` of each descriptor, and the containers that it matches.
const DESCRIPTORS: [(&str, &str, For); 20] = [
    ("00-trace", r#"{"annotations":{"^com\\.example\\.trace/enabled$":"^(true|1)$"}}"#, For::All),
    ("05-policy", r#"{"always":true}"#, For::All),
    ("10-off", r#"{"always":false}"#, For::None),
    ("15-nvidia", r#"{"annotations":{"^com\\.nvidia\\.(cdi|gpu)\\..*$":".+"}}"#, For::None),
    ("20-volumes", r#"{"hasBindMounts":true}"#, For::None),
    ("25-umoci", r#"{"commands":["^/usr/(s)?bin/(skopeo|umoci|buildah)$"]}"#, For::None),
    ("30-web", r#"{"commands":["(^|/)(nginx|httpd|apache2|caddy)$"]}"#, For::One(Container::Ordinary)),
    ("35-python", r#"{"commands":["/python[23](\\.[0-9]+)?$","/pypy3?$"]}"#, For::None),
    ("40-java", r#"{"commands":["^.*/(java|javaw)$"],"annotations":{"^jvm\\..*":"^[0-9]+[kmg]$"}}"#, For::None),
    ("45-seccomp", r#"{"annotations":{"io\\.containers\\.trace-syscall":".*"}}"#, For::None),
    ("50-init", r#"{"commands":["(^|/)(init|systemd)$"]}"#, For::One(Container::Systemd)),
    ("55-sandbox", r#"{"annotations":{"^io\\.kubernetes\\.cri-o\\.TrustedSandbox$":"^true$"}}"#, For::None),
    ("60-db", r#"{"commands":["/(postgres|mysqld|mariadbd|mongod|redis-server)$"]}"#, For::None),
    ("65-go", r#"{"commands":["^/app/[a-z][a-z0-9-]*$","^/ko-app/.*$"]}"#, For::None),
    ("70-mpi", r#"{"annotations":{"^org\\.hpc\\.mpi$":"^(mpich|openmpi)$"},"hasBindMounts":true}"#, For::None),
    ("75-shell", r#"{"commands":["^/bin/(ba|da|z)?sh$"]}"#, For::None),
    ("80-node", r#"{"commands":["/(node|npm|yarn)$"]}"#, For::None),
    ("85-vpn", r#"{"annotations":{"^network\\.example\\.com/(vpn|tun)$":"\\p{L}+"}}"#, For::None),
    ("90-audit", r#"{"commands":["^/usr/s?bin/auditd?$"]}"#, For::None),
    ("95-gpu", r#"{"annotations":{"(?i)^GPU$":"^(all|[0-9]+(,[0-9]+)*)$"}}"#, For::None),
];

/// The directory of the descriptors, and that of the hooks.
#[derive(Debug)]
pub struct HooksD {
    directory: PathBuf,
    hooks: PathBuf,
}

impl HooksD {
    /// Writes the descriptors and the hooks. Each hook is a program that does nothing.
    pub fn write(directory: PathBuf, hooks: PathBuf, empty: &[u8]) -> Self {
        fs::create_dir_all(&directory).unwrap();
        fs::create_dir_all(&hooks).unwrap();
        let hooks_d = Self { directory, hooks };
        for (name, when, _) in DESCRIPTORS {
            write_program(&hooks_d.hooks.join(name), empty);
            let when: Value = serde_json::from_str(when).expect("a condition is JSON");
            let stages = ["createRuntime", "poststop"];
            let text = json!({"version": "1.0.0", "hook": hooks_d.entry(name), "when": when, "stages": stages});
            fs::write(hooks_d.directory.join(name).with_extension("json"), text.to_string()).unwrap();
        }
        hooks_d
    }

    fn entry(&self, name: &str) -> Value {
        json!({"path": self.hooks.join(name), "args": [name, "--log-level", "info"], "env": ["PATH=/usr/bin:/bin"]})
    }

    /// Returns the directory of the descriptors.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes the hooks of a container in the format of oci-add-hooks, which has no conditions.
    pub fn write_for_add_hooks(&self, container: Container, to: &Path) {
        let entries: Vec<Value> = matching(container).map(|name| self.entry(name)).collect();
        fs::write(to, json!({"hooks": {"createRuntime": entries, "poststop": entries}}).to_string()).unwrap();
    }

    /// Returns why a config.json doesn't have exactly the hooks of a container, or `None` if it does.
    pub fn problem(&self, config: &str, container: Container) -> Option<String> {
        DESCRIPTORS.iter().find_map(|(name, _, _)| {
            let expected = if matching(container).any(|matching| matching == *name) { 2 } else { 0 };
            let found = config.matches(&format!("\"{}\"", self.hooks.join(name).display())).count();
            (found != expected).then(|| format!("the hook {name} is there {found} times, expected {expected}"))
        })
    }
}

fn matching(container: Container) -> impl Iterator<Item = &'static str> {
    let matches = move |whose| whose == For::All || whose == For::One(container);
    DESCRIPTORS.into_iter().filter(move |(_, _, whose)| matches(*whose)).map(|(name, _, _)| name)
}

/// Extends the content of a config.json to [`CONFIG_BYTES`], with a service's
/// environment variables and with annotations.
pub fn lengthened(config: &str) -> String {
    let (mut variables, mut annotations) = (String::new(), ANNOTATION.to_owned());
    for number in 0..400 {
        write!(variables, r#""SERVICE_{number:03}_PORT_8080_TCP=tcp://10.96.{}.{}:8080","#, number / 200, number % 200)
            .unwrap();
    }
    for number in 0..40 {
        let value = format!("{number:02}-0123456789abcdef").repeat(50);
        write!(annotations, r#""example.com/checksum-{number:02}":"{value}","#).unwrap();
    }
    let put_in = |text: &str, before: &str, what: &str| {
        let (head, tail) = text.split_once(before).expect("the field is there");
        format!("{head}{before}{what}{tail}")
    };
    let text = put_in(config, r#""env":["#, &variables);
    let has_others = !text.contains(r#""annotations":{}"#);
    let filler = r#""example.com/last-applied":"""#;
    let separator = if has_others { "," } else { "" };
    let length = text.len() + annotations.len() + filler.len() + separator.len();
    let rest = CONFIG_BYTES.checked_sub(length).expect("it is not too long yet");
    let filler = filler.replace(":\"\"", &format!(":\"{}\"", "x".repeat(rest)));
    put_in(&text, r#""annotations":{"#, &format!("{annotations}{filler}{separator}"))
}
