//! Listing releases, and accepting those of other environments.

use super::answer::{Failure, failed, invalid, refused, wrong};
use super::api::{Accepted, Offer, ReleaseStatus};
use super::caller::Caller;
use crate::diagnostic::Diagnostic;
use crate::id::ReleaseId;
use crate::release::{Environment, Record, World, carried, platform, verify};
use crate::state::{self, StoredRelease};

fn state_failed(error: state::Error) -> Failure {
    failed(Diagnostic::error("state::failed", error.to_string()))
}

fn unreadable(error: &serde_json::Error) -> Failure {
    invalid(Diagnostic::error(
        "release::unreadable",
        format!("the record: {error}"),
    ))
}

/// All releases, newest first.
pub(super) fn list(world: &World) -> Result<Vec<ReleaseStatus>, Failure> {
    let now = world.environment().map_err(failed)?;
    let stored = world.store.releases().map_err(state_failed)?;
    stored
        .into_iter()
        .rev()
        .map(|release| describe(&now, release))
        .collect()
}

fn describe(now: &Environment, stored: StoredRelease) -> Result<ReleaseStatus, Failure> {
    let record: Record =
        serde_json::from_str(&stored.record).map_err(|error| unreadable(&error))?;
    Ok(ReleaseStatus {
        release: stored.id,
        digest: stored.digest,
        built_in: record.built_in,
        artifacts: record.artifacts,
        baked: record.baked,
        source: record.source,
        kept_ms: stored.wall_ms,
        state: state_of(now, stored.id),
    })
}

fn state_of(now: &Environment, id: ReleaseId) -> String {
    let is = |version: Option<&crate::release::Version>| {
        version.and_then(|version| version.release) == Some(id)
    };
    let last = now
        .ended
        .iter()
        .rev()
        .find(|ended| ended.release == Some(id));
    let word = match last {
        _ if is(now.live.as_ref()) => "live",
        _ if is(now.warm.as_ref().map(|warm| &warm.version)) => "warm",
        Some(ended) if ended.done => "served",
        Some(_) => "undone",
        None => "not deployed",
    };
    word.to_owned()
}

/// One release, with its signed record.
pub(super) fn one(world: &World, id: ReleaseId) -> Result<StoredRelease, Failure> {
    let stored = world.store.release(id).map_err(state_failed)?;
    stored.ok_or_else(|| wrong(format!("there is no release {id}")))
}

/// Takes a release of another environment in: for this application, for this platform, signed with
/// the key that was first seen of that environment.
pub(super) fn accept(world: &World, caller: &Caller, offer: &Offer) -> Result<Accepted, Failure> {
    let record: Record = serde_json::from_str(&offer.record).map_err(|error| unreadable(&error))?;
    if record.app != world.app {
        let text = format!(
            "the release is of `{}`, this environment is of `{}`",
            record.app, world.app
        );
        return Err(invalid(Diagnostic::error("release::other-app", text)));
    }
    if record.platform != platform() {
        let text = format!(
            "the release was built for {}, this machine is {}",
            record.platform,
            platform()
        );
        return Err(invalid(Diagnostic::error("release::platform", text)));
    }
    check_signature(world, caller, &record, offer)?;
    let stored = world
        .store
        .add_release(&offer.record, &offer.signature, &offer.key)
        .map_err(state_failed)?;
    let missing = carried(&record, &world.environment)
        .into_iter()
        .filter(|digest| !world.blobs.has_for_use(*digest))
        .collect();
    Ok(Accepted {
        release: stored.id,
        missing,
    })
}

fn check_signature(
    world: &World,
    caller: &Caller,
    record: &Record,
    offer: &Offer,
) -> Result<(), Failure> {
    if !verify(&offer.record, &offer.signature, &offer.key) {
        let text = "the release's signature does not fit its record";
        return Err(refused(
            Diagnostic::error("release::signature", text).note("nothing was kept"),
        ));
    }
    // Whom to trust from now on is not for a key to say.
    let known = world.store.known_key(&record.built_in);
    if matches!(caller, Caller::Key(_)) && known.map_err(state_failed)?.is_none() {
        return Err(caller.refusal("bring in the first release of another environment"));
    }
    let trusted = world
        .store
        .trusted_key(&record.built_in, &offer.key)
        .map_err(state_failed)?;
    if trusted != offer.key {
        let text = format!(
            "the release is signed with another key than {} had before",
            record.built_in
        );
        let diagnostic = Diagnostic::error("release::other-key", text)
            .note("nothing was kept")
            .help(format!(
                "if {} was set up anew, remove its key from this environment's state",
                record.built_in
            ));
        return Err(refused(diagnostic));
    }
    Ok(())
}
