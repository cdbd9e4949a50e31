//! Migrations of a PostgreSQL of ours: applied once wherever the agent dies, tried on a copy beside it, and never guessed at
//! while it is down.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use towpath::resource::kept::Kept;
use towpath::resource::postgres::cluster::ADMIN;
use towpath::resource::postgres::roles;
use towpath::resource::url;

use crate::databases::{MANIFEST, databases, down, installed, kept, sql};
use crate::fixture::{Fixture, STAGING};
use crate::snapshot::check_said;
use crate::whole::whole;

fn migrating() -> Fixture {
    let manifest = MANIFEST.replace("CACHE", "").replace("REDIS", "").replace(
        "{ kind = \"postgres\" }",
        "{ kind = \"postgres\", migrate = \"migrations\" }",
    );
    Fixture::with(&manifest)
}

fn tables(kept: &Kept) -> Vec<String> {
    let query = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'
        AND tablename NOT LIKE 'towpath%' ORDER BY 1";
    sql(kept, query).unwrap()
}

/// How often each migration was applied, by its own count.
fn counted(kept: &Kept) -> Vec<String> {
    sql(kept, "SELECT by FROM count ORDER BY by").unwrap()
}

/// It says in a table how often it was applied.
fn counting(fixture: &Fixture, number: u32) {
    let up = format!("CREATE TABLE t{number} (a text); INSERT INTO count VALUES ('{number}');");
    let name = format!("migrations/{number:04}_add");
    fixture.write(&format!("{name}.up.sql"), &up);
    fixture.write(
        &format!("{name}.down.sql"),
        &format!("DROP TABLE t{number};"),
    );
}

#[test]
fn migrations_reach_it_once_wherever_the_agent_dies() {
    if !installed(false) {
        return;
    }
    let mut fixture = migrating();
    fixture.write(
        "migrations/0001_count.up.sql",
        "CREATE TABLE count (by text);",
    );
    fixture.write("migrations/0001_count.down.sql", "DROP TABLE count;");
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let kept = kept(&fixture, STAGING);
    let mut applied = Vec::new();
    for (number, point) in (2..).zip(["before", "after", "written"]) {
        counting(&fixture, number);
        fixture.commit();
        let place = format!("apply:migrate:db:{point}");
        let mut agent = fixture.doomed_agent(STAGING, &place);
        fixture.tow(&["deploy", "-e", STAGING]).expect(0);
        agent.wait().unwrap();
        applied.push(number.to_string());
        assert_eq!(counted(&kept), applied, "killed at {place}");
    }
    println!(
        "PostgreSQL: 0 of {} migrations twice, each with its agent killed",
        applied.len()
    );
    let status = fixture.tow(&["migrate", "status", "-e", STAGING]).expect(0);
    assert!(status.out.contains("0004_add"), "{}", status.out);

    // What fails half-way leaves nothing of itself, and the version before serves on.
    let before = tables(&kept);
    let half = "CREATE TABLE half (a text);
        DO $$ BEGIN IF current_database() = 'fixture_staging' THEN RAISE 'not here'; END IF; END $$;";
    fixture.write("migrations/0005_half.up.sql", half);
    fixture.write("migrations/0005_half.down.sql", "DROP TABLE half;");
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(5);
    assert_eq!(tables(&kept), before);
    // What an expansion must not do is refused before anything is touched.
    fixture.write("migrations/0005_half.up.sql", "DROP TABLE t2;");
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(3);
    assert_eq!(tables(&kept), before);
    let status = fixture.seen(STAGING).unwrap();
    assert_eq!(status.verdict, "serving", "{status:?}");
    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    assert_eq!(counted(&kept), applied);
    down(&fixture, STAGING);
}

#[test]
fn migrations_are_tried_on_a_copy_beside_it_before_anything_is_touched() {
    if !installed(false) {
        return;
    }
    let mut fixture = migrating();
    fixture.write(
        "migrations/0001_notes.up.sql",
        "CREATE TABLE notes (id int PRIMARY KEY, body text);",
    );
    fixture.write("migrations/0001_notes.down.sql", "DROP TABLE notes;");
    fixture.commit();
    let dry = fixture
        .tow(&["deploy", "-e", STAGING, "--dry-run"])
        .expect(0);
    assert!(
        dry.out.contains("its server does not run yet"),
        "{}",
        dry.out
    );
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let kept = kept(&fixture, STAGING);
    sql(&kept, "INSERT INTO notes VALUES (1)").unwrap();
    let before = tables(&kept);

    // What is there decides: no empty database would have said so.
    let up = "ALTER TABLE notes ALTER COLUMN body SET NOT NULL;";
    fixture.write(
        "migrations/0002_body.up.sql",
        &format!("-- tow: rewrite\n{up}"),
    );
    fixture.write(
        "migrations/0002_body.down.sql",
        "ALTER TABLE notes ALTER COLUMN body DROP NOT NULL;",
    );
    fixture.commit();
    let refused = fixture.tow(&["deploy", "-e", STAGING]);
    check_said(&fixture, "tried-on-postgresql", &refused);
    assert_eq!(
        (tables(&kept), databases(&kept)),
        (before, vec!["fixture_staging".to_owned()])
    );
    whole(&fixture, STAGING, "v2").unwrap();

    sql(&kept, "UPDATE notes SET body = 'one' RETURNING body").unwrap();
    fixture.write("migrations/0003_more.up.sql", "CREATE TABLE more (a text);");
    fixture.write("migrations/0003_more.down.sql", "SELECT 1;");
    fixture.commit();
    let dry = fixture
        .tow(&["deploy", "-e", STAGING, "--dry-run"])
        .expect(0);
    let differs = |line: &str| dry.out.contains(line);
    assert!(differs("+table public.more"), "{}", dry.out);
    assert!(differs("it cannot be taken back"), "{}", dry.out);
    let version = fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    whole(&fixture, STAGING, &version).unwrap();

    drift(&fixture, &kept);
    down(&fixture, STAGING);
}

/// What a look for drift says, and what it drops.
fn drift(fixture: &Fixture, kept: &Kept) {
    // Drift is what was made by hand.
    let status = || {
        fixture
            .tow(&["migrate", "status", "-e", STAGING])
            .expect(0)
            .out
    };
    assert!(!status().contains("by_hand"), "{}", status());
    sql(kept, "CREATE TABLE by_hand (a text)").unwrap();
    assert!(status().contains("+table public.by_hand"), "{}", status());
    assert_eq!(databases(kept), ["fixture_staging"]);
    // Nor is another's dropped, that looks at the same time.
    let mut admin = roles::admin(kept, "postgres", "test").unwrap();
    let empty = "fixture_staging_empty";
    admin
        .batch_execute(&format!("CREATE DATABASE {empty}"))
        .unwrap();
    assert!(status().contains("+table public.by_hand"), "{}", status());
    assert_eq!(databases(kept), ["fixture_staging", empty]);
    // What a look has left that was broken off is removed by the next.
    let left = "fixture_staging_empty_00000000";
    let state = fixture.state(STAGING);
    let mark = format!(
        "an empty database that Towpath made for {STAGING} in {}",
        state.display()
    );
    for statement in [
        format!("DROP DATABASE {empty}"),
        format!("CREATE DATABASE {left}"),
        format!("COMMENT ON DATABASE {left} IS '{mark}'"),
    ] {
        admin.batch_execute(&statement).unwrap();
    }
    assert!(status().contains("+table public.by_hand"), "{}", status());
    assert_eq!(databases(kept), ["fixture_staging"]);
}

/// `direct_url` is of a role that makes databases, `url` of one that may not connect to them.
#[test]
fn an_empty_database_that_cannot_be_opened_does_not_stay() {
    if !installed(false) {
        return;
    }
    let fixture = migrating();
    fixture.write("migrations/0001_old.up.sql", "CREATE TABLE old (a text);");
    fixture.write("migrations/0001_old.down.sql", "DROP TABLE old;");
    fixture.tow(&["up"]).expect(0);
    let kept = kept(&fixture, "local");
    let mut admin = kept.clone();
    (admin.login, admin.password) = (Some(ADMIN.to_owned()), kept.admin.clone());
    let role = format!(
        "CREATE ROLE maker LOGIN CREATEDB PASSWORD 'a-password' IN ROLE {}",
        kept.name
    );
    sql(&admin, &role).unwrap();
    let data = fs::metadata(fixture.state("local").join("data")).unwrap();
    let url = url::of_kept(&kept)["url"].clone();
    let own = format!("{}:{}", kept.user(), kept.password.reveal());
    let mut elsewhere = "\"postgres\"".to_owned();
    for (key, url) in [
        ("direct_url", url.replace(&own, "maker:a-password")),
        ("url", url),
    ] {
        let file = fixture.dir.join(key);
        fs::write(&file, url).unwrap();
        chown(&file, Some(data.uid()), Some(data.gid())).unwrap();
        elsewhere += &format!(", {key} = \"file:{}\"", file.display());
    }
    let text = fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    fixture.write("tow.toml", &text.replace("\"postgres\"", &elsewhere));
    let said = fixture.tow(&["migrate", "status"]).expect(0);
    let why = "permission denied for database \"fixture_local_empty_";
    assert!(said.out.contains(why), "{said:?}");
    assert_eq!(databases(&kept), ["fixture_local"]);
    down(&fixture, "local");
}

#[test]
fn what_was_there_before_it_was_down_is_not_taken_back() {
    if !installed(false) {
        return;
    }
    let mut fixture = migrating();
    let up = "-- tow: contract\nCREATE TABLE old (a text);";
    fixture.write("migrations/0001_old.up.sql", up);
    fixture.write("migrations/0001_old.down.sql", "DROP TABLE old;");
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let kept = kept(&fixture, STAGING);
    sql(&kept, "INSERT INTO old VALUES ('row') RETURNING a").unwrap();
    down(&fixture, STAGING);
    // Now nobody can see, while it is planned, that the migration is applied.
    let good = fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    fixture.write("mode", "never-ready");
    fixture.write(
        "tow.toml",
        &good.replace("within = \"60s\"", "within = \"1s\""),
    );
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(5);
    fs::remove_file(fixture.repo().join("mode")).unwrap();
    fixture.write("tow.toml", &good);
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    assert_eq!(sql(&kept, "SELECT a FROM old").unwrap(), ["row"]);
    down(&fixture, STAGING);
}

#[test]
fn what_nobody_can_see_while_it_is_down_is_neither_migrated_nor_gone_back_on() {
    if !installed(false) {
        return;
    }
    let mut fixture = migrating();
    fixture.tow(&["up"]).expect(0);
    down(&fixture, "local");
    for asked in ["up", "status"] {
        let said = refused(&fixture, &["migrate", asked]);
        assert!(said.contains("migrate::down"), "{said}");
        assert!(said.contains("`tow up` starts it"), "{said}");
    }
    down(&fixture, "local");

    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let up = "-- tow: rewrite\nCREATE TABLE anew (a text);";
    fixture.write("migrations/0001_anew.up.sql", up);
    fixture.write("migrations/0001_anew.down.sql", "DROP TABLE anew;");
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    down(&fixture, STAGING);
    let back = ["rollback", "r1", "-e", STAGING];
    let said = refused(&fixture, &back);
    assert!(said.contains("rollback::schema"), "{said}");
    assert!(said.contains("`tow rollback r2 -e staging`"), "{said}");
    fixture.tow(&["rollback", "r2", "-e", STAGING]).expect(0);
    let said = refused(&fixture, &back);
    assert!(said.contains("does not work with it"), "{said}");
    down(&fixture, STAGING);
}

/// What a refusal says.
fn refused(fixture: &Fixture, arguments: &[&str]) -> String {
    fixture.tow(arguments).expect(4).err
}
