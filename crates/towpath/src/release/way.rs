//! The way that releases go: which environment takes what.

use super::planner::Result;
use super::{Environment, Operation, Refusal, World, prepare};
use crate::config::Config;
use crate::diagnostic::Diagnostic;

/// An environment on the way of releases takes releases only, and only the first of them builds.
///
/// The manifest comes with what is brought in, so what it says of the way is believed only where no
/// promoted release serves: that one has come a way, and another is not begun behind its back.
pub(super) fn admit(
    world: &World,
    now: &Environment,
    config: &Config,
    operation: Operation,
) -> Result<()> {
    if let (Operation::Up | Operation::Deploy, Some(from)) = (operation, promoted(world, now)?) {
        return Err(behind_its_back(&config.environment, &from));
    }
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

/// Where the release that serves was built, when that was not here.
fn promoted(world: &World, now: &Environment) -> Result<Option<String>> {
    let Some(release) = now.live.as_ref().and_then(|live| live.release) else {
        return Ok(None);
    };
    let built_in = prepare::record(world, release)?.built_in;
    Ok((built_in != world.environment).then_some(built_in))
}

fn behind_its_back(name: &str, from: &str) -> Refusal {
    let text = format!("{name} serves a release of {from}: it never builds");
    Refusal::Refused(
        Diagnostic::error("deploy::not-the-way", text)
            .note("whatever the manifest that was sent says of the way")
            .note("nothing was touched")
            .help(format!(
                "`tow promote -e {name}`; to build here from now on, first `tow down -e {name}`"
            )),
    )
}
