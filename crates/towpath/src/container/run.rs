//! The program that a shim runs for a container.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};
use towpath_shim::tree;

use super::{Engine, Error, Running, Spec, TOLD};

/// How long an engine that does not answer is waited for, with nothing that runs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at an engine.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at an engine that does not answer.
const SLOW_LOOK: Duration = Duration::from_millis(500);
/// For the last lines of a container that has ended.
const LAST_LINES: Duration = Duration::from_secs(2);
/// From the end of a grace to an engine's answer.
const STOPS: Duration = Duration::from_secs(15);
/// Exit code of a container that was never started, as engines have it.
const NOT_STARTED: u8 = 125;

/// How a container is.
enum Seen {
    /// Made, and not started.
    Made,
    /// Its first process.
    Runs(u32),
    /// Its exit code, and what the engine says to it.
    Ended(u8, Option<String>),
    /// There is none.
    Gone,
    /// The engine does not say.
    Silent(String),
}

/// Being told to end.
struct Told([Option<unix::Signal>; 3]);

impl Told {
    fn listen() -> Told {
        // A machine that goes down says SIGTERM to everybody.
        Told([TOLD, 15, 2].map(|number| signal(SignalKind::from_raw(number)).ok()))
    }

    async fn heard(&mut self) {
        std::future::poll_fn(|context| {
            let mut signals = self.0.iter_mut().flatten();
            match signals.any(|signal| signal.poll_recv(context).is_ready()) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
    }
}

/// The container of one instance.
struct Keeper<'a> {
    engine: Engine,
    spec: Spec,
    dir: PathBuf,
    say: &'a dyn Fn(&str),
}

/// Runs the container that `dir` describes to its end, and removes it; gives its exit code. What is
/// to be known of it in between goes to `say`.
///
/// # Errors
/// When there is no engine, or it does not make the container.
pub async fn run(dir: &Path, say: &dyn Fn(&str)) -> Result<u8, Error> {
    let mut told = Told::listen();
    let keeper = Keeper {
        engine: Engine::find()?,
        // They came from the shim, as those of any service do.
        spec: Spec::read(dir)?.with_secrets(|name| std::env::var(name).ok())?,
        dir: dir.to_owned(),
        say,
    };
    let Some((id, runs)) = keeper.made(&mut told).await? else {
        return Ok(0);
    };
    let mut client = keeper.client(&id, runs)?;
    let ended = tokio::select! {
        ended = keeper.lives(&id, &mut client) => ended,
        () = told.heard() => {
            keeper.stop(&id);
            Ok(0)
        }
    };
    let _ = timeout(LAST_LINES, client.wait()).await;
    // It has ended, or has nothing to say any more.
    let _ = client.kill().await;
    Running::forget(dir);
    if let Err(error) = keeper.engine.remove(&id) {
        say(&format!(
            "{error}; what is left of the container is removed later"
        ));
    }
    ended
}

impl Keeper<'_> {
    /// The container, and whether it runs already; `None` when there is none because it was told to
    /// end. What is there of the instance and is not the very same is removed.
    async fn made(&self, told: &mut Told) -> Result<Option<(String, bool)>, Error> {
        let Some(found) = self.found(told).await? else {
            return Ok(None);
        };
        if let [id] = &found[..]
            && self.is_the_same(id)
        {
            (self.say)("goes on with the container that is there");
            return Ok(Some((id.clone(), true)));
        }
        for id in &found {
            self.engine.remove(id)?;
        }
        Ok(Some((self.engine.create(&self.spec)?, false)))
    }

    /// What the engine has of the instance; one that does not answer is waited for.
    async fn found(&self, told: &mut Told) -> Result<Option<Vec<String>>, Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut is_said = false;
        loop {
            match self.engine.marked(&self.spec.mark) {
                Ok(found) => return Ok(Some(found)),
                Err(Error::Silent(why)) if Instant::now() < deadline => {
                    self.once(
                        &mut is_said,
                        &format!("{why} does not answer; waits for it"),
                    );
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = sleep(SLOW_LOOK) => {}
                () = told.heard() => return Ok(None),
            }
        }
    }

    fn once(&self, is_said: &mut bool, text: &str) {
        if !*is_said {
            (self.say)(text);
        }
        *is_said = true;
    }

    fn is_the_same(&self, id: &str) -> bool {
        let format = "{{.State.Status}} {{index .Config.Labels \"towpath.spec\"}}";
        let said = self.engine.ask(&["inspect", "--format", format, id]);
        said.is_ok_and(|said| said.trim() == format!("running {}", self.spec.digest()))
    }

    /// A client that passes the container's output on, and dies with this program.
    fn client(&self, id: &str, runs: bool) -> Result<Child, Error> {
        let arguments: &[&str] = match runs {
            true => &["attach", "--no-stdin", "--sig-proxy=false", id],
            false if self.engine.is_podman() => &["start", "--attach", "--sig-proxy=false", id],
            false => &["start", "--attach", id],
        };
        let mut command = self.engine.command(arguments);
        command.stdin(Stdio::null());
        let dies = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: one system call, which allocates nothing.
        unsafe { command.pre_exec(dies) };
        let spawned = Command::from(command).kill_on_drop(true).spawn();
        spawned.map_err(|error| Error::Io(self.engine.program().to_owned(), error))
    }

    /// Until the container has ended, whatever becomes of the client; gives its exit code.
    async fn lives(&self, id: &str, client: &mut Child) -> Result<u8, Error> {
        let mut is_noted = false;
        loop {
            let is_over = match is_noted {
                true => client.wait().await.is_ok(),
                false => timeout(LOOK, client.wait()).await.is_ok(),
            };
            match self.look(id) {
                Seen::Runs(pid) => {
                    self.note(id, pid, &mut is_noted)?;
                    if is_over {
                        (self.say)("the engine's client ended; lines until now may be lost");
                        sleep(LOOK).await;
                        *client = self.client(id, true)?;
                    }
                }
                Seen::Made if is_over => return Ok(NOT_STARTED),
                Seen::Made => {}
                Seen::Ended(code, why) => {
                    why.iter().for_each(|why| (self.say)(why));
                    return Ok(code);
                }
                Seen::Gone => {
                    (self.say)("the container is not there any more");
                    return Ok(1);
                }
                Seen::Silent(why) if is_over => self.engine_is_back(id, &why).await?,
                Seen::Silent(_) => {}
            }
        }
    }

    /// As long as the container's process lives there is no hurry.
    async fn engine_is_back(&self, id: &str, why: &str) -> Result<(), Error> {
        (self.say)(&format!(
            "{why} does not answer; the container is left as it is"
        ));
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            sleep(SLOW_LOOK).await;
            match self.look(id) {
                Seen::Silent(why) if Instant::now() > deadline => return Err(Error::Silent(why)),
                Seen::Silent(_) => {}
                _ => return Ok(()),
            }
            if Running::read(&self.dir).is_some_and(|running| !running.alive().is_empty()) {
                deadline = Instant::now() + PATIENCE;
            }
        }
    }

    fn look(&self, id: &str) -> Seen {
        let format = "{{.State.Status}} {{.State.Pid}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}";
        match self.engine.ask(&["inspect", "--format", format, id]) {
            Ok(said) => read(said.trim()),
            Err(Error::Silent(why)) => Seen::Silent(why),
            Err(_) => Seen::Gone,
        }
    }

    /// Leaves word of its processes, so that its port is known to be its own.
    fn note(&self, id: &str, pid: u32, is_noted: &mut bool) -> Result<(), Error> {
        if *is_noted {
            return Ok(());
        }
        let proxies = self.spec.published.map(|port| proxies(port.outer));
        let pids = std::iter::once(pid).chain(proxies.unwrap_or_default());
        let roots = pids.filter_map(|pid| Some((pid, tree::start_time(pid)?)));
        let running = Running {
            id: id.to_owned(),
            roots: roots.collect(),
        };
        let written = running.write(&self.dir);
        written.map_err(|error| Error::Io(self.dir.clone(), error))?;
        *is_noted = true;
        Ok(())
    }

    /// Asks it to end, and ends it when its grace is over; by its process where the engine is silent.
    fn stop(&self, id: &str) {
        let grace = Duration::from_millis(self.spec.grace_ms);
        let seconds = grace.as_millis().div_ceil(1000).to_string();
        let command = self.engine.command(&["stop", "-t", &seconds, id]);
        let stopped = self.engine.output(command, "", grace + STOPS);
        if let Err(Error::Silent(why)) = stopped {
            (self.say)(&format!(
                "{why} does not answer; its process is told to end"
            ));
            end(&self.dir, self.spec.stop_signal, grace);
        }
    }
}

fn end(dir: &Path, signal: i32, grace: Duration) {
    let first = Running::read(dir).and_then(|running| running.alive().first().copied());
    let Some(pid) = first else { return };
    let deadline = std::time::Instant::now() + grace;
    let start = tree::start_time(pid);
    let named = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(number) = named else { return };
    let asks = Signal::from_named_raw(signal).unwrap_or(Signal::TERM);
    // One that is not ours to signal lives on, and whoever asks again is told so.
    let _ = kill_process(number, asks);
    while tree::start_time(pid) == start && std::time::Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
    if tree::start_time(pid) == start {
        let _ = kill_process(number, Signal::KILL);
    }
}

fn read(said: &str) -> Seen {
    let mut words = said.splitn(5, ' ');
    let state = words.next().unwrap_or_default();
    let pid = words.next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
    let code: i32 = words.next().and_then(|code| code.parse().ok()).unwrap_or(1);
    let is_out_of_memory = words.next() == Some("true");
    let error = words.next().filter(|error| !error.is_empty());
    match state {
        "created" | "configured" | "initialized" => Seen::Made,
        "running" | "paused" if pid > 0 => Seen::Runs(pid),
        "running" => Seen::Made,
        _ => {
            let why = match is_out_of_memory {
                true => Some("the container was out of memory".to_owned()),
                false => error.map(str::to_owned),
            };
            Seen::Ended(u8::try_from(code).unwrap_or(1), why)
        }
    }
}

/// The processes by which Docker passes connections to a port on; Podman's are below the shim.
fn proxies(port: u16) -> Vec<u32> {
    let port = port.to_string();
    let is_proxy = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&line);
        let words: Vec<&str> = text.split('\0').collect();
        let is_named = words
            .first()
            .is_some_and(|name| name.ends_with("docker-proxy"));
        let has = |name: &str, value: &str| {
            words
                .windows(2)
                .any(|two| two[0] == name && two[1] == value)
        };
        is_named && has("-host-ip", "127.0.0.1") && has("-host-port", &port)
    };
    let everyone = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = everyone.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_proxy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_say_of_a_container() {
        assert!(matches!(read("created 0 0 false "), Seen::Made));
        assert!(matches!(read("running 12 0 false "), Seen::Runs(12)));
        assert!(matches!(read("running 0 0 false "), Seen::Made));
        assert!(matches!(read("exited 0 7 false "), Seen::Ended(7, None)));
        let Seen::Ended(137, Some(why)) = read("exited 0 137 true ") else {
            panic!("it has ended");
        };
        assert!(why.contains("memory"));
        let Seen::Ended(127, Some(why)) = read("exited 0 127 false no such file: a b") else {
            panic!("it has ended");
        };
        assert_eq!(why, "no such file: a b");
        assert!(
            matches!(read(""), Seen::Ended(1, None)),
            "what is not understood has ended badly"
        );
    }
}
