//! What crosses from one environment to the next, and what must not.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use towpath::agent::api::{Accepted, Begin, Offer, What};
use towpath::agent::{Client, ClientError, socket};
use towpath::id::{Digest, ReleaseId};
use towpath::release::SigningKey;
use towpath::state::StoredRelease;

use crate::fixture::{Fixture, MANIFEST, PRODUCTION, STAGING};

fn client(fixture: &Fixture, environment: &str) -> Client {
    Client::new(socket(&fixture.state(environment)))
}

/// The release that staging has, as it is offered to production.
fn offered(fixture: &Fixture) -> Offer {
    let release = client(fixture, STAGING);
    let stored: StoredRelease = fixture
        .run(release.get(&format!("/v1/releases/{}", ReleaseId(1))))
        .unwrap();
    Offer {
        record: stored.record,
        signature: stored.signature,
        key: stored.key,
    }
}

fn refusal(fixture: &Fixture, offer: &Offer) -> (u8, String) {
    let client = client(fixture, PRODUCTION);
    let answer: Result<Accepted, ClientError> = fixture.run(client.post("/v1/releases", offer));
    let trouble = answer.expect_err("a refusal").into_trouble();
    (trouble.exit, trouble.diagnostic.code.to_string())
}

fn changed(record: &str, key: &str, value: &str) -> String {
    let mut record: Value = serde_json::from_str(record).unwrap();
    record[key] = Value::from(value);
    record.to_string()
}

#[test]
fn only_a_release_as_it_was_signed_is_accepted() {
    let fixture = Fixture::new();
    fixture.bring(STAGING).expect(0);
    fixture.agent(PRODUCTION);
    let offer = offered(&fixture);
    let tampered = Offer {
        record: changed(&offer.record, "manifest", "app = \"x\""),
        ..offer.clone()
    };
    assert_eq!(
        refusal(&fixture, &tampered),
        (4, "release::signature".to_owned())
    );
    let other_app = changed(&offer.record, "app", "other");
    assert_eq!(
        refusal(
            &fixture,
            &Offer {
                record: other_app,
                ..offer.clone()
            }
        ),
        (3, "release::other-app".to_owned())
    );
    let other_machine = changed(&offer.record, "platform", "plan9-pdp11-none");
    let other_machine = Offer {
        record: other_machine,
        ..offer.clone()
    };
    assert_eq!(
        refusal(&fixture, &other_machine),
        (3, "release::platform".to_owned())
    );
    let accepted: Accepted = fixture
        .run(client(&fixture, PRODUCTION).post("/v1/releases", &offer))
        .unwrap();
    assert!(
        !accepted.missing.is_empty(),
        "production has the artifacts of staging already"
    );
    // The key that was seen first is the one that counts.
    let stranger = SigningKey::open(&fixture.dir).unwrap();
    let record = changed(&offer.record, "manifest", "app = \"y\"");
    let (signature, key) = (stranger.sign(&record), stranger.public());
    assert_eq!(
        refusal(
            &fixture,
            &Offer {
                record,
                signature,
                key
            }
        ),
        (4, "release::other-key".to_owned())
    );
    fixture.down(STAGING);
    fixture.down(PRODUCTION);
}

#[test]
fn a_blob_is_kept_only_under_its_own_digest() {
    let fixture = Fixture::new();
    fixture.agent(STAGING);
    let client = client(&fixture, STAGING);
    let (right, wrong) = (Digest::of(b"right"), Digest::of(b"wrong"));
    let refused = fixture.run(client.put_blob(wrong, &b"right"[..], Arc::new(|_, _| ())));
    assert!(
        matches!(refused, Err(ClientError::Trouble(_))),
        "{refused:?}"
    );
    assert!(!fixture.run(client.has_blob(wrong)).unwrap());
    assert!(!fixture.run(client.has_blob(right)).unwrap());
    fixture
        .run(client.put_blob(right, &b"right"[..], Arc::new(|_, _| ())))
        .unwrap();
    assert!(fixture.run(client.has_blob(right)).unwrap());
    let count = |folder: &str| {
        let folder = fixture.state(STAGING).join(folder);
        std::fs::read_dir(folder).unwrap().count()
    };
    // The blob, and the folder of those that are on their way.
    let left = (count("blobs"), count("blobs/partial"));
    assert_eq!(left, (2, 0), "a blob that was refused left something");
    fixture.down(STAGING);
}

/// Builds and blobs of staging.
fn kept(fixture: &Fixture) -> BTreeSet<PathBuf> {
    let folders = ["builds", "blobs"].map(|name| fixture.state(STAGING).join(name));
    let entries = folders.map(|folder| std::fs::read_dir(folder).unwrap());
    entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[test]
fn a_tree_with_a_link_out_of_it_is_refused_and_nothing_is_touched() {
    let mut fixture = Fixture::new();
    fixture.bring(STAGING).expect(0);
    std::os::unix::fs::symlink("/etc/passwd", fixture.repo().join("users")).unwrap();
    fixture.commit();
    let kept = kept(&fixture);
    let said = fixture.bring(STAGING).expect(3);
    assert!(said.err.contains("leaves the tree"), "{}", said.err);
    assert_eq!(self::kept(&fixture), kept, "the archive left something");
    let status = fixture.status(STAGING);
    assert_eq!(
        status.live.and_then(|live| live.release),
        Some(ReleaseId(1))
    );
    assert!(status.run.is_none());
    fixture.down(STAGING);
}

#[test]
fn staging_and_production_share_no_user() {
    if !rustix::process::geteuid().is_root() {
        println!("not run: only a root agent can give its services a user of their own");
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let fixture = Fixture::new();
    fixture.bring(PRODUCTION).expect(0);
    let user = |environment: &str| {
        let owner = std::fs::metadata(fixture.state(environment).join("data"))
            .unwrap()
            .uid();
        for instance in fixture.status(environment).instances {
            let pid = instance.pid.expect("a running instance");
            let uid = std::fs::metadata(format!("/proc/{pid}")).unwrap().uid();
            assert_eq!(uid, owner, "{}", instance.id);
        }
        owner
    };
    let (staging, production) = (user(STAGING), user(PRODUCTION));
    assert!(
        staging != production && staging != 0 && production != 0,
        "{staging} {production}"
    );
    fixture.down(STAGING);
    fixture.down(PRODUCTION);
}

#[test]
fn production_never_builds_and_runs_no_source_tree() {
    let fixture = Fixture::new();
    for arguments in [
        ["deploy", "-e", PRODUCTION],
        ["up", "-e", PRODUCTION],
        ["up", "-e", STAGING],
    ] {
        let said = fixture.tow(&arguments).expect(4);
        assert!(said.err.contains("deploy::not-the-way"), "{}", said.err);
    }
    assert!(fixture.status(PRODUCTION).live.is_none());
    fixture.down(STAGING);
    fixture.down(PRODUCTION);
}

#[test]
fn a_manifest_that_is_refused_leaves_no_tree_behind() {
    let mut fixture = Fixture::new();
    fixture.bring(STAGING).expect(0);
    let builds = |fixture: &Fixture| {
        std::fs::read_dir(fixture.state(STAGING).join("builds"))
            .unwrap()
            .count()
    };
    let before = builds(&fixture);
    fixture.manifest(&MANIFEST.replace("role = \"worker\"", "role = \"wroker\""));
    fixture.commit();
    fixture.bring(STAGING).expect(3);
    assert_eq!(builds(&fixture), before);
    fixture.manifest(MANIFEST);
    fixture.commit();
    fixture
        .tow(&["deploy", "-e", STAGING, "--dry-run"])
        .expect(0);
    assert_eq!(builds(&fixture), before, "after a dry run");
    fixture.down(STAGING);
}

/// Who holds the key of staging can sign anything: what production unpacks is looked at all the same.
#[test]
fn an_artifact_that_leads_out_of_its_folder_is_refused_by_the_next_environment() {
    let fixture = Fixture::new();
    fixture.bring(STAGING).expect(0);
    fixture.agent(PRODUCTION);
    let archive = fixture.dir.join("hostile.tar.gz");
    std::os::unix::fs::symlink("/etc", fixture.dir.join("out")).unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.arg("-czf")
        .arg(&archive)
        .arg("-C")
        .arg(&fixture.dir)
        .arg("out");
    assert!(tar.status().unwrap().success());
    let bytes = std::fs::read(&archive).unwrap();
    let digest = Digest::of(&bytes);
    let mut record: Value = serde_json::from_str(&offered(&fixture).record).unwrap();
    record["artifacts"]["web"] = Value::from(digest.to_string());
    let record = record.to_string();
    let key = SigningKey::open(&fixture.state(STAGING)).unwrap();
    let offer = Offer {
        signature: key.sign(&record),
        key: key.public(),
        record,
    };
    let production = client(&fixture, PRODUCTION);
    let accepted: Accepted = fixture
        .run(production.post("/v1/releases", &offer))
        .unwrap();
    let staging = fixture.state(STAGING).join("blobs");
    for missing in accepted.missing {
        let bytes = match missing == digest {
            true => bytes.clone(),
            false => std::fs::read(staging.join(missing.to_string())).unwrap(),
        };
        let put = production.put_blob(missing, bytes, Arc::new(|_, _| ()));
        fixture.run(put).unwrap();
    }
    let what = What::Promote {
        release: accepted.release,
    };
    let begin = Begin::new(what, "tester".to_owned());
    let refused: Result<Value, ClientError> = fixture.run(production.post("/v1/runs", &begin));
    let trouble = refused.expect_err("a refusal").into_trouble();
    assert_eq!(
        (trouble.exit, &*trouble.diagnostic.code),
        (3, "build::hostile")
    );
    let builds = fixture.state(PRODUCTION).join("builds");
    assert_eq!(std::fs::read_dir(builds).unwrap().count(), 0);
    assert!(fixture.status(PRODUCTION).ended.is_empty());
    fixture.down(STAGING);
    fixture.down(PRODUCTION);
}
