//! Prompts and their versions.

use serde_json::json;

use crate::harness::{Database, Engine, Instance};
use crate::on_both;

on_both!(
    versions_are_numbered_and_stay,
    versions_added_at_once_through_two_instances_get_numbers_of_their_own,
);

fn versions_are_numbered_and_stay(engine: Engine) {
    let database = Database::migrated(engine);
    let instance = Instance::ready(&database);
    let session = instance.sign_in();
    let new = json!({ "name": "greet", "body": "Say hello", "comment": "first" });
    assert_eq!(session.post("/api/prompts", &new).status, 201);
    assert_eq!(session.post("/api/prompts", &new).status, 409);
    let second = json!({ "body": "Say hello to the walrus" });
    let added = session.post("/api/prompts/greet/versions", &second);
    assert_eq!((added.status, &added.json()["version"]), (201, &json!(2)));
    assert_eq!(
        session.post("/api/prompts/none/versions", &second).status,
        404
    );

    assert_eq!(
        session.get("/api/prompts/greet/versions/1").json()["body"],
        "Say hello"
    );
    assert_eq!(session.get("/api/prompts/greet").json()["version"], 2);
    assert_eq!(session.get("/api/prompts/greet/versions/3").status, 404);
    let versions = session.get("/api/prompts/greet/versions").json();
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2);
    let listed = session.get("/api/prompts").json();
    assert_eq!(
        (
            listed["prompts"].as_array().unwrap().len(),
            &listed["prompts"][0]["version"]
        ),
        (1, &json!(2))
    );
    let found = session.get("/api/search?q=walrus").json();
    assert_eq!(found["prompts"][0]["version"], 2);
}

fn versions_added_at_once_through_two_instances_get_numbers_of_their_own(engine: Engine) {
    let database = Database::migrated(engine);
    let (one, other) = (Instance::ready(&database), Instance::ready(&database));
    let session = one.sign_in();
    session.post("/api/prompts", &json!({ "name": "p", "body": "b" }));
    let sessions = [session.clone(), other.session(&session.token)];
    std::thread::scope(|scope| {
        for session in &sessions {
            scope.spawn(move || {
                for _ in 0..20 {
                    let added = session.post("/api/prompts/p/versions", &json!({ "body": "b" }));
                    assert_eq!(added.status, 201, "{}", added.text);
                }
            });
        }
    });
    assert_eq!(session.get("/api/prompts/p").json()["version"], 41);
}
