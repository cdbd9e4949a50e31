//! The three environments, and what is done in them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use towpath::agent::api::{Begin, Begun, Hello, Status, Trouble, What};
use towpath::agent::{Client, ClientError};
use towpath::build;
use towpath::config::{Config, Server, Traffic};
use towpath::diagnostic::Diagnostic;
use towpath::id::{Digest, ReleaseId, token};
use towpath::link;
use towpath::release::Sabotage;

use super::databases;
use super::report::{Report, StepDone};
use super::scratch::Scratch;
use super::secrets::Secrets;
use super::servers::{Host, Way};
use crate::commands::deploy::carry;
use crate::follow::{Course, Tell, follow};
use crate::place::{App, Place, Rehearsal};
use crate::progress::Carrying;
use crate::{connect, link as links, out};

/// Local, staging and production of a rehearsal.
pub struct Stage {
    local: Place,
    /// The first environment of the way.
    pub staging: Place,
    /// The last.
    pub production: Place,
    /// The declared load.
    pub traffic: Traffic,
    /// Agents on servers that may have been started.
    begun: Vec<Place>,
    secrets: Secrets,
}

impl Stage {
    /// Names the environments, those on `servers` and the others on this machine, whatever the
    /// manifest says: nothing is started.
    pub fn open(
        scratch: &Scratch,
        config: &Config,
        servers: &BTreeMap<String, Server>,
    ) -> Result<Stage, Trouble> {
        let states = Some(scratch.states());
        let committed = App::open(&scratch.source(), states.clone())?;
        let tree = App::open(&scratch.local(), states)?;
        let name = format!("r{:.16}", token().unwrap_or_default());
        let place = |app: &App, environment: &str| {
            let server = servers.get(environment).cloned();
            let rehearsal = match &server {
                Some(_) => Rehearsal::There(link::Rehearsal {
                    name: name.clone(),
                    lasts: lasts().as_secs(),
                    begins: false,
                }),
                None => Rehearsal::Here,
            };
            app.place(environment).map(|place| Place {
                rehearsal,
                server,
                ..place
            })
        };
        let traffic = config.traffic.clone().ok_or_else(super::undeclared)?;
        let (first, last) = (config.promote.first(), config.promote.last());
        Ok(Stage {
            local: place(&tree, "local")?,
            staging: place(&committed, first.map_or("", String::as_str))?,
            production: place(&committed, last.map_or("", String::as_str))?,
            traffic,
            begun: Vec::new(),
            secrets: Secrets::new(&scratch.dir),
        })
    }

    /// Has agents started on the servers.
    pub async fn begin(&mut self) -> Result<(), Trouble> {
        for place in [self.staging.clone(), self.production.clone()] {
            let (Some(server), Rehearsal::There(rehearsal)) = (&place.server, &place.rehearsal)
            else {
                continue;
            };
            out::note(format!(
                "  ...    {:<12}begin on {server}",
                place.environment
            ));
            let rehearsal = link::Rehearsal {
                begins: true,
                ..rehearsal.clone()
            };
            self.begun.push(place.clone());
            let first = Place {
                rehearsal: Rehearsal::There(rehearsal),
                ..place.clone()
            };
            connect::agent(&first).await?;
        }
        Ok(())
    }

    /// Shows the agents on servers that somebody is there; never ends by itself.
    pub async fn beat(&self) {
        let mut clients = Vec::new();
        for place in &self.begun {
            clients.extend(connect::agent(place).await.ok());
        }
        loop {
            for client in &clients {
                // One that is not heard is not the last.
                let _: Result<Hello, _> = client.get("/v1/hello").await;
            }
            sleep(lasts() / 12).await;
        }
    }

    /// Where environments were that were not on this machine.
    pub fn hosts(&self) -> Vec<Host> {
        let host = |place: &Place| Host {
            environment: place.environment.clone(),
            server: place.whereabouts(),
            load: "through ssh",
        };
        self.begun.iter().map(host).collect()
    }

    /// Runs the source tree, looks at it, stops it.
    pub async fn local(&self, report: &mut Report) -> Result<(), Trouble> {
        let app = &self.local.app;
        let client = connect::agent(&self.local).await?;
        let asked = self.secrets.hand_over(&self.local, &client, &app.text);
        asked.await?;
        let what = What::Up {
            root: app.root.clone(),
            manifest: app.text.clone(),
        };
        self.must(&self.local, what, "run the source tree", report)
            .await?;
        self.look(&self.local, report).await?;
        self.must(&self.local, What::Down, "stop it", report)
            .await?;
        let client = connect::agent(&self.local).await?;
        let _: Result<(), _> = client.post("/v1/exit", &()).await;
        Ok(())
    }

    /// Brings the first version all the way.
    pub async fn first(&self, report: &mut Report) -> Result<(), Trouble> {
        self.deploy("deploy the first version", report).await?;
        self.look(&self.staging, report).await?;
        let begun = Instant::now();
        let (release, client) = self.carry().await?;
        let course = run(
            &self.production,
            &client,
            What::Promote { release },
            None,
            Tell::Step,
        )
        .await?;
        self.done(
            &self.production,
            "promote it",
            begun,
            course,
            &mut report.steps,
        )?;
        self.look(&self.production, report).await
    }

    /// Notes which databases an environment is on.
    async fn look(&self, place: &Place, report: &mut Report) -> Result<(), Trouble> {
        let found = databases::of(place, &self.status(place).await?);
        found.iter().for_each(|one| out::note(one.line()));
        report.databases.extend(found);
        Ok(())
    }

    /// Brings the next version into staging.
    pub async fn next(&self, scratch: &Scratch, report: &mut Report) -> Result<(), Trouble> {
        scratch.lay_next()?;
        self.deploy("deploy the next version", report).await
    }

    async fn deploy(&self, name: &str, report: &mut Report) -> Result<(), Trouble> {
        let begun = Instant::now();
        out::note(format!("  ...    {:<12}{name}", self.staging.environment));
        let (client, what) = self.archive().await?;
        let course = run(&self.staging, &client, what, None, Tell::Step).await?;
        self.done(&self.staging, name, begun, course, &mut report.steps)
    }

    /// Sends what is committed to staging; gives what to do with it.
    pub async fn archive(&self) -> Result<(Client, What), Trouble> {
        let root = &self.staging.app.root;
        let failed = |error: build::Error| Trouble {
            exit: 1,
            diagnostic: Diagnostic::error("rehearse::source", error.to_string()),
        };
        let source = build::commit_of(root, true).map_err(failed)?;
        let archive = build::pack_head(root).map_err(failed)?;
        let tree = Digest::of(&archive);
        let client = connect::agent(&self.staging).await?;
        self.hand_over(&self.staging, &client).await?;
        client
            .put_blob(tree, archive, Carrying::new("source", true).progress())
            .await
            .map_err(ClientError::into_trouble)?;
        Ok((client, What::Deploy { tree, source }))
    }

    /// Carries what is live in staging to production; gives its number there.
    pub async fn carry(&self) -> Result<(ReleaseId, Client), Trouble> {
        let from = connect::agent(&self.staging).await?;
        let to = connect::agent(&self.production).await?;
        self.hand_over(&self.production, &to).await?;
        Ok((carry(&from, &self.staging, &to, true).await?, to))
    }

    /// What the version that is laid out now asks for.
    async fn hand_over(&self, place: &Place, client: &Client) -> Result<(), Trouble> {
        let manifest = self.staging.app.root.join("tow.toml");
        let text = std::fs::read_to_string(manifest).unwrap_or_default();
        self.secrets.hand_over(place, client, &text).await
    }

    async fn must(
        &self,
        place: &Place,
        what: What,
        name: &str,
        report: &mut Report,
    ) -> Result<(), Trouble> {
        let begun = Instant::now();
        out::note(format!("  ...    {:<12}{name}", place.environment));
        let client = connect::agent(place).await?;
        let course = run(place, &client, what, None, Tell::Step).await?;
        self.done(place, name, begun, course, &mut report.steps)
    }

    /// Notes a step that must have been done; ends the rehearsal where it was not.
    pub fn done(
        &self,
        place: &Place,
        name: &str,
        begun: Instant,
        course: Course,
        steps: &mut Vec<StepDone>,
    ) -> Result<(), Trouble> {
        let outcome = course.outcome.clone();
        let step = StepDone {
            environment: place.environment.clone(),
            step: name.to_owned(),
            outcome: outcome.clone(),
            took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        out::note(step.line());
        steps.push(step);
        match course.failure {
            _ if outcome == "done" => Ok(()),
            Some(diagnostic) => Err(Trouble {
                exit: course_exit(&outcome),
                diagnostic,
            }),
            None => {
                let text = format!("`{name}` ended as {outcome}");
                Err(Trouble {
                    exit: course_exit(&outcome),
                    diagnostic: Diagnostic::error("rehearse::step", text),
                })
            }
        }
    }

    /// The way of a load to an environment's gateway.
    pub async fn way(&self, place: &Place) -> Result<Way, Trouble> {
        let address = self.address(place).await?;
        match &place.server {
            Some(server) => Way::through(server, address).await,
            None => Ok(Way::here(address)),
        }
    }

    /// Where an environment's gateway listens, on its machine.
    async fn address(&self, place: &Place) -> Result<SocketAddr, Trouble> {
        let status = self.status(place).await?;
        let address = status.listen.and_then(|listen| listen.parse().ok());
        address.ok_or_else(|| {
            let text = format!("{} has no gateway", place.environment);
            Trouble {
                exit: 1,
                diagnostic: Diagnostic::error("rehearse::no-gateway", text),
            }
        })
    }

    async fn status(&self, place: &Place) -> Result<Status, Trouble> {
        let client = connect::agent(place).await?;
        let status = client.get("/v1/status").await;
        status.map_err(ClientError::into_trouble)
    }

    /// Stops everything that was started; says what is left where that could not be done.
    pub async fn strike(&mut self) -> Vec<String> {
        for place in [&self.local, &self.staging, &self.production] {
            if place.server.is_none() && place.state.exists() {
                let _ = take_down(place).await;
            }
        }
        let mut left = Vec::new();
        for place in std::mem::take(&mut self.begun) {
            if let Err(trouble) = take_down(&place).await
                && !is_gone(&trouble)
            {
                left.push(remains(&place, &trouble));
            }
        }
        left
    }
}

/// An agent on a server ends, with everything that it has started, when it has heard nothing for so
/// long. A link that breaks is given up before.
fn lasts() -> Duration {
    (links::patience() * 2).max(Duration::from_secs(10))
}

/// Stops everything of an environment, and its agent; on a server, until it is gone.
async fn take_down(place: &Place) -> Result<(), Trouble> {
    let client = connect::agent(place).await?;
    // A run that was interrupted goes back first; one past that point ends by itself.
    if let Ok(begun) = client.post::<Begun>("/v1/cancel", &"rehearsal").await {
        let _ = follow(place, &client, &begun, Tell::Nothing).await;
    }
    run(place, &client, What::Down, None, Tell::Nothing).await?;
    let told: Result<(), _> = client.post("/v1/exit", &()).await;
    told.map_err(ClientError::into_trouble)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while place.server.is_some() && Instant::now() < deadline {
        connect::agent(place).await?;
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Whether there is nothing any more.
fn is_gone(trouble: &Trouble) -> bool {
    trouble.diagnostic.code == "link::no-rehearsal"
}

fn remains(place: &Place, trouble: &Trouble) -> String {
    let folder = match &place.rehearsal {
        Rehearsal::There(rehearsal) => rehearsal.name.clone(),
        Rehearsal::None | Rehearsal::Here => String::new(),
    };
    format!(
        "{} on {} could not be taken down now ({}): its agent does so itself when it has heard nothing for {} s; \
         its folder is towpath-rehearsals/{folder}",
        place.environment,
        place.whereabouts(),
        trouble.diagnostic.message,
        lasts().as_secs(),
    )
}

fn course_exit(outcome: &str) -> u8 {
    if outcome == "undone" { 5 } else { 6 }
}

/// Begins a run and follows it to its end.
pub async fn run(
    place: &Place,
    client: &Client,
    what: What,
    sabotage: Option<Sabotage>,
    tell: Tell,
) -> Result<Course, Trouble> {
    let begin = Begin {
        sabotage,
        ..Begin::new(what, "rehearsal".to_owned())
    };
    // Said twice, it begins one run.
    let begun: Begun = client
        .post_again("/v1/runs", &begin)
        .await
        .map_err(ClientError::into_trouble)?;
    follow(place, client, &begun, tell).await
}
