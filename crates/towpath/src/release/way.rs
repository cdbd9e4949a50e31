//! The way that releases go: which environment takes what.

use super::planner::Result;
use super::{Operation, Refusal};
use crate::config::Config;
use crate::diagnostic::Diagnostic;

/// An environment on the way of releases takes releases only, and only the first of them builds.
pub(super) fn admit(config: &Config, operation: Operation) -> Result<()> {
    let name = &config.environment;
    let place = config
        .promote
        .iter()
        .position(|environment| environment == name);
    let (text, help) = match (operation, place) {
        (Operation::Up, Some(0)) => ("takes releases, not a source tree", "tow deploy"),
        (Operation::Up, Some(_)) => ("takes releases, not a source tree", "tow promote"),
        (Operation::Deploy, Some(1..)) => (
            "never builds: its releases come by promotion",
            "tow promote",
        ),
        _ => return Ok(()),
    };
    let diagnostic = Diagnostic::error("deploy::not-the-way", format!("{name} {text}"))
        .note(format!(
            "the way of a release is {}",
            config.promote.join(" -> ")
        ))
        .note("nothing was touched")
        .help(format!("`{help} -e {name}`"));
    Err(Refusal::Refused(diagnostic))
}
