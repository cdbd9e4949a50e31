//! Which application and environment a command is about, and where its state is.

use std::path::{Path, PathBuf};

use towpath::agent::api::Trouble;
use towpath::config::{self, Config, Server};
use towpath::diagnostic::{Diagnostic, Report};
use towpath::link;
use towpath::manifest::Manifest;
use towpath::manifest::form::is_name;

use crate::cli::Cli;
use crate::out;

/// An application's folder.
#[derive(Debug, Clone)]
pub struct App {
    /// The folder of `tow.toml`.
    pub root: PathBuf,
    /// The manifest, as typed.
    pub text: String,
    /// Its name.
    pub name: String,
    /// Where states are, when that was said.
    pub states: Option<PathBuf>,
}

/// One environment of it.
#[derive(Debug, Clone)]
pub struct Place {
    /// The application.
    pub app: App,
    /// Name of the environment.
    pub environment: String,
    /// The state directory, where it is on this machine.
    pub state: PathBuf,
    /// The machine, where it is another.
    pub server: Option<Server>,
    /// Whether it is a rehearsal's.
    pub rehearsal: Rehearsal,
}

/// Whether an environment is a rehearsal's, whose agent takes planted faults.
#[derive(Debug, Clone, Default)]
pub enum Rehearsal {
    /// It is the real one.
    #[default]
    None,
    /// It is on this machine.
    Here,
    /// It is on a server, beside the real one.
    There(link::Rehearsal),
}

/// Exit code 3, with what is wrong.
fn invalid(diagnostic: Diagnostic) -> Trouble {
    Trouble {
        exit: 3,
        diagnostic,
    }
}

impl App {
    /// The application that `cli` is about.
    pub fn find(cli: &Cli) -> Result<App, Trouble> {
        let start = match &cli.dir {
            Some(dir) => dir.clone(),
            None => std::env::current_dir().unwrap_or_default(),
        };
        let start = start.canonicalize().map_err(|error| {
            invalid(Diagnostic::error(
                "manifest::missing",
                format!("`{}`: {error}", start.display()),
            ))
        })?;
        let upwards = cli.dir.is_none();
        let root = start
            .ancestors()
            .take(if upwards { 64 } else { 1 })
            .find(|dir| dir.join("tow.toml").is_file());
        let root = root.ok_or_else(|| {
            let text = format!(
                "there is no `tow.toml` in `{}`{}",
                start.display(),
                if upwards { " or above it" } else { "" }
            );
            invalid(
                Diagnostic::error("manifest::missing", text)
                    .help("go to the application's folder, or name it with -C"),
            )
        })?;
        App::open(root, cli.state.clone())
    }

    /// The application in the folder `root`.
    pub fn open(root: &Path, states: Option<PathBuf>) -> Result<App, Trouble> {
        let path = root.join("tow.toml");
        let unreadable = |error: &dyn std::fmt::Display| {
            invalid(Diagnostic::error(
                "manifest::missing",
                format!("`{}`: {error}", path.display()),
            ))
        };
        let bytes = std::fs::read(&path).map_err(|error| unreadable(&error))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // Which application this is has to be known, and no more: a mistake elsewhere in the file
        // must not stand in the way of a roll-back. What brings a manifest in checks all of it.
        let (manifest, mistakes) = Manifest::read("tow.toml", &text);
        let name = manifest
            .as_ref()
            .and_then(|manifest| manifest.get("app"))
            .and_then(|value| value.as_text())
            .map(str::to_owned);
        let name = name.filter(|_| bytes.len() == text.len()).ok_or_else(|| {
            let report = match mistakes.is_empty() {
                true => config::check_text("tow.toml", &text),
                false => Report::new("tow.toml", &text, mistakes),
            };
            out::invalid_manifest(&report, false)
        })?;
        Ok(App {
            root: root.to_owned(),
            text,
            name,
            states,
        })
    }

    /// One environment of it.
    pub fn place(&self, environment: &str) -> Result<Place, Trouble> {
        let (manifest, _) = Manifest::read("tow.toml", &self.text);
        let known = manifest
            .as_ref()
            .map(Manifest::environments)
            .unwrap_or_default();
        if environment != "local" && !known.contains(&environment) {
            let text = format!("`{}` has no environment `{environment}`", self.name);
            let near = towpath::diagnostic::closest(environment, known.iter().copied());
            let near = near.map_or(String::new(), |name| format!("did you mean `{name}`? "));
            let help = format!("{near}tow.toml has {}", known.join(", "));
            return Err(invalid(
                Diagnostic::error("config::no-environment", text).help(help),
            ));
        }
        let state = match (&self.states, environment) {
            (Some(states), _) => states.join(&self.name).join(environment),
            (None, "local") => self.root.join(".tow"),
            (None, _) => machine_states().join(&self.name).join(environment),
        };
        let state = std::path::absolute(&state).unwrap_or(state);
        let server = manifest
            .as_ref()
            .and_then(|manifest| server(manifest, environment))
            .transpose()?;
        // They go through the shell of the server.
        for name in [&self.name, environment] {
            if server.is_some() && !is_name(name) {
                let text = format!("`{name}` cannot name an application or an environment");
                let diagnostic = Diagnostic::error("manifest::bad-value", text);
                return Err(invalid(diagnostic.note("nothing was touched")));
            }
        }
        Ok(Place {
            app: self.clone(),
            environment: environment.to_owned(),
            state,
            server,
            rehearsal: Rehearsal::None,
        })
    }
}

impl Place {
    /// Where it is, for people.
    pub fn whereabouts(&self) -> String {
        match &self.server {
            Some(server) => server.to_string(),
            None => self.state.display().to_string(),
        }
    }

    /// What the manifest means here, where it is right.
    pub fn config(&self) -> Option<Config> {
        let (manifest, _) = Manifest::read("tow.toml", &self.app.text);
        config::resolve(&manifest?, &self.environment).ok()
    }
}

/// The machine that the manifest names. One that is not understood must not be taken for this one.
fn server(manifest: &Manifest, environment: &str) -> Option<Result<Server, Trouble>> {
    let named = manifest
        .environment(environment)?
        .as_table()?
        .get("server")?;
    let parsed = named.as_text().and_then(Server::parse);
    Some(parsed.ok_or_else(|| {
        let text = format!("the server of `{environment}` is not understood");
        invalid(
            Diagnostic::error("config::server", text)
                .note("nothing was touched")
                .help("it is `user@host` or `user@host:port`; `tow check` says more"),
        )
    }))
}

/// `/var/lib/towpath` for root; else the user's own state directory.
pub fn machine_states() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/towpath");
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".local/state");
    std::env::var_os("XDG_STATE_HOME")
        .map_or_else(home, PathBuf::from)
        .join("towpath")
}
