//! Keys that may deploy one environment and nothing else: lines of a server's `authorized_keys`.
//!
//! sshd runs the command of the line, whatever the client asks for; that connects to the agent's
//! socket for keys, where the agent itself decides what may be asked.

use std::io::Read;

use tokio::io::AsyncWriteExt;
use towpath::agent::api::Trouble;
use towpath::diagnostic::Diagnostic;
use towpath::link::{Route, Ssh};
use towpath::manifest::form::is_name;

use super::Ending;
use crate::cli::Cli;
use crate::cli::commands::{Key, KeyCommand, KeyName};
use crate::place::{App, Place};
use crate::{link, out};

/// What ssh's own tools write at the beginning of a public key.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

fn refused(exit: u8, code: &'static str, text: String, help: &str) -> Trouble {
    Trouble {
        exit,
        diagnostic: Diagnostic::error(code, text)
            .note("nothing was touched")
            .help(help),
    }
}

/// `tow server key`.
pub async fn key(cli: &Cli, arguments: &Key) -> Ending {
    let (named, is_new) = match &arguments.command {
        KeyCommand::Add(named) => (named, true),
        KeyCommand::Remove(named) => (named, false),
    };
    let place = App::find(cli)?.place(&named.environment)?;
    named_well(&named.name)?;
    let line = match is_new {
        true => Some(line(&place, named)?),
        false => None,
    };
    if let (true, Some(line)) = (named.print, &line) {
        out::say(line);
        return Ok(0);
    }
    let ssh = server(&place)?;
    out::note(format!(
        "{} ({}, {})",
        place.environment,
        place.app.name,
        place.whereabouts()
    ));
    let line = line.map_or(String::new(), |line| line + "\n");
    run(&ssh, &edit(&mark(&place, &named.name)), &line).await?;
    out::say(match is_new {
        true => format!(
            "`{}` may deploy {} now, and nothing else",
            named.name, place.environment
        ),
        false => format!(
            "`{}` may not deploy {} any more",
            named.name, place.environment
        ),
    });
    Ok(0)
}

/// Takes the line with `mark` out, and puts in what standard input holds: beside, and renamed, and
/// from what stands there, so that whatever breaks leaves every other line as it was. Where the file
/// is a link, that is done to what it leads to, beside that: the link is somebody's arrangement.
fn edit(mark: &str) -> String {
    format!(
        "sh -c 'set -e; umask 077; mkdir -p \"$HOME/.ssh\"; cd \"$HOME/.ssh\"; \
         file=$(readlink -f authorized_keys) && touch \"$file\" && test -f \"$file\" || \
         {{ echo \"authorized_keys is no file, and no link to one that can be changed\" >&2; exit 1; }}; \
         cp -p \"$file\" \"$file.towpath\"; grep -v \" {mark}$\" \"$file\" > \"$file.towpath\" || test $? = 1; \
         cat >> \"$file.towpath\"; mv \"$file.towpath\" \"$file\"'"
    )
}

fn server(place: &Place) -> Result<Ssh, Trouble> {
    place.server.as_ref().map(link::ssh).ok_or_else(|| {
        let text = format!(
            "{} is on this machine, where no key is needed",
            place.environment
        );
        refused(
            3,
            "key::no-server",
            text,
            "keys are for an environment with a `server`",
        )
    })
}

/// What the line ends with, by which it is found again.
fn mark(place: &Place, name: &str) -> String {
    format!("towpath:{}/{}/{name}", place.app.name, place.environment)
}

/// It goes through shells.
fn named_well(name: &str) -> Result<(), Trouble> {
    let help = "a name is 1 to 31 of `a-z`, `0-9` and `-`, and starts with a letter";
    match is_name(name) {
        true => Ok(()),
        false => {
            let text = format!("`{name}` cannot name a key");
            Err(refused(2, "key::name", text, help))
        }
    }
}

/// The line for the key that standard input holds.
fn line(place: &Place, named: &KeyName) -> Result<String, Trouble> {
    let mut text = String::new();
    let read = std::io::stdin().take(16 << 10).read_to_string(&mut text);
    let key = read.ok().and_then(|_| public_key(&text)).ok_or_else(|| {
        refused(
            3,
            "key::not-public",
            "standard input holds no public key".to_owned(),
            "as in `tow server key add -e ENV --name ci < ci.pub`; `ssh-keygen -t ed25519 -f ci` makes one",
        )
    })?;
    let command = Route::command_for_key(&place.app.name, &place.environment, &named.name);
    let command = command.replace('\\', "\\\\").replace('"', "\\\"");
    Ok(format!(
        "restrict,command=\"{command}\" {key} {}",
        mark(place, &named.name)
    ))
}

/// Kind and key of the one line, without its comment; options in front of it are none of a key's.
fn public_key(text: &str) -> Option<String> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (line, more) = (lines.next()?, lines.next());
    let mut words = line.split_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    let is_base64 = key.starts_with("AAAA")
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    (more.is_none() && KINDS.contains(&kind) && is_base64).then(|| format!("{kind} {key}"))
}

/// What the command over there prints; it is told `input`.
async fn run(ssh: &Ssh, remote: &str, input: &str) -> Result<String, Trouble> {
    let io = |error: std::io::Error| super::inner::failed(&error);
    let mut child = ssh.command(remote).spawn().map_err(io)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that ends before it has read everything says why.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(io)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let text = format!("the keys on {} could not be changed", ssh.server);
    let diagnostic = Diagnostic::error("key::failed", text)
        .note(format!("ssh says: {said}"))
        .note("the keys there are as they were")
        .help("`tow server key add --print` prints the line, for putting it there by hand");
    Err(Trouble {
        exit: 1,
        diagnostic,
    })
}

#[cfg(test)]
mod tests {
    use super::public_key;

    #[test]
    fn only_a_plain_public_key_is_one() {
        let good = "ssh-ed25519 AAAAC3Nza+/= me@laptop\n";
        assert_eq!(
            public_key(good).as_deref(),
            Some("ssh-ed25519 AAAAC3Nza+/=")
        );
        for bad in [
            "",
            "ssh-ed25519",
            "no-pty ssh-ed25519 AAAAC3",
            "command=\"sh\" ssh-ed25519 AAAAC3",
            "ssh-ed25519 AAAAC3\nssh-ed25519 AAAAC4\n",
            "ssh-ed25519 AAAA\"C3",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "ssh-dss AAAAB3",
        ] {
            assert_eq!(public_key(bad), None, "{bad}");
        }
    }
}
