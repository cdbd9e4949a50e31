//! What is removed when its time is over, and what is not.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use towpath::id::ReleaseId;
use towpath::release::Collected;

use crate::fixture::{Fixture, MANIFEST, STAGING};
use crate::machine::until;
use crate::whole::whole;

const DEPLOY: [&str; 3] = ["deploy", "-e", STAGING];

fn names(fixture: &Fixture, folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fixture.state(STAGING).join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

/// Versions that keep so many, of which `count` were deployed.
fn deployed(keep: u32, count: u32) -> Fixture {
    let mut fixture =
        Fixture::with(&MANIFEST.replace("promote = ", &format!("keep = {keep}\npromote = ")));
    fixture.tow(&DEPLOY).expect(0);
    for _ in 1..count {
        fixture.commit();
        fixture.tow(&DEPLOY).expect(0);
    }
    fixture
}

/// Blobs are left alone for an hour: a run may be about to want them.
fn hours_pass(fixture: &Fixture) {
    // An agent that saw them come goes by the boot clock.
    fixture.end_agent(STAGING);
    clock_is_set(fixture);
}

/// What files look like when the clock has been set two hours ahead.
fn clock_is_set(fixture: &Fixture) {
    for name in names(fixture, "blobs") {
        let file = File::open(fixture.state(STAGING).join("blobs").join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(7200))
            .unwrap();
    }
}

fn collect(fixture: &Fixture, more: &[&str]) -> Collected {
    let arguments = [&["gc", "-e", STAGING, "--json"], more].concat();
    fixture.tow(&arguments).expect(0).json()
}

#[test]
fn what_no_way_back_needs_is_removed_and_the_rest_stays() {
    let fixture = deployed(2, 4);
    let last = ["d3-db.db", "d4-db.db"].map(str::to_owned).into();
    until("two builds and two backups are left", || {
        let left = (names(&fixture, "builds").len(), names(&fixture, "backups"));
        (left.0 == 2 && left.1 == last).then_some(())
    });
    let before = names(&fixture, "blobs");
    assert!(
        collect(&fixture, &[]).removed.is_empty(),
        "a fresh blob was taken for old"
    );
    clock_is_set(&fixture);
    assert!(
        collect(&fixture, &[]).removed.is_empty(),
        "a clock that was set has made a fresh blob old"
    );
    // One that is still coming in, over a slow link.
    let part = fixture.state(STAGING).join("blobs/partial/part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, "half of it").unwrap();
    let before: BTreeSet<String> = before.into_iter().chain(["partial".to_owned()]).collect();
    hours_pass(&fixture);
    let would = collect(&fixture, &["--dry-run"]);
    assert_eq!(
        names(&fixture, "blobs"),
        before,
        "a dry run has removed something"
    );
    let done = collect(&fixture, &[]);
    assert_eq!(done, would);
    assert!(done.freed_bytes > 0 && done.removed.iter().all(|one| one.kind == "blob"));
    assert_eq!(done.kept, [ReleaseId(3), ReleaseId(4)]);
    assert_eq!(
        names(&fixture, "blobs").len() + done.removed.len(),
        before.len()
    );
    assert!(part.exists(), "what is still coming in was removed");
    let said = fixture.tow(&["rollback", "r1", "-e", STAGING]).expect(4);
    assert!(said.err.contains("release::removed"), "{}", said.err);
    whole(&fixture, STAGING, "v4").unwrap();
    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    whole(&fixture, STAGING, "v3").unwrap();
    let listed: Vec<towpath::agent::api::ReleaseStatus> = fixture
        .tow(&["releases", "-e", STAGING, "--json"])
        .expect(0)
        .json();
    assert_eq!(listed.len(), 4, "the records stay");
    fixture.down(STAGING);
}

/// As a kill in the middle leaves it: something renamed, something half gone.
#[test]
fn what_a_kill_in_the_middle_left_is_removed_the_next_time() {
    let fixture = deployed(5, 2);
    // What the run itself does at its end is over then.
    collect(&fixture, &[]);
    let builds: PathBuf = fixture.state(STAGING).join("builds");
    fs::create_dir_all(builds.join(".gc-0123456789ab/deep")).unwrap();
    fs::write(builds.join(".gc-0123456789ab/deep/file"), "x").unwrap();
    let done = collect(&fixture, &[]);
    let names_of: Vec<_> = done.removed.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names_of, [".gc-0123456789ab"]);
    assert_eq!(names(&fixture, "builds").len(), 2);
    whole(&fixture, STAGING, "v2").unwrap();
    fixture.down(STAGING);
}

/// Releases that failed are newer than the one to go back to, which nothing but its past holds.
#[test]
fn the_release_to_go_back_to_stays_when_newer_ones_failed() {
    let mut fixture = deployed(2, 1);
    fixture.write("worker-mode", "die");
    for _ in 0..3 {
        fixture.commit();
        fixture.tow(&DEPLOY).expect(5);
    }
    whole(&fixture, STAGING, "v1").unwrap();
    fixture.down(STAGING);
    hours_pass(&fixture);
    let done = collect(&fixture, &[]);
    assert_eq!(done.kept, [ReleaseId(1), ReleaseId(3), ReleaseId(4)]);
    assert_eq!(names(&fixture, "builds").len(), 3);
    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    whole(&fixture, STAGING, "v1").unwrap();
    fixture.down(STAGING);
}
