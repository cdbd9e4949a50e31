//! What a script may hold, found before anything is touched: whether what it says about itself is true of its statements.
//!
//! The rules look at words, not at a grammar: what they do not know they let through, and the database has the last word.

use std::collections::BTreeSet;

use super::statement::{Statement, split};
use super::{Engine, Header, Kind};
use crate::diagnostic::Diagnostic;

/// How a statement that is not in a transaction bears being run again, after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Again {
    /// It does nothing the second time.
    Harmless,
    /// It makes an index, which is there, is not, or was left invalid.
    MakesIndex(String),
    /// It removes an index, which is there or is not.
    DropsIndex(String),
    /// Nobody but a person can tell.
    Unknown,
}

/// What is wrong with a script.
pub(super) fn script(
    engine: Engine,
    header: &Header,
    is_down: bool,
    text: &str,
) -> Vec<Diagnostic> {
    let statements = match split(engine, text) {
        Ok(statements) => statements,
        Err(diagnostic) => return vec![diagnostic],
    };
    let mut wrong: Vec<Diagnostic> = statements
        .iter()
        .filter_map(|one| never(engine, one))
        .collect();
    for statement in &statements {
        wrong.extend(transaction(engine, header, statement));
    }
    if header.no_transaction && statements.len() > 1 {
        wrong.extend(statements.iter().filter_map(repeatable));
    }
    if !is_down {
        let rebuilt = rebuilds(&statements);
        wrong.extend(rebuilt.iter().filter(|_| header.kind != Kind::Rewrite).map(
            |(statement, name)| {
                loses(
                    statement,
                    0,
                    1,
                    &format!("this rebuilds `{name}`"),
                    Kind::Rewrite,
                )
            },
        ));
        if header.kind == Kind::Expand && rebuilt.is_empty() {
            wrong.extend(expands(&statements));
        }
    }
    wrong
}

/// What no migration may do.
fn never(engine: Engine, statement: &Statement<'_>) -> Option<Diagnostic> {
    let refuse = |text: &str, help: &str| {
        let error = Diagnostic::error("migrate::refused", text);
        Some(error.label(statement.span_of(0, 1), "").help(help))
    };
    let word = statement.word(0);
    let is_trigger_end = word == "END" && engine == Engine::Postgres;
    if matches!(
        word,
        "BEGIN" | "COMMIT" | "ROLLBACK" | "ABORT" | "SAVEPOINT" | "RELEASE"
    ) || is_trigger_end
        || (word == "END" && engine == Engine::Sqlite)
        || statement.has(0, &["START", "TRANSACTION"])
        || statement.has(0, &["PREPARE", "TRANSACTION"])
        || statement.has(0, &["SET", "TRANSACTION"])
    {
        let help = "take it out: each migration is one transaction; `-- tow: no-transaction` is for what cannot run in one";
        return refuse(
            "a migration does not begin or end transactions itself",
            help,
        );
    }
    if statement.pieces.iter().enumerate().any(|(at, _)| {
        statement
            .name(at)
            .is_some_and(|(name, _)| name.eq_ignore_ascii_case("towpath_migrations"))
    }) {
        return refuse(
            "`towpath_migrations` is Towpath's own",
            "`tow migrate baseline` counts an existing schema as migrated",
        );
    }
    match engine {
        Engine::Sqlite => never_in_sqlite(statement),
        Engine::Postgres => never_in_postgres(statement),
    }
    .and_then(|(text, help)| refuse(text, help))
}

fn never_in_sqlite(statement: &Statement<'_>) -> Option<(&'static str, &'static str)> {
    const OWN: &str = "a migration reaches its own database only";
    match (statement.word(0), statement.name(1)) {
        ("ATTACH" | "DETACH", _) => Some((OWN, "take it out")),
        ("VACUUM", _) if statement.find(&["INTO"]).is_some() => {
            Some((OWN, "`tow` makes backups itself"))
        }
        ("PRAGMA", Some((name, _))) if name.eq_ignore_ascii_case("writable_schema") => Some((
            "writing into the schema itself can destroy the database",
            "rebuild the table, under the header `-- tow: rewrite`",
        )),
        _ => None,
    }
}

fn never_in_postgres(statement: &Statement<'_>) -> Option<(&'static str, &'static str)> {
    if statement.mark(0) == "\\" {
        return Some((
            "this is a command of psql, not SQL",
            "write the SQL that it stands for",
        ));
    }
    if statement.word(0) != "COPY" {
        return None;
    }
    let tail = (1..statement.pieces.len())
        .rev()
        .find(|at| matches!(statement.word(*at), "FROM" | "TO"))?;
    match statement.word(tail + 1) {
        "STDIN" | "STDOUT" => Some((
            "a migration has no standard input or output",
            "write the rows as `INSERT`",
        )),
        _ => Some((
            "a migration reaches its own database only, no file and no program",
            "write the rows as `INSERT`",
        )),
    }
}

/// Whether the statement can run in a transaction, as its script says.
fn transaction(engine: Engine, header: &Header, statement: &Statement<'_>) -> Option<Diagnostic> {
    let outside = match engine {
        Engine::Sqlite => is_outside_in_sqlite(statement),
        Engine::Postgres => is_outside_in_postgres(statement),
    };
    if !outside || header.no_transaction {
        return None;
    }
    let text = match statement.name(1) {
        Some((name, _)) if statement.word(0) == "PRAGMA" && name == "foreign_keys" => {
            return Some(
                Diagnostic::error("migrate::transaction", "within a transaction this does nothing")
                    .label(statement.span.clone(), "")
                    .help("take it out: under `-- tow: rewrite` and `-- tow: contract` foreign keys are off, and are checked before the end"),
            );
        }
        _ => "this cannot run in a transaction",
    };
    Some(
        Diagnostic::error("migrate::transaction", text)
            .label(statement.span_of(0, 2), "")
            .help("begin the file with `-- tow: no-transaction`, and give it this one statement"),
    )
}

fn is_outside_in_sqlite(statement: &Statement<'_>) -> bool {
    let pragma = statement.name(1).filter(|_| statement.word(0) == "PRAGMA");
    statement.word(0) == "VACUUM"
        || pragma.is_some_and(|(name, _)| {
            let name = name.to_ascii_lowercase();
            ["journal_mode", "foreign_keys", "auto_vacuum"].contains(&name.as_str())
        })
}

fn is_outside_in_postgres(statement: &Statement<'_>) -> bool {
    let concurrently = statement.find(&["CONCURRENTLY"]).is_some();
    match (statement.word(0), statement.word(1)) {
        ("VACUUM", _) | ("ALTER", "SYSTEM") => true,
        ("CREATE" | "DROP", "DATABASE" | "TABLESPACE" | "SUBSCRIPTION") => true,
        ("CREATE", "INDEX" | "UNIQUE") | ("DROP", "INDEX") => concurrently,
        ("ALTER", "TABLE") => statement.find(&["DETACH", "PARTITION"]).is_some() && concurrently,
        ("REINDEX", _) => {
            concurrently
                || statement
                    .find(&["DATABASE"])
                    .or(statement.find(&["SYSTEM"]))
                    .is_some()
        }
        _ => false,
    }
}

/// How it bears being run again.
pub(super) fn again(statement: &Statement<'_>) -> Again {
    let has = |words: &[&str]| statement.find(words).is_some();
    match (statement.word(0), statement.word(1)) {
        ("CREATE", "INDEX" | "UNIQUE") if has(&["CONCURRENTLY"]) => {
            let at = statement.find(&["CONCURRENTLY"]).unwrap_or(0) + 1;
            let at = statement.past(at, &["IF", "NOT", "EXISTS"]);
            match statement.name(at).filter(|_| statement.word(at) != "ON") {
                Some((name, _)) => Again::MakesIndex(name),
                None => Again::Unknown,
            }
        }
        ("DROP", "INDEX") if has(&["CONCURRENTLY"]) && !has(&["IF", "EXISTS"]) => {
            let at = statement.find(&["CONCURRENTLY"]).unwrap_or(0) + 1;
            statement
                .name(at)
                .map_or(Again::Unknown, |(name, _)| Again::DropsIndex(name))
        }
        (
            "VACUUM" | "ANALYZE" | "REINDEX" | "PRAGMA" | "SET" | "RESET" | "COMMENT" | "SELECT",
            _,
        )
        | ("ALTER", "SYSTEM") => Again::Harmless,
        ("CREATE" | "ALTER" | "DROP", _)
            if has(&["IF", "NOT", "EXISTS"])
                || has(&["IF", "EXISTS"])
                || has(&["OR", "REPLACE"]) =>
        {
            Again::Harmless
        }
        _ => Again::Unknown,
    }
}

fn repeatable(statement: &Statement<'_>) -> Option<Diagnostic> {
    if again(statement) != Again::Unknown {
        return None;
    }
    let text = "this could not be run again after a crash, and is not the only statement";
    Some(
        Diagnostic::error("migrate::transaction", text)
            .label(statement.span_of(0, 2), "")
            .help(
                "give it a migration of its own, or write it with `IF NOT EXISTS` or `IF EXISTS`",
            ),
    )
}

fn loses(statement: &Statement<'_>, from: usize, to: usize, what: &str, needs: Kind) -> Diagnostic {
    let note = match needs {
        Kind::Rewrite => "nothing may write meanwhile",
        _ => "the version that serves may still use it",
    };
    Diagnostic::error("migrate::not-an-expansion", format!("{what}, and an expansion must not"))
        .label(statement.span_of(from, to), note)
        .help(match needs {
            Kind::Rewrite => {
                "begin the file with `-- tow: rewrite`: it is then applied while requests are held"
            }
            _ => "begin the file with `-- tow: contract`: it is then applied when no version before it can serve any more",
        })
}

/// Tables that are made anew under their own name.
fn rebuilds<'a, 'b>(statements: &'a [Statement<'b>]) -> Vec<(&'a Statement<'b>, String)> {
    let mut gone: BTreeSet<String> = BTreeSet::new();
    let mut found = Vec::new();
    for statement in statements {
        if let Some(names) = dropped(statement, &["TABLE"]) {
            gone.extend(names);
        }
        if let Some((from, to)) = renamed_table(statement) {
            if gone.contains(&to) {
                found.push((statement, to));
            }
            gone.insert(from);
        }
        if let Some(name) = created(statement, &["TABLE"])
            && gone.contains(&name)
        {
            found.push((statement, name));
        }
    }
    found
}

fn renamed_table(statement: &Statement<'_>) -> Option<(String, String)> {
    if !statement.has(0, &["ALTER", "TABLE"]) {
        return None;
    }
    let at = statement.past(2, &["IF", "EXISTS"]);
    let (from, next) = statement.name(statement.past(at, &["ONLY"]))?;
    let (to, _) = statement
        .name(next + 2)
        .filter(|_| statement.has(next, &["RENAME", "TO"]))?;
    Some((from, to))
}

/// What a `CREATE` of one of those makes.
fn created(statement: &Statement<'_>, things: &[&str]) -> Option<String> {
    if statement.word(0) != "CREATE" {
        return None;
    }
    let at = (1..statement.pieces.len().min(6)).find(|at| things.contains(&statement.word(*at)))?;
    statement
        .name(statement.past(at + 1, &["IF", "NOT", "EXISTS"]))
        .map(|(name, _)| name)
}

/// What a `DROP` of one of those takes away.
fn dropped(statement: &Statement<'_>, things: &[&str]) -> Option<Vec<String>> {
    if statement.word(0) != "DROP" {
        return None;
    }
    let at = (1..3).find(|at| things.contains(&statement.word(*at)))?;
    let mut at = statement.past(at + 1, &["IF", "EXISTS"]);
    let mut names = Vec::new();
    while let Some((name, next)) = statement.name(at) {
        names.push(name);
        at = next + 1;
        if statement.mark(next) != "," {
            break;
        }
    }
    Some(names)
}

/// What may be taken away where the same migration makes it again.
const REPLACED: [&str; 7] = [
    "VIEW",
    "TRIGGER",
    "FUNCTION",
    "PROCEDURE",
    "POLICY",
    "RULE",
    "AGGREGATE",
];

/// What loses something that the version before may use.
fn expands(statements: &[Statement<'_>]) -> Vec<Diagnostic> {
    let mut made: BTreeSet<String> = BTreeSet::new();
    let mut wrong = Vec::new();
    for (index, statement) in statements.iter().enumerate() {
        let later = &statements[index + 1..];
        wrong.extend(match statement.word(0) {
            "DROP" => drops(statement, &made, later),
            "ALTER" => alters(statement, &made, statements),
            _ => empties(statement, &made),
        });
        made.extend(created(
            statement,
            &["TABLE", "VIEW", "TYPE", "SEQUENCE", "SCHEMA"],
        ));
    }
    wrong
}

fn drops(
    statement: &Statement<'_>,
    made: &BTreeSet<String>,
    later: &[Statement<'_>],
) -> Option<Diagnostic> {
    let mut at = 1;
    while matches!(statement.word(at), "MATERIALIZED" | "FOREIGN" | "EVENT") {
        at += 1;
    }
    let thing = statement.word(at);
    if thing == "INDEX" {
        return None;
    }
    let names = dropped(statement, &[thing]).unwrap_or_default();
    let is_made_again = REPLACED.contains(&thing)
        && names.iter().all(|name| {
            later
                .iter()
                .any(|other| created(other, &[thing]).as_ref() == Some(name))
        });
    let is_its_own = !names.is_empty() && names.iter().all(|name| made.contains(name));
    if is_made_again || is_its_own {
        return None;
    }
    let what = format!("this drops {}", shown(&names, thing));
    Some(loses(
        statement,
        0,
        statement.pieces.len(),
        &what,
        Kind::Contract,
    ))
}

fn shown(names: &[String], thing: &str) -> String {
    match names {
        [] => format!("a {}", thing.to_lowercase()),
        names => names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn empties(statement: &Statement<'_>, made: &BTreeSet<String>) -> Option<Diagnostic> {
    let end = statement.pieces.len();
    let lose = |what: String| Some(loses(statement, 0, end, &what, Kind::Contract));
    match statement.word(0) {
        "TRUNCATE" => {
            let name = statement.name(statement.past(statement.past(1, &["TABLE"]), &["ONLY"]));
            let name = name.map(|(name, _)| name).unwrap_or_default();
            if made.contains(&name) {
                None
            } else {
                lose(format!("this empties `{name}`"))
            }
        }
        "REVOKE" => lose("this takes rights away".to_owned()),
        "DELETE" | "WITH" => {
            let at = statement.find(&["DELETE", "FROM"])?;
            let (name, _) = statement.name(statement.past(at + 2, &["ONLY"]))?;
            let has_where = (at..end).any(|at| statement.word(at) == "WHERE");
            if has_where || made.contains(&name) {
                None
            } else {
                lose(format!("this empties `{name}`"))
            }
        }
        _ => None,
    }
}

fn alters(
    statement: &Statement<'_>,
    made: &BTreeSet<String>,
    all: &[Statement<'_>],
) -> Option<Diagnostic> {
    let mut at = 1;
    while matches!(statement.word(at), "MATERIALIZED" | "FOREIGN") {
        at += 1;
    }
    let thing = statement.word(at).to_owned();
    let at = statement.past(statement.past(at + 1, &["IF", "EXISTS"]), &["ONLY"]);
    let (name, next) = statement.name(at)?;
    let is_known = [
        "TABLE",
        "VIEW",
        "TYPE",
        "SEQUENCE",
        "FUNCTION",
        "SCHEMA",
        "DOMAIN",
        "POLICY",
        "PROCEDURE",
    ]
    .contains(&thing.as_str());
    if !is_known || made.contains(&name) {
        return None;
    }
    actions(statement, next).into_iter().find_map(|(from, to)| {
        let (what, needs) = action(statement, &thing, &name, from, all)?;
        Some(loses(statement, from, to, &what, needs))
    })
}

/// Where each action of an `ALTER` begins and ends: they stand between commas.
fn actions(statement: &Statement<'_>, from: usize) -> Vec<(usize, usize)> {
    let (mut depth, mut start, mut found) = (0_usize, from, Vec::new());
    for at in from..statement.pieces.len() {
        match statement.mark(at) {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "," if depth == 0 => {
                found.push((start, at.saturating_sub(1)));
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push((start, statement.pieces.len().saturating_sub(1)));
    found
}

fn action(
    statement: &Statement<'_>,
    thing: &str,
    name: &str,
    at: usize,
    all: &[Statement<'_>],
) -> Option<(String, Kind)> {
    let contract = |what: String| Some((what, Kind::Contract));
    let rewrite = |what: String| Some((what, Kind::Rewrite));
    let is_table = thing == "TABLE";
    match (statement.word(at), statement.word(at + 1)) {
        ("RENAME", "CONSTRAINT") => None,
        ("RENAME", _) => contract(format!("this renames `{name}` or something in it")),
        ("SET", "SCHEMA") => contract(format!("this moves `{name}`")),
        ("SET", "LOGGED" | "UNLOGGED" | "TABLESPACE" | "ACCESS") if is_table => {
            rewrite(format!("this writes `{name}` anew"))
        }
        ("DROP", "CONSTRAINT") => None,
        ("DROP", _) if is_table => {
            let column = statement.past(statement.past(at + 1, &["COLUMN"]), &["IF", "EXISTS"]);
            let column = statement
                .name(column)
                .map(|(column, _)| column)
                .unwrap_or_default();
            contract(format!("this drops the column `{column}` of `{name}`"))
        }
        ("DROP", _) => contract(format!("this takes something of `{name}` away")),
        ("DETACH", "PARTITION") => contract(format!("this takes rows out of `{name}`")),
        ("ALTER", _) if is_table => column(statement, name, at, all),
        ("ADD", _) if is_table => added(statement, name, at),
        _ => None,
    }
}

fn column(
    statement: &Statement<'_>,
    table: &str,
    at: usize,
    all: &[Statement<'_>],
) -> Option<(String, Kind)> {
    if statement.word(at + 1) == "CONSTRAINT" {
        return None;
    }
    let (column, next) = statement.name(statement.past(at + 1, &["COLUMN"]))?;
    let of = format!("the column `{column}` of `{table}`");
    let next = statement.past(next, &["SET", "DATA"]);
    match (statement.word(next), statement.word(next + 1)) {
        ("TYPE", _) => Some((format!("this changes the type of {of}"), Kind::Rewrite)),
        ("DROP", "NOT") => None,
        ("DROP", _) => Some((format!("this takes the default of {of}"), Kind::Contract)),
        ("SET", "NOT") if !sets_default(all, &column) => {
            let what = format!("this refuses rows without {of}, which has no default");
            Some((what, Kind::Contract))
        }
        _ => None,
    }
}

/// Whether the migration gives a column of that name a default.
fn sets_default(all: &[Statement<'_>], column: &str) -> bool {
    all.iter().any(|statement| {
        (0..statement.pieces.len()).any(|at| {
            statement.has(at, &["SET", "DEFAULT"])
                && statement
                    .name(at.saturating_sub(1))
                    .is_some_and(|(name, _)| name == column)
        })
    })
}

/// A column that rows must have, and that the version before does not know.
fn added(statement: &Statement<'_>, table: &str, at: usize) -> Option<(String, Kind)> {
    if matches!(
        statement.word(at + 1),
        "CONSTRAINT" | "PRIMARY" | "UNIQUE" | "FOREIGN" | "CHECK" | "EXCLUDE" | "VALUE"
    ) {
        return None;
    }
    let column = statement.past(
        statement.past(at + 1, &["COLUMN"]),
        &["IF", "NOT", "EXISTS"],
    );
    let (column, next) = statement.name(column)?;
    let end = actions(statement, at).first().map_or(next, |(_, end)| *end);
    let has = |words: &[&str]| (next..=end).any(|at| statement.has(at, words));
    let fills_itself = has(&["DEFAULT"])
        || has(&["GENERATED"])
        || ["SERIAL", "BIGSERIAL", "SMALLSERIAL"]
            .iter()
            .any(|word| has(&[word]));
    (has(&["NOT", "NULL"]) && !fills_itself).then(|| {
        let what = format!(
            "this refuses rows without the column `{column}` of `{table}`, which has no default"
        );
        (what, Kind::Contract)
    })
}
