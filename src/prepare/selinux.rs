// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the administrator should know about SELinux. The labels themselves are part of the steps that create files.

use super::remedy;
use crate::facts::selinux::{CgroupLabel, Confinement, Files, Labeling};
use crate::facts::{Engine, Selinux, Surroundings};
use crate::interface::MANAGE_CGROUP;
use crate::kernel::selinux::{Label, dominates};
use crate::plan::Plan;

pub(super) fn plan(facts: &Surroundings, plan: &mut Plan) {
    match &facts.selinux {
        Selinux::Off { has_label: false } => {}
        Selinux::Off { has_label: true } => {
            plan.remark(
                "SELinux is off on this host, or selinuxfs is read-only: linux.mountLabel in config.json has no effect",
            );
        }
        Selinux::NotBuilt => plan.warn(
            "this host has SELinux, but this oci-systemd-hook was built without it: the files that it creates have the \
             policy's default labels, and containers may not write to them; install a build with the feature selinux",
        ),
        Selinux::On(confinement) => {
            labels(facts.engine, confinement, plan);
            // If the policy only logs, nothing is denied.
            if confinement.enforcing != Some(false) {
                denials(facts.engine, confinement, plan);
            }
        }
    }
}

fn labels(engine: Engine, confinement: &Confinement, plan: &mut Plan) {
    match &confinement.mount {
        None | Some((_, Labeling::ByMount)) => {}
        Some((_, Labeling::ByFile(why))) => {
            plan.remark(format!("each file is labeled individually: {why}"));
        }
        Some((label, Labeling::Refused(why))) => plan.warn(format!(
            "new files don't get the label {}, so SELinux may deny the container access to them: {why}",
            label.text
        )),
    }
    match (&confinement.process, &confinement.mount) {
        (None, _) => plan.warn(format!(
            "SELinux doesn't confine this container: config.json has no process.selinuxLabel; if that isn't intended, {}",
            remedy::confinement(engine)
        )),
        (Some(_), None) => plan.warn(
            "config.json has process.selinuxLabel but no linux.mountLabel: the files that this hook creates have the \
             policy's default labels, and the container may be unable to write to them; set both",
        ),
        (Some(_), Some(_)) => {}
    }
}

fn denials(engine: Engine, confinement: &Confinement, plan: &mut Plan) {
    let Some(process) = &confinement.process else { return };
    if confinement.enforcing.is_none() {
        plan.remark(format!(
            "the SELinux policy doesn't let this hook query what {} may do: the engine that runs it is confined; \
             check that {} and the boolean for its capabilities are on, if the policy has them",
            process.kind, MANAGE_CGROUP
        ));
    }
    if let Some((label, _)) = &confinement.mount {
        files(engine, process, label, confinement.files, plan);
    }
    if let Some(cgroup) = &confinement.cgroup {
        manage_cgroup(engine, process, cgroup, plan);
    }
    if !confinement.denied_capabilities.is_empty() {
        let how = match confinement.capability_boolean {
            Some(boolean) => turn_on(boolean),
            None => format!("choose another type with {}", remedy::selinux_type(engine)),
        };
        plan.warn(format!(
            "SELinux denies {} the capabilities that services need, although config.json grants them: {}; {how}",
            process.kind,
            confinement.denied_capabilities.join(", ")
        ));
    }
}

fn files(engine: Engine, process: &Label, label: &Label, said: Option<Files>, plan: &mut Plan) {
    // If the policy can't be queried, this assumes that it has the same rules for levels as all other policies.
    let told = said.or_else(|| (dominates(&process.level, &label.level) == Some(false)).then_some(Files::OtherLevel));
    match told {
        None | Some(Files::Writable) => {}
        Some(Files::OtherLevel) => plan.warn(format!(
            "process.selinuxLabel and linux.mountLabel in config.json disagree: a process at level {} is not allowed \
             to write files at level {}; set the same level for both with {}, or set none",
            process.level,
            label.level,
            remedy::selinux_level(engine)
        )),
        Some(Files::OtherType) => plan.warn(format!(
            "SELinux doesn't let {} write to files of the type {}, which linux.mountLabel in config.json sets; choose \
             matching types with {}, or set none",
            process.kind,
            label.kind,
            remedy::selinux_type(engine)
        )),
    }
}

fn manage_cgroup(engine: Engine, process: &Label, cgroup: &CgroupLabel, plan: &mut Plan) {
    if cgroup.manageable != Some(false) || cgroup.manageable_if_labeled == Some(true) {
        return;
    }
    let how = match cgroup.boolean {
        Some(boolean) => turn_on(boolean),
        None => {
            format!(
                "choose a type that is allowed to, with {} (container_init_t in Fedora's policy)",
                remedy::selinux_type(engine)
            )
        }
    };
    plan.warn(format!(
        "SELinux doesn't let {} write to the container's cgroup, which has the type {}, so systemd will \
         exit; {how}",
        process.kind, cgroup.label.kind
    ));
}

fn turn_on(boolean: &str) -> String {
    format!("allow it for all containers with 'setsebool -P {boolean} on'")
}
