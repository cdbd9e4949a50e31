//! A real run's journal, cut off behind every row, with the world at hand as the whole run left it:
//! the next agent goes on, so every action and every undo is done twice.

use std::path::PathBuf;

use rusqlite::Connection;

use crate::fixture::{Fixture, STAGING};
use crate::kill::DEPLOY;
use crate::whole::whole;

/// A journal as it was when a run had ended, and the rows of that run.
struct Journal {
    state: PathBuf,
    copy: PathBuf,
    rows: Vec<i64>,
}

impl Journal {
    /// Of the last run.
    fn of(fixture: &Fixture) -> Journal {
        fixture.end_agent(STAGING);
        let state = fixture.state(STAGING).join("state.db");
        let copy = fixture.dir.join("whole.db");
        let db = Connection::open(&state).unwrap();
        db.execute("VACUUM INTO ?1", [copy.display().to_string()])
            .unwrap();
        let query = "SELECT seq FROM journal WHERE run = (SELECT max(run) FROM journal)";
        let mut query = db.prepare(query).unwrap();
        let rows = query.query_map((), |row| row.get(0)).unwrap();
        let rows = rows.map(Result::unwrap).collect();
        Journal { state, copy, rows }
    }

    /// Where it is cut; at every third row when not everywhere is asked for.
    fn cuts(&self) -> Vec<i64> {
        let all = std::env::var_os("TOWPATH_KILL_ALL").is_some();
        let each = if all { 1 } else { 3 };
        let last = self.rows.len() - 1;
        self.rows[..last].iter().step_by(each).copied().collect()
    }

    /// Puts it back without the rows behind `seq`. Only while there is no agent.
    fn cut(&self, seq: i64) {
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.state.display()));
        }
        std::fs::copy(&self.copy, &self.state).unwrap();
        let db = Connection::open(&self.state).unwrap();
        db.execute("DELETE FROM journal WHERE seq > ?1", [seq])
            .unwrap();
    }
}

/// Cuts the journal of the last run everywhere; `version` serves each time after it was gone on with.
fn goes_on(fixture: &Fixture, version: &str, what: &str) {
    let journal = Journal::of(fixture);
    let cuts = journal.cuts();
    let mut failures = Vec::new();
    for seq in &cuts {
        journal.cut(*seq);
        fixture.tow(&["status", "-e", STAGING]).expect(0);
        if let Err(why) = whole(fixture, STAGING, version) {
            println!("FAILED cut behind row {seq}: {why}");
            failures.push(format!("row {seq}: {why}"));
        }
        fixture.end_agent(STAGING);
    }
    println!(
        "{what}: {} cuts of {} rows, {} failures",
        cuts.len(),
        journal.rows.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{failures:#?}");
    fixture.down(STAGING);
}

fn served() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.tow(&DEPLOY).expect(0);
    fixture.migration();
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    fixture.migration();
    fixture
}

#[test]
fn a_deployment_whose_journal_was_cut_anywhere_is_finished() {
    let mut fixture = served();
    let version = fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    goes_on(&fixture, &version, "journal of a deployment");
}

#[test]
fn an_undo_whose_journal_was_cut_anywhere_is_finished() {
    let mut fixture = served();
    fixture.write("worker-mode", "die");
    fixture.commit();
    fixture.tow(&DEPLOY).expect(5);
    goes_on(&fixture, "v2", "journal of a deployment that was undone");
}
