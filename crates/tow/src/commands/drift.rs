//! Where what is typed, what is applied, and what runs differ.

use std::collections::{BTreeMap, BTreeSet};

use towpath::agent::ClientError;
use towpath::config::{self, Config};
use towpath::manifest::Manifest;
use towpath::release::{Drift, GATEWAY, addresses, declared};
use towpath::secret::File;

use super::Ending;
use crate::cli::{Cli, Here};
use crate::place::App;
use crate::{connect, out, render};

/// One name of one instance's environment that is not everywhere the same.
#[derive(serde::Serialize)]
struct Row {
    service: String,
    /// Empty where nothing of the service runs.
    instance: String,
    name: String,
    staged: String,
    applied: String,
    live: String,
}

/// `tow config drift`.
pub async fn drift(cli: &Cli, here: &Here) -> Ending {
    let app = App::find(cli)?;
    let place = app.place(&here.environment)?;
    let invalid = |report| out::invalid_manifest(&report, here.json);
    let manifest = Manifest::parse("tow.toml", &app.text).map_err(invalid)?;
    let config = config::resolve(&manifest, &place.environment).map_err(invalid)?;
    let secrets = File::of(&app.root, &app.name).map_err(|error| super::secrets::failed(&error))?;
    let there = match connect::existing(&place).await? {
        None => Vec::new(),
        Some(client) => {
            let told: Result<Vec<Drift>, ClientError> = client.get("/v1/drift").await;
            told.map_err(ClientError::into_trouble)?
        }
    };
    let staged = config.services.iter().map(|(name, service)| {
        let staged = declared(service, secrets.as_ref(), &place.environment);
        (name.clone(), staged)
    });
    let mut staged: Staged = staged.collect();
    staged.extend(of_gateway(&config, &there));
    let rows = rows(&staged, &there);
    if here.json {
        out::json(&rows);
        return Ok(0);
    }
    out::note(render::place(&place));
    if rows.is_empty() {
        out::say("what is typed here, what is applied and what runs are the same");
        return Ok(0);
    }
    let row = |one: &Row| {
        let Row {
            service,
            instance,
            name,
            staged,
            applied,
            live,
        } = one;
        let owner = if instance.is_empty() {
            service
        } else {
            instance
        };
        [owner, name, staged, applied, live]
            .map(String::clone)
            .to_vec()
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    out::say(render::table(
        &["INSTANCE", "NAME", "STAGED", "APPLIED", "LIVE"],
        &rows,
    ));
    Ok(0)
}

/// By service, the environment that each is to have.
type Staged = BTreeMap<String, BTreeMap<String, String>>;

/// Where the gateway is to listen, once there is one; what is left to the agent is as the agent says.
fn of_gateway(config: &Config, there: &[Drift]) -> Option<(String, BTreeMap<String, String>)> {
    let found = there.iter().find(|one| one.service == GATEWAY)?;
    let mut staged = addresses(config.listen, config.tls.as_ref());
    let applied = found.applied.get_key_value("listen");
    if let (None, Some((key, applied))) = (config.listen, applied) {
        staged.insert(key.clone(), applied.clone());
    }
    Some((found.service.clone(), staged))
}

fn rows(staged: &Staged, there: &[Drift]) -> Vec<Row> {
    let known = there.iter().map(|one| &one.service);
    let services: BTreeSet<&String> = staged.keys().chain(known).collect();
    let mut rows = Vec::new();
    for service in services {
        let found = there.iter().find(|one| one.service == *service);
        let empty = BTreeMap::new();
        let staged = staged.get(service).unwrap_or(&empty);
        let applied = found.map_or(&empty, |one| &one.applied);
        let nothing = [(String::new(), &empty)];
        let live: Vec<(String, &BTreeMap<String, String>)> = found
            .into_iter()
            .flat_map(|one| &one.live)
            .map(|(id, env)| (id.to_string(), env))
            .collect();
        let live = if live.is_empty() {
            nothing.to_vec()
        } else {
            live
        };
        let names: BTreeSet<&String> = staged.keys().chain(applied.keys()).collect();
        for (instance, env) in &live {
            for name in &names {
                let of = |side: &BTreeMap<String, String>| {
                    side.get(*name).cloned().unwrap_or("-".to_owned())
                };
                let (one, other, third) = (of(staged), of(applied), of(env));
                if one == other && other == third {
                    continue;
                }
                rows.push(Row {
                    service: service.clone(),
                    instance: instance.clone(),
                    name: (*name).clone(),
                    staged: one,
                    applied: other,
                    live: third,
                });
            }
        }
    }
    rows
}
