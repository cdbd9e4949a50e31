//! An application in a git repository, its environments, and the command as somebody types it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;
use towpath::agent::api::Status;
use towpath::agent::{Client, socket};

use crate::machine::{self, until};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The environment that most tests deploy to.
pub const STAGING: &str = "staging";

/// The environment that releases are promoted to.
pub const PRODUCTION: &str = "production";

/// The manifest of an application with two web instances, a worker and a database.
pub const MANIFEST: &str = r#"
app = "fixture"
promote = ["staging", "production"]

[services.web]
build = "true"
run = "APP web"
env = { DATA = "DATA" }
needs = ["db"]
ready = { http = "/health", every = "20ms", within = "60s", timeout = "10s" }
replicas = 2

[services.worker]
role = "worker"
run = "APP worker"
env = { DATA = "DATA" }
ready = { log = "works on", every = "20ms" }
restart = { policy = "always", backoff = "50ms" }

[resources]
db = { kind = "sqlite", migrate = "migrations" }

[traffic]
rate = 80
connections = 8
fresh = 0.3
requests = [{ weight = 4, get = "/version" }, { weight = 2, get = "/slow?ms=40" }]

[traffic.write]
weight = 2
post = "/write"
body = "${id}"
expect = 201
read = "/write/${id}"

[environments.local]
listen = "LISTEN"
[environments.staging]
window = "1h"
[environments.production]
window = "1h"
services.web.env.DATA = "PRODUCTION"
services.worker.env.DATA = "PRODUCTION"
"#;

/// What a command said and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Standard output as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails the test unless the command ended with `code`.
    pub fn expect(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }
}

/// An address that nobody listens on.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// The program under test.
pub fn tow() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_tow"))
}

/// An example of this package.
pub fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples")
        .join(name)
}

/// An application, with nothing running when it is dropped.
pub struct Fixture {
    /// Its folder, with everything in it.
    pub dir: PathBuf,
    /// The last version made.
    pub version: u32,
    /// What else commands have in their environment.
    pub env: Vec<(&'static str, PathBuf)>,
    listen: SocketAddr,
    /// Where https is to be served.
    pub secure: SocketAddr,
    runtime: Runtime,
}

impl Fixture {
    /// One with [`MANIFEST`].
    pub fn new() -> Fixture {
        Fixture::with(MANIFEST)
    }

    /// One with another manifest, where `APP` and `DATA` stand for paths.
    pub fn with(manifest: &str) -> Fixture {
        let listen = free();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("tow-test-{}-{number}", std::process::id()));
        for folder in ["repo/migrations", "states"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        // Under root, services run as users of their own: they must reach the program, wherever
        // this repository lies, and the folder that the versions
        // of one environment share.
        fs::copy(example("app"), dir.join("app")).expect("`cargo build -p tow --examples` first");
        for data in ["data", "data-production"].map(|name| dir.join(name)) {
            fs::create_dir_all(&data).unwrap();
            fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut fixture = Fixture {
            dir,
            version: 0,
            env: Vec::new(),
            listen,
            secure: free(),
            runtime,
        };
        fixture.manifest(manifest);
        // Git keeps no empty folder.
        fixture.write("migrations/.gitkeep", "");
        fixture.git(&["init", "--quiet"]);
        fixture.commit();
        fixture
    }

    /// Writes the manifest.
    pub fn manifest(&self, text: &str) {
        let data = self.dir.join("data").display().to_string();
        let app = self.dir.join("app").display().to_string();
        self.write(
            "tow.toml",
            &text
                .replace("APP", &app)
                .replace("SECURE", &self.secure.to_string())
                .replace("LISTEN", &self.listen.to_string())
                .replace("DATA = \"DATA\"", &format!("DATA = {data:?}"))
                .replace("PRODUCTION", &format!("{data}-production")),
        );
    }

    /// The application's folder.
    pub fn repo(&self) -> PathBuf {
        self.dir.join("repo")
    }

    /// A file of what the application writes.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.join("data").join(name)
    }

    /// The state directory of an environment.
    pub fn state(&self, environment: &str) -> PathBuf {
        self.dir.join("states/fixture").join(environment)
    }

    /// Writes a file of the application.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.repo().join(name), text).unwrap();
    }

    fn git(&self, arguments: &[&str]) {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@example.com"]);
        git.env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z")
            .env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z");
        let done = git
            .args(arguments)
            .current_dir(self.repo())
            .status()
            .unwrap();
        assert!(done.success(), "git {arguments:?}");
    }

    /// Commits what there is, as the next version.
    pub fn commit(&mut self) -> String {
        self.version += 1;
        let version = format!("v{}", self.version);
        self.write("version", &version);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", &version]);
        version
    }

    /// Adds a migration to what the next version brings.
    pub fn migration(&self) {
        let number = self.version + 1;
        let name = format!("migrations/{number:04}_add");
        self.write(
            &format!("{name}.up.sql"),
            &format!("CREATE TABLE t{number} (a TEXT);"),
        );
        self.write(
            &format!("{name}.down.sql"),
            &format!("DROP TABLE t{number};"),
        );
    }

    /// The command with these arguments, not started yet.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("-C").arg(self.repo()).args(arguments);
        command.env("TOWPATH_STATE", self.dir.join("states"));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
            .env("TOWPATH_ACTOR", "tester")
            .env_remove("TOWPATH_KILL")
            .env("NO_COLOR", "1");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the command to its end.
    pub fn tow(&self, arguments: &[&str]) -> Said {
        self.end(self.start(arguments))
    }

    /// Runs the command to its end, with this on its standard input.
    pub fn tow_with(&self, arguments: &[&str], input: &str) -> Said {
        let mut command = self.command(&tow(), arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        // A command that refuses before it reads may have gone.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        self.end(Running(child))
    }

    /// Deploys to staging, and promotes to production when that is meant.
    pub fn bring(&self, environment: &str) -> Said {
        let said = self.tow(&["deploy", "-e", STAGING]);
        match environment {
            PRODUCTION if said.code == 0 => self.tow(&["promote", "-e", PRODUCTION]),
            _ => said,
        }
    }

    /// Starts the command.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let child = self.command(&tow(), arguments).spawn().unwrap();
        Running(child)
    }

    /// Waits for a command's end.
    pub fn end(&self, running: Running) -> Said {
        let output = running.0.wait_with_output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The status, from an agent that is there or is started.
    pub fn status(&self, environment: &str) -> Status {
        self.tow(&["status", "-e", environment, "--json"])
            .expect(0)
            .json()
    }

    /// Has an agent started for an environment that need not be there yet.
    pub fn agent(&self, environment: &str) -> u32 {
        let _ = self.tow(&["cancel", "-e", environment]).expect(4);
        self.seen(environment).unwrap().agent_pid
    }

    /// Waits for what a client does.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The status of an agent that is there.
    pub fn seen(&self, environment: &str) -> Option<Status> {
        let client = Client::new(socket(&self.state(environment)));
        self.runtime.block_on(client.get("/v1/status")).ok()
    }

    /// Tells the agent to end, and waits until it has; everything else runs on.
    pub fn end_agent(&self, environment: &str) {
        let Some(status) = self.seen(environment) else {
            return;
        };
        let client = Client::new(socket(&self.state(environment)));
        // One with nothing left to do may have ended by itself since.
        let _told: Result<Value, _> = self.runtime.block_on(client.post("/v1/exit", &()));
        until("the agent ends", || {
            (!machine::is_alive(status.agent_pid)).then_some(())
        });
    }

    /// Starts an agent that kills itself at `place`.
    pub fn doomed_agent(&self, environment: &str, place: &str) -> Child {
        self.end_agent(environment);
        let log = fs::File::create(self.dir.join("doomed.log")).unwrap();
        let state = self.state(environment);
        fs::create_dir_all(&state).unwrap();
        let mut command = Command::new(tow());
        command.args([
            "agent",
            "--app",
            "fixture",
            "--environment",
            environment,
            "--dir",
        ]);
        command.arg(&state).env("TOWPATH_KILL", place);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().unwrap();
        let answers = machine::until_ok(|| self.seen(environment).ok_or("it is silent"));
        let log = || fs::read_to_string(self.dir.join("doomed.log")).unwrap();
        assert!(answers.is_ok(), "the doomed agent: {}", log());
        child
    }

    /// The port that stands for `LISTEN`.
    pub fn listen_port(&self) -> u16 {
        self.listen.port()
    }

    /// The address of the gateway.
    pub fn listen(&self, environment: &str) -> String {
        self.status(environment).listen.unwrap()
    }

    /// The body of a GET through the gateway.
    pub fn get(&self, listen: &str, path: &str) -> Result<String, String> {
        let fail = |error: std::io::Error| error.to_string();
        let mut stream = std::net::TcpStream::connect(listen).map_err(fail)?;
        stream
            .set_read_timeout(Some(machine::PATIENCE))
            .map_err(fail)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {listen}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(fail)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(fail)?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or(format!("no answer: {answer:?}"))?;
        match head.split_whitespace().nth(1) {
            Some("200") => Ok(body.to_owned()),
            _ => Err(head.lines().next().unwrap_or_default().to_owned()),
        }
    }

    /// Stops an environment; nothing of it is alive afterwards.
    pub fn down(&self, environment: &str) -> Said {
        let said = self.tow(&["down", "-e", environment]).expect(0);
        // Its members are gone by now; a shim that has answered has still to end itself.
        assert!(
            machine::members(&self.state(environment)).is_empty(),
            "left after down"
        );
        until("everything to be gone after down", || {
            machine::everything(&self.state(environment))
                .is_empty()
                .then_some(())
        });
        said
    }
}

/// A command under way. One that a failed test leaves ends by itself: its agent is gone then.
pub struct Running(pub Child);

impl Drop for Fixture {
    fn drop(&mut self) {
        let states = self.dir.join("states");
        for environment in ["local", STAGING, PRODUCTION] {
            let state = self.state(environment);
            machine::sweep(&states, &state);
            if let Some(runtime) = socket(&state).parent() {
                let _ = fs::remove_dir_all(runtime);
            }
        }
        if !std::thread::panicking() || std::env::var_os("KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
