//! What a rehearsal makes of the resources that are declared: servers of its own, whatever is declared to be elsewhere,
//! for it writes and plants faults; and SQLite for a PostgreSQL, where the machine has none and the manifest says that
//! this will do.

use serde::{Deserialize, Serialize};

use crate::manifest::value::{Kind, Table, Value};

/// Keys that say who else runs a resource.
const ELSEWHERE: [&str; 3] = ["url", "direct_url", "backup"];

/// What a configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// The environment that the manifest speaks of.
    #[default]
    Real,
    /// A rehearsal of it.
    Rehearsal,
    /// A rehearsal of it, on a machine without PostgreSQL.
    RehearsalWithoutPostgres,
}

impl Purpose {
    /// Whether it is the environment that the manifest speaks of.
    #[must_use]
    #[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
    pub fn is_real(&self) -> bool {
        *self == Purpose::Real
    }
}

/// Lays over the merged tables what the purpose says.
pub(super) fn lay(merged: &mut Value, purpose: Purpose) {
    let will_do = merged
        .as_table()
        .and_then(|root| root.get("rehearse")?.as_table()?.get("without_postgres"))
        .is_some();
    let on_sqlite = will_do && purpose == Purpose::RehearsalWithoutPostgres;
    let Kind::Table(root) = &mut merged.kind else {
        return;
    };
    let resources = root
        .entries
        .iter_mut()
        .find(|entry| entry.key == "resources");
    let Some(Kind::Table(resources)) = resources.map(|entry| &mut entry.value.kind) else {
        return;
    };
    for entry in &mut resources.entries {
        if let Kind::Table(resource) = &mut entry.value.kind
            && !purpose.is_real()
        {
            rehearsed(resource, on_sqlite);
        }
    }
}

fn rehearsed(resource: &mut Table, on_sqlite: bool) {
    let kind = resource.get("kind").and_then(Value::as_text);
    let (is_postgres, is_redis) = (kind == Some("postgres"), kind == Some("redis"));
    if is_postgres || is_redis {
        let entries = &mut resource.entries;
        entries.retain(|entry| !ELSEWHERE.contains(&entry.key.as_str()));
    }
    if !on_sqlite || !is_postgres {
        return;
    }
    resource.entries.retain(|entry| entry.key != "version");
    for entry in &mut resource.entries {
        if entry.key == "kind" {
            entry.value.kind = Kind::Text("sqlite".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ResourceKind, resolve_for};
    use crate::diagnostic::Report;
    use crate::manifest::Manifest;

    fn config(text: &str, purpose: Purpose) -> Result<Config, Report> {
        resolve_for(&Manifest::parse("tow.toml", text)?, "production", purpose)
    }

    fn manifest(env: &str, rehearse: &str) -> String {
        format!(
            r#"
            app = "notes"
            services.web = {{ run = "./notes", needs = ["db", "cache"], env = {{ {env} }} }}
            [resources]
            db = {{ kind = "postgres", version = 15 }}
            cache = {{ kind = "redis" }}
            [environments.production.resources]
            db = {{ url = "file:/etc/db", direct_url = "file:/etc/direct", backup = "provider" }}
            cache = {{ url = "redis://h:1" }}
            [rehearse]
            next = {{ overlay = "next" }}
            broken = {{ overlay = "broken" }}
            {rehearse}
            "#
        )
    }

    #[test]
    fn a_rehearsal_never_goes_to_a_server_that_is_elsewhere() {
        let text = manifest("", "");
        let real = config(&text, Purpose::Real).unwrap();
        assert!(real.resources.values().all(|one| one.url.is_some()));
        for purpose in [Purpose::Rehearsal, Purpose::RehearsalWithoutPostgres] {
            let rehearsed = config(&text, purpose).unwrap();
            for resource in rehearsed.resources.values() {
                assert!(resource.is_run(), "{resource:?}");
                assert_eq!(resource.direct_url, None);
            }
            let db = &rehearsed.resources["db"];
            assert!(db.is_backed_up());
            assert_eq!((db.kind, db.version), (ResourceKind::Postgres, Some(15)));
        }
    }

    #[test]
    fn sqlite_stands_in_for_postgres_only_where_it_may() {
        let text = manifest("", "without_postgres = \"sqlite\"");
        let kind = |purpose| config(&text, purpose).unwrap().resources["db"].kind;
        assert_eq!(kind(Purpose::Real), ResourceKind::Postgres);
        assert_eq!(kind(Purpose::Rehearsal), ResourceKind::Postgres);
        assert_eq!(
            kind(Purpose::RehearsalWithoutPostgres),
            ResourceKind::Sqlite
        );
        // What only a server has cannot be had of a file.
        let text = manifest("PGHOST = \"${db.host}\"", "without_postgres = \"sqlite\"");
        assert!(config(&text, Purpose::Rehearsal).is_ok());
        assert!(config(&text, Purpose::RehearsalWithoutPostgres).is_err());
    }
}
