//! `Procfile`: one process a line.

use super::sketch::{Part, Role, Sketch};
use super::tree::Tree;
use super::{command, secret};

/// What the Procfile of a project says.
pub fn read(tree: &Tree) -> Option<Sketch> {
    let file = tree.read("Procfile")?;
    let mut sketch = Sketch::default();
    let mut release = None;
    for (at, line) in file.text.lines().enumerate() {
        let place = file.at(at + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let plain = |name: &str| {
            name.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                && !name.is_empty()
        };
        let Some((name, run)) = line.split_once(':').filter(|(name, _)| plain(name)) else {
            tree.refuse(&file.path, at + 1, "has a line that is no `name: command`");
            return None;
        };
        let run = run.trim().to_owned();
        if secret::in_command(&run) {
            sketch.findings.fault(
                "plain-secret",
                &place,
                format!("the command of `{name}` holds a secret in plain text"),
                "give it as a variable, and use that: `$NAME`",
            );
            continue;
        }
        if name == "release" {
            release = Some((run, place));
            continue;
        }
        let mut part = Part::new(name, place);
        part.role = Some(match name {
            "web" => Role::Web,
            _ if run.contains("$PORT") || run.contains("${PORT") => Role::Web,
            _ => Role::Worker,
        });
        match command::is_dev(&run) {
            true => part.dev = Some(run),
            false => part.run = Some(run),
        }
        sketch.parts.push(part);
    }
    if let Some((run, place)) = release {
        let web = sketch
            .parts
            .iter()
            .position(|part| part.role == Some(Role::Web));
        match sketch.parts.get_mut(web.unwrap_or(0)) {
            Some(part) => part.release = Some(run),
            None => sketch.findings.leave(
                &place,
                "`release`: there is no process that it would run before",
            ),
        }
    }
    Some(sketch)
}
