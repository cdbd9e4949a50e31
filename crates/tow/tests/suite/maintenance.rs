//! `tow maintenance`: a page for everybody, until somebody says otherwise.

use towpath::agent::api::{MaintenanceSet, Status};

use crate::fixture::{Fixture, MANIFEST, STAGING};
use crate::machine::{kill, until};

/// One path is for a load balancer.
fn manifest() -> String {
    MANIFEST.replace(
        "[resources]\n",
        "[edge]\nmaintenance = { paths = [\"/health\"] }\n\n[resources]\n",
    )
}

/// What a client gets: 200 and the version, or the refusal.
fn seen(fixture: &Fixture, path: &str) -> Result<String, String> {
    fixture.get(&fixture.listen(STAGING), path)
}

fn is_page(fixture: &Fixture) -> bool {
    seen(fixture, "/version").is_err_and(|refused| refused.contains("503"))
}

fn gateway(status: &Status) -> u32 {
    status.gateway.as_ref().unwrap().pid
}

#[test]
fn maintenance_outlives_gateway_agent_and_deployment_and_ends_when_somebody_says_so() {
    let mut fixture = Fixture::with(&manifest());
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    assert_eq!(seen(&fixture, "/version").unwrap(), "v1");
    let on = [
        "maintenance",
        "on",
        "-e",
        STAGING,
        "--message",
        "back at noon",
    ];
    let dry: MaintenanceSet = fixture
        .tow(&[&on[..], &["--dry-run", "--json"]].concat())
        .expect(0)
        .json();
    assert!(dry.now.is_some() && fixture.status(STAGING).maintenance.is_none());
    assert_eq!(seen(&fixture, "/version").unwrap(), "v1");
    fixture.tow(&on).expect(0);
    assert!(is_page(&fixture));
    assert!(seen(&fixture, "/health").is_ok(), "a declared path");
    let status = fixture.status(STAGING);
    let said = status.maintenance.as_ref().unwrap();
    assert_eq!(said.message.as_deref(), Some("back at noon"));
    assert_eq!(said.actor, "tester");
    let shown = fixture.tow(&["status", "-e", STAGING]).expect(0).out;
    assert!(
        shown.contains("maintenance for") && shown.contains("back at noon"),
        "{shown}"
    );
    // The gateway is killed, and then the agent.
    kill(gateway(&status));
    let after = until("another gateway answers", || {
        let now = fixture.seen(STAGING)?;
        let pid = now.gateway.as_ref()?.pid;
        (pid != gateway(&status)).then_some(now)
    });
    assert!(is_page(&fixture) && after.maintenance.is_some());
    kill(after.agent_pid);
    assert!(is_page(&fixture));
    assert!(fixture.status(STAGING).maintenance.is_some());
    // A deployment goes its way behind it.
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    assert!(is_page(&fixture));
    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    assert!(is_page(&fixture));
    fixture
        .tow(&["maintenance", "off", "-e", STAGING])
        .expect(0);
    assert_eq!(seen(&fixture, "/version").unwrap(), "v1");
    assert!(fixture.status(STAGING).maintenance.is_none());
    fixture
        .tow(&["maintenance", "off", "-e", STAGING])
        .expect(0);
    fixture.down(STAGING);
}

#[test]
fn maintenance_of_what_does_not_run_counts_when_it_does() {
    let fixture = Fixture::with(&manifest());
    fixture.tow(&["maintenance", "on", "-e", STAGING]).expect(0);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    assert!(is_page(&fixture));
    // A gateway that has lost its table is told again.
    let path = fixture.state(STAGING).join("maintenance.json");
    std::fs::remove_file(&path).unwrap();
    until("it serves", || seen(&fixture, "/version").ok());
    std::fs::write(&path, "{ torn").unwrap();
    until("what cannot be read is no leave to serve", || {
        is_page(&fixture).then_some(())
    });
    fixture
        .tow(&["maintenance", "off", "-e", STAGING])
        .expect(0);
    assert_eq!(seen(&fixture, "/version").unwrap(), "v1");
    fixture.down(STAGING);
}

#[test]
fn a_bad_message_or_time_is_refused_and_changes_nothing() {
    let fixture = Fixture::with(&manifest());
    let on = ["maintenance", "on", "-e", STAGING];
    for (flags, code) in [
        (["--retry-after", "soon"], 2),
        (["--retry-after", "0s"], 2),
        (["--retry-after", "2d"], 2),
        (["--message", "a\nb"], 2),
    ] {
        let said = fixture.tow(&[&on[..], &flags].concat()).expect(code);
        assert!(said.err.contains("error"), "{said:?}");
    }
    let long = "x".repeat(1001);
    fixture
        .tow(&[&on[..], &["--message", &long]].concat())
        .expect(2);
    assert!(fixture.status(STAGING).maintenance.is_none());
    fixture.down(STAGING);
}
