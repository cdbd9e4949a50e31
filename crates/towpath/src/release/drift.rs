//! What is applied, and what instances really run with. Values are told apart by hashes: none of them is shown.
//!
//! *Applied* is what the manifest of the version that serves means here, and the secrets that came last. *Live* is what
//! each instance was started with: its shim's start file, and for secrets the audit. The third, *staged*, is what the
//! manifest and the secrets beside whoever asks would mean; they compare it themselves.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use towpath_shim::protocol::Spec;

use super::gateway::{GATEWAY, listen_of, tls_of};
use super::{Environment, World};
use crate::config::{Config, Service, Tls};
use crate::diagnostic::Diagnostic;
use crate::id::{Digest, InstanceId};
use crate::secret::keep::Keeper;
use crate::secret::rotation::Given;
use crate::secret::{File, audit};
use crate::supervise::Process;

/// The environment of one service, by name; of the gateway, where it listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The service, or `gateway`.
    pub service: String,
    /// What is applied.
    pub applied: BTreeMap<String, String>,
    /// What each instance runs with: a hash as in `applied` where it is the same.
    pub live: BTreeMap<InstanceId, BTreeMap<String, String>>,
}

/// Hashes of what a configuration says of a service's environment, references as they are typed; of a secret its version.
#[must_use]
pub fn declared(
    service: &Service,
    secrets: Option<&File>,
    environment: &str,
) -> BTreeMap<String, String> {
    let plain = service.env.iter().map(|(name, template)| {
        let hash = Digest::of(template.to_string().as_bytes()).short();
        (name.clone(), short(&hash))
    });
    let versions = service.secrets.iter().map(|name| {
        let row = secrets.and_then(|file| file.row(environment, name));
        let version = row.map_or("missing".to_owned(), |row| {
            format!("version {}", row.version)
        });
        (name.clone(), version)
    });
    plain.chain(versions).collect()
}

fn short(hash: &str) -> String {
    hash.chars().take(8).collect()
}

/// What is applied and live of every service that has something to say.
///
/// # Errors
/// When the journal, the manifest or the secrets cannot be read.
pub fn drift(world: &World) -> Result<Vec<Drift>, Diagnostic> {
    let now = world.environment()?;
    let Some(live) = &now.live else {
        return Ok(Vec::new());
    };
    let config = live.config(&world.environment)?;
    let places = world.supervisor.places();
    let processes = live.processes(&world.environment, places, world.user)?;
    let failed =
        |error: crate::secret::Error| Diagnostic::error("secret::failed", error.to_string());
    let file = Keeper::new(&places.state).file().map_err(failed)?;
    let chain = audit::of_agent(&places.state, &world.app, &world.environment);
    let (rows, _) = chain.read().map_err(failed)?;
    let given = audit::given(&rows);
    let of = |(name, service): (&String, &Service)| {
        let applied = declared(service, file.as_ref(), &world.environment);
        let own = processes
            .values()
            .filter(|process| process.service == *name);
        let live = own.filter_map(|process| {
            let spec = std::fs::read(places.run(&process.id).join("spec.json")).ok()?;
            let spec: Spec = serde_json::from_slice(&spec).ok()?;
            Some((
                process.id.clone(),
                one(process, &spec, &applied, given.get(&process.id.0)),
            ))
        });
        Drift {
            service: name.clone(),
            live: live.collect(),
            applied,
        }
    };
    let services = |config: &Config| config.services.iter().map(of).collect::<Vec<_>>();
    let mut all = services(&config);
    all.extend(of_gateway(world, &now, &config));
    all.retain(|one| !one.applied.is_empty());
    Ok(all)
}

/// Where a gateway is to listen, by the keys of the manifest.
#[must_use]
pub fn addresses(listen: Option<SocketAddr>, tls: Option<&Tls>) -> BTreeMap<String, String> {
    let tls = tls.map(|tls| ("listen_tls", tls.listen));
    let both = listen
        .map(|listen| ("listen", listen))
        .into_iter()
        .chain(tls);
    both.map(|(key, address)| (key.to_owned(), address.to_string()))
        .collect()
}

/// An address that the manifest leaves to the agent is as it is to be, whatever it is.
fn of_gateway(world: &World, now: &Environment, config: &Config) -> Option<Drift> {
    let listen = now.gateway.clone()?;
    let tls = now.gateway_tls.clone().map(|tls| ("listen_tls", tls));
    let live = [("listen", listen.clone())].into_iter().chain(tls);
    let live: BTreeMap<_, _> = live.map(|(key, at)| (key.to_owned(), at)).collect();
    let mut applied = addresses(listen_of(world, config), tls_of(world, config));
    applied.entry("listen".to_owned()).or_insert(listen);
    Some(Drift {
        service: GATEWAY.to_owned(),
        applied,
        live: [(InstanceId(GATEWAY.to_owned()), live)].into(),
    })
}

fn one(
    process: &Process,
    spec: &Spec,
    applied: &BTreeMap<String, String>,
    given: Option<&Given>,
) -> BTreeMap<String, String> {
    let mut live = BTreeMap::new();
    for (name, hash) in applied {
        let found = if process.secrets.contains(name) {
            given
                .and_then(|given| given.get(name))
                .map(|version| format!("version {version}"))
        } else if process.container.is_some() || process.env.get(name) == spec.env.get(name) {
            Some(hash.clone())
        } else {
            // The hash of a value that may hold a password would let it be guessed.
            Some("another value".to_owned())
        };
        live.insert(name.clone(), found.unwrap_or("none".to_owned()));
    }
    live
}
