//! A version: one release (or the source tree) with the instances that run it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use towpath_gateway::api;
use towpath_shim::protocol::{Policy, Restart, Stop, User};

use super::resources;
use super::scratch::{self, Copies};
use crate::build::Source;
use crate::config::{
    self, Config, Container, Part, Probe, Purpose, Resource, RestartPolicy, Role, Service, Template,
};
use crate::container::{self, Published};
use crate::diagnostic::Diagnostic;
use crate::id::{Digest, InstanceId, ReleaseId, RunId};
use crate::manifest::Manifest;
use crate::resource::url::Attributes;
use crate::secret::rotation;
use crate::supervise::{Places, Process};

use super::World;

/// One running copy, as planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its service.
    pub service: String,
    /// Its port, when the service serves one.
    pub port: Option<u16>,
}

/// What runs, or is to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The run that launched it.
    pub run: RunId,
    /// Its release; `None` for a source tree, or while it is being built.
    pub release: Option<ReleaseId>,
    /// The folder that holds its files.
    pub root: PathBuf,
    /// Whether it is a source tree, run with the `dev` commands.
    pub dev: bool,
    /// Its manifest, as typed.
    pub manifest: String,
    /// Its instances.
    pub instances: Vec<Instance>,
    /// What its release is built from, while it is being built.
    #[serde(default)]
    pub seed: Option<Seed>,
    /// Ids of the images of its containers, by service, as the engine of this machine knows them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
    /// What its manifest is read for.
    #[serde(default, skip_serializing_if = "Purpose::is_real")]
    pub purpose: Purpose,
}

/// What a release is built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// The commit.
    pub source: Source,
    /// Digest of the source archive.
    pub tree: Digest,
    /// Digest of everything that goes into the build.
    pub build: Digest,
}

impl Version {
    /// `r4`, or `source tree`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.release {
            Some(release) => release.to_string(),
            None if self.dev => "source tree".to_owned(),
            None => format!("the build of {}", self.run),
        }
    }

    /// What its manifest means in `environment`.
    ///
    /// # Errors
    /// When it does not resolve; planning has made sure that it does.
    pub fn config(&self, environment: &str) -> Result<Config, Diagnostic> {
        let parsed = Manifest::parse("tow.toml", &self.manifest);
        let resolved =
            parsed.and_then(|manifest| config::resolve_for(&manifest, environment, self.purpose));
        resolved.map_err(|report| {
            Diagnostic::error(
                "manifest::invalid",
                "the manifest of this version does not resolve",
            )
            .note(report.render(false))
        })
    }

    /// The instances of one role.
    pub fn of_role<'a>(
        &'a self,
        config: &'a Config,
        role: Role,
    ) -> impl Iterator<Item = &'a Instance> {
        self.instances.iter().filter(move |instance| {
            config
                .services
                .get(&instance.service)
                .is_some_and(|service| service.role == role)
        })
    }

    /// A run of its job `name`, the `number`th of those that run at once.
    ///
    /// # Errors
    /// As [`Version::config`], and when it has no such job.
    pub fn job(&self, world: &World, name: &str, number: u32) -> Result<Process, Diagnostic> {
        let config = self.config(&world.environment)?;
        let service = config.services.get(name);
        let service = service.filter(|service| service.role == Role::Job);
        let service = service.ok_or_else(|| {
            let text = format!("{} has no job `{name}`", self.name());
            Diagnostic::error("jobs::unknown", text)
        })?;
        let id = InstanceId::new(name, self.run, number);
        let resolved = Resolved::new(&config, &world.supervisor.places().state)?;
        let process = self.once(world, &resolved, name, &id, None);
        let instance = Instance {
            id,
            service: name.to_owned(),
            port: None,
        };
        let places = world.supervisor.places();
        Ok(match self.containers(service) {
            Some(container) => {
                self.contained(&config, container, service, &instance, places, process)
            }
            None => process,
        })
    }

    /// The command that is run once before the service `name` starts.
    pub(super) fn release_command(
        &self,
        world: &World,
        name: &str,
    ) -> Result<Option<Process>, Diagnostic> {
        let config = self.config(&world.environment)?;
        let service = config.services.get(name);
        let Some(command) = service.and_then(|service| service.release.as_ref()) else {
            return Ok(None);
        };
        let id = release_id(name, self.run);
        self.command(world, name, &id, command, &Copies::new())
            .map(Some)
    }

    /// A command in the folder and with the environment of the service `name`, which is told of copies in the place of
    /// their databases.
    pub(super) fn command(
        &self,
        world: &World,
        name: &str,
        id: &InstanceId,
        command: &str,
        copies: &Copies,
    ) -> Result<Process, Diagnostic> {
        let config = self.config(&world.environment)?;
        let resolved = Resolved::new(&config, &world.supervisor.places().state)?.with(copies);
        Ok(self.once(world, &resolved, name, id, Some(command)))
    }

    /// What runs to its end, in a service's folder and environment.
    fn once(
        &self,
        world: &World,
        resolved: &Resolved<'_>,
        name: &str,
        id: &InstanceId,
        command: Option<&str>,
    ) -> Process {
        let service = &resolved.config.services[name];
        let instance = Instance {
            id: id.clone(),
            service: name.to_owned(),
            port: None,
        };
        let places = world.supervisor.places();
        let process = self.process(resolved, service, &instance, places, world.user);
        Process {
            argv: command.map_or(process.argv, shell),
            restart: Restart {
                policy: Policy::Never,
                backoff_ms: 0,
                backoff_max_ms: 0,
                limit: 0,
                within_ms: 0,
            },
            ready: None,
            alive: None,
            ..process
        }
    }

    /// Runs of its jobs that have a folder here.
    ///
    /// # Errors
    /// As [`Version::config`].
    pub fn job_runs(&self, world: &World) -> Result<Vec<InstanceId>, Diagnostic> {
        let config = self.config(&world.environment)?;
        let mut known = world.supervisor.known();
        known.retain(|id| self.is_of_job(&config, id));
        Ok(known)
    }

    /// Whether `id` is a run of one of its jobs.
    fn is_of_job(&self, config: &Config, id: &InstanceId) -> bool {
        let jobs = config.services.iter();
        let mut jobs = jobs.filter(|(_, service)| service.role == Role::Job);
        jobs.any(|(name, _)| id.0.starts_with(&format!("{name}-{}-", self.run)))
    }

    /// The processes of its instances, by id.
    ///
    /// # Errors
    /// As [`Version::config`].
    pub fn processes(
        &self,
        environment: &str,
        places: &Places,
        user: Option<User>,
    ) -> Result<BTreeMap<InstanceId, Process>, Diagnostic> {
        self.processes_on(environment, places, user, &Copies::new())
    }

    /// As [`Version::processes`], told of copies in the place of their databases.
    pub(super) fn processes_on(
        &self,
        environment: &str,
        places: &Places,
        user: Option<User>,
        copies: &Copies,
    ) -> Result<BTreeMap<InstanceId, Process>, Diagnostic> {
        let config = self.config(environment)?;
        let config = &Resolved::new(&config, &places.state)?.with(copies);
        let built = self.instances.iter().filter_map(|instance| {
            let service = config.config.services.get(&instance.service)?;
            let process = self.process(config, service, instance, places, user);
            let process = match self.containers(service) {
                Some(container) => {
                    self.contained(config.config, container, service, instance, places, process)
                }
                None => process,
            };
            Some((instance.id.clone(), process))
        });
        Ok(built.collect())
    }

    /// The container of a service, where this version runs it in one: a source tree with a command
    /// of its own does not.
    #[must_use]
    pub fn containers<'a>(&self, service: &'a Service) -> Option<&'a Container> {
        let is_dev = self.dev && service.dev.is_some();
        service.container.as_ref().filter(|_| !is_dev)
    }

    /// The same instance, in a container: what its shim runs is a program of ours that keeps it.
    fn contained(
        &self,
        config: &Config,
        container: &Container,
        service: &Service,
        instance: &Instance,
        places: &Places,
        process: Process,
    ) -> Process {
        let dir = places.run(&instance.id);
        let published = container.port.zip(instance.port);
        let published = published.map(|(inner, outer)| Published { outer, inner });
        let mut env = process.env;
        // Those of the image count, unless the manifest says otherwise.
        for name in ["PATH", "HOME", "LANG"] {
            if !service.env.contains_key(name) {
                env.remove(name);
            }
        }
        if let Some(port) = published {
            env.insert("PORT".to_owned(), port.inner.to_string());
            env.insert("HOST".to_owned(), "0.0.0.0".to_owned());
        }
        let has_data = service.needs.iter().any(|need| {
            let found = config.resources.get(need);
            found.is_some_and(Resource::is_file)
        });
        let spec = container::Spec {
            image: self
                .images
                .get(&instance.service)
                .cloned()
                .unwrap_or_default(),
            command: service
                .run
                .as_deref()
                .map(container::command)
                .unwrap_or_default(),
            env,
            nonce: None,
            secrets: process
                .secrets
                .iter()
                .map(|name| (name.clone(), rotation::previous(name)))
                .collect(),
            user: process.user.or_else(|| has_data.then(own_user).flatten()),
            published,
            mounts: [places.state.join("data"), scratch::data(&places.state)]
                .into_iter()
                .filter(|folder| has_data && folder.is_dir())
                .collect(),
            app: config.app.clone(),
            environment: config.environment.clone(),
            instance: instance.id.0.clone(),
            mark: places.mark(&instance.id),
            stop_signal: process.stop.signal,
            grace_ms: process.stop.grace_ms,
        };
        Process {
            argv: [&places.tow, Path::new("container"), &dir]
                .map(|word| word.display().to_string())
                .into(),
            env: container::client_environment(),
            cwd: dir,
            // As whoever may speak to the engine; the container runs as its own.
            user: None,
            stop: Stop {
                signal: container::TOLD,
                grace_ms: process.stop.grace_ms + CONTAINER_STOPS_MS,
            },
            container: Some(spec),
            ..process
        }
    }

    fn process(
        &self,
        config: &Resolved<'_>,
        service: &Service,
        instance: &Instance,
        places: &Places,
        user: Option<User>,
    ) -> Process {
        let command = service
            .dev
            .as_ref()
            .filter(|_| self.dev)
            .or(service.run.as_ref())
            .map_or("", String::as_str);
        Process {
            id: instance.id.clone(),
            service: instance.service.clone(),
            argv: shell(command),
            env: self.environment(config, service, instance, &places.state, user),
            cwd: self.root.join(&service.dir),
            user,
            listen: Vec::new(),
            port: instance.port,
            restart: restart(&service.restart),
            stop: Stop {
                signal: service.stop_signal,
                grace_ms: millis(service.stop_grace),
            },
            log: (service.log_max_bytes, service.log_keep),
            ready: Some(service.ready.clone()),
            alive: service.alive.clone(),
            secrets: service.secrets.clone(),
            container: None,
        }
    }

    fn environment(
        &self,
        config: &Resolved<'_>,
        service: &Service,
        instance: &Instance,
        state: &Path,
        user: Option<User>,
    ) -> BTreeMap<String, String> {
        let mut env = base_environment();
        if user.is_some() {
            // The operator's own home is not theirs.
            env.insert("HOME".to_owned(), state.join("data").display().to_string());
        }
        if let Some(port) = instance.port {
            env.insert("PORT".to_owned(), port.to_string());
            env.insert("HOST".to_owned(), "127.0.0.1".to_owned());
        }
        let render = |template: &Template| self.render(config, template);
        env.extend(
            service
                .env
                .iter()
                .map(|(name, template)| (name.clone(), render(template))),
        );
        env
    }

    fn render(&self, config: &Resolved<'_>, template: &Template) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Attribute { name, attribute } => self.attribute(config, name, attribute),
        };
        template.parts.iter().map(part).collect()
    }

    /// References were checked when the manifest was resolved.
    fn attribute(&self, config: &Resolved<'_>, name: &str, attribute: &str) -> String {
        if let Some(attributes) = config.addresses.get(name) {
            return attributes.get(attribute).cloned().unwrap_or_default();
        }
        let port = self
            .instances
            .iter()
            .find(|instance| instance.service == name)
            .and_then(|found| found.port);
        let port = port.unwrap_or(0);
        match attribute {
            "host" => "127.0.0.1".to_owned(),
            "port" => port.to_string(),
            _ => format!("http://127.0.0.1:{port}"),
        }
    }

    /// The gateway's table that sends requests to this version.
    #[must_use]
    pub fn table(&self, config: &Config) -> api::Table {
        let mut table = api::Table::default();
        for (name, service) in &config.services {
            if service.routes.is_empty() {
                continue;
            }
            let pool = format!("{name}@{}", self.run);
            table
                .routes
                .extend(service.routes.iter().map(|route| api::Route {
                    host: route.host.clone().or_else(|| config.domain.clone()),
                    path: route.path.clone(),
                    strip: route.strip,
                    stream: route.stream,
                    idempotency_key: route.idempotency_key,
                    limit: route.limit,
                    unlimited: route.unlimited,
                    cache: route.cache,
                    pool: pool.clone(),
                }));
            let targets = self
                .instances
                .iter()
                .filter(|instance| instance.service == *name);
            let targets = targets.filter_map(|instance| {
                let addr = ([127, 0, 0, 1], instance.port?).into();
                Some(api::Target {
                    id: instance.id.0.clone(),
                    addr,
                })
            });
            table.pools.insert(
                pool,
                api::Pool {
                    targets: targets.collect(),
                    health: health(service),
                },
            );
        }
        table
    }
}

/// The process of a service's command before its start.
pub(crate) fn release_id(name: &str, run: RunId) -> InstanceId {
    InstanceId(format!("release-{name}-{run}"))
}

/// From the end of a container's grace until it is ended by force.
const CONTAINER_STOPS_MS: u64 = 5_000;

/// What a container writes beside the agent's files has to stay the agent's to read.
fn own_user() -> Option<User> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    (!uid.is_root()).then(|| User {
        uid: uid.as_raw(),
        gid: gid.as_raw(),
    })
}

impl<'a> Resolved<'a> {
    fn new(config: &'a Config, state: &Path) -> Result<Resolved<'a>, Diagnostic> {
        let refers = config.services.values().flat_map(|service| {
            let parts = service.env.values().flat_map(|template| &template.parts);
            parts.filter_map(|part| match part {
                Part::Attribute { name, .. } => Some(name.as_str()),
                Part::Text(_) => None,
            })
        });
        let addresses = resources::addresses(state, config, refers)?;
        Ok(Resolved { config, addresses })
    }

    fn with(mut self, copies: &Copies) -> Resolved<'a> {
        for (name, copy) in copies {
            if let Some(address) = self.addresses.get_mut(name) {
                address.clone_from(copy);
            }
        }
        self
    }
}

/// A configuration, with where its resources are.
struct Resolved<'a> {
    config: &'a Config,
    addresses: BTreeMap<String, Attributes>,
}

fn health(service: &Service) -> Option<api::Health> {
    let alive = service.alive.as_ref()?;
    let path = match &alive.probe {
        Probe::Http(path) => Some(path.clone()),
        Probe::Tcp => None,
        _ => return None,
    };
    Some(api::Health {
        path,
        interval_ms: millis(alive.every),
        timeout_ms: millis(alive.timeout),
        passes: alive.passes,
        failures: alive.failures,
    })
}

/// What a shell runs; it becomes the command itself where that is one command.
#[must_use]
pub fn shell(command: &str) -> Vec<String> {
    let is_compound = command.contains([';', '&', '|', '\n', '(']);
    // `NODE_ENV=production node main.js`: a variable for the command, not its name.
    let first = command.split_whitespace().next().unwrap_or_default();
    let is_special = first.contains('=') || first == "exec";
    let text = if is_compound || is_special {
        command.to_owned()
    } else {
        format!("exec {command}")
    };
    vec!["/bin/sh".to_owned(), "-c".to_owned(), text]
}

/// What a service gets besides its own variables; nothing else of the agent's environment.
fn base_environment() -> BTreeMap<String, String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    let home = std::env::var("HOME").unwrap_or_else(|_| "/".to_owned());
    let lang = "C.UTF-8".to_owned();
    [("PATH", path), ("HOME", home), ("LANG", lang)]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

fn restart(restart: &config::Restart) -> Restart {
    Restart {
        policy: match restart.policy {
            RestartPolicy::Never => Policy::Never,
            RestartPolicy::OnFailure => Policy::OnFailure,
            RestartPolicy::Always => Policy::Always,
        },
        backoff_ms: millis(restart.backoff),
        backoff_max_ms: millis(restart.backoff_max),
        limit: restart.limit,
        within_ms: millis(restart.within),
    }
}

/// Whole milliseconds.
pub(crate) fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_becomes_the_command_where_it_is_one() {
        for (typed, run) in [
            ("node main.js", "exec node main.js"),
            (
                "NODE_ENV=production node main.js",
                "NODE_ENV=production node main.js",
            ),
            ("exec node main.js", "exec node main.js"),
            ("cd web && npm start", "cd web && npm start"),
        ] {
            assert_eq!(shell(typed)[2], run);
        }
    }
}
