// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What to do about a warning or a refusal, in the words of the engine that runs the container: options of `podman run` and
//! `docker run`, fields of a pod, or fields of config.json.

use crate::facts::Engine;

/// The syntax in which a user describes a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syntax {
    CommandLine,
    Pod,
    Config,
}

fn syntax(engine: Engine) -> Syntax {
    match engine {
        Engine::Podman | Engine::Docker => Syntax::CommandLine,
        Engine::Crio | Engine::ContainerdCri => Syntax::Pod,
        Engine::Other => Syntax::Config,
    }
}

/// Says how to grant a capability, such as `CAP_CHOWN`.
pub(super) fn grant(engine: Engine, capability: &str) -> String {
    // The engines' options leave out the prefix.
    let name = capability.strip_prefix("CAP_").unwrap_or(capability);
    match syntax(engine) {
        Syntax::CommandLine => format!("grant it with --cap-add={name}"),
        Syntax::Pod => format!("grant it by adding {name} to securityContext.capabilities.add"),
        Syntax::Config => format!("grant it by adding {capability} to process.capabilities in config.json"),
    }
}

/// Says how to make /var writable in a container with a read-only root.
pub(super) fn writable_var(engine: Engine) -> &'static str {
    match syntax(engine) {
        Syntax::CommandLine => "mount a volume or a tmpfs on /var (--tmpfs /var)",
        Syntax::Pod => "mount an emptyDir or another volume on /var",
        Syntax::Config => "add a tmpfs or another file system on /var to the mounts in config.json",
    }
}

/// Says how to choose the signal on which systemd shuts down.
pub(super) fn stop_signal(engine: Engine) -> &'static str {
    match syntax(engine) {
        Syntax::CommandLine => "set it with --stop-signal=SIGRTMIN+3, or with STOPSIGNAL in the image",
        Syntax::Pod => "set it with STOPSIGNAL SIGRTMIN+3 in the image",
        Syntax::Config => "stop the container with it, or set it with STOPSIGNAL in the image",
    }
}

/// Says where the SELinux type of the container's processes is chosen.
pub(super) fn selinux_type(engine: Engine) -> &'static str {
    match syntax(engine) {
        Syntax::CommandLine => "--security-opt label=type:…",
        Syntax::Pod => "type in securityContext.seLinuxOptions",
        Syntax::Config => "process.selinuxLabel in config.json",
    }
}

/// Says where the SELinux level of the container is chosen.
pub(super) fn selinux_level(engine: Engine) -> &'static str {
    match syntax(engine) {
        Syntax::CommandLine => "--security-opt label=level:…",
        Syntax::Pod => "level in securityContext.seLinuxOptions",
        Syntax::Config => "process.selinuxLabel and linux.mountLabel in config.json",
    }
}

/// Says how to let SELinux confine the container, if it doesn't.
pub(super) fn confinement(engine: Engine) -> &'static str {
    match engine {
        Engine::Podman => "remove --privileged and --security-opt label=disable",
        Engine::Docker => {
            "remove --privileged and --security-opt label=disable, and set \"selinux-enabled\": true in daemon.json"
        }
        Engine::Crio => "remove privileged, hostPID and hostIPC from the pod",
        Engine::ContainerdCri => {
            "remove privileged, hostPID and hostIPC from the pod, and set enable_selinux = true in containerd's config.toml"
        }
        Engine::Other => "set process.selinuxLabel and linux.mountLabel in config.json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_has_its_own_words() {
        for (engine, granted) in [
            (Engine::Podman, "grant it with --cap-add=CHOWN"),
            (Engine::Docker, "grant it with --cap-add=CHOWN"),
            (Engine::Crio, "grant it by adding CHOWN to securityContext.capabilities.add"),
            (Engine::ContainerdCri, "grant it by adding CHOWN to securityContext.capabilities.add"),
            (Engine::Other, "grant it by adding CAP_CHOWN to process.capabilities in config.json"),
        ] {
            assert_eq!(grant(engine, "CAP_CHOWN"), granted);
            let all = [writable_var, stop_signal, selinux_type, selinux_level, confinement].map(|say| say(engine));
            let is_command_line = matches!(engine, Engine::Podman | Engine::Docker);
            for words in all {
                assert!(is_command_line || !words.contains("--"), "{engine:?}: {words}");
            }
        }
    }
}
