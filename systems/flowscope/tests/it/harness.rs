//! Databases, processes and waiting.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::connection::Connection;
use crate::http;
use crate::server::{self, Server};

pub const USER: &str = "demo";
pub const PASSWORD: &str = "demo-password";

/// How long anything may take before a test gives up.
const DEADLINE: Duration = Duration::from_secs(60);

/// Polls until `ask` gives something.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "{what}: not within {DEADLINE:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    /// The text of a migration of this package, by its overlay, if it is not of version 1, and its name.
    pub fn migration(self, overlay: &str, name: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(overlay);
        let file = match self {
            Self::Sqlite => format!("migrations/sqlite/{name}.sql"),
            Self::Postgres => format!("migrations/postgres/{name}.sql"),
        };
        std::fs::read_to_string(folder.join(file)).unwrap()
    }
}

/// Makes each of these functions two tests, one on each engine.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $name() {
                super::$name($crate::harness::Engine::Sqlite);
            })+
        }

        mod postgres {
            $(#[test]
            fn $name() {
                if $crate::server::is_found() {
                    super::$name($crate::harness::Engine::Postgres);
                }
            })+
        }
    };
}

/// A database of a test's own, removed in the end.
pub enum Database {
    /// A folder with a file.
    File(PathBuf),
    /// One on a server, by the server and its name.
    Served(Arc<Server>, String),
}

impl Database {
    /// A database without tables.
    pub fn empty(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => {
                let folder = scratch("file");
                let database = Self::File(folder);
                database.run("PRAGMA journal_mode = WAL");
                database
            }
            Engine::Postgres => Self::on(&server::shared()),
        }
    }

    /// A database without tables on this server.
    pub fn on(server: &Arc<Server>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server
            .open("postgres")
            .run(&format!("CREATE DATABASE {name}"));
        Self::Served(Arc::clone(server), name)
    }

    /// A database as version 1 needs it.
    pub fn migrated(engine: Engine) -> Self {
        Self::empty(engine).with_tables()
    }

    pub fn with_tables(self) -> Self {
        self.run(&self.engine().migration("", "0001_traces.up"));
        self
    }

    pub fn engine(&self) -> Engine {
        match self {
            Self::File(_) => Engine::Sqlite,
            Self::Served(..) => Engine::Postgres,
        }
    }

    pub fn url(&self) -> String {
        match self {
            Self::File(folder) => format!("sqlite://{}", file(folder).display()),
            Self::Served(server, name) => server.url(name),
        }
    }

    pub fn open(&self) -> Connection {
        match self {
            Self::File(folder) => Connection::file(&file(folder)),
            Self::Served(server, name) => server.open(name),
        }
    }

    /// Carries out statements.
    pub fn run(&self, sql: &str) {
        self.open().run(sql);
    }

    /// The number that a query gives.
    pub fn number(&self, sql: &str) -> i64 {
        self.open().texts(sql)[0].parse().unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        match self {
            Self::File(folder) => {
                let _ = std::fs::remove_dir_all(folder);
            }
            // With its server, if that is gone.
            Self::Served(server, name) => {
                if let Some(mut admin) = server.try_open("postgres") {
                    let _ = admin.try_run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
                }
            }
        }
    }
}

/// The file in the folder of a database.
pub fn file(folder: &Path) -> PathBuf {
    folder.join("flowscope.db")
}

/// A new folder, for whoever removes it.
pub fn scratch(what: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("flowscope-{what}-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A process with its output; killed in the end if it still runs.
pub struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn spawn(command: &mut Command, database: &Database) -> Self {
        Self::spawn_on(command, &database.url())
    }

    fn spawn_on(command: &mut Command, url: &str) -> Self {
        let mut child = command
            .env("DATABASE_URL", url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The worker, once it has read its cursor.
    pub fn worker(database: &Database) -> Self {
        let mut worker = Self::early_worker(database);
        assert!(worker.line().unwrap().starts_with("rollup: works on"));
        worker
    }

    /// The worker, which may not have got to its database yet.
    pub fn early_worker(database: &Database) -> Self {
        let program = env!("CARGO_BIN_EXE_flowscope");
        Self::spawn(Command::new(program).arg("rollup"), database)
    }

    /// The next line it prints; `None` when it has ended.
    pub fn line(&mut self) -> Option<String> {
        self.lines.next().map(Result::unwrap)
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// SIGKILL, and its end awaited.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        eventually("the process ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An instance of the service.
pub struct Instance {
    pub process: Process,
    pub address: String,
}

impl Instance {
    /// Starts one, and waits until it listens.
    pub fn listening(database: &Database) -> Self {
        Self::with_first_user(database, USER)
    }

    /// The same, with this name for the first user.
    pub fn with_first_user(database: &Database, user: &str) -> Self {
        Self::on_url(&database.url(), user)
    }

    /// The same, on whatever this URL leads to.
    pub fn on_url(url: &str, user: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowscope"));
        command
            .env("PORT", "0")
            .env("HOST", "127.0.0.1")
            .env("FLOWSCOPE_USER", user)
            .env("FLOWSCOPE_PASSWORD", PASSWORD);
        let mut process = Process::spawn_on(&mut command, url);
        let line = process.line().unwrap();
        let address = line.split("http://").nth(1).unwrap().to_owned();
        Self { process, address }
    }

    /// Starts one, and waits until it is ready.
    pub fn ready(database: &Database) -> Self {
        let instance = Self::listening(database);
        instance.becomes_ready();
        instance
    }

    pub fn becomes_ready(&self) {
        eventually("ready", || {
            (self.get("/health").status == 200).then_some(())
        });
    }

    pub fn get(&self, path: &str) -> http::Answer {
        http::request(&self.address, "GET", path, &[], None)
    }

    /// Signs in.
    pub fn sign_in(&self) -> Session {
        let body = json!({ "user": USER, "password": PASSWORD });
        let answer = http::request(&self.address, "POST", "/api/session", &[], Some(&body));
        assert_eq!(answer.status, 201, "{}", answer.text);
        let token = answer.json()["token"].as_str().unwrap().to_owned();
        self.session(&token)
    }

    /// Uses a token of another instance's.
    pub fn session(&self, token: &str) -> Session {
        Session {
            address: self.address.clone(),
            token: token.to_owned(),
        }
    }
}

/// Requests with a token.
#[derive(Clone)]
pub struct Session {
    pub address: String,
    pub token: String,
}

impl Session {
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> http::Answer {
        let bearer = format!("Authorization: Bearer {}", self.token);
        http::request(&self.address, method, path, &[&bearer], body)
    }

    pub fn get(&self, path: &str) -> http::Answer {
        self.request("GET", path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> http::Answer {
        self.request("POST", path, Some(body))
    }

    /// Stores a small trace.
    pub fn trace(&self, app: &str, id: &str) {
        let body = json!({ "id": id, "app": app, "name": "answer", "duration_ms": 5, "tokens": 3 });
        let answer = self.post("/api/traces", &body);
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
}
