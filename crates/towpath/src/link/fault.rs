//! Why the far side is not reached, and what to do about it.

use std::cmp::Ordering;
use std::time::Duration;

use super::ssh::NO_PROGRAM;
use super::{PROTOCOL, Preface, Refused, Route, Skew};
use crate::diagnostic::Diagnostic;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It may be there a moment later.
    Passing(Diagnostic),
    /// Somebody has to do something first.
    Refused(Refused),
}

impl Fault {
    /// What failed, what is true now, what to do next.
    #[must_use]
    pub fn diagnostic(&self) -> &Diagnostic {
        match self {
            Fault::Passing(diagnostic) => diagnostic,
            Fault::Refused(refused) => &refused.diagnostic,
        }
    }
}

fn refused(diagnostic: Diagnostic) -> Fault {
    Fault::Refused(Refused {
        exit: 1,
        diagnostic,
    })
}

fn error(code: &'static str, text: String) -> Diagnostic {
    Diagnostic::error(code, text)
}

/// What ssh said, where it said anything.
fn said(diagnostic: Diagnostic, text: &str) -> Diagnostic {
    match text.is_empty() {
        true => diagnostic,
        false => diagnostic.note(format!("ssh says: {text}")),
    }
}

/// What somebody types to try it by hand.
fn by_hand(route: &Route) -> String {
    let server = &route.ssh.server;
    let port = server
        .port
        .map_or(String::new(), |port| format!("-p {port} "));
    let user = server
        .user
        .as_ref()
        .map_or(String::new(), |user| format!("{user}@"));
    format!("ssh {port}{user}{}", server.host)
}

pub(super) fn no_ssh(route: &Route, why: &std::io::Error) -> Fault {
    let program = route.ssh.manner.program.to_string_lossy();
    refused(
        error(
            "link::no-ssh",
            format!("`{program}` cannot be started: {why}"),
        )
        .help("install ssh (Debian: `apt-get install openssh-client`)"),
    )
}

pub(super) fn chatty(route: &Route, text: &str) -> Fault {
    let server = &route.ssh.server;
    refused(
        error(
            "link::not-towpath",
            format!("{server} answers, but not as `tow agent dial` does"),
        )
        .note(format!("what came first: {text:?}"))
        .help(
            "if a login file there (`~/.bashrc`) prints something, have it do so on terminals only",
        ),
    )
}

pub(super) fn silent(route: &Route, text: &str, waited: Duration) -> Fault {
    let text_of = format!(
        "{} did not say who it is within {} s",
        route.ssh.server,
        waited.as_secs()
    );
    Fault::Passing(
        said(error("link::silent", text_of), text).help(format!("try `{}`", by_hand(route))),
    )
}

/// ssh ended before there was a line.
pub(super) fn ended(route: &Route, code: Option<i32>, text: &str) -> Fault {
    let server = &route.ssh.server;
    let environment = &route.environment;
    match code {
        Some(NO_PROGRAM) => refused(
            said(
                error("link::no-tow", format!("there is no `tow` on {server}")),
                text,
            )
            .note("nothing was touched")
            .help(format!("run `tow setup -e {environment}`")),
        ),
        // What ssh itself ends with, when it was not the command over there.
        Some(255) | None => by_words(route, text),
        Some(code) => refused(
            said(
                error(
                    "link::dial-failed",
                    format!("`tow agent dial` on {server} ended with exit code {code}"),
                ),
                text,
            )
            .help(format!(
                "if it is an old one, run `tow setup -e {environment}`"
            )),
        ),
    }
}

/// ssh has one exit code for everything, so its words are all there is.
fn by_words(route: &Route, text: &str) -> Fault {
    let server = &route.ssh.server;
    let hand = by_hand(route);
    let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if has(&["IDENTIFICATION HAS CHANGED"]) {
        let text_of = format!("{server} has another host key than it had before");
        return refused(
            said(error("link::host-key-changed", text_of), text)
                .note("nothing was sent")
                .help(format!(
                    "if it was installed anew, take the old key out: `ssh-keygen -R {}`; else \
                     somebody may stand between",
                    known_as(route)
                )),
        );
    }
    if has(&["Host key verification failed", "No matching host key"]) {
        let text_of = format!("the host key of {server} is not known");
        return refused(
            said(error("link::host-key-unknown", text_of), text)
                .note("nothing was sent")
                .help(format!(
                    "connect once by hand, and compare the fingerprint: `{hand}`"
                )),
        );
    }
    if has(&["Permission denied", "Too many authentication failures"]) {
        let text_of = format!("{server} does not let this key in");
        return refused(
            said(error("link::denied", text_of), text)
                .note("nothing was touched")
                .help(format!("see that `{hand}` works without a password")),
        );
    }
    let text_of = format!("{server} cannot be reached");
    Fault::Passing(
        said(error("link::unreachable", text_of), text).help(format!("see that `{hand}` works")),
    )
}

/// The name under which `known_hosts` has it.
fn known_as(route: &Route) -> String {
    let server = &route.ssh.server;
    match server.port {
        Some(port) if port != 22 => format!("'[{}]:{port}'", server.host),
        _ => server.host.clone(),
    }
}

/// A key that is for one environment reaches that, whichever is asked for.
pub(super) fn refuse_other(route: &Route, preface: &Preface) -> Result<(), Fault> {
    if preface.app == route.app && preface.environment == route.environment {
        return Ok(());
    }
    let text = format!(
        "this key reaches {} of `{}`, not {} of `{}`",
        preface.environment, preface.app, route.environment, route.app
    );
    Err(refused(
        error("link::other-environment", text)
            .note("nothing was touched")
            .help("use a key for this environment: `tow server key add` makes one"),
    ))
}

/// Builds that are more than one apart do not talk.
pub(super) fn refuse_skew(route: &Route, preface: &Preface) -> Result<(), Fault> {
    let Skew::Far(order) = preface.skew() else {
        return Ok(());
    };
    let environment = &route.environment;
    let text = format!(
        "the agent of {environment} is tow {}, which speaks another protocol than this tow",
        preface.version
    );
    let help = match order {
        Ordering::Less => {
            format!("bring the server to this version: `tow server upgrade -e {environment}`")
        }
        _ => format!("install tow {} on this machine", preface.version),
    };
    Err(refused(
        error("link::version", text)
            .note(format!(
                "it speaks protocol {}, this one {PROTOCOL}; one apart works, more does not",
                preface.protocol
            ))
            .note("nothing was touched")
            .help(help),
    ))
}
