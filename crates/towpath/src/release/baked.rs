//! Artifacts that are one environment's only: a value that differs from place to place is baked in when they are built.
//!
//! A release is built once, and promoted as it is. Where the build of a service is given something else for an environment
//! further on, where the release is made it is built for that environment too, from the same commit in a tree of its own.
//! The record holds the digests of both; to an environment go its own files and those of the ones behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::prepare::Prepared;
use super::{Record, Refusal, Step, World};
use crate::config::{self, Config, Purpose};
use crate::diagnostic::Diagnostic;
use crate::id::Digest;
use crate::manifest::Manifest;

/// What a manifest means in `environment`; nothing where it means nothing there.
fn meant(manifest: &str, environment: &str, purpose: Purpose) -> Option<Config> {
    let manifest = Manifest::parse("tow.toml", manifest).ok()?;
    config::resolve_for(&manifest, environment, purpose).ok()
}

/// The environments that a release goes on to from `environment`.
fn behind<'a>(promote: &'a [String], environment: &str) -> &'a [String] {
    let at = promote.iter().position(|name| name == environment);
    at.map_or(&[], |at| &promote[at + 1..])
}

/// Builds for the environments behind this one, where they differ. Where the manifest is not valid for one of them,
/// that is said when it is promoted.
pub(super) fn steps(world: &World, config: &Config, prepared: &Prepared) -> Vec<Step> {
    if prepared.dev || prepared.release.is_some() {
        return Vec::new();
    }
    let environments = behind(&config.promote, &world.environment).iter();
    let steps = environments.filter_map(|environment| {
        let there = meant(&prepared.manifest, environment, world.purpose())?;
        let services = config::baked(config, &there);
        (!services.is_empty()).then(|| Step::Bake {
            environment: environment.clone(),
            services: services.into_iter().collect(),
        })
    });
    steps.collect()
}

/// The tree that is built for `environment`, beside the one whose digest is `build`.
pub(super) fn folder(state: &Path, build: Digest, environment: &str) -> PathBuf {
    let key = format!("{build}\nfor {environment}");
    crate::build::folder(state, Digest::of(key.as_bytes()))
}

/// What was baked for `environment` when the same was built before, if it is all here still.
pub(super) fn known(
    world: &World,
    build: Digest,
    environment: &str,
) -> Option<BTreeMap<String, Digest>> {
    let releases = world.store.releases().ok()?;
    let records = releases
        .iter()
        .rev()
        .filter_map(|stored| serde_json::from_str::<Record>(&stored.record).ok());
    let mut same = records.filter(|record| record.build == build);
    let found = same.find_map(|mut record| record.baked.remove(environment))?;
    let is_here = |digest: &Digest| world.blobs.has_for_use(*digest);
    found.values().all(is_here).then_some(found)
}

/// The artifacts of a release that have to be in `environment`: its own, and those of the environments behind it.
#[must_use]
pub fn carried(record: &Record, environment: &str) -> BTreeSet<Digest> {
    let promote = meant(&record.manifest, environment, Purpose::Real);
    let promote = promote.map(|config| config.promote).unwrap_or_default();
    let own = record.artifacts_in(environment).into_values();
    let others = behind(&promote, environment)
        .iter()
        .filter_map(|name| record.baked.get(name));
    own.chain(others.flat_map(|baked| baked.values().copied()))
        .collect()
}

/// Refuses a release whose files are another environment's.
pub(super) fn check(world: &World, config: &Config, record: &Record) -> Result<(), Refusal> {
    let here = &world.environment;
    let Some(built) = meant(&record.manifest, &record.built_in, world.purpose()) else {
        return Ok(());
    };
    let own = record.baked.get(here);
    let lacks = |name: &String| own.is_none_or(|own| !own.contains_key(name));
    let mut baked = config::baked(&built, config).into_iter().filter(lacks);
    let Some(service) = baked.next() else {
        return Ok(());
    };
    let text = format!(
        "`{service}` was built for {}, and its build is given something else for {here}",
        record.built_in
    );
    Err(Refusal::Refused(
        Diagnostic::error("release::baked", text)
            .note("nothing was touched")
            .help(format!(
                "name {here} in `promote` behind {}, and deploy there again: it is then built for both",
                record.built_in
            )),
    ))
}
