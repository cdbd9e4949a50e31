//! What goes wrong, how it is told, and that nothing of it is left.

use std::net::TcpListener;

use towpath::agent::api::Status;

use crate::fixture::{Fixture, MANIFEST, Running, STAGING, Said};
use crate::machine::{self, until};
use crate::snapshot::check_said;
use crate::whole::whole;

const DEPLOY: [&str; 3] = ["deploy", "-e", STAGING];
/// A build that waits until the test lets it go on.
const WAITING: &str = "touch $HOME/waits; while [ ! -e $HOME/go ]; do sleep 0.01; done";

/// One version serves.
fn served() -> Fixture {
    let fixture = Fixture::new();
    fixture.tow(&DEPLOY).expect(0);
    fixture
}

/// Deploys the manifest with `from` replaced by `to`, which must fail and change nothing.
fn fails(fixture: &mut Fixture, name: &str, from: &str, to: &str) {
    assert!(MANIFEST.contains(from), "{from}");
    // Those that never answer are not waited for as long as good ones.
    let manifest = MANIFEST.replace("within = \"60s\", timeout = \"10s\"", "within = \"2s\"");
    fixture.manifest(&manifest.replace(from, to));
    fixture.commit();
    let said = fixture.tow(&DEPLOY);
    check_said(fixture, name, &said);
    whole(fixture, STAGING, "v1").unwrap();
    fixture.manifest(MANIFEST);
}

const RUN: &str = "run = \"APP web\"";

#[test]
fn a_release_that_does_not_come_up_is_told_of_and_undone() {
    let mut fixture = served();
    let faults = [
        (
            "dies-at-start",
            RUN,
            "run = \"echo no such table: notes >&2; exit 3\"",
        ),
        (
            "double-forks",
            RUN,
            "run = \"echo into the background; setsid sleep 600 >/dev/null & exit 0\"",
        ),
        (
            "wrong-port",
            "run = \"APP web\"",
            "run = \"PORT=0 exec APP web\"",
        ),
        ("missing-program", RUN, "run = \"/no/such/program web\""),
        (
            "build-fails",
            "build = \"true\"",
            "build = \"echo expected a semicolon >&2; exit 2\"",
        ),
        (
            "worker-dies",
            "run = \"APP worker\"",
            "run = \"echo no such queue: reminders >&2; exit 1\"",
        ),
    ];
    for (name, from, to) in faults {
        let soon = format!("{to}\nrestart = {{ backoff = \"50ms\" }}");
        fails(
            &mut fixture,
            name,
            from,
            if from == RUN { &soon } else { to },
        );
    }
    fixture.write("mode", "never-ready");
    fails(&mut fixture, "never-ready", RUN, RUN);
    std::fs::remove_file(fixture.repo().join("mode")).unwrap();
    fixture.write(
        "migrations/0009_wrong.up.sql",
        "ALTER TABLE nowhere ADD COLUMN a TEXT;",
    );
    fails(
        &mut fixture,
        "migration-fails",
        "window = \"1h\"",
        "window = \"1h\"",
    );
    std::fs::remove_file(fixture.repo().join("migrations/0009_wrong.up.sql")).unwrap();
    // Well, but again and again: that is not ready either.
    let ends = "run = \"echo nothing to do; exit 0\"\nrestart = { backoff = \"50ms\" }";
    fails(&mut fixture, "ends-well", RUN, ends);
    fixture.down(STAGING);
}

/// Starts a deployment whose build waits and then does `more`, and returns when it waits.
fn waits_in_build(fixture: &mut Fixture, more: &str) -> (Running, Status) {
    let build = WAITING.replace("$HOME", &fixture.dir.join("data").display().to_string());
    fixture
        .manifest(&MANIFEST.replace("build = \"true\"", &format!("build = \"{build}; {more}\"")));
    fixture.commit();
    let deploy = fixture.start(&DEPLOY);
    let status = until("it builds", || {
        let step = |status: &Status| status.run.as_ref().and_then(|run| run.step.clone());
        fixture
            .seen(STAGING)
            .filter(|status| step(status).as_deref() == Some("build:web"))
            // Its first command has run.
            .filter(|_| fixture.data("waits").exists())
    });
    (deploy, status)
}

#[test]
fn a_port_that_somebody_else_took_is_told_of() {
    let mut fixture = served();
    let (deploy, status) = waits_in_build(&mut fixture, "true");
    let new = status
        .instances
        .iter()
        .find(|one| one.side == "new" && one.port.is_some());
    let squatter = TcpListener::bind(("127.0.0.1", new.unwrap().port.unwrap())).unwrap();
    std::fs::write(fixture.data("go"), "").unwrap();
    let said = fixture.end(deploy);
    check_said(&fixture, "port-taken", &said);
    drop(squatter);
    whole(&fixture, STAGING, "v1").unwrap();
    fixture.down(STAGING);
}

#[test]
fn one_run_at_a_time_and_a_cancelled_one_is_undone() {
    let mut fixture = served();
    let (deploy, _) = waits_in_build(&mut fixture, "true");
    check_said(&fixture, "second-operator", &fixture.tow(&DEPLOY));
    check_said(&fixture, "cancel", &fixture.tow(&["cancel", "-e", STAGING]));
    check_said(&fixture, "cancelled", &fixture.end(deploy));
    whole(&fixture, STAGING, "v1").unwrap();
    check_said(
        &fixture,
        "cancel-nothing",
        &fixture.tow(&["cancel", "-e", STAGING]),
    );
    fixture.down(STAGING);
}

#[test]
fn a_build_that_takes_long_says_where_to_look() {
    use std::io::{BufRead, BufReader, Read};
    let mut fixture = served();
    let (mut deploy, _) = waits_in_build(&mut fixture, "true");
    let mut told = BufReader::new(deploy.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("build:web") {
        line.clear();
        assert_ne!(told.read_line(&mut line).unwrap(), 0, "nothing was said");
    }
    assert!(
        line.contains("`tow logs build -e staging --follow`"),
        "{line}"
    );
    std::fs::write(fixture.data("go"), "").unwrap();
    told.read_to_string(&mut line).unwrap();
    let said = fixture.end(deploy).expect(0);
    let end = format!(": r2 serves staging at http://{}", fixture.listen(STAGING));
    assert!(said.out.trim_end().ends_with(&end), "{}", said.out);
    fixture.down(STAGING);
}

#[test]
fn completion_knows_only_what_is_for_people() {
    let fixture = Fixture::new();
    for shell in ["bash", "zsh", "fish"] {
        let said = fixture.tow(&["completion", shell]).expect(0);
        assert!(said.out.contains("rollback"), "{shell}");
        assert!(
            !said.out.contains("shim"),
            "{shell} completes internal commands"
        );
    }
}

#[test]
fn a_command_whose_agent_dies_starts_another_and_follows_on() {
    let mut fixture = served();
    let (deploy, status) = waits_in_build(&mut fixture, "true");
    machine::kill(status.agent_pid);
    until("the agent is dead", || {
        (!machine::is_alive(status.agent_pid)).then_some(())
    });
    std::fs::write(fixture.data("go"), "").unwrap();
    // Nobody but this command can have started it.
    fixture.end(deploy).expect(0);
    let after = whole(&fixture, STAGING, "v2").unwrap();
    assert_ne!(after.agent_pid, status.agent_pid);
    fixture.down(STAGING);
}

#[test]
fn a_mistake_in_the_manifest_does_not_stand_in_the_way_of_a_roll_back() {
    let mut fixture = served();
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    fixture.manifest(&MANIFEST.replace("replicas = 2", "replicsa = 2"));
    fixture.tow(&["check"]).expect(3);
    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    whole(&fixture, STAGING, "v1").unwrap();
    fixture.down(STAGING);
}

#[test]
fn a_run_is_cancelled_while_it_waits_for_readiness() {
    let mut fixture = served();
    fixture.write("mode", "never-ready");
    fixture.commit();
    let deploy = fixture.start(&DEPLOY);
    until("it waits", || {
        let run = fixture.seen(STAGING)?.run?;
        (run.step.as_deref() == Some("ready:web")).then_some(())
    });
    fixture.tow(&["cancel", "-e", STAGING]).expect(0);
    fixture.end(deploy).expect(5);
    whole(&fixture, STAGING, "v1").unwrap();
    fixture.down(STAGING);
}

#[test]
fn what_cannot_be_begun_is_refused() {
    let mut fixture = Fixture::new();
    let said = |fixture: &Fixture, name: &str, arguments: &[&str]| {
        check_said(fixture, name, &fixture.tow(arguments));
    };
    said(
        &fixture,
        "promote-nothing",
        &["promote", "-e", "production"],
    );
    said(&fixture, "promote-first", &["promote", "-e", STAGING]);
    said(&fixture, "rollback-nothing", &["rollback", "-e", STAGING]);
    said(
        &fixture,
        "rollback-unknown",
        &["rollback", "r99", "-e", STAGING],
    );
    said(&fixture, "no-environment", &["deploy", "-e", "stagign"]);
    fixture.write("mode", "");
    said(&fixture, "dirty-tree", &DEPLOY);
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    said(&fixture, "rollback-first", &["rollback", "-e", STAGING]);
    fixture.down(STAGING);
    fixture.down("production");
}

#[test]
fn a_folder_of_migrations_that_is_not_there_is_told_of_and_nothing_is_touched() {
    let mut fixture = served();
    fixture.manifest(&MANIFEST.replace("migrate = \"migrations\"", "migrate = \"migratoins\""));
    fixture.commit();
    check_said(&fixture, "no-migrations-check", &fixture.tow(&["check"]));
    check_said(&fixture, "no-migrations", &fixture.tow(&DEPLOY));
    whole(&fixture, STAGING, "v1").unwrap();
    // There on disk, and not in the commit.
    std::fs::create_dir(fixture.repo().join("migratoins")).unwrap();
    fixture.tow(&["check"]).expect(0);
    fixture.tow(&DEPLOY).expect(3);
    fixture.down(STAGING);
}

#[test]
fn what_ignores_sigterm_is_killed_after_its_grace() {
    let mut fixture = Fixture::new();
    let stubborn = "run = \"trap '' TERM; exec APP web\"\nstop = { grace = \"200ms\" }";
    fixture.manifest(&MANIFEST.replace(RUN, stubborn));
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    whole(&fixture, STAGING, "v2").unwrap();
    fixture.down(STAGING);
}

#[test]
fn a_log_that_is_flooded_stays_within_its_bounds() {
    let mut fixture = Fixture::new();
    let bounded = format!("{RUN}\nlog = {{ max = \"1MB\", keep = 2 }}");
    fixture.manifest(&MANIFEST.replace(RUN, &bounded));
    fixture.write("mode", "flood-log");
    let version = fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    whole(&fixture, STAGING, &version).unwrap();
    let logs = std::fs::read_dir(fixture.state(STAGING).join("logs/web")).unwrap();
    let bytes: u64 = logs
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    // Two instances, each with its log and two old ones.
    assert!(
        (1 << 20..=2 * 3 * (1_100_000)).contains(&bytes),
        "{bytes} bytes of logs"
    );
    fixture.down(STAGING);
}

#[test]
fn a_journal_that_was_changed_is_refused_and_services_run_on() {
    let fixture = served();
    let listen = fixture.listen(STAGING);
    fixture.end_agent(STAGING);
    let state = fixture.state(STAGING).join("state.db");
    let change = |from: &str, to: &str| {
        let db = rusqlite::Connection::open(&state).unwrap();
        let done = db.execute(
            "UPDATE journal SET actor = ?2 WHERE seq = 3 AND actor = ?1",
            [from, to],
        );
        assert_eq!(done.unwrap(), 1);
    };
    change("tester", "mallory");
    let said: Said = fixture.tow(&["status", "-e", STAGING]);
    check_said(&fixture, "journal-changed", &said);
    assert_eq!(fixture.get(&listen, "/version").unwrap(), "v1");
    change("mallory", "tester");
    whole_again(&fixture);
    fixture.down(STAGING);
}

fn whole_again(fixture: &Fixture) {
    fixture.tow(&["status", "-e", STAGING]).expect(0);
    whole(fixture, STAGING, "v1").unwrap();
}

/// A small disk under the states; unmounted when the test ends.
struct Disk(std::path::PathBuf);

impl Disk {
    fn new(at: std::path::PathBuf) -> Option<Disk> {
        let mut mount = std::process::Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(&at);
        let mounted = mount.stderr(std::process::Stdio::null()).status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Disk(at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut umount = std::process::Command::new("umount");
        let _ = umount.arg("--lazy").arg(&self.0).status();
    }
}

fn fill(file: &std::path::Path) {
    // The last write is cut short, and that is what is wanted.
    let _ = std::fs::write(file, vec![0; 32 << 20]);
}

#[test]
fn an_agent_starts_on_a_full_disk() {
    let fixture = Fixture::new();
    let Some(_disk) = Disk::new(fixture.dir.join("states")) else {
        println!("not root: no disk could be made");
        return;
    };
    fixture.tow(&DEPLOY).expect(0);
    fixture.end_agent(STAGING);
    let ballast = fixture.state(STAGING).join("ballast");
    assert!(ballast.exists());
    let filler = fixture.dir.join("states/filler");
    fill(&filler);
    assert!(!page_fits(&fixture), "the disk is not full");
    whole_again(&fixture);
    assert!(!ballast.exists(), "it started without what was set aside");
    std::fs::remove_file(&filler).unwrap();
    fixture.down(STAGING);
    machine::sweep(&fixture.dir.join("states"), &fixture.state(STAGING));
}

/// Whether a page more can be written.
fn page_fits(fixture: &Fixture) -> bool {
    let page = fixture.dir.join("states/page");
    let fits = std::fs::write(&page, [0; 4096]).is_ok();
    let _ = std::fs::remove_file(&page);
    fits
}

#[test]
fn a_full_disk_fails_a_deployment_and_nothing_that_serves() {
    let mut fixture = Fixture::new();
    let Some(_disk) = Disk::new(fixture.dir.join("states")) else {
        println!("not root: no disk could be made");
        return;
    };
    fixture.tow(&DEPLOY).expect(0);
    let listen = fixture.listen(STAGING);
    let filler = fixture.dir.join("states/filler");
    fixture.migration();
    let (deploy, _) = waits_in_build(&mut fixture, "head -c 3000000 /dev/zero > big");
    fill(&filler);
    std::fs::write(fixture.data("go"), "").unwrap();
    check_said(&fixture, "disk-full", &fixture.end(deploy));
    assert_eq!(fixture.get(&listen, "/version").unwrap(), "v1");
    whole(&fixture, STAGING, "v1").unwrap();
    std::fs::remove_file(&filler).unwrap();
    until("the run is over", || {
        fixture.seen(STAGING).filter(|status| status.run.is_none())
    });
    whole_again(&fixture);
    let next = fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    whole(&fixture, STAGING, &next).unwrap();
    fixture.down(STAGING);
    machine::sweep(&fixture.dir.join("states"), &fixture.state(STAGING));
}
