//! What this machine lacks for an environment, seen without its agent.

use std::path::Path;

use super::user;
use crate::config::Config;
use crate::release;
use crate::setup::{self, Finding, Looked, Machine};

/// Looks at this machine for an environment whose manifest is `manifest` and whose state is, or would be, at `state`.
/// Nobody is asked, nothing is changed, no agent is started. Blocking.
#[must_use]
pub fn doctor(config: &Config, manifest: &Path, state: &Path) -> Vec<Looked> {
    let machine = Machine::new(&std::env::var("PATH").unwrap_or_default());
    let mut found = setup::look_here(&machine, config, manifest, state);
    if config.server.is_some() {
        return found;
    }
    let user = user::user(&config.environment, state);
    let user = user.unwrap_or_else(|user::Closed(closed)| {
        let folder = closed.display();
        let finding = Finding {
            text: format!("services run as a user of their own, who cannot pass `{folder}`"),
            line: Some(format!("chmod o+x {folder}")),
        };
        found.push(Looked::wrong("state", finding));
        None
    });
    found.extend(release::look_here(&machine, config, state, user));
    found
}
