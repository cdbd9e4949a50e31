//! A PostgreSQL server of the tests' own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use rustix::process::{Pid, Signal, kill_process};

/// Whom it runs as where the tests are root's: PostgreSQL refuses root.
const NOBODY: u32 = 65534;

/// Asks again and again, until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "waited for: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The folder of the programs.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    folders
        .into_iter()
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

/// A running server, which ends with its value.
pub struct Server {
    dir: PathBuf,
    programs: PathBuf,
    child: Mutex<Option<Child>>,
    port: AtomicU16,
}

impl Server {
    /// One that the tests at work share; `None`, and a word of why, where PostgreSQL is not installed.
    pub fn shared() -> Option<Arc<Server>> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Server::own()?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// One of the test's own.
    pub fn own() -> Option<Server> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Some(programs) = programs() else {
            eprintln!(
                "left out: PostgreSQL is not installed (no `initdb` in PATH or /usr/lib/postgresql)"
            );
            return None;
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/tmp/towpath-pg-{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let server = Server {
            dir,
            programs,
            child: Mutex::new(None),
            port: AtomicU16::new(5432),
        };
        server.lay_out();
        server.start();
        Some(server)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .stdin(Stdio::null())
            .current_dir(&self.dir)
            .env("LC_ALL", "C");
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn lay_out(&self) {
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&self.dir, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut initdb = self.command("initdb");
        initdb.args([
            "--username=postgres",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "-D",
            "data",
        ]);
        let made = initdb.output().unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
    }

    /// Starts it, and waits until it answers.
    pub fn start(&self) {
        self.start_with(5432, &["listen_addresses="]);
    }

    /// The same, on a port and with further settings.
    pub fn start_with(&self, port: u16, settings: &[&str]) {
        self.port.store(port, Ordering::Relaxed);
        let log = fs::File::create(self.dir.join("log")).unwrap();
        let mut postgres = self.command("postgres");
        postgres.args(["-D", "data", "-k"]).arg(&self.dir);
        for setting in ["fsync=off", "shared_buffers=16MB", "max_connections=40"] {
            postgres.args(["-c", setting]);
        }
        postgres.args(["-p", &port.to_string()]);
        for setting in settings {
            postgres.args(["-c", setting]);
        }
        postgres.stdout(log.try_clone().unwrap()).stderr(log);
        *self.child.lock().unwrap() = Some(postgres.spawn().unwrap());
        until("the server", || self.try_connect("postgres", "postgres"));
    }

    /// Waits until it has begun anew after a backend was killed: a connection made before it has noticed would be cut.
    pub fn begins_anew(&self) {
        until("the server to begin anew", || {
            let log = fs::read_to_string(self.dir.join("log")).ok()?;
            let times = log.matches("ready to accept connections").count();
            (times > 1).then_some(())
        });
        until("the server", || self.try_connect("postgres", "postgres"));
    }

    /// Kills it, its backends with it.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap().take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // Its backends see that it is gone; a new one starts only when they are too.
        until("the backends' end", || {
            let left = processes()
                .into_iter()
                .filter(|pid| self.is_ours(*pid))
                .count();
            (left == 0).then_some(())
        });
    }

    fn is_ours(&self, pid: i32) -> bool {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&self.dir))
    }

    /// A file in its folder that is its own alone.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        path
    }

    /// How a role reaches a database of it.
    pub fn url(&self, role: &str, database: &str) -> String {
        let port = self.port.load(Ordering::Relaxed);
        let dir = self.dir.display();
        format!("host={dir} port={port} user={role} dbname={database}")
    }

    pub fn try_connect(&self, role: &str, database: &str) -> Option<Client> {
        Client::connect(&self.url(role, database), NoTls).ok()
    }

    /// As the superuser.
    pub fn root(&self, database: &str) -> Client {
        self.try_connect("postgres", database).unwrap()
    }
}

fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Ends a backend as an out-of-memory killer would.
pub fn kill_backend(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            // At once, and its backends with it.
            let _ = kill_process(Pid::from_child(&child), Signal::QUIT);
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}
