//! Who looked at which secret: on this machine, and in the environment.

use std::path::Path;

use towpath::agent::ClientError;
use towpath::agent::api::{AuditRows, Trouble};
use towpath::secret::{Audit, Event, Head, audit as chains};
use towpath::state::write_whole;

use super::super::Ending;
use super::store::Store;
use super::trouble;
use crate::cli::Cli;
use crate::place::{App, Place};
use crate::{connect, out, render, times};

/// One chain with what is known of its end.
struct Chain {
    /// Where it is, for people.
    whose: &'static str,
    audit: Audit,
    rows: Vec<String>,
    head: Option<Head>,
    key: String,
}

/// `tow secrets audit`.
pub async fn audit(cli: &Cli, environment: &str, verify: bool, json: bool) -> Ending {
    let place = App::find(cli)?.place(environment)?;
    if !json {
        out::note(render::place(&place));
    }
    let store = Store::open(&place)?;
    let mut chains = vec![own(&store)?];
    chains.extend(of_agent(&place).await?);
    let mut events: Vec<(&str, Event)> = Vec::new();
    for chain in &chains {
        let found = match verify {
            true => verified(chain, &store)?,
            false => chain
                .rows
                .iter()
                .filter_map(|row| serde_json::from_str(row).ok())
                .collect(),
        };
        events.extend(found.into_iter().map(|event| (chain.whose, event)));
    }
    events.sort_by_key(|(_, event)| event.at_ms);
    if json {
        let events: Vec<_> = events.iter().map(|(_, event)| event).collect();
        out::json(&events);
        return Ok(0);
    }
    let row = |(whose, event): &(&str, Event)| {
        vec![
            times::ago(event.at_ms),
            event.actor.clone(),
            event.action.clone(),
            event.keys.join(", "),
            (*whose).to_owned(),
        ]
    };
    let rows: Vec<_> = events.iter().map(row).collect();
    out::say(render::table(
        &["WHEN", "WHO", "DID", "SECRETS", "CHAIN"],
        &rows,
    ));
    for chain in chains.iter().filter(|_| verify) {
        out::say(format!(
            "{}: {} rows, whole and signed",
            chain.whose,
            chain.rows.len()
        ));
    }
    Ok(0)
}

fn own(store: &Store) -> Result<Chain, Trouble> {
    let audit = store.chain();
    let (rows, head) = audit.read().map_err(|error| super::failed(&error))?;
    Ok(Chain {
        whose: "here",
        audit,
        rows,
        head,
        key: store.identity.contact().key.unwrap_or_default(),
    })
}

async fn of_agent(place: &Place) -> Result<Option<Chain>, Trouble> {
    let Some(client) = connect::existing(place).await? else {
        return Ok(None);
    };
    let told: AuditRows = client
        .get("/v1/secrets/audit")
        .await
        .map_err(ClientError::into_trouble)?;
    Ok(Some(Chain {
        whose: "agent",
        audit: chains::of_agent(Path::new(""), &place.app.name, &place.environment),
        rows: told.rows,
        head: told.head,
        key: told.key,
    }))
}

fn verified(chain: &Chain, store: &Store) -> Result<Vec<Event>, Trouble> {
    let path = store.seen_head(chain.whose);
    let seen: Option<Head> = std::fs::read(&path)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    // Somebody else's key would sign anything: it is the one that was there first.
    let key = seen.as_ref().map_or(&chain.key, |seen| &seen.key);
    let (rows, head) = (&chain.rows, chain.head.as_ref());
    let events = chain.audit.verify(rows, head, key, seen.as_ref());
    let events = events.map_err(|error| {
        let text = format!("the audit ({}) is not whole: {error}", chain.whose);
        let help = "somebody has changed it: find out who could, and rotate what they could read";
        trouble(1, "secret::audit", text, help)
    })?;
    if let Some(head) = head {
        let text = serde_json::to_vec(head).unwrap_or_default();
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder.and_then(|()| write_whole(&path, &text));
        written.map_err(|error| super::super::inner::failed(&error))?;
    }
    Ok(events)
}
