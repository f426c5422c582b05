// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the project's own descriptors, read and matched as by the engines.

use oci_systemd_hook::hooksd::{self, MatchedContainer};
use serde_json::{Value, json};

use super::{Site, names, names_of};

/// The project's own descriptors. The first is for commands, the second for the annotation.
const OURS: [&str; 2] = [
    include_str!("../../share/containers/oci/hooks.d/oci-systemd-hook.json.in"),
    include_str!("../../share/containers/oci/hooks.d/oci-systemd-hook-annotation.json.in"),
];
/// The descriptors for podman's precreate stage, in the same order.
const PRECREATE: [&str; 2] = [
    include_str!("../../share/oci-systemd-hook/precreate.d/oci-systemd-hook-precreate.json.in"),
    include_str!("../../share/oci-systemd-hook/precreate.d/oci-systemd-hook-precreate-annotation.json.in"),
];

fn site_of(descriptors: [&str; 2]) -> Site {
    let [commands, annotation] =
        descriptors.map(|text| text.replace("@LIBEXECDIR@/oci/hooks.d/oci-systemd-hook", "@HOOK@"));
    Site::new(&[&[("commands.json", &commands), ("z.json", &annotation)]])
}

/// They match the same containers as the other descriptors, but only podman accepts them.
#[test]
fn the_descriptors_for_precreate_are_podmans_alone() {
    let site = site_of(PRECREATE);
    let problems = site.read().problems;
    assert_eq!(problems.iter().map(|problem| problem.fatal).collect::<Vec<_>>(), [true, true]);
    let hooks = hooksd::read(&site.directories, &["precreate", "poststop"]);
    assert_eq!(names(&hooks), (vec!["commands.json".into(), "z.json".into()], vec![]));
    for descriptor in &hooks.descriptors {
        assert_eq!(descriptor.hook.args, ["oci-systemd-hook", "precreate"], "{:?}", descriptor.path);
        assert_eq!(
            (descriptor.stages.as_slice(), descriptor.extension_stages.as_slice()),
            (&[][..], &["precreate".into()][..])
        );
    }
    let [commands, annotation] = OURS.map(|text| serde_json::from_str::<Value>(text).unwrap());
    // If the annotation makes both descriptors match, the hook is called twice. The calls must be identical, or one
    // without the administrator's policy options would undo what the other did.
    assert_eq!(commands.get("hook"), annotation.get("hook"));
    for (ours, precreate) in OURS.into_iter().zip(PRECREATE) {
        let [ours, precreate] = [ours, precreate].map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(ours.get("when"), precreate.get("when"));
    }
}

#[test]
fn our_descriptors_match_systemd_and_nothing_else() {
    let site = site_of(OURS);
    let hooks = site.read();
    assert_eq!(names(&hooks), (vec!["commands.json".into(), "z.json".into()], vec![]));
    let matching = |command: &str, annotations: Value| {
        let annotations = serde_json::from_value(annotations).unwrap();
        // The result doesn't depend on bind mounts, which CRI-O's containers always have.
        let [without, with] = [false, true].map(|has_bind_mounts| {
            let args = [command.to_owned(), "/sbin/init".to_owned()];
            let subject = MatchedContainer { args: Some(&args), annotations: &annotations, has_bind_mounts };
            names_of(&hooks.matching(&subject).unwrap())
        });
        assert_eq!(without, with, "{command}");
        with
    };
    for command in ["/sbin/init", "/usr/sbin/init", "/init", "/usr/lib/systemd/systemd", "systemd", "init"] {
        assert_eq!(matching(command, json!({})), ["commands.json"], "{command}");
    }
    for command in [
        "/usr/bin/systemd-run",
        "/usr/lib/systemd/systemd-udevd",
        "/sbin/initctl",
        "/usr/bin/tini-init",
        "/usr/bin/notsystemd",
        "/sbin/init/",
        "/sbin/init\n",
        "/sbin/INIT",
        "/bin/sh",
        "",
    ] {
        assert_eq!(matching(command, json!({})), [""; 0], "{command:?}");
    }
    for (annotations, matched) in [
        (json!({"oci-systemd-hook": "enabled"}), true),
        (json!({"a": "b", "oci-systemd-hook": "enabled"}), true),
        (json!({"oci-systemd-hook/web": "enabled"}), true),
        (json!({"oci-systemd-hook/web": "disabled"}), false),
        (json!({"oci-systemd-hooks": "enabled"}), false),
        (json!({"oci-systemd-hook": "disabled"}), false),
        (json!({"oci-systemd-hook": "Enabled"}), false),
        (json!({"oci-systemd-hook": "not enabled"}), false),
        (json!({"oci-systemd-hook": ""}), false),
        (json!({"org.oci-systemd-hook": "enabled"}), false),
        (json!({"oci-systemd-hook.x": "enabled", "oci-systemd-hook": "x"}), false),
    ] {
        let expected = if matched { &["z.json"][..] } else { &[] };
        assert_eq!(matching("/bin/sh", annotations.clone()), expected, "{annotations}");
    }
    // In this case the hook is called twice, and it must support that.
    assert_eq!(matching("/sbin/init", json!({"oci-systemd-hook": "enabled"})), ["commands.json", "z.json"]);
}
