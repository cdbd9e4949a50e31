//! What `--json` prints: keys and types.

use serde_json::Value;

use crate::fixture::{Fixture, STAGING};
use crate::snapshot::check_shape;

#[test]
fn json_keeps_its_keys_and_types() {
    let mut fixture = Fixture::new();
    let deploy: Value = fixture
        .tow(&["deploy", "-e", STAGING, "--json"])
        .expect(0)
        .json();
    check_shape("deploy", &deploy);
    fixture.migration();
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    fixture.commit();
    for (name, arguments) in [
        ("status", vec!["status"]),
        ("ps", vec!["ps"]),
        ("releases", vec!["releases"]),
        ("deploy-dry-run", vec!["deploy", "--dry-run"]),
        ("rollback-dry-run", vec!["rollback", "--dry-run"]),
        ("config", vec!["config"]),
    ] {
        let arguments = [arguments.as_slice(), &["-e", STAGING, "--json"]].concat();
        let said: Value = fixture.tow(&arguments).expect(0).json();
        check_shape(name, &said);
    }
    let refused: Value = fixture
        .tow(&["promote", "-e", STAGING, "--json"])
        .expect(3)
        .json();
    check_shape("trouble", &refused);
    fixture.down(STAGING);
}
