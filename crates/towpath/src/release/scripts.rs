//! What is wrong with the migrations of a tree, said before any environment is asked to apply them.
//!
//! A deployment looks at what its database does not have yet. So the same fault is an error where an environment is
//! known not to have the migration, and a warning where each has it, or nobody here can tell.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::schema::engine_of;
use crate::config::{self, Resource};
use crate::diagnostic::{Diagnostic, Report, Severity};
use crate::manifest::Manifest;
use crate::migrate::{self, Migration};
use crate::state;

/// What a database is known to have.
enum Have {
    /// These migrations, as the journal says.
    These(BTreeSet<u64>),
    /// That is not to be seen from here.
    Unknown,
}

impl Have {
    fn of(state: Option<&Path>, resource: &str) -> Have {
        let steps = ["migrate", "baseline"].map(|step| {
            let step = format!("{step}:{resource}");
            state.and_then(|state| state::results(state, &step))
        });
        let [Some(applied), Some(counted)] = steps else {
            return Have::Unknown;
        };
        let rows = applied.iter().chain(&counted);
        let versions = rows.filter_map(|row| row.get("versions")?.as_array());
        Have::These(
            versions
                .flatten()
                .filter_map(serde_json::Value::as_u64)
                .collect(),
        )
    }
}

/// Everything that is wrong with them, a report a file. `state` is where the state of an environment is, if that is on
/// this machine.
pub fn check_migrations(
    manifest: &Manifest,
    root: &Path,
    state: &dyn Fn(&str) -> Option<PathBuf>,
) -> Vec<Report> {
    let mut found: Vec<Report> = Vec::new();
    for environment in manifest.environments() {
        // What is wrong with the manifest itself is said elsewhere.
        let Ok(config) = config::resolve(manifest, environment) else {
            continue;
        };
        for (name, resource) in &config.resources {
            let have = Have::of(state(environment).as_deref(), name);
            for report in of_resource(root, (name, resource), environment, &have) {
                add(&mut found, report);
            }
        }
    }
    found
}

fn of_resource(
    root: &Path,
    (name, resource): (&str, &Resource),
    environment: &str,
    have: &Have,
) -> Vec<Report> {
    let Some(folder) = resource.migrations() else {
        return Vec::new();
    };
    let engine = engine_of(resource);
    let all = match migrate::load(&root.join(folder), engine) {
        Ok(all) => all,
        Err(error) => return reports(name, folder, error),
    };
    let wrong = |migration: &Migration| {
        let error = migrate::check(engine, [migration]).err()?;
        let mut reports = reports(name, folder, error);
        if let Some(note) = borne(have, migration.version, environment) {
            let diagnostics = reports
                .iter_mut()
                .flat_map(|report| &mut report.diagnostics);
            for one in diagnostics {
                one.severity = Severity::Warning;
                one.notes.push(note.clone());
            }
        }
        Some(reports)
    };
    all.iter().filter_map(wrong).flatten().collect()
}

/// Why a deployment to the environment may not mind.
fn borne(have: &Have, version: u64, environment: &str) -> Option<String> {
    match have {
        Have::These(versions) if versions.contains(&version) => Some(format!(
            "{environment} has {version:04} already, and does not look at it again"
        )),
        Have::These(_) => None,
        Have::Unknown => Some(format!(
            "whether {environment} has {version:04} already is not to be seen from here; if not, a deployment is refused"
        )),
    }
}

/// An error as reports on its files; one that has none of them is about the folder.
fn reports(resource: &str, folder: &Path, error: migrate::Error) -> Vec<Report> {
    match error {
        migrate::Error::Invalid(mut reports) => {
            for report in &mut reports {
                report.name = folder.join(&report.name).display().to_string();
            }
            reports
        }
        error => {
            let name = folder.display().to_string();
            vec![Report::new(&name, "", vec![error.diagnostic(resource)])]
        }
    }
}

/// What is said of one file for several environments is said once, as the strictest says it.
fn add(found: &mut Vec<Report>, report: Report) {
    let Some(known) = found.iter_mut().find(|known| known.name == report.name) else {
        found.push(report);
        return;
    };
    let is_same = |a: &Diagnostic, b: &Diagnostic| a.message == b.message && a.labels == b.labels;
    for one in report.diagnostics {
        match known
            .diagnostics
            .iter_mut()
            .find(|other| is_same(other, &one))
        {
            None => known.extend(vec![one]),
            Some(other)
                if other.severity == Severity::Warning && one.severity == Severity::Error =>
            {
                *other = one;
            }
            Some(other) if other.severity == one.severity => {
                let new = one.notes.into_iter();
                let new: Vec<_> = new.filter(|note| !other.notes.contains(note)).collect();
                other.notes.extend(new);
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::clock::Clock;
    use crate::id::RunId;
    use crate::release::Step;
    use crate::state::{Entry, Kind, Store};

    /// A tree whose second migration renames a column, and a state beside it.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Tree {
            let name = format!("towpath-scripts-{}-{name}", std::process::id());
            let root = std::env::temp_dir().join(name);
            fs::create_dir_all(root.join("migrations")).unwrap();
            let tree = Tree(root);
            tree.write("0001_notes", "CREATE TABLE notes (old);");
            tree.write(
                "0002_older",
                "ALTER TABLE notes RENAME COLUMN old TO older;",
            );
            tree
        }

        fn write(&self, name: &str, sql: &str) {
            let path = self.0.join(format!("migrations/{name}.up.sql"));
            fs::write(path, sql).unwrap();
        }

        /// Has the journal of an environment say that these were applied.
        fn apply(&self, environment: &str, versions: &[u64]) {
            let store = Store::open(&self.0.join(environment), Clock::system()).unwrap();
            let step = Step::Migrate {
                resource: "db".to_owned(),
                versions: versions.to_vec(),
            };
            let entry = |kind, data| Entry {
                run: RunId(1),
                step: step.to_string(),
                attempt: 1,
                kind,
                actor: "test".to_owned(),
                data,
            };
            let intent = serde_json::to_value(&step).unwrap();
            store.append(&entry(Kind::Intent, intent)).unwrap();
            let done = serde_json::json!({ "versions": versions });
            store.append(&entry(Kind::Ok, done)).unwrap();
        }

        fn check(&self, environments: &str, seen: &[&str]) -> Vec<(String, Severity)> {
            let text = format!(
                "app = \"a\"\nservices.web = {{ run = \"a\", needs = [\"db\"] }}\nresources.db = {{ kind = \"sqlite\", migrate = \"migrations\" }}\n{environments}"
            );
            let manifest = Manifest::parse("tow.toml", &text).unwrap();
            let state = |name: &str| seen.contains(&name).then(|| self.0.join(name));
            let found = check_migrations(&manifest, &self.0, &state);
            let said = found.iter().flat_map(|report| {
                let severities = report.diagnostics.iter().map(|one| one.severity);
                severities.map(|severity| (report.name.clone(), severity))
            });
            said.collect()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn second(severity: Severity) -> Vec<(String, Severity)> {
        vec![("migrations/0002_older.up.sql".to_owned(), severity)]
    }

    #[test]
    fn what_an_environment_is_yet_to_apply_is_an_error_there() {
        let tree = Tree::new("pending");
        assert_eq!(tree.check("", &["local"]), second(Severity::Error));
        tree.apply("local", &[1]);
        assert_eq!(tree.check("", &["local"]), second(Severity::Error));
        let right = "-- tow: contract\nALTER TABLE notes RENAME COLUMN old TO older;";
        tree.write("0002_older", right);
        assert_eq!(tree.check("", &["local"]), []);
    }

    #[test]
    fn what_each_has_or_may_have_is_only_warned_of() {
        let tree = Tree::new("applied");
        tree.apply("local", &[1, 2]);
        assert_eq!(tree.check("", &["local"]), second(Severity::Warning));
        let staging = "[environments.staging]";
        let both = tree.check(staging, &["local", "staging"]);
        assert_eq!(both, second(Severity::Error), "staging has none");
        let hidden = tree.check(staging, &["local"]);
        assert_eq!(hidden, second(Severity::Warning), "staging is not seen");
    }
}
