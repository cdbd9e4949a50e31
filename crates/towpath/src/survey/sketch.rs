//! What one file of a project says, in the words of a manifest, before anything is put together.

use super::finding::{Findings, Place};
use super::secret;

/// Where services are described, in the order in which what they say counts: the first that says something wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `Procfile`.
    Procfile,
    /// `process-compose.yaml`.
    ProcessCompose,
    /// `supervisord.conf`.
    Supervisor,
    /// `fly.toml`.
    Fly,
    /// `config/deploy.yml` of kamal.
    Kamal,
    /// `compose.yaml`.
    Compose,
    /// What the files of a language say, and a Dockerfile.
    Folder,
}

/// All that one file says.
#[derive(Debug, Default)]
pub struct Sketch {
    /// The application's name.
    pub app: Option<String>,
    /// What runs.
    pub parts: Vec<Part>,
    /// Databases and caches.
    pub stores: Vec<Store>,
    /// What else is reached by a host name, and cannot be a resource.
    pub elsewhere: Vec<String>,
    /// Variables that are only looked at.
    pub kept: Vec<Variable>,
    /// Places that it is deployed to.
    pub environments: Vec<Target>,
    /// What there is to say.
    pub findings: Findings,
}

/// Whether something serves requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It does.
    Web,
    /// It does not.
    Worker,
    /// It runs now and then.
    Job,
}

/// A service.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its name in the file.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// Its folder.
    pub dir: String,
    /// What it is, where the file says it.
    pub role: Option<Role>,
    /// Whether its code lies in the project, and is not only an image of somebody's.
    pub is_ours: bool,
    /// Image that is named.
    pub image: Option<String>,
    /// Dockerfile, from its folder.
    pub dockerfile: Option<String>,
    /// The port that it listens on.
    pub port: Option<u16>,
    /// Ports of the machine that lead to it.
    pub published: Vec<u16>,
    /// Commands.
    pub build: Option<String>,
    /// What runs it.
    pub run: Option<String>,
    /// Whether it has a command that cannot be carried over: what else would run means another thing.
    pub is_left: bool,
    /// What runs it in the source tree.
    pub dev: Option<String>,
    /// What runs once before.
    pub release: Option<String>,
    /// When it is due.
    pub schedule: Option<String>,
    /// When it is ready.
    pub ready: Option<Ready>,
    /// What starts before it, by the names of the file.
    pub needs: Vec<String>,
    /// Its environment.
    pub env: Vec<Variable>,
    /// Names of its secrets.
    pub secrets: Vec<(String, Place)>,
    /// How many of it run.
    pub replicas: Option<i64>,
    /// `never`, `on-failure` or `always`.
    pub restart: Option<&'static str>,
    /// Signal that ends it.
    pub signal: Option<String>,
    /// Seconds that it has to end.
    pub grace: Option<u64>,
    /// Folders that are kept between builds, and what is carried.
    pub cache: Vec<String>,
    /// Paths that are carried.
    pub artifact: Vec<String>,
    /// A remark for whoever reads the manifest.
    pub remarks: Vec<String>,
    /// Whether people look at it first.
    pub is_front: bool,
}

impl Part {
    /// One of which only the name is known.
    pub fn new(name: &str, place: Place) -> Self {
        Self {
            name: name.to_owned(),
            place,
            dir: ".".to_owned(),
            role: None,
            is_ours: true,
            image: None,
            dockerfile: None,
            port: None,
            published: Vec::new(),
            build: None,
            run: None,
            is_left: false,
            dev: None,
            release: None,
            schedule: None,
            ready: None,
            needs: Vec::new(),
            env: Vec::new(),
            secrets: Vec::new(),
            replicas: None,
            restart: None,
            signal: None,
            grace: None,
            cache: Vec::new(),
            artifact: Vec::new(),
            remarks: Vec::new(),
            is_front: false,
        }
    }

    /// Says that its command cannot be carried over, and why.
    pub fn leave(&mut self, findings: &mut Findings, place: &Place, why: &str) {
        let text = format!("the command of `{}`: {why}", self.name);
        findings.leave(place, text);
        self.is_left = true;
    }

    /// Takes a variable in, and says what is wrong with it.
    pub fn set(&mut self, findings: &mut Findings, name: &str, value: Option<&str>, place: &Place) {
        let text = value.unwrap_or_default();
        secret::judge(findings, place, name, text);
        self.env.push(Variable::new(name, value, place));
    }
}

/// A variable of a service.
#[derive(Debug, Clone)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value, if the file gives it one.
    pub value: Option<String>,
    /// Where it stands.
    pub place: Place,
    /// Whether the value is never to be shown.
    pub is_secret: bool,
    /// Whether a part of the value is to come from elsewhere.
    pub is_open: bool,
}

impl Variable {
    /// A variable that says all there is.
    pub fn new(name: &str, value: Option<&str>, place: &Place) -> Self {
        Self {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            place: place.clone(),
            is_secret: secret::is_secret(name, value.unwrap_or_default()),
            is_open: false,
        }
    }
}

/// When a service is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// What is asked.
    pub probe: Probe,
    /// Seconds from the start.
    pub within: Option<u64>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// GET of a path.
    Http(String),
    /// A command.
    Exec(String),
}

/// What kind of thing stores something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// Redis, or what speaks like it.
    Redis,
}

impl Kind {
    /// Its word in a manifest.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }

    /// The variable that needing it brings.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Redis => "REDIS_URL",
            _ => "DATABASE_URL",
        }
    }
}

/// A database or a cache.
#[derive(Debug, Clone)]
pub struct Store {
    /// Its name in the file; requests go to it as a host.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
    /// Other host names that it is reached by.
    pub hosts: Vec<String>,
    /// Major version of a PostgreSQL.
    pub version: Option<u32>,
    /// How its tables are made.
    pub migrate: Option<Migrate>,
}

/// How tables are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Migrate {
    /// A folder in our own form.
    Folder(String),
    /// A command of another tool, and the folder that it runs in.
    Run(String, String),
}

/// A place that the application is deployed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name of the environment.
    pub name: String,
    /// Where that stands.
    pub place: Place,
    /// `user@host`.
    pub server: Option<String>,
    /// Its host name.
    pub domain: Option<String>,
}
