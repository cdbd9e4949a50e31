//! PostgreSQL and Redis of an environment's own, where they are installed; elsewhere it is said what was skipped.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use towpath::agent::api::{InstanceStatus, Status};
use towpath::agent::socket;
use towpath::resource::kept::{self, Kept};
use towpath::resource::{postgres, redis};

use crate::fixture::{Fixture, PRODUCTION, STAGING};
use crate::machine::{self, Reaped, everything, is_alive, shims, until};

/// The service writes a row before it serves; its password is in none of its arguments.
pub const MANIFEST: &str = r#"
app = "fixture"
promote = ["staging", "production"]

[services.web]
run = '''psql -qX -c 'CREATE TABLE IF NOT EXISTS seen (v text)' -c "INSERT INTO seen VALUES ('$(cat version)')" && exec APP web'''
env = { DATA = "DATA", PGHOST = "${db.host}", PGPORT = "${db.port}", PGUSER = "${db.user}", PGDATABASE = "${db.name}", PGPASSWORD = "${db.password}" }
needs = ["db"CACHE]
ready = { http = "/health", every = "20ms", within = "60s", timeout = "10s" }

[resources]
db = { kind = "postgres" }
REDIS

[environments.local]
listen = "LISTEN"
# Its services are the tester's own, and not those of a user of the environment.
services.web.env.DATA = "PRODUCTION"
[environments.staging]
window = "1h"
[environments.production]
window = "1h"
services.web.env.DATA = "PRODUCTION"
"#;

/// Whether there is a PostgreSQL to test with, a client to ask it, and for `redis` a Redis.
pub fn installed(redis: bool) -> bool {
    let mut missing = Vec::new();
    if postgres::binaries::find(None).is_none() {
        missing.push("postgresql");
    }
    if Command::new("psql").arg("--version").output().is_err() {
        missing.push("postgresql-client");
    }
    if redis && redis::find().is_none() {
        missing.push("redis-server");
    }
    if !missing.is_empty() {
        println!("skipped: this machine has no {}", missing.join(", no "));
    }
    missing.is_empty()
}

fn fixture(redis: bool) -> Fixture {
    let (need, resource) = match redis {
        true => (", \"cache\"", "cache = { kind = \"redis\" }"),
        false => ("", ""),
    };
    Fixture::with(&MANIFEST.replace("CACHE", need).replace("REDIS", resource))
}

pub fn kept(fixture: &Fixture, environment: &str) -> Kept {
    let found = kept::read(&fixture.state(environment), "db").unwrap();
    found.expect("a database that was provided")
}

pub fn sql(kept: &Kept, query: &str) -> Result<Vec<String>, String> {
    let url = towpath::resource::url::of_kept(kept);
    let client = postgres::connect(&url["url"], "test");
    let mut client = client.map_err(|error| format!("{error:?}"))?;
    let rows = client.query(query, &[]);
    let rows = rows.map_err(|error| format!("{error:?}"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The server's databases of this application: no copy is among them.
pub fn databases(kept: &Kept) -> Vec<String> {
    let query = "SELECT datname::text FROM pg_database WHERE datname LIKE 'fixture%' ORDER BY 1";
    sql(kept, query).unwrap()
}

fn seen(kept: &Kept) -> Result<Vec<String>, String> {
    sql(kept, "SELECT v FROM seen ORDER BY v")
}

fn instance(status: &Status, service: &str) -> InstanceStatus {
    let found = status.instances.iter().find(|one| one.service == service);
    found
        .unwrap_or_else(|| panic!("no {service}: {status:?}"))
        .clone()
}

/// Waits until the server of `db` answers with these rows, under another process than `before`.
fn comes_back(fixture: &Fixture, environment: &str, before: u32, rows: &[&str]) -> u32 {
    let kept = kept(fixture, environment);
    until("the database to come back", || {
        let pid = instance(&fixture.seen(environment)?, "db").pid?;
        (pid != before && seen(&kept).is_ok_and(|found| found == rows)).then_some(pid)
    })
}

/// Processes that work in a folder of the environment: those of PostgreSQL overwrite what else they are known by.
fn at_work(state: &Path) -> Vec<PathBuf> {
    let everyone = fs::read_dir("/proc").unwrap().flatten();
    let folders = everyone.filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok());
    folders
        .filter(|folder| folder.starts_with(state.join("resources")))
        .collect()
}

pub fn down(fixture: &Fixture, environment: &str) {
    fixture.down(environment);
    assert_eq!(at_work(&fixture.state(environment)), Vec::<PathBuf>::new());
}

/// Everything that anybody may read of it: arguments of all processes, and what commands say.
fn public(fixture: &Fixture, environment: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        found.insert(entry.path().display().to_string(), line);
    }
    for words in [
        &["status", "--json"] as &[&str],
        &["ps", "--json"],
        &["ps"],
        &["config"],
        &["config", "--explain"],
        &["logs", "--lines", "100000"],
    ] {
        let said = fixture.tow(&[words, &["-e", environment]].concat());
        found.insert(words.join(" "), said.out + &said.err);
    }
    let state = fixture.state(environment);
    for name in ["state.db", "state.db-wal", "agent.log", "gateway.json"] {
        let bytes = fs::read(state.join(name)).unwrap_or_default();
        found.insert(
            name.to_owned(),
            String::from_utf8_lossy(&bytes).into_owned(),
        );
    }
    for log in logs(&state.join("logs")) {
        let text = fs::read(&log).unwrap();
        found.insert(
            log.display().to_string(),
            String::from_utf8_lossy(&text).into_owned(),
        );
    }
    found
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(dir).into_iter().flatten().flatten();
    let files =
        folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    files.map(|file| file.path()).collect()
}

#[test]
fn its_servers_outlive_kills_and_keep_their_secrets() {
    if !installed(true) {
        return;
    }
    let fixture = fixture(true);
    fixture.tow(&["up"]).expect(0);
    let kept_db = kept(&fixture, "local");
    assert_eq!(seen(&kept_db).unwrap(), ["v1"]);
    let rights =
        "SELECT concat_ws(' ', rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls)
                  FROM pg_roles WHERE rolname = current_user";
    assert_eq!(sql(&kept_db, rights).unwrap(), ["f f f f f"]);
    for (setting, value) in [
        ("data_checksums", "on"),
        ("wal_level", "logical"),
        ("listen_addresses", "127.0.0.1"),
        ("fsync", "on"),
        ("server_encoding", "UTF8"),
    ] {
        assert_eq!(
            sql(&kept_db, &format!("SHOW {setting}")).unwrap(),
            [value],
            "{setting}"
        );
    }

    let first = instance(&fixture.status("local"), "db").pid.unwrap();
    machine::kill(first);
    let second = comes_back(&fixture, "local", first, &["v1"]);
    let shim = shims(&fixture.state("local"))["db"][0];
    machine::kill(shim);
    let third = comes_back(&fixture, "local", second, &["v1"]);

    let agent = fixture.status("local").agent_pid;
    machine::kill(agent);
    until("the agent is dead", || (!is_alive(agent)).then_some(()));
    let status = fixture.status("local");
    assert_ne!(status.agent_pid, agent);
    let adopted = until("the database is adopted", || {
        instance(&fixture.seen("local")?, "db").pid
    });
    assert_eq!(adopted, third, "it was started anew");

    let cache = kept::read(&fixture.state("local"), "cache")
        .unwrap()
        .unwrap();
    let secrets = [&kept_db.password, &kept_db.admin, &cache.password];
    let public = public(&fixture, "local");
    assert!(
        public["logs --lines 100000"].contains("db"),
        "the log of the database was looked at"
    );
    for secret in secrets {
        for (place, text) in &public {
            assert!(!text.contains(secret.reveal()), "a password is in {place}");
        }
    }
    down(&fixture, "local");

    fixture.tow(&["up"]).expect(0);
    assert_eq!(kept(&fixture, "local"), kept_db);
    assert_eq!(seen(&kept_db).unwrap(), ["v1", "v1"]);
    down(&fixture, "local");
    println!(
        "databases: 3 kills, 0 of 3 lost data; {} places, 0 with a password",
        public.len()
    );
}

#[test]
fn each_environment_has_its_own_and_a_deployment_backs_it_up() {
    if !installed(false) {
        return;
    }
    let mut fixture = fixture(false);
    fixture.bring(PRODUCTION).expect(0);
    let [staging, production] = [STAGING, PRODUCTION].map(|name| kept(&fixture, name));
    assert_ne!(staging.port, production.port);
    assert_ne!(staging.name, production.name);
    assert_ne!(staging.password.reveal(), production.password.reveal());
    assert!(staging.uid.is_none() || staging.uid != production.uid);
    let mut wrong = staging.clone();
    wrong.port = production.port;
    assert!(
        sql(&wrong, "SELECT 'in'").is_err(),
        "staging's password opens production"
    );

    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    assert_eq!(seen(&staging).unwrap(), ["v1", "v2"]);
    assert_eq!(seen(&production).unwrap(), ["v1"]);
    let dump = fixture.state(STAGING).join("backups/d2-db.dump");
    let program = postgres::binaries::client("pg_restore", staging.version).unwrap();
    let url = towpath::resource::url::of_kept(&staging)["url"].clone();
    let restore = postgres::dump::restore(&program, &url, &dump);
    let done = Command::new(&restore.argv[0])
        .args(&restore.argv[1..])
        .envs(&restore.env)
        .status()
        .unwrap();
    assert!(done.success());
    assert_eq!(
        seen(&staging).unwrap(),
        ["v1"],
        "the dump is from before the deployment"
    );

    // What was provided before stays, where what was to come in fails.
    fixture.write("mode", "never-ready");
    let text = fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    fixture.write(
        "tow.toml",
        &text.replace("within = \"60s\"", "within = \"1s\""),
    );
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(5);
    assert_eq!(seen(&staging).unwrap(), ["v1", "v3"]);
    assert!(!fixture.state(STAGING).join("backups/d3-db.dump").exists());
    down(&fixture, STAGING);
    down(&fixture, PRODUCTION);
}

#[test]
fn a_dump_that_waits_for_a_lock_is_cancelled_or_says_who_has_it() {
    if !installed(false) {
        return;
    }
    let mut fixture = fixture(false);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let kept = kept(&fixture, STAGING);
    let url = towpath::resource::url::of_kept(&kept)["url"].clone();
    let mut holder = postgres::connect(&url, "holder").unwrap();
    let lock = "BEGIN; LOCK TABLE seen IN ACCESS EXCLUSIVE MODE";
    holder.batch_execute(lock).unwrap();
    let waiting = "SELECT 'waits' FROM pg_locks WHERE NOT granted AND relation = 'seen'::regclass";
    fixture.commit();
    let deploy = fixture.start(&["deploy", "-e", STAGING]);
    until("the dump waits", || sql(&kept, waiting).ok()?.pop());
    fixture.tow(&["cancel", "-e", STAGING]).expect(0);
    let said = fixture.end(deploy).expect(5);
    assert!(!said.err.contains("backup::failed"), "{}", said.err);
    until("nobody waits any more", || {
        sql(&kept, waiting).ok()?.is_empty().then_some(())
    });
    let said = fixture.tow(&["deploy", "-e", STAGING]).expect(5);
    let who = "`seen` is locked by `tow/holder`";
    assert!(said.err.contains(who), "{}", said.err);
    drop(holder);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    down(&fixture, STAGING);
}

#[test]
fn after_a_reboot_it_is_there_before_who_needs_it() {
    if !installed(false) {
        return;
    }
    let fixture = fixture(false);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let (kept, state) = (kept(&fixture, STAGING), fixture.state(STAGING));
    let agent = fixture.seen(STAGING).unwrap().agent_pid;
    machine::kill(agent);
    machine::sweep(&fixture.dir.join("states"), &state);
    until("nothing works in its data", || {
        at_work(&state).is_empty().then_some(())
    });
    let _ = fs::remove_dir_all(socket(&state).parent().unwrap());
    fs::write(state.join("boot-id"), "another boot").unwrap();
    // The number in the lock that is left is another process's now, and one of the very same user.
    let mut other = Command::new("sleep");
    if let Some(uid) = kept.uid {
        other.uid(uid).gid(uid);
    }
    let other = Reaped(other.arg("1000").spawn().unwrap());
    let lock = kept.home.join("data/postmaster.pid");
    let text = fs::read_to_string(&lock).expect("a lock that was left");
    let (_, rest) = text.split_once('\n').unwrap();
    fs::write(&lock, format!("{}\n{rest}", other.0.id())).unwrap();

    let started = fixture.status(STAGING);
    assert_eq!(instance(&started, "db").state, "ready", "{started:?}");
    let status = until("staging to serve", || {
        fixture
            .seen(STAGING)
            .filter(|status| status.verdict == "serving")
    });
    // Its shim was started anew, and the service under it once.
    assert_eq!(instance(&status, "web").restarts, 1, "{status:?}");
    until("the new start wrote its row", || {
        (seen(&kept).ok()?.len() == 2).then_some(())
    });
    drop(other);
    down(&fixture, STAGING);
}

#[test]
fn what_stands_against_it_is_said_and_nothing_is_left() {
    if !installed(false) {
        return;
    }
    let mut fixture = fixture(false);
    fixture
        .env
        .push(("TOWPATH_POSTGRES", fixture.dir.join("nothing")));
    let said = fixture.tow(&["up"]).expect(4);
    assert!(said.err.contains("resource::missing"), "{}", said.err);
    assert!(
        said.err.contains("apt-get install postgresql"),
        "{}",
        said.err
    );
    assert!(!fixture.state("local").join("resources/db.json").exists());
    fixture.end_agent("local");
    fixture.env.clear();

    fixture.tow(&["up"]).expect(0);
    let kept = kept(&fixture, "local");
    down(&fixture, "local");
    let taken = TcpListener::bind(("127.0.0.1", kept.port)).unwrap();
    let said = fixture.tow(&["up"]).expect(5);
    assert!(said.err.contains("resource::port-taken"), "{}", said.err);
    assert!(everything(&fixture.state("local")).is_empty());
    drop(taken);
    fixture.tow(&["up"]).expect(0);

    // Another version than that of the data is refused before anything is touched.
    let text = fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    let other = format!("\"postgres\", version = {}", kept.version + 1);
    fixture.write("tow.toml", &text.replace("\"postgres\"", &other));
    let said = fixture.tow(&["up"]).expect(4);
    assert!(said.err.contains("resource::other"), "{}", said.err);
    assert_eq!(seen(&kept).unwrap(), ["v1", "v1"]);
    down(&fixture, "local");
}

#[test]
fn one_elsewhere_is_reached_by_a_url_that_nobody_sees() {
    if !installed(false) {
        return;
    }
    let fixture = fixture(false);
    fixture.tow(&["up"]).expect(0);
    let kept = kept(&fixture, "local");
    let text = fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    let file = fixture.dir.join("database.url");
    let elsewhere = format!("\"postgres\", url = \"file:{}\"", file.display());
    fixture.write("tow.toml", &text.replace("\"postgres\"", &elsewhere));
    let mut fixture = fixture;
    fixture.commit();

    let said = fixture.tow(&["deploy", "-e", STAGING]).expect(3);
    assert!(said.err.contains("resource::no-url"), "{}", said.err);
    let url = towpath::resource::url::of_kept(&kept)["url"].clone();
    fs::write(&file, format!("{url}?sslmode=verify-full\n")).unwrap();
    // Root's agent takes nothing that is not the environment's own: the manifest is whoever's may deploy.
    let data = fs::metadata(fixture.state(STAGING).join("data")).unwrap();
    if data.uid() != fs::metadata(&file).unwrap().uid() {
        let said = fixture.tow(&["deploy", "-e", STAGING]).expect(3);
        assert!(said.err.contains("resource::no-url"), "{}", said.err);
    }
    std::os::unix::fs::chown(&file, Some(data.uid()), Some(data.gid())).unwrap();
    let said = fixture.tow(&["deploy", "-e", STAGING]).expect(4);
    assert!(said.err.contains("sslmode=verify-full"), "{}", said.err);
    fs::write(&file, format!("{url}?sslmode=require\n")).unwrap();
    let said = fixture.tow(&["deploy", "-e", STAGING]).expect(4);
    assert!(said.err.contains("it offers no TLS"), "{}", said.err);
    let wrong = url.replace(kept.password.reveal(), "wrong-password");
    fs::write(&file, wrong).unwrap();
    let said = fixture.tow(&["deploy", "-e", STAGING]).expect(4);
    assert!(said.err.contains("resource::unreachable"), "{}", said.err);
    assert!(!said.err.contains("wrong-password"), "{}", said.err);

    fs::write(&file, format!("{url}?schema=public\n")).unwrap();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    assert_eq!(seen(&kept).unwrap(), ["v1", "v2"]);
    assert!(fixture.state(STAGING).join("backups/d1-db.dump").is_file());
    for (place, text) in public(&fixture, STAGING) {
        assert!(
            !text.contains(kept.password.reveal()),
            "the password is in {place}"
        );
    }
    down(&fixture, STAGING);
    down(&fixture, "local");
}
