//! Where the gateway listens, once the manifest wants it elsewhere.

use std::net::TcpListener;

use crate::fixture::{Fixture, STAGING};

const MANIFEST: &str = r#"
app = "fixture"

[services.web]
build = "true"
run = "python3 -m http.server --bind $HOST $PORT"
ready = { http = "/version", every = "20ms", within = "60s", timeout = "10s" }

[environments.local]
listen = "127.0.0.1:LOCAL"
[environments.staging]
listen = "127.0.0.1:STAGING"
window = "1h"
"#;

/// Ports that nobody listens on, each another.
fn ports<const COUNT: usize>() -> [u16; COUNT] {
    let taken = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    taken.map(|listener| listener.local_addr().unwrap().port())
}

fn manifest(local: u16, staging: u16) -> String {
    let text = MANIFEST.replace("LOCAL", &local.to_string());
    text.replace("STAGING", &staging.to_string())
}

/// What drift says of the gateway: name, staged, applied and live.
fn drift(fixture: &Fixture, environment: &str) -> Vec<Vec<String>> {
    let drift = ["config", "drift", "-e", environment, "--json"];
    let rows: Vec<serde_json::Value> = fixture.tow(&drift).expect(0).json();
    let of = |row: &serde_json::Value| {
        let cells = ["name", "staged", "applied", "live"];
        cells
            .map(|cell| row[cell].as_str().unwrap().to_owned())
            .to_vec()
    };
    rows.iter().map(of).collect()
}

#[test]
fn another_address_is_refused_until_the_environment_is_taken_down() {
    let [one, two, three, four] = ports();
    let mut fixture = Fixture::with(&manifest(one, two));
    for (environment, bring, old, new) in [
        ("local", &["up"][..], one, three),
        (STAGING, &["deploy", "-e", STAGING], two, four),
    ] {
        fixture.manifest(&manifest(one, two));
        fixture.commit();
        fixture.tow(bring).expect(0);
        assert_eq!(drift(&fixture, environment), Vec::<Vec<String>>::new());

        fixture.manifest(&manifest(three, four));
        fixture.commit();
        let (old, new) = (format!("127.0.0.1:{old}"), format!("127.0.0.1:{new}"));
        for arguments in [&["--dry-run"][..], &[]] {
            let refused = fixture.tow(&[bring, arguments].concat()).expect(4);
            let down = format!("tow down -e {environment}");
            for said in ["gateway::other-address", &old, &new, &down] {
                assert!(refused.err.contains(said), "{said} in {refused:?}");
            }
        }
        assert_eq!(fixture.listen(environment), old);
        assert!(fixture.get(&old, "/version").is_ok());
        assert_eq!(drift(&fixture, environment), [["listen", &new, &old, &old]]);

        fixture.down(environment);
        fixture.tow(bring).expect(0);
        assert_eq!(fixture.listen(environment), new);
        assert_eq!(drift(&fixture, environment), Vec::<Vec<String>>::new());
    }
    // The way back is free all the same, and says what stays.
    let back = fixture.tow(&["rollback", "r1", "-e", STAGING]).expect(0);
    let [old, new] = [two, four].map(|port| format!("127.0.0.1:{port}"));
    let kept = format!("the gateway keeps {new}, though that release wants {old}");
    assert!(back.err.contains(&kept), "{back:?}");
    assert_eq!(drift(&fixture, STAGING), [["listen", &new, &old, &new]]);
    for environment in ["local", STAGING] {
        fixture.down(environment);
    }
}
