// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The printed form of a plan. It is an interface, since `oci-systemd-hook plan` prints it and the
//! golden tests compare it.

use std::fmt::{self, Write as _};

use super::{
    Action, Cgroup, ChosenLayout, Content, Copying, Excess, Lifetime, Need, Node, Note, Plan, Processes, Step,
};
use crate::facts::{Owner, Payer};
use crate::interface::MIB;
use crate::one_line::OneLine;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |text: fmt::Arguments<'_>| {
            OneLine(&mut *f).write_fmt(text)?;
            f.write_char('\n')
        };
        if let Some(Owner { uid, gid }) = self.owner {
            line(format_args!("owner {uid}:{gid} on the host: the container's root owns everything that is created"))?;
        }
        if let Some(label) = &self.label {
            line(format_args!("label {label}: everything that is created gets this SELinux label"))?;
        }
        if let Some(ChosenLayout { layout, why }) = &self.layout {
            line(format_args!("cgroup layout {layout}: {why}"))?;
        }
        if let Some(copying) = &self.copying {
            line(format_args!("{copying}"))?;
        }
        self.steps.iter().try_for_each(|step| line(format_args!("{step}")))?;
        self.notes.iter().try_for_each(|note| line(format_args!("{note}")))
    }
}

impl fmt::Display for Copying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = match self.most_bytes {
            bytes if bytes < MIB => format!("{}K", bytes / 1024),
            bytes => format!("{}M", bytes / MIB),
        };
        write!(f, "copy at most {most} of the image's content in total: {}; ", self.why)?;
        match (self.payer, &self.cgroup) {
            (Payer::Container, _) => f.write_str("the copies are charged to the container"),
            (Payer::Caller, Some(cgroup)) => {
                write!(f, "the copies are charged to the container by a process that enters the cgroup {cgroup}")?;
                match self.most_unentered_bytes {
                    Some(bytes) => write!(f, "; if that fails, at most {}M are copied", bytes / MIB),
                    None => Ok(()),
                }
            }
            (Payer::Caller, None) => f.write_str("the copies are charged to the engine"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.need {
            Need::Required => "must",
            Need::BestEffort => "try ",
        };
        write!(f, "{word}  {}: {}", self.action, self.why)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leave { at, why } => write!(f, "leave {at} alone: {why}"),
            Self::Remark { text } => write!(f, "note  {text}"),
            Self::Warning { text } => write!(f, "warn  {text}"),
        }
    }
}

impl fmt::Display for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.path, self.hierarchy)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeSlave { at } => write!(f, "make the mount at {at} a slave"),
            Self::Tmpfs { at, mode, size_bytes, inodes, context, content, keep } => {
                write!(f, "mount tmpfs on {at} (mode={mode:o},size={}M", size_bytes / MIB)?;
                if let Some(inodes) = inodes {
                    write!(f, ",nr_inodes={inodes}")?;
                }
                if let Some(context) = context {
                    // mount(8) requires quotes because of the comma between SELinux categories.
                    write!(f, ",context={context:?}")?;
                }
                f.write_str(",nosuid,nodev)")?;
                match content {
                    Content::None => {}
                    Content::Copied { most_bytes, excess, .. } => {
                        f.write_str(", copy the image's content")?;
                        if *excess == Excess::LeftOut {
                            f.write_str(" as far as it fits")?;
                        }
                        if most_bytes < size_bytes {
                            write!(f, " (at most {}M)", most_bytes / MIB)?;
                        }
                    }
                }
                let mounts = if keep.len() == 1 { "mount" } else { "mounts" };
                for (index, path) in keep.iter().enumerate() {
                    if index == 0 {
                        write!(f, ", keep the {mounts} at {path}")?;
                    } else {
                        write!(f, ", {path}")?;
                    }
                }
                Ok(())
            }
            Self::Directory { at, mode } => write!(f, "create the directory {at} (mode={mode:o})"),
            Self::WriteFile { at, mode, content } => match content.strip_suffix('\n') {
                Some(line) if !line.contains('\n') => {
                    write!(f, "write {line:?} to {at} (mode={mode:o})")
                }
                _ => write!(f, "write {} bytes to {at} (mode={mode:o})", content.len()),
            },
            Self::Symlink { at, target } => write!(f, "link {at} to {target}"),
            Self::Inaccessible { at, nodes } => {
                let names: Vec<_> = nodes.iter().map(|node| node.name()).collect();
                write!(f, "create {at}/{{{}}} (mode=000)", names.join(","))
            }
            Self::MountPoint { at, node } => {
                let kind = if *node == Node::Dir { "directory" } else { "file" };
                write!(f, "create an empty {kind} {at} in the image's root, and remove it at poststop")
            }
            Self::MountFile { at, content, context } => {
                write!(f, "mount a file that contains {:?} on {at}", content.trim_end())?;
                context.iter().try_for_each(|context| write!(f, " (context={context:?})"))
            }
            Self::MakeWritable { at } => write!(f, "make {at} writable"),
            Self::MakeReadOnly { at } => write!(f, "make {at} read-only"),
            Self::MakeCgroup { cgroup, until, .. } => {
                write!(
                    f,
                    "create the cgroup {cgroup}{}",
                    if *until == Lifetime::PostStop { ", and remove it at poststop" } else { "" }
                )
            }
            Self::EnterCgroup { cgroup, from, processes: Processes::First } => {
                write!(f, "move the container's first process from {} to the cgroup {cgroup}", from.path)
            }
            Self::EnterCgroup { cgroup, from, processes: Processes::All } => {
                write!(f, "move all processes from {} to the cgroup {cgroup}", from.path)
            }
            Self::EnableControllers { cgroup } => {
                write!(f, "enable all controllers of the cgroup {cgroup} for its children")
            }
            Self::LimitCgroups { cgroup, most, .. } => {
                write!(f, "allow at most {most} cgroups below the cgroup {cgroup}")
            }
            Self::ShowCgroup { cgroup, at } => write!(f, "mount the cgroup {cgroup} on {at}, read-only"),
            Self::Delegate { at, files, owner, label } => {
                write!(f, "delegate {at} and its files {} to the container (", files.join(", "))?;
                if let Some(Owner { uid, gid }) = owner {
                    write!(f, "owner {uid}:{gid}")?;
                }
                if let Some(label) = label {
                    write!(f, "{}label {label:?}", if owner.is_some() { ", " } else { "" })?;
                }
                f.write_str(")")
            }
            Self::BindHost { from, at } => {
                write!(f, "bind-mount the host's {} on {at}, read-only", from.display())
            }
            Self::MakeShared { at } => write!(f, "make the mount at {at} shared"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::facts::Layout;
    use crate::path::InnerPath;

    /// A pod's author chooses the names and labels of its containers, and a path may contain any bytes.
    #[test]
    fn a_step_is_a_line_whatever_is_in_it() {
        let at = InnerPath::new("/sys");
        let from = OsStr::from_bytes(b"/a\n\xff").into();
        let why = "the annotation oci-systemd-hook.cgroup/a\nb asks for it".to_owned();
        let mut plan = Plan {
            label: Some("u:r:t\n:s0".to_owned()),
            layout: Some(ChosenLayout { layout: Layout::Legacy, why }),
            ..Plan::default()
        };
        plan.step(Need::Required, Action::BindHost { from, at }, "\u{1b}[2J");
        plan.remark("a\nb");
        let expected = "label u:r:t\\n:s0: everything that is created gets this SELinux label\n\
                        cgroup layout legacy (v1): the annotation oci-systemd-hook.cgroup/a\\nb asks for it\n\
                        must  bind-mount the host's /a\\n\u{fffd} on /sys, read-only: \\u{1b}[2J\n\
                        note  a\\nb\n";
        assert_eq!(plan.to_string(), expected);
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json.pointer("/steps/0/from").unwrap(), "/a\n\u{fffd}");
    }
}
