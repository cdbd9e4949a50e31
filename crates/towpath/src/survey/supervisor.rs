//! `supervisord.conf`: programs of one machine.

use super::finding::Findings;
use super::ini::{self, Section};
use super::sketch::{Part, Role, Sketch};
use super::tree::{File, Tree, is_inside, join};
use super::{check, command, secret, words};

/// Where it may lie in a project.
const FILES: [&str; 7] = [
    "supervisord.conf",
    "supervisor.conf",
    "docker/supervisord.conf",
    "config/supervisord.conf",
    "deploy/supervisord.conf",
    "etc/supervisord.conf",
    "conf/supervisord.conf",
];

/// What the file says.
pub fn read(tree: &Tree) -> Option<Sketch> {
    let file = FILES.iter().find_map(|name| tree.read(name))?;
    let sections = match ini::parse(&file.text) {
        Ok(sections) => sections,
        Err((line, fault)) => {
            tree.refuse(&file.path, line, &fault);
            return None;
        }
    };
    let mut sketch = Sketch::default();
    for section in &sections {
        let place = file.at(section.line);
        match section.name.split_once(':') {
            Some(("program" | "fcgi-program", name)) => program(&mut sketch, &file, section, name),
            Some((kind, _)) => {
                let text = format!("`[{}]`: a {kind} has no counterpart", section.name);
                sketch.findings.leave(&place, text);
            }
            None if section.name == "include" => {
                sketch
                    .findings
                    .leave(&place, "`[include]`: what it names is not read");
            }
            None => server(&mut sketch, &file, section),
        }
    }
    Some(sketch)
}

/// The server that others talk to; here that is Towpath's agent.
fn server(sketch: &mut Sketch, file: &File, section: &Section) {
    let place = file.at(section.line);
    let text = format!("`[{}]`: Towpath's agent takes its place", section.name);
    sketch.findings.leave(&place, text);
    for (key, value, line) in &section.entries {
        let at = file.at(*line);
        if key == "password" {
            let known = secret::is_known(value);
            match known {
                true => secret::known_default(&mut sketch.findings, &at, "password"),
                false => secret::judge(&mut sketch.findings, &at, "PASSWORD", value),
            }
        }
        let open = value.starts_with('*') || value.starts_with(':') || value.starts_with("0.0.0.0");
        if key == "port" && open {
            sketch.findings.fault(
                "open-control",
                &at,
                "whoever reaches this port starts and stops what runs",
                "let it listen on 127.0.0.1",
            );
        }
    }
}

fn program(sketch: &mut Sketch, file: &File, section: &Section, name: &str) {
    let place = file.at(section.line);
    let line = section.get("command");
    let (shell, at) = line.unwrap_or_default();
    if shell.is_empty() {
        sketch
            .findings
            .leave(&place, format!("`{name}` has no command"));
        return;
    }
    let mut part = Part::new(name, place.clone());
    directory(&mut sketch.findings, &mut part, file, section);
    let line = line_of(shell, &part, file);
    if let Some(base) = taken(line.as_deref().unwrap_or_default()) {
        let text = format!("`{name}` runs {base}: the gateway and jobs take its place");
        sketch.findings.leave(&file.at(at), text);
        return;
    }
    match line {
        Err(why) => part.leave(&mut sketch.findings, &file.at(at), &why),
        Ok(line) if secret::in_command(&line) => sketch.findings.fault(
            "plain-secret",
            &file.at(at),
            format!("the command of `{name}` holds a secret in plain text"),
            "give it as a variable, and use that: `$NAME`",
        ),
        Ok(line) => part.run = Some(line),
    }
    let text = section.get("environment");
    for (key, value, line) in text.map(environment).unwrap_or_default() {
        let value = filled(&value, |_| None).unwrap_or(value);
        part.set(&mut sketch.findings, &key, Some(&value), &file.at(line));
        if let Some(last) = part.env.last_mut() {
            last.is_open = value.contains("%(");
        }
    }
    details(&mut part, section);
    rest(sketch, file, section, name);
    sketch.parts.push(part);
}

/// The program of a line whose work is Towpath's.
fn taken(line: &str) -> Option<&str> {
    const TAKEN: [&str; 8] = [
        "nginx", "caddy", "haproxy", "traefik", "crond", "cron", "sshd", "rsyslogd",
    ];
    let mut programs = command::programs(line).into_iter();
    programs.find(|name| TAKEN.contains(name))
}

/// A command as a line that starts the same in the folder of its part.
fn line_of(command: &str, part: &Part, file: &File) -> Result<String, String> {
    let filled = filled(command, |name| match name.strip_prefix("ENV_") {
        Some(name) => crate::manifest::form::is_variable(name).then(|| words::marked(name)),
        None if name == "here" => Some(from(&part.dir, file.dir())),
        None => (name == "program_name").then(|| part.name.clone()),
    })?;
    Ok(words::line(&[words::split(&filled)?])?)
}

fn directory(findings: &mut Findings, part: &mut Part, file: &File, section: &Section) {
    let Some((written, at)) = section.get("directory") else {
        return;
    };
    let known = |name: &str| (name == "here").then(|| file.dir().to_owned());
    let text = match filled(written, known) {
        Ok(dir) => {
            let tidy = join(".", dir.trim_start_matches("./"));
            if !dir.starts_with('/') && is_inside(&tidy) {
                part.dir = tidy;
                return;
            }
            format!(
                "`directory` of `{}`, {dir}: its folder in the project is taken",
                part.name
            )
        }
        Err(why) => format!(
            "`directory` of `{}`: {why}; its folder in the project is taken",
            part.name
        ),
    };
    findings.leave(&file.at(at), text);
}

/// A text with what supervisord fills in: `%(here)s`, and `%%` for one of them.
fn filled(text: &str, known: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out += before;
        rest = after.strip_prefix('%').unwrap_or(after);
        let Some((name, after)) = after
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'))
        else {
            out.push('%');
            continue;
        };
        let value = known(name).filter(|_| after.starts_with('s'));
        out += &value.ok_or_else(|| format!("nothing stands for `%({name})` here"))?;
        rest = &after[1..];
    }
    Ok(out + rest)
}

/// The way from one folder of the project to another.
fn from(dir: &str, to: &str) -> String {
    let steps = |path: &str| -> Vec<String> {
        let steps = path.split('/').filter(|step| *step != ".");
        steps.map(str::to_owned).collect()
    };
    let (dir, to) = (steps(dir), steps(to));
    let shared = dir.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = dir[shared..].iter().map(|_| "..");
    let down = to[shared..].iter().map(String::as_str);
    let way: Vec<_> = up.chain(down).collect();
    match way.is_empty() {
        true => ".".to_owned(),
        false => way.join("/"),
    }
}

fn details(part: &mut Part, section: &Section) {
    let line = part.run.clone().unwrap_or_default();
    let serves = line.contains("port")
        || line.contains("gunicorn")
        || line.contains("uvicorn")
        || line.contains("-b ")
        || line.contains("--bind");
    part.role = match check::is_worker_name(&part.name) {
        true => Some(Role::Worker),
        false => (serves || part.name == "web").then_some(Role::Web),
    };
    part.restart = match section.get("autorestart") {
        Some(("false", _)) => Some("never"),
        Some(("unexpected", _)) => Some("on-failure"),
        _ => None,
    };
    let number = |key: &str| section.get(key).and_then(|(text, _)| text.parse().ok());
    part.replicas = number("numprocs").filter(|count| *count > 1);
    part.grace = number("stopwaitsecs").and_then(|seconds| u64::try_from(seconds).ok());
    let signal = section.get("stopsignal");
    part.signal = signal.map(|(signal, _)| signal.trim_start_matches("SIG").to_owned());
}

fn rest(sketch: &mut Sketch, file: &File, section: &Section, name: &str) {
    for (key, value, line) in &section.entries {
        let why = match key.as_str() {
            "user" => "services run as a user of their environment",
            "priority" => "`needs` says what starts first",
            "autostart" if value == "false" => "what is in the manifest runs",
            "numprocs" | "autorestart" | "stopsignal" | "stopwaitsecs" if value.contains("%(") => {
                "nothing here says what it is filled in with"
            }
            "umask" | "serverurl" | "socket" => "there is no key for it",
            key if key.starts_with("stdout_")
                || key.starts_with("stderr_")
                || key == "redirect_stderr" =>
            {
                continue;
            }
            _ => continue,
        };
        let text = format!("`{key}` of `{name}`: {why}");
        sketch.findings.leave(&file.at(*line), text);
    }
}

/// `A="1",B=2`, each with its line.
fn environment((text, first): (&str, usize)) -> Vec<(String, String, usize)> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut line = first;
    while let Some((name, after)) = rest.split_once('=') {
        line += name.matches('\n').count();
        let name = name.trim_matches(|c: char| c.is_whitespace() || c == ',');
        let after = after.trim_start_matches([' ', '\t']);
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, left) = match quote {
            Some(quote) => after[1..].split_once(quote).unwrap_or((&after[1..], "")),
            None => {
                let end = after.find([',', '\n']).unwrap_or(after.len());
                after.split_at(end)
            }
        };
        found.push((name.to_owned(), value.trim().to_owned(), line));
        line += value.matches('\n').count();
        rest = left;
    }
    found.retain(|(name, _, _)| crate::manifest::form::is_variable(name));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_supervisord_fills_in() {
        let known = |name: &str| (name == "here").then(|| "etc".to_owned());
        let expected = "etc/run 100% %d".to_owned();
        assert_eq!(filled("%(here)s/run 100%% %d", known), Ok(expected));
        assert!(filled("w %(process_num)02d", known).is_err());
        assert!(filled("w %(here)d", known).is_err());
        for (dir, to, way) in [
            (".", ".", "."),
            (".", "etc", "etc"),
            ("app", "etc", "../etc"),
            ("a/b", "a", ".."),
            ("a", "a", "."),
        ] {
            assert_eq!(from(dir, to), way, "{dir} {to}");
        }
    }

    #[test]
    fn variables_in_one_line_and_in_several() {
        let found = environment(("\nA=\"x,y\",\nB=2,C='3'", 4));
        let found: Vec<_> = found
            .iter()
            .map(|(a, b, c)| (a.as_str(), b.as_str(), *c))
            .collect();
        assert_eq!(found, [("A", "x,y", 5), ("B", "2", 6), ("C", "3", 6)]);
    }
}
