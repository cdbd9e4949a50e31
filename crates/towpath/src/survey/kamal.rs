//! `config/deploy.yml` of kamal: an image, the roles that run it, and where.

use super::finding::{Findings, Place};
use super::image::{self, Image};
use super::secret;
use super::sketch::{Part, Probe, Ready, Role, Sketch, Store, Target};
use super::tree::{File, Tree, is_inside, tidy};
use super::yaml::{Kind, Node};

const FILE: &str = "config/deploy.yml";

/// What the file says.
pub fn read(tree: &Tree) -> Option<Sketch> {
    let mut file = tree.read(FILE)?;
    file.text = without_ruby(&file.text);
    let root = super::document::yaml(tree, &file)?;
    let name = root.text_of("service")?;
    let mut sketch = Sketch {
        app: Some(name.to_owned()),
        ..Sketch::default()
    };
    for name in tree.names("config") {
        let is_place =
            name.starts_with("deploy.") && name.ends_with(".yml") && name != "deploy.yml";
        if is_place {
            let place = Place::new(&format!("config/{name}"), 0);
            let text = format!("only `{FILE}` is read");
            sketch.findings.leave(&place, text);
        }
    }
    let hosts = roles(&mut sketch, &file, &root);
    for part in &mut sketch.parts {
        part.dockerfile = Some(dockerfile(&root));
        environment(&mut sketch.findings, part, &file, root.get("env"));
    }
    target(&mut sketch, &file, &root, &hosts);
    registry(&mut sketch.findings, &file, &root);
    for (key, node) in root
        .get("accessories")
        .map(Node::entries)
        .unwrap_or_default()
    {
        accessory(&mut sketch, &file, &key.text, &file.at(key.line), node);
    }
    rest(&mut sketch, &file, &root);
    Some(sketch)
}

/// Lines that are Ruby alone say nothing by themselves.
fn without_ruby(text: &str) -> String {
    let plain = |line: &str| {
        let trimmed = line.trim();
        match trimmed.starts_with("<%") && !trimmed.starts_with("<%=") && trimmed.ends_with("%>") {
            true => "\n".to_owned(),
            false => format!("{line}\n"),
        }
    };
    text.lines().map(plain).collect()
}

fn dockerfile(root: &Node) -> String {
    let named = root.at(&["builder", "dockerfile"]).and_then(Node::text);
    let path = tidy(named.unwrap_or("Dockerfile"));
    match is_inside(&path) {
        true => path,
        false => "Dockerfile".to_owned(),
    }
}

/// The roles, and the hosts of all of them.
fn roles(sketch: &mut Sketch, file: &File, root: &Node) -> Vec<(String, usize)> {
    let mut hosts: Vec<(String, usize)> = Vec::new();
    let line = |node: &Node| file.at(node.line);
    let Some(servers) = root.get("servers") else {
        let mut part = Part::new("web", file.at(1));
        part.role = Some(Role::Web);
        sketch.parts.push(part);
        return hosts;
    };
    if let Kind::List(_) = servers.kind {
        let mut part = Part::new("web", line(servers));
        part.role = Some(Role::Web);
        hosts = named(servers);
        sketch.parts.push(part);
    }
    for (key, node) in servers.entries() {
        let mut part = Part::new(&key.text, file.at(key.line));
        let is_served =
            key.text == "web" || node.get("proxy").is_some_and(|proxy| !proxy.is_false());
        part.role = Some(match is_served {
            true => Role::Web,
            false => Role::Worker,
        });
        let command = node.text_of("cmd");
        match command.filter(|line| !secret::in_command(line)) {
            Some(command) if is_ruby(command) => {
                let why = "Ruby fills it in, `<%= ... %>`, and a shell does not";
                part.leave(
                    &mut sketch.findings,
                    &line(node.get("cmd").unwrap_or(node)),
                    why,
                );
            }
            Some(command) => part.run = Some(command.to_owned()),
            None if command.is_some() => sketch.findings.fault(
                "plain-secret",
                &line(node),
                format!("the command of `{}` holds a secret in plain text", key.text),
                "give it as a variable, and use that: `$NAME`",
            ),
            None => {}
        }
        environment(&mut sketch.findings, &mut part, file, node.get("env"));
        hosts.extend(named(node.get("hosts").unwrap_or(node)));
        sketch.parts.push(part);
    }
    hosts.retain(|(host, at)| {
        if is_ruby(host) {
            filled_in(&mut sketch.findings, &file.at(*at), "a host of the servers");
        }
        !is_ruby(host)
    });
    hosts
}

/// Whether Ruby fills a part of it in.
fn is_ruby(text: &str) -> bool {
    text.contains("<%")
}

fn filled_in(findings: &mut Findings, place: &Place, what: &str) {
    findings.leave(place, format!("{what}: Ruby fills it in, `<%= ... %>`"));
}

fn named(node: &Node) -> Vec<(String, usize)> {
    let tagged = node.items().iter().flat_map(Node::entries);
    let tagged = tagged.map(|(key, _)| (key.text.clone(), key.line));
    let plain = node.items().iter();
    let plain = plain.filter_map(|item| Some((item.text()?.to_owned(), item.line)));
    plain.chain(tagged).collect()
}

fn environment(findings: &mut Findings, part: &mut Part, file: &File, env: Option<&Node>) {
    let Some(env) = env else { return };
    let plain = env.get("clear").unwrap_or(env);
    for (key, value) in plain.entries() {
        if ["secret", "tags", "clear"].contains(&key.text.as_str()) {
            continue;
        }
        let place = file.at(key.line);
        let value = value.text().unwrap_or_default();
        let is_known = part.env.iter().any(|known| known.name == key.text);
        if !is_known {
            part.set(findings, &key.text, Some(value), &place);
            if let Some(last) = part.env.last_mut() {
                last.is_open = value.contains("<%");
            }
        }
    }
    for (name, line) in env.get("secret").map(Node::texts).unwrap_or_default() {
        let name = name.split(':').next().unwrap_or_default();
        part.secrets.push((name.to_owned(), file.at(line)));
    }
}

/// All of it goes to one environment, for kamal knows no other in this file.
fn target(sketch: &mut Sketch, file: &File, root: &Node, hosts: &[(String, usize)]) {
    let proxy = root.get("proxy").or(root.at(&["servers", "web", "proxy"]));
    let domain = proxy.and_then(|proxy| {
        let lone = proxy.text_of("host");
        let several = proxy.get("hosts").map(Node::texts).unwrap_or_default();
        lone.or(several.first().map(|(host, _)| *host))
    });
    if let Some(proxy) = proxy.filter(|_| domain.is_some_and(is_ruby)) {
        let place = file.at(proxy.line);
        filled_in(&mut sketch.findings, &place, "the host of the proxy");
    }
    let domain = domain.filter(|domain| !is_ruby(domain));
    let user = root
        .at(&["ssh", "user"])
        .and_then(Node::text)
        .filter(|user| !is_ruby(user))
        .unwrap_or("root");
    let mut distinct: Vec<_> = hosts.to_vec();
    distinct.sort();
    distinct.dedup_by(|one, other| one.0 == other.0);
    let server = match distinct.as_slice() {
        [(host, _)] => Some(format!("{user}@{host}")),
        _ => None,
    };
    let place = match (hosts.first(), proxy) {
        (Some((_, line)), _) => file.at(*line),
        (None, Some(proxy)) => file.at(proxy.line),
        (None, None) => file.at(1),
    };
    if distinct.len() > 1 {
        let names: Vec<_> = distinct.iter().map(|(host, _)| host.as_str()).collect();
        sketch.findings.decide(
            &place,
            format!(
                "it runs on {} machines; an environment of Towpath's is on one: {}",
                names.len(),
                names.join(", ")
            ),
            format!("environments.production.server = \"{user}@{}\"", names[0]),
        );
    }
    sketch.environments.push(Target {
        name: "production".to_owned(),
        place,
        server,
        domain: domain.map(str::to_owned),
    });
    let Some(proxy) = proxy else { return };
    let path = proxy
        .at(&["healthcheck", "path"])
        .and_then(Node::text)
        .unwrap_or("/up");
    let port = proxy
        .text_of("app_port")
        .and_then(|port| port.parse().ok())
        .unwrap_or(80);
    let served = sketch
        .parts
        .iter_mut()
        .filter(|part| part.role == Some(Role::Web));
    for part in served {
        part.port = Some(port);
        part.ready = Some(Ready {
            probe: Probe::Http(path.to_owned()),
            within: None,
        });
    }
}

fn registry(findings: &mut Findings, file: &File, root: &Node) {
    let password = root.at(&["registry", "password"]);
    if let Some((node, text)) = password.and_then(|node| Some((node, node.text()?)))
        && !text.contains("<%")
    {
        secret::judge(findings, &file.at(node.line), "REGISTRY_PASSWORD", text);
    }
}

fn accessory(sketch: &mut Sketch, file: &File, name: &str, place: &Place, node: &Node) {
    let image = node.text_of("image").unwrap_or_default();
    image::judge(&mut sketch.findings, place, image);
    let mut looked = Part::new(name, place.clone());
    environment(&mut sketch.findings, &mut looked, file, node.get("env"));
    let class = image::classify(image);
    let kept = matches!(class, Image::Store(..) | Image::Elsewhere(_));
    if let Some(port) = node.get("port").filter(|_| kept) {
        let text = port.text().unwrap_or_default();
        if !text.starts_with("127.0.0.1") {
            sketch.findings.fault(
                "open-database",
                &file.at(port.line),
                format!("`{name}` is open to every network on port {}", text.split(':').next().unwrap_or_default()),
                "publish it there alone: `port: \"127.0.0.1:...\"`; Towpath's own listen on loopback only",
            );
        }
    }
    match class {
        Image::Store(kind, version) => sketch.stores.push(Store {
            name: name.to_owned(),
            place: place.clone(),
            kind,
            version,
            migrate: None,
            hosts: Vec::new(),
        }),
        _ => {
            sketch.elsewhere.push(name.to_owned());
            sketch
                .findings
                .leave(place, format!("accessory `{name}`: it runs somewhere else"));
        }
    }
    // Others reach it under this host name.
    let host = format!("{}-{name}", sketch.app.clone().unwrap_or_default());
    if matches!(image::classify(image), Image::Store(..))
        && let Some(store) = sketch.stores.last_mut()
    {
        store.hosts.push(host);
    }
}

fn rest(sketch: &mut Sketch, file: &File, root: &Node) {
    for (key, value) in root.entries() {
        let place = file.at(key.line);
        let why = match key.text.as_str() {
            "registry" | "image" => "an image is built where it runs, and carried with the release",
            "aliases" => "commands of your own are your shell's",
            "volumes" => {
                for (volume, line) in value.texts() {
                    sketch.findings.decide(
                        &file.at(line),
                        format!("files are kept in the volume `{}`: with the next version they would be gone", volume.split(':').next().unwrap_or_default()),
                        "if that is an SQLite file: `resources.db = { kind = \"sqlite\" }` and `needs = [\"db\"]`; else name an absolute path outside of Towpath in `env`",
                    );
                }
                continue;
            }
            "asset_path" => "old and new version each serve their own files",
            "boot" => "all instances are started, and traffic turns once",
            "logging" => "logs are Towpath's: `tow logs`, and `log` for their size",
            "hooks_path"
            | "require_destination"
            | "primary_role"
            | "retain_containers"
            | "minimum_version"
            | "readiness_delay"
            | "deploy_timeout"
            | "drain_timeout"
            | "run_directory"
            | "labels"
            | "sudo"
            | "allow_empty_roles" => "it has no counterpart",
            _ => continue,
        };
        sketch
            .findings
            .leave(&place, format!("`{}`: {why}", key.text));
    }
    let args = root.at(&["builder", "args"]).map(Node::entries);
    for (key, _) in args.unwrap_or_default() {
        let text = format!("argument `{}`: a build by a Dockerfile gets none", key.text);
        sketch.findings.leave(&file.at(key.line), text);
    }
    let proxy = root.get("proxy");
    for key in [
        "buffering",
        "response_timeout",
        "forward_headers",
        "path_prefix",
        "logging",
    ] {
        if let Some(node) = proxy.and_then(|proxy| proxy.get(key)) {
            sketch.findings.leave(
                &file.at(node.line),
                format!("`proxy.{key}` has no counterpart"),
            );
        }
    }
}
