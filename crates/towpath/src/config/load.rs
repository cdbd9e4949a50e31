//! Declared load, and the versions of a rehearsal.

use super::sheet::Reader;
use super::{
    Rehearse, ResourceKind, SignIn, Traffic, TrafficRequest, TrafficWrite, TrafficZero, Version,
};
use crate::diagnostic::Diagnostic;

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
