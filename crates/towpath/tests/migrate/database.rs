//! A database of one engine or the other, and a folder of migrations for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use towpath::clock::Clock;
use towpath::migrate::{self, Engine, Error, Migration, Options};
use towpath::resource::{self, Connection};

use crate::server::Server;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A database, and what is to be applied to it; nothing is left of either.
pub struct Database {
    pub engine: Engine,
    pub dir: PathBuf,
    pub name: String,
    pub server: Option<Arc<Server>>,
}

impl Database {
    /// An empty one of that engine; `None` where the engine is not installed.
    pub fn of(engine: Engine) -> Option<Database> {
        let server = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(Server::shared()?),
        };
        Some(Database::on(engine, server))
    }

    pub fn on(engine: Engine, server: Option<Arc<Server>>) -> Database {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("towpath-migrate-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let name = format!("app{number}");
        if let Some(server) = &server {
            let mut root = server.root("postgres");
            root.batch_execute(&format!("CREATE ROLE {name} LOGIN"))
                .unwrap();
            root.batch_execute(&format!("CREATE DATABASE {name} OWNER {name}"))
                .unwrap();
        }
        Database {
            engine,
            dir,
            name,
            server,
        }
    }

    /// A connection of ours, as the owner of the database.
    pub fn open(&self) -> Connection {
        match &self.server {
            None => Connection::Sqlite(resource::sqlite::open(&self.dir.join("app.db")).unwrap()),
            Some(server) => {
                let url = server.url(&self.name, &self.name);
                Connection::Postgres(resource::postgres::connect(&url, "migrate").unwrap())
            }
        }
    }

    /// An empty database beside it.
    pub fn scratch(&self) -> Connection {
        match &self.server {
            None => Connection::Sqlite(rusqlite::Connection::open_in_memory().unwrap()),
            Some(server) => {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let name = format!("scratch{number}");
                let sql = format!("CREATE DATABASE {name} OWNER {}", self.name);
                server.root("postgres").batch_execute(&sql).unwrap();
                let url = server.url(&self.name, &name);
                Connection::Postgres(resource::postgres::connect(&url, "scratch").unwrap())
            }
        }
    }

    /// Writes files of the folder.
    pub fn write(&self, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = self.folder().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    pub fn folder(&self) -> PathBuf {
        self.dir.join("migrations")
    }

    pub fn load(&self) -> Result<Vec<Migration>, Error> {
        let all = migrate::load(&self.folder(), self.engine)?;
        migrate::check(self.engine, &all)?;
        Ok(all)
    }

    /// Applies what is there.
    pub fn up(&self) -> Result<Vec<u64>, Error> {
        let all = self.load()?;
        migrate::up(&mut self.open(), &all, None, &options())
    }

    pub fn schema(&self) -> Vec<String> {
        migrate::schema(&mut self.open()).unwrap()
    }

    /// Runs SQL, and gives its first column, or nothing.
    pub fn ask(&self, sql: &str) -> Vec<String> {
        match self.open() {
            Connection::Sqlite(db) => {
                let mut query = db.prepare(sql).unwrap();
                let rows = query
                    .query_map((), |row| row.get::<_, rusqlite::types::Value>(0))
                    .unwrap();
                rows.map(|value| match value.unwrap() {
                    rusqlite::types::Value::Integer(number) => number.to_string(),
                    rusqlite::types::Value::Text(text) => text,
                    other => format!("{other:?}"),
                })
                .collect()
            }
            Connection::Postgres(mut client) => {
                let rows = client.simple_query(sql).unwrap();
                rows.iter()
                    .filter_map(|row| match row {
                        postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                        _ => None,
                    })
                    .collect()
            }
        }
    }

    pub fn run(&self, sql: &str) {
        match self.open() {
            Connection::Sqlite(db) => db.execute_batch(sql).unwrap(),
            Connection::Postgres(mut client) => client.batch_execute(sql).unwrap(),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Short waits.
pub fn options() -> Options {
    Options {
        runner_wait: Duration::from_secs(30),
        lock_timeout: Duration::from_millis(300),
        tries: 2,
        ..Options::new(Clock::system())
    }
}

/// The same on both engines; prints which were tried.
pub fn on_both(test: impl Fn(&Database)) {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        if let Some(database) = Database::of(engine) {
            test(&database);
            eprintln!("tried on {engine}");
        }
    }
}
