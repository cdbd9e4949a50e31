//! What is going to be a manifest: everything has its final name, and refers to what is there.

use std::collections::BTreeSet;

use super::finding::Place;
use super::sketch::{Kind, Migrate, Ready, Role, Target};

/// A manifest that is not drawn yet.
#[derive(Debug, Default)]
pub struct Draft {
    /// The application's name.
    pub app: String,
    /// What runs.
    pub services: Vec<Service>,
    /// Databases and caches.
    pub resources: Vec<Resource>,
    /// What differs from place to place.
    pub environments: Vec<Target>,
}

/// Where a release goes, where no file of the project says it.
const WAY: [&str; 2] = ["staging", "production"];

impl Draft {
    /// The names of the environments beside `local`, in the order in which a release comes to them.
    pub fn way(&self) -> Vec<&str> {
        match self.environments.is_empty() {
            true => WAY.to_vec(),
            false => self
                .environments
                .iter()
                .map(|one| one.name.as_str())
                .collect(),
        }
    }

    /// The secrets that services want, each once.
    pub fn secrets(&self) -> Vec<String> {
        let names = self.services.iter().flat_map(|one| &one.secrets);
        let names: BTreeSet<_> = names.cloned().collect();
        names.into_iter().collect()
    }
}

/// How a service is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// As a process of this machine.
    Process,
    /// In a container of an image that is named.
    Image(String),
    /// In a container of an image that is built.
    Dockerfile(String),
}

/// A service.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Where it was read first.
    pub place: Place,
    /// How it is run.
    pub by: Run,
    /// What it is.
    pub role: Role,
    /// The folder that its commands run in.
    pub dir: String,
    /// The port that a container listens on.
    pub port: Option<u16>,
    /// Ports of the machine that led to it, and the one that it listened on.
    pub ports: Vec<u16>,
    /// Whether somebody outside reaches it.
    pub is_public: bool,
    /// Whether people look at it first.
    pub is_front: bool,
    /// Builds it.
    pub build: Option<String>,
    /// Environment of the build.
    pub build_env: Vec<(String, String)>,
    /// Runs it.
    pub run: Option<String>,
    /// Runs it in the source tree.
    pub dev: Option<String>,
    /// Runs once before.
    pub release: Option<String>,
    /// When it is due.
    pub schedule: Option<String>,
    /// The path that it serves, and whether that is taken off.
    pub route: Option<(String, bool)>,
    /// When it is ready.
    pub ready: Option<Ready>,
    /// What starts before it, by final names.
    pub needs: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Names of its secrets.
    pub secrets: Vec<String>,
    /// How many.
    pub replicas: Option<i64>,
    /// When it is started again.
    pub restart: Option<&'static str>,
    /// What ends it.
    pub signal: Option<String>,
    /// Seconds that it has to end.
    pub grace: Option<u64>,
    /// Kept between builds.
    pub cache: Vec<String>,
    /// Carried to other environments.
    pub artifact: Vec<String>,
    /// Remarks for whoever reads the manifest.
    pub remarks: Vec<String>,
}

/// A resource.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Where it was read.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
    /// Major version of a PostgreSQL.
    pub version: Option<u32>,
    /// How its tables are made.
    pub migrate: Option<Migrate>,
}
