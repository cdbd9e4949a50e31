//! The certificates of the environment's hosts, kept current beside everything else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;
use towpath_gateway::api::{CertificateState, State};
use towpath_gateway::certificate::write;

use super::api::CertificateStatus;
use crate::certificate::{Error, issue, schedule};
use crate::config::{Acme, Tls};
use crate::diagnostic::Diagnostic;
use crate::release::{Environment, OpenRun, World, certificates, gateway_client, gateway_state};

/// Pause between looks.
const LOOK: Duration = Duration::from_secs(1);

/// What the folder looked like when the gateway read it last: by name, time and length.
type Seen = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

pub(super) async fn keep(world: Arc<World>) {
    let mut seen = Seen::new();
    loop {
        // One that fails is tried again at the next look, or when its own pause is over.
        let _ = look(&world, &mut seen).await;
        sleep(LOOK).await;
    }
}

async fn look(world: &World, seen: &mut Seen) -> Result<(), Diagnostic> {
    let now = world.environment()?;
    let Some((tls, cause)) = wanted(world, &now)? else {
        return Ok(());
    };
    let found = folder(world);
    if *seen != found && gateway_client(world).certificates().await.is_ok() {
        *seen = found;
    }
    let (Some(acme), Some(state)) = (&tls.acme, gateway_state(world).await) else {
        return Ok(());
    };
    for host in &tls.hosts {
        attend(world, acme, host, &state, &cause).await;
    }
    Ok(())
}

/// What the environment wants, and whose wish it is: of the live version, or of the first one while it comes.
fn wanted(world: &World, now: &Environment) -> Result<Option<(Tls, String)>, Diagnostic> {
    if now.gateway_tls.is_none() {
        return Ok(None);
    }
    let open = now.open.as_ref().and_then(OpenRun::new_version);
    let Some(version) = now.live.clone().or(open) else {
        return Ok(None);
    };
    let tls = version.config(&world.environment)?.tls;
    Ok(tls.map(|tls| (tls, version.run.to_string())))
}

fn folder(world: &World) -> Seen {
    let files = std::fs::read_dir(certificates(world))
        .into_iter()
        .flatten()
        .flatten();
    let files = files.filter_map(|file| {
        let meta = std::fs::metadata(file.path()).ok()?;
        Some((file.path(), (meta.modified().ok(), meta.len())))
    });
    files.collect()
}

/// Asks for a host's certificate when it is time.
async fn attend(world: &World, acme: &Acme, host: &str, state: &State, run: &str) {
    let now_ms = world.store.clock().wall_ms();
    if !schedule::is_due(state.certificates.hosts.get(host), now_ms) {
        return;
    }
    let dir = world.state().join("acme");
    let cause = format!("{run} {}", acme.directory);
    let before = schedule::recall(&dir, host);
    if before.waits(&cause, now_ms) {
        return;
    }
    let after = match renew(world, acme, host).await {
        Ok(()) => schedule::Attempts::default(),
        Err(error) => {
            let now_ms = world.store.clock().wall_ms();
            before.after(&cause, error.to_string(), now_ms)
        }
    };
    // A disk that takes no file takes no certificate either: it is asked for again, and its status tells.
    let _ = schedule::remember(&dir, host, &after);
}

async fn renew(world: &World, acme: &Acme, host: &str) -> Result<(), Error> {
    let gateway = gateway_client(world);
    let pem = issue(&world.state().join("acme"), acme, host, &gateway).await?;
    let folder = certificates(world);
    write(&folder, host, pem.as_bytes()).map_err(|error| Error::Issuer(error.to_string()))?;
    let read = gateway.certificates().await;
    read.map(drop)
        .map_err(|error| Error::Gateway(error.to_string()))
}

/// What there is to say of each host.
pub(super) fn status(
    world: &World,
    now: &Environment,
    gateway: Option<&State>,
) -> Result<Vec<CertificateStatus>, Diagnostic> {
    let Some((tls, _)) = wanted(world, now)? else {
        return Ok(Vec::new());
    };
    let found = gateway.map(|state| &state.certificates);
    let of = |host: &String| {
        let known = found.and_then(|found| found.hosts.get(host));
        one(
            world,
            &tls,
            host,
            known,
            found.and_then(|found| found.problem.clone()),
        )
    };
    Ok(tls.hosts.iter().map(of).collect())
}

fn one(
    world: &World,
    tls: &Tls,
    host: &str,
    known: Option<&CertificateState>,
    folder: Option<String>,
) -> CertificateStatus {
    let attempts = match tls.acme {
        Some(_) => schedule::recall(&world.state().join("acme"), host),
        None => schedule::Attempts::default(),
    };
    let failed = attempts.failures > 0;
    let own = known.and_then(|known| known.problem.clone()).or(folder);
    let missing = known.is_none_or(|known| !known.served);
    let why = match (&tls.acme, failed, missing) {
        (_, true, _) => Some(attempts.error),
        (Some(_), false, true) => Some("it is being issued".to_owned()),
        (None, false, true) => Some(format!("put it into {}", certificates(world).display())),
        _ => None,
    };
    let problem: Vec<String> = own.into_iter().chain(why).collect();
    let until = known.and_then(|known| known.not_after);
    let expired = until.is_some_and(|until| until < world.store.clock().wall_ms() / 1000);
    CertificateStatus {
        host: host.to_owned(),
        good: !missing && !expired,
        until_ms: until.map(|until| until * 1000),
        problem: (!problem.is_empty()).then(|| problem.join("; ")),
        next_ms: failed.then_some(attempts.next_ms),
    }
}
