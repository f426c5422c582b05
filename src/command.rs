// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which commands name init or systemd; only names, no file is looked at.

/// What execvp(3) and shells search without `PATH`, and where an init is.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program that a container's command runs, looking through `/bin/sh -c "exec …"`, which is
/// how engines write the shell form of an image's command.
#[must_use]
pub fn program(args: &[impl AsRef<str>]) -> Option<&str> {
    let mut args = args.iter().map(AsRef::as_ref);
    let first = args.next()?;
    if !is_shell(first) {
        return Some(first);
    }
    let (Some(flags), Some(script)) = (args.next(), args.next()) else {
        return Some(first);
    };
    let is_script = flags.starts_with('-') && flags.ends_with('c');
    Some(if is_script { executed(script).unwrap_or(first) } else { first })
}

/// Whether a program's name is that of an init: the old hook's rule, which podman's resembles.
#[must_use]
pub fn names_init(program: &str) -> bool {
    // /dev/init is what Docker and podman mount for `--init`: a reaper, not ours.
    program != "/dev/init" && matches!(base_name(program), "init" | "systemd")
}

fn is_shell(program: &str) -> bool {
    matches!(base_name(program), "sh" | "ash" | "bash" | "dash")
}

/// The program of a script that is one `exec`; a script that does more is not looked through,
/// since what it runs before may never come to the exec.
fn executed(script: &str) -> Option<&str> {
    let mut words = script.split_ascii_whitespace();
    let is_plain = !script.contains(['|', '&', ';', '<', '>', '(', ')', '$', '`', '\\', '"', '\'', '\n']);
    (is_plain && words.next() == Some("exec")).then(|| words.next()).flatten()
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_inits_by_name() {
        for (args, ours) in [
            (&["/sbin/init"][..], true),
            (&["/usr/lib/systemd/systemd", "--unit=x"], true),
            (&["init"], true),
            (&["/init"], true),
            (&["/dev/init"], false),
            (&["/usr/bin/systemd-run"], false),
            (&["/usr/sbin/nginx", "/sbin/init"], false),
            (&["/bin/sh", "-c", "exec /sbin/init"], true),
            (&["/bin/bash", "-ec", "exec  /usr/lib/systemd/systemd --system"], true),
            (&["sh", "-c", "/sbin/init"], false),
            (&["sh", "-c", "exec /sbin/init; true"], false),
            (&["sh", "-c", "exec"], false),
            (&["sh", "-c"], false),
            (&["/bin/sh"], false),
            (&["/init/"], false),
        ] {
            assert_eq!(program(args).is_some_and(names_init), ours, "{args:?}");
        }
        assert_eq!(program(&[] as &[&str]), None);
    }
}
