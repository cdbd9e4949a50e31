//! Declared load, and the versions of a rehearsal.

use std::path::PathBuf;

use serde::Serialize;

use super::ResourceKind;
use super::sheet::Reader;
use crate::diagnostic::Diagnostic;

/// Load that the application declares for its rehearsals.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Traffic {
    /// Requests a second, reads and writes together.
    pub rate: u32,
    /// Connections at once.
    pub connections: u32,
    /// Share of requests that open a connection of their own, 0 to 1.
    pub fresh: f64,
    /// Sent once before the load; what it answers is sent with every request.
    pub sign_in: Option<SignIn>,
    /// The reads.
    pub requests: Vec<TrafficRequest>,
    /// The write that is counted and read back.
    pub write: Option<TrafficWrite>,
    /// Numbers that the application counts itself and that must be 0 in the end.
    pub zeros: Vec<TrafficZero>,
}

/// A request whose JSON answer holds a bearer token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignIn {
    /// POST path.
    pub post: String,
    /// JSON body.
    pub body: String,
    /// JSON pointer to the token in the answer; sent as `Authorization: Bearer`.
    pub token: String,
}

/// A read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrafficRequest {
    /// Relative frequency.
    pub weight: u32,
    /// GET path.
    pub get: String,
    /// Statuses that count as answered.
    pub expect: Vec<u16>,
}

/// The counted write: every acknowledged one must be found again, once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrafficWrite {
    /// Relative frequency.
    pub weight: u32,
    /// POST path.
    pub post: String,
    /// JSON body; `${id}` becomes an identifier of its own, `${n}` its number.
    pub body: String,
    /// Statuses that acknowledge it.
    pub expect: Vec<u16>,
    /// GET path with `${id}` that finds it: 200 when it is there, 404 when not.
    pub read: String,
    /// JSON pointer into that answer to the number of times it is there; `None` trusts the status.
    pub count: Option<String>,
}

/// A number the application counts itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrafficZero {
    /// What is counted, for the table: `doubled roll-ups`.
    pub name: String,
    /// GET path.
    pub get: String,
    /// JSON pointer to the number that must be 0.
    pub value: String,
    /// JSON pointer to its denominator.
    pub of: String,
}

/// The versions a rehearsal goes through.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rehearse {
    /// The first, which goes all the way to the last environment.
    pub first: Version,
    /// The next, deployed under load and rolled back.
    pub next: Version,
    /// One that never becomes ready and is refused.
    pub broken: Version,
    /// Requests at least.
    pub requests: u64,
    /// Acknowledged writes at least.
    pub writes: u64,
    /// What a PostgreSQL is rehearsed as where the machine has none; without it that is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_postgres: Option<ResourceKind>,
}

/// Which source a rehearsal deploys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Version {
    /// The committed tree.
    Head,
    /// A git ref.
    Ref(String),
    /// The committed tree with this folder's files laid over it (folder below the manifest's).
    Overlay(PathBuf),
}

/// The load of a rehearsal, if it is declared.
pub(super) fn traffic(reader: &Reader<'_>) -> Option<Traffic> {
    reader.value?.as_table()?;
    let requests = reader.at("requests");
    let traffic = Traffic {
        rate: reader.at("rate").integer(200),
        connections: reader.at("connections").integer(16),
        fresh: reader.at("fresh").share(0.1),
        sign_in: sign_in(&reader.at("sign_in")),
        requests: requests.items().iter().map(request).collect(),
        write: write(&reader.at("write")),
        zeros: reader.at("zeros").items().iter().map(zero).collect(),
    };
    if traffic.requests.is_empty() && traffic.write.is_none() {
        reader.sheet.report(
            Diagnostic::error(
                "config::no-load",
                "`traffic` declares neither requests nor a write",
            )
            .label(reader.key.clone(), "there is nothing to send")
            .help("add `requests = [{ get = \"/\" }]`"),
        );
    }
    Some(traffic)
}

fn sign_in(reader: &Reader<'_>) -> Option<SignIn> {
    reader.value?;
    Some(SignIn {
        post: text(reader, "post"),
        body: body(&reader.at("body")),
        token: text(reader, "token"),
    })
}

fn request(reader: &Reader<'_>) -> TrafficRequest {
    TrafficRequest {
        weight: reader.at("weight").integer(1),
        get: text(reader, "get"),
        expect: reader.at("expect").statuses(&[200]),
    }
}

fn write(reader: &Reader<'_>) -> Option<TrafficWrite> {
    reader.value?;
    let read = reader.at("read");
    let write = TrafficWrite {
        weight: reader.at("weight").integer(1),
        post: text(reader, "post"),
        body: body(&reader.at("body")),
        expect: reader.at("expect").statuses(&[200, 201]),
        read: text(reader, "read"),
        count: reader.at("count").text().map(str::to_owned),
    };
    if !write.read.is_empty() && !write.read.contains("${id}") {
        nameless(&read, "no write could be told from another");
    }
    if !write.body.is_empty() && !write.body.contains("${id}") && !write.post.contains("${id}") {
        nameless(
            &reader.at("body"),
            "what is written could not be found again",
        );
    }
    Some(write)
}

fn nameless(reader: &Reader<'_>, label: &str) {
    reader.sheet.report(
        Diagnostic::error(
            "config::nameless-write",
            format!("`{}` holds no `${{id}}`", reader.path),
        )
        .label(reader.span(), label)
        .help("put `${id}` where the write's identifier belongs"),
    );
}

fn zero(reader: &Reader<'_>) -> TrafficZero {
    TrafficZero {
        name: text(reader, "name"),
        get: text(reader, "get"),
        value: text(reader, "value"),
        of: text(reader, "of"),
    }
}

/// A body as JSON text; a string has to be JSON already, once its marks are filled in.
fn body(reader: &Reader<'_>) -> String {
    let Some(value) = reader.value else {
        return String::new();
    };
    let text = match value.as_text() {
        Some(text) => text.to_owned(),
        None if value.as_table().is_some() => value.to_json().to_string(),
        None => return String::new(),
    };
    reader.note(format!("{text:?}"));
    let filled = text.replace("${id}", "0").replace("${n}", "0");
    if let Err(error) = serde_json::from_str::<serde_json::Value>(&filled) {
        reader.sheet.report(
            Diagnostic::error("config::bad-json", format!("`{}` is not JSON", reader.path))
                .label(reader.span(), error.to_string())
                .help("write it as a table: `{ name = \"${id}\" }`"),
        );
    }
    text
}

/// The versions of a rehearsal, if they are declared.
pub(super) fn rehearse(reader: &Reader<'_>) -> Option<Rehearse> {
    reader.value?.as_table()?;
    Some(Rehearse {
        first: version(&reader.at("first")),
        next: version(&reader.at("next")),
        broken: version(&reader.at("broken")),
        requests: reader.at("requests").integer(20_000).into(),
        writes: reader.at("writes").integer(5_000).into(),
        without_postgres: reader
            .at("without_postgres")
            .text()
            .map(|_| ResourceKind::Sqlite),
    })
}

fn version(reader: &Reader<'_>) -> Version {
    if let Some(name) = reader.at("ref").text() {
        return Version::Ref(name.to_owned());
    }
    match reader.at("overlay").text() {
        Some(folder) => Version::Overlay(folder.into()),
        None => {
            reader.at("head").text_or("HEAD");
            Version::Head
        }
    }
}

fn text(reader: &Reader<'_>, key: &str) -> String {
    reader.at(key).text().unwrap_or_default().to_owned()
}
