//! Values that a build puts into what it makes: an artifact of each environment's own, from one commit.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::fixture::{Fixture, MANIFEST, PRODUCTION, STAGING};
use crate::kill::{DEPLOY, around, die_with, steps};
use crate::machine::{members, shims};
use crate::whole::whole;

const STEP: &str = "bake:production";

/// The web and its worker share a folder.
fn manifest() -> String {
    let build = r#"build = "test $SITE != fails && mkdir -p site && echo $SITE of $NEXT_PUBLIC_NAME > site/page"
build_env = { SITE = "${SITE}", NEXT_PUBLIC_NAME = "staging" }"#;
    let production = r#"[environments.production]
services.web.build_env.NEXT_PUBLIC_NAME = "production"
variables.SITE = "https://example""#;
    let text = MANIFEST.replace("build = \"true\"", build);
    let text = text.replace("[environments.production]", production);
    format!("{text}\n[variables]\nSITE = \"https://staging.example\"\n")
}

fn fixture() -> Fixture {
    Fixture::with(&manifest())
}

/// The pages that lie in the builds of an environment.
fn pages(fixture: &Fixture, environment: &str) -> Vec<String> {
    let builds = fs::read_dir(fixture.state(environment).join("builds")).unwrap();
    let paths = builds.map(|build| build.unwrap().path().join("site/page"));
    let found = paths.filter_map(|path: PathBuf| fs::read_to_string(path).ok());
    found.map(|page| page.trim().to_owned()).collect()
}

/// The newest release, as the environment lists it.
fn newest(fixture: &Fixture, environment: &str) -> Value {
    let listed: Vec<Value> = fixture
        .tow(&["releases", "-e", environment, "--json"])
        .expect(0)
        .json();
    listed.into_iter().next().unwrap()
}

fn digests(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).unwrap()
}

fn has(fixture: &Fixture, environment: &str, digest: &str) -> bool {
    let name = digest.rsplit(':').next().unwrap();
    let blobs = fs::read_dir(fixture.state(environment).join("blobs")).unwrap();
    let mut names = blobs.map(|blob| blob.unwrap().file_name().into_string().unwrap());
    names.any(|blob| blob.contains(name))
}

#[test]
fn each_environment_gets_its_own_artifact_and_both_digests_are_recorded() {
    let mut fixture = fixture();
    assert!(steps(&fixture, &DEPLOY).contains(&STEP.to_owned()));
    fixture.tow(&DEPLOY).expect(0);
    let of_staging = "https://staging.example of staging".to_owned();
    assert_eq!(pages(&fixture, STAGING), [of_staging]);
    let version = fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    fixture.tow(&["promote", "-e", PRODUCTION]).expect(0);
    let of_production = "https://example of production".to_owned();
    assert_eq!(pages(&fixture, PRODUCTION), [of_production]);
    let answered = fixture.get(&fixture.listen(PRODUCTION), "/version");
    assert_eq!(answered, Ok(version));
    let (here, there) = (newest(&fixture, STAGING), newest(&fixture, PRODUCTION));
    for key in ["digest", "artifacts", "baked"] {
        assert_eq!(here[key], there[key], "{key}");
    }
    let (built, baked) = (
        digests(&here["artifacts"]),
        digests(&here["baked"][PRODUCTION]),
    );
    assert_eq!(baked.keys().collect::<Vec<_>>(), ["web", "worker"]);
    for service in ["web", "worker"] {
        assert_ne!(built[service], baked[service]);
        assert!(has(&fixture, PRODUCTION, &baked[service]));
        assert!(
            !has(&fixture, PRODUCTION, &built[service]),
            "{service} of staging is in production"
        );
    }
    assert!(has(&fixture, PRODUCTION, &built["migrations/db"]));
    assert!(has(&fixture, STAGING, &baked["web"]));
    fixture.down(STAGING);
    fixture.down(PRODUCTION);
}

#[test]
fn what_is_the_same_everywhere_is_built_once() {
    let fixture = Fixture::new();
    assert!(!steps(&fixture, &DEPLOY).contains(&STEP.to_owned()));
    fixture.tow(&DEPLOY).expect(0);
    assert_eq!(newest(&fixture, STAGING)["baked"], serde_json::json!({}));
    fixture.down(STAGING);
}

#[test]
fn what_was_baked_for_a_commit_is_used_again() {
    let fixture = fixture();
    fixture.tow(&DEPLOY).expect(0);
    let before = newest(&fixture, STAGING);
    fixture.tow(&["deploy", "-e", STAGING, "--again"]).expect(0);
    let after = newest(&fixture, STAGING);
    assert_eq!(before["baked"], after["baked"]);
    fixture.down(STAGING);
}

#[test]
fn a_build_that_fails_for_production_is_found_in_staging() {
    let mut fixture = fixture();
    fixture.tow(&DEPLOY).expect(0);
    fixture.manifest(&manifest().replace("https://example", "fails"));
    fixture.commit();
    let said = fixture.tow(&DEPLOY).expect(5);
    assert!(said.err.contains("it was built for production"), "{said:?}");
    assert!(said.err.contains("build::failed"), "{said:?}");
    assert_eq!(pages(&fixture, STAGING).len(), 1, "a tree was left");
    assert_eq!(newest(&fixture, STAGING)["state"], "live");
    fixture.down(STAGING);
}

#[test]
fn a_bake_goes_on_though_the_agent_is_killed() {
    let mut fixture = fixture();
    fixture.tow(&DEPLOY).expect(0);
    for place in around("apply", STEP) {
        let version = fixture.commit();
        die_with(None, &fixture, STAGING, &DEPLOY, &place, 0).unwrap();
        whole(&fixture, STAGING, &version).unwrap();
        let baked = newest(&fixture, STAGING)["baked"][PRODUCTION].clone();
        assert_eq!(digests(&baked).len(), 2, "{place}");
    }
    fixture.tow(&["promote", "-e", PRODUCTION]).expect(0);
    assert_eq!(
        pages(&fixture, PRODUCTION),
        ["https://example of production"]
    );
    let state = fixture.state(STAGING);
    let left = |names: Vec<String>| names.into_iter().any(|name| name.starts_with("bake-"));
    assert!(!left(members(&state).into_keys().collect()));
    assert!(!left(shims(&state).into_keys().collect()));
    fixture.down(STAGING);
    fixture.down(PRODUCTION);
}

#[test]
fn an_undo_of_a_bake_goes_on_though_the_agent_is_killed() {
    let mut fixture = fixture();
    fixture.tow(&DEPLOY).expect(0);
    fixture.write("worker-mode", "die");
    for place in around("undo", STEP) {
        fixture.commit();
        die_with(None, &fixture, STAGING, &DEPLOY, &place, 5).unwrap();
        whole(&fixture, STAGING, "v1").unwrap_or_else(|why| panic!("{place}: {why}"));
    }
    let pages = pages(&fixture, STAGING);
    assert!(!pages.is_empty());
    assert!(
        pages.iter().all(|page| page.ends_with(" of staging")),
        "a tree of production was left: {pages:?}"
    );
    fixture.down(STAGING);
}
