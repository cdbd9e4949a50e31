//! What the value of a variable means: an address of something that has a name here becomes a reference to it.

use std::collections::BTreeMap;

use super::names::Given;
use super::secret;
use super::sketch::{Kind, Role, Variable};
use super::tree::tidy;
use super::value::{Url, url};
use crate::config::RelativeFile;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A resource.
    Store(Kind),
    /// A service with a port.
    Web,
    /// A service without one.
    Silent,
}

/// Said of an address that a service has of itself.
const ITSELF: &str = "it leads to the service itself, which listens on `$HOST` and `$PORT`";

/// Said of a file that no resource stands for.
const IN_TREE: &str = "it is a file in the tree, and each release has a tree of its own: give it a resource, and `${NAME.path}`";

/// Every name, and what leads to it.
#[derive(Debug, Default)]
pub struct Names {
    /// Names in the files, and those in the manifest.
    pub given: Given,
    /// What each name of the manifest stands for.
    pub what: BTreeMap<String, What>,
    /// Ports of the machine, and the service behind each.
    pub ports: BTreeMap<u16, String>,
    /// Paths of services that the gateway serves.
    pub routes: BTreeMap<String, String>,
    /// Hosts that are elsewhere.
    pub elsewhere: Vec<String>,
    /// The file of the SQLite resource, as the project names it.
    pub file: Option<String>,
}

/// What is to be done with a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// It is given, or means nothing here.
    Dropped,
    /// `needs` brings it.
    Need(String),
    /// A value for `env`.
    Env(String),
    /// A value for `env` that leads to the file of a resource, and not into the tree: the value and the resource.
    File(String, String),
    /// A value for `build_env`; whether it was made of an address.
    Build(String, bool),
    /// A name for `secrets`.
    Secret,
    /// The host or the port of a cache: without its password neither is of use, so its URL is needed.
    Cache(String),
    /// It has no place in the manifest, and why.
    Left(&'static str),
    /// Somebody has to say.
    Open(&'static str),
}

/// Who has a variable.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub role: Role,
    /// Whether it runs in a container.
    pub contained: bool,
    /// The database that its `DB_HOST` and the like mean.
    pub database: Option<&'a str>,
    /// The cache that its `REDIS_HOST` and the like mean.
    pub cache: Option<&'a str>,
}

impl Names {
    /// The name and the kind of what a host is.
    fn host(&self, host: &str, port: Option<u16>) -> Option<(&str, What)> {
        let is_here = matches!(
            host,
            "localhost" | "127.0.0.1" | "0.0.0.0" | "host.docker.internal" | "::1"
        );
        let name = match is_here {
            true => self.at_port(port?)?,
            false => self.given.of(host)?,
        };
        let (name, what) = self.what.get_key_value(name)?;
        Some((name, *what))
    }

    fn at_port(&self, port: u16) -> Option<&str> {
        let kind = match port {
            5432..=5434 => Kind::Postgres,
            6379 | 6380 => Kind::Redis,
            _ => return self.ports.get(&port).map(String::as_str),
        };
        self.only(kind)
    }

    /// The one resource of a kind.
    pub fn only(&self, kind: Kind) -> Option<&str> {
        let mut found = self
            .what
            .iter()
            .filter(|(_, what)| **what == What::Store(kind));
        match (found.next(), found.next()) {
            (Some((name, _)), None) => Some(name),
            _ => None,
        }
    }

    /// The service that a URL leads to.
    pub fn web(&self, value: &str) -> Option<&str> {
        let parts = url(value)?;
        let (name, what) = self.host(parts.host, parts.port)?;
        (what == What::Web).then_some(name)
    }

    /// The resource that a value leads to.
    pub fn store(&self, value: &str, kind: Kind) -> Option<&str> {
        let parts = url(value.strip_prefix("jdbc:").unwrap_or(value));
        let (host, port) = match &parts {
            Some(parts) => (parts.host, parts.port),
            None => value
                .rsplit_once(':')
                .map_or((value, None), |(host, port)| (host, port.parse().ok())),
        };
        let (name, what) = self.host(host, port.or(Some(0)))?;
        (what == What::Store(kind)).then_some(name)
    }

    /// What a variable means to who has it.
    pub fn meaning(&self, variable: &Variable, owner: Owner<'_>) -> Meaning {
        let name = variable.name.as_str();
        let written = variable.value.as_deref().unwrap_or_default();
        let value = written.trim();
        if !crate::manifest::form::is_variable(name) {
            return Meaning::Left("no name of a variable");
        }
        if let Some(meaning) = given(name, value, owner) {
            return meaning;
        }
        if let Some(meaning) = self.file(name, value) {
            return meaning;
        }
        let meaning = self
            .address(name, value, owner)
            .or_else(|| self.piece(name, value, owner));
        if let Some(meaning) = meaning {
            return match secret::is_for_browsers(name) {
                true => self.for_browsers(value),
                false => meaning,
            };
        }
        if self.is_elsewhere(value) {
            return match variable.is_secret {
                true => Meaning::Secret,
                false => Meaning::Open("it leads to something that has to run elsewhere"),
            };
        }
        if variable.is_secret {
            return Meaning::Secret;
        }
        if variable.is_open || variable.value.is_none() {
            return Meaning::Open("nobody here says its value");
        }
        if value.is_empty() {
            return Meaning::Open("it is empty");
        }
        if !owner.contained && is_of_container(value) {
            return Meaning::Open("it is a path in a container");
        }
        if url(value).is_some_and(|parts| matches!(parts.host, "localhost" | "127.0.0.1")) {
            return Meaning::Open("it leads to this machine, and to nothing that was read");
        }
        if secret::is_to_be_replaced(value) {
            return Meaning::Open("its value is to be filled in");
        }
        match secret::is_for_browsers(name) {
            true => Meaning::Build(written.to_owned(), false),
            false => Meaning::Env(plain(written)),
        }
    }

    /// A file of a database. Each release has a tree of its own: what is in one stays there.
    fn file(&self, name: &str, value: &str) -> Option<Meaning> {
        let sqlite = self.only(Kind::Sqlite);
        let Some(file) = RelativeFile::of(value) else {
            let is_absolute = value.starts_with("sqlite:") && name == Kind::Sqlite.variable();
            let store = sqlite.filter(|_| is_absolute)?;
            return Some(Meaning::Need(store.to_owned()));
        };
        let is_its_own = self.file.as_deref() == Some(&tidy(file.path));
        let Some(store) = sqlite.filter(|_| is_its_own) else {
            return Some(Meaning::Open(IN_TREE));
        };
        // As `needs` brings it. What reads `sqlite:///a.db` as a relative path wants one slash more, and what reads
        // `file:` wants that.
        let is_brought = matches!(file.start, "sqlite:" | "sqlite://") && file.end.is_empty();
        if is_brought && name == Kind::Sqlite.variable() {
            return Some(Meaning::Need(store.to_owned()));
        }
        let value = file.with(&format!("${{{store}.path}}"));
        Some(Meaning::File(value, store.to_owned()))
    }

    /// A URL of something that has a name, or `host:port`, or the host alone.
    fn address(&self, name: &str, value: &str, owner: Owner<'_>) -> Option<Meaning> {
        let (prefix, bare) = match value.strip_prefix("jdbc:") {
            Some(bare) => ("jdbc:", bare),
            None => ("", value),
        };
        if let Some(parts) = url(bare) {
            let (to, what) = self.host(parts.host, parts.port)?;
            return Some(match what {
                _ if to == owner.name => Meaning::Open(ITSELF),
                What::Store(kind) => store_url(name, prefix, &parts, to, kind),
                What::Web => Meaning::Env(web_url(&parts, to)),
                What::Silent => Meaning::Open("what it leads to has no port"),
            });
        }
        let (host, port) = match value.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (value, None),
        };
        let is_name = name.contains("HOST")
            || name.contains("SERVER")
            || name.contains("ADDR")
            || port.is_some();
        let (to, what) = self.host(host, port).filter(|_| is_name)?;
        match what {
            _ if to == owner.name => return Some(Meaning::Open(ITSELF)),
            What::Silent => return Some(Meaning::Open("what it leads to has no port")),
            What::Store(Kind::Redis) => return Some(Meaning::Cache(to.to_owned())),
            _ => {}
        }
        Some(Meaning::Env(match port {
            Some(_) => format!("${{{to}.host}}:${{{to}.port}}"),
            None => format!("${{{to}.host}}"),
        }))
    }

    /// `DB_USER` and the like, of the database that its owner has.
    fn piece(&self, name: &str, value: &str, owner: Owner<'_>) -> Option<Meaning> {
        let parts: Vec<&str> = name.split('_').collect();
        let is = |words: &[&str]| parts.iter().any(|part| words.contains(part));
        let last = parts.last().copied().unwrap_or_default();
        if is(&["REDIS", "CACHE", "VALKEY"]) {
            let cache = owner.cache?;
            return match last {
                "HOST" | "HOSTNAME" | "PORT" | "PASSWORD" | "PASS" => {
                    Some(Meaning::Cache(cache.to_owned()))
                }
                _ => None,
            };
        }
        let database = owner.database?;
        let short = name.strip_prefix("PG").filter(|_| parts.len() == 1);
        let is_database = is(&[
            "DB",
            "DATABASE",
            "POSTGRES",
            "POSTGRESQL",
            "POSTGRESDB",
            "PG",
        ]) || short.is_some();
        if !is_database {
            return None;
        }
        let attribute = match short.unwrap_or(last) {
            "HOST" | "HOSTNAME" | "SERVER" if is_local(value) => "host",
            "PORT" => "port",
            "USER" | "USERNAME" => "user",
            "PASSWORD" | "PASS" | "PASSWD" => "password",
            "NAME" | "DATABASE" | "DB" | "DBNAME" => "name",
            _ => return None,
        };
        Some(Meaning::Env(format!("${{{database}.{attribute}}}")))
    }

    /// Browsers reach a service by its path at the gateway.
    fn for_browsers(&self, value: &str) -> Meaning {
        let parts = url(value);
        let found = parts
            .as_ref()
            .and_then(|parts| self.host(parts.host, parts.port));
        match (&parts, found) {
            (Some(parts), Some((name, What::Web))) if parts.scheme.starts_with("http") => {
                match self.routes.get(name) {
                    Some(route) => {
                        let path = format!("{}{}", route.trim_end_matches('/'), parts.rest);
                        Meaning::Build(
                            if path.is_empty() {
                                "/".to_owned()
                            } else {
                                path
                            },
                            true,
                        )
                    }
                    None => Meaning::Open("browsers reach no such service"),
                }
            }
            _ => Meaning::Open(
                "it is built into what browsers load, and differs from place to place",
            ),
        }
    }

    fn is_elsewhere(&self, value: &str) -> bool {
        let parts = url(value);
        let host = match &parts {
            Some(parts) => parts.host,
            None => value.split(':').next().unwrap_or_default(),
        };
        self.elsewhere.iter().any(|known| known == host)
    }
}

/// What every instance is given, and what is true of one environment alone.
fn given(name: &str, value: &str, owner: Owner<'_>) -> Option<Meaning> {
    let is_web = owner.role == Role::Web;
    let any = matches!(value, "0.0.0.0" | "::" | "localhost" | "127.0.0.1");
    match name {
        "PORT" => Some(Meaning::Dropped),
        "HOST" if is_web => Some(Meaning::Dropped),
        "HOSTNAME" | "BIND" | "HOST" if any => Some(Meaning::Dropped),
        "PATH" | "HOME" => Some(Meaning::Left("it is the machine's")),
        "NODE_ENV" | "RAILS_ENV" | "FLASK_ENV" | "RACK_ENV" | "MIX_ENV" | "APP_ENV"
        | "ENVIRONMENT"
            if value.starts_with("dev") || value == "local" || value == "test" =>
        {
            Some(Meaning::Left(
                "the manifest holds for every environment; `environments.local` may set it",
            ))
        }
        "COMPOSE_PROJECT_NAME" | "COMPOSE_FILE" => Some(Meaning::Dropped),
        _ => None,
    }
}

fn is_local(value: &str) -> bool {
    !value.contains('.') || value == "127.0.0.1"
}

fn is_of_container(value: &str) -> bool {
    [
        "/app", "/usr/src", "/data", "/var/lib", "/home/", "/root", "/opt/", "/srv/", "/config",
        "/storage",
    ]
    .iter()
    .any(|start| value.starts_with(start))
}

fn store_url(name: &str, prefix: &str, parts: &Url<'_>, to: &str, kind: Kind) -> Meaning {
    let known = match kind {
        Kind::Postgres => matches!(parts.scheme, "postgres" | "postgresql") && prefix.is_empty(),
        Kind::Redis => matches!(parts.scheme, "redis" | "rediss"),
        Kind::Sqlite => true,
    };
    let number = parts.rest.trim_matches('/');
    let rest = match kind {
        Kind::Redis if !matches!(number, "" | "0") => parts.rest,
        _ => "",
    };
    if known && name == kind.variable() && rest.is_empty() {
        return Meaning::Need(to.to_owned());
    }
    let scheme = parts.scheme;
    Meaning::Env(match (kind, known) {
        (_, true) => format!("${{{to}.url}}{rest}"),
        (Kind::Postgres, false) if prefix == "jdbc:" => {
            format!("{prefix}{scheme}://${{{to}.host}}:${{{to}.port}}/${{{to}.name}}")
        }
        (Kind::Postgres, false) => format!(
            "{scheme}://${{{to}.user}}:${{{to}.password}}@${{{to}.host}}:${{{to}.port}}/${{{to}.name}}"
        ),
        (_, false) => format!(
            "{scheme}://${{{to}.host}}:${{{to}.port}}{}",
            plain(parts.rest)
        ),
    })
}

fn web_url(parts: &Url<'_>, to: &str) -> String {
    let rest = plain(parts.rest);
    match parts.scheme {
        "http" | "https" => format!("${{{to}.url}}{rest}"),
        scheme => format!("{scheme}://${{{to}.host}}:${{{to}.port}}{rest}"),
    }
}

/// A text that refers to nothing.
fn plain(value: &str) -> String {
    value.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::finding::Place;

    fn names() -> Names {
        let mut names = Names::default();
        for (original, what) in [
            ("postgres", What::Store(Kind::Postgres)),
            ("redis", What::Store(Kind::Redis)),
            ("api", What::Web),
            ("mailer", What::Silent),
        ] {
            let name = names.given.give(original, original.to_owned());
            names.what.insert(name, what);
        }
        names.ports.insert(5000, "api".to_owned());
        names.routes.insert("api".to_owned(), "/api".to_owned());
        names.elsewhere.push("mongo".to_owned());
        names
            .what
            .insert("db".to_owned(), What::Store(Kind::Sqlite));
        names.file = Some("data/notes.db".to_owned());
        names
    }

    fn meaning(name: &str, value: &str) -> Meaning {
        let owner = Owner {
            name: "web",
            role: Role::Web,
            contained: false,
            database: Some("postgres"),
            cache: Some("redis"),
        };
        let variable = Variable::new(name, Some(value), &Place::new("f", 1));
        names().meaning(&variable, owner)
    }

    #[test]
    fn addresses_become_references() {
        let env = |text: &str| Meaning::Env(text.to_owned());
        for (name, value, right) in [
            (
                "DATABASE_URL",
                "postgres://a:b@postgres:5432/x",
                Meaning::Need("postgres".into()),
            ),
            (
                "DATABASE_URL",
                "postgresql://a:b@localhost:5432/x?schema=public",
                Meaning::Need("postgres".into()),
            ),
            ("DB", "postgres://a:b@postgres/x", env("${postgres.url}")),
            (
                "REDIS_URL",
                "redis://redis:6379/0",
                Meaning::Need("redis".into()),
            ),
            ("BROKER", "redis://redis:6379/1", env("${redis.url}/1")),
            ("API", "http://api:5000/v1", env("${api.url}/v1")),
            ("API", "http://localhost:5000", env("${api.url}")),
            (
                "NEXT_PUBLIC_API",
                "http://localhost:5000/v1",
                Meaning::Build("/api/v1".into(), true),
            ),
            ("DB_HOST", "postgres", env("${postgres.host}")),
            ("DB_PASSWORD", "hunter2", env("${postgres.password}")),
            ("PGUSER", "x", env("${postgres.user}")),
            ("API_KEY", "hunter2", Meaning::Secret),
            ("MONGO_URL", "mongodb://a:b@mongo/x", Meaning::Secret),
            ("PORT", "3000", Meaning::Dropped),
            ("GREETING", "${x}", env("$${x}")),
            ("LOG_LEVEL", "api", env("api")),
        ] {
            assert_eq!(meaning(name, value), right, "{name}={value}");
        }
        for (name, value, right) in [
            ("DB_PATH", "./data/notes.db", "${db.path}"),
            (
                "DATABASE_URL",
                "sqlite:///data/notes.db",
                "sqlite:///${db.path}",
            ),
            (
                "DATABASE_URL",
                "file:data/notes.db?mode=rwc",
                "file:${db.path}?mode=rwc",
            ),
            ("STORE_URL", "sqlite:data/notes.db", "sqlite:${db.path}"),
        ] {
            let right = Meaning::File(right.to_owned(), "db".to_owned());
            assert_eq!(meaning(name, value), right, "{name}={value}");
        }
        for value in ["sqlite:data/notes.db", "sqlite:////srv/notes.db"] {
            let needed = Meaning::Need("db".to_owned());
            assert_eq!(meaning("DATABASE_URL", value), needed, "{value}");
        }
        // Two databases in one file would be worse than none.
        assert_eq!(meaning("CACHE_PATH", "cache.db"), Meaning::Open(IN_TREE));
        let asyncpg = meaning("DATABASE_URL", "postgresql+asyncpg://a:b@postgres/x");
        assert!(
            matches!(asyncpg, Meaning::Env(text) if text.starts_with("postgresql+asyncpg://${postgres.user}:"))
        );
        assert!(matches!(
            meaning("X_URL", "http://mailer:1"),
            Meaning::Open(_)
        ));
    }
}
