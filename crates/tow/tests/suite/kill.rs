//! SIGKILL of the agent at every point of every step and of every undo.
//!
//! The places are enumerated from the plan of the run and the points of the executor. `cargo test`
//! takes each step once, at its points in turn; with `TOWPATH_KILL_ALL` every step at every point,
//! and pairs of places, where the agent that goes on dies as well.

use std::os::unix::process::ExitStatusExt;

use serde_json::Value;
use towpath::release::failpoint::Point;

use crate::fixture::{Fixture, PRODUCTION, Running, STAGING, tow};
use crate::load::{Traffic, lost_and_doubled};
use crate::machine::{self, PATIENCE, until, until_ok, until_ok_within};
use crate::whole::{doubled_workers, whole};

/// What is counted over all places.
#[derive(Default)]
pub struct Count {
    cases: u32,
    failures: Vec<String>,
}

impl Count {
    /// One case, and how it came out.
    pub fn case(&mut self, name: &str, result: Result<(), String>) {
        self.cases += 1;
        if let Err(why) = result {
            println!("FAILED {name}: {why}");
            self.failures.push(format!("{name}: {why}"));
        }
        // All of them take an hour.
        if all() && self.cases.is_multiple_of(10) {
            let thread = std::thread::current();
            let (test, failures) = (thread.name().unwrap_or_default(), self.failures.len());
            println!("{test}: {} kills, {failures} failures", self.cases);
        }
    }

    /// Prints the counts; fails the test where one case did.
    pub fn tell(&self, what: &str) {
        println!(
            "{what}: {} kills, {} failures",
            self.cases,
            self.failures.len()
        );
        assert!(self.failures.is_empty(), "{:#?}", self.failures);
    }
}

/// Whether every place is asked for, and pairs of them.
pub fn all() -> bool {
    std::env::var_os("TOWPATH_KILL_ALL").is_some()
}

/// All places of a step.
pub fn around(direction: &str, step: &str) -> Vec<String> {
    let points = Point::all().into_iter();
    points
        .map(|(point, _)| format!("{direction}:{step}:{point}"))
        .collect()
}

/// Places of these steps; one for each step when not all are asked for.
pub fn places<'a>(direction: &str, steps: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let all = all();
    let mut places = Vec::new();
    for (turn, step) in steps.into_iter().enumerate() {
        for (number, (point, _)) in Point::all().into_iter().enumerate() {
            if all || turn % Point::all().len() == number {
                places.push(format!("{direction}:{step}:{point}"));
            }
        }
    }
    places
}

/// The steps that a run would have.
pub fn steps(fixture: &Fixture, arguments: &[&str]) -> Vec<String> {
    let arguments = [arguments, &["--dry-run", "--json"]].concat();
    let begun: Value = fixture.tow(&arguments).expect(0).json();
    strings(&begun["steps"])
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().unwrap().iter();
    items
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

/// The steps that a run which fails undoes, in that order, by letting it.
pub fn undone(fixture: &Fixture, arguments: &[&str]) -> Vec<String> {
    let arguments = [arguments, &["--json"]].concat();
    let course: Value = fixture.tow(&arguments).expect(5).json();
    let steps = course["steps"].as_array().unwrap().iter();
    let undone = steps.filter(|step| step["outcome"] == "undone");
    undone
        .map(|step| step["step"].as_str().unwrap().to_owned())
        .collect()
}

/// Has the agent die at `place` in the run that `arguments` begin, and the next one go on.
fn die(
    fixture: &Fixture,
    environment: &str,
    arguments: &[&str],
    place: &str,
    code: i32,
) -> Result<(), String> {
    die_with(None, fixture, environment, arguments, place, code)
}

/// The same; the process `other` is killed while there is no agent.
pub fn die_with(
    other: Option<u32>,
    fixture: &Fixture,
    environment: &str,
    arguments: &[&str],
    place: &str,
    code: i32,
) -> Result<(), String> {
    let mut agent = fixture.doomed_agent(environment, place);
    let mut command = fixture.start(arguments);
    // A deployment has more to do than all else that is waited for.
    let ended = until_ok_within(PATIENCE, || {
        match (agent.try_wait().unwrap(), command.0.try_wait().unwrap()) {
            (Some(status), _) => Ok(Ok(status)),
            // What comes when a window ends comes after the run.
            (None, Some(ended)) if ended.code() != Some(code) => {
                Ok(Err("the run ended without coming there".to_owned()))
            }
            (None, _) => Err(fixture.seen(environment).and_then(|status| status.run)),
        }
    });
    let ended = ended.unwrap_or_else(|run| Err(format!("nobody came there: {run:?}")));
    let _ = agent.kill();
    let _ = agent.wait();
    other.into_iter().for_each(machine::kill);
    fixture.tow(&["status", "-e", environment]).expect(0);
    let said = fixture.end(command);
    let status = ended.map_err(|why| format!("{why}: exit code {}: {}", said.code, said.err))?;
    if status.signal() != Some(9) {
        return Err("the agent ended otherwise".to_owned());
    }
    match said.code {
        found if found == code => Ok(()),
        found => Err(format!("exit code {found}, not {code}: {}", said.err)),
    }
}

/// Has an agent die at each of `places`, one agent after the other, in the run that `arguments`
/// begin; the command starts the next each time.
fn die_often(
    fixture: &Fixture,
    environment: &str,
    arguments: &[&str],
    places: &[&str],
    code: i32,
) -> Result<(), String> {
    fixture.end_agent(environment);
    let killed = fixture.dir.join("killed");
    let _ = std::fs::remove_file(&killed);
    let mut command = fixture.command(&tow(), arguments);
    command
        .env("TOWPATH_KILL", places.join(","))
        .env("TOWPATH_KILLED", &killed);
    let said = fixture.end(Running(command.spawn().unwrap()));
    let deaths = std::fs::read(&killed).unwrap_or_default().len();
    match said.code {
        _ if deaths != places.len() => Err(format!("{deaths} agents died: {}", said.err)),
        found if found == code => Ok(()),
        found => Err(format!("exit code {found}, not {code}: {}", said.err)),
    }
}

/// Has an agent die at each of `places`, one agent after the other; the run goes on all the same, and ends with `code`.
pub fn die_at(
    fixture: &Fixture,
    environment: &str,
    arguments: &[&str],
    places: &[&str],
    code: i32,
) -> Result<(), String> {
    match places {
        [place] => die(fixture, environment, arguments, place, code),
        places => die_often(fixture, environment, arguments, places, code),
    }
}

/// An environment with a version that serves and one that is warm, under load.
struct Served {
    environment: &'static str,
    fixture: Fixture,
    traffic: Traffic,
    serving: String,
    warm: String,
    count: Count,
}

pub const DEPLOY: [&str; 3] = ["deploy", "-e", STAGING];
const PROMOTE: [&str; 3] = ["promote", "-e", PRODUCTION];
pub const ROLLBACK: [&str; 3] = ["rollback", "-e", STAGING];

impl Served {
    fn new() -> Served {
        Served::of(STAGING)
    }

    fn of(environment: &'static str) -> Served {
        let mut fixture = Fixture::new();
        fixture.bring(environment).expect(0);
        let warm = format!("v{}", fixture.version);
        fixture.migration();
        let serving = fixture.commit();
        fixture.bring(environment).expect(0);
        let traffic = Traffic::start(&fixture, &fixture.listen(environment));
        Served {
            environment,
            fixture,
            traffic,
            serving,
            warm,
            count: Count::default(),
        }
    }

    /// A further version, with a migration; in production's case it serves in staging already.
    fn next(&mut self) -> String {
        self.fixture.migration();
        let next = self.fixture.commit();
        if self.environment != STAGING {
            self.fixture.tow(&DEPLOY).expect(0);
        }
        next
    }

    fn deploy(&mut self) {
        let next = self.next();
        self.fixture.tow(&DEPLOY).expect(0);
        self.turned(next);
    }

    fn turned(&mut self, next: String) {
        self.warm = std::mem::replace(&mut self.serving, next);
    }

    /// One kill; afterwards the environment is whole and `version` serves.
    fn case(&mut self, arguments: &[&str], place: &str, code: i32, version: &str) {
        self.kills(arguments, &[place], code, version);
    }

    /// An agent dies at each of `places`, one after the other.
    fn kills(&mut self, arguments: &[&str], places: &[&str], code: i32, version: &str) {
        let failed = self.traffic.failed();
        let died = die_at(&self.fixture, self.environment, arguments, places, code);
        let outcome = died
            .and_then(|()| whole(&self.fixture, self.environment, version).map(drop))
            .and_then(|()| {
                self.traffic.more();
                match self.traffic.failed() - failed {
                    0 => Ok(()),
                    more => Err(format!("{more} requests failed")),
                }
            });
        let name = format!("{} {}", arguments[0], places.join(", "));
        self.count.case(&name, outcome);
    }

    fn end(self, what: &str) {
        let report = self.traffic.stop();
        let (lost, doubled) = lost_and_doubled(&self.fixture, &report);
        let requests = &report.requests;
        println!(
            "{what}: {} requests, {} failed, {:.0}/s; {} writes, {lost} lost, {doubled} doubled; {} workers doubled",
            requests.total,
            requests.failed,
            requests.rate,
            report.writes.len(),
            doubled_workers(&self.fixture),
        );
        self.count.tell(what);
        assert_eq!(requests.failed, 0, "{:?}", requests.failures);
        assert_eq!((lost, doubled), (0, 0));
        assert_eq!(doubled_workers(&self.fixture), 0);
        assert!(report.writes.len() > 20, "the load was none");
        self.fixture.down(self.environment);
    }
}

#[test]
fn a_deployment_goes_on_from_every_step() {
    let mut served = Served::new();
    served.next();
    for place in places("apply", &steps(&served.fixture, &DEPLOY)) {
        let next = format!("v{}", served.fixture.version);
        served.case(&DEPLOY, &place, 0, &next);
        served.turned(next);
        served.next();
    }
    served.end("deploy");
}

#[test]
fn a_promotion_goes_on_from_every_step() {
    let mut served = Served::of(PRODUCTION);
    served.next();
    for place in places("apply", &steps(&served.fixture, &PROMOTE)) {
        let next = format!("v{}", served.fixture.version);
        served.case(&PROMOTE, &place, 0, &next);
        served.turned(next);
        served.next();
    }
    served.end("promotion");
}

/// The agent dies around the step that fails, and at every point of the undo.
fn undo_goes_on(mut served: Served, fails: &str, what: &str) {
    served.next();
    let undone = undone(&served.fixture, &DEPLOY);
    let serving = served.serving.clone();
    for place in [around("apply", fails), places("undo", &undone)].concat() {
        served.next();
        served.case(&DEPLOY, &place, 5, &serving);
    }
    served.end(what);
}

#[test]
fn a_deployment_that_fails_late_is_undone_from_every_step() {
    let served = Served::new();
    served.fixture.write("worker-mode", "die");
    undo_goes_on(
        served,
        "start-workers",
        "undo of a deployment whose worker dies",
    );
}

#[test]
fn a_release_that_never_becomes_ready_is_undone_from_every_step() {
    let served = Served::new();
    let impatient = crate::fixture::MANIFEST
        .replace("within = \"60s\", timeout = \"10s\"", "within = \"300ms\"");
    served.fixture.manifest(&impatient);
    served.fixture.write("mode", "never-ready");
    undo_goes_on(
        served,
        "ready:web",
        "undo of a deployment that is never ready",
    );
}

/// Pairs of places: the agent dies at the first, and the next one at the second, which it comes to
/// after that. Of each place and each later step there is one pair, at the step's points in turn, so
/// that every two steps are paired at three of the nine pairs of their points. Where not all are
/// asked for, each step at one point with the next it comes to.
pub fn pairs(first: (&str, &[String]), then: (&str, &[String])) -> Vec<[String; 2]> {
    let all = all();
    let points = Point::all().map(|(name, _)| name);
    let mut pairs = Vec::new();
    for (at, step) in first.1.iter().enumerate() {
        for (turn, point) in points.iter().enumerate() {
            // A step whose result is written is not come to again.
            let again = at + usize::from(turn == points.len() - 1);
            let from = if first.0 == then.0 { again } else { 0 };
            for (later, other) in then.1.iter().enumerate().skip(from) {
                let is_next = later == if first.0 == then.0 { from } else { at };
                if all || (turn == at % points.len() && is_next) {
                    let second = points[(at + turn + later) % points.len()];
                    pairs.push([
                        format!("{}:{step}:{point}", first.0),
                        format!("{}:{other}:{second}", then.0),
                    ]);
                }
            }
        }
    }
    pairs
}

#[test]
fn a_deployment_goes_on_though_the_next_agent_dies_too() {
    let mut served = Served::new();
    served.next();
    let steps = steps(&served.fixture, &DEPLOY);
    for [first, second] in pairs(("apply", &steps), ("apply", &steps)) {
        let next = format!("v{}", served.fixture.version);
        served.kills(&DEPLOY, &[&first, &second], 0, &next);
        served.turned(next);
        served.next();
    }
    served.end("deploy, pairs");
}

#[test]
fn an_undo_goes_on_though_the_next_agent_dies_too() {
    let mut served = Served::new();
    served.fixture.write("worker-mode", "die");
    served.next();
    let undone = undone(&served.fixture, &DEPLOY);
    let acted: Vec<String> = undone.iter().rev().cloned().collect();
    let serving = served.serving.clone();
    let across = pairs(("apply", &acted), ("undo", &undone));
    for [first, second] in [across, pairs(("undo", &undone), ("undo", &undone))].concat() {
        served.kills(&DEPLOY, &[&first, &second], 5, &serving);
    }
    served.end("undo of a deployment, pairs");
}

#[test]
fn a_roll_back_goes_on_though_the_next_agent_dies_too() {
    let mut served = Served::new();
    let steps = steps(&served.fixture, &ROLLBACK);
    for [first, second] in pairs(("apply", &steps), ("apply", &steps)) {
        let back = served.warm.clone();
        served.kills(&ROLLBACK, &[&first, &second], 0, &back);
        served.serving = back;
        served.deploy();
    }
    served.end("roll-back, pairs");
}

#[test]
fn a_roll_back_goes_on_from_every_step() {
    let mut served = Served::new();
    for place in places("apply", &steps(&served.fixture, &ROLLBACK)) {
        let back = served.warm.clone();
        served.case(&ROLLBACK, &place, 0, &back);
        served.serving = back;
        served.deploy();
    }
    served.end("roll-back");
}

#[test]
fn a_roll_back_that_fails_is_undone_from_every_step() {
    let mut served = Served::new();
    let fault = served.fixture.data(&format!("worker-dies-{}", served.warm));
    std::fs::write(fault, "").unwrap();
    let undone = undone(&served.fixture, &ROLLBACK);
    let serving = served.serving.clone();
    for place in places("undo", &undone) {
        served.case(&ROLLBACK, &place, 5, &serving);
    }
    served.end("undo of a roll-back");
}

#[test]
fn the_first_deployment_goes_on_with_its_gateway() {
    let mut count = Count::default();
    for place in around("apply", "gateway") {
        let fixture = Fixture::new();
        let died = die(&fixture, STAGING, &DEPLOY, &place, 0);
        let outcome = died.and_then(|()| whole(&fixture, STAGING, "v1").map(drop));
        count.case(&format!("first {place}"), outcome);
        fixture.down(STAGING);
    }
    for place in around("undo", "gateway") {
        let mut fixture = Fixture::new();
        fixture.write("worker-mode", "die");
        fixture.commit();
        let died = die(&fixture, STAGING, &DEPLOY, &place, 5);
        count.case(
            &format!("first {place}"),
            died.and_then(|()| nothing(&fixture, STAGING)),
        );
    }
    count.tell("first deployment");
}

fn nothing(fixture: &Fixture, environment: &str) -> Result<(), String> {
    until_ok(|| match machine::everything(&fixture.state(environment)) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?} are left")),
    })
}

#[test]
fn up_goes_on_from_every_step() {
    let (mut fixture, mut count) = (Fixture::new(), Count::default());
    fixture.tow(&["up"]).expect(0);
    for place in places("apply", &steps(&fixture, &["up"])) {
        let next = fixture.commit();
        let outcome = die(&fixture, "local", &["up"], &place, 0)
            .and_then(|()| whole(&fixture, "local", &next).map(drop));
        count.case(&format!("up {place}"), outcome);
    }
    fixture.down("local");
    count.tell("up");
}

#[test]
fn down_goes_on_from_every_step() {
    let (mut fixture, mut count) = (Fixture::new(), Count::default());
    let serve = |fixture: &mut Fixture| {
        for _ in 0..2 {
            fixture.commit();
            fixture.tow(&DEPLOY).expect(0);
        }
    };
    serve(&mut fixture);
    let down = ["down", "-e", STAGING];
    for place in places("apply", &steps(&fixture, &down)) {
        let outcome = die(&fixture, STAGING, &down, &place, 0);
        count.case(
            &format!("down {place}"),
            outcome.and_then(|()| nothing(&fixture, STAGING)),
        );
        serve(&mut fixture);
    }
    fixture.down(STAGING);
    count.tell("down");
}

#[test]
fn the_end_of_a_window_goes_on() {
    let (mut fixture, mut count) = (Fixture::new(), Count::default());
    let short = crate::fixture::MANIFEST.replace("window = \"1h\"", "window = \"200ms\"");
    fixture.manifest(&short);
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    for place in around("apply", "retire:warm") {
        let next = fixture.commit();
        let outcome = die(&fixture, STAGING, &DEPLOY, &place, 0)
            .and_then(|()| whole(&fixture, STAGING, &next));
        let outcome = outcome.map(|_| {
            until("the old version is retired", || {
                fixture.seen(STAGING).filter(|status| status.warm.is_none())
            });
        });
        count.case(&format!("window {place}"), outcome);
    }
    fixture.down(STAGING);
    count.tell("window");
}
