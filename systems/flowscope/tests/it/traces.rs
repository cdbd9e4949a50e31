//! Traces: nesting, identifiers, lists, search and the long poll.

use serde_json::{Value, json};

use crate::harness::{Database, Instance};
use crate::http;

fn nested() -> Value {
    json!({ "id": "t1", "app": "assistant", "name": "answer question", "input": "Where do otters sleep?", "spans": [
        { "name": "answer", "kind": "chain", "duration_ms": 640.0, "children": [
            { "name": "find passages", "kind": "retrieval", "start_ms": 5.0, "duration_ms": 90.0, "children": [
                { "name": "embed", "tokens": 7, "start_ms": 6.0, "duration_ms": 20.0 } ] },
            { "name": "call model", "kind": "llm", "start_ms": 100.0, "duration_ms": 530.0, "tokens": 180,
              "output": "On their backs, holding paws." } ] },
        { "name": "log", "start_ms": 650.0, "duration_ms": 2.0, "error": "disk is slow" } ] })
}

fn names(spans: &Value) -> Value {
    spans
        .as_array()
        .unwrap()
        .iter()
        .map(|span| json!([span["name"], names(&span["children"])]))
        .collect()
}

#[test]
fn nested_spans_come_back_as_they_were() {
    let database = Database::migrated();
    let instance = Instance::ready(&database);
    let session = instance.sign_in();
    assert_eq!(
        session.post("/api/traces", &nested()).json(),
        json!({ "id": "t1" })
    );
    let trace = session.get("/api/traces/t1").json();
    assert_eq!(
        names(&trace["spans"]),
        json!([
            [
                "answer",
                [["find passages", [["embed", []]]], ["call model", []]]
            ],
            ["log", []]
        ])
    );
    assert_eq!(
        trace["spans"][0]["children"][1]["output"],
        "On their backs, holding paws."
    );
    assert_eq!(trace["spans"][1]["error"], "disk is slow");
    assert_eq!(
        (&trace["duration_ms"], &trace["tokens"], &trace["count"]),
        (&json!(652.0), &json!(187), &json!(1))
    );
    assert_eq!(session.get("/api/traces/t2").status, 404);
}

#[test]
fn a_trace_that_arrives_twice_is_counted_twice() {
    let database = Database::migrated();
    let (one, other) = (Instance::ready(&database), Instance::ready(&database));
    let session = one.sign_in();
    session.trace("a", "twice");
    other.session(&session.token).trace("a", "twice");
    assert_eq!(session.get("/api/traces/twice").json()["count"], 2);
}

#[test]
fn traces_that_make_no_sense_are_refused_with_a_reason() {
    let database = Database::migrated();
    let instance = Instance::ready(&database);
    let session = instance.sign_in();
    let deep = (0..40).fold(
        json!([]),
        |inner, _| json!([{ "name": "s", "children": inner }]),
    );
    for (body, reason) in [
        (json!({ "app": "", "name": "n" }), "`app`"),
        (json!({ "app": "a", "name": "n", "id": "next" }), "`next`"),
        (json!({ "app": "a", "name": "n", "spans": deep }), "deeper"),
        (
            json!({ "app": "a", "name": "n", "spans": [{ "name": "s", "duration_ms": -1 }] }),
            "negative",
        ),
        (json!({ "app": "a" }), "missing field `name`"),
        (
            json!({ "app": "a", "name": "n", "sapns": [] }),
            "unknown field `sapns`",
        ),
    ] {
        let answer = session.post("/api/traces", &body);
        assert!(
            (400..=422).contains(&answer.status),
            "{body}: {}",
            answer.status
        );
        assert!(
            answer.text.contains(reason.replace('"', "\\\"").as_str()),
            "{}",
            answer.text
        );
    }
    assert_eq!(database.number("SELECT count(*) FROM traces"), 0);
}

#[test]
fn lists_go_back_page_by_page() {
    let database = Database::migrated();
    let instance = Instance::ready(&database);
    let session = instance.sign_in();
    for n in 0..7 {
        session.trace(if n % 2 == 0 { "even" } else { "odd" }, &format!("t{n}"));
    }
    let ids = |list: &Value| -> Vec<String> {
        let traces = list["traces"].as_array().unwrap();
        traces
            .iter()
            .map(|trace| trace["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = session.get("/api/traces?app=even&limit=2").json();
    assert_eq!(ids(&first), ["t6", "t4"]);
    let rest = format!(
        "/api/traces?app=even&limit=9&before={}",
        first["traces"][1]["seq"]
    );
    assert_eq!(ids(&session.get(&rest).json()), ["t2", "t0"]);
    assert_eq!(
        ids(&session.get("/api/traces?limit=3").json()),
        ["t6", "t5", "t4"]
    );
}

#[test]
fn search_finds_words_deep_in_spans_and_takes_operators_for_words() {
    let database = Database::migrated();
    let instance = Instance::ready(&database);
    let session = instance.sign_in();
    session.post("/api/traces", &nested());
    session.trace("assistant", "other");
    let found = |words: &str| {
        let answer = session.get(&format!("/api/search?q={words}"));
        assert_eq!(answer.status, 200, "{words}: {}", answer.text);
        answer.json()["traces"].as_array().unwrap().len()
    };
    assert_eq!(found("holding%20paws"), 1);
    assert_eq!(found("holding%20pa"), 1);
    assert_eq!(found("assistant"), 2);
    assert_eq!(found("otters%20badgers"), 0);
    for odd in ["%22", "AND", "NOT%20*", "a%22%20OR%20%22b", "%27", ""] {
        assert_eq!(found(odd), 0, "{odd}");
    }
}

#[test]
fn a_long_poll_waits_for_its_own_application() {
    let database = Database::migrated();
    let (one, other) = (Instance::ready(&database), Instance::ready(&database));
    let session = one.sign_in();
    let bearer = format!("Authorization: Bearer {}", session.token);
    let path = "/api/traces/next?app=mine&after=0&timeout_ms=20000";
    let waiting = http::send(
        &one.address,
        "GET",
        path,
        &[&bearer, "Connection: close"],
        None,
    );
    let other = other.session(&session.token);
    other.trace("theirs", "t1");
    other.trace("mine", "t2");
    let answer = http::receive(waiting);
    assert_eq!((answer.status, &answer.json()["id"]), (200, &json!("t2")));
    assert_eq!(
        session
            .get("/api/traces/next?app=none&timeout_ms=20")
            .status,
        204
    );
}
