//! Who reads secrets, and what was seen of them: nobody comes to read them by writing to the repository alone.

use std::fs;
use std::path::PathBuf;

use towpath::secret::{File, Identity};

use crate::canary::set;
use crate::fixture::{Fixture, MANIFEST, STAGING};
use crate::whole::whole;

fn fixture() -> Fixture {
    let worker = "run = \"APP worker\"";
    let keyed = "run = \"APP worker\"\nsecrets = [\"KEY\"]";
    let mut fixture = Fixture::with(&MANIFEST.replace(worker, keyed));
    let home = fixture.dir.join("config");
    fixture.env.push(("XDG_CONFIG_HOME", home));
    set(&fixture, "KEY", STAGING, "the first value").expect(0);
    fixture.commit();
    fixture
}

fn file(fixture: &Fixture) -> PathBuf {
    fixture.repo().join("tow.secrets.toml")
}

/// Has a stranger stand among the readers, as anybody can who may commit.
fn with_stranger(fixture: &Fixture, text: &str) -> String {
    let stranger = Identity::open(&fixture.dir.join("stranger")).unwrap();
    let contact = stranger.contact();
    format!(
        "{text}\n[people.ops]\nrecipient = {:?}\nkey = {:?}\nenvironments = [\"staging\"]\n",
        contact.recipient,
        contact.key.unwrap()
    )
}

fn reads(fixture: &Fixture) -> bool {
    let stranger = Identity::open(&fixture.dir.join("stranger")).unwrap();
    let file = File::read(&fixture.repo()).unwrap().unwrap();
    file.open(STAGING, "KEY", &stranger).is_ok()
}

const SET: [&str; 5] = ["secrets", "set", "KEY", "-e", STAGING];

#[test]
fn a_reader_whom_nobody_signed_is_given_nothing() {
    let fixture = fixture();
    let text = fs::read_to_string(file(&fixture)).unwrap();
    let people = text.split("\n[environments.").next().unwrap();
    let none = text.split("\n[people.").next().unwrap();
    let cases = [
        ("among the readers", with_stranger(&fixture, &text)),
        ("the section gone", with_stranger(&fixture, people)),
        ("alone", with_stranger(&fixture, none)),
    ];
    for (case, changed) in cases {
        fs::write(file(&fixture), &changed).unwrap();
        let refused = fixture.tow_with(&SET, "the next value").expect(4);
        assert!(
            refused.err.contains("secret::tampered"),
            "{case}: {refused:?}"
        );
        fixture.tow(&["check"]).expect(3);
        fixture.tow(&["secrets", "list", "-e", STAGING]).expect(4);
        let refused = fixture.tow(&["secrets", "sign", "-e", STAGING]).expect(4);
        assert!(
            refused
                .err
                .contains("`tow secrets sign -e staging --reader ops`"),
            "{case}: {refused:?}"
        );
        assert_eq!(
            fs::read_to_string(file(&fixture)).unwrap(),
            changed,
            "{case}"
        );
        assert!(!reads(&fixture), "{case}");
    }
    // Where nothing was seen yet, readers whom nobody signed are none all the same.
    let seen = fixture.dir.join("config/towpath/seen");
    fs::remove_dir_all(seen).unwrap();
    let refused = fixture.tow_with(&SET, "the next value").expect(4);
    assert!(refused.err.contains("nobody signed"), "{refused:?}");

    // It may be right.
    fs::write(file(&fixture), &text).unwrap();
    fixture.tow_with(&SET, "the next value").expect(0);
    let text = fs::read_to_string(file(&fixture)).unwrap();
    fs::write(file(&fixture), with_stranger(&fixture, &text)).unwrap();
    let sign = ["secrets", "sign", "-e", STAGING, "--reader", "ops"];
    fixture.tow(&sign).expect(0);
    fixture.tow_with(&SET, "the next value").expect(0);
    assert!(reads(&fixture));
}

#[test]
fn secrets_that_were_set_back_are_found_and_signed_once() {
    let mut fixture = fixture();
    let first = fs::read(file(&fixture)).unwrap();
    let version = fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    for text in ["the second value", "the third value", "the fourth value"] {
        fixture.tow_with(&SET, text).expect(0);
    }
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);

    fs::write(file(&fixture), &first).unwrap();
    fixture.commit();
    let refused = fixture.tow(&["deploy", "-e", STAGING]).expect(4);
    assert!(refused.err.contains("secret::tampered"), "{refused:?}");
    fixture.tow(&["check"]).expect(3);
    // The way back does not hang on what stands in the tree, whole or torn.
    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    whole(&fixture, STAGING, &version).unwrap();
    fs::write(file(&fixture), &first[..first.len() / 2]).unwrap();
    fixture.tow(&["rollback", "r2", "-e", STAGING]).expect(0);

    fs::write(file(&fixture), &first).unwrap();
    fixture.tow(&["secrets", "sign", "-e", STAGING]).expect(0);
    let version = fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    whole(&fixture, STAGING, &version).unwrap();
    fixture.down(STAGING);
}

/// What comes with somebody's repository may be anything.
#[test]
fn what_is_no_file_is_not_waited_for() {
    let fixture = fixture();
    let place = file(&fixture);
    fs::remove_file(&place).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &place).unwrap();
    let refused = fixture.tow(&["check"]).expect(3);
    assert!(refused.err.contains("no file"), "{refused:?}");
    fs::remove_file(&place).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &place,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let refused = fixture
        .tow(&["secrets", "get", "KEY", "-e", STAGING])
        .expect(1);
    assert!(refused.err.contains("no file"), "{refused:?}");
}

#[test]
fn a_manifest_without_a_word_is_told_what_it_lacks() {
    let fixture = Fixture::new();
    for text in ["", "# nothing yet\n"] {
        fs::write(fixture.repo().join("tow.toml"), text).unwrap();
        let refused = fixture.tow(&["status"]).expect(3);
        assert!(refused.err.contains("`app`"), "{refused:?}");
    }
}
