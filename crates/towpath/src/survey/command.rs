//! Commands: from lists of words to a line for the shell, and from a port of their own to the one that is given.

/// Modules whose programs are started as `python3 -m`.
const MODULES: [&str; 12] = [
    "uvicorn",
    "gunicorn",
    "celery",
    "flask",
    "hypercorn",
    "daphne",
    "alembic",
    "streamlit",
    "fastapi",
    "waitress",
    "dramatiq",
    "huey",
];

/// Words as one line for the shell.
pub fn line(words: &[&str]) -> String {
    match words {
        // `["sh", "-c", "line"]` is the line.
        [shell, flag, line] if is_shell(shell) && is_flag(flag) => (*line).to_owned(),
        _ => {
            let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
            words.join(" ")
        }
    }
}

/// Whether a word is a shell.
pub fn is_shell(word: &str) -> bool {
    matches!(
        word.rsplit('/').next().unwrap_or_default(),
        "sh" | "bash" | "ash" | "dash"
    )
}

/// Whether it is what has a shell take its next word for a line: `-c`.
pub fn is_flag(word: &str) -> bool {
    word.starts_with('-') && word.ends_with('c') && word.len() <= 5
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%$~".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A command of a web, listening where it is told to: `$HOST` and `$PORT` for an address of its own.
pub fn on_given_port(command: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut before = String::new();
    for word in command.split(' ') {
        let is_first = words.iter().all(|word| word == "env");
        if !(is_first && is_own_port(word)) {
            words.push(given(word, &before));
        }
        before = word.to_owned();
    }
    words.join(" ")
}

/// `PORT=3000 node x`: the port is given now.
fn is_own_port(word: &str) -> bool {
    let set = word.split_once('=');
    set.is_some_and(|(name, value)| {
        matches!(name, "PORT" | "HOST" | "HOSTNAME") && !value.is_empty()
    })
}

fn given(word: &str, before: &str) -> String {
    const PORTS: [&str; 7] = [
        "--port",
        "-p",
        "--http-port",
        "--server.port",
        "-port",
        "--server-port",
        "-P",
    ];
    const HOSTS: [&str; 7] = [
        "--host",
        "-H",
        "--hostname",
        "--address",
        "--server.address",
        "-host",
        "--ip",
    ];
    if PORTS.contains(&before) && is_port(word) {
        return "$PORT".to_owned();
    }
    if HOSTS.contains(&before) && is_any(word) {
        return "$HOST".to_owned();
    }
    if let Some((flag, value)) = word.split_once('=')
        && flag.starts_with('-')
    {
        if PORTS.contains(&flag) && is_port(value) {
            return format!("{flag}=$PORT");
        }
        if HOSTS.contains(&flag) && is_any(value) {
            return format!("{flag}=$HOST");
        }
        return format!("{flag}={}", address(value));
    }
    if let Some(rest) = word.strip_prefix("-b").filter(|rest| !rest.is_empty()) {
        return format!("-b{}", address(rest));
    }
    let binds = [
        "-b", "--bind", "--listen", "-l", "--http", "--addr", "-addr",
    ];
    match binds.contains(&before) || is_any(word.rsplit_once(':').map_or("", |(host, _)| host)) {
        true => address(word),
        false => word.to_owned(),
    }
}

/// `0.0.0.0:8000`, `:8000`, `tcp://0.0.0.0:8000`.
fn address(word: &str) -> String {
    let (scheme, rest) = match word.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), word),
    };
    match rest.rsplit_once(':') {
        Some((host, port)) if is_port(port) && (host.is_empty() || is_any(host)) => {
            format!("{scheme}$HOST:$PORT")
        }
        _ => word.to_owned(),
    }
}

fn is_any(host: &str) -> bool {
    let host = host.rsplit_once("//").map_or(host, |(_, host)| host);
    matches!(
        host.trim_matches(['"', '\'']),
        "0.0.0.0" | "[::]" | "::" | "*" | "127.0.0.1" | "localhost" | "$HOST" | "${HOST}"
    )
}

fn is_port(word: &str) -> bool {
    let word = word.trim_matches(['"', '\'']);
    let default = word
        .strip_prefix("${PORT:-")
        .or(word.strip_prefix("${PORT-"));
    let word = default.map_or(word, |rest| rest.trim_end_matches('}'));
    matches!(word, "$PORT" | "${PORT}") || word.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A line whose programs of Python packages are started as `python3` finds them: beside the code.
pub fn by_python(command: &str) -> String {
    let lines: Vec<_> = command.split('\n').map(line_by_python).collect();
    lines.join("\n")
}

fn line_by_python(line: &str) -> String {
    let mut is_program = true;
    let words = line.split(' ').map(|word| {
        let word = match is_program {
            true => module(word),
            false => word.to_owned(),
        };
        is_program = begins_step(&word, is_program);
        word
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether the word behind this one is a program.
fn begins_step(word: &str, was_program: bool) -> bool {
    const BEFORE: [&str; 8] = ["&&", "||", "|", ";", "then", "else", "do", "exec"];
    let sets = word
        .split_once('=')
        .is_some_and(|(name, _)| crate::manifest::form::is_variable(name));
    BEFORE.contains(&word) || word.ends_with(';') || (was_program && (sets || word.is_empty()))
}

fn module(word: &str) -> String {
    // A virtual environment's programs are where it was made.
    let name = match word.contains("venv/bin/") || word.starts_with("/usr/local/bin/") {
        true => word.rsplit('/').next().unwrap_or(word),
        false => word,
    };
    match name {
        "python" | "python3" => "python3".to_owned(),
        _ if MODULES.contains(&name) => format!("python3 -m {name}"),
        _ => word.to_owned(),
    }
}

/// The names of the programs that a line runs.
pub fn programs(command: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let lines = command.lines().map(str::trim_start);
    for line in lines.filter(|line| !line.starts_with('#')) {
        let mut is_program = true;
        for word in line.split_whitespace() {
            let is_step = begins_step(word, is_program);
            if is_program && !is_step {
                found.extend(word.rsplit('/').next());
            }
            is_program = is_step;
        }
    }
    found
}

/// The language of a line's programs, as far as they tell.
pub fn is_of_python(command: &str) -> bool {
    let is_python = |name: &&str| name.starts_with("python") || MODULES.contains(name);
    programs(command).iter().any(is_python)
}

/// Whether a command is one for development.
pub fn is_dev(command: &str) -> bool {
    let marks = [
        "--reload",
        "--watch",
        " watch",
        "nodemon",
        "runserver",
        "run dev",
        ":dev",
        "next dev",
        "air ",
        "cargo watch",
        "yarn dev",
        "pnpm dev",
        "bun dev",
        "--debug",
        "ts-node-dev",
        "watchmedo",
        "watchfiles",
        "start:dev",
        "run start-dev",
        "rails s",
        "vite dev",
    ];
    marks.iter().any(|mark| command.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_a_line() {
        assert_eq!(line(&["node", "server.js"]), "node server.js");
        assert_eq!(line(&["sh", "-c", "a && b"]), "a && b");
        assert_eq!(line(&["echo", "it's"]), r"echo 'it'\''s'");
    }

    #[test]
    fn programs_of_python_are_found_beside_the_code() {
        for (before, after) in [
            ("/opt/venv/bin/uvicorn m:a", "python3 -m uvicorn m:a"),
            (
                "alembic upgrade head && python m.py",
                "python3 -m alembic upgrade head && python3 m.py",
            ),
            (
                "A=1 exec celery -A x worker",
                "A=1 exec python3 -m celery -A x worker",
            ),
            ("echo celery", "echo celery"),
        ] {
            assert_eq!(by_python(before), after);
        }
        assert_eq!(
            programs("if [ a ]; then B=1; fi; /usr/sbin/nginx -g x"),
            ["if", "nginx"]
        );
        assert_eq!(
            programs("mkdir -p x && exec redis-server"),
            ["mkdir", "redis-server"]
        );
        assert_eq!(programs("A=1\n# start it\n  postgres -D x"), ["postgres"]);
    }

    #[test]
    fn the_port_is_the_one_that_is_given() {
        for (before, after) in [
            (
                "uvicorn m:a --host 0.0.0.0 --port 8000",
                "uvicorn m:a --host $HOST --port $PORT",
            ),
            ("gunicorn -b 0.0.0.0:8000 m", "gunicorn -b $HOST:$PORT m"),
            ("gunicorn --bind=:8000 m", "gunicorn --bind=$HOST:$PORT m"),
            ("next start -p 3000", "next start -p $PORT"),
            ("PORT=3000 node x", "node x"),
            ("puma -b tcp://0.0.0.0:3000", "puma -b tcp://$HOST:$PORT"),
            ("x --port ${PORT:-8000}", "x --port $PORT"),
            (
                "python manage.py runserver 0.0.0.0:8000",
                "python manage.py runserver $HOST:$PORT",
            ),
            ("mkdir -p a && x", "mkdir -p a && x"),
            ("x --db h:5432", "x --db h:5432"),
        ] {
            assert_eq!(on_given_port(before), after);
        }
    }
}
