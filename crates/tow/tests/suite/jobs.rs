//! Jobs, which run when they are due, and commands that run once before a version starts.

use std::fs;

use towpath::agent::api::{JobStatus, Status};

use crate::fixture::{Fixture, MANIFEST, STAGING};
use crate::machine::{self, until};
use crate::snapshot::check_said;

/// It works until it is let go, and writes down who began and who ended.
const JOB: &str = r#"
[services.nightly]
role = "job"
schedule = "every 1s"
run = "echo begin $$ $(cat version) >> $DATA/job; until test -e $DATA/go; do sleep 0.02; done; echo end $$ >> $DATA/job"
env = { DATA = "DATA" }

[resources]
"#;

const SLOW: &str = r#"
[services.slow]
role = "job"
schedule = "every 1s"
timeout = "1s"
run = "sleep 3600"

[services.broken]
role = "job"
schedule = "* * * * *"
run = "exit 3"

[resources]
"#;

const COMMAND: &str = r#"
env = { DATA = "DATA" }
release = "echo once $(cat version) >> $DATA/release; test ! -e refuse"
needs = ["db"]
"#;

/// The fixture's manifest with a command before its web service starts.
pub fn with_command() -> String {
    let plain = "\nenv = { DATA = \"DATA\" }\nneeds = [\"db\"]\n";
    let manifest = MANIFEST.replacen(plain, COMMAND, 1);
    assert_ne!(manifest, MANIFEST);
    manifest
}

fn with(job: &str) -> Fixture {
    Fixture::with(&MANIFEST.replace("\n[resources]\n", job))
}

fn job(status: &Status, name: &str) -> JobStatus {
    let mut jobs = status.jobs.iter().filter(|job| job.service == name);
    jobs.next().unwrap().clone()
}

fn until_job(
    fixture: &Fixture,
    what: &str,
    name: &str,
    holds: impl Fn(&JobStatus) -> bool,
) -> JobStatus {
    until(what, || {
        let one = job(&fixture.seen(STAGING)?, name);
        holds(&one).then_some(one)
    })
}

/// Runs that began while another had not ended, of all that began; and the versions they were of.
fn overlaps(fixture: &Fixture) -> (usize, Vec<String>) {
    let text = fs::read_to_string(fixture.data("job")).unwrap_or_default();
    let (mut under_way, mut doubled, mut versions) = (0, 0, Vec::new());
    for line in text.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["begin", _, version] => {
                doubled += usize::from(under_way > 0);
                under_way += 1;
                versions.push(version.to_owned());
            }
            _ => under_way -= 1,
        }
    }
    (doubled, versions)
}

#[test]
fn a_job_runs_when_it_is_due_and_never_beside_itself() {
    let mut fixture = with(JOB);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let first = until_job(&fixture, "it is left out twice", "nightly", |job| {
        job.skipped >= 2
    });
    assert_eq!(first.running.len(), 1);
    // Neither the end of its agent nor the next version ends it, or starts another.
    machine::kill(fixture.seen(STAGING).unwrap().agent_pid);
    let after = job(&fixture.status(STAGING), "nightly");
    assert_eq!(after.running, first.running);
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let now = job(&fixture.status(STAGING), "nightly");
    let later = until_job(&fixture, "it is left out again", "nightly", |job| {
        job.skipped > now.skipped
    });
    assert_eq!(later.running, first.running);
    assert_eq!(overlaps(&fixture), (0, vec!["v1".to_owned()]));
    fs::write(fixture.data("go"), "").unwrap();
    until("the next version's is run", || {
        overlaps(&fixture)
            .1
            .contains(&"v2".to_owned())
            .then_some(())
    });
    let ended = until_job(&fixture, "its end is told", "nightly", |job| {
        job.last.is_some()
    });
    assert!(ended.last.unwrap().good);
    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    let turned = overlaps(&fixture).1.len();
    let versions = until("the version before has its jobs again", || {
        let versions = overlaps(&fixture).1;
        (versions.len() > turned + 1).then(|| versions[turned + 1..].to_vec())
    });
    assert!(
        versions.iter().all(|version| version == "v1"),
        "{versions:?}"
    );
    let (doubled, begun) = overlaps(&fixture);
    println!("jobs: {doubled} of {} runs beside another", begun.len());
    assert_eq!(doubled, 0);
    fs::remove_file(fixture.data("go")).unwrap();
    until_job(&fixture, "it runs", "nightly", |job| {
        !job.running.is_empty()
    });
    fixture.down(STAGING);
}

#[test]
fn no_job_writes_while_requests_wait_for_a_rewrite() {
    let mut fixture = with(JOB);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let first = until_job(&fixture, "it runs", "nightly", |job| {
        !job.running.is_empty()
    });
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    // It is the warm version's now.
    assert_eq!(
        job(&fixture.status(STAGING), "nightly").running,
        first.running
    );
    let manifest = MANIFEST.replace("\n[resources]\n", JOB);
    fixture.manifest(&manifest.replace("within = \"60s\", timeout = \"10s\"", "within = \"2s\""));
    let rewrite = "-- tow: rewrite\nCREATE TABLE anew (a TEXT);\n";
    fixture.write("migrations/0001_anew.up.sql", rewrite);
    fixture.write("mode", "never-ready");
    fixture.commit();
    // Undone, so that it is not the end of its version which ends it.
    fixture.tow(&["deploy", "-e", STAGING]).expect(5);
    let ended = until_job(&fixture, "its end is told", "nightly", |job| {
        job.last.is_some()
    });
    let end = ended.last.unwrap();
    assert_eq!((end.good, Some(&end.id)), (false, first.running.first()));
    fixture.down(STAGING);
}

#[test]
fn how_a_job_ended_is_told() {
    let fixture = with(SLOW);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let slow = until_job(&fixture, "it is stopped", "slow", |job| job.last.is_some());
    let end = slow.last.unwrap();
    assert_eq!(
        (end.good, end.how.as_str()),
        (false, "took too long, and was stopped")
    );
    let broken = job(&fixture.status(STAGING), "broken");
    assert!(broken.next_ms.is_some() && broken.running.is_empty());
    fixture.down(STAGING);
}

fn releases(fixture: &Fixture) -> Vec<String> {
    let text = fs::read_to_string(fixture.data("release")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_command_before_a_start_runs_once_wherever_the_agent_dies() {
    let mut fixture = Fixture::with(&with_command());
    let mut seen = Vec::new();
    for point in ["before", "after", "written"] {
        let place = format!("apply:release:web:{point}");
        let mut agent = fixture.doomed_agent(STAGING, &place);
        fixture.tow(&["deploy", "-e", STAGING]).expect(0);
        agent.wait().unwrap();
        seen.push(format!("once v{}", fixture.version));
        assert_eq!(releases(&fixture), seen, "killed at {place}");
        fixture.commit();
    }
    println!(
        "release commands: 0 doubled of {}, each with its agent killed",
        seen.len()
    );
    fixture.write("refuse", "");
    fixture.commit();
    let said = fixture.tow(&["deploy", "-e", STAGING]);
    check_said(&fixture, "release-command", &said);
    assert_eq!(said.code, 5);
    // What it has changed stays, and so does what was there before.
    let run = fixture.status(STAGING).ended[0].run;
    let backups = fixture.state(STAGING).join("backups");
    assert!(backups.join(format!("{run}-db.db")).is_file());
    // A way back is to a version that had it.
    let count = releases(&fixture).len();
    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    assert_eq!(releases(&fixture).len(), count);
    fixture.down(STAGING);
}
