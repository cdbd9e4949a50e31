//! What several files say in the same words: requests as probes, lengths of time, names of workers.

use super::sketch::{Part, Probe, Role};

/// A request in a command of `curl` or `wget` is a request; anything else is a command.
pub fn probe(line: &str) -> Probe {
    let asks = ["curl", "wget", "http.get", "urlopen", "fetch("];
    if asks.iter().any(|program| line.contains(program))
        && let Some(at) = line.find("://")
    {
        let rest = &line[at + 3..];
        let end = rest.find(|c: char| c.is_whitespace() || "\"'|&;)`".contains(c));
        let rest = &rest[..end.unwrap_or(rest.len())];
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        return Probe::Http(path.to_owned());
    }
    Probe::Exec(line.to_owned())
}

/// `1m30s`, `10s`, `500ms`, in seconds, rounded up.
pub fn seconds(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut rest = text.trim();
    if let Ok(plain) = rest.parse::<u64>() {
        return Some(plain);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let factor = match &rest[..end] {
            "ms" => {
                total = total.checked_add(number.div_ceil(1000))?;
                rest = &rest[end..];
                continue;
            }
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[end..];
    }
    Some(total)
}

/// Whether a service of this name serves no requests.
pub fn is_worker_name(name: &str) -> bool {
    const WORDS: [&str; 12] = [
        "worker",
        "workers",
        "queue",
        "celery",
        "beat",
        "scheduler",
        "cron",
        "sidekiq",
        "consumer",
        "jobs",
        "clock",
        "job",
    ];
    name.split(['-', '_', '.'])
        .any(|part| WORDS.contains(&part))
}

/// What it is, if the file leaves no doubt.
pub fn role_of(part: &Part) -> Role {
    let silent = part.port.is_none() && part.published.is_empty();
    match part.role {
        Some(role) => role,
        None if is_worker_name(&part.name) && part.published.is_empty() => Role::Worker,
        None if matches!(&part.ready, Some(ready) if matches!(ready.probe, Probe::Http(_))) => {
            Role::Web
        }
        None if silent => Role::Worker,
        None => Role::Web,
    }
}
