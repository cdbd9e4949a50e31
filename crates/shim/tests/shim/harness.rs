//! A shim in a directory of its own; nothing of it outlives the test.
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use towpath_shim::client::{self, ask};
use towpath_shim::protocol::{
    Exit, Handed, Log, Policy, Reply, Request, Restart, Spec, State, Status, Stop,
};
use towpath_shim::tree;

/// Nothing here takes a fraction of it on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// A pause that no test lives to see the end of.
pub const HOUR_MS: u64 = 3_600_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Shim {
    pub dir: PathBuf,
    pub spec: Spec,
    pub process: Option<Child>,
}

impl Shim {
    /// A child that runs once, not started yet.
    pub fn new(argv: &[&str]) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shim-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir(&dir).unwrap();
        let spec = Spec {
            mark: name,
            argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
            env: [("PATH".to_owned(), std::env::var("PATH").unwrap())].into(),
            cwd: dir.clone(),
            user: None,
            listen: Vec::new(),
            restart: Restart {
                policy: Policy::Never,
                backoff_ms: 10,
                backoff_max_ms: 40,
                limit: 5,
                within_ms: HOUR_MS,
            },
            stop: Stop {
                signal: 15,
                grace_ms: HOUR_MS,
            },
            log: Log {
                path: dir.join("log"),
                max_bytes: 1 << 20,
                keep: 2,
            },
            socket: dir.join("s"),
            handed: false,
        };
        Self {
            dir,
            spec,
            process: None,
        }
    }

    pub fn sh(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    pub fn python(script: &str) -> Self {
        Self::new(&["python3", "-S", "-c", script])
    }

    pub fn with(mut self, change: impl FnOnce(&mut Spec)) -> Self {
        change(&mut self.spec);
        self
    }

    /// Starts it and waits until it is up.
    pub fn start(mut self) -> Self {
        self.launch();
        self
    }

    pub fn launch(&mut self) {
        let _ = fs::remove_file(self.dir.join("shim.json"));
        self.launch_only();
        let identity = self.dir.join("shim.json");
        until("the shim is up", || identity.exists().then_some(()));
    }

    pub fn launch_only(&mut self) {
        let spec = serde_json::to_vec(&self.spec).unwrap();
        fs::write(self.dir.join("spec.json"), spec).unwrap();
        self.process = Some(program(&self.dir).spawn().unwrap());
    }

    /// Starts it with what no file may hold, and waits until it is up.
    pub fn start_with(mut self, handed: &Handed) -> Self {
        self.spec.handed = true;
        let spec = serde_json::to_vec(&self.spec).unwrap();
        fs::write(self.dir.join("spec.json"), spec).unwrap();
        let mut process = program(&self.dir).stdin(Stdio::piped()).spawn().unwrap();
        let input = process.stdin.take().unwrap();
        serde_json::to_writer(input, handed).unwrap();
        self.process = Some(process);
        let identity = self.dir.join("shim.json");
        until("the shim is up", || identity.exists().then_some(()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    pub fn try_ask(&self, request: &Request) -> Result<Reply, client::Error> {
        ask(&self.spec.socket, request, PATIENCE)
    }

    pub fn status(&self) -> Status {
        status(self.try_ask(&Request::Status).unwrap())
    }

    pub fn stop(&self, grace_ms: u64) -> Status {
        let request = Request::Stop {
            grace_ms: Some(grace_ms),
        };
        status(self.try_ask(&request).unwrap())
    }

    /// The pid of the main child, once it runs.
    pub fn main(&self) -> u32 {
        until("the child runs", || match self.status().state {
            State::Running { pid, .. } => Some(pid),
            _ => None,
        })
    }

    /// Waits for the shim's process itself.
    pub fn join(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        until("the shim ends", || process.try_wait().unwrap())
    }

    /// Waits for its end; returns what it left.
    pub fn end(&mut self) -> Status {
        assert!(self.join().success());
        serde_json::from_slice(&fs::read(self.path("exit.json")).unwrap()).unwrap()
    }

    pub fn end_of_child(&mut self) -> Exit {
        self.end().last_exit.unwrap()
    }

    pub fn log(&self) -> String {
        let bytes = fs::read(&self.spec.log.path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The log's lines of one channel, without time and channel.
    pub fn lines(&self, channel: &str) -> Vec<String> {
        let log = self.log();
        let of_channel = log.lines().filter_map(|line| {
            let (_, rest) = line.split_once(' ')?;
            rest.strip_prefix(channel)?.strip_prefix(' ')
        });
        of_channel.map(str::to_owned).collect()
    }

    /// Waits for a line of the child.
    pub fn line(&self, text: &str) {
        until(text, || {
            self.lines("out")
                .iter()
                .any(|line| line == text)
                .then_some(())
        });
    }

    pub fn kill(&mut self) {
        signal(self.pid(), Signal::KILL);
        assert_eq!(self.join().signal(), Some(9));
    }

    pub fn marked(&self) -> Vec<u32> {
        tree::marked(&self.spec.mark)
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = tree::sweep(&self.spec.mark);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The example beside the test's own program.
pub fn program(dir: &Path) -> Command {
    let own = std::env::current_exe().unwrap();
    let target = own.parent().unwrap().parent().unwrap();
    let mut command = Command::new(target.join("examples/shim"));
    command.arg(dir).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Waits for something to be there.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(3));
    }
}

#[track_caller]
pub fn status(reply: Reply) -> Status {
    match reply {
        Reply::Status(status) => status,
        other => panic!("no status: {other:?}"),
    }
}

pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

pub fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.starts_with(" Z"))
}
