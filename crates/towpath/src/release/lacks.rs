//! What this machine lacks for the databases and builds of an environment, before anything is planned.

use std::path::Path;

use towpath_shim::protocol::User;

use super::{resources, toolchain};
use crate::config::{Config, Resource, ResourceKind};
use crate::resource::kept;
use crate::resource::postgres::binaries;
use crate::setup::{Finding, Looked, Machine};

/// Looks at each resource that a server of ours, or a client, is needed for, and at the way of builds to their
/// compilers as `user`. Blocking: programs are asked for their version; no server is.
#[must_use]
pub fn look(machine: &Machine, config: &Config, state: &Path, user: Option<User>) -> Vec<Looked> {
    let resources = config.resources.iter();
    let mut found: Vec<Looked> = resources
        .filter_map(|(name, resource)| database(machine, state, name, resource))
        .collect();
    let closed = user.and_then(|user| toolchain::out_of_reach(config, user));
    found.extend(closed.map(|closed| {
        let finding = Finding {
            text: closed.message,
            line: closed.help,
        };
        Looked::wrong("build", finding)
    }));
    found
}

fn database(machine: &Machine, state: &Path, name: &str, resource: &Resource) -> Option<Looked> {
    if resource.is_run() {
        let kept = kept::read(state, name).ok().flatten();
        let version = kept.map(|kept| kept.version).or(resource.version);
        let (program, has) = resources::installed(name, resource, version)?;
        return Some(told(
            name,
            has.map_err(|why| (why.message, machine.line(&program))),
        ));
    }
    let is_dumped = resource.kind == ResourceKind::Postgres && resource.is_backed_up();
    is_dumped.then(|| {
        let found = binaries::client("pg_dump", 1).ok_or_else(|| {
            let text = format!(
                "`{name}` is PostgreSQL, and this machine has no `pg_dump` to back it up with"
            );
            (text, machine.line("pg_dump"))
        });
        told(name, found.map(|program| program.display().to_string()))
    })
}

fn told(name: &str, found: Result<String, (String, Option<String>)>) -> Looked {
    match found {
        Ok(text) => Looked::right(name, text),
        Err((text, line)) => Looked::wrong(name, Finding { text, line }),
    }
}
