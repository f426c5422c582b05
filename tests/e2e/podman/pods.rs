// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests containers in a pod, whose first container only keeps the others' namespaces.

use std::fs;

use libtest_mimic::Failed;

use crate::boot::{has_come_up, same};
use crate::inside::Inside;
use crate::mounts;
use crate::podman::engine::{Engine, Hooks};
use crate::podman::guest::{Guest, PLAIN};

/// A pod for `podman kube play`. It has no network, like all containers of these tests.
const POD: &str = r"
apiVersion: v1
kind: Pod
metadata: { name: played, annotations: { oci-systemd-hook: enabled, oci-systemd-hook.run-size: 96m } }
spec:
  containers:
  - name: system
    image: localhost/systemd
    imagePullPolicy: Never
    command: [/sbin/init]
    # podman 4.3 sets none here.
    env: [{ name: PATH, value: '/usr/sbin:/usr/bin:/sbin:/bin' }]
  - { name: other, image: localhost/systemd, imagePullPolicy: Never, command: [/bin/sleep, infinity] }
";

/// Tests that although all containers of a pod get its annotations, the hook prepares only the
/// one that runs systemd.
pub fn played(engine: &Engine) -> Result<(), Failed> {
    let file = engine.host().home().join("pod.yaml");
    fs::write(&file, POD)?;
    let file = file.display().to_string();
    engine.ask(&["kube", "play", "--network=none", &file])?;
    let id = engine.ask(&["inspect", "--format", "{{.Id}}", "played-system"])?;
    let guest = Guest::of(engine, Hooks::Installed, &id)?;
    guest.explain(|guest| {
        has_come_up(guest)?;
        let seen = guest.mounts()?;
        same("a machine id", &mounts::at(&seen, "/etc/machine-id").is_some().to_string(), "true")?;
        let process = engine.ask(&["inspect", "--format", "{{.State.Pid}}", "played-other"])?;
        let seen = engine.host().mounts_of(&process)?;
        let annotated = engine.ask(&["inspect", "--format", "{{.Config.Annotations}}", "played-other"])?;
        same("the other's annotation", &annotated.contains("oci-systemd-hook:enabled").to_string(), "true")?;
        for point in ["/run", "/tmp", "/etc/machine-id"] {
            same(&format!("a mount on the other's {point}"), &format!("{:?}", mounts::at(&seen, point)), "None")?;
        }
        Ok(())
    })?;
    engine.ask(&["kube", "down", &file]).map(drop)
}

/// Tests that systemd runs in a pod as it does elsewhere, and that the hook doesn't prepare the pod's first
/// container.
pub fn in_pod(engine: &Engine) -> Result<(), Failed> {
    let parent = format!("--cgroup-parent=/{}", engine.host().cgroup());
    engine.ask(&["pod", "create", "--name=both", "--network=none", &parent])?;
    let guest = Guest::run(engine, Hooks::Installed, &[&["--pod=both"], &PLAIN[..]].concat(), &["/sbin/init"])?;
    guest.explain(|guest| {
        guest.is_well()?;
        let infra = engine.ask(&["pod", "inspect", "--format", "{{.InfraContainerID}}", "both"])?;
        let process = engine.ask(&["inspect", "--format", "{{.State.Pid}}", &infra])?;
        let ours = engine.host().mounts_of(&process)?.into_iter().any(|mount| mount.point == "/etc/machine-id");
        same("a prepared infra container", &ours.to_string(), "false")?;
        engine.ask(&["pod", "stop", "--time=30", "both"])?;
        same("the exit code", &guest.inspect(".State.ExitCode")?, "0")?;
        engine.ask(&["pod", "rm", "both"]).map(drop)
    })
}
