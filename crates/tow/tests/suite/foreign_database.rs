//! Foreign migrators of a PostgreSQL: tried on a database beside it, and put back from a dump.

use std::os::unix::fs::MetadataExt;

use towpath::resource::postgres::roles;

use crate::databases::{databases, down, installed, kept, sql};
use crate::fixture::{Fixture, STAGING};
use crate::foreign::{DEPLOY, ON_START, RUN};
use crate::kill::die_with;
use crate::snapshot::check_said;
use crate::whole::whole;

const POSTGRES: &str = r#"
app = "fixture"

[services.web]
run = '''START psql -qX -v ON_ERROR_STOP=1 -f query.sql > /dev/null && exec APP web'''
env = { DATA = "DATA", PGHOST = "${db.host}", PGPORT = "${db.port}", PGUSER = "${db.user}", PGDATABASE = "${db.name}", PGPASSWORD = "${db.password}", PGCLIENTENCODING = "UTF8" }
needs = ["db"]
ready = { http = "/health", every = "20ms", within = "60s", timeout = "10s" }
restart = { backoff = "50ms" }

[resources]
db = { kind = "postgres", migrate = MIGRATE }

[environments.local]
[environments.staging]
window = "1h"
"#;

const PSQL: &str = "psql -qX -v ON_ERROR_STOP=1 -f steps.sql";
const NOTES: &str = "CREATE TABLE IF NOT EXISTS notes (id int PRIMARY KEY, body text);";

fn postgres(migrate: &str) -> Fixture {
    let start = match migrate.contains("on_start") {
        true => format!("{PSQL} &&"),
        false => String::new(),
    };
    let migrate = migrate.replace("python3 app.py migrate", PSQL);
    let mut fixture = Fixture::with(
        &POSTGRES
            .replace("START", &start)
            .replace("MIGRATE", &migrate),
    );
    fixture.write("steps.sql", NOTES);
    fixture.write("query.sql", "SELECT body FROM notes;");
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    rows(
        &fixture,
        "INSERT INTO notes VALUES (1, 'old') RETURNING body",
    );
    fixture
}

fn rows(fixture: &Fixture, query: &str) -> Vec<String> {
    sql(&kept(fixture, STAGING), query).unwrap()
}

fn its_columns(fixture: &Fixture) -> Vec<String> {
    let query = "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'notes' ORDER BY 1";
    rows(fixture, query)
}

#[test]
fn postgresql_is_copied_beside_itself() {
    if !installed(false) {
        return;
    }
    for migrate in [RUN, ON_START] {
        let mut fixture = postgres(migrate);
        fixture.write(
            "steps.sql",
            &format!("{NOTES} ALTER TABLE notes ADD COLUMN IF NOT EXISTS title text;"),
        );
        fixture.write("query.sql", "SELECT title FROM notes;");
        let version = fixture.commit();
        let said = fixture.tow(&DEPLOY).expect(0);
        assert!(
            said.err.contains("+column public.notes.title text"),
            "{}",
            said.err
        );
        whole(&fixture, STAGING, &version).unwrap();
        assert_eq!(its_columns(&fixture), ["body", "id", "title"]);
        assert_eq!(databases(&kept(&fixture, STAGING)), ["fixture_staging"]);

        fixture.write(
            "steps.sql",
            "ALTER TABLE notes RENAME TO kept; CREATE VIEW notes AS SELECT id, body AS text FROM kept;",
        );
        fixture.write("query.sql", "SELECT text FROM notes;");
        fixture.commit();
        let said = fixture.tow(&DEPLOY).expect(4);
        assert!(said.err.contains("rehearse::old-fails"), "{}", said.err);
        assert_eq!(its_columns(&fixture), ["body", "id", "title"]);
        assert_eq!(databases(&kept(&fixture, STAGING)), ["fixture_staging"]);
        whole(&fixture, STAGING, &version).unwrap();
        fixture.tow(&["rollback", "-e", STAGING]).expect(0);
        whole(&fixture, STAGING, "v2").unwrap();
        down(&fixture, STAGING);
    }
}

/// What is noted of a database beside it: who may do what, and its settings.
fn beside_it(fixture: &Fixture) -> Vec<String> {
    let query = "SELECT concat_ws(' ', a.privilege_type, a.grantee::regrole) FROM pg_database d
        CROSS JOIN aclexplode(d.datacl) a WHERE d.datname = current_database()
        UNION ALL SELECT concat_ws(' ', setrole::regrole, setconfig) FROM pg_db_role_setting s
        JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database() ORDER BY 1";
    rows(fixture, query)
}

#[test]
fn a_backup_of_postgresql_is_put_back_after_a_rewrite_that_fails() {
    if !installed(false) {
        return;
    }
    let mut fixture = postgres(RUN);
    let text = std::fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    fixture.write(
        "tow.toml",
        &text.replace("steps.sql\" }", "steps.sql\", rewrite = true }"),
    );
    fixture.write(
        "steps.sql",
        "ALTER TABLE notes RENAME COLUMN body TO text; CREATE TABLE more (x int);",
    );
    fixture.write("query.sql", "SELECT nothing FROM notes;");
    let mut admin = roles::admin(&kept(&fixture, STAGING), "postgres", "test").unwrap();
    for statement in [
        "ALTER DATABASE fixture_staging SET search_path TO public, \"An other\"",
        "ALTER ROLE fixture_staging IN DATABASE fixture_staging SET app.says TO 'it''s'",
        "CREATE ROLE looker",
        "GRANT CONNECT ON DATABASE fixture_staging TO looker",
    ] {
        admin.batch_execute(statement).unwrap();
    }
    drop(admin);
    let before = beside_it(&fixture);
    for place in ["before", "after", "written"] {
        fixture.commit();
        let place = format!("undo:migrator:db:{place}");
        die_with(None, &fixture, STAGING, &DEPLOY, &place, 5).unwrap();
        assert_eq!(its_columns(&fixture), ["body", "id"], "{place}");
        assert_eq!(rows(&fixture, "SELECT body FROM notes"), ["old"]);
        assert_eq!(beside_it(&fixture), before, "{place}");
        assert_eq!(databases(&kept(&fixture, STAGING)), ["fixture_staging"]);
        whole(&fixture, STAGING, "v2").unwrap();
    }
    fixture.write("query.sql", "SELECT text FROM notes;");
    let version = fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    whole(&fixture, STAGING, &version).unwrap();
    assert_eq!(its_columns(&fixture), ["id", "text"]);
    down(&fixture, STAGING);
}

#[test]
fn what_cannot_be_copied_is_not_said_to_be_tried() {
    if !installed(false) {
        return;
    }
    let mut fixture = postgres(RUN);
    let url = towpath::resource::url::of_kept(&kept(&fixture, STAGING))["url"].clone();
    let file = fixture.dir.join("database.url");
    std::fs::write(&file, url).unwrap();
    let data = std::fs::metadata(fixture.state(STAGING).join("data")).unwrap();
    std::os::unix::fs::chown(&file, Some(data.uid()), Some(data.gid())).unwrap();
    let text = std::fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    let elsewhere = format!("\"postgres\", url = \"file:{}\"", file.display());
    let text = text.replace("\"postgres\"", &elsewhere);
    fixture.write("tow.toml", &text);
    fixture.commit();
    let said = fixture.tow(&DEPLOY).expect(4);
    check_said(&fixture, "cannot-rehearse", &said);
    // What has the name of a copy, and is none, is nobody's to drop.
    let kept = kept(&fixture, STAGING);
    let mut admin = roles::admin(&kept, "postgres", "test").unwrap();
    let user = &towpath::resource::url::of_kept(&kept)["user"];
    for statement in [
        format!("ALTER ROLE \"{user}\" CREATEDB"),
        format!("CREATE DATABASE fixture_staging_rehearsal OWNER \"{user}\""),
    ] {
        admin.batch_execute(&statement).unwrap();
    }
    let said = fixture.tow(&DEPLOY).expect(4);
    assert!(said.err.contains("rehearse::impossible"), "{}", said.err);
    assert_eq!(
        databases(&kept),
        ["fixture_staging", "fixture_staging_rehearsal"]
    );
    drop(admin);
    fixture.write(
        "tow.toml",
        &text.replace("steps.sql\" }", "steps.sql\", rehearse = false }"),
    );
    let version = fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    whole(&fixture, STAGING, &version).unwrap();
    down(&fixture, STAGING);
}
