//! Gateways as processes, tables, load, and the one way to wait.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio_rustls::TlsConnector;
use towpath_gateway::api::{Apply, Hold, OnExpiry, Pool, Resume, Route, State, Table, Target};
use towpath_gateway::control::Client;

use crate::client::{Conn, Fault};
use crate::secure::shake;

/// Poll a condition until it holds; fails the test when it does not within 20 s.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < end, "did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A folder of its own, removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("tg{}-{}", std::process::id(), NEXT.fetch_add(1, SeqCst));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a gateway may have and how long it waits.
pub struct Bounds<'a> {
    /// As `ulimit -n` in a shell is told.
    pub descriptors: &'a str,
    pub stall_ms: u64,
}

impl Default for Bounds<'_> {
    fn default() -> Self {
        Self {
            descriptors: "$(ulimit -Hn)",
            stall_ms: 30_000,
        }
    }
}

/// A gateway process; killed when dropped.
pub struct Process {
    child: Child,
    pub control: Client,
}

impl Process {
    /// Start a gateway on a listener, and wait until its control socket answers.
    pub async fn start(listener: &TcpListener, socket: &Path, state: &Path) -> Self {
        Self::limited(listener, socket, state, "$(ulimit -Hn)").await
    }

    /// Start one that may open so many descriptors.
    pub async fn limited(
        listener: &TcpListener,
        socket: &Path,
        state: &Path,
        descriptors: &str,
    ) -> Self {
        let plain = Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
        let bounds = Bounds {
            descriptors,
            ..Bounds::default()
        };
        Self::given([plain, Stdio::inherit()], 1, &[socket, state], bounds).await
    }

    /// Start one with a second listener, for TLS.
    pub async fn secure(listeners: &[TcpListener; 2], socket: &Path, folder: &Path) -> Self {
        Self::secure_within(listeners, socket, folder, Bounds::default()).await
    }

    /// The same, with bounds of the test's own.
    pub async fn secure_within(
        listeners: &[TcpListener; 2],
        socket: &Path,
        folder: &Path,
        bounds: Bounds<'_>,
    ) -> Self {
        let given = listeners
            .each_ref()
            .map(|one| Stdio::from(OwnedFd::from(one.try_clone().unwrap())));
        let paths = [socket, &folder.join("state"), &folder.join("certificates")];
        Self::given(given, 2, &paths, bounds).await
    }

    async fn given(
        listeners: [Stdio; 2],
        count: usize,
        paths: &[&Path],
        bounds: Bounds<'_>,
    ) -> Self {
        let Bounds {
            descriptors,
            stall_ms,
        } = bounds;
        let [first, second] = listeners;
        let gateway = std::env::current_exe()
            .unwrap()
            .parent()
            .unwrap()
            .parent()
            .unwrap()
            .join("examples/gateway");
        // The shell knows the pid the gateway will have, and puts the listener where the protocol wants it.
        let script = format!(
            "ulimit -n {descriptors}; exec 3<&0 4<&1 </dev/null >&2; LISTEN_PID=$$ LISTEN_FDS={count} exec \"$0\" \"$@\""
        );
        let child = Command::new("sh")
            .args(["-c", script.as_str()])
            .arg(gateway)
            .args([paths[0], paths[1]])
            .arg("2")
            .args(paths.get(2))
            .args(paths.get(2).map(|_| "1"))
            .env("GATEWAY_STALL_MS", stall_ms.to_string())
            .stdin(first)
            .stdout(second)
            .spawn()
            .unwrap();
        let pid = child.id();
        let process = Self {
            child,
            control: Client::new(paths[0]),
        };
        until("the gateway answers", || async {
            process
                .control
                .state()
                .await
                .is_ok_and(|state| state.pid == pid)
        })
        .await;
        process
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    pub async fn ended(&mut self) -> bool {
        let mut status = None;
        let child = &mut self.child;
        until("the gateway ends", || {
            status = child.try_wait().unwrap();
            std::future::ready(status.is_some())
        })
        .await;
        status.is_some_and(|status| status.success())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway on a listener of its own.
pub struct Gateway {
    pub process: Process,
    pub listener: TcpListener,
    pub addr: SocketAddr,
    pub folder: Folder,
}

impl Gateway {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let folder = Folder::new();
        let process = Process::start(
            &listener,
            &folder.path().join("c"),
            &folder.path().join("state"),
        )
        .await;
        Self {
            process,
            listener,
            addr,
            folder,
        }
    }

    pub async fn serving(table: Table) -> Self {
        let gateway = Self::start().await;
        gateway.switch("first", table).await;
        gateway
    }

    pub fn control(&self) -> &Client {
        &self.process.control
    }

    pub async fn switch(&self, label: &str, table: Table) -> State {
        self.control()
            .apply(&Apply {
                label: label.to_owned(),
                expect: None,
                table,
            })
            .await
            .unwrap()
    }

    pub async fn hold(&self, on_expiry: OnExpiry, lease_ms: u64) -> towpath_gateway::api::Held {
        self.control()
            .hold(&Hold {
                holder: "test".to_owned(),
                lease_ms,
                on_expiry,
            })
            .await
            .unwrap()
    }

    pub async fn resume(&self, token: &str) {
        self.control()
            .resume(&Resume {
                token: Some(token.to_owned()),
            })
            .await
            .unwrap();
    }

    pub async fn waiting(&self) -> u64 {
        match self.control().state().await.unwrap().mode {
            towpath_gateway::api::Mode::Held { waiting, .. } => waiting,
            _ => 0,
        }
    }

    /// Start the process again on the listener and state that were kept.
    pub async fn restart(&mut self) {
        let path = self.folder.path();
        self.process = Process::start(&self.listener, &path.join("c"), &path.join("state")).await;
    }
}

/// Everything at `/` to these instances.
pub fn table(targets: &[SocketAddr]) -> Table {
    let target = |addr: &SocketAddr| Target {
        id: format!("i{}", addr.port()),
        addr: *addr,
    };
    let pool = Pool {
        targets: targets.iter().map(target).collect(),
        health: None,
    };
    Table {
        routes: vec![route("/")],
        pools: [("app".to_owned(), pool)].into(),
        front: towpath_gateway::api::Front::default(),
    }
}

pub fn route(path: &str) -> Route {
    Route {
        host: None,
        path: path.to_owned(),
        strip: false,
        stream: false,
        idempotency_key: false,
        limit: None,
        unlimited: false,
        cache: None,
        pool: "app".to_owned(),
    }
}

/// What a load came to.
#[derive(Debug, Default)]
pub struct Tally {
    pub requests: AtomicU64,
    pub failed: AtomicU64,
    /// Reused connections that were found closed before a byte of the answer: no failures.
    pub stale: AtomicU64,
    pub last: std::sync::Mutex<String>,
}

/// Requests over some connections, each kept, or each new for every request, until stopped.
pub struct Load {
    pub tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    started: Instant,
}

impl Load {
    pub fn start(addr: SocketAddr, connections: usize, path: &'static str) -> Self {
        Self::over(addr, connections, path, None)
    }

    /// The same, by TLS.
    pub fn over(
        addr: SocketAddr,
        connections: usize,
        path: &'static str,
        secure: Option<(TlsConnector, &'static str)>,
    ) -> Self {
        let (tally, stop) = (Arc::<Tally>::default(), Arc::new(AtomicBool::new(false)));
        let tasks = (0..connections).map(|index| {
            // Half of the connections are kept, half are new for each request.
            let dial = Dial {
                addr,
                secure: secure.clone(),
            };
            let run = run(
                dial,
                path,
                index % 2 == 0,
                Arc::clone(&tally),
                Arc::clone(&stop),
            );
            tokio::spawn(run)
        });
        Self {
            tasks: tasks.collect(),
            tally,
            stop,
            started: Instant::now(),
        }
    }

    /// Stop, wait for what is under way, and print what it came to; the failures and the requests.
    pub async fn stop(self, name: &str) -> (u64, u64) {
        self.stop.store(true, SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        let (failed, requests) = (
            self.tally.failed.load(SeqCst),
            self.tally.requests.load(SeqCst),
        );
        let seconds = self.started.elapsed().as_secs_f64();
        let last = self.tally.last.lock().unwrap();
        let stale = self.tally.stale.load(SeqCst);
        println!(
            "{name}: {failed} failed of {requests}, {:.0}/s, {stale} on stale connections {last}",
            requests as f64 / seconds
        );
        (failed, requests)
    }

    pub async fn reached(&self, requests: u64) {
        let wanted = self.tally.requests.load(SeqCst) + requests;
        until("the load goes on", || async {
            self.tally.requests.load(SeqCst) >= wanted
        })
        .await;
    }
}

#[derive(Clone)]
struct Dial {
    addr: SocketAddr,
    secure: Option<(TlsConnector, &'static str)>,
}

impl Dial {
    async fn open(&self) -> Result<Conn, String> {
        let opened = match &self.secure {
            Some((client, host)) => shake(self.addr, client, host).await.map(Conn::over),
            None => Conn::open(self.addr).await,
        };
        opened.map_err(|error| format!("connect: {error}"))
    }

    fn host(&self) -> &'static str {
        self.secure.as_ref().map_or("app.test", |(_, host)| host)
    }
}

async fn run(dial: Dial, path: &str, kept: bool, tally: Arc<Tally>, stop: Arc<AtomicBool>) {
    let mut conn = None;
    while !stop.load(SeqCst) {
        let outcome = one(&dial, path, &mut conn, &tally).await;
        tally.requests.fetch_add(1, SeqCst);
        if let Err(words) = outcome {
            tally.failed.fetch_add(1, SeqCst);
            *tally.last.lock().unwrap() = words;
            conn = None;
        }
        if !kept {
            conn = None;
        }
    }
}

async fn one(
    dial: &Dial,
    path: &str,
    conn: &mut Option<Conn>,
    tally: &Tally,
) -> Result<(), String> {
    let reused = conn.is_some();
    let mut open = match conn.take() {
        Some(open) => open,
        None => dial.open().await?,
    };
    let response = match open.get_of(dial.host(), path).await {
        Err(Fault::BeforeAnswer(_)) if reused => {
            tally.stale.fetch_add(1, SeqCst);
            open = dial.open().await?;
            open.get_of(dial.host(), path).await
        }
        other => other,
    };
    let response = response.map_err(|fault| fault.to_string())?;
    if response.status != 200 {
        return Err(format!("{} {}", response.status, response.text()));
    }
    *conn = (!response.closes()).then_some(open);
    Ok(())
}
