//! Starting and stopping, each as often as one likes.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use towpath_shim::protocol::{Reply, Request, Spec, State, Status};
use towpath_shim::tree;

use super::{Error, Places, Process, Supervisor};
use crate::container::{self, Running};
use crate::id::InstanceId;
use crate::secret::keep::Keeper;
use crate::state::write_whole;

const COMES_UP: Duration = Duration::from_secs(10);
const ANSWERS: Duration = Duration::from_secs(5);
/// From the end of its grace to the end of a tree.
const STOPS: Duration = Duration::from_secs(10);

/// Puts one request to the shim of `id`.
///
/// # Errors
/// When it is not there, or does not answer within `limit`.
async fn ask(
    places: &Places,
    id: &InstanceId,
    request: &Request,
    limit: Duration,
) -> std::io::Result<Reply> {
    let talk = async {
        let mut stream = UnixStream::connect(places.socket(id)).await?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        Ok(serde_json::from_str(&answer)?)
    };
    timeout(limit, talk).await.map_err(std::io::Error::from)?
}

impl Supervisor {
    /// What the shim of `id` says now; `None` when there is no shim.
    pub async fn status(&self, id: &InstanceId) -> Option<Status> {
        match ask(&self.places, id, &Request::Status, ANSWERS).await {
            Ok(Reply::Status(mut status)) => {
                self.add_container(id, &mut status);
                Some(status)
            }
            _ => None,
        }
    }

    /// Whether anything of `id` runs. That its shim does not answer says nothing of it.
    ///
    /// # Errors
    /// [`Error::Silent`] when nobody can say: its shim is alive, and does not answer.
    pub async fn runs(&self, id: &InstanceId) -> Result<bool, Error> {
        if self.status(id).await.is_some() {
            return Ok(true);
        }
        if self.ended(id).is_some() {
            return Ok(false);
        }
        // Whoever starts or stops it now is waited for.
        let _turn = self.turn(id).await;
        if self.coming(id).await.is_some() {
            return Ok(true);
        }
        if self.ended(id).is_none() && self.is_alive(id).await {
            return Err(Error::Silent(id.clone()));
        }
        Ok(self.has_orphans(id).await)
    }

    /// Whether a shim that was killed has left processes, which go on with what they were given until they are swept.
    async fn has_orphans(&self, id: &InstanceId) -> bool {
        let mark = self.places.mark(id);
        let marked = blocking(move || tree::marked(&mark)).await;
        let contained = Running::read(&self.places.run(id)).map(|running| running.alive());
        marked.is_none_or(|pids| !pids.is_empty()) || contained.is_some_and(|pids| !pids.is_empty())
    }

    /// The processes of a container are children of its engine, and the instance's all the same.
    fn add_container(&self, id: &InstanceId, status: &mut Status) {
        let Some(running) = Running::read(&self.places.run(id)) else {
            return;
        };
        for root in running.alive() {
            let usage = tree::usage(root);
            status.cpu_ms += usage.cpu_ms;
            status.rss_bytes += usage.rss_bytes;
        }
        let below = running.pids().into_iter();
        let others: Vec<u32> = below.filter(|pid| !status.pids.contains(pid)).collect();
        status.pids.extend(others);
    }

    /// How the tree of `id` ended, when its shim has ended by itself.
    #[must_use]
    pub fn ended(&self, id: &InstanceId) -> Option<Status> {
        let text = std::fs::read(self.places.run(id).join("exit.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Starts `process` under a shim, unless it already runs under one.
    ///
    /// # Errors
    /// When the shim does not come up; nothing of it is left then.
    pub async fn launch(self: &Arc<Self>, process: &Process) -> Result<(), Error> {
        let turn = self.turn(&process.id).await;
        let (supervisor, process) = (self.clone(), process.clone());
        let id = process.id.clone();
        // In a task of its own: whoever waits may be cut off, and a start that is begun must be
        // seen to its end, or a stop that follows would miss the shim that is coming up.
        let started = tokio::spawn(async move {
            let _turn = turn;
            supervisor.launch_now(&process).await
        });
        started.await.unwrap_or(Err(Error::Silent(id)))
    }

    async fn launch_now(&self, process: &Process) -> Result<(), Error> {
        match self.coming(&process.id).await {
            Some(status) if is_ending(&status) => self.ends(&process.id).await?,
            Some(_) => return Ok(()),
            // A disk that stalls holds up a shim, which writes the log, and what it runs may serve all the same.
            None if self.is_alive(&process.id).await => {
                return Err(Error::Silent(process.id.clone()));
            }
            None => {}
        }
        let dir = self.places.run(&process.id);
        let mark = self.places.mark(&process.id);
        let lock = self.lock_of(&process.id);
        blocking(move || {
            let swept = tree::sweep(&mark);
            if let (Ok(_), Some(lock)) = (swept, lock) {
                remove_lock(&lock);
            }
        })
        .await;
        let handed = self.handed(process)?;
        self.prepare(process, &dir)?;
        let child = Command::new(&self.places.tow)
            .arg("shim")
            .arg(&dir)
            // A shim is never a member of a tree that is swept.
            .env_remove(towpath_shim::protocol::MARK)
            .stdin(handed.as_ref().map_or_else(Stdio::null, |_| Stdio::piped()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.map_err(|error| Error::Io(self.places.tow.clone(), error))?;
        if let (Some(mut input), Some(handed)) = (child.stdin.take(), handed) {
            // A shim that ends before it has read says why itself.
            let _ = input.write_all(&handed).await;
        }
        self.comes_up(&process.id, child).await
    }

    /// The secrets of a process, as its shim takes them; they are forgotten when it has them.
    fn handed(&self, process: &Process) -> Result<Option<Vec<u8>>, Error> {
        if process.secrets.is_empty() {
            return Ok(None);
        }
        let failed = |error| Error::Secret(process.id.clone(), error);
        let keeper = Keeper::new(&self.places.state);
        let handed = keeper.hand_over(&process.id.0, &process.secrets);
        let text = serde_json::to_vec(&handed.map_err(failed)?);
        text.map(Some)
            .map_err(|error| Error::Io(self.places.state.clone(), error.into()))
    }

    /// As [`Supervisor::status`], but a shim that an earlier agent has just started, and that does
    /// not answer yet, is waited for.
    async fn coming(&self, id: &InstanceId) -> Option<Status> {
        let deadline = Instant::now() + COMES_UP;
        loop {
            let status = self.status(id).await;
            let comes = status.is_none() && self.is_alive(id).await;
            if !comes || Instant::now() > deadline {
                return status;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether there is a shim of `id`, answering or not.
    async fn is_alive(&self, id: &InstanceId) -> bool {
        let dir = self.places.run(id);
        let found = blocking(move || shim_of(&dir)).await;
        found.flatten().is_some()
    }

    /// A shim that was told to stop before is still at it.
    async fn ends(&self, id: &InstanceId) -> Result<(), Error> {
        let limit = self.grace(id) + STOPS;
        let ended = ask(&self.places, id, &Request::Wait, limit).await;
        match ended.is_err() && self.status(id).await.is_some() {
            true => Err(Error::Silent(id.clone())),
            false => Ok(()),
        }
    }

    fn prepare(&self, process: &Process, dir: &Path) -> Result<(), Error> {
        let io = |error| Error::Io(dir.to_owned(), error);
        std::fs::create_dir_all(dir).map_err(io)?;
        for leftover in ["exit.json", "error"] {
            let _ = std::fs::remove_file(dir.join(leftover));
        }
        let spec = process.spec(&self.places);
        if let Some(logs) = spec.log.path.parent() {
            std::fs::create_dir_all(logs).map_err(io)?;
        }
        let text = serde_json::to_vec_pretty(&spec).map_err(|error| io(error.into()))?;
        if let Some(container) = &process.container {
            container.write(dir).map_err(io)?;
        }
        write_whole(&dir.join("spec.json"), &text).map_err(io)
    }

    async fn comes_up(&self, id: &InstanceId, mut child: Child) -> Result<(), Error> {
        let deadline = Instant::now() + COMES_UP;
        loop {
            if self.status(id).await.is_some() || self.ended(id).is_some() {
                return Ok(());
            }
            let gone = child.try_wait().is_ok_and(|status| status.is_some());
            if gone && self.ended(id).is_none() && self.status(id).await.is_none() {
                let why = std::fs::read_to_string(self.places.run(id).join("error"));
                let why = why.unwrap_or_else(|_| "it ended without a word".to_owned());
                return Err(Error::Shim(id.clone(), why.trim().to_owned()));
            }
            if Instant::now() > deadline {
                return Err(Error::Silent(id.clone()));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops the tree of `id` and forgets it; nothing of it is alive afterwards.
    ///
    /// # Errors
    /// When its shim does not answer within the grace and some seconds, though it is alive.
    pub async fn stop(&self, id: &InstanceId, grace: Option<Duration>) -> Result<(), Error> {
        self.leave(id);
        let _turn = self.turn(id).await;
        self.coming(id).await;
        let grace_ms = grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        let limit = self.grace(id).max(grace.unwrap_or_default()) + STOPS;
        let answer = ask(&self.places, id, &Request::Stop { grace_ms }, limit).await;
        if answer.is_err() && self.status(id).await.is_some() {
            return Err(Error::Silent(id.clone()));
        }
        let (mark, dir) = (self.places.mark(id), self.places.run(id));
        let is_deaf = answer.is_err();
        blocking(move || {
            // One that has not heard would start again what is swept.
            let deaf = shim_of(&dir).filter(|_| is_deaf);
            if let Some(shim) = deaf.and_then(Pid::from_raw) {
                let _ = kill_process(shim, Signal::KILL);
            }
            tree::sweep(&mark)
        })
        .await;
        let _ = std::fs::remove_file(self.places.socket(id));
        if !self.remove_container(id).await? {
            return Ok(());
        }
        match std::fs::remove_dir_all(self.places.run(id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Io(self.places.run(id), error))
            }
            _ => Ok(()),
        }
    }

    /// Removes what an engine has of `id`, if it was a container; whether nothing of it is left. Where
    /// the engine does not answer and nothing runs any more, the folder stays, and is found by the
    /// agent that comes next.
    async fn remove_container(&self, id: &InstanceId) -> Result<bool, Error> {
        let dir = self.places.run(id);
        if !container::Spec::is_in(&dir) {
            return Ok(true);
        }
        let mark = self.places.mark(id);
        match blocking(move || container::remove_marked(&mark)).await {
            Some(Err(error)) => {
                let alive = Running::read(&dir).map(|running| running.alive());
                match alive.is_some_and(|pids| !pids.is_empty()) {
                    true => Err(Error::Container(id.clone(), error)),
                    false => Ok(false),
                }
            }
            _ => Ok(true),
        }
    }

    /// Kills the tree of `id` where it stands, without a word, and forgets it: what a planted fault
    /// does, and nothing else.
    ///
    /// # Errors
    /// As [`Supervisor::stop`].
    pub async fn kill(&self, id: &InstanceId) -> Result<(), Error> {
        self.leave(id);
        let mark = self.places.mark(id);
        blocking(move || tree::sweep(&mark)).await;
        self.stop(id, Some(Duration::ZERO)).await
    }

    /// Whether `id` was given secrets.
    #[must_use]
    pub fn is_handed(&self, id: &InstanceId) -> bool {
        self.spec(id).is_some_and(|spec| spec.handed)
    }

    fn spec(&self, id: &InstanceId) -> Option<Spec> {
        let spec = std::fs::read(self.places.run(id).join("spec.json")).ok();
        spec.and_then(|text| serde_json::from_slice(&text).ok())
    }

    fn grace(&self, id: &InstanceId) -> Duration {
        self.spec(id).map_or(Duration::ZERO, |spec| {
            Duration::from_millis(spec.stop.grace_ms)
        })
    }

    /// Runs `process` to its end; one that already runs, or ran to its end, is not run again.
    ///
    /// # Errors
    /// When the shim does not come up.
    pub async fn run_once(self: &Arc<Self>, process: &Process) -> Result<Status, Error> {
        loop {
            if let Some(status) = self.ended(&process.id) {
                return Ok(status);
            }
            self.launch(process).await?;
            let _ = ask(
                &self.places,
                &process.id,
                &Request::Wait,
                Duration::from_secs(24 * 3600),
            )
            .await;
            if self.ended(&process.id).is_none() && self.status(&process.id).await.is_none() {
                // The shim was killed: what it ran is swept and run again.
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Waits until `id` has ended by itself; `None` when it has no shim any more, and so nobody who knows how it ended.
    pub async fn outlive(&self, id: &InstanceId) -> Option<Status> {
        let forever = Duration::from_secs(24 * 3600);
        loop {
            self.coming(id).await;
            let _ = ask(&self.places, id, &Request::Wait, forever).await;
            let ended = self.ended(id);
            if ended.is_some() || self.status(id).await.is_none() {
                return ended.or_else(|| self.ended(id));
            }
        }
    }

    /// Starts `argv` beside the process of `id`, on the same listeners; returns its process id.
    ///
    /// # Errors
    /// When the shim refuses, or is not there.
    pub async fn replace(&self, id: &InstanceId, argv: Vec<String>) -> Result<u32, Error> {
        match ask(&self.places, id, &Request::Replace { argv }, ANSWERS).await {
            Ok(Reply::Replaced { pid }) => Ok(pid),
            Ok(Reply::Refused { why }) => Err(Error::Shim(id.clone(), why)),
            _ => Err(Error::Silent(id.clone())),
        }
    }
}

/// It stays where any process works in its folder: somebody has started that server himself. What cannot be removed
/// is found by who is started.
fn remove_lock(lock: &Path) {
    let folder = lock.parent().and_then(|folder| folder.canonicalize().ok());
    let everyone = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut folders =
        everyone.filter_map(|entry| std::fs::read_link(entry.path().join("cwd")).ok());
    if !folders.any(|cwd| Some(cwd) == folder) {
        let _ = std::fs::remove_file(lock);
    }
}

fn is_ending(status: &Status) -> bool {
    matches!(status.state, State::Stopping | State::Ended)
}

/// The process id of the shim whose folder is `dir`, whether it answers or not.
fn shim_of(dir: &Path) -> Option<i32> {
    let everyone = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = everyone.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).skip(1);
        words.next() == Some(b"shim") && words.next() == Some(dir.as_os_str().as_encoded_bytes())
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
