//! What builds find of the machine: variables of the agent's, and programs that their user can reach.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use towpath_shim::protocol::User;

use crate::build::{self, Reach};
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::setup;

/// Names of variables that builds get from the agent's own environment: tools, their caches and
/// registries, proxies. Everything else stays out.
const PASSED: [&str; 14] = [
    "PATH", "HOME", "USER", "LANG", "TMPDIR", "CARGO_", "RUSTUP_", "NPM_", "npm_", "PIP_", "UV_",
    "GO", "JAVA_", "SSL_",
];
const PROXIES: [&str; 6] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];
/// Those that name what is only read. Other folders are written to.
const READ: [&str; 6] = [
    "PATH",
    "RUSTUP_HOME",
    "JAVA_HOME",
    "GOROOT",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// The home of builds, where they have a user of their own.
pub(crate) fn home(state: &Path) -> PathBuf {
    state.join("home")
}

/// The variables of a build besides its own. A user of its own has a home of its own, and nothing
/// that names a place it cannot use.
pub(super) fn variables(state: &Path, user: Option<User>) -> BTreeMap<String, String> {
    let passed = std::env::vars().filter(|(name, _)| {
        PASSED.iter().any(|prefix| {
            name == prefix || (prefix.ends_with(['_', 'O']) && name.starts_with(prefix))
        }) || PROXIES.contains(&name.as_str())
    });
    let mut env: BTreeMap<String, String> = passed.collect();
    let Some(user) = user else { return env };
    env.remove("USER");
    env.insert("HOME".to_owned(), home(state).display().to_string());
    env.retain(|name, value| READ[0] == name || name == "HOME" || is_usable(name, value, user));
    if let Some(rustup) = rustup().filter(|folder| build::reaches(folder, user)) {
        env.insert("RUSTUP_HOME".to_owned(), rustup.display().to_string());
    }
    env
}

fn is_usable(name: &str, value: &str, user: User) -> bool {
    let path = Path::new(value);
    if !path.is_absolute() {
        return true;
    }
    match path.is_dir() && !READ.contains(&name) {
        true => build::writes(path, user),
        false => build::reaches(path, user),
    }
}

/// Where toolchains of rustup are, for the agent.
fn rustup() -> Option<PathBuf> {
    let named = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup"));
    named.or_else(home).filter(|folder| folder.is_dir())
}

/// The first program that a build begins with, and that is on this machine where `user` cannot
/// reach it. What is nowhere is for the build to say: it may bring it along.
pub(super) fn out_of_reach(config: &Config, user: User) -> Option<Diagnostic> {
    let path = std::env::var("PATH").unwrap_or_default();
    let builds = config
        .services
        .iter()
        .filter_map(|(name, service)| Some((name, service.build.as_deref()?)));
    let programs = builds.flat_map(|(name, line)| {
        let words = setup::first_words(line);
        words.into_iter().map(move |word| (name, word))
    });
    programs
        .filter_map(|(name, word)| {
            let (lies, closed) = closed(&word, &path, user)?;
            Some(told(name, &word, (&lies, &closed), user))
        })
        .next()
}

fn closed(program: &str, path: &str, user: User) -> Option<(PathBuf, PathBuf)> {
    match build::look(program, path, user) {
        Reach::Closed { program, closed } => Some((program, closed)),
        Reach::Missing => None,
        // It only looks for the toolchain, which is elsewhere.
        Reach::There if ["cargo", "rustc"].contains(&program) => {
            let found = std::env::split_paths(path).map(|folder| folder.join(program));
            let real = found
                .filter_map(|program| program.canonicalize().ok())
                .next()?;
            let toolchains = rustup().filter(|_| real.with_file_name("rustup").is_file())?;
            (!build::reaches(&toolchains, user)).then_some((real, toolchains))
        }
        Reach::There => None,
    }
}

fn told(
    service: &str,
    program: &str,
    (lies, closed): (&Path, &Path),
    User { uid, .. }: User,
) -> Diagnostic {
    let text = format!("the build of `{service}` needs `{program}`, which its user cannot reach");
    let mut lies = format!("it is {}", lies.display());
    lies.push_str(&format!(
        ", and `{}` is closed to user {uid}",
        closed.display()
    ));
    Diagnostic::error("build::out-of-reach", text)
        .note(lies)
        .note("where the agent is root, builds run as the user of the environment's services")
        .note("nothing was touched")
        .help(format!(
            "install `{program}` for everybody, below /usr/local, or open the way to it: `chmod o+x {}`",
            closed.display()
        ))
}
