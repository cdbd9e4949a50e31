//! A draft as the text of a manifest: short, in an order that reads well, with a comment where something was decided.

use std::fmt::Write;

use super::Able;
use super::draft::{Draft, Resource, Run, Service};
use super::sketch::{Migrate, Probe, Ready, Role, Target};

/// The text.
pub fn draw(draft: &Draft, sources: &[String], able: Able) -> String {
    let mut out = String::new();
    match sources.is_empty() {
        true => {
            out += "# Written by `tow init`: nothing here says what runs, so that is to be filled in.\n"
        }
        false => {
            let more = match sources.len() {
                0..=4 => String::new(),
                count => format!(" and {} more", count - 3),
            };
            let shown = &sources[..sources.len().min(if more.is_empty() { 4 } else { 3 })];
            let _ = writeln!(
                out,
                "# Written by `tow init` from {}{more}.",
                shown.join(", ")
            );
        }
    }
    let _ = writeln!(out, "app = {}", quoted(&draft.app));
    let places: Vec<_> = draft.way().into_iter().map(quoted).collect();
    if places.len() > 1 {
        let _ = writeln!(
            out,
            "promote = [{}]   # the way a release goes",
            places.join(", ")
        );
    }
    if draft.services.is_empty() {
        out += EMPTY;
    }
    for service in &draft.services {
        draw_service(&mut out, service, able);
    }
    if !draft.resources.is_empty() {
        out += "\n[resources]\n";
        for resource in &draft.resources {
            draw_resource(&mut out, resource, able);
        }
    }
    for target in &draft.environments {
        draw_environment(&mut out, target);
    }
    if draft.environments.is_empty() {
        out += ENVIRONMENTS;
    }
    out
}

/// The smallest manifest: what is missing is found by `tow check` too.
const EMPTY: &str = "
[services.web]
# build = \"npm ci && npm run build\"   # in a copy of the committed tree
run = \"\"                # fill in: what starts it; it has to listen on $HOST:$PORT
# ready = \"/health\"     # a path that answers once it can serve

# [resources]
# db = { kind = \"sqlite\" }   # or postgres, redis; `needs = [\"db\"]` brings DATABASE_URL
";

/// Where it runs, until somebody says more: all on this machine.
const ENVIRONMENTS: &str = "
[environments.local]   # the source tree, where it lies: `tow up`

[environments.staging]

[environments.production]
# server = \"user@host\"     # another machine, over ssh
# domain = \"example.com\"   # with it, https
";

fn draw_service(out: &mut String, service: &Service, able: Able) {
    let _ = writeln!(out, "\n[services.{}]", service.name);
    for remark in &service.remarks {
        let _ = writeln!(out, "# {}", one_line(remark));
    }
    let mut line = |key: &str, value: String| {
        let _ = writeln!(out, "{key} = {value}");
    };
    match service.role {
        Role::Web => {}
        Role::Worker => line("role", quoted("worker")),
        Role::Job => line("role", quoted("job")),
    }
    if let Some(schedule) = &service.schedule {
        line("schedule", quoted(schedule));
    }
    if service.dir != "." {
        line("dir", quoted(&service.dir));
    }
    match &service.by {
        Run::Process => {}
        Run::Image(image) => line("image", quoted(image)),
        Run::Dockerfile(path) => line("dockerfile", quoted(path)),
    }
    if let Some(port) = service.port.filter(|_| service.by != Run::Process) {
        line("port", port.to_string());
    }
    let texts = [
        (
            "build",
            service
                .build
                .as_ref()
                .filter(|_| service.by == Run::Process),
        ),
        ("run", service.run.as_ref()),
        ("dev", service.dev.as_ref()),
        ("release", service.release.as_ref()),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            line(key, command(text));
        }
    }
    let lists = [("cache", &service.cache), ("artifact", &service.artifact)];
    for (key, items) in lists {
        if !items.is_empty() && service.by == Run::Process {
            line(key, list(items));
        }
    }
    match &service.route {
        Some((path, true)) => line(
            "route",
            format!("{{ path = {}, strip = true }}", quoted(path)),
        ),
        Some((path, false)) => line("route", quoted(path)),
        None => {}
    }
    if let Some(ready) = ready(service) {
        line("ready", ready);
    }
    if !service.needs.is_empty() {
        line("needs", list(&service.needs));
    }
    if let Some(count) = service.replicas {
        line("replicas", count.to_string());
    }
    if let Some(policy) = service.restart {
        line("restart", quoted(policy));
    }
    if let Some(stop) = stop(service) {
        line("stop", stop);
    }
    draw_secrets(out, service, able);
    table(out, &service.name, "build_env", &service.build_env);
    table(out, &service.name, "env", &service.env);
}

/// Their names; in a comment where this version gives services none.
fn draw_secrets(out: &mut String, service: &Service, able: Able) {
    if service.secrets.is_empty() {
        return;
    }
    let names = list(&service.secrets);
    let _ = match able.secrets {
        true => writeln!(
            out,
            "secrets = {names}   # their values are in no file of the project"
        ),
        false => writeln!(
            out,
            "# secrets = {names}   # this version gives services no secrets yet"
        ),
    };
}

/// In one line while that is short, else a table of its own.
fn table(out: &mut String, service: &str, key: &str, entries: &[(String, String)]) {
    let cells: Vec<_> = entries
        .iter()
        .map(|(name, value)| format!("{name} = {}", quoted(value)))
        .collect();
    let line = format!("{key} = {{ {} }}", cells.join(", "));
    match entries {
        [] => {}
        // A table must come after every key of the service, so only the last may be one.
        _ if line.len() <= 100 || key == "build_env" => {
            let _ = writeln!(out, "{line}");
        }
        _ => {
            let _ = writeln!(out, "\n[services.{service}.{key}]");
            for cell in cells {
                let _ = writeln!(out, "{cell}");
            }
        }
    }
}

fn ready(service: &Service) -> Option<String> {
    let Ready { probe, within } = service.ready.as_ref()?;
    let is_contained = service.by != Run::Process;
    let within = within.map(|seconds| format!(", within = \"{}s\"", seconds.min(3600)));
    match probe {
        Probe::Http(_) if service.role != Role::Web => None,
        Probe::Http(path) if !is_target(path) => None,
        Probe::Http(path) => Some(match within {
            Some(within) => format!("{{ http = {}{within} }}", quoted(path)),
            None => quoted(path),
        }),
        // A command beside a container does not see what is in it; one with a port of its own asks the wrong one.
        Probe::Exec(_) if is_contained || service.role == Role::Web => None,
        Probe::Exec(line) => Some(format!(
            "{{ exec = {}{} }}",
            command(line),
            within.unwrap_or_default()
        )),
    }
}

fn is_target(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains(|c: char| c.is_whitespace() || c.is_control() || c == '$')
}

fn stop(service: &Service) -> Option<String> {
    let known = crate::manifest::form::SIGNALS;
    let signal = service
        .signal
        .as_ref()
        .filter(|signal| known.iter().any(|(name, _)| name == signal) && signal.as_str() != "TERM");
    let signal = signal.map(|signal| format!("signal = {}", quoted(signal)));
    let grace = service.grace.filter(|seconds| *seconds != 10);
    let grace = grace.map(|seconds| format!("grace = \"{}s\"", seconds.min(86_400)));
    let parts: Vec<_> = signal.into_iter().chain(grace).collect();
    (!parts.is_empty()).then(|| format!("{{ {} }}", parts.join(", ")))
}

fn draw_resource(out: &mut String, resource: &Resource, able: Able) {
    let mut parts = vec![format!("kind = {}", quoted(resource.kind.word()))];
    parts.extend(
        resource
            .version
            .map(|version| format!("version = {version}")),
    );
    let migrate = match &resource.migrate {
        Some(Migrate::Folder(folder)) => Some(format!("migrate = {}", quoted(folder))),
        Some(Migrate::Run(line, _)) if able.migrate => {
            Some(format!("migrate = {{ run = {} }}", command(line)))
        }
        _ => None,
    };
    parts.extend(migrate);
    let _ = writeln!(out, "{} = {{ {} }}", resource.name, parts.join(", "));
}

fn draw_environment(out: &mut String, target: &Target) {
    let _ = writeln!(out, "\n[environments.{}]", target.name);
    if let Some(server) = &target.server {
        let _ = writeln!(out, "server = {}", quoted(server));
    }
    if let Some(domain) = &target.domain {
        let _ = writeln!(out, "domain = {}   # with it, https", quoted(domain));
    }
}

fn list(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A command as TOML writes it: one of several lines in as many. What blanks it ends in means nothing to a shell.
fn command(text: &str) -> String {
    let lines = text.trim_end();
    let is_plain = |c: char| c == '\n' || c == '\t' || !c.is_control();
    match lines.contains('\n') && !lines.contains("'''") && lines.chars().all(is_plain) {
        true => format!("'''\n{lines}\n'''"),
        false => quoted(text),
    }
}

/// A text as TOML writes it, to the letter.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04X}", letter as u32);
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_to_the_letter() {
        for text in [
            "x\ny",
            "x\ny\n",
            "\nx",
            " x\r\n\ty ",
            "'''\n",
            "a\\b\"\u{1b}",
        ] {
            let table: toml::Table = format!("a = {}", quoted(text)).parse().expect("TOML");
            assert_eq!(table["a"].as_str(), Some(text), "{text:?}");
        }
        assert_eq!(command("a\nb\n"), "'''\na\nb\n'''");
    }
}
