//! The journal: numbers, clocks, chain, lease, and the fold over every prefix of it.
#![allow(clippy::unwrap_used)] // in the helpers of tests as in the tests themselves

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use towpath::clock::Clock;
use towpath::id::RunId;
use towpath::release::{
    OVERTAKEN, Operation, Phase, Plan, Side, SigningKey, Step, StepState, Version, World, fold,
};
use towpath::state::{Blobs, Entry, Error, Kind, Row, Store};
use towpath::supervise::{Places, Supervisor};

/// A folder of this test's own, removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("towpath-journal-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Folder(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn entry(run: u64, step: &str, kind: Kind) -> Entry {
    let data = if step == "run" && kind == Kind::Intent {
        json!(plan(run))
    } else {
        json!({})
    };
    Entry {
        run: RunId(run),
        step: step.to_owned(),
        attempt: 1,
        kind,
        actor: "test".to_owned(),
        data,
    }
}

fn version(run: u64) -> Version {
    Version {
        run: RunId(run),
        release: None,
        root: PathBuf::from("/nowhere"),
        dev: true,
        manifest: String::new(),
        instances: Vec::new(),
        seed: None,
        images: BTreeMap::new(),
        purpose: towpath::config::Purpose::Real,
    }
}

fn plan(run: u64) -> Plan {
    Plan {
        run: RunId(run),
        operation: Operation::Deploy,
        actor: "test".to_owned(),
        new: Some(version(run)),
        old: (run > 1).then(|| version(run - 1)),
        warm: None,
        window_ms: 60_000,
        drain_ms: 1_000,
        steps: vec![
            Step::Launch {
                service: "web".to_owned(),
            },
            Step::Switch,
            Step::Retire { side: Side::Warm },
        ],
        sabotage: None,
        changes: Vec::new(),
    }
}

fn world(folder: &Path) -> World {
    let state = folder.to_owned();
    World {
        app: "notes".to_owned(),
        environment: "staging".to_owned(),
        store: store(folder, Clock::system()),
        supervisor: Supervisor::new(Places {
            runtime: state.join("sockets"),
            tow: PathBuf::from("/nowhere/tow"),
            state,
        }),
        blobs: Blobs::new(folder, Clock::system()),
        key: SigningKey::open(folder).unwrap(),
        user: None,
        version: String::new(),
        rehearsal: false,
        folded: std::sync::Mutex::default(),
    }
}

fn store(folder: &Path, clock: Clock) -> Store {
    Store::open(folder, clock).unwrap()
}

#[test]
fn wall_time_never_falls_when_the_clock_is_set_back() {
    let folder = Folder::new();
    let first = store(&folder.0, Clock::system())
        .append(&entry(1, "run", Kind::Intent))
        .unwrap();
    let back = store(&folder.0, Clock::system().shifted(-3_600_000));
    let second = back.append(&entry(1, "launch:web", Kind::Intent)).unwrap();
    assert_eq!(second.at.wall_ms, first.at.wall_ms);
    assert!(second.at.boot_ms >= first.at.boot_ms);
}

#[test]
fn a_window_is_measured_on_the_boot_clock_and_is_never_longer_than_itself() {
    let clock = Clock::system();
    let folder = Folder::new();
    let mark = store(&folder.0, clock.clone())
        .append(&entry(1, "run", Kind::Intent))
        .unwrap()
        .at;
    let minute = std::time::Duration::from_secs(60);
    for shift in [-86_400_000, 0, 86_400_000] {
        let left = clock.shifted(shift).left(&mark, minute);
        assert!(
            left <= minute && left > minute / 2,
            "shifted by {shift} ms: {left:?}"
        );
    }
    let other_boot = towpath::clock::Mark {
        boot_id: "another".to_owned(),
        ..mark
    };
    assert!(clock.shifted(-86_400_000).left(&other_boot, minute) <= minute);
    assert_eq!(
        clock.shifted(86_400_000).left(&other_boot, minute),
        std::time::Duration::ZERO
    );
}

#[test]
fn a_second_agent_is_refused_and_told_who_has_the_state() {
    let folder = Folder::new();
    let _held = store(&folder.0, Clock::system());
    match Store::open(&folder.0, Clock::system()) {
        Err(
            ref error @ Error::Taken {
                ref pid,
                ref since_ms,
                ..
            },
        ) => {
            assert_eq!(*pid, Some(std::process::id()));
            assert!(since_ms.is_some_and(|at| at > 0), "{error}");
            assert!(error.to_string().contains("while that process lives"));
        }
        other => panic!("not refused: {:?}", other.err()),
    }
}

#[test]
fn an_agent_that_was_replaced_cannot_write() {
    let folder = Folder::new();
    let old = store(&folder.0, Clock::system());
    // As if the lock had been lost, as it is over a network file system.
    std::fs::remove_file(folder.0.join("agent.lock")).unwrap();
    let new = store(&folder.0, Clock::system());
    assert!(matches!(
        old.append(&entry(1, "run", Kind::Intent)),
        Err(Error::Superseded { ours: 1, now: 2 })
    ));
    new.append(&entry(1, "run", Kind::Intent)).unwrap();
}

#[test]
fn a_changed_removed_or_inserted_row_is_found() {
    let changes = [
        ("UPDATE journal SET data = '{\"a\":1}' WHERE seq = 2", 2),
        ("UPDATE journal SET wall = wall + 1 WHERE seq = 3", 3),
        ("DELETE FROM journal WHERE seq = 2", 2),
        ("DELETE FROM journal WHERE seq = 1", 1),
        ("UPDATE journal SET actor = 'other' WHERE seq = 1", 1),
    ];
    for (change, place) in changes {
        let folder = Folder::new();
        let written = store(&folder.0, Clock::system());
        for (step, kind) in [
            ("run", Kind::Intent),
            ("launch:web", Kind::Intent),
            ("launch:web", Kind::Ok),
        ] {
            written.append(&entry(1, step, kind)).unwrap();
        }
        drop(written);
        rusqlite::Connection::open(folder.0.join("state.db"))
            .unwrap()
            .execute_batch(change)
            .unwrap();
        match Store::open(&folder.0, Clock::system()) {
            Err(Error::Chain { seq }) => assert_eq!(seq, place, "{change}"),
            other => panic!("{change}: not found: {:?}", other.err()),
        }
    }
}

/// A deployment that fails after its switch's intent, is undone, and one that comes through.
fn whole_story(store: &Store) -> Vec<Row> {
    use Kind::{Failed, Intent, Ok, UndoIntent, Undone};
    let story = [
        (1, "run", Intent),
        (1, "launch:web", Intent),
        (1, "launch:web", Ok),
        (1, "switch", Intent),
        (1, "switch", Failed),
        (1, "run", Failed),
        (1, "switch", UndoIntent),
        (1, "switch", Undone),
        (1, "launch:web", UndoIntent),
        (1, "launch:web", Undone),
        (1, "run", Undone),
        (2, "run", Intent),
        (2, "launch:web", Intent),
        (2, "launch:web", Ok),
        (2, "switch", Intent),
        (2, "switch", Intent),
        (2, "switch", Ok),
        (2, "retire:warm", Intent),
        (2, "retire:warm", Ok),
        (2, "run", Ok),
    ];
    story
        .iter()
        .map(|(run, step, kind)| store.append(&entry(*run, step, *kind)).unwrap())
        .collect()
}

#[test]
fn every_prefix_of_a_journal_is_an_environment() {
    let folder = Folder::new();
    let rows = whole_story(&store(&folder.0, Clock::system()));
    for cut in 0..=rows.len() {
        let now = fold(&rows[..cut]).unwrap_or_else(|illegal| panic!("cut at {cut}: {illegal}"));
        let is_open = (1..11).contains(&cut) || (12..20).contains(&cut);
        assert_eq!(now.open.is_some(), is_open, "cut at {cut}");
        assert_eq!(now.live.is_some(), cut == rows.len(), "cut at {cut}");
        let undoing = (6..11).contains(&cut);
        assert_eq!(
            now.open.is_some_and(|run| run.phase == Phase::Undoing),
            undoing,
            "cut at {cut}"
        );
    }
}

#[test]
fn rows_that_must_not_follow_are_refused() {
    use Kind::{Failed, Intent, Ok, UndoIntent, Undone};
    let stories: [&[(u64, &str, Kind)]; 9] = [
        &[(1, "launch:web", Intent)],
        &[(1, "run", Intent), (1, "launch:web", Ok)],
        &[(1, "run", Intent), (1, "no-such-step", Intent)],
        &[(1, "run", Intent), (2, "run", Intent)],
        &[
            (1, "run", Intent),
            (1, "launch:web", Intent),
            (1, "launch:web", Undone),
        ],
        &[(1, "run", Intent), (1, "run", Ok)],
        &[(1, "run", Intent), (1, "switch", Intent)],
        &[
            (1, "run", Intent),
            (1, "run", Failed),
            (1, "run", Undone),
            (1, "run", Intent),
        ],
        &[(1, "run", Intent), (1, "launch:web", UndoIntent)],
    ];
    for story in stories {
        let folder = Folder::new();
        let written = store(&folder.0, Clock::system());
        let rows: Vec<Row> = story
            .iter()
            .map(|(run, step, kind)| written.append(&entry(*run, step, *kind)).unwrap())
            .collect();
        let illegal = fold(&rows).expect_err("an illegal row");
        assert_eq!(illegal.seq, i64::try_from(rows.len()).unwrap(), "{story:?}");
    }
}

#[test]
fn a_result_waits_for_its_intent() {
    let folder = Folder::new();
    let rows = whole_story(&store(&folder.0, Clock::system()));
    let run = fold(&rows[..4]).unwrap().open.unwrap();
    assert_eq!(run.steps.get("switch"), Some(&StepState::Intent));
    assert_eq!(run.intents, ["launch:web", "switch"]);
}

/// Two people cancel a stuck run: the second decided on it before the first's undo came to its end.
#[test]
fn a_row_that_may_not_follow_is_not_written() {
    use Kind::{Failed, Intent, Stuck, UndoIntent, Undone};
    let folder = Folder::new();
    let world = world(&folder.0);
    let append = |(step, kind)| world.append(&entry(1, step, kind));
    let stuck = [
        ("run", Intent),
        ("launch:web", Intent),
        ("launch:web", Stuck),
        ("run", Stuck),
    ];
    for row in stuck {
        append(row).unwrap();
    }
    let cancel = ("run", Failed);
    append(cancel).unwrap();
    let refused = |row| append(row).expect_err("it may not follow").code;
    assert_eq!(refused(cancel), OVERTAKEN, "while it is undone");
    append(("launch:web", UndoIntent)).unwrap();
    append(("launch:web", Undone)).unwrap();
    append(("run", Undone)).unwrap();
    assert_eq!(refused(cancel), OVERTAKEN, "when it is undone");
    assert!(world.environment().unwrap().open.is_none());
    assert_eq!(world.store.rows(0).unwrap().len(), 8);
    world.append(&entry(2, "run", Intent)).unwrap();
    assert_eq!(world.environment().unwrap().last_run, 2);
}
