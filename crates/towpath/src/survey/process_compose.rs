//! `process-compose.yaml`: processes of this machine, with probes and what they wait for.

use std::collections::BTreeMap;

use super::sketch::{Part, Probe, Ready, Role, Sketch};
use super::tree::{File, Tree, is_inside, join};
use super::value::fill;
use super::yaml::{Key, Node};
use super::{command, secret};
use crate::manifest::schedule::Schedule;

const FILES: [&str; 4] = [
    "process-compose.yaml",
    "process-compose.yml",
    "process-compose.override.yaml",
    "devenv.process-compose.yaml",
];

/// What the file says.
pub fn read(tree: &Tree) -> Option<Sketch> {
    let file = FILES[..2].iter().find_map(|name| tree.read(name))?;
    let root = super::document::yaml(tree, &file)?;
    let mut sketch = Sketch::default();
    for (key, value) in root.entries() {
        match key.text.as_str() {
            "version" | "processes" | "is_strict" => {}
            "environment" => {}
            name => sketch.findings.leave(
                &file.at(key.line),
                format!("`{name}`: logs, ports and order are Towpath's own"),
            ),
        }
        if key.text == "processes" {
            for (key, node) in value.entries() {
                process(&mut sketch, &file, key, node);
            }
        }
    }
    let shared = root.get("environment");
    for part in &mut sketch.parts {
        if let Some(shared) = shared {
            environment(&mut sketch.findings, &file, part, shared);
        }
    }
    Some(sketch)
}

fn process(sketch: &mut Sketch, file: &File, key: &Key, node: &Node) {
    let place = file.at(key.line);
    let mut part = Part::new(&key.text, place.clone());
    if node.get("disabled").is_some_and(Node::is_true) {
        let text = format!("`{}` is disabled", key.text);
        sketch.findings.leave(&place, text);
        return;
    }
    let shell = node.text_of("command").unwrap_or_default().trim();
    if secret::in_command(shell) {
        sketch.findings.fault(
            "plain-secret",
            &place,
            format!("the command of `{}` holds a secret in plain text", key.text),
            "give it as a variable, and use that: `$NAME`",
        );
    } else if !shell.is_empty() {
        match command::is_dev(shell) {
            true => part.dev = Some(shell.to_owned()),
            false => part.run = Some(shell.to_owned()),
        }
    }
    if let Some(dir) = node.text_of("working_dir") {
        let dir = fill(dir, &BTreeMap::new()).text;
        let dir = join(".", &dir);
        match is_inside(&dir) {
            true => part.dir = dir,
            false => sketch.findings.decide(
                &place,
                format!("`working_dir` of `{}` is outside the project", key.text),
                format!(
                    "services.{}.dir = \"...\", below the project",
                    super::names::service(&key.text)
                ),
            ),
        }
    }
    if let Some(env) = node.get("environment") {
        environment(&mut sketch.findings, file, &mut part, env);
    }
    let depends = node
        .get("depends_on")
        .map(Node::entries)
        .unwrap_or_default();
    part.needs = depends.iter().map(|(key, _)| key.text.clone()).collect();
    probes(&mut part, node);
    part.restart = match node.at(&["availability", "restart"]).and_then(Node::text) {
        Some("no") => Some("never"),
        Some("on_failure" | "exit_on_failure") => Some("on-failure"),
        _ => None,
    };
    part.replicas = node.text_of("replicas").and_then(|text| text.parse().ok());
    let shutdown = node.get("shutdown");
    let seconds = shutdown.and_then(|shutdown| shutdown.text_of("timeout_seconds"));
    part.grace = seconds.and_then(|text| text.parse().ok());
    let signal = shutdown.and_then(|shutdown| shutdown.text_of("signal"));
    part.signal = signal.and_then(|number| match number {
        "2" => Some("INT".to_owned()),
        "3" => Some("QUIT".to_owned()),
        "9" => Some("KILL".to_owned()),
        _ => None,
    });
    schedule(&mut part, node);
    rest(sketch, file, &key.text, node);
    sketch.parts.push(part);
}

/// `schedule: { cron: "0 3 * * *" }` or `{ interval: 15m }`.
fn schedule(part: &mut Part, node: &Node) {
    let Some(schedule) = node.get("schedule") else {
        return;
    };
    let cron = schedule.text_of("cron").map(str::to_owned);
    let every = schedule
        .text_of("interval")
        .map(|every| format!("every {every}"));
    let found = cron.or(every).filter(|text| Schedule::parse(text).is_ok());
    if found.is_some() {
        part.role = Some(Role::Job);
        part.schedule = found;
        part.ready = None;
        part.replicas = None;
        part.restart = None;
    }
}

fn probes(part: &mut Part, node: &Node) {
    let probe = node.get("readiness_probe").or(node.get("liveness_probe"));
    let Some(probe) = probe else {
        return;
    };
    if let Some(get) = probe.get("http_get") {
        let path = get.text_of("path").unwrap_or("/");
        part.ready = Some(Ready {
            probe: Probe::Http(path.to_owned()),
            within: None,
        });
        part.role = Some(Role::Web);
        part.port = get.text_of("port").and_then(|port| port.parse().ok());
    } else if let Some(line) = probe.at(&["exec", "command"]).and_then(Node::text)
        && !secret::in_command(line)
    {
        part.ready = Some(Ready {
            probe: Probe::Exec(line.to_owned()),
            within: None,
        });
    }
}

fn environment(findings: &mut super::finding::Findings, file: &File, part: &mut Part, env: &Node) {
    for (text, line) in env.texts() {
        let Some((name, value)) = text.split_once('=') else {
            continue;
        };
        if part.env.iter().all(|known| known.name != name) {
            let filled = fill(value, &BTreeMap::new());
            part.set(findings, name, Some(&filled.text), &file.at(line));
            if let Some(last) = part.env.last_mut() {
                last.is_open = !filled.missing.is_empty();
            }
        }
    }
}

fn rest(sketch: &mut Sketch, file: &File, name: &str, node: &Node) {
    for (key, _) in node.entries() {
        let why = match key.text.as_str() {
            "log_location" | "log_configuration" | "disable_ansi_colors" => {
                "logs are Towpath's: `tow logs`"
            }
            "is_daemon" => "a process that leaves the foreground cannot be watched",
            "is_tty" | "is_foreground" | "is_elevated" => "services have no terminal",
            "namespace" | "vars" | "ready_log_line" | "description" | "depends_on_any" => {
                "it has no counterpart"
            }
            _ => continue,
        };
        let text = format!("`{}` of `{name}`: {why}", key.text);
        sketch.findings.leave(&file.at(key.line), text);
    }
}
