//! The file of secrets and the agent that is sent its part: what a dry run plans with, and what is kept of it.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use towpath::agent::socket;

use crate::canary::set;
use crate::fixture::{Fixture, PRODUCTION, Running, STAGING, Said, tow};
use crate::machine;
use crate::whole::whole;

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

/// Gives the application of the fixture another name.
fn renamed(fixture: &Fixture, from: &str, to: &str) {
    let path = fixture.repo().join("tow.toml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace(&format!("app = {from:?}"), &format!("app = {to:?}"));
    fs::write(path, text).unwrap();
}

/// The environment `local` of a fixture, with its state beside the manifest, where it is for whoever says nothing else:
/// there it stays when the application is given another name.
struct Local<'a>(&'a Fixture);

impl Local<'_> {
    fn state(&self) -> PathBuf {
        self.0.repo().join(".tow")
    }

    fn tow(&self, arguments: &[&str]) -> Said {
        self.tow_with(arguments, Stdio::null())
    }

    fn tow_with(&self, arguments: &[&str], input: impl Into<Stdio>) -> Said {
        let mut command = self.0.command(&tow(), arguments);
        command.env_remove("TOWPATH_STATE").stdin(input);
        self.0.end(Running(command.spawn().unwrap()))
    }

    /// Brings the application up with a secret, under its first name.
    fn begin(&self) {
        self.0.write(".gitignore", ".tow/\n");
        let value = self.0.dir.join("value");
        fs::write(&value, "of local").unwrap();
        let value = fs::File::open(value).unwrap();
        self.tow_with(&["secrets", "set", "API_KEY", "-e", "local"], value)
            .expect(0);
        self.tow(&["up"]).expect(0);
    }
}

impl Drop for Local<'_> {
    fn drop(&mut self) {
        let state = self.state();
        machine::sweep(&state, &state);
        if let Some(runtime) = socket(&state).parent() {
            let _ = fs::remove_dir_all(runtime);
        }
    }
}

fn refuses(said: &Said, code: i32, help: &str) {
    let said = said.clone().expect(code);
    for part in ["secret::project", "`fixture`", "`other`", help] {
        assert!(said.err.contains(part), "{part} in {said:?}");
    }
}

#[test]
fn secrets_follow_the_application_to_its_new_name() {
    let fixture = fixture();
    set(&fixture, "API_KEY", STAGING, "of staging").expect(0);
    let local = Local(&fixture);
    local.begin();
    renamed(&fixture, "fixture", "other");
    for arguments in [
        &["up"][..],
        &["up", "--dry-run"],
        &["secrets", "list"],
        &["secrets", "get", "API_KEY", "-e", "local"],
        &["secrets", "people"],
        &["secrets", "sign", "-e", "local"],
        &["config", "drift"],
        &["check"],
    ] {
        refuses(&local.tow(arguments), 3, "tow secrets rename");
    }

    local.tow(&["secrets", "rename"]).expect(0);
    for environment in ["local", STAGING] {
        let get = ["secrets", "get", "API_KEY", "-e", environment];
        let said = local.tow(&get).expect(0);
        assert_eq!(said.out, format!("of {environment}\n"));
    }
    // What runs was begun under the old name, and says the way out.
    for arguments in [&["up", "--dry-run"][..], &["up"]] {
        refuses(&local.tow(arguments), 4, "tow down -e local");
    }
    local.tow(&["down"]).expect(0);
    local.tow(&["up"]).expect(0);
    local.tow(&["secrets", "rename"]).expect(0);
    local.tow(&["down"]).expect(0);
}

/// Where nothing of its own is sent, what is there is not handed over.
#[test]
fn an_application_is_not_given_what_one_of_another_name_has_left() {
    let fixture = fixture();
    let local = Local(&fixture);
    local.begin();
    local.tow(&["down"]).expect(0);
    renamed(&fixture, "fixture", "other");
    fs::remove_file(fixture.repo().join("tow.secrets.toml")).unwrap();
    refuses(&local.tow(&["up"]), 4, "tow secrets set");
}

#[test]
fn who_does_not_read_all_secrets_cannot_rename_them() {
    let mut fixture = fixture();
    set(&fixture, "API_KEY", STAGING, "of staging").expect(0);
    set(&fixture, "API_KEY", PRODUCTION, "of production").expect(0);
    let mine = fixture.env.clone();
    let home = fixture.dir.join("config-of-another");
    fixture.env.push(("XDG_CONFIG_HOME", home));
    let contact = fixture.tow(&["secrets", "key"]).expect(0).out;
    let theirs = std::mem::replace(&mut fixture.env, mine);
    let admit = [
        "secrets",
        "people",
        "add",
        "bob",
        contact.trim(),
        "-e",
        STAGING,
    ];
    fixture.tow(&admit).expect(0);
    renamed(&fixture, "fixture", "other");
    let file = fixture.repo().join("tow.secrets.toml");
    let before = fs::read(&file).unwrap();

    let mine = std::mem::replace(&mut fixture.env, theirs);
    let refused = fixture.tow(&["secrets", "rename"]).expect(4);
    assert!(refused.err.contains("secret::no-reader"), "{refused:?}");
    assert_eq!(fs::read(&file).unwrap(), before);
    fixture.env = mine;
    fixture.tow(&["secrets", "rename"]).expect(0);
    assert_ne!(fs::read(&file).unwrap(), before);
}

/// Whether anything starts with a value that was just set is not known before something has: what a deployment stopped
/// comes back with its own, and so it does after the machine was down.
#[test]
fn a_value_that_nothing_starts_with_is_undone_with_its_deployment() {
    let worker = "run = \"APP worker\"\nenv = { DATA = \"DATA\" }\nready = { log = \"works on\", every = \"20ms\" }";
    let keyed = r#"run = '''! env | grep -qx KEY=a-value-of-no-use && exec APP worker'''
env = { DATA = "DATA" }
secrets = ["KEY"]
ready = { log = "works on", every = "20ms", within = "3s" }"#;
    let manifest = crate::fixture::MANIFEST.replace(worker, keyed);
    let mut fixture = Fixture::with(&manifest);
    let home = fixture.dir.join("config");
    fixture.env.push(("XDG_CONFIG_HOME", home));
    set(&fixture, "KEY", STAGING, "a-value-that-serves").expect(0);
    let serving = fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    set(&fixture, "KEY", STAGING, "a-value-of-no-use").expect(0);
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(5);
    whole(&fixture, STAGING, &serving).unwrap();
    // What dies with its shim is started by the agent.
    for shim in machine::shims(&fixture.state(STAGING))
        .into_values()
        .flatten()
    {
        machine::kill(shim);
    }
    whole(&fixture, STAGING, &serving).unwrap();

    set(&fixture, "KEY", STAGING, "a-value-that-serves-too").expect(0);
    let version = fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    whole(&fixture, STAGING, &version).unwrap();
    fixture.down(STAGING);
}
