//! Databases, processes and waiting.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::http;

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

/// A folder with a database, removed in the end.
pub struct Database {
    folder: PathBuf,
}

impl Database {
    /// A database without tables.
    pub fn empty() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "flowscope-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let database = Self { folder };
        database
            .open()
            .execute_batch("PRAGMA journal_mode = WAL")
            .unwrap();
        database
    }

    /// A database as version 1 needs it.
    pub fn migrated() -> Self {
        let database = Self::empty();
        database.apply(&migration("migrations/0001_traces.up.sql"));
        database
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join("flowscope.db")
    }

    pub fn open(&self) -> Connection {
        let conn = Connection::open(self.path()).unwrap();
        conn.busy_timeout(DEADLINE).unwrap();
        conn
    }

    pub fn apply(&self, sql: &str) {
        self.open().execute_batch(sql).unwrap();
    }

    pub fn number(&self, sql: &str) -> i64 {
        self.open().query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The text of a migration of this package.
pub fn migration(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A process with its output; killed in the end if it still runs.
pub struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn spawn(command: &mut Command, database: &Database) -> Self {
        let url = format!("sqlite://{}", database.path().display());
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
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/worker/rollup.py");
        let mut worker = Self::spawn(Command::new("python3").arg(script), database);
        assert!(worker.line().unwrap().starts_with("rollup: works on"));
        worker
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowscope"));
        command
            .env("PORT", "0")
            .env("HOST", "127.0.0.1")
            .env("FLOWSCOPE_USER", user)
            .env("FLOWSCOPE_PASSWORD", PASSWORD);
        let mut process = Process::spawn(&mut command, database);
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
        assert_eq!(self.post("/api/traces", &body).status, 201);
    }
}
