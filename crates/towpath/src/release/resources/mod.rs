//! The resources that Towpath runs: providing them, stopping them, and what services are told of them.
//!
//! What is kept of a resource lies in `resources/NAME.json` of the state and is the truth about its port, names and
//! passwords; that it is provided stands in the journal. Its server runs under a shim as every process does, with the
//! resource's name as its instance.

mod cluster;
pub(super) mod folder;
mod login;
mod owner;
mod server;

use std::collections::BTreeMap;

use super::{World, database};
use crate::config::{self, Address, Config, Resource, ResourceKind};
use crate::diagnostic::Diagnostic;
use crate::id::InstanceId;
use crate::resource::kept::{self, Engine, Kept};
use crate::resource::url;
use crate::secret::keep::Keeper;
use server::io;

pub(super) use cluster::once;
pub use login::{LoginMove, LoginStatus, login, move_login};
pub use server::resume;
pub(super) use server::{check, installed, port, provide, stop};

type Result<T> = std::result::Result<T, Diagnostic>;

/// The instance that a resource runs as.
#[must_use]
pub fn instance(name: &str) -> InstanceId {
    InstanceId(name.to_owned())
}

/// Which server a kind of resource is.
#[must_use]
pub fn engine(kind: ResourceKind) -> Option<Engine> {
    match kind {
        ResourceKind::Sqlite | ResourceKind::Storage => None,
        ResourceKind::Postgres => Some(Engine::Postgres),
        ResourceKind::Redis => Some(Engine::Redis),
    }
}

/// What runs for a resource, for people: `PostgreSQL 15`.
#[must_use]
pub fn version(state: &std::path::Path, name: &str) -> String {
    match kept::read(state, name) {
        Ok(Some(kept)) => format!("{} {}", kept.engine, kept.version),
        _ => "?".to_owned(),
    }
}

/// What is kept of a resource, which has to be there.
pub(super) fn kept(state: &std::path::Path, name: &str) -> Result<Kept> {
    let found = kept::read(state, name).map_err(|error| unreadable(state, name, &error))?;
    found.ok_or_else(|| {
        let text = format!("`{name}` was never provided here");
        Diagnostic::error("resource::not-provided", text)
            .help("bring a version in that needs it: `tow up`, `tow deploy`")
    })
}

fn unreadable(state: &std::path::Path, name: &str, error: &std::io::Error) -> Diagnostic {
    let path = kept::path(state, name);
    Diagnostic::error(
        "resource::unreadable",
        format!("`{}`: {error}", path.display()),
    )
    .note(format!(
        "it holds the port and the passwords of `{name}`; its data was not touched"
    ))
    .help("put it back from a backup of the state directory")
}

/// The text of a URL that the manifest names. Whoever may deploy writes the manifest: root's agent reads for him what
/// belongs to the environment, and nothing else.
pub(super) fn read(state: &std::path::Path, name: &str, address: &Address) -> Result<String> {
    let path = match address {
        Address::Url(url) => return Ok(url.clone()),
        Address::File(path) => path,
        Address::Secret(key) => return secret(state, name, key),
    };
    let text = read_own(state, path).map_err(|error| {
        Diagnostic::error(
            "resource::no-url",
            format!(
                "the URL of `{name}` is to be in `{}`: {error}",
                path.display()
            ),
        )
        .help("put it there, readable for its owner alone; under root that is the owner of the environment's `data`")
    })?;
    Ok(text.trim().to_owned())
}

/// The agent opens it: whoever deploys need not be able to.
fn secret(state: &std::path::Path, name: &str, key: &str) -> Result<String> {
    let value = Keeper::new(state).value(key);
    let value = value.map_err(|error| {
        let text = format!("the URL of `{name}` is the secret `{key}`: {error}");
        Diagnostic::error("resource::no-url", text)
            .help("set it, and bring a version in: `tow secrets set`, `tow deploy`")
    })?;
    Ok(value.reveal().trim().to_owned())
}

/// An access is written down with every run that is planned; in between it is the same run's.
fn note_access(world: &World, name: &str, resource: &Resource) -> Result<()> {
    let keys: Vec<String> = resource.secrets().cloned().collect();
    let noted = Keeper::new(&world.state()).note(&format!("resource {name}"), &keys);
    noted.map_err(|error| io(name, &error))
}

fn read_own(state: &std::path::Path, path: &std::path::Path) -> std::io::Result<String> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let mut options = std::fs::File::options();
    let file = options.read(true).custom_flags(flags).open(path)?;
    let (found, data) = (file.metadata()?, std::fs::metadata(state.join("data"))?);
    if !found.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    if rustix::process::geteuid().is_root() && found.uid() != data.uid() {
        let uid = data.uid();
        return Err(std::io::Error::other(format!(
            "it is not the environment's: `chown {uid} {}`",
            path.display()
        )));
    }
    std::io::read_to_string(file)
}

/// As services are told of it; with its password.
pub(super) fn attributes(
    state: &std::path::Path,
    name: &str,
    resource: &Resource,
) -> Result<url::Attributes> {
    let Some(engine) = engine(resource.kind) else {
        return Ok(of_file(state, name, resource));
    };
    let Some(address) = &resource.url else {
        return kept(state, name).map(|kept| url::of_kept(&kept));
    };
    let text = read(state, name, address)?;
    // What is wrong with it is not quoted: it may hold a password.
    url::of_url(engine, &text).ok_or_else(|| {
        let text = format!("what is given as the URL of `{name}` is no URL of {engine}");
        Diagnostic::error("resource::bad-url", text).help(match engine {
            Engine::Postgres => "`postgres://USER:PASSWORD@HOST:PORT/DATABASE`",
            Engine::Redis => "`redis://:PASSWORD@HOST:PORT`",
        })
    })
}

/// Of one that is a file, or a folder.
pub(super) fn of_file(state: &std::path::Path, name: &str, resource: &Resource) -> url::Attributes {
    if resource.kind == ResourceKind::Storage {
        let path = folder::path(state, name).display().to_string();
        return url::Attributes::from([("path", path)]);
    }
    let place = database::place_in(state, name, resource);
    let path = place.path();
    let dir = path.parent().unwrap_or(&path).display().to_string();
    url::Attributes::from([
        ("path", path.display().to_string()),
        ("dir", dir),
        ("url", place.url()),
    ])
}

/// The attributes of those resources that `names` are, as services get them. They hold passwords.
pub(super) fn addresses<'a>(
    state: &std::path::Path,
    config: &Config,
    names: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, url::Attributes>> {
    let mut found = BTreeMap::new();
    for name in names {
        if let Some(resource) = config.resources.get(name)
            && !found.contains_key(name)
        {
            found.insert(name.to_owned(), attributes(state, name, resource)?);
        }
    }
    Ok(found)
}

/// Whether what the manifest says of resources elsewhere can be read here.
pub(super) fn reach(world: &World, config: &Config) -> Result<()> {
    let elsewhere = config.resources.iter();
    for (name, resource) in elsewhere.filter(|(_, resource)| resource.url.is_some()) {
        note_access(world, name, resource)?;
        attributes(&world.state(), name, resource)?;
        if let Some(direct) = &resource.direct_url {
            read(&world.state(), name, direct)?;
        }
    }
    Ok(())
}

/// Refuses what would put production's data on a network unencrypted; wherever the URL stands, in a secret too.
pub(super) fn encrypted(world: &World, config: &Config) -> Result<()> {
    for (name, resource) in &config.resources {
        for address in [&resource.url, &resource.direct_url].into_iter().flatten() {
            if config::is_plain(&read(&world.state(), name, address)?) {
                let text = format!(
                    "the URL of `{name}` has `sslmode=disable`, and releases end in {}",
                    config.environment
                );
                return Err(Diagnostic::error("promote::plain-database", text)
                    .note(
                        "data and passwords' proofs could be read on the way; nothing was touched",
                    )
                    .note("a roll-back asks for none of that")
                    .help(config::VERIFY));
            }
        }
    }
    Ok(())
}

/// The resources of a configuration that Towpath runs.
pub(super) fn run(config: &Config) -> impl Iterator<Item = (&str, &Resource)> {
    let all = config.resources.iter();
    all.filter(|(_, resource)| resource.is_run())
        .map(|(name, resource)| (name.as_str(), resource))
}

/// The ports that resources of this environment keep.
pub(super) fn ports(world: &World) -> impl Iterator<Item = u16> + use<> {
    kept::all(&world.state())
        .into_iter()
        .map(|(_, kept)| kept.port)
}
