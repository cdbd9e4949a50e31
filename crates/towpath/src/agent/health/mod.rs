//! How an environment is, part by part, for as long as it serves.
//!
//! Instances are asked by who tends them (`supervise`), resources from here ([`watch`]). What that comes to is put
//! together whenever somebody wants to know ([`Monitor::look`]), and told to the gateway, which answers for it at the
//! environment's own paths. What has happened between two looks is not lost: a start that nobody saw is counted.

mod part;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use towpath_gateway::api::{self as gateway, Mode, Readiness, State};

use super::adopt;
use super::api::{Component, HealthStatus, Past, TrafficStatus, Word};
use super::metrics::Samples;
use crate::config::{Config, Role};
use crate::diagnostic::Diagnostic;
use crate::id::RunId;
use crate::release::{Environment, World, gateway_client, gateway_state, resource_instance};
use part::{Condition, Part};
use watch::Watch;

/// Pause between looks.
const LOOK: Duration = Duration::from_millis(500);

/// Longest wait for the first answers.
const MOMENT: Duration = Duration::from_secs(1);

/// Longest wait for the gateway.
const GATEWAY: Duration = Duration::from_secs(2);

/// How long what is told to the gateway counts, milliseconds: an agent becomes another build in less.
const LASTS_MS: u64 = 15_000;

/// What is known of an environment, and was.
#[derive(Default)]
pub(crate) struct Monitor(Mutex<Known>, Mutex<Samples>);

#[derive(Default)]
struct Known {
    config: Option<(RunId, Arc<Config>)>,
    watches: BTreeMap<String, Watch>,
    marks: BTreeMap<String, Mark>,
    /// What else is to be said.
    note: Option<String>,
}

/// What a part was at the last look.
#[derive(Debug, Clone)]
struct Mark {
    status: Word,
    since_ms: i64,
    error: Option<String>,
    last: Option<Past>,
    starts: u32,
}

/// A look at an environment.
struct Looked {
    health: HealthStatus,
    /// Whether every part was asked.
    is_whole: bool,
    config: Arc<Config>,
}

/// Looks after it all for as long as the agent lives.
pub(super) async fn keep(world: Arc<World>, monitor: Arc<Monitor>) {
    let mut rows = world.store.follow();
    loop {
        // What fails is said by whoever asks, and tried again.
        let _ = monitor.turn(&world).await;
        // What has just begun to serve is asked at once.
        let _ = timeout(LOOK, rows.changed()).await;
    }
}

impl Monitor {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of the last minute.
    pub fn samples(&self) -> MutexGuard<'_, Samples> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The requests of the last minute, by service.
    pub fn traffic(&self) -> BTreeMap<String, TrafficStatus> {
        self.samples().traffic()
    }

    /// Where the live version wants the metrics to be given; a rehearsal has no address that was declared.
    pub fn metrics_at(&self, world: &World) -> Option<SocketAddr> {
        let now = world.environment().ok()?;
        let config = self.known().config(world, &now).ok()??;
        config.metrics.filter(|_| !world.rehearsal)
    }

    /// Says something with the health from now on, or no longer.
    pub fn note(&self, note: Option<String>) {
        self.known().note = note;
    }

    async fn turn(&self, world: &Arc<World>) -> Result<(), Diagnostic> {
        let now = world.environment()?;
        self.known().watch(world, &now)?;
        let state = timeout(GATEWAY, gateway_state(world)).await.ok().flatten();
        let looked = self.look(world, &now, state.as_ref())?;
        if let (Some(looked), Some(_)) = (looked, state) {
            let _ = timeout(GATEWAY, tell(world, looked)).await;
        }
        Ok(())
    }

    /// As [`Monitor::look`], after a moment where something has only just begun to be asked.
    pub async fn look_whole(
        &self,
        world: &World,
        gateway: Option<&State>,
    ) -> Result<Option<HealthStatus>, Diagnostic> {
        let deadline = Instant::now() + MOMENT;
        loop {
            let looked = self.look(world, &world.environment()?, gateway)?;
            match looked {
                Some(looked) if !looked.is_whole && Instant::now() < deadline => {
                    sleep(Duration::from_millis(20)).await;
                }
                looked => return Ok(looked.map(|looked| looked.health)),
            }
        }
    }

    /// How the environment is; `None` while nothing serves.
    fn look(
        &self,
        world: &World,
        now: &Environment,
        gateway: Option<&State>,
    ) -> Result<Option<Looked>, Diagnostic> {
        let mut known = self.known();
        let Some(config) = known.config(world, now)? else {
            return Ok(None);
        };
        let mut parts = known.parts(world, now, &config);
        part::suffer(&mut parts, &config);
        let asked: BTreeSet<String> = parts
            .iter()
            .filter(|(_, part)| part.is_known)
            .map(|(name, _)| name.clone())
            .collect();
        let note = known.note.clone();
        let is_whole = asked.len() == parts.len();
        let at_ms = world.store.clock().wall_ms();
        known
            .marks
            .retain(|name, _| name == "gateway" || parts.contains_key(name));
        let components: BTreeMap<String, Component> = parts
            .into_iter()
            .map(|(name, part)| (name.clone(), known.mark(&name, part, at_ms)))
            .collect();
        let gateway = known.mark("gateway", of_gateway(gateway), at_ms);
        let known = components.iter().filter(|(name, _)| asked.contains(*name));
        let status = overall(known.map(|(_, one)| one).chain([&gateway]));
        Ok(Some(Looked {
            health: HealthStatus {
                status,
                at_ms,
                note,
                gateway,
                components,
            },
            is_whole,
            config,
        }))
    }
}

impl Known {
    fn config(
        &mut self,
        world: &World,
        now: &Environment,
    ) -> Result<Option<Arc<Config>>, Diagnostic> {
        let Some(live) = &now.live else {
            return Ok(None);
        };
        if let Some((run, config)) = &self.config
            && *run == live.run
        {
            return Ok(Some(config.clone()));
        }
        let config = Arc::new(live.config(&world.environment)?);
        self.config = Some((live.run, config.clone()));
        Ok(Some(config))
    }

    /// Has those resources asked that the live version has, and no others.
    fn watch(&mut self, world: &Arc<World>, now: &Environment) -> Result<(), Diagnostic> {
        let config = self.config(world, now)?;
        let none = BTreeMap::new();
        let wanted = config.as_ref().map_or(&none, |config| &config.resources);
        self.watches
            .retain(|name, watch| wanted.get(name).is_some_and(|found| watch.is_of(found)));
        for (name, resource) in wanted {
            if !self.watches.contains_key(name)
                && let Some(watch) = Watch::start(world, name, resource)
            {
                self.watches.insert(name.clone(), watch);
            }
        }
        Ok(())
    }

    fn parts(&self, world: &World, now: &Environment, config: &Config) -> BTreeMap<String, Part> {
        let health = world.supervisor.health();
        let critical = config.critical();
        let mut parts = BTreeMap::new();
        for (name, resource) in &config.resources {
            let server = resource
                .is_run()
                .then(|| health.get(&resource_instance(name)));
            let found = self.watches.get(name).map(Watch::found);
            if resource.alive.is_none() && server.is_none() {
                continue;
            }
            let part = part::resource(server, found, resource.alive.is_some());
            parts.insert(
                name.clone(),
                part.critical(critical.contains(name.as_str())),
            );
        }
        let live = now.live.iter().flat_map(|live| &live.instances);
        let live: Vec<_> = live.collect();
        let wanted = adopt::wanted(now);
        for (name, service) in &config.services {
            let instances = live.iter().filter(|one| one.service == *name);
            let of: Vec<_> = instances
                .map(|one| {
                    // Once a run has begun to turn the workers round, they are meant to be away.
                    let is_turned = one.port.is_none() && !wanted.contains(&one.id);
                    (&one.id, health.get(&one.id), is_turned)
                })
                .collect();
            if service.role == Role::Job || of.is_empty() {
                continue;
            }
            let part = part::service(&of);
            parts.insert(
                name.clone(),
                part.critical(critical.contains(name.as_str())),
            );
        }
        parts
    }

    /// Compares a part with what it was. What nobody has asked is nothing new.
    fn mark(&mut self, name: &str, part: Part, at_ms: i64) -> Component {
        if !part.is_known {
            let mark = self.marks.get(name);
            let last = mark.and_then(|mark| mark.last.clone());
            return component(part, at_ms, last);
        }
        let Part { status, error, .. } = &part;
        let mark = self.marks.entry(name.to_owned()).or_insert_with(|| Mark {
            status: *status,
            since_ms: at_ms,
            error: None,
            last: None,
            starts: part.starts,
        });
        let was_well = mark.status == Word::Healthy;
        if !was_well && *status == Word::Healthy {
            mark.last = Some(Past {
                error: mark.error.take(),
                from_ms: mark.since_ms,
                until_ms: at_ms,
            });
        } else if was_well && *status == Word::Healthy && part.starts > mark.starts {
            mark.last = Some(Past {
                error: part.ended.clone().map(|(how, _)| format!("it {how}")),
                from_ms: part.ended.as_ref().map_or(at_ms, |(_, ended_ms)| *ended_ms),
                until_ms: at_ms,
            });
        }
        if mark.status != *status {
            (mark.status, mark.since_ms) = (*status, at_ms);
        }
        mark.starts = part.starts;
        mark.error.clone_from(error);
        component(part, mark.since_ms, mark.last.clone())
    }
}

fn component(part: Part, since_ms: i64, last: Option<Past>) -> Component {
    Component {
        kind: part.kind.to_owned(),
        status: part.status,
        critical: part.critical,
        since_ms,
        error: part.error,
        last,
        ready: part.instances.map(|(ready, _)| ready),
        of: part.instances.map(|(_, of)| of),
        restarts: part.is_ours.then_some(part.starts),
        connections: part.connections,
    }
}

fn of_gateway(state: Option<&State>) -> Part {
    let condition = match state.map(|state| &state.mode) {
        None => Condition::Ill("it does not answer on its control socket".to_owned()),
        Some(Mode::Closed) => Condition::Ill("it is closed, and answers with 503".to_owned()),
        Some(Mode::Open | Mode::Held { .. }) => Condition::Well,
    };
    Part::new("gateway", condition).critical(true)
}

/// As bad as what is critical, and no better than degraded where anything fails.
fn overall<'a>(parts: impl Iterator<Item = &'a Component>) -> Word {
    let each = parts.map(|one| match one.critical {
        true => one.status,
        false => one.status.min(Word::Degraded),
    });
    each.max().unwrap_or(Word::Healthy)
}

/// Tells the gateway what to answer, now and when it hears no more. What was not asked yet is not passed off as known.
async fn tell(world: &World, looked: Looked) {
    let paths = &looked.config.health;
    if paths.ready.is_none() || !looked.is_whole {
        return;
    }
    let health = match paths.errors {
        true => looked.health,
        false => looked.health.quiet(),
    };
    let afterwards = HealthStatus {
        status: health.status.max(Word::Degraded),
        note: Some("the agent is silent: this is what it has said last".to_owned()),
        ..health.clone()
    };
    let readiness = Readiness {
        now: word(&health),
        lasts_ms: LASTS_MS,
        afterwards: word(&afterwards),
    };
    // One that does not take it is told again at the next look.
    let _ = gateway_client(world).readiness(&readiness).await;
}

fn word(health: &HealthStatus) -> gateway::Word {
    gateway::Word {
        ready: health.status != Word::Unhealthy,
        json: serde_json::to_string(health).unwrap_or_default(),
    }
}
