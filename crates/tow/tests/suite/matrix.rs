//! SIGKILL of the agent at the steps that only some runs have: those of a rewrite, of migrations by hand, of the command
//! before a start, of a foreign migrator, of a database server, of starting what serves anew. `kill` has all that every
//! deployment does.

use rusqlite::Connection;
use towpath::agent::api::{Begin, Begun, What};
use towpath::agent::{Client, socket};
use towpath::load::FailureKind;

use crate::databases::{down, installed, kept, sql};
use crate::fixture::{Fixture, MANIFEST, STAGING};
use crate::jobs::with_command;
use crate::kill::{Count, DEPLOY, all, die_at, pairs, places, steps, undone};
use crate::load::{Traffic, lost_and_doubled};
use crate::whole::whole;

/// The steps of a run in the order it comes to them, and those that are looked at here.
pub struct Run<'a> {
    /// All of them.
    pub steps: Vec<String>,
    /// These.
    pub own: &'a [&'a str],
}

impl Run<'_> {
    fn own(&self) -> Vec<String> {
        let own = self.own.iter().map(|name| (*name).to_owned());
        own.filter(|name| self.steps.contains(name)).collect()
    }

    fn is_own(&self, pair: &[String; 2]) -> bool {
        let name = |place: &str| {
            let step = place.split_once(':').map_or("", |(_, rest)| rest);
            step.rsplit_once(':')
                .map_or("", |(step, _)| step)
                .to_owned()
        };
        pair.iter()
            .any(|place| self.own.contains(&name(place).as_str()))
    }

    /// Each of its own steps; where all are asked for, in pairs with every step of the run besides.
    pub fn cases(&self, direction: &str) -> Vec<Vec<String>> {
        let own = self.own();
        assert!(
            !own.is_empty(),
            "{:?} are none of {:?}",
            self.own,
            self.steps
        );
        let mut cases: Vec<Vec<String>> = places(direction, &own)
            .into_iter()
            .map(|place| vec![place])
            .collect();
        if all() {
            let both = (direction, self.steps.as_slice());
            cases.extend(self.paired(both, both));
        }
        cases
    }

    fn paired(&self, first: (&str, &[String]), then: (&str, &[String])) -> Vec<Vec<String>> {
        let pairs = pairs(first, then).into_iter();
        pairs
            .filter(|pair| self.is_own(pair))
            .map(|pair| pair.to_vec())
            .collect()
    }

    /// Of a run that undoes these steps, last first: on the way there, and back.
    pub fn undoing(&self) -> Vec<Vec<String>> {
        let mut cases = self.cases("undo");
        if all() {
            let there: Vec<String> = self.steps.iter().rev().cloned().collect();
            cases.extend(self.paired(("apply", &there), ("undo", &self.steps)));
        }
        cases
    }
}

/// Places as the harness takes them.
pub fn names(places: &[String]) -> Vec<&str> {
    places.iter().map(String::as_str).collect()
}

/// Kills under traffic, and what came of them.
struct Killing {
    fixture: Fixture,
    traffic: Traffic,
    count: Count,
}

impl Killing {
    fn new(fixture: Fixture) -> Killing {
        let traffic = Traffic::start(&fixture, &fixture.listen(STAGING));
        Killing {
            fixture,
            traffic,
            count: Count::default(),
        }
    }

    /// Afterwards `version` serves, and `look` finds nothing wrong.
    fn case(
        &mut self,
        arguments: &[&str],
        places: &[String],
        code: i32,
        version: &str,
        look: impl Fn(&Fixture) -> Result<(), String>,
    ) {
        let fixture = &self.fixture;
        let outcome = die_at(fixture, STAGING, arguments, &names(places), code)
            .and_then(|()| whole(fixture, STAGING, version).map(drop))
            .and_then(|()| look(fixture));
        self.traffic.more();
        self.count.case(&places.join(", "), outcome);
    }

    fn end(self, what: &str) -> Fixture {
        let report = self.traffic.stop();
        let (lost, doubled) = lost_and_doubled(&self.fixture, &report);
        let requests = &report.requests;
        // A client has ten seconds of patience, and on a busy machine requests wait longer while an agent comes back.
        let gave_up = requests.failed_by.get(&FailureKind::TimeOut).copied();
        let gave_up = gave_up.unwrap_or(0);
        let failed = requests.failed - gave_up;
        println!(
            "{what}: {} requests, {failed} failed, {gave_up} more gave up after 10 s; {} writes, {lost} lost, {doubled} doubled",
            requests.total,
            report.writes.len(),
        );
        self.count.tell(what);
        assert_eq!(
            (failed, lost, doubled),
            (0, 0, 0),
            "{:?}",
            requests.failures
        );
        self.fixture
    }
}

fn same<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{found:?}, not {expected:?}")),
    }
}

/// The steps of a deployment that rewrites the database while requests wait.
const REWRITE: [&str; 4] = ["back-up:db", "hold", "migrate:db", "resume"];

/// Renames the only column, to which it was renamed before: applied twice it would fail.
fn rewrite(fixture: &Fixture, number: u32) {
    let sql = format!(
        "-- tow: rewrite\nALTER TABLE notes RENAME COLUMN c{} TO c{number};\n",
        number - 1
    );
    fixture.write(&format!("migrations/{number:04}_rename.up.sql"), &sql);
}

fn column(fixture: &Fixture) -> String {
    let db = Connection::open(fixture.state(STAGING).join("data/db.db")).unwrap();
    let sql = "SELECT name || ', ' || (SELECT count(*) FROM notes) FROM pragma_table_info('notes')";
    db.query_row(sql, (), |row| row.get(0)).unwrap()
}

fn served(manifest: &str) -> Fixture {
    let mut fixture = Fixture::with(manifest);
    let sql = "CREATE TABLE notes (c1 TEXT);\nINSERT INTO notes VALUES ('one'), ('two');\n";
    fixture.write("migrations/0001_notes.up.sql", sql);
    fixture.write("migrations/0001_notes.down.sql", "DROP TABLE notes;\n");
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    fixture
}

#[test]
fn a_rewrite_goes_on_from_every_step_of_it() {
    let mut fixture = served(MANIFEST);
    rewrite(&fixture, 2);
    fixture.commit();
    let run = Run {
        steps: steps(&fixture, &DEPLOY),
        own: &REWRITE,
    };
    let mut killing = Killing::new(fixture);
    for (number, places) in (2..).zip(run.cases("apply")) {
        rewrite(&killing.fixture, number);
        let version = killing.fixture.commit();
        killing.case(&DEPLOY, &places, 0, &version, |fixture| {
            same(column(fixture), format!("c{number}, 2"))
        });
    }
    killing.end("deploy with a rewrite").down(STAGING);
}

#[test]
fn a_rewrite_is_undone_from_every_step_of_it() {
    let fixture =
        served(&MANIFEST.replace("within = \"60s\", timeout = \"10s\"", "within = \"1s\""));
    let mut killing = Killing::new(fixture);
    rewrite(&killing.fixture, 2);
    killing.fixture.write("mode", "never-ready");
    killing.fixture.commit();
    let run = Run {
        steps: undone(&killing.fixture, &DEPLOY),
        own: &REWRITE,
    };
    for places in run.undoing() {
        killing.fixture.commit();
        killing.case(&DEPLOY, &places, 5, "v2", |fixture| {
            same(column(fixture), "c1, 2".to_owned())
        });
    }
    killing.end("undo of a rewrite").down(STAGING);
}

fn applied(fixture: &Fixture) -> Vec<String> {
    let db = Connection::open(fixture.state("local").join("data/db.db")).unwrap();
    let sql = "SELECT name FROM sqlite_schema WHERE name GLOB 't[0-9]*' ORDER BY 1";
    let mut names = db.prepare(sql).unwrap();
    let names = names.query_map((), |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

const UP: [&str; 2] = ["migrate", "up"];
const DOWN: [&str; 3] = ["migrate", "down", "0"];

#[test]
fn migrations_by_hand_go_on_from_every_step() {
    let fixture = Fixture::new();
    fixture.migration();
    let mut count = Count::default();
    let own = ["back-up:db", "migrate:db", "take-back:db"];
    for (arguments, before, there) in [(&UP[..], &DOWN[..], &["t2"][..]), (&DOWN, &UP, &[])] {
        // The first has nothing to take back.
        let _ = fixture.tow(before);
        let run = Run {
            steps: steps(&fixture, arguments),
            own: &own,
        };
        for places in run.cases("apply") {
            let outcome = die_at(&fixture, "local", arguments, &names(&places), 0).and_then(|()| {
                same(
                    applied(&fixture),
                    there.iter().map(|name| (*name).to_owned()).collect(),
                )
            });
            count.case(&places.join(", "), outcome);
            fixture.tow(before).expect(0);
        }
        fixture.tow(arguments).expect(0);
    }
    fixture.down("local");
    count.tell("migrations by hand");
}

#[test]
fn the_command_before_a_start_goes_on_from_every_step_of_it() {
    let mut killing = Killing::new(served(&with_command()));
    let said = |fixture: &Fixture| std::fs::read_to_string(fixture.data("release")).unwrap();
    killing.fixture.commit();
    let run = Run {
        steps: steps(&killing.fixture, &DEPLOY),
        own: &["release:web"],
    };
    for places in run.cases("apply") {
        let version = killing.fixture.commit();
        let expected = format!("{}once {version}\n", said(&killing.fixture));
        killing.case(&DEPLOY, &places, 0, &version, |fixture| {
            same(said(fixture), expected.clone())
        });
    }
    let serving = format!("v{}", killing.fixture.version);
    killing.fixture.write("refuse", "");
    killing.fixture.commit();
    let run = Run {
        steps: undone(&killing.fixture, &DEPLOY),
        own: &["release:web"],
    };
    for places in run.undoing() {
        killing.fixture.commit();
        killing.case(&DEPLOY, &places, 5, &serving, |_| Ok(()));
    }
    killing.end("commands before a start").down(STAGING);
}

/// The fixture's manifest with a key that it is started anew for. Where there is `refuse`, no worker starts that knows
/// what the key was before; those that served before know nothing of it.
fn with_key(within: &str) -> String {
    let worker = "run = \"APP worker\"\nenv = { DATA = \"DATA\" }\nready = { log = \"works on\", every = \"20ms\" }";
    let keyed = format!(
        r#"run = '''test ! -e $DATA/refuse -o -z "$KEY_PREVIOUS" && exec APP worker'''
env = {{ DATA = "DATA" }}
secrets = ["KEY"]
ready = {{ log = "works on", every = "20ms", within = "{within}" }}"#
    );
    let key = "[secrets]\nKEY = { kind = \"jwt\", overlap = \"1s\" }\n\n[resources]\n";
    let manifest = MANIFEST.replace("[resources]\n", key);
    let with = manifest.replace(worker, &keyed);
    assert_ne!(with, manifest);
    with
}

const ROTATE: [&str; 6] = ["secrets", "rotate", "KEY", "-e", STAGING, "--wait"];

/// Under traffic; and the steps of starting it anew.
fn keyed(within: &str) -> (Killing, Vec<String>) {
    let mut fixture = Fixture::with(&with_key(within));
    let home = fixture.dir.join("config");
    fixture.env.push(("XDG_CONFIG_HOME", home));
    let set = ["secrets", "set", "KEY", "-e", STAGING];
    fixture
        .tow_with(&set, "the-key-that-it-had-at-first")
        .expect(0);
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    let client = Client::new(socket(&fixture.state(STAGING)));
    let begin = Begin {
        dry_run: true,
        ..Begin::new(What::Restart { ends_window: false }, "matrix".to_owned())
    };
    let begun: Begun = fixture.run(client.post("/v1/runs", &begin)).unwrap();
    (Killing::new(fixture), begun.steps)
}

fn is_over(fixture: &Fixture) -> Result<(), String> {
    let listed = fixture.tow(&["secrets", "list", "-e", STAGING, "--json"]);
    let listed: serde_json::Value = listed.json();
    same(&listed[0]["rotation"], &serde_json::Value::Null)
}

#[test]
fn starting_anew_goes_on_from_every_step_of_it() {
    let (mut killing, steps) = keyed("60s");
    let own: Vec<&str> = names(&steps);
    let run = Run {
        steps: steps.clone(),
        own: &own,
    };
    for places in run.cases("apply") {
        killing.case(&ROTATE, &places, 0, "v2", is_over);
    }
    killing.end("starting anew").down(STAGING);
}

#[test]
fn starting_anew_is_undone_from_every_step_of_it() {
    let (mut killing, mut steps) = keyed("3s");
    let fails = steps.iter().position(|step| step == "start-workers");
    steps.truncate(fails.unwrap() + 1);
    steps.reverse();
    let own: Vec<&str> = names(&steps);
    let run = Run {
        steps: steps.clone(),
        own: &own,
    };
    let refuse = killing.fixture.data("refuse");
    for places in run.undoing() {
        std::fs::write(&refuse, "").unwrap();
        killing.case(&ROTATE, &places, 5, "v2", |fixture| {
            std::fs::remove_file(&refuse).unwrap();
            fixture.tow(&ROTATE).expect(0);
            is_over(fixture)
        });
    }
    killing.end("undo of starting anew").down(STAGING);
}

const POSTGRES: &str = r#"
app = "fixture"

[services.web]
run = '''test ! -e refuse && psql -qX -c 'SELECT 1' > /dev/null && exec APP web'''
env = { DATA = "DATA", PGHOST = "${db.host}", PGPORT = "${db.port}", PGUSER = "${db.user}", PGDATABASE = "${db.name}", PGPASSWORD = "${db.password}" }
needs = ["db"]
ready = { http = "/health", every = "20ms", within = "WITHIN", timeout = "10s" }

[resources]
db = { kind = "postgres", migrate = "migrations" }

[environments.local]
listen = "LISTEN"
[environments.staging]
window = "1h"
"#;

/// None of it is there yet; `refuse` makes a start fail.
fn nothing(refuse: bool) -> Fixture {
    let within = if refuse { "3s" } else { "60s" };
    let mut fixture = Fixture::with(&POSTGRES.replace("WITHIN", within));
    fixture.migration();
    if refuse {
        fixture.write("refuse", "");
    }
    fixture.commit();
    fixture
}

fn tables(fixture: &Fixture) -> Result<Vec<String>, String> {
    let query = "SELECT tablename::text FROM pg_tables WHERE tablename ~ '^t[0-9]+$'";
    sql(&kept(fixture, STAGING), query)
}

const SERVER: [&str; 3] = ["provide:db", "back-up:db", "migrate:db"];

#[test]
fn a_database_server_comes_though_the_agent_dies_at_any_step_of_it() {
    if !installed(false) {
        return;
    }
    let run = Run {
        steps: steps(&nothing(false), &DEPLOY),
        own: &SERVER,
    };
    let mut count = Count::default();
    for places in run.cases("apply") {
        let fixture = nothing(false);
        let outcome = die_at(&fixture, STAGING, &DEPLOY, &names(&places), 0)
            .and_then(|()| whole(&fixture, STAGING, "v2").map(drop))
            .and_then(|()| same(tables(&fixture)?, vec!["t2".to_owned()]));
        count.case(&places.join(", "), outcome);
        down(&fixture, STAGING);
    }
    count.tell("a database server that comes");
}

#[test]
fn a_first_deployment_with_a_database_server_is_undone_from_every_step_of_it() {
    if !installed(false) {
        return;
    }
    let steps = {
        let fixture = nothing(true);
        undone(&fixture, &DEPLOY)
    };
    let run = Run {
        steps,
        own: &SERVER,
    };
    let mut count = Count::default();
    for places in run.undoing() {
        let mut fixture = nothing(true);
        let outcome = die_at(&fixture, STAGING, &DEPLOY, &names(&places), 5);
        // Mended, it is deployed all the same, on what was left.
        std::fs::remove_file(fixture.repo().join("refuse")).unwrap();
        let version = fixture.commit();
        let outcome = outcome
            .and_then(|()| match fixture.tow(&DEPLOY) {
                said if said.code == 0 => Ok(()),
                said => Err(said.err),
            })
            .and_then(|()| whole(&fixture, STAGING, &version).map(drop))
            .and_then(|()| same(tables(&fixture)?, vec!["t2".to_owned()]));
        count.case(&places.join(", "), outcome);
        down(&fixture, STAGING);
    }
    count.tell("undo of a first deployment with a database server");
}
