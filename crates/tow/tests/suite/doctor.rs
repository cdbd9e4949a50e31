//! `tow doctor`: what is missing is told with the line that installs it, and nothing is touched.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::Value;

use crate::fixture::{Fixture, STAGING};
use crate::machine::agents;
use crate::snapshot::check_shape;

const MANIFEST: &str = r#"
app = "fixture"
promote = ["staging"]

[services.web]
build = "npm ci"
run = "node main.js"
needs = ["db", "cache"]

[resources]
db = { kind = "postgres", version = 11 }
cache = { kind = "redis" }
far = { kind = "postgres", url = "postgres://db.invalid/app" }

[environments.local]
listen = "LISTEN"
[environments.staging]
listen = "LISTEN"
[environments.elsewhere]
server = "deploy@server.invalid"
"#;

/// A fixture whose commands find only these programs.
fn on_a_bare_machine(programs: &[&str]) -> Fixture {
    let mut fixture = Fixture::with(MANIFEST);
    let folder = fixture.dir.join("programs");
    let empty = fixture.dir.join("empty");
    for made in [&folder, &empty] {
        fs::create_dir(made).unwrap();
    }
    for program in programs {
        symlink("/bin/true", folder.join(program)).unwrap();
    }
    fixture.env.extend([
        ("PATH", folder),
        ("TOWPATH_POSTGRES", empty.clone()),
        ("TOWPATH_REDIS", empty),
    ]);
    fixture
}

/// What was looked at and is amiss, with the line that mends it.
fn amiss(seen: &Value) -> Vec<(String, String)> {
    let looked = seen["looked"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let wrong = looked.filter(|one| one["ok"] == false);
    wrong
        .map(|one| (text(&one["what"]), text(&one["line"])))
        .collect()
}

#[test]
fn what_is_missing_is_told_with_the_line_that_installs_it() {
    let fixture = on_a_bare_machine(&["apt-get"]);
    let seen: Value = fixture
        .tow(&["doctor", "-e", STAGING, "--json"])
        .expect(1)
        .json();
    check_shape("doctor", &seen);
    let wanted = [
        ("git", "apt-get install -y git"),
        ("node", "apt-get install -y nodejs"),
        ("npm", "apt-get install -y npm"),
        ("cache", "apt-get install -y redis-server"),
        ("db", "apt-get install -y postgresql-11"),
        ("far", "apt-get install -y postgresql-client"),
    ];
    let wanted: Vec<_> = wanted
        .map(|(what, line)| (what.to_owned(), line.to_owned()))
        .into();
    assert_eq!(amiss(&seen), wanted);
    let told = fixture.tow(&["doctor", "-e", STAGING]).expect(1);
    assert!(
        told.out.contains("apt-get install -y postgresql-11"),
        "{}",
        told.out
    );
    // Whoever looks makes nothing, and starts nothing.
    assert!(!fixture.state(STAGING).exists());
    assert!(agents(&fixture.dir.join("states")).is_empty());

    // Of an environment elsewhere, this machine needs the way there.
    let there: Value = fixture
        .tow(&["doctor", "-e", "elsewhere", "--json"])
        .expect(1)
        .json();
    let names: Vec<String> = amiss(&there).into_iter().map(|(what, _)| what).collect();
    assert_eq!(names, ["git", "ssh"]);
}

#[test]
fn where_all_is_there_nothing_is_amiss() {
    let manifest = "app = \"fixture\"\nservices.web = { run = \"node main.js\" }\nenvironments.local.listen = \"LISTEN\"\n";
    let mut fixture = on_a_bare_machine(&["node"]);
    fixture.manifest(manifest);
    let said = fixture.tow(&["doctor"]).expect(0);
    assert!(said.out.contains("nothing is missing"), "{}", said.out);
    // Another listens where the gateway is to.
    let taken = std::net::TcpListener::bind(("127.0.0.1", fixture.listen_port())).unwrap();
    let said = fixture.tow(&["doctor"]).expect(1);
    assert!(said.out.contains("listens on port"), "{}", said.out);
    drop(taken);
    fixture.env.retain(|(name, _)| *name != "PATH");
    fixture.env.push(("PATH", PathBuf::from("/nowhere")));
    fixture.tow(&["doctor"]).expect(1);
}

#[test]
fn programs_are_those_that_services_find_and_not_those_of_who_looks() {
    let manifest = "app = \"fixture\"\nservices.web = { run = \"node main.js\" }\nenvironments.local.listen = \"LISTEN\"\n";
    let mut fixture = on_a_bare_machine(&["node"]);
    fixture.manifest(manifest);
    // Its agent has the search path of now, and its services have the agent's.
    fixture.tow(&["up", "--dry-run"]).expect(0);
    let of_services = fixture.dir.join("programs/node");
    let own = fixture.dir.join("own");
    fs::create_dir(&own).unwrap();
    symlink("/bin/true", own.join("node")).unwrap();
    fixture.env.retain(|(name, _)| *name != "PATH");
    fixture.env.push(("PATH", own.clone()));
    let said = fixture.tow(&["doctor"]).expect(0);
    let line = said.out.lines().find(|line| line.contains(" node "));
    let (first, second) = line.unwrap().split_once("by yours").expect("both");
    assert!(
        first.contains(&of_services.display().to_string()),
        "{line:?}"
    );
    assert!(
        second.contains(&own.join("node").display().to_string()),
        "{line:?}"
    );
    fs::remove_file(of_services).unwrap();
    let said = fixture.tow(&["doctor"]).expect(1);
    assert!(said.out.contains("is not found by services"), "{said:?}");
    fixture.down("local");
}
