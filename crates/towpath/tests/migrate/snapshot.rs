//! Texts that are committed: what a person reads. `UPDATE=1` writes them anew.

use std::path::Path;

use towpath::migrate::{Engine, Error};

/// Fails the test unless what a person is told is what `snapshots/NAME-ENGINE.txt` holds.
pub fn told(name: &str, engine: Engine, error: &Error) {
    let text = normal(&error.diagnostic("db").render(false));
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/migrate/snapshots")
        .join(format!("{name}-{}.txt", engine.folder()));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(expected, text, "{} (UPDATE=1 rewrites it)", path.display());
}

/// Process ids and times become words.
fn normal(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        let mut words: Vec<String> = Vec::new();
        for word in line.split(' ') {
            let number = word.trim_matches(|char: char| !char.is_ascii_digit());
            let is_time = number.len() == 8 && number.matches(':').count() == 2;
            let follows_process = words.last().is_some_and(|last| last.ends_with("process"));
            words.push(match word {
                _ if follows_process => word.replace(number, "PID"),
                _ if is_time => word.replace(number, "TIME"),
                _ if number.len() == 10 && number.matches('-').count() == 2 => {
                    word.replace(number, "DAY")
                }
                _ if word.starts_with("`migrate-") => "`TEST`".to_owned(),
                other => other.to_owned(),
            });
        }
        lines += words.join(" ").trim_end();
        lines.push('\n');
    }
    lines
}
