//! The one place that prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::IsTerminal;

use serde::Serialize;
use towpath::agent::api::Trouble;
use towpath::diagnostic::{Diagnostic, Report};

/// What a command has to say, on standard output.
pub fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    // A reader that has gone away is no error of ours.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What happens meanwhile, on standard error.
pub fn note(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A value as JSON, on standard output.
pub fn json(value: &impl Serialize) {
    say(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// A diagnostic, on standard error; in colour on a terminal.
pub fn diagnostic(diagnostic: &Diagnostic) {
    note(diagnostic.render(is_colourful()).trim_end());
}

/// A failure, as text, or as JSON on standard output.
pub fn trouble(trouble: &Trouble, as_json: bool) {
    if as_json {
        json(trouble)
    } else {
        diagnostic(&trouble.diagnostic)
    }
}

/// Whether standard error is a terminal that wants colour.
pub fn is_colourful() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Whether standard output is a terminal that wants colour.
pub fn paints() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Whether somebody watches.
pub fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// What is wrong with a manifest, each with its place, as `tow check` says it; exit code 3.
pub fn invalid_manifest(report: &Report, as_json: bool) -> Trouble {
    if !as_json {
        note(report.render(is_colourful()).trim_end());
    }
    let text = format!(
        "{} in {}; nothing was touched",
        match report.diagnostics.len() {
            1 => "one mistake".to_owned(),
            count => format!("{count} mistakes"),
        },
        report.name
    );
    let mut diagnostic =
        Diagnostic::error("manifest::invalid", text).help("run `tow check` when it is mended");
    if as_json {
        diagnostic = diagnostic.note(report.render(false));
    }
    Trouble {
        exit: 3,
        diagnostic,
    }
}
