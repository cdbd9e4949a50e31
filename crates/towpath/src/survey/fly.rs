//! `fly.toml`: one application, its processes and the service in front of it.

use super::finding::Place;
use super::sketch::{Part, Probe, Ready, Role, Sketch};
use super::tree::{File, Tree, is_inside, tidy};
use super::yaml::Node;
use super::{check, command, image, secret};

/// What the file says.
pub fn read(tree: &Tree) -> Option<Sketch> {
    let file = tree.read("fly.toml")?;
    let root = super::document::toml(tree, &file)?;
    let mut sketch = Sketch {
        app: root.text_of("app").map(str::to_owned),
        ..Sketch::default()
    };
    processes(&mut sketch, &file, &root);
    for part in &mut sketch.parts {
        build(&mut sketch.findings, part, &file, &root);
        for (key, value) in root.get("env").map(Node::entries).unwrap_or_default() {
            let place = file.at(key.line);
            part.set(&mut sketch.findings, &key.text, value.text(), &place);
        }
        let signal = root.text_of("kill_signal");
        part.signal = signal.map(|signal| signal.trim_start_matches("SIG").to_owned());
        part.grace = root.text_of("kill_timeout").and_then(check::seconds);
    }
    serve(&mut sketch, &root);
    release(&mut sketch, &file, &root);
    rest(&mut sketch, &file, &root);
    Some(sketch)
}

fn processes(sketch: &mut Sketch, file: &File, root: &Node) {
    let Some(processes) = root
        .get("processes")
        .filter(|node| !node.entries().is_empty())
    else {
        let line = root.entries().iter().find(|(key, _)| key.text == "app");
        let mut part = Part::new("web", file.at(line.map_or(1, |(key, _)| key.line)));
        part.role = Some(match root.get("http_service").or(root.get("services")) {
            Some(_) => Role::Web,
            None => Role::Worker,
        });
        sketch.parts.push(part);
        return;
    };
    for (key, value) in processes.entries() {
        let place = file.at(key.line);
        let mut part = Part::new(&key.text, place.clone());
        let run = value.text().unwrap_or_default().trim();
        part.role = Some(match is_served(root, &key.text) {
            true => Role::Web,
            false => Role::Worker,
        });
        if secret::in_command(run) {
            sketch.findings.fault(
                "plain-secret",
                &place,
                format!("the command of `{}` holds a secret in plain text", key.text),
                "give it as a variable, and use that: `$NAME`",
            );
        } else if !run.is_empty() {
            match command::is_dev(run) {
                true => part.dev = Some(run.to_owned()),
                false => part.run = Some(run.to_owned()),
            }
        }
        sketch.parts.push(part);
    }
}

fn services(root: &Node) -> Vec<&Node> {
    let several = root.get("services").map(Node::items).unwrap_or_default();
    root.get("http_service")
        .into_iter()
        .chain(several)
        .collect()
}

/// Whether requests go to a process: those that name none go to all.
fn is_served(root: &Node, process: &str) -> bool {
    services(root)
        .iter()
        .any(|service| match service.get("processes") {
            Some(names) => names.texts().iter().any(|(name, _)| *name == process),
            None => true,
        })
}

fn build(findings: &mut super::finding::Findings, part: &mut Part, file: &File, root: &Node) {
    let Some(build) = root.get("build") else {
        part.dockerfile = Some("Dockerfile".to_owned());
        return;
    };
    let at = |key: &str| {
        build
            .get(key)
            .map_or(file.at(build.line), |node| file.at(node.line))
    };
    if let Some(name) = build.text_of("image") {
        image::judge(findings, &at("image"), name);
        part.image = Some(name.to_owned());
        part.is_ours = false;
    }
    let path = tidy(build.text_of("dockerfile").unwrap_or("Dockerfile"));
    part.dockerfile = is_inside(&path).then_some(path);
    if build.get("builder").is_some() || build.get("buildpacks").is_some() {
        findings.leave(
            &at("builder"),
            "`builder`: there are no buildpacks; `build` says how it is built",
        );
    }
    for (key, _) in build.get("args").map(Node::entries).unwrap_or_default() {
        let place = file.at(key.line);
        if secret::is_name(&key.text) {
            findings.fault(
                "secret-in-build",
                &place,
                format!(
                    "`{}` is an argument of a build: the image's history shows it",
                    key.text
                ),
                "mount it: `RUN --mount=type=secret,id=...`",
            );
        }
        findings.leave(
            &place,
            format!("argument `{}`: a build by a Dockerfile gets none", key.text),
        );
    }
}

fn serve(sketch: &mut Sketch, root: &Node) {
    let checks = root.get("checks").map(Node::entries).unwrap_or_default();
    for part in &mut sketch.parts {
        if part.role != Some(Role::Web) {
            continue;
        }
        for service in services(root) {
            let port = service
                .text_of("internal_port")
                .and_then(|port| port.parse().ok());
            part.port = part.port.or(port);
            let lists = ["checks", "http_checks"]
                .iter()
                .filter_map(|key| service.get(key));
            for check in lists.flat_map(Node::items) {
                ready(part, check);
            }
        }
        for (_, check) in checks {
            if check.text_of("type") == Some("http") {
                ready(part, check);
            }
        }
    }
}

fn ready(part: &mut Part, check: &Node) {
    if let Some(path) = check.text_of("path").filter(|_| part.ready.is_none()) {
        let grace = check.text_of("grace_period").and_then(check::seconds);
        part.ready = Some(Ready {
            probe: Probe::Http(path.to_owned()),
            within: grace.filter(|seconds| *seconds > 30),
        });
    }
}

fn release(sketch: &mut Sketch, file: &File, root: &Node) {
    let Some(line) = root.at(&["deploy", "release_command"]) else {
        return;
    };
    let run = line.text().unwrap_or_default().to_owned();
    let web = sketch
        .parts
        .iter()
        .position(|part| part.role == Some(Role::Web));
    match sketch.parts.get_mut(web.unwrap_or(0)) {
        Some(part) if !secret::in_command(&run) => part.release = Some(run),
        _ => sketch
            .findings
            .leave(&file.at(line.line), "`release_command` is not carried over"),
    }
}

fn rest(sketch: &mut Sketch, file: &File, root: &Node) {
    let mut leave = |place: Place, text: &str| sketch.findings.leave(&place, text);
    for (key, _) in root.entries() {
        let place = file.at(key.line);
        let why = match key.text.as_str() {
            "primary_region" | "regions" => {
                "an environment is on one machine: `server = \"user@host\"`"
            }
            "vm" | "compute" => "the size of a machine is not Towpath's",
            "statics" => "the service itself serves its files",
            "metrics" => "metrics are not collected",
            "swap_size_mb" | "experimental" | "console_command" | "files" | "restart"
            | "host_dedication_id" => "it has no counterpart",
            _ => continue,
        };
        leave(place, &format!("`{}`: {why}", key.text));
    }
    if let Some(service) = root.get("http_service") {
        for key in [
            "auto_stop_machines",
            "auto_start_machines",
            "min_machines_running",
            "concurrency",
        ] {
            if let Some(node) = service.get(key) {
                let text = format!(
                    "`{key}`: what is in the manifest runs all the time; `replicas` says how many"
                );
                leave(file.at(node.line), &text);
            }
        }
    }
    let mounts = root.get("mounts").or(root.get("mount"));
    let lone = mounts.filter(|node| !node.entries().is_empty());
    let mounts: Vec<_> = mounts
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .chain(lone)
        .collect();
    for mount in mounts {
        let (from, to) = (mount.text_of("source"), mount.text_of("destination"));
        sketch.findings.decide(
            &file.at(mount.line),
            format!("files are kept in the volume `{}`, at `{}`", from.unwrap_or_default(), to.unwrap_or_default()),
            "if that is an SQLite file: `resources.db = { kind = \"sqlite\" }` and `needs = [\"db\"]`; else name an absolute path outside of Towpath in `env`",
        );
    }
}
