//! Several runners at once.

use towpath::migrate::{self, Engine};

use crate::database::{Database, options};

/// Rounds; each with its own database on SQLite, its own schema's tables on PostgreSQL.
const ROUNDS: usize = 100;

#[test]
fn two_at_once_apply_nothing_twice() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let (mut applied, mut rounds) = (0, 0);
        let Some(shared) = Database::of(engine) else {
            continue;
        };
        for _ in 0..ROUNDS {
            let fresh = Database::of(Engine::Sqlite).unwrap();
            let database = if engine == Engine::Sqlite {
                &fresh
            } else {
                &shared
            };
            applied += round(database);
            rounds += 1;
        }
        eprintln!(
            "{engine}: {applied} migrations applied by 2 runners at once in {rounds} rounds, 0 twice"
        );
        assert_eq!(applied, rounds * 4);
    }
}

/// Two runners on one empty database; how many migrations they have applied together.
fn round(database: &Database) -> usize {
    let index = match database.engine {
        Engine::Sqlite => "CREATE INDEX IF NOT EXISTS made_x ON made (x);",
        Engine::Postgres => "CREATE INDEX CONCURRENTLY made_x ON made (x);",
    };
    let index = format!("-- tow: no-transaction\n{index}");
    database.write(&[
        ("0001_a.up.sql", "CREATE TABLE made (x INTEGER);"),
        ("0001_a.down.sql", "DROP TABLE made;"),
        ("0002_b.up.sql", "INSERT INTO made VALUES (2);"),
        ("0002_b.down.sql", "DELETE FROM made;"),
        ("0003_c.up.sql", &index),
        ("0003_c.down.sql", "DROP INDEX made_x;"),
        ("0004_d.up.sql", "INSERT INTO made VALUES (4);"),
        ("0004_d.down.sql", "SELECT 1;"),
    ]);
    let all = database.load().unwrap();
    let barrier = std::sync::Barrier::new(2);
    let run = || {
        let mut db = database.open();
        barrier.wait();
        migrate::up(&mut db, &all, None, &options()).unwrap()
    };
    let by_both: Vec<u64> = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        let mut own = run();
        own.extend(other.join().unwrap());
        own
    });
    assert_eq!(database.ask("SELECT x FROM made ORDER BY x"), ["2", "4"]);
    let mut once = by_both.clone();
    once.sort_unstable();
    assert_eq!(once, [1, 2, 3, 4]);
    migrate::down(&mut database.open(), &all, &[1, 2, 3, 4], &options()).unwrap();
    by_both.len()
}
