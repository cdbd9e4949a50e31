//! Folders that resources have: what lies in them stays, whatever is brought in and taken back.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::fixture::{Fixture, MANIFEST, STAGING};
use crate::whole::whole;

const DEPLOY: [&str; 3] = ["deploy", "-e", STAGING];

/// Each instance makes a key where there is none, as software does that encrypts what it stores.
const RUN: &str = "run = \"\"\"
printf '%s\\\\n' $DB $DIR $FILES > $FILES/told
[ -e $FILES/keys/key ] || { mkdir -p $FILES/keys; cat /proc/sys/kernel/random/uuid > $FILES/keys/key; }
echo \"$FILES $(cat $FILES/keys/key)\" >> $DATA/seen
exec APP web\"\"\"";

fn manifest(file: &str) -> String {
    let db = format!("db = {{ kind = \"sqlite\", file = \"{file}\", migrate");
    MANIFEST
        .replace("run = \"APP web\"", RUN)
        .replacen(
            "env = { DATA = \"DATA\" }",
            "env = { DATA = \"DATA\", DB = \"${db.path}\", DIR = \"${db.dir}\", FILES = \"${files.path}\" }",
            1,
        )
        .replace("db = { kind = \"sqlite\", migrate", &db)
        .replace("[traffic]\n", "files = { kind = \"storage\" }\n\n[traffic]\n")
}

#[test]
fn a_storage_and_a_named_database_stay_through_replacement_and_roll_back() {
    let mut fixture = Fixture::with(&manifest("database.sqlite"));
    fixture.migration();
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    let state = fixture.state(STAGING);
    let data = state.join("data");
    let key = || fs::read_to_string(data.join("files/keys/key")).unwrap();
    let first = key();
    let told = fs::read_to_string(data.join("files/told")).unwrap();
    let expected = ["db/database.sqlite", "db", "files"].map(|name| data.join(name));
    let expected = expected.map(|path| path.display().to_string());
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
    let owner = fs::metadata(&data).unwrap().uid();
    for name in ["db", "db/database.sqlite", "files", "files/keys/key"] {
        assert_eq!(
            fs::metadata(data.join(name)).unwrap().uid(),
            owner,
            "{name}"
        );
    }
    assert!(!data.join("db.db").exists());

    fixture.migration();
    let second = fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    whole(&fixture, STAGING, &second).unwrap();
    assert_eq!(key(), first);
    let backup = fs::read(state.join("backups/d2-files.tar")).unwrap();
    let inside = |text: &str| {
        backup
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(inside("keys/key") && inside(&first));
    assert!(state.join("backups/d2-db.db").is_file());

    fixture.manifest(&manifest("other.sqlite"));
    fixture.commit();
    let refused = fixture.tow(&DEPLOY).expect(4);
    assert!(
        refused.err.contains("error[resource::elsewhere]"),
        "{}",
        refused.err
    );
    whole(&fixture, STAGING, &second).unwrap();

    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    assert_eq!(key(), first);
    fixture.down(STAGING);
    assert_eq!(key(), first);
}

#[test]
fn what_a_service_puts_in_the_place_of_its_folder_leads_nowhere() {
    let mut fixture = Fixture::with(&manifest("database.sqlite"));
    fixture.tow(&DEPLOY).expect(0);
    let data = fixture.state(STAGING).join("data");
    let elsewhere = fixture.dir.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("database.sqlite"), "somebody else's").unwrap();
    for name in ["db", "files"] {
        let aside = data.join(format!("{name}-aside"));
        fs::rename(data.join(name), &aside).unwrap();
        std::os::unix::fs::symlink(&elsewhere, data.join(name)).unwrap();
        fixture.commit();
        let said = fixture.tow(&DEPLOY);
        // Before anything is begun, where a database is looked at for that.
        assert!([1, 3, 5].contains(&said.code), "{name}: {said:?}");
        fs::remove_file(data.join(name)).unwrap();
        fs::rename(&aside, data.join(name)).unwrap();
    }
    let left: Vec<_> = fs::read_dir(&elsewhere).unwrap().collect();
    assert_eq!(left.len(), 1);
    let kept = fs::read_to_string(elsewhere.join("database.sqlite")).unwrap();
    assert_eq!(kept, "somebody else's");
    let last = fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    whole(&fixture, STAGING, &last).unwrap();
    fixture.down(STAGING);
}

#[test]
fn what_is_tried_on_a_copy_has_a_copy_of_the_files_too() {
    let text = manifest("database.sqlite")
        .replace("migrate = \"migrations\"", "migrate = { on_start = true }");
    let mut fixture = Fixture::with(&text);
    fixture.tow(&DEPLOY).expect(0);
    let state = fixture.state(STAGING);
    let [live, copy] = ["data/files", "rehearsal/data/files"].map(|name| state.join(name));
    let key = fs::read_to_string(live.join("keys/key")).unwrap();
    let second = fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    whole(&fixture, STAGING, &second).unwrap();
    let seen = fs::read_to_string(fixture.data("seen")).unwrap();
    let of = |folder: &std::path::Path| format!("{} {}", folder.display(), key.trim());
    let count = |folder| seen.lines().filter(|line| *line == of(folder)).count();
    // Two instances of each version; on the copy one of each.
    assert_eq!((count(&live), count(&copy)), (4, 2), "{seen}");
    assert_eq!(seen.lines().count(), 6, "{seen}");
    assert!(!copy.exists());
    fixture.down(STAGING);
}
