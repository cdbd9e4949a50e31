//! Bringing releases in, and going back.

use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use towpath::agent::api::{
    Accepted, Begin, Begun, Offer, ReleaseStatus, RunStatus, Status, Trouble, What,
};
use towpath::agent::{Client, ClientError};
use towpath::build;
use towpath::config;
use towpath::diagnostic::Diagnostic;
use towpath::id::{Digest, ReleaseId};
use towpath::manifest::Manifest;
use towpath::state::StoredRelease;

use super::Ending;
use crate::cli::Cli;
use crate::cli::commands::{Cancel, Deploy, Promote, Rollback};
use crate::follow::{CANCELLED, Course, Tell, follow};
use crate::place::{App, Place};
use crate::progress::Carrying;
use crate::{connect, out, render, times};

/// Times that an agent on this machine is started anew for the same asking.
const TRIES: u32 = 3;

/// A run to begin and to follow.
pub struct Act<'a> {
    /// Where.
    pub place: &'a Place,
    /// Its agent.
    pub client: &'a Client,
    /// What.
    pub begin: Begin,
    /// Whether the course is printed as JSON.
    pub json: bool,
}

/// Who asks, for the journal.
pub fn actor() -> String {
    let named = ["TOWPATH_ACTOR", "SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

/// Begins a run and follows it to its end; gives the exit code.
pub async fn act(mut act: Act<'_>) -> Ending {
    let (dry_run, json) = (act.begin.dry_run, act.json);
    out::note(render::place(act.place));
    if dry_run {
        act.begin.secrets = super::secrets::offer(act.place, &act.begin.what)?;
    } else {
        super::secrets::send(act.place, act.client, &act.begin.what).await?;
    }
    // Listened for before there is a run: whoever is told to leave has to say what goes on without it.
    let mut leaving = Leaving::listen();
    let begun: Begun = tokio::select! {
        begun = begin(&act) => begun.map_err(ClientError::into_trouble)?,
        () = leaving.told() => return Err(left(act.place, "what was asked for may go on")),
    };
    if let Some(release) = begun.already {
        return tell_already(&act, &begun, release);
    }
    if let Some(price) = &begun.price {
        out::note(format!("  {price}"));
    }
    let migrates = matches!(act.begin.what, What::Migrate { .. });
    if migrates && (dry_run || begun.steps.is_empty()) {
        return super::migrate::tell_plan(&begun, dry_run, json);
    }
    if dry_run {
        return tell_plan(&begun, json);
    }
    let course = follow_or_detach(&act, &begun, &mut leaving).await?;
    let serves = match course.exit() {
        0 if !act.json => serves(act.client).await,
        _ => String::new(),
    };
    tell_course(&act, &course, &serves);
    Ok(course.exit())
}

/// Asks for the run, and again when the agent dies before its answer: the token says that it is the same.
async fn begin(act: &Act<'_>) -> Result<Begun, ClientError> {
    let mut tries = 0;
    loop {
        match act.client.post_again("/v1/runs", &act.begin).await {
            Err(error) if error.is_passing() && !act.client.is_linked() && tries < TRIES => {
                tries += 1;
                sleep(Duration::from_millis(100)).await;
                connect::again(act.place).await;
            }
            ended => return ended,
        }
    }
}

fn tell_already(act: &Act<'_>, begun: &Begun, release: ReleaseId) -> Ending {
    match (act.json, act.begin.dry_run) {
        (true, true) => out::json(begun),
        (true, false) => out::json(&Course::nothing()),
        (false, _) => out::say(format!(
            "{release} serves in {} already: nothing to do (--again starts it anew)",
            act.place.environment
        )),
    }
    Ok(0)
}

fn tell(json: bool) -> Tell {
    if json { Tell::Nothing } else { Tell::Steps }
}

fn tell_plan(begun: &Begun, json: bool) -> Ending {
    if json {
        out::json(begun);
        return Ok(0);
    }
    let to = begun.to.clone().unwrap_or("nothing".to_owned());
    let from = begun.from.clone().unwrap_or("nothing".to_owned());
    out::say(format!("would bring in {to} in the place of {from}:"));
    if let Some(explained) = &begun.explained {
        out::say(render::explained(explained));
    }
    tell_changes(begun);
    Ok(0)
}

/// What changes in the schemas.
pub fn tell_changes(begun: &Begun) {
    if !begun.changes.is_empty() {
        out::say("in the schemas:");
    }
    begun
        .changes
        .iter()
        .for_each(|line| out::say(format!("  {line}")));
}

/// Ctrl-C leaves, and so does a CI that ends its job: the run belongs to the agent.
async fn follow_or_detach(
    act: &Act<'_>,
    begun: &Begun,
    leaving: &mut Leaving,
) -> Result<Course, Trouble> {
    tokio::select! {
        course = follow(act.place, act.client, begun, tell(act.json)) => course,
        () = leaving.told() => Err(left(act.place, &format!("{} goes on", begun.run))),
    }
}

fn left(place: &Place, what: &str) -> Trouble {
    let undo = format!("`tow cancel -e {}` undoes it", place.environment);
    detached(place, what, &undo)
}

/// The command ends, `what` goes on; `back` is the way back from it.
fn detached(place: &Place, what: &str, back: &str) -> Trouble {
    let text = format!("{what} without this command");
    let help = format!("`tow status -e {}` shows it, {back}", place.environment);
    Trouble {
        exit: 1,
        diagnostic: Diagnostic::warning("deploy::detached", text).help(help),
    }
}

/// What serves now and where; empty where nothing does.
async fn serves(client: &Client) -> String {
    let status: Option<Status> = client.get("/v1/status").await.ok();
    let told = status.and_then(|status| {
        let (live, listen) = (status.live?, status.listen?);
        Some(format!(
            ": {} serves {} at http://{listen}",
            live.name, status.environment
        ))
    });
    told.unwrap_or_default()
}

/// SIGINT, SIGTERM and SIGHUP, from when it is made; one that cannot be listened for ends the command at once.
pub struct Leaving([Option<Signal>; 3]);

impl Leaving {
    pub fn listen() -> Leaving {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        Leaving(kinds.map(|kind| signal(kind).ok()))
    }

    /// Returns when one of them came.
    pub async fn told(&mut self) {
        std::future::poll_fn(|context| {
            let mut signals = self.0.iter_mut().flatten();
            match signals.any(|signal| signal.poll_recv(context).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

fn tell_course(act: &Act<'_>, course: &Course, serves: &str) {
    if act.json {
        out::json(course);
        return;
    }
    let environment = &act.place.environment;
    match &course.failure {
        Some(failure) if failure.code == CANCELLED && course.exit() == 5 => out::note(format!(
            "{} was cancelled: {environment} is as it was",
            course.run
        )),
        Some(failure) => {
            out::diagnostic(failure);
            match course.exit() {
                4 => out::note(format!(
                    "{} was refused: {environment} is as it was",
                    course.run
                )),
                5 if course.leaves_schema() => out::note(format!(
                    "{} was undone; the schema stays as it is now, and what serves works with it",
                    course.run
                )),
                5 => out::note(format!(
                    "{} was undone: {environment} is as it was",
                    course.run
                )),
                _ => out::note(format!("{} is stuck: a person is needed", course.run)),
            }
        }
        None => {
            let took = times::span(u64::try_from(course.took_ms).unwrap_or(0));
            out::say(format!("{} is done, in {took}{serves}", course.run));
        }
    }
}

/// `tow deploy`.
pub async fn deploy(cli: &Cli, arguments: &Deploy) -> Ending {
    let app = App::find(cli)?;
    let place = app.place(&arguments.there.environment)?;
    let (client, what) = match &arguments.release {
        Some(release) => {
            let client = connect::agent(&place).await?;
            let release = kept(&client, &place, release).await?;
            (client, What::Promote { release })
        }
        None => send(&app, &place, arguments).await?,
    };
    let begin = Begin {
        dry_run: arguments.there.dry_run,
        again: arguments.again,
        ..Begin::new(what, actor())
    };
    let ended = act(Act {
        place: &place,
        client: &client,
        begin,
        json: arguments.there.json,
    })
    .await?;
    wait(
        &place,
        &client,
        arguments.wait && !arguments.there.dry_run,
        ended,
    )
    .await
}

/// Sends the commit that is to be built, unless it is there.
async fn send(app: &App, place: &Place, arguments: &Deploy) -> Result<(Client, What), Trouble> {
    let source = match &arguments.commit {
        Some(revision) => build::commit_named(&app.root, revision),
        None => build::commit_of(&app.root, arguments.allow_dirty),
    };
    let source = source.map_err(|error| not_committed(&error))?;
    let archive = build::pack_revision(&app.root, &source.commit);
    let archive = build::compress(&archive.map_err(|error| not_committed(&error))?);
    let tree = Digest::of(&archive);
    if source.dirty {
        out::note("changes that are not committed are left out");
    }
    let client = connect::agent(place).await?;
    let carrying = Carrying::new("sending the source", arguments.there.json);
    client
        .put_blob(tree, archive, carrying.progress())
        .await
        .map_err(ClientError::into_trouble)?;
    Ok((client, What::Deploy { tree, source }))
}

/// A release that is kept there, by its number or by the beginning of its digest.
async fn kept(client: &Client, place: &Place, named: &str) -> Result<ReleaseId, Trouble> {
    let releases: Vec<ReleaseStatus> = client
        .get("/v1/releases")
        .await
        .map_err(ClientError::into_trouble)?;
    let number = named.parse::<ReleaseId>().ok();
    let is_meant = |release: &&ReleaseStatus| match number {
        Some(number) => release.release == number,
        None => named.len() >= 8 && release.digest.to_string().starts_with(named),
    };
    let mut meant = releases.iter().filter(is_meant);
    match (meant.next(), meant.next()) {
        (Some(release), None) => Ok(release.release),
        _ => {
            let text = format!("{} has no release `{named}`", place.environment);
            let diagnostic = Diagnostic::error("deploy::release", text)
                .note("nothing was touched")
                .help(format!(
                    "`tow releases -e {}` lists them; of a digest, the first 8 digits are enough",
                    place.environment
                ));
            Err(Trouble {
                exit: 3,
                diagnostic,
            })
        }
    }
}

fn not_committed(error: &build::Error) -> Trouble {
    let diagnostic =
        Diagnostic::error("build::source", error.to_string()).note("nothing was touched");
    let diagnostic = match error {
        build::Error::Dirty(_) => {
            diagnostic.help("commit them, or deploy without them: --allow-dirty")
        }
        _ => diagnostic.help("a deployment is of a commit: make one"),
    };
    Trouble {
        exit: 3,
        diagnostic,
    }
}

/// Until the window is over, or somebody ends the command: then going back is no longer a switch.
async fn wait(place: &Place, client: &Client, wait: bool, ended: u8) -> Ending {
    if !wait || ended != 0 {
        return Ok(ended);
    }
    let mut leaving = Leaving::listen();
    tokio::select! {
        ended = is_over(client) => ended,
        () = leaving.told() => Err(passes(place)),
    }
}

fn passes(place: &Place) -> Trouble {
    let environment = &place.environment;
    let back = format!("`tow rollback -e {environment}` goes back while it lasts");
    detached(
        place,
        &format!("the window of {environment} goes on"),
        &back,
    )
}

async fn is_over(client: &Client) -> Ending {
    loop {
        let status: Status = client
            .get("/v1/status")
            .await
            .map_err(ClientError::into_trouble)?;
        if status.warm.is_none() && status.run.is_none() {
            let rolled_back = status
                .ended
                .first()
                .is_some_and(|run| run.operation == towpath::release::Operation::Rollback);
            return Ok(if rolled_back { 5 } else { 0 });
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// `tow promote`.
pub async fn promote(cli: &Cli, arguments: &Promote) -> Ending {
    let app = App::find(cli)?;
    let place = app.place(&arguments.there.environment)?;
    let from = app.place(&environment_before(&app, &place)?)?;
    let client = connect::agent(&place).await?;
    let release = carry(
        &connect::agent(&from).await?,
        &from,
        &client,
        arguments.there.json,
    )
    .await?;
    let begin = Begin {
        dry_run: arguments.there.dry_run,
        again: arguments.again,
        ..Begin::new(What::Promote { release }, actor())
    };
    let ended = act(Act {
        place: &place,
        client: &client,
        begin,
        json: arguments.there.json,
    })
    .await?;
    wait(
        &place,
        &client,
        arguments.wait && !arguments.there.dry_run,
        ended,
    )
    .await
}

/// The environment that releases come from on their way to `place`.
fn environment_before(app: &App, place: &Place) -> Result<String, Trouble> {
    let manifest = Manifest::parse("tow.toml", &app.text);
    let config = manifest.and_then(|manifest| config::resolve(&manifest, &place.environment));
    let way = config.map(|config| config.promote).unwrap_or_default();
    let at = way.iter().position(|name| *name == place.environment);
    at.and_then(|at| at.checked_sub(1))
        .map(|at| way[at].clone())
        .ok_or_else(|| {
            let text = format!(
                "`{}` stands behind no other environment in `promote`",
                place.environment
            );
            let diagnostic = Diagnostic::error("promote::no-way", text)
                .note("nothing was touched")
                .help(format!(
                    "tow.toml says: promote = {way:?}; use `tow deploy` for the first of them"
                ));
            Trouble {
                exit: 3,
                diagnostic,
            }
        })
}

/// Carries the release that is live in `from`, with the artifacts that are missing in `to`. What
/// crosses is the signed record and blobs, as between two machines.
pub async fn carry(
    from: &Client,
    place: &Place,
    to: &Client,
    quiet: bool,
) -> Result<ReleaseId, Trouble> {
    let status: Status = from
        .get("/v1/status")
        .await
        .map_err(ClientError::into_trouble)?;
    let live = status
        .live
        .and_then(|live| live.release)
        .ok_or_else(|| nothing_live(place))?;
    let stored: StoredRelease = from
        .get(&format!("/v1/releases/{live}"))
        .await
        .map_err(ClientError::into_trouble)?;
    let offer = Offer {
        record: stored.record,
        signature: stored.signature,
        key: stored.key,
    };
    let accepted: Accepted = to
        .post_again("/v1/releases", &offer)
        .await
        .map_err(ClientError::into_trouble)?;
    for digest in accepted.missing {
        let carrying = Carrying::new("carrying artifacts", quiet);
        from.copy_blob(digest, to, carrying.progress())
            .await
            .map_err(ClientError::into_trouble)?;
    }
    Ok(accepted.release)
}

fn nothing_live(place: &Place) -> Trouble {
    let text = format!("no release is live in {}", place.environment);
    let help = format!("`tow deploy -e {}` first", place.environment);
    Trouble {
        exit: 4,
        diagnostic: Diagnostic::error("promote::nothing", text)
            .note("nothing was touched")
            .help(help),
    }
}

/// `tow rollback`.
pub async fn rollback(cli: &Cli, arguments: &Rollback) -> Ending {
    let place = App::find(cli)?.place(&arguments.there.environment)?;
    let to = arguments
        .to
        .as_deref()
        .map(str::parse::<ReleaseId>)
        .transpose()
        .map_err(|error| Trouble {
            exit: 2,
            diagnostic: Diagnostic::error("rollback::release", error.to_string()),
        })?;
    let client = connect::agent(&place).await?;
    let begin = Begin {
        dry_run: arguments.there.dry_run,
        ..Begin::new(What::Rollback { to }, actor())
    };
    act(Act {
        place: &place,
        client: &client,
        begin,
        json: arguments.there.json,
    })
    .await
}

/// `tow cancel`.
pub async fn cancel(cli: &Cli, arguments: &Cancel) -> Ending {
    let place = App::find(cli)?.place(&arguments.environment)?;
    let client = connect::agent(&place).await?;
    out::note(format!("{} ({})", place.environment, place.app.name));
    let running = client.get::<Status>("/v1/status").await;
    let running = running.map_err(ClientError::into_trouble)?.run;
    let begun: Result<Begun, _> = client.post("/v1/cancel", &actor()).await;
    let begun = match begun {
        Err(error) if client.is_linked() && error.is_passing() => again(&client, running).await?,
        begun => begun.map_err(ClientError::into_trouble)?,
    };
    let course = follow(&place, &client, &begun, tell(arguments.json)).await?;
    if arguments.json {
        out::json(&course);
    } else {
        if let (6, Some(failure)) = (course.exit(), &course.failure) {
            out::diagnostic(failure);
        }
        out::say(match course.exit() {
            5 => format!(
                "{} is cancelled: {} is as it was",
                course.run, place.environment
            ),
            _ => format!("{} is {}", course.run, course.outcome),
        });
    }
    // Undone is what was asked for.
    Ok(if course.exit() == 5 { 0 } else { course.exit() })
}

/// Asks again after the link broke: where there is nothing left to cancel, it was heard the first
/// time, and how the run ended is what is told.
async fn again(client: &Client, running: Option<RunStatus>) -> Result<Begun, Trouble> {
    let asked = client.post_again("/v1/cancel", &actor()).await;
    match (asked, running) {
        (Err(ClientError::Trouble(_)), Some(running)) => Ok(Begun {
            run: running.run,
            steps: Vec::new(),
            to: None,
            from: None,
            price: None,
            already: None,
            explained: None,
            after: 0,
            changes: Vec::new(),
        }),
        (asked, _) => asked.map_err(ClientError::into_trouble),
    }
}
