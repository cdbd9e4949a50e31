//! The page and what it loads.

use crate::harness::{Database, Engine, Instance};
use crate::on_both;

/// What comes in quotes after each `before` in `text`.
fn quoted_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let rest = text.split(before).skip(1);
    rest.filter_map(|part| part.split('"').next()).collect()
}

on_both!(the_page_finds_everything_it_loads,);

fn the_page_finds_everything_it_loads(engine: Engine) {
    let instance = Instance::listening(&Database::empty(engine));
    let page = instance.get("/");
    assert_eq!(page.status, 200);
    assert!(
        page.head
            .contains("content-security-policy: default-src 'self'")
    );
    let mut wanted = quoted_after(&page.text, "=\"/assets/");
    let app = instance.get("/assets/app.js").text;
    wanted.extend(quoted_after(&app, "from \"./"));
    assert_eq!(wanted.len(), 7, "{wanted:?}");
    for name in wanted {
        assert_eq!(
            instance.get(&format!("/assets/{name}")).status,
            200,
            "{name}"
        );
    }
}
