//! One part of an environment at one look: how a service is by its instances, a resource by its server and its
//! answers, and what becomes of a service when something that it needs fails.

use std::collections::BTreeMap;

use towpath_shim::protocol::{Exit, State};

use super::super::api::Word;
use super::watch::Found;
use crate::config::Config;
use crate::id::InstanceId;
use crate::release::ending;
use crate::supervise::Health;

/// Said of what is not known: that it is well is not taken for granted.
const NOT_ASKED: &str = "it has not answered yet";

/// How something that is asked is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    Well,
    /// Nobody has asked it yet.
    Unknown,
    /// And why.
    Ill(String),
}

/// A part.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub kind: &'static str,
    pub status: Word,
    pub is_known: bool,
    pub error: Option<String>,
    pub critical: bool,
    /// Those that are well, and all.
    pub instances: Option<(usize, usize)>,
    /// Whether it is ours to start.
    pub is_ours: bool,
    pub starts: u32,
    /// How it ended last, and when.
    pub ended: Option<(String, i64)>,
    pub connections: Option<u64>,
}

impl Part {
    pub fn new(kind: &'static str, condition: Condition) -> Part {
        let is_known = condition != Condition::Unknown;
        let (status, error) = match condition {
            Condition::Well => (Word::Healthy, None),
            Condition::Unknown => (Word::Degraded, Some(NOT_ASKED.to_owned())),
            Condition::Ill(why) => (Word::Unhealthy, Some(why)),
        };
        Part {
            kind,
            status,
            is_known,
            error,
            critical: false,
            instances: None,
            is_ours: false,
            starts: 0,
            ended: None,
            connections: None,
        }
    }

    pub fn critical(mut self, critical: bool) -> Part {
        self.critical = critical;
        self
    }

    fn ours(mut self, health: &[Option<&Health>]) -> Part {
        let health = || health.iter().flatten();
        self.is_ours = true;
        self.starts = health().map(|health| health.starts()).sum();
        let exits = health().filter_map(|health| health.status.as_ref()?.last_exit.as_ref());
        let last = exits.max_by_key(|exit| exit.at_ms);
        self.ended = last.map(|exit| {
            let at_ms = i64::try_from(exit.at_ms).unwrap_or_default();
            (ending(Some(exit)), at_ms)
        });
        self
    }
}

/// How an instance is that somebody tends.
fn condition(health: Option<&Health>) -> Condition {
    let Some(health) = health else {
        return Condition::Ill("it does not run".to_owned());
    };
    let exit = health
        .status
        .as_ref()
        .and_then(|status| status.last_exit.as_ref());
    let ended = || ending(exit);
    let why = match health.status.as_ref().map(|status| &status.state) {
        _ if health.gave_up => format!("it {}, again and again, and is given up", ended()),
        None if health.healthy == Some(false) => {
            let why = health.error.clone().unwrap_or_default();
            format!("it cannot be started: {why}")
        }
        None => return Condition::Unknown,
        Some(State::Backoff { .. }) => format!("it {}, and is started again", ended()),
        Some(State::Stopping | State::Ended) => "it is stopped".to_owned(),
        Some(State::Running { .. }) if health.is_coming() => coming(exit, health),
        Some(State::Running { .. }) => match health.healthy {
            Some(false) => health
                .error
                .clone()
                .unwrap_or_else(|| "its probe fails".to_owned()),
            None if health.is_asked => return Condition::Unknown,
            _ => return Condition::Well,
        },
    };
    Condition::Ill(why)
}

fn coming(exit: Option<&Exit>, health: &Health) -> String {
    let since = format!(
        "it {}, and has not answered since it was started again",
        ending(exit)
    );
    match &health.error {
        Some(error) => format!("{since}: {error}"),
        None => since,
    }
}

/// A service by its instances: each with whether it is meant to be away.
pub(super) fn service(instances: &[(&InstanceId, Option<&Health>, bool)]) -> Part {
    let conditions: Vec<_> = instances
        .iter()
        .map(|(id, health, is_away)| match condition(*health) {
            // Nothing is asked of what is meant to be away.
            _ if *is_away => (id, Condition::Well),
            condition => (id, condition),
        })
        .collect();
    let ill: Vec<_> = conditions
        .iter()
        .filter_map(|(id, condition)| match condition {
            Condition::Ill(why) => Some((id, why)),
            _ => None,
        })
        .collect();
    let (all, ready) = (conditions.len(), conditions.len() - ill.len());
    let is_known = conditions.iter().all(|(_, one)| *one != Condition::Unknown);
    let health: Vec<_> = instances.iter().map(|(_, health, _)| *health).collect();
    let condition = match ill.first() {
        Some((_, why)) if all == 1 => Condition::Ill((*why).clone()),
        Some((id, why)) => Condition::Ill(format!("{} of {all}: {id}: {why}", ill.len())),
        None if !is_known => Condition::Unknown,
        None => Condition::Well,
    };
    let mut part = Part::new("service", condition).ours(&health);
    if !ill.is_empty() && ready > 0 {
        part.status = Word::Degraded;
    }
    part.is_known = is_known;
    part.instances = Some((ready, all));
    part
}

/// A resource by its server, where that is ours, and by its answers, where it is asked.
pub(super) fn resource(
    server: Option<Option<&Health>>,
    found: Option<Found>,
    is_asked: bool,
) -> Part {
    let answers = match &found {
        Some(Found {
            well: Some(true), ..
        }) => Condition::Well,
        Some(Found {
            well: Some(false),
            error,
            ..
        }) => Condition::Ill(error.clone().unwrap_or_default()),
        _ if is_asked => Condition::Unknown,
        _ => Condition::Well,
    };
    let runs = server.map(condition);
    let condition = match (runs, answers) {
        (Some(Condition::Ill(why)), _) => Condition::Ill(why),
        (_, answers) => answers,
    };
    let part = Part::new("resource", condition);
    let part = match server {
        Some(server) => part.ours(&[server]),
        None => part,
    };
    Part {
        connections: found.and_then(|found| found.seen.connections),
        ..part
    }
}

/// A service is not well where something is not that it needs.
pub(super) fn suffer(parts: &mut BTreeMap<String, Part>, config: &Config) {
    for name in &config.order {
        let Some(service) = config.services.get(name) else {
            continue;
        };
        let fails = |need: &&String| {
            let part = parts.get(need.as_str());
            part.is_some_and(|part| part.status == Word::Unhealthy)
        };
        let failing: Vec<String> = service
            .needs
            .iter()
            .filter(fails)
            .map(|need| match service.optional.contains(need) {
                true => format!("`{need}`, which it can do without, is unhealthy"),
                false => format!("`{need}`, which it needs, is unhealthy"),
            })
            .collect();
        if let Some(part) = parts.get_mut(name).filter(|_| !failing.is_empty()) {
            part.status = part.status.max(Word::Degraded);
            let own = part.error.take().into_iter();
            part.error = Some(own.chain(failing).collect::<Vec<_>>().join("; "));
        }
    }
}
