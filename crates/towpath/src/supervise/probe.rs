//! Asking an instance whether it is ready, or still works.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, timeout};
use towpath_gateway::answer::Answer;
use towpath_shim::protocol::{State, Status};
use towpath_shim::tree;

use super::sockets::{Owner, listens_inside, owner};
use super::{Places, Process, logs};
use crate::clock::Clock;
use crate::config::Probe;
use crate::secret::keep::Keeper;

/// Bytes of what a command says wrong that are kept.
const SAID: u64 = 1024;

/// What is asked, in words: `GET http://127.0.0.1:20173/health`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question(pub String);

/// A question with its answer: nothing when it passed, else what came instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What was asked.
    pub question: Question,
    /// What came instead of a pass.
    pub answer: Result<(), String>,
}

/// Puts `probe` to a process that its shim says `status` of.
pub async fn ask(
    probe: &Probe,
    process: &Process,
    status: &Status,
    places: &Places,
    limit: Duration,
) -> Asked {
    let log = &places.log(&process.service, &process.id);
    let keeper = Keeper::new(&places.state);
    let port = process.port.unwrap_or(0);
    let (question, answer) = match probe {
        Probe::Http(path) => {
            let question = format!("GET http://127.0.0.1:{port}{path}");
            (question, http(process, path, &status.pids, limit).await)
        }
        Probe::Tcp => (
            format!("connect 127.0.0.1:{port}"),
            bounded(limit, tcp(process, &status.pids)).await,
        ),
        Probe::Exec(command) => (
            format!("run `{command}`"),
            bounded(limit, exec(command, process, &keeper)).await,
        ),
        Probe::Log(text) => (format!("a line with \"{text}\""), line(log, status, text)),
        Probe::Stays(span) => {
            let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            (format!("run for {span} ms"), stays(status, span))
        }
    };
    Asked {
        question: Question(question),
        // It goes into the journal, and an application may say anything.
        answer: answer.map_err(|said| keeper.clean(said, &process.secrets)),
    }
}

async fn bounded<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} ms", limit.as_millis())))
}

async fn tcp(process: &Process, pids: &[u32]) -> Result<(), String> {
    connect(process.port.unwrap_or(0)).await?;
    own(process, pids).await
}

async fn connect(port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
    stream.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        _ => error.to_string(),
    })
}

/// The socket must be the instance's own: another process on its port would answer in its name. The kernel walks all
/// connections of the machine for that, so it is asked only when there was an answer.
async fn own(process: &Process, pids: &[u32]) -> Result<(), String> {
    let port = process.port.unwrap_or(0);
    let published = process.container.as_ref().and_then(|one| one.published);
    let seen = {
        let pids = pids.to_vec();
        tokio::task::spawn_blocking(move || {
            let inner = published.filter(|port| !listens_inside(port.inner, &pids));
            (owner(port, &pids), inner)
        })
        .await
    };
    let Ok((owner, missing)) = seen else {
        return Err("nobody could look".to_owned());
    };
    if let (Owner::Own, Some(port)) = (&owner, missing) {
        // The engine takes connections for it before it listens, and drops them.
        return Err(format!(
            "nothing listens on {} in its container",
            port.inner
        ));
    }
    match owner {
        Owner::Own => Ok(()),
        Owner::Nobody => Err("nothing listens there any more".to_owned()),
        Owner::Other(Some((pid, name))) => Err(format!(
            "the port is taken by another process, {name} ({pid})"
        )),
        Owner::Other(None) => Err("the port is taken by another process".to_owned()),
    }
}

/// The status decides; what comes behind it may be slow, or endless.
async fn http(process: &Process, path: &str, pids: &[u32], limit: Duration) -> Result<(), String> {
    let until = Instant::now() + limit;
    let mut answer = bounded(limit, get(process, path, pids)).await?;
    answer.drain(until).await;
    match answer.status() {
        None => Err("no HTTP answer".to_owned()),
        Some(200..400) => Ok(()),
        Some(status) => {
            let text = String::from_utf8_lossy(answer.bytes());
            Err(format!("{status} {}", excerpt(&text)))
        }
    }
}

async fn get(process: &Process, path: &str, pids: &[u32]) -> Result<Answer<TcpStream>, String> {
    let port = process.port.unwrap_or(0);
    let mut stream = connect(port).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nuser-agent: towpath-probe\r\nconnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    let answer = Answer::begin(stream).await;
    own(process, pids).await?;
    answer.map_err(|error| error.to_string())
}

fn excerpt(text: &str) -> String {
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let shown: String = body
        .trim()
        .chars()
        .filter(|char| !char.is_control())
        .take(200)
        .collect();
    format!("{shown:?}")
}

async fn exec(command: &str, process: &Process, keeper: &Keeper) -> Result<(), String> {
    let handed = keeper.peek(&process.id.0, &process.secrets);
    let handed = handed.map_err(|error| error.to_string())?;
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(command)
        .current_dir(&process.cwd)
        .env_clear()
        .envs(&process.env)
        .envs(&handed.env);
    if let Some(user) = process.user {
        shell.uid(user.uid).gid(user.gid);
    }
    shell
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = shell.spawn().map_err(|error| error.to_string())?;
    let mut group = Group(child.id());
    let mut said = Vec::new();
    if let Some(mut errors) = child.stderr.take() {
        let _ = (&mut errors).take(SAID).read_to_end(&mut said).await;
        let _ = copy(&mut errors, &mut sink()).await;
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    // From here on the number may be another's.
    group.0 = None;
    match status.success() {
        true => Ok(()),
        false => Err(format!(
            "{status} {:?}",
            String::from_utf8_lossy(&said)
                .trim()
                .chars()
                .take(200)
                .collect::<String>()
        )),
    }
}

/// The processes of a command: all of them go where it is given up, or each time-out left some behind.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|pid| i32::try_from(pid).ok());
        if let Some(leader) = leader.and_then(Pid::from_raw) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

fn line(log: &Path, status: &Status, text: &str) -> Result<(), String> {
    match status.state {
        State::Running { pid, .. } if logs::has_said(log, pid, text) => Ok(()),
        _ => Err("no such line yet".to_owned()),
    }
}

/// By the boot clock: wall time may be set.
fn stays(status: &Status, span: u64) -> Result<(), String> {
    let State::Running { pid, .. } = status.state else {
        return Err("it does not run".to_owned());
    };
    match age_ms(pid) {
        Some(age) if age >= span => Ok(()),
        Some(age) => Err(format!("it runs for {age} ms")),
        None => Err("it does not run".to_owned()),
    }
}

fn age_ms(pid: u32) -> Option<u64> {
    let began = tree::start_time(pid)? * 1000 / rustix::param::clock_ticks_per_second();
    let now = u64::try_from(Clock::system().boot_ms()).ok()?;
    Some(now.saturating_sub(began))
}
