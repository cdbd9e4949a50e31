//! The engine's command, and what it is asked.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::Spec;
use crate::config::OF_THE_CLIENT;

/// Longest wait for an answer.
const ANSWERS: Duration = Duration::from_secs(20);
/// Longest wait for a container to be made.
const MAKES: Duration = Duration::from_secs(60);
/// Between two looks at a command that runs.
const LOOK: Duration = Duration::from_millis(5);

/// Why an engine did not do what it was asked.
#[derive(Debug)]
pub enum Error {
    /// There is none.
    None,
    /// It is on another machine.
    Elsewhere(String),
    /// From the system, with the file or the program concerned.
    Io(PathBuf, std::io::Error),
    /// It did not answer in time.
    Silent(String),
    /// It said no.
    Said(String),
    /// A variable can neither be a line of a file nor be in the client's environment.
    Variable(String),
    /// The value of a secret did not come.
    Secret(String),
    /// The archive of an image is not what it should be.
    Archive(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::None => f.write_str("there is neither `docker` nor `podman` on this machine"),
            Error::Elsewhere(host) => {
                write!(
                    f,
                    "DOCKER_HOST is `{host}`: the engine has to be on this machine"
                )
            }
            Error::Io(path, error) => write!(f, "`{}`: {error}", path.display()),
            Error::Silent(what) => write!(f, "`{what}` does not answer"),
            Error::Said(text) => f.write_str(text),
            Error::Variable(name) => write!(
                f,
                "the variable `{name}` has more than one line, and the engine's client would take it for its own"
            ),
            Error::Secret(name) => write!(f, "the secret `{name}` was not handed over"),
            Error::Archive(why) => write!(f, "the archive of the image: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// The environment of an engine's client: nothing of a service's.
#[must_use]
pub fn client_environment() -> BTreeMap<String, String> {
    let own = OF_THE_CLIENT.map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
    own.into_iter().flatten().collect()
}

/// An engine on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    program: PathBuf,
}

impl Engine {
    /// Docker, else Podman.
    ///
    /// # Errors
    /// [`Error::None`], or [`Error::Elsewhere`] where the environment names another machine's.
    pub fn find() -> Result<Engine, Error> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = |name: &str| {
            let mut files = std::env::split_paths(&path).map(|dir| dir.join(name));
            files.find(|file| file.is_file())
        };
        let program = found("docker").or_else(|| found("podman"));
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        match program {
            Some(_) if !host.is_empty() && !host.starts_with("unix:") => {
                Err(Error::Elsewhere(host))
            }
            Some(program) => Ok(Engine { program }),
            None => Err(Error::None),
        }
    }

    /// `docker` or `podman`.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.program.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Its program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn is_podman(&self) -> bool {
        self.name() == "podman"
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .envs(client_environment());
        command.stdin(Stdio::null());
        command
    }

    /// Whether it is there to be asked.
    ///
    /// # Errors
    /// When it is not.
    pub fn answers(&self) -> Result<(), Error> {
        self.ask(&["ps", "--quiet"]).map(drop)
    }

    pub(super) fn ask(&self, arguments: &[&str]) -> Result<String, Error> {
        self.output(self.command(arguments), "", ANSWERS)
    }

    /// Runs a command to its end; what it said, or why it failed.
    pub(super) fn output(
        &self,
        mut command: Command,
        input: &str,
        limit: Duration,
    ) -> Result<String, Error> {
        let io = |error| Error::Io(self.program.clone(), error);
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(io)?;
        let (out, err) = (gather(child.stdout.take()), gather(child.stderr.take()));
        if let Some(mut stdin) = child.stdin.take() {
            // A client that does not read it says itself what is wrong.
            let _ = stdin.write_all(input.as_bytes());
        }
        let status = wait(&mut child, limit).map_err(io)?;
        let Some(status) = status else {
            return Err(Error::Silent(self.name()));
        };
        let (out, err) = (out.join(), err.join());
        match status.success() {
            true => Ok(out.unwrap_or_default()),
            false => {
                let said = err.unwrap_or_default();
                let said = said.trim();
                Err(match is_silent(said) {
                    true => Error::Silent(format!("{} ({said})", self.name())),
                    false => Error::Said(format!("{}: {said}", self.name())),
                })
            }
        }
    }

    /// Makes a container, which does not run yet; its id.
    ///
    /// # Errors
    /// When the engine does not.
    pub fn create(&self, spec: &Spec) -> Result<String, Error> {
        let mut argv = spec.create()?;
        if self.is_podman() {
            // Without it Podman tells those whose id is no user of the machine apart.
            let keeps = spec.user.is_some() && !rustix::process::geteuid().is_root();
            argv.splice(1..1, keeps.then(|| "--userns=keep-id".to_owned()));
        }
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        let mut command = self.command(&words);
        command.envs(spec.long());
        let said = self.output(command, &spec.lines(), MAKES)?;
        let id = said.lines().last().unwrap_or_default().trim();
        Ok(id.to_owned())
    }

    /// The ids of containers with this label, running or not.
    pub(super) fn marked(&self, mark: &str) -> Result<Vec<String>, Error> {
        let label = format!("label=towpath.mark={mark}");
        let said = self.ask(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &label])?;
        Ok(said.split_whitespace().map(str::to_owned).collect())
    }

    /// Ends and removes a container; one that is not there is removed already.
    pub(super) fn remove(&self, id: &str) -> Result<(), Error> {
        match self.ask(&["rm", "--force", "--volumes", id]) {
            Err(Error::Said(text)) if text.to_lowercase().contains("no such container") => Ok(()),
            // The engine is at it already; the next look sees that it is gone.
            Err(Error::Said(text)) if text.contains("already in progress") => Ok(()),
            removed => removed.map(drop),
        }
    }
}

/// Ends and removes what is there of an instance. Blocking.
///
/// # Errors
/// When the engine cannot say that nothing is left.
pub fn remove_marked(mark: &str) -> Result<(), Error> {
    let engine = Engine::find()?;
    let deadline = Instant::now() + ANSWERS;
    loop {
        let found = engine.marked(mark)?;
        if found.is_empty() {
            return Ok(());
        }
        for id in &found {
            engine.remove(id)?;
        }
        if Instant::now() > deadline {
            return Err(Error::Silent(engine.name()));
        }
    }
}

/// Words with which a client says that nobody is behind it.
fn is_silent(said: &str) -> bool {
    let words = [
        "Cannot connect to the Docker daemon",
        "failed to connect to the docker API",
        "error during connect",
        "EOF",
        "connection reset",
        "connection refused",
        "Is the docker daemon running",
    ];
    words.iter().any(|words| said.contains(words))
}

fn gather(from: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What came until it broke is what there is.
            let _ = from.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// `None` when it was killed because its time was up.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}
