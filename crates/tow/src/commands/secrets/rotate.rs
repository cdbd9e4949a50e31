//! `tow secrets rotate`: a new value in the place of the old one, step by step. Where it stands is in the file, so a
//! command that was cut off is followed by one that goes on, or goes back.

use std::time::Duration;

use tokio::time::Instant;
use towpath::agent::api::{Holder, Status, Trouble};
use towpath::agent::{Client, ClientError};
use towpath::config::{self, Config, KEY_BYTES, Secret, SecretKind};
use towpath::manifest::Manifest;
use towpath::release::failpoint::{Point, reach};
use towpath::secret::rotation::{Move, previous};
use towpath::secret::{self, Rotation, Stage, Value};

use super::super::Ending;
use super::super::deploy::Leaving;
use super::replace::{
    ENDS, LOOKS, Replaced, in_use, may_begin, pause, replace, takes_faults, told,
};
use super::store::Store;
use super::{as_argument, database, enrol, failed, hand_in, not_weak, random, read_value, trouble};
use crate::cli::Cli;
use crate::cli::commands::Rotate;
use crate::place::Place;
use crate::{connect, out, times};

/// `tow secrets rotate`.
pub async fn rotate(cli: &Cli, arguments: &Rotate) -> Ending {
    if !arguments.value.is_empty() {
        return Err(as_argument(&arguments.name));
    }
    let place = super::place(cli, &arguments.environment)?;
    let config = resolved(&place)?;
    let policy = policy(&config, &arguments.name);
    if let (SecretKind::Database, Some(resource)) = (policy.kind, &policy.resource) {
        return database::rotate(&place, arguments, resource).await;
    }
    not_an_address(&config, &arguments.name)?;
    let mut store = Store::open(&place)?;
    store.begin()?;
    let mut rotating = Rotating {
        policy,
        place,
        arguments,
        store,
    };
    match (rotating.under_way()?, arguments.undo) {
        (None, true) => return Err(rotating.nothing_to_undo()),
        (None, false) if !rotating.mint(&config).await? => return Ok(0),
        (None, false) => {}
        (Some(one), true) if one.back => rotating.goes_on(&one),
        (Some(_), true) if !rotating.turn_round().await? => return Ok(0),
        (Some(_), true) => {}
        (Some(_), false) if arguments.stdin => return Err(rotating.has_begun()),
        (Some(one), false) => rotating.goes_on(&one),
    }
    rotating.go_on().await
}

/// What the manifest means there. Whether a value interrupts has to be known, so it has to be right.
fn resolved(place: &Place) -> Result<Config, Trouble> {
    let manifest = Manifest::parse("tow.toml", &place.app.text);
    manifest
        .and_then(|manifest| config::resolve(&manifest, &place.environment))
        .map_err(|report| out::invalid_manifest(&report, false))
}

/// Of a URL there is no random one, and services are not told of two.
fn not_an_address(config: &Config, name: &str) -> Result<(), Trouble> {
    let mut resources = config.resources.iter();
    let is_its = |resource: &config::Resource| resource.secrets().any(|one| one == name);
    let Some((resource, _)) = resources.find(|(_, resource)| is_its(resource)) else {
        return Ok(());
    };
    let text =
        format!("{name} says where `{resource}` is, with a password of somebody else's making");
    let help = format!(
        "make a second user there; `tow secrets set {name}` with its URL, `tow deploy --again`; then shut the first user out"
    );
    Err(trouble(3, "secret::address", text, &help))
}

fn policy(config: &Config, name: &str) -> Secret {
    config.secrets.get(name).cloned().unwrap_or_default()
}

/// A rotation under way.
struct Rotating<'a> {
    place: Place,
    arguments: &'a Rotate,
    store: Store,
    policy: Secret,
}

impl Rotating<'_> {
    fn name(&self) -> &str {
        &self.arguments.name
    }

    fn environment(&self) -> &str {
        &self.place.environment
    }

    /// Where it stands; `None` when it has not begun, or has ended.
    fn under_way(&self) -> Result<Option<Rotation>, Trouble> {
        let row = self.store.file.row(self.environment(), self.name());
        let missing = || failed(&secret::Error::Missing(vec![self.name().to_owned()]));
        let row = row.ok_or_else(missing)?;
        Ok(row.rotation.clone())
    }

    fn goes_on(&self, rotation: &Rotation) {
        let (name, stage) = (self.name(), rotation.stage.name());
        let what = match rotation.back {
            true => "goes back to the value of before",
            false => "is being rotated",
        };
        out::note(format!("  {name} {what}: going on from `{stage}`"));
    }

    /// Version of the new value, and the way of the old one.
    fn state(&self) -> Option<(u32, Rotation)> {
        let row = self.store.file.row(self.environment(), self.name())?;
        Some((row.version, row.rotation.clone()?))
    }

    /// Makes the new value; whether there is anything to be done after that.
    async fn mint(&mut self, config: &Config) -> Result<bool, Trouble> {
        self.not_taken(config)?;
        let status = self.status().await?;
        let serves = status.as_ref().is_some_and(|status| status.live.is_some());
        if let Some(status) = status.filter(|_| serves) {
            self.may_begin(&status).await?;
        }
        let value = self.new_value()?;
        // Whoever was asked for it may have taken long.
        self.store.begin_again()?;
        if self.under_way()?.is_some() {
            return Err(self.has_begun());
        }
        let agent = enrol(&self.place, &mut self.store).await?;
        let (environment, name) = (self.environment().to_owned(), self.name().to_owned());
        if !serves {
            let version = self.store.set(&name, &value)?;
            self.store.save("rotate", &[format!("{name} {version}")])?;
            out::say(format!("{name} of {environment} is version {version}"));
            out::note("  nothing serves there, so nothing had to be started anew");
            hand_in(&self.place, agent);
            return Ok(false);
        }
        let overlaps = !self.policy.interrupting && self.arguments.sabotage.is_none();
        reach("rotate", Stage::Minted.name(), Point::Before);
        let version = self.store.rotate(&name, &value, overlaps)?;
        self.store.save("mint", &[format!("{name} {version}")])?;
        reach("rotate", Stage::Minted.name(), Point::After);
        out::say(format!(
            "{name} of {environment}: version {version} is made"
        ));
        hand_in(&self.place, agent);
        Ok(true)
    }

    fn new_value(&self) -> Result<Value, Trouble> {
        let name = self.name();
        let value = match self.arguments.stdin {
            true => read_value(name, &self.place)?,
            false => random(self.policy.generate)?,
        };
        not_weak(&self.place, name, &value)?;
        let is_short = value.reveal().len() < KEY_BYTES as usize;
        if self.policy.kind == SecretKind::Jwt && is_short {
            let text = format!("the value for `{name}` has fewer than {KEY_BYTES} bytes");
            let help = "HS256 wants a key of 32 bytes or more: without --stdin a good one is made";
            return Err(trouble(4, "secret::weak", text, help));
        }
        Ok(value)
    }

    /// Nobody may have the old value's name for something else.
    fn not_taken(&self, config: &Config) -> Result<(), Trouble> {
        let other = previous(self.name());
        let asks =
            |service: &&config::Service| service.secrets.iter().any(|one| one == self.name());
        let has = |service: &config::Service| {
            service.env.contains_key(&other) || service.secrets.contains(&other)
        };
        match config.services.values().filter(asks).any(has) {
            false => Ok(()),
            true => {
                let text = format!("a service has a `{other}` of its own");
                let help = "that is what it is given the old value by: call its own something else";
                Err(trouble(3, "secret::previous", text, help))
            }
        }
    }

    /// What stands against a beginning is said before anything is made.
    async fn may_begin(&self, status: &Status) -> Result<(), Trouble> {
        if self.arguments.sabotage.is_some() {
            takes_faults(&connect::agent(&self.place).await?).await?;
        }
        if self.policy.interrupting && !self.arguments.interrupt {
            return Err(self.interrupts());
        }
        may_begin(&self.place, self.arguments, status)?;
        let what = match self.policy.interrupting {
            true => "the old value is refused from the switch on".to_owned(),
            false => format!(
                "the old value stays good for {} after the switch",
                times::span(millis(self.policy.overlap))
            ),
        };
        out::note(format!("  {}: {what}", self.name()));
        Ok(())
    }

    fn interrupts(&self) -> Trouble {
        let name = self.name();
        let text = format!("rotating {name} interrupts: services know one value of it");
        let help = "say that it may: --interrupt";
        let mut refused = trouble(4, "secret::interrupting", text, help);
        refused.diagnostic = refused
            .diagnostic
            .note("what was given out for the old value is refused from the switch on")
            .note("nothing was touched");
        refused
    }

    fn has_begun(&self) -> Trouble {
        let text = format!("{} of {} is being rotated", self.name(), self.environment());
        let help = "go on with it without --stdin, or go back: --undo";
        trouble(4, "secret::rotating", text, help)
    }

    fn nothing_to_undo(&self) -> Trouble {
        let text = format!(
            "{} of {} is not being rotated",
            self.name(),
            self.environment()
        );
        let help = "once the old value is revoked there is no way back: rotate again, or `tow secrets set`";
        trouble(3, "secret::not-rotating", text, help)
    }

    /// Has the old value be the new one; whether anything is left to do.
    async fn turn_round(&mut self) -> Result<bool, Trouble> {
        let (environment, name) = (self.environment().to_owned(), self.name().to_owned());
        let version = self.state().map_or(0, |(version, _)| version);
        let holders = self.holders().await?;
        let has = |holder: &Holder| holder.given.get(&name) == Some(&version);
        let is_used = holders.iter().any(has);
        if is_used && self.policy.interrupting && !self.arguments.interrupt {
            return Err(self.interrupts());
        }
        reach("rotate", "undo", Point::Before);
        let version = self.store.turn_round(&name, is_used)?;
        self.store.save("undo", &[format!("{name} {version}")])?;
        reach("rotate", "undo", Point::After);
        out::say(format!(
            "{name} of {environment}: version {version} is the value of before"
        ));
        if !is_used {
            self.send().await?;
            out::note("  no instance had the other one");
        }
        Ok(is_used)
    }

    /// From where it stands to its end, or until the overlap is to be waited for. Where it stands is read again each
    /// time: a run and an overlap take long enough for somebody to set another secret, or to take this one further.
    async fn go_on(&mut self) -> Ending {
        let mut restarted = None;
        let mut leaving = Leaving::listen();
        let name = self.name().to_owned();
        loop {
            let holders = self.holders().await?;
            self.store.begin_again()?;
            let Some((version, rotation)) = self.state() else {
                return Ok(0);
            };
            let given = holders.iter().map(|holder| &holder.given);
            let now = times::now_ms() / 1000;
            match rotation.next(&name, version, given, now) {
                Move::Restart => {
                    let is_behind = |one: &&Holder| rotation.is_behind(&name, version, &one.given);
                    let behind: Vec<_> = holders.iter().filter(is_behind).collect();
                    let once = restarted != Some((version, rotation.stage));
                    restarted = Some((version, rotation.stage));
                    let code = self.replace(&behind, once).await?;
                    if code != 0 {
                        return Ok(self.stopped(code));
                    }
                }
                Move::Overlap => {
                    let overlap = i64::try_from(self.policy.overlap.as_secs()).unwrap_or(0);
                    let now = times::now_ms() / 1000;
                    self.advance(Some(Stage::Overlapping), now + overlap)?;
                    out::say(format!("{name}: every instance has version {version}"));
                    if !self.arguments.wait {
                        return Ok(self.overlaps(rotation.version, overlap));
                    }
                }
                Move::Wait(until) if self.arguments.wait => {
                    let left = until.saturating_sub(now).clamp(1, 60);
                    let span = Duration::from_secs(left.unsigned_abs());
                    pause(&mut leaving, &name, self.environment(), span).await?;
                }
                Move::Wait(until) => return Ok(self.overlaps(rotation.version, until - now)),
                Move::Revoke => {
                    self.advance(Some(Stage::Revoking), rotation.until)?;
                    out::say(format!(
                        "{name}: version {} is given to nobody",
                        rotation.version
                    ));
                }
                Move::Finish => {
                    self.advance(None, 0)?;
                    self.send().await?;
                    out::say(format!(
                        "{name}: no instance has version {} any more; it is revoked",
                        rotation.version
                    ));
                    out::note(format!("  commit {}", secret::FILE));
                }
            }
        }
    }

    fn overlaps(&self, old: u32, left: i64) -> u8 {
        let (name, environment) = (self.name(), self.environment());
        let left = times::span(left.unsigned_abs() * 1000);
        out::say(format!("{name}: version {old} stays good for {left}"));
        out::note(format!(
            "  then revoke it: `tow secrets rotate {name} -e {environment}` (or now with --wait); back: --undo"
        ));
        out::note(format!("  commit {}", secret::FILE));
        0
    }

    /// A run that has not come to its end leaves the rotation where it was.
    fn stopped(&self, code: u8) -> u8 {
        let (name, environment) = (self.name(), self.environment());
        out::note(format!(
            "  {name} is where it was: `tow secrets rotate {name} -e {environment}` goes on, with --undo it goes back"
        ));
        code
    }

    /// Writes down how far it is.
    fn advance(&mut self, stage: Option<Stage>, until: i64) -> Result<(), Trouble> {
        let (environment, name) = (self.environment().to_owned(), self.name().to_owned());
        let what = stage.map_or("finished", Stage::name);
        reach("rotate", what, Point::Before);
        self.store.file.advance(&environment, &name, stage, until);
        self.store.save(what, &[name])?;
        reach("rotate", what, Point::After);
        Ok(())
    }

    /// Has instances that are behind replaced, where a restart does that, or waits for their end.
    async fn replace(&self, behind: &[&Holder], once: bool) -> Ending {
        let client = connect::agent(&self.place).await?;
        let behind: Vec<_> = behind.iter().map(|one| &one.instance).collect();
        if !once {
            return self.outlast().await;
        }
        match replace(&self.place, &client, self.arguments, &behind).await? {
            Replaced::Run(code) => Ok(code),
            Replaced::Left => self.outlast().await,
        }
    }

    /// Waits for the end of what a restart does not touch: runs of jobs, and what is being stopped.
    async fn outlast(&self) -> Ending {
        let deadline = Instant::now() + ENDS;
        let mut leaving = Leaving::listen();
        loop {
            let Some((version, rotation)) = self.state() else {
                return Ok(0);
            };
            let mut holders = self.holders().await?;
            holders.retain(|one| rotation.is_behind(self.name(), version, &one.given));
            if holders.is_empty() {
                return Ok(0);
            }
            if Instant::now() > deadline {
                let ids: Vec<_> = holders.iter().map(|one| one.instance.to_string()).collect();
                return Err(in_use(&ids.join(", ")));
            }
            pause(&mut leaving, self.name(), self.environment(), LOOKS).await?;
        }
    }

    /// What the agent hands over from now on.
    async fn send(&self) -> Result<(), Trouble> {
        match self.client().await? {
            Some(client) => super::send_part(&self.place, &client).await,
            None => Ok(()),
        }
    }

    async fn client(&self) -> Result<Option<Client>, Trouble> {
        connect::existing(&self.place).await
    }

    async fn status(&self) -> Result<Option<Status>, Trouble> {
        match self.client().await? {
            Some(client) => told(&client).await.map(Some),
            None => Ok(None),
        }
    }

    async fn holders(&self) -> Result<Vec<Holder>, Trouble> {
        match self.client().await? {
            Some(client) => {
                let holders = client.get("/v1/secrets/holders").await;
                holders.map_err(ClientError::into_trouble)
            }
            None => Ok(Vec::new()),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
