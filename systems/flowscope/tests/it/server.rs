//! Private PostgreSQL servers, where its programs are installed.
//!
//! A server belongs to a shell, and the shell to the test's process by a pipe: when that ends, however it ends, the shell
//! ends the server and removes its folder. It listens on a socket in that folder only. PostgreSQL refuses to run as root,
//! so root runs it as another user. It does not wait for the disk: its processes are killed here, and not the machine, so
//! what they wrote stays.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use crate::connection::Connection;
use crate::harness::{eventually, scratch};

const USER: &str = "flowscope";
const PASSWORD: &str = "not-to-be-printed";

/// Starts a server for each line, once the one before is gone, and ends the last one at the end of its input. A server
/// that was killed is waited for: as long as nobody has, its successor takes it for alive. A signal to all that belongs to
/// the tests does not keep it from that.
const KEEPER: &str = r#"
trap '' HUP INT TERM
while read -r _; do
    wait
    {
        "$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=1000 -c shared_buffers=32MB \
            -c fsync=off >> "$2/log" 2>&1
        rm -f "$2/data/postmaster.pid"
    } &
done
test -f "$2/data/postmaster.pid" && kill -QUIT "$(head -n 1 "$2/data/postmaster.pid")"
wait
rm -rf "$2"
"#;

/// A server.
pub struct Server {
    folder: PathBuf,
    keeper: Mutex<Child>,
}

/// Whether there are programs of PostgreSQL; if there are none, says so, once and past the capture of outputs.
pub fn is_found() -> bool {
    static SAID: OnceLock<()> = OnceLock::new();
    if programs().is_some() {
        return true;
    }
    SAID.get_or_init(|| {
        let text = "SKIPPED on PostgreSQL: no `initdb` and `postgres` in PATH or /usr/lib/postgresql/*/bin\n";
        let _ = std::io::stderr().write_all(text.as_bytes());
    });
    false
}

/// The folder of the programs: one of PATH, or the newest that Debian keeps beside it.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut newest: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path(),
            ))
        })
        .collect();
    newest.sort();
    let newest = newest
        .into_iter()
        .rev()
        .map(|(_, folder)| folder.join("bin"));
    std::env::split_paths(&path).chain(newest).find(|folder| {
        ["initdb", "postgres"]
            .iter()
            .all(|name| folder.join(name).is_file())
    })
}

/// The server that most tests share.
pub fn shared() -> Arc<Server> {
    static SHARED: OnceLock<Arc<Server>> = OnceLock::new();
    Arc::clone(SHARED.get_or_init(|| Arc::new(Server::start())))
}

impl Server {
    /// A server of a test's own.
    pub fn of_its_own() -> Arc<Self> {
        Arc::new(Self::start())
    }

    fn start() -> Self {
        let programs = programs().unwrap();
        let folder = scratch("server");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let password = folder.join("password");
        fs::write(&password, PASSWORD).unwrap();
        give(&folder);
        give(&password);
        initialise(&programs, &folder);
        let mut keeper = Command::new("sh");
        keeper
            .args(["-c", KEEPER, "keeper"])
            .arg(&programs)
            .arg(&folder);
        let keeper = as_other(&mut keeper, &folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let keeper = Mutex::new(keeper);
        let server = Self { folder, keeper };
        server.start_again();
        server
    }

    /// Starts it, and waits until it answers.
    pub fn start_again(&self) {
        let mut keeper = self.keeper.lock().unwrap();
        keeper
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"start\n")
            .unwrap();
        drop(keeper);
        let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        eventually("the server answers", || {
            let ended = log()
                .lines()
                .any(|line| line.contains("FATAL:  could not") || line.contains("already exists"));
            assert!(!ended, "{}", log());
            self.try_open("postgres")
        });
    }

    /// Kills every process of it, at once and without a chance to do anything.
    pub fn kill(&self) {
        self.signal("KILL");
        eventually("all its processes are gone", || {
            self.processes().is_empty().then_some(())
        });
    }

    /// Sends a signal to each of its processes.
    pub fn signal(&self, name: &str) {
        let processes = self.processes();
        assert!(!processes.is_empty(), "it does not run");
        for process in processes {
            // One that has ended meanwhile is none the worse.
            let mut kill = Command::new("kill");
            let _ = kill
                .args(["-s", name, &process])
                .stderr(Stdio::null())
                .status();
        }
    }

    /// Its processes: all of them, and nobody else's, live in the folder of its data.
    fn processes(&self) -> Vec<String> {
        let home = self.folder.join("data");
        let lives = |folder: &Path| fs::read_link(folder.join("cwd")).is_ok_and(|cwd| cwd == home);
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter(|entry| lives(&entry.path()))
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }

    pub fn url(&self, database: &str) -> String {
        let host = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://{USER}:{PASSWORD}@{host}/{database}")
    }

    pub fn open(&self, database: &str) -> Connection {
        Connection::served(&self.url(database)).unwrap()
    }

    pub fn try_open(&self, database: &str) -> Option<Connection> {
        Connection::served(&self.url(database))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap();
        drop(keeper.stdin.take());
        keeper.wait().unwrap();
    }
}

fn initialise(programs: &Path, folder: &Path) {
    let mut initdb = Command::new(programs.join("initdb"));
    initdb
        .args([
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ])
        .arg(format!("--username={USER}"))
        .arg("--pwfile=password")
        .arg("--pgdata=data");
    let done = as_other(&mut initdb, folder).output().unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Prepares a program to run in this folder, and not as root.
fn as_other<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    command.current_dir(folder);
    if let Some((user, group)) = other() {
        command.uid(user).gid(group);
    }
    command
}

/// Makes a file theirs.
fn give(path: &Path) {
    if let Some((user, group)) = other() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

/// The user and group to run as: `None` if it is not root that tests.
fn other() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let numbers = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse().ok());
        Some((fields.next()??, fields.next()??))
    };
    numbers("postgres").or_else(|| numbers("nobody"))
}
