//! The secrets of an environment without their values, and how far the rotation of one is.

use std::collections::BTreeMap;

use towpath::agent::api::Trouble;
use towpath::release::LoginStatus;
use towpath::secret::Row;

use super::super::Ending;
use super::store::checked;
use super::{database, file};
use crate::cli::Cli;
use crate::place::{App, Place};
use crate::{connect, out, render, times};

/// A secret, as a list shows it.
#[derive(serde::Serialize)]
struct Listed {
    name: String,
    version: Option<u32>,
    /// The user that connects, of a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    set_ms: Option<i64>,
    services: Vec<String>,
    rotation: Option<Rotates>,
}

/// How far a rotation is, as a list shows it.
#[derive(serde::Serialize)]
struct Rotates {
    stage: &'static str,
    /// The version, or the user, that is still good.
    old: String,
    until_ms: Option<i64>,
}

impl Rotates {
    fn of(row: &Row) -> Option<Rotates> {
        let rotation = row.rotation.as_ref()?;
        Some(Rotates {
            stage: rotation.stage.name(),
            old: rotation.version.to_string(),
            until_ms: (rotation.until > 0).then_some(rotation.until * 1000),
        })
    }

    fn told(&self) -> String {
        let left = self.until_ms.map(|until| until - times::now_ms());
        match (self.stage, left) {
            ("overlapping", Some(left @ 1..)) => {
                let left = times::span(left.unsigned_abs());
                format!("overlapping: {} is good for {left}", self.old)
            }
            ("overlapping", _) => format!("overlapping: {} is to be revoked", self.old),
            (stage, _) => format!("{stage}: {} is still there", self.old),
        }
    }
}

impl Listed {
    fn new(name: &str) -> Listed {
        Listed {
            name: name.to_owned(),
            version: None,
            user: None,
            set_ms: None,
            services: Vec::new(),
            rotation: None,
        }
    }

    fn is_missing(&self) -> bool {
        self.version.is_none() && self.user.is_none()
    }

    fn cells(&self) -> Vec<String> {
        let version = self.version.map(|version| version.to_string());
        let version = version.or_else(|| self.user.clone());
        vec![
            self.name.clone(),
            version.unwrap_or("missing".to_owned()),
            self.set_ms.map_or("-".to_owned(), times::ago),
            self.services.join(", "),
            self.rotation.as_ref().map_or(String::new(), Rotates::told),
        ]
    }
}

/// `tow secrets list`.
pub async fn list(cli: &Cli, environment: &str, json: bool) -> Ending {
    let place = App::find(cli)?.place(environment)?;
    let all = gathered(&place).await?;
    if json {
        out::json(&all);
        return Ok(0);
    }
    out::note(render::place(&place));
    let rows: Vec<_> = all.iter().map(Listed::cells).collect();
    out::say(render::table(
        &["SECRET", "VERSION", "SET", "SERVICES", "ROTATION"],
        &rows,
    ));
    if let Some(first) = all.iter().find(|one| one.is_missing()) {
        let name = &first.name;
        out::note(format!(
            "missing in {environment}: {name}; run `tow secrets set {name} -e {environment}`"
        ));
    }
    Ok(0)
}

async fn gathered(place: &Place) -> Result<Vec<Listed>, Trouble> {
    let environment = &place.environment;
    let file = file(&place.app)?;
    if let Some(file) = &file {
        checked(file, &place.app.name, environment)?;
    }
    let mut all: BTreeMap<String, Listed> = BTreeMap::new();
    let rows = file.and_then(|mut file| file.environments.remove(environment));
    for (name, row) in rows.unwrap_or_default().rows {
        let one = all
            .entry(name.clone())
            .or_insert_with(|| Listed::new(&name));
        (one.version, one.set_ms) = (Some(row.version), Some(row.set * 1000));
        one.rotation = Rotates::of(&row);
    }
    let Some(config) = place.config() else {
        return Ok(all.into_values().collect());
    };
    for (service, one) in &config.services {
        for name in &one.secrets {
            let one = all.entry(name.clone()).or_insert_with(|| Listed::new(name));
            one.services.push(service.clone());
        }
    }
    for (name, secret) in &config.secrets {
        if let Some(resource) = &secret.resource
            && let Some(status) = login(place, resource).await?
        {
            all.insert(name.clone(), of_database(name, status));
        }
    }
    Ok(all.into_values().collect())
}

async fn login(place: &Place, resource: &str) -> Result<Option<LoginStatus>, Trouble> {
    let Some(client) = connect::existing(place).await? else {
        return Ok(None);
    };
    match database::look(&client, resource).await {
        Ok(status) => Ok(Some(status)),
        Err(trouble) if trouble.diagnostic.code == "resource::not-provided" => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

fn of_database(name: &str, status: LoginStatus) -> Listed {
    Listed {
        user: Some(status.user),
        set_ms: (status.set_ms > 0).then_some(status.set_ms),
        rotation: status.previous.map(|old| Rotates {
            stage: "revoking",
            old,
            until_ms: None,
        }),
        ..Listed::new(name)
    }
}
