//! Keeping the agent of one environment running.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::{Environment, Event, Readable, What, pid_in, readable};

/// The exit code of an agent that found another one there.
const TAKEN: i32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An agent that lived so long had nothing wrong with it from the start.
const LIVED: Duration = Duration::from_secs(10);
/// An agent's words are kept up to here.
const LOG_BYTES: u64 = 1 << 20;

/// Starts the agent again and again, for as long as the environment has a folder.
pub(super) async fn keep(
    environment: Environment,
    tow: PathBuf,
    tell: mpsc::UnboundedSender<Event>,
) {
    let say = |what| {
        // Nobody listens: then nobody wants to know.
        let _ = tell.send(Event {
            environment: environment.clone(),
            what,
        });
    };
    let mut pause = FIRST_PAUSE;
    while environment.state.is_dir() {
        let began = Instant::now();
        let ended = live(&environment, &tow, &say).await;
        if began.elapsed() >= LIVED {
            pause = FIRST_PAUSE;
        }
        say(match ended {
            Ok(how) => What::Ended(how, pause),
            Err(error) => What::NotStarted(error.to_string(), pause),
        });
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    say(What::Gone);
}

/// One agent's life; says how it ended.
async fn live(
    environment: &Environment,
    tow: &Path,
    say: &impl Fn(What),
) -> std::io::Result<String> {
    let mut child = start(environment, tow)?;
    if let Some(pid) = child.id() {
        say(What::Started(pid));
    }
    let status = child.wait().await?;
    if status.code() != Some(TAKEN) {
        return Ok(describe(status));
    }
    match other(environment) {
        Some((pid, end)) => {
            say(What::Adopted(pid));
            drop(end.readable().await?);
            Ok("it was started by somebody else".to_owned())
        }
        None => Ok("another one was there, and is gone".to_owned()),
    }
}

fn start(environment: &Environment, tow: &Path) -> std::io::Result<tokio::process::Child> {
    let Environment { app, name, state } = environment;
    let mut command = Command::new(tow);
    command.args(["agent", "--app", app, "--environment", name, "--dir"]);
    command.arg(state).current_dir("/");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log(&state.join("agent.log"))?);
    command.spawn()
}

fn log(path: &Path) -> std::io::Result<File> {
    let is_long = std::fs::metadata(path).is_ok_and(|found| found.len() > LOG_BYTES);
    if is_long {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    File::options().create(true).append(true).open(path)
}

/// The agent that has the lock, and a descriptor that is readable once it has ended.
fn other(environment: &Environment) -> Option<(u32, Readable)> {
    let pid = pid_in(&environment.state.join("agent.lock"))?;
    let process = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let end = pidfd_open(process, PidfdFlags::empty()).ok()?;
    // The number may by now be another's: looked at after it was opened, so it stays what it is.
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0).skip(1);
    let is_agent = words.next() == Some(b"agent")
        && words.any(|word| word == environment.state.as_os_str().as_encoded_bytes());
    is_agent.then_some((pid, readable(end).ok()?))
}

fn describe(status: ExitStatus) -> String {
    if status.success() {
        return "it was told to".to_owned();
    }
    status.to_string()
}
