//! Sign-in over several instances.

use serde_json::json;

use crate::harness::{Database, Engine, Instance, PASSWORD, USER};
use crate::{http, on_both};

on_both!(
    a_session_holds_in_every_instance_until_it_is_closed_in_one,
    only_the_right_password_signs_in_and_no_token_is_kept,
    the_cookie_is_as_good_as_the_token,
    instances_that_start_together_create_one_first_user,
);

fn a_session_holds_in_every_instance_until_it_is_closed_in_one(engine: Engine) {
    let database = Database::migrated(engine);
    let (one, other) = (Instance::ready(&database), Instance::ready(&database));
    assert_eq!(one.get("/api/traces").status, 401);
    let here = one.sign_in();
    let there = other.session(&here.token);
    assert_eq!(there.get("/api/session").json()["user"], USER);
    assert_eq!(there.request("DELETE", "/api/session", None).status, 204);
    assert_eq!(here.get("/api/traces").status, 401);
}

fn only_the_right_password_signs_in_and_no_token_is_kept(engine: Engine) {
    let database = Database::migrated(engine);
    let instance = Instance::ready(&database);
    for (user, password) in [(USER, "wrong"), ("nobody", PASSWORD), ("", "")] {
        let body = json!({ "user": user, "password": password });
        let answer = http::request(&instance.address, "POST", "/api/session", &[], Some(&body));
        assert_eq!(answer.status, 401, "{user} {password}");
    }
    let session = instance.sign_in();
    let kept = database.open().texts(match engine {
        Engine::Sqlite => "SELECT lower(hex(token_hash)) FROM sessions",
        Engine::Postgres => "SELECT encode(token_hash, 'hex') FROM sessions",
    });
    let as_text: String = session
        .token
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(kept[0].len(), 64);
    assert!(![&session.token, &as_text].contains(&&kept[0]));
}

fn the_cookie_is_as_good_as_the_token(engine: Engine) {
    let database = Database::migrated(engine);
    let instance = Instance::ready(&database);
    let body = json!({ "user": USER, "password": PASSWORD });
    let answer = http::request(&instance.address, "POST", "/api/session", &[], Some(&body));
    let cookie = answer
        .head
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    let pair = cookie.split(';').next().unwrap();
    let header = format!("Cookie: other=1; {pair}");
    let answer = http::request(&instance.address, "GET", "/api/session", &[&header], None);
    assert_eq!(answer.status, 200);
}

fn instances_that_start_together_create_one_first_user(engine: Engine) {
    let database = Database::migrated(engine);
    let instances: Vec<_> = (0..4)
        .map(|n| Instance::with_first_user(&database, &format!("user-{n}")))
        .collect();
    for instance in &instances {
        instance.becomes_ready();
    }
    assert_eq!(database.number("SELECT count(*) FROM users"), 1);
}
