//! The file of secrets and the agent that is sent its part: what a dry run plans with, and what is kept of it.

use std::fs;

use crate::canary::set;
use crate::fixture::{Fixture, PRODUCTION, STAGING};

const MANIFEST: &str = r#"
app = "fixture"
promote = ["staging", "production"]

[services.web]
build = "true"
run = "python3 -m http.server --bind $HOST $PORT"
ready = { http = "/version", every = "20ms", within = "60s", timeout = "10s" }
secrets = ["API_KEY"]

[environments.local]
listen = "LISTEN"
[environments.staging]
[environments.production]
"#;

/// An application whose commands have an identity of their own.
fn fixture() -> Fixture {
    let mut fixture = Fixture::with(MANIFEST);
    let home = fixture.dir.join("config");
    fixture.env.push(("XDG_CONFIG_HOME", home));
    fixture
}

/// The files of an agent that hold what came of the secrets.
fn kept(fixture: &Fixture, environment: &str) -> Vec<Option<Vec<u8>>> {
    let state = fixture.state(environment);
    let files = ["tow.secrets.toml", "secrets.pin", "secrets.audit"];
    files.map(|name| fs::read(state.join(name)).ok()).to_vec()
}

#[test]
fn a_dry_run_plans_with_the_secrets_beside_it_and_leaves_nothing_of_them() {
    let mut fixture = fixture();
    let dry = ["deploy", "-e", STAGING, "--dry-run"];
    let missing = fixture.tow(&dry).expect(3);
    assert!(missing.err.contains("secret::missing"), "{missing:?}");

    set(&fixture, "API_KEY", STAGING, "first value").expect(0);
    fixture.commit();
    for looking in [&dry[..], &["plan", "explain", "-e", STAGING]] {
        let said = fixture.tow(looking).expect(0);
        assert!(said.out.contains("would bring in"), "{said:?}");
        assert_eq!(kept(&fixture, STAGING), [None, None, None]);
    }
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);

    let promote = ["promote", "-e", PRODUCTION, "--dry-run"];
    fixture.tow(&promote).expect(3);
    set(&fixture, "API_KEY", PRODUCTION, "of production").expect(0);
    fixture.tow(&promote).expect(0);
    assert_eq!(kept(&fixture, PRODUCTION), [None, None, None]);

    // A generation that only dry runs have seen is none that was here: another one in its place is taken.
    let file = fixture.repo().join("tow.secrets.toml");
    let (before, was) = (fs::read(&file).unwrap(), kept(&fixture, STAGING));
    set(&fixture, "API_KEY", STAGING, "second value").expect(0);
    fixture.commit();
    fixture.tow(&dry).expect(0);
    assert_eq!(kept(&fixture, STAGING), was);
    fs::write(&file, before).unwrap();
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    fixture.down(STAGING);
}

#[test]
fn a_dry_run_refuses_the_secrets_that_the_real_run_would_refuse() {
    let mut fixture = fixture();
    set(&fixture, "API_KEY", STAGING, "first value").expect(0);
    let file = fixture.repo().join("tow.secrets.toml");
    let before = fs::read(&file).unwrap();
    set(&fixture, "API_KEY", STAGING, "second value").expect(0);
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let was = kept(&fixture, STAGING);

    fs::write(&file, before).unwrap();
    fixture.commit();
    for arguments in [&["--dry-run"][..], &[]] {
        let said = fixture.tow(&[&["deploy", "-e", STAGING], arguments].concat());
        let said = said.expect(4);
        assert!(said.err.contains("were set back"), "{said:?}");
        assert_eq!(kept(&fixture, STAGING), was);
    }
    fixture.down(STAGING);
}
