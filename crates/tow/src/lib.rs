//! The `tow` command: talks to the agent of one environment, and renders what it hears.

mod cli;
mod commands;
mod connect;
mod follow;
mod link;
mod out;
mod place;
mod progress;
mod render;
mod times;

use std::sync::OnceLock;

static VERSION: OnceLock<&str> = OnceLock::new();

/// The build: what an upgrade changes.
fn version() -> &'static str {
    VERSION.get().copied().unwrap_or(env!("CARGO_PKG_VERSION"))
}

/// The whole command, as the build `version`; gives its exit code.
#[must_use]
pub fn main(version: &'static str) -> std::process::ExitCode {
    let _ = VERSION.set(version);
    commands::main()
}
