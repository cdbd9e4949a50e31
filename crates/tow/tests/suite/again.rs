//! Deploying what serves already, and going back afterwards.

use towpath::agent::api::{Begun, Status};
use towpath::id::ReleaseId;

use crate::fixture::{Fixture, PRODUCTION, STAGING};
use crate::snapshot::check_said;
use crate::whole::whole;

const DEPLOY: [&str; 3] = ["deploy", "-e", STAGING];

/// What serves, what is warm, and how many runs there were.
fn stands(status: &Status) -> (Option<ReleaseId>, Option<ReleaseId>, usize) {
    let release = |version: &Option<towpath::agent::api::VersionStatus>| {
        version.as_ref().and_then(|version| version.release)
    };
    (
        release(&status.live),
        release(&status.warm),
        status.ended.len(),
    )
}

fn price(fixture: &Fixture) -> String {
    let begun: Begun = fixture
        .tow(&["rollback", "-e", STAGING, "--dry-run", "--json"])
        .expect(0)
        .json();
    begun.price.unwrap()
}

#[test]
fn what_serves_already_is_not_deployed_again_unless_it_is_asked_for() {
    let (first, second) = (Some(ReleaseId(1)), Some(ReleaseId(2)));
    let mut fixture = Fixture::new();
    fixture.tow(&DEPLOY).expect(0);
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    let before = fixture.status(STAGING);
    assert_eq!(stands(&before), (second, first, 2));
    check_said(&fixture, "already", &fixture.tow(&DEPLOY));
    let after = fixture.status(STAGING);
    assert_eq!(stands(&after), (second, first, 2));
    let pids = |status: &Status| {
        status
            .instances
            .iter()
            .map(|one| one.pid)
            .collect::<Vec<_>>()
    };
    assert_eq!(pids(&after), pids(&before), "something was started anew");
    fixture.tow(&["deploy", "-e", STAGING, "--again"]).expect(0);
    let anew = whole(&fixture, STAGING, "v2").unwrap();
    assert_eq!(stands(&anew), (second, first, 3));
    assert_ne!(pids(&anew)[0], pids(&before)[0], "nothing was started anew");
    let warm = |status: &Status| {
        let warm = status.instances.iter().filter(|one| one.side == "warm");
        warm.map(|one| (one.id.clone(), one.pid))
            .collect::<Vec<_>>()
    };
    assert_eq!(warm(&anew), warm(&before), "the warm version was touched");
    assert!(
        price(&fixture).starts_with("r2 -> r1, warm"),
        "{}",
        price(&fixture)
    );
    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    assert_eq!(
        stands(&whole(&fixture, STAGING, "v1").unwrap()),
        (first, None, 4)
    );
    fixture.down(STAGING);
}

#[test]
fn what_serves_already_is_not_promoted_again() {
    let fixture = Fixture::new();
    fixture.bring(PRODUCTION).expect(0);
    let before = fixture.status(PRODUCTION);
    fixture.bring(PRODUCTION).expect(0);
    assert_eq!(stands(&fixture.status(PRODUCTION)), stands(&before));
    fixture
        .tow(&["promote", "-e", PRODUCTION, "--again"])
        .expect(0);
    assert_eq!(
        stands(&fixture.status(PRODUCTION)),
        (Some(ReleaseId(1)), None, 2)
    );
    fixture.down(STAGING);
    fixture.down(PRODUCTION);
}

#[test]
fn the_price_of_a_way_back_is_true_when_nothing_runs() {
    let mut fixture = Fixture::new();
    fixture.tow(&DEPLOY).expect(0);
    fixture.migration();
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    assert!(
        price(&fixture).contains("the schema stays at 0002"),
        "{}",
        price(&fixture)
    );
    fixture.down(STAGING);
    let price = price(&fixture);
    assert!(price.contains("nothing -> r2, cold"), "{price}");
    assert!(price.contains("the schema stays at 0002"), "{price}");
    fixture.down(STAGING);
}
