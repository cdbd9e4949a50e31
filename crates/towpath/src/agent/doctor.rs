//! What this machine lacks for an environment, seen without its agent.

use std::path::Path;

use super::user;
use crate::build;
use crate::config::Config;
use crate::release;
use crate::setup::{self, Finding, Looked, Machine, Runs};

/// Looks at this machine for an environment whose manifest is `manifest` and whose state is, or would be, at `state`.
/// Nobody is asked, nothing is changed, no agent is started. Blocking.
#[must_use]
pub fn doctor(config: &Config, manifest: &Path, state: &Path) -> Vec<Looked> {
    let machine = Machine::new(&std::env::var("PATH").unwrap_or_default());
    if config.server.is_some() {
        return setup::look_here((&machine, &machine), config, manifest, state);
    }
    let (user, closed) = match user::user(&config.environment, state) {
        Ok(user) => (user, None),
        Err(user::Closed(closed)) => (None, Some(closed)),
    };
    let runs = user.map(|user| Runs {
        user,
        reaches: build::reaches,
    });
    let services = machine.of_services(&search_path(state), runs);
    let mut found = setup::look_here((&machine, &services), config, manifest, state);
    found.extend(closed.map(|closed| {
        let folder = closed.display();
        let finding = Finding {
            text: format!("services run as a user of their own, who cannot pass `{folder}`"),
            line: Some(format!("chmod o+x {folder}")),
        };
        Looked::wrong("state", finding)
    }));
    found.extend(release::look_here(&machine, config, state, user));
    found
}

/// That of the environment's agent, from which its services have theirs; an agent that is started now has the caller's.
fn search_path(state: &Path) -> String {
    let agent = super::holder(state);
    let environment = agent.and_then(|pid| std::fs::read(format!("/proc/{pid}/environ")).ok());
    let environment = environment.unwrap_or_default();
    let mut variables = environment.split(|byte| *byte == 0);
    let path = variables.find_map(|variable| variable.strip_prefix(b"PATH="));
    match path {
        Some(path) => String::from_utf8_lossy(path).into_owned(),
        None => std::env::var("PATH").unwrap_or_default(),
    }
}
