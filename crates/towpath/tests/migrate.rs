//! Migrations against real SQLite files: what goes wrong leaves the database as it was.
#![allow(clippy::unwrap_used)] // in the helpers of tests as in the tests themselves

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;
use towpath::migrate::{self, Error};
use towpath::resource::sqlite;

struct Folder(PathBuf);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("towpath-migrate-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        Folder(dir)
    }

    fn db(&self) -> Connection {
        sqlite::open(&self.0.join("app.db")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const ONE: [(&str, &str); 2] = [
    ("0001_a.up.sql", "CREATE TABLE a (x INTEGER);"),
    ("0001_a.down.sql", "DROP TABLE a;"),
];

fn tables(db: &Connection) -> Vec<String> {
    sqlite::schema(db).unwrap()
}

#[test]
fn what_is_applied_is_applied_once() {
    let folder = Folder::with(&ONE);
    let all = migrate::load(&folder.0).unwrap();
    assert_eq!(migrate::up(&mut folder.db(), &all, 1).unwrap(), [1]);
    assert!(migrate::up(&mut folder.db(), &all, 2).unwrap().is_empty());
    migrate::down(&mut folder.db(), &all, &[1]).unwrap();
    assert!(tables(&folder.db()).is_empty());
}

#[test]
fn two_runners_at_once_apply_each_migration_once() {
    let files: Vec<(String, String)> = (1..=20)
        .map(|n| {
            (
                format!("{n:04}_t.up.sql"),
                format!("CREATE TABLE t{n} (x);"),
            )
        })
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let folder = Folder::with(&files);
    let all = migrate::load(&folder.0).unwrap();
    let applied: usize = std::thread::scope(|scope| {
        let runners: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| migrate::up(&mut folder.db(), &all, 1).unwrap().len()))
            .collect();
        runners
            .into_iter()
            .map(|runner| runner.join().unwrap())
            .sum()
    });
    assert_eq!(applied, 20);
}

#[test]
fn a_migration_that_fails_in_the_middle_leaves_nothing() {
    let folder = Folder::with(&[
        ONE[0],
        (
            "0002_b.up.sql",
            "CREATE TABLE b (x); INSERT INTO nowhere VALUES (1);",
        ),
    ]);
    let all = migrate::load(&folder.0).unwrap();
    let error = migrate::up(&mut folder.db(), &all, 1).unwrap_err();
    assert!(matches!(error, Error::Sql { version: 2, .. }), "{error}");
    assert_eq!(tables(&folder.db()).len(), 1);
    assert_eq!(migrate::applied(&folder.db()).unwrap().len(), 1);
}

#[test]
fn hostile_folders_are_refused_before_anything_runs() {
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[("1.up.sql", "")], "`1.up.sql` is not of the form"),
        (
            &[("0001_a.up.sql", ""), ("1_b.up.sql", "")],
            "two migrations are numbered 0001",
        ),
        (&[("0001_a.down.sql", "")], "without its .up.sql"),
        (&[("0001_a.sql", "")], "is not of the form"),
        (&[("x001_a.up.sql", "")], "is not of the form"),
    ];
    for (files, says) in cases {
        let folder = Folder::with(files);
        let text = migrate::load(&folder.0).expect_err("a refusal").to_string();
        assert!(text.contains(says), "{files:?}: {text}");
    }
}

#[test]
fn an_edited_migration_is_refused() {
    let folder = Folder::with(&ONE);
    let all = migrate::load(&folder.0).unwrap();
    migrate::up(&mut folder.db(), &all, 1).unwrap();
    std::fs::write(folder.0.join("0001_a.up.sql"), "CREATE TABLE a (y);").unwrap();
    let edited = migrate::load(&folder.0).unwrap();
    assert!(matches!(
        migrate::pending(&folder.db(), &edited),
        Err(Error::Edited(1))
    ));
}

#[test]
fn a_migration_that_commits_by_itself_is_refused_and_leaves_its_row_out() {
    let folder = Folder::with(&[("0001_a.up.sql", "CREATE TABLE a (x); COMMIT;")]);
    let all = migrate::load(&folder.0).unwrap();
    assert!(matches!(
        migrate::up(&mut folder.db(), &all, 1),
        Err(Error::Transaction(1))
    ));
}

#[test]
fn sql_reaches_no_other_file() {
    for statement in [
        "ATTACH 'OTHER' AS o; CREATE TABLE o.a (x);",
        "COMMIT; ATTACH 'OTHER' AS o; CREATE TABLE o.a (x);",
        "COMMIT; VACUUM INTO 'OTHER';",
    ] {
        let folder = Folder::with(&ONE);
        let other = folder.0.join("other.db");
        let sql = statement.replace("OTHER", &other.display().to_string());
        std::fs::write(folder.0.join("0001_a.up.sql"), sql).unwrap();
        let all = migrate::load(&folder.0).unwrap();
        let outcome = migrate::up(&mut folder.db(), &all, 1);
        assert!(
            matches!(outcome, Err(Error::Sql { version: 1, .. })),
            "{statement}: {outcome:?}"
        );
        assert!(!other.exists(), "{statement}");
    }
}

#[test]
fn a_down_that_leaves_something_does_not_pass_the_round_trip() {
    let good = Folder::with(&ONE);
    migrate::round_trip(&mut good.db(), &migrate::load(&good.0).unwrap()).unwrap();
    let bad = Folder::with(&[
        ("0001_a.up.sql", "CREATE TABLE a (x); CREATE TABLE b (x);"),
        ("0001_a.down.sql", "DROP TABLE a;"),
    ]);
    let error = migrate::round_trip(&mut bad.db(), &migrate::load(&bad.0).unwrap()).unwrap_err();
    assert!(
        matches!(&error, Error::RoundTrip(lines) if lines.len() == 1),
        "{error}"
    );
}
