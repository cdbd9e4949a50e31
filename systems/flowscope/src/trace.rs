//! Traces and their nested spans.
//!
//! A trace's spans are rows in pre-order, each with the position of its parent; reading puts them back together.

use serde::{Deserialize, Serialize};

use crate::db::{Conn, DbError, Row};
use crate::{search, values};

/// Most spans in one trace.
const MAX_SPANS: u32 = 2000;
/// Deepest nesting of spans.
const MAX_DEPTH: usize = 32;
/// Longest identifier or application name, bytes.
const MAX_NAME: usize = 200;

/// A span, with those nested in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// What it does: `retrieve documents`.
    pub name: String,
    /// Kind of work: `llm`, `tool`, `retrieval`, ...
    #[serde(default)]
    pub kind: String,
    /// Start after the trace's, milliseconds.
    #[serde(default)]
    pub start_ms: f64,
    /// Milliseconds.
    #[serde(default)]
    pub duration_ms: f64,
    /// Tokens it used itself, without those of nested spans.
    #[serde(default)]
    pub tokens: i64,
    /// What went wrong, if something did.
    #[serde(default)]
    pub error: Option<String>,
    /// What went in.
    #[serde(default)]
    pub input: Option<String>,
    /// What came out.
    #[serde(default)]
    pub output: Option<String>,
    /// Spans nested in it.
    #[serde(default)]
    pub children: Vec<Span>,
}

/// A trace as a client sends it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTrace {
    /// The client's identifier; one is made when it is not given.
    pub id: Option<String>,
    /// Application it belongs to.
    pub app: String,
    /// What was done: `answer question`.
    pub name: String,
    /// Milliseconds since 1970; now, less the duration, when not given.
    pub started_at: Option<i64>,
    /// Milliseconds; the end of the last span when not given.
    pub duration_ms: Option<f64>,
    /// Tokens; those of all spans when not given.
    pub tokens: Option<i64>,
    /// What went wrong, if something did.
    pub error: Option<String>,
    /// What went in.
    pub input: Option<String>,
    /// What came out.
    pub output: Option<String>,
    /// The outermost spans.
    #[serde(default)]
    pub spans: Vec<Span>,
}

/// A trace without its spans.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Place in the order of arrival; a cursor for lists.
    pub seq: i64,
    /// The client's identifier.
    pub id: String,
    /// Application.
    pub app: String,
    /// What was done.
    pub name: String,
    /// Milliseconds since 1970.
    pub started_at: i64,
    /// When it arrived, milliseconds since 1970.
    pub ingested_at: i64,
    /// Milliseconds.
    pub duration_ms: f64,
    /// Tokens of all spans.
    pub tokens: i64,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

/// A whole trace.
#[derive(Debug, Serialize)]
pub struct Trace {
    /// The client's identifier.
    pub id: String,
    /// Application.
    pub app: String,
    /// What was done.
    pub name: String,
    /// Milliseconds since 1970.
    pub started_at: i64,
    /// When it arrived, milliseconds since 1970.
    pub ingested_at: i64,
    /// Milliseconds.
    pub duration_ms: f64,
    /// Tokens of all spans.
    pub tokens: i64,
    /// What went wrong, if something did.
    pub error: Option<String>,
    /// What went in.
    pub input: Option<String>,
    /// What came out.
    pub output: Option<String>,
    /// The outermost spans.
    pub spans: Vec<Span>,
    /// Traces that arrived with this identifier; this is the first of them.
    pub count: i64,
}

impl NewTrace {
    /// Why this trace is refused, if it is.
    pub fn fault(&self) -> Option<String> {
        let named = |what: &str, text: &str| {
            (text.is_empty() || text.len() > MAX_NAME)
                .then(|| format!("`{what}` must have 1 to {MAX_NAME} bytes"))
        };
        named("app", &self.app)
            .or_else(|| named("name", &self.name))
            .or_else(|| self.id.as_deref().and_then(id_fault))
            .or_else(|| span_fault(&self.spans))
    }

    /// End of the last span, milliseconds after the start.
    fn end_of_spans(&self) -> f64 {
        let mut end: f64 = 0.0;
        walk(&self.spans, None, &mut 0, &mut |_, _, span| {
            end = end.max(span.start_ms + span.duration_ms);
        });
        end
    }

    fn tokens_of_spans(&self) -> i64 {
        let mut tokens: i64 = 0;
        walk(&self.spans, None, &mut 0, &mut |_, _, span| {
            tokens = tokens.saturating_add(span.tokens);
        });
        tokens
    }

    /// All text in it, for the search.
    fn text(&self) -> String {
        let mut text = String::new();
        let mut add = |part: Option<&str>| {
            text.push_str(part.unwrap_or_default());
            text.push('\n');
        };
        for part in [&self.input, &self.output, &self.error] {
            add(part.as_deref());
        }
        walk(&self.spans, None, &mut 0, &mut |_, _, span| {
            for part in [Some(&span.name), span.input.as_ref(), span.output.as_ref()] {
                add(part.map(String::as_str));
            }
        });
        text
    }
}

fn id_fault(id: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    if id == "next" {
        return Some("`id` must not be `next`, which is a path of its own".to_owned());
    }
    (id.is_empty() || id.len() > MAX_NAME || !id.chars().all(plain))
        .then(|| format!("`id` must have 1 to {MAX_NAME} letters, digits, `.`, `_`, `:` or `-`"))
}

fn span_fault(spans: &[Span]) -> Option<String> {
    if depth(spans) > MAX_DEPTH {
        return Some(format!("spans are nested deeper than {MAX_DEPTH}"));
    }
    let mut count = 0;
    let mut negative = false;
    walk(spans, None, &mut count, &mut |_, _, span| {
        negative |= span.start_ms < 0.0 || span.duration_ms < 0.0 || span.tokens < 0;
    });
    if negative {
        return Some(
            "a span's `start_ms`, `duration_ms` and `tokens` must not be negative".to_owned(),
        );
    }
    (count > MAX_SPANS).then(|| format!("more than {MAX_SPANS} spans"))
}

/// The body parser has refused nesting that could exhaust the stack.
fn depth(spans: &[Span]) -> usize {
    spans
        .iter()
        .map(|span| 1 + depth(&span.children))
        .max()
        .unwrap_or(0)
}

/// Visits every span in pre-order with its position and its parent's.
fn walk<'a>(
    spans: &'a [Span],
    parent: Option<u32>,
    next: &mut u32,
    visit: &mut impl FnMut(u32, Option<u32>, &'a Span),
) {
    for span in spans {
        let position = *next;
        *next += 1;
        visit(position, parent, span);
        walk(&span.children, Some(position), next, visit);
    }
}

/// Stores a trace under `id`, without asking whether there is one of that identifier.
///
/// The time of arrival is taken here, under the write lock, and never before the last trace's: the order of rows is the
/// order of time, over all instances, so a roll-up of a second that is over misses nothing.
///
/// # Errors
/// The database's.
pub fn insert(conn: &Conn, id: &str, new: &NewTrace) -> Result<(), DbError> {
    let ingested_at = arrival(conn)?;
    let duration_ms = new.duration_ms.unwrap_or_else(|| new.end_of_spans());
    let started_at = new.started_at.unwrap_or(ingested_at - duration_ms as i64);
    let tokens = new.tokens.unwrap_or_else(|| new.tokens_of_spans());
    let row = conn.one(
        "INSERT INTO traces (trace_id, app, name, started_at, ingested_at, duration_ms, tokens, error, input, output)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) RETURNING id",
        values![
            id, &new.app, &new.name, started_at, ingested_at, duration_ms, tokens, &new.error,
            &new.input, &new.output,
        ],
        |mut row| row.take(),
    )?;
    insert_spans(conn, row, &new.spans)?;
    search::add_trace(conn, row, [&new.app, &new.name, &new.text()])
}

fn arrival(conn: &Conn) -> Result<i64, DbError> {
    let last: Option<i64> = conn.first(
        "SELECT ingested_at FROM traces ORDER BY id DESC LIMIT 1",
        values![],
        |mut row| row.take(),
    )?;
    Ok(last.unwrap_or(0).max(conn.now_ms()?))
}

fn insert_spans(conn: &Conn, row: i64, spans: &[Span]) -> Result<(), DbError> {
    let mut outcome = Ok(());
    walk(spans, None, &mut 0, &mut |position, parent, span| {
        if outcome.is_ok() {
            outcome = insert_span(conn, row, position, parent, span);
        }
    });
    outcome
}

fn insert_span(
    conn: &Conn,
    row: i64,
    position: u32,
    parent: Option<u32>,
    span: &Span,
) -> Result<(), DbError> {
    conn.execute(
        "INSERT INTO spans (trace_row, position, parent, name, kind, start_ms, duration_ms, tokens, error, input, output)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        values![
            row, position, parent, &span.name, &span.kind, span.start_ms, span.duration_ms,
            span.tokens, &span.error, &span.input, &span.output,
        ],
    )?;
    Ok(())
}

const SUMMARY: &str = "SELECT id, trace_id, app, name, started_at, ingested_at, duration_ms, tokens, error FROM traces";

fn summary(mut row: Row) -> Result<Summary, DbError> {
    Ok(Summary {
        seq: row.take()?,
        id: row.take()?,
        app: row.take()?,
        name: row.take()?,
        started_at: row.take()?,
        ingested_at: row.take()?,
        duration_ms: row.take()?,
        tokens: row.take()?,
        error: row.take()?,
    })
}

/// A condition of its own for each case, so that an index on the application can be used.
fn of_app(app: Option<&str>) -> &'static str {
    match app {
        Some(_) => "app = ?1",
        None => "CAST(?1 AS TEXT) IS NULL",
    }
}

/// The newest traces before `before`, newest first, of one application or of all.
///
/// # Errors
/// The database's.
pub fn list(
    conn: &Conn,
    app: Option<&str>,
    before: i64,
    limit: u32,
) -> Result<Vec<Summary>, DbError> {
    let filter = of_app(app);
    let sql = format!("{SUMMARY} WHERE {filter} AND id < ?2 ORDER BY id DESC LIMIT ?3");
    conn.query(&sql, values![app, before, limit], summary)
}

/// The oldest traces after `after`, oldest first, of one application or of all.
///
/// # Errors
/// The database's.
pub fn after(
    conn: &Conn,
    app: Option<&str>,
    after: i64,
    limit: u32,
) -> Result<Vec<Summary>, DbError> {
    let filter = of_app(app);
    let sql = format!("{SUMMARY} WHERE {filter} AND id > ?2 ORDER BY id LIMIT ?3");
    conn.query(&sql, values![app, after, limit], summary)
}

/// The place of the newest trace; 0 when there is none.
///
/// # Errors
/// The database's.
pub fn last_seq(conn: &Conn) -> Result<i64, DbError> {
    let sql = "SELECT coalesce(max(id), 0) FROM traces";
    conn.one(sql, values![], |mut row| row.take())
}

/// The traces in these places, in the same order.
///
/// # Errors
/// The database's.
pub fn at(conn: &Conn, places: &[i64]) -> Result<Vec<Summary>, DbError> {
    let sql = format!("{SUMMARY} WHERE id = ?1");
    places
        .iter()
        .map(|place| conn.one(&sql, values![*place], summary))
        .collect()
}

/// The first trace of this identifier, and how many there are.
///
/// # Errors
/// The database's.
pub fn get(conn: &Conn, id: &str) -> Result<Option<Trace>, DbError> {
    let found = conn.first(
        "SELECT id, trace_id, app, name, started_at, ingested_at, duration_ms, tokens, error, input, output,
                (SELECT count(*) FROM traces WHERE trace_id = ?1)
         FROM traces WHERE trace_id = ?1 ORDER BY id LIMIT 1",
        values![id],
        |mut row| Ok((row.take()?, whole(row)?)),
    )?;
    let Some((row, mut trace)) = found else {
        return Ok(None);
    };
    trace.spans = spans(conn, row)?;
    Ok(Some(trace))
}

fn whole(mut row: Row) -> Result<Trace, DbError> {
    Ok(Trace {
        id: row.take()?,
        app: row.take()?,
        name: row.take()?,
        started_at: row.take()?,
        ingested_at: row.take()?,
        duration_ms: row.take()?,
        tokens: row.take()?,
        error: row.take()?,
        input: row.take()?,
        output: row.take()?,
        spans: Vec::new(),
        count: row.take()?,
    })
}

fn spans(conn: &Conn, row: i64) -> Result<Vec<Span>, DbError> {
    let flat = conn.query(
        "SELECT parent, name, kind, start_ms, duration_ms, tokens, error, input, output
         FROM spans WHERE trace_row = ?1 ORDER BY position",
        values![row],
        |mut row| Ok((row.take()?, span(row)?)),
    )?;
    Ok(nest(flat))
}

fn span(mut row: Row) -> Result<Span, DbError> {
    Ok(Span {
        name: row.take()?,
        kind: row.take()?,
        start_ms: row.take()?,
        duration_ms: row.take()?,
        tokens: row.take()?,
        error: row.take()?,
        input: row.take()?,
        output: row.take()?,
        children: Vec::new(),
    })
}

/// Puts spans in pre-order back together: taken from the end, a span is whole before its parent needs it.
fn nest(mut flat: Vec<(Option<i64>, Span)>) -> Vec<Span> {
    let mut outermost = Vec::new();
    while let Some((parent, mut span)) = flat.pop() {
        span.children.reverse();
        let parent = parent.and_then(|parent| usize::try_from(parent).ok());
        match parent.and_then(|parent| flat.get_mut(parent)) {
            Some((_, parent)) => parent.children.push(span),
            None => outermost.push(span),
        }
    }
    outermost.reverse();
    outermost
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: &str, children: Vec<Span>) -> Span {
        Span {
            name: name.to_owned(),
            kind: String::new(),
            start_ms: 0.0,
            duration_ms: 1.0,
            tokens: 1,
            error: None,
            input: None,
            output: None,
            children,
        }
    }

    #[test]
    fn spans_taken_apart_are_put_together_the_same() {
        let tree = vec![
            span(
                "a",
                vec![span("b", vec![span("c", vec![])]), span("d", vec![])],
            ),
            span(
                "e",
                vec![span("f", vec![]), span("g", vec![span("h", vec![])])],
            ),
        ];
        let mut flat = Vec::new();
        walk(&tree, None, &mut 0, &mut |_, parent, span| {
            flat.push((
                parent.map(i64::from),
                Span {
                    children: Vec::new(),
                    ..span.clone()
                },
            ));
        });
        assert_eq!(flat.len(), 8);
        assert_eq!(nest(flat), tree);
    }

    #[test]
    fn too_deep_a_nesting_is_refused() {
        let nested = |levels| (0..levels).fold(vec![], |inner, _| vec![span("s", inner)]);
        assert_eq!(span_fault(&nested(MAX_DEPTH)), None);
        assert!(span_fault(&nested(MAX_DEPTH + 1)).is_some());
    }

    #[test]
    fn identifiers_fit_into_a_path() {
        assert_eq!(id_fault("run-7.a:b_c"), None);
        for id in ["", "next", "a/b", "a b", "ä"] {
            assert!(id_fault(id).is_some(), "{id:?}");
        }
    }
}
