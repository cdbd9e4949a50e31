//! Traces: nesting, identifiers, lists, search and the long poll.

use serde_json::{Value, json};

use crate::harness::{Database, Engine, Instance};
use crate::{http, on_both};

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

on_both!(
    nested_spans_come_back_as_they_were,
    a_trace_that_arrives_twice_is_counted_twice,
    traces_that_make_no_sense_are_refused_with_a_reason,
    lists_go_back_page_by_page,
    search_finds_words_deep_in_spans_and_takes_operators_for_words,
    search_folds_letters_and_takes_texts_of_any_size,
    text_that_one_engine_cannot_store_is_refused_by_both,
    a_long_poll_waits_for_its_own_application,
);

fn nested_spans_come_back_as_they_were(engine: Engine) {
    let database = Database::migrated(engine);
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

fn a_trace_that_arrives_twice_is_counted_twice(engine: Engine) {
    let database = Database::migrated(engine);
    let (one, other) = (Instance::ready(&database), Instance::ready(&database));
    let session = one.sign_in();
    session.trace("a", "twice");
    other.session(&session.token).trace("a", "twice");
    assert_eq!(session.get("/api/traces/twice").json()["count"], 2);
}

fn traces_that_make_no_sense_are_refused_with_a_reason(engine: Engine) {
    let database = Database::migrated(engine);
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

fn lists_go_back_page_by_page(engine: Engine) {
    let database = Database::migrated(engine);
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

fn search_finds_words_deep_in_spans_and_takes_operators_for_words(engine: Engine) {
    let database = Database::migrated(engine);
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

fn search_folds_letters_and_takes_texts_of_any_size(engine: Engine) {
    let database = Database::migrated(engine);
    let instance = Instance::ready(&database);
    let session = instance.sign_in();
    let many: Vec<String> = (0..130_000).map(|n| format!("w{n}")).collect();
    for (id, input) in [
        (
            "letters",
            "Crème BRÛLÉE von ÄNNE, see https://example.org/otter/7e3".to_owned(),
        ),
        ("numbers", "a-b_c 3.14 v2.0 1e5".to_owned()),
        ("many", many.join(" ")),
        ("long", "x".repeat(900_000)),
    ] {
        let trace = json!({ "id": id, "app": "a", "name": "n", "input": input });
        assert_eq!(session.post("/api/traces", &trace).status, 201, "{id}");
    }
    let found = |words: &str| -> Value {
        let traces = session.get(&format!("/api/search?q={words}")).json()["traces"].take();
        traces
            .as_array()
            .unwrap()
            .iter()
            .map(|trace| trace["id"].clone())
            .collect()
    };
    for words in [
        "creme%20brulee",
        "CR%C3%88ME",
        "%C3%A4nne",
        "otter",
        "example.org",
        "7e",
        "bru",
    ] {
        assert_eq!(found(words), json!(["letters"]), "{words}");
    }
    for words in ["3.14", "14%20", "v2", "1e5", "a-b_c", "b%20c"] {
        assert_eq!(found(words), json!(["numbers"]), "{words}");
    }
    assert_eq!(found("w77777%20w3"), json!(["many"]));
    assert_eq!(found("w12999%20"), json!(["many"]));
    assert_eq!(found("xxxxx"), json!(["long"]));
    assert_eq!(
        found("a%20n"),
        json!(["long", "many", "numbers", "letters"])
    );
    assert_eq!(found("reme"), json!([]));
}

fn text_that_one_engine_cannot_store_is_refused_by_both(engine: Engine) {
    let database = Database::migrated(engine);
    let instance = Instance::ready(&database);
    let session = instance.sign_in();
    for trace in [
        json!({ "app": "a", "name": "n\0" }),
        json!({ "app": "a", "name": "n", "spans": [{ "name": "s", "output": "\0" }] }),
    ] {
        let answer = session.post("/api/traces", &trace);
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.text.contains("U+0000"), "{}", answer.text);
    }
    assert_eq!(session.get("/api/traces/%00").status, 400);
    assert_eq!(database.number("SELECT count(*) FROM traces"), 0);
    assert_eq!(database.number("SELECT count(*) FROM spans"), 0);
}

fn a_long_poll_waits_for_its_own_application(engine: Engine) {
    let database = Database::migrated(engine);
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
