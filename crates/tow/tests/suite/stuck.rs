//! Cancelling at every step, and runs that can neither be finished nor undone: what is said, and
//! how one gets out. Obstacles are real: a file where a folder has to be, a folder that cannot be
//! removed, a gateway that does not answer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use towpath::agent::api::{Begun, MoveLogin};
use towpath::agent::{Client, ClientError, socket};
use towpath::release::LoginMove;

use crate::fixture::{Fixture, Running, STAGING, tow};
use crate::kill::{DEPLOY, steps, undone};
use crate::machine::{members, until};
use crate::snapshot::{check_said, check_shape};
use crate::whole::whole;

const CANCEL: [&str; 3] = ["cancel", "-e", STAGING];

/// Holds the run under way at a place, until the test has done what it wants to do there.
struct Gate(PathBuf);

impl Gate {
    /// Before there is an agent: it inherits where to look.
    fn new(fixture: &mut Fixture) -> Gate {
        let file = fixture.dir.join("hold");
        fixture.env.push(("TOWPATH_HOLD", file.clone()));
        Gate(file)
    }

    /// Starts a deployment and returns when it is held at `place`.
    fn deploy(&self, fixture: &Fixture, place: &str) -> Running {
        fs::write(&self.0, place).unwrap();
        let deploy = fixture.start(&DEPLOY);
        let held = self.0.with_file_name("held");
        until(&format!("it comes to {place}"), || {
            let text = fs::read_to_string(&held).ok()?;
            (text == place).then_some(())
        });
        deploy
    }

    fn open(&self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// v2 serves and v1 is warm; the next deployment brings v3, with a migration.
fn served() -> (Fixture, Gate) {
    let mut fixture = Fixture::new();
    let gate = Gate::new(&mut fixture);
    fixture.tow(&DEPLOY).expect(0);
    fixture.migration();
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    fixture.migration();
    (fixture, gate)
}

fn cancel(fixture: &Fixture) -> Result<Begun, ClientError> {
    let client = Client::new(socket(&fixture.state(STAGING)));
    fixture.run(client.post("/v1/cancel", &"tester"))
}

#[test]
fn a_run_cancelled_at_any_step_holds_nothing_up() {
    let (mut fixture, gate) = served();
    fixture.commit();
    let begun: Value = fixture
        .tow(&["deploy", "-e", STAGING, "--dry-run", "--json"])
        .expect(0)
        .json();
    let pivot = begun["explained"]["pivot"].as_u64().unwrap();
    let mut cancelled = 0;
    for (number, step) in (1..).zip(steps(&fixture, &DEPLOY)) {
        // The run before was cancelled a moment ago.
        let deploy = gate.deploy(&fixture, &format!("apply:{step}:before"));
        if number >= pivot {
            check_said(&fixture, "cancel-too-late", &fixture.tow(&CANCEL));
            gate.open();
            fixture.end(deploy).expect(0);
            continue;
        }
        cancel(&fixture).unwrap();
        gate.open();
        fixture.end(deploy).expect(5);
        assert!(fixture.status(STAGING).run.is_none(), "{step}");
        cancelled += 1;
    }
    println!("cancelled at {cancelled} steps; the next deployment began at once each time");
    whole(&fixture, STAGING, "v3").unwrap();
    fixture.down(STAGING);
}

/// What makes the undo of a step fail, until it is dropped.
enum Obstacle {
    /// Something in the place of what was there.
    Instead(PathBuf),
    /// A folder that cannot be removed.
    Stubborn(PathBuf),
    /// A process that does not answer.
    Stopped(u32),
}

impl Obstacle {
    fn instead(path: PathBuf, folder: bool) -> Obstacle {
        // What was there comes back afterwards.
        let _ = fs::rename(&path, away(&path));
        match folder {
            true => fs::create_dir_all(&path).unwrap(),
            false => fs::write(&path, "").unwrap(),
        }
        Obstacle::Instead(path)
    }

    /// Nobody but root can remove it, and root cannot either while something is mounted there.
    fn stubborn(dir: &Path) -> Obstacle {
        let path = dir.join("stubborn");
        fs::create_dir_all(path.join("inside")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "tmpfs"]).arg(&path);
        let _ = mount.stderr(Stdio::null()).status();
        Obstacle::Stubborn(path)
    }

    fn stopped(pid: u32) -> Obstacle {
        signal(pid, Signal::STOP);
        Obstacle::Stopped(pid)
    }

    /// What stands in the way of the undo of `step` of run `run`; `None` where nothing can.
    fn of(fixture: &Fixture, run: &str, step: &str) -> Option<Obstacle> {
        let state = fixture.state(STAGING);
        let instance = |service: &str, run: &str| {
            let found = fs::read_dir(state.join("run")).unwrap().flatten();
            let mut names = found.map(|entry| entry.file_name().into_string().unwrap());
            let is_it = |name: &String| name.starts_with(service) && name.contains(run);
            names.find(is_it).map(|name| state.join("run").join(name))
        };
        Some(match step {
            "back-up:db" => Obstacle::instead(state.join(format!("backups/{run}-db.db")), true),
            "migrate:db" => {
                let builds = fs::read_dir(state.join("builds")).unwrap().flatten();
                let newest =
                    builds.max_by_key(|entry| entry.metadata().unwrap().modified().unwrap());
                Obstacle::instead(newest.unwrap().path().join("migrations"), false)
            }
            "launch:web" => Obstacle::stubborn(&instance("web", run)?),
            "start-workers" => Obstacle::stubborn(&instance("worker", run)?),
            "stop-workers" => {
                let status = fixture.seen(STAGING).unwrap();
                let worker = status.instances.iter();
                let mut worker = worker.filter(|one| one.side == "live" && one.port.is_none());
                let id = worker.next().unwrap().id.to_string();
                Obstacle::instead(state.join("run").join(id), false)
            }
            "build:web" => Obstacle::instead(state.join(format!("run/build-web-{run}")), false),
            "switch" => Obstacle::stopped(members(&state)["gateway"][0]),
            _ => return None,
        })
    }
}

fn away(path: &Path) -> PathBuf {
    path.with_extension("away")
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        match self {
            Obstacle::Instead(path) => {
                let _ = fs::remove_dir_all(&*path);
                let _ = fs::remove_file(&*path);
                let _ = fs::rename(away(path), path);
            }
            Obstacle::Stubborn(path) => {
                let mut umount = Command::new("umount");
                let _ = umount.arg(&*path).stderr(Stdio::null()).status();
                let _ = fs::set_permissions(&*path, fs::Permissions::from_mode(0o755));
            }
            Obstacle::Stopped(pid) => signal(*pid, Signal::CONT),
        }
    }
}

/// It is stuck at `step`, refuses other runs, and stays stuck as long as the obstacle is there.
fn stays_stuck(fixture: &Fixture, step: &str) {
    let status = fixture.status(STAGING);
    let run = status.run.expect("it is open");
    assert_eq!(status.verdict, "stuck", "{step}");
    assert_eq!(run.step.as_deref(), Some(step));
    let refused = fixture.tow(&DEPLOY).expect(4);
    let again = fixture.tow(&CANCEL).expect(6);
    if step == "back-up:db" {
        check_said(fixture, "stuck-refused", &refused);
        check_said(fixture, "stuck-again", &again);
        let told = fixture.tow(&["status", "-e", STAGING]);
        assert!(
            told.out.contains("is stuck while it undoes"),
            "{}",
            told.out
        );
    }
}

#[test]
fn an_undo_that_fails_is_stuck_and_goes_on_when_that_is_mended() {
    let (mut fixture, gate) = served();
    fixture.write("worker-mode", "die");
    fixture.commit();
    let undone = undone(&fixture, &DEPLOY);
    let (mut stuck, mut run) = (Vec::new(), 3);
    for step in &undone {
        run += 1;
        let deploy = gate.deploy(&fixture, &format!("undo:{step}:before"));
        let obstacle = Obstacle::of(&fixture, &format!("d{run}"), step);
        gate.open();
        let Some(obstacle) = obstacle else {
            fixture.end(deploy).expect(5);
            continue;
        };
        let said = fixture.end(deploy).expect(6);
        if step == "back-up:db" {
            check_said(&fixture, "stuck", &said);
        }
        stays_stuck(&fixture, step);
        if stuck.len() % 2 == 0 {
            fixture.end_agent(STAGING);
        }
        drop(obstacle);
        fixture.tow(&CANCEL).expect(0);
        whole(&fixture, STAGING, "v2").unwrap();
        stuck.push(step.as_str());
    }
    println!(
        "stuck, and out of it, at {} of {} undos: {stuck:?}",
        stuck.len(),
        undone.len()
    );
    assert!(stuck.len() >= 6, "{stuck:?}");
    fixture.down(STAGING);
}

#[test]
fn a_switch_that_cannot_be_undone_is_stuck_until_the_gateway_answers() {
    let (mut fixture, gate) = served();
    fixture.commit();
    let deploy = gate.deploy(&fixture, "apply:drain:before");
    let obstacle = Obstacle::of(&fixture, "d3", "switch").unwrap();
    cancel(&fixture).unwrap();
    gate.open();
    let said = fixture.end(deploy).expect(6);
    assert!(
        said.err.contains("requests go to r2 or to r3"),
        "{}",
        said.err
    );
    drop(obstacle);
    fixture.tow(&CANCEL).expect(0);
    whole(&fixture, STAGING, "v2").unwrap();
    fixture.down(STAGING);
}

#[test]
fn past_the_point_of_no_return_a_step_is_tried_again_and_then_a_person_is_asked() {
    let (mut fixture, gate) = served();
    fixture.commit();
    let deploy = gate.deploy(&fixture, "apply:retire:warm:before");
    let warm = fixture.status(STAGING).instances;
    let warm = warm
        .iter()
        .find(|one| one.side == "warm" && one.port.is_some());
    let dir = fixture
        .state(STAGING)
        .join("run")
        .join(warm.unwrap().id.to_string());
    let obstacle = Obstacle::stubborn(&dir);
    gate.open();
    let said = fixture.end(deploy).expect(6);
    check_said(&fixture, "stuck-forward", &said);
    fixture.tow(&DEPLOY).expect(4);
    drop(obstacle);
    fixture.tow(&CANCEL).expect(0);
    whole(&fixture, STAGING, "v3").unwrap();
    fixture.down(STAGING);
}

#[test]
fn a_plan_is_explained_before_it_is_begun_and_while_it_is_under_way() {
    let (mut fixture, gate) = served();
    fixture.commit();
    let explain = ["plan", "explain", "-e", STAGING];
    check_said(&fixture, "explain-deploy", &fixture.tow(&explain));
    let rollback = ["plan", "explain", "rollback", "-e", STAGING];
    check_said(&fixture, "explain-rollback", &fixture.tow(&rollback));
    let dry_run = ["deploy", "-e", STAGING, "--dry-run"];
    assert_eq!(fixture.tow(&dry_run).out, fixture.tow(&explain).out);
    let said: Value = fixture
        .tow(&[&explain[..], &["--json"]].concat())
        .expect(0)
        .json();
    check_shape("plan-explain", &said);
    let deploy = gate.deploy(&fixture, "apply:launch:web:before");
    check_said(&fixture, "explain-under-way", &fixture.tow(&explain));
    gate.open();
    fixture.end(deploy).expect(0);
    fixture.down(STAGING);
}

#[test]
fn a_second_agent_is_refused_with_who_has_the_state() {
    let fixture = Fixture::new();
    fixture.tow(&DEPLOY).expect(0);
    let state = fixture.state(STAGING).display().to_string();
    let mut command = Command::new(tow());
    command.args([
        "agent",
        "--app",
        "fixture",
        "--environment",
        STAGING,
        "--dir",
        &state,
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let said = fixture.end(Running(command.spawn().unwrap()));
    check_said(&fixture, "second-agent", &said);
    fixture.down(STAGING);
}

/// A run may provide the very database whose users change.
#[test]
fn who_connects_is_not_changed_while_a_run_is_open() {
    let (mut fixture, gate) = served();
    fixture.commit();
    let deploy = gate.deploy(&fixture, "apply:switch:before");
    let asked = MoveLogin {
        step: LoginMove::End,
        actor: "tester".to_owned(),
    };
    let client = Client::new(socket(&fixture.state(STAGING)));
    let moved = fixture.run(client.post::<()>("/v1/logins/db", &asked));
    let refused = moved.unwrap_err().into_trouble();
    gate.open();
    assert_eq!(refused.exit, 4, "{:?}", refused.diagnostic);
    assert_eq!(refused.diagnostic.code, "deploy::locked");
    fixture.end(deploy).expect(0);
    fixture.down(STAGING);
}
