// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Determines whether a command runs an init such as systemd. Looks only at names, never at files.

/// The search path if `PATH` isn't set, as for execvp(3) and shells. It includes the directories that an init is in.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the program that a container's command runs. Looks through `/bin/sh -c "exec …"`, which is how engines
/// write the shell form of an image's command.
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

/// Whether a program's name is that of an init. This is the old hook's rule; podman's is similar.
#[must_use]
pub fn names_init(program: &str) -> bool {
    // Docker and podman mount /dev/init for `--init`. It only reaps processes and is not an init in
    // the sense of this hook.
    program != "/dev/init" && matches!(base_name(program), "init" | "systemd")
}

fn is_shell(program: &str) -> bool {
    matches!(base_name(program), "sh" | "ash" | "bash" | "dash")
}

/// Returns the program of a script that consists of a single `exec`. A script that does more is not looked through,
/// since the commands before its `exec` may prevent that from being reached.
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
