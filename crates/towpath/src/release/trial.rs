//! A version on copies of its databases: started where no request goes, to see that it works with them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::resources;
use super::scratch::Copies;
use super::trouble::unready;
use super::{Instance, OpenRun, Version, World};
use crate::config::{Config, Role, Traffic};
use crate::diagnostic::Diagnostic;
use crate::id::{InstanceId, RunId};
use crate::load::{self, Load};
use crate::supervise::{Process, free_port};

type Result<T> = std::result::Result<T, Diagnostic>;

/// What the instances of a trial begin with.
const PREFIX: &str = "trial-";

/// The version that comes in.
pub(super) const NEW: &str = "new";

/// The version that serves.
pub(super) const OLD: &str = "old";

/// The part of a version that uses some resources, as instances of its own.
pub(super) struct Trial {
    version: Version,
    order: Vec<String>,
}

/// The services that serve requests with one of these resources, and those that they need in turn.
fn services(config: &Config, resources: &[String]) -> BTreeSet<String> {
    let is_web = |name: &str| {
        let found = config.services.get(name);
        found.is_some_and(|found| found.role == Role::Web)
    };
    let uses = |name: &&String| {
        let needs = &config.services[*name].needs;
        is_web(name) && needs.iter().any(|need| resources.contains(need))
    };
    let mut found: BTreeSet<String> = config.order.iter().filter(uses).cloned().collect();
    // After those it needs stands each in the order, so from its end one look is enough.
    for name in config.order.iter().rev() {
        if found.contains(name) {
            let needs = config.services[name].needs.iter();
            found.extend(needs.filter(|need| is_web(need)).cloned());
        }
    }
    found
}

fn id(service: &str, label: &str, run: RunId) -> InstanceId {
    InstanceId(format!("{PREFIX}{label}-{service}-{run}"))
}

impl Trial {
    /// Of `version` as it is in `run`; `None` where nothing of it uses the resources.
    pub(super) fn new(
        world: &World,
        run: &OpenRun,
        version: &Version,
        label: &str,
        resources: &[String],
    ) -> Result<Option<Trial>> {
        let config = version.config(&world.environment)?;
        let wanted = services(&config, resources);
        let mut taken = taken(world, run);
        let mut instances = Vec::new();
        for service in &wanted {
            let port = free_port(run.plan.run.0 * 17, &taken).ok_or_else(|| {
                let text = "every port from 20000 to 31999 is taken";
                Diagnostic::error("supervise::no-port", text)
            })?;
            taken.insert(port);
            instances.push(Instance {
                id: id(service, label, run.plan.run),
                service: service.clone(),
                port: Some(port),
            });
        }
        let mut order = config.order;
        order.retain(|name| wanted.contains(name));
        let version = Version {
            instances,
            ..version.clone()
        };
        Ok((!order.is_empty()).then_some(Trial { version, order }))
    }

    /// Starts it on the copies and waits until it is ready; how long that took, milliseconds. Each service after those
    /// that it needs.
    pub(super) async fn start(&self, world: &World, copies: &Copies) -> Result<u64> {
        let mut took = 0;
        for process in self.processes(world, copies)? {
            let launched = world.supervisor.launch(&process).await;
            launched.map_err(|error| Diagnostic::error("supervise::failed", error.to_string()))?;
            let ready = world.supervisor.ready(&process).await;
            took += ready
                .map_err(|why| unready(&self.version.name(), &process, &why))?
                .took_ms;
        }
        Ok(took)
    }

    fn processes(&self, world: &World, copies: &Copies) -> Result<Vec<Process>> {
        let places = world.supervisor.places();
        let all = self
            .version
            .processes_on(&world.environment, places, world.user, copies)?;
        let of = |name: &String| {
            all.values()
                .find(|process| process.service == *name)
                .cloned()
        };
        Ok(self.order.iter().filter_map(of).collect())
    }

    /// Stops it: who needs others first.
    pub(super) async fn stop(&self, world: &World) -> Result<()> {
        for instance in self.version.instances.iter().rev() {
            stop(world, &instance.id).await?;
        }
        Ok(())
    }
}

async fn stop(world: &World, id: &InstanceId) -> Result<()> {
    let stopped = world.supervisor.stop(id, None).await;
    stopped.map_err(|error| Diagnostic::error("supervise::failed", error.to_string()))
}

/// Stops what any trial has left, and what this run's may just be starting.
pub(super) async fn stop_all(world: &World, run: &OpenRun) -> Result<()> {
    let mut all: BTreeSet<InstanceId> = world.supervisor.known().into_iter().collect();
    all.retain(|id| id.0.starts_with(PREFIX) && is_trial(id));
    for (version, label) in [(&run.plan.new, NEW), (&run.plan.old, OLD)] {
        let instances = version.iter().flat_map(|version| &version.instances);
        all.extend(instances.map(|instance| id(&instance.service, label, run.plan.run)));
    }
    for id in &all {
        stop(world, id).await?;
    }
    Ok(())
}

/// An instance of a service ends with a number, and a trial with its run.
fn is_trial(id: &InstanceId) -> bool {
    let last = id.0.rsplit('-').next().unwrap_or_default();
    last.parse::<RunId>().is_ok()
}

/// What any version of the run may have.
fn taken(world: &World, run: &OpenRun) -> BTreeSet<u16> {
    let plan = &run.plan;
    let versions = [&plan.new, &plan.old, &plan.warm];
    let instances = versions
        .into_iter()
        .flatten()
        .flat_map(|version| &version.instances);
    let ports = instances.filter_map(|instance| instance.port);
    ports.chain(resources::ports(world)).collect()
}

/// Longest wait for the one write that is tried.
const WRITES: Duration = Duration::from_secs(30);

impl Trial {
    /// The write that the version declares for its rehearsals, sent once and read back; `None` where it declares none that
    /// a service of the trial answers, or none that can be sent without a user who is there.
    pub(super) async fn write(&self, world: &World) -> Result<Option<String>> {
        let config = self.version.config(&world.environment)?;
        let Some((traffic, port)) = self.declared(&config) else {
            return Ok(None);
        };
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let path = traffic.write.as_ref().map_or("", |write| &write.post);
        let Ok(load) = Load::start(addr, None, traffic.clone()).await else {
            return Ok(None);
        };
        let answered = timeout(WRITES, load.reached(1, 1)).await;
        let token = load.token().cloned();
        let report = load.stop().await;
        let name = self.version.name();
        let fails = |why: String| {
            let text = format!("{name} does not write: {why}");
            Diagnostic::error("rehearse::no-write", text)
        };
        if answered.is_err() || report.requests.failed > 0 {
            let why = report.requests.failures.first();
            return Err(fails(why.map_or_else(
                || format!("POST {path} was not acknowledged"),
                |failure| format!("POST {path} -> {}", failure.detail),
            )));
        }
        let found = load::read_back(addr, None, &traffic, token.as_ref(), &report.writes).await;
        match found {
            Ok(found) if found.lost + found.unreadable == 0 => Ok(Some(format!("POST {path}"))),
            Ok(_) => Err(fails(format!("what POST {path} wrote is not found again"))),
            Err(error) => Err(fails(error.to_string())),
        }
    }

    /// The traffic that is only its write, and where it is answered.
    fn declared(&self, config: &Config) -> Option<(Traffic, u16)> {
        let declared = config.traffic.as_ref()?;
        let write = declared.write.as_ref()?;
        let instances = self.version.instances.iter();
        let answers = instances.filter_map(|instance| {
            let routes = config.services[&instance.service].routes.iter();
            // What is cut off on the way there would have to be cut off here as well.
            let of = routes.filter(|route| !route.strip && is_below(&write.post, &route.path));
            let longest = of.map(|route| route.path.len()).max()?;
            Some((longest, instance.port?))
        });
        let (_, port) = answers.max()?;
        let traffic = Traffic {
            rate: 20,
            connections: 1,
            fresh: 0.0,
            requests: Vec::new(),
            zeros: Vec::new(),
            ..declared.clone()
        };
        Some((traffic, port))
    }
}

fn is_below(path: &str, route: &str) -> bool {
    let rest = path.strip_prefix(route.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}
