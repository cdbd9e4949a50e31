//! Tables and sentences.

use towpath::agent::api::{
    CertificateStatus, Component, InstanceStatus, JobStatus, ReleaseStatus, Status, TrafficStatus,
    Word,
};
use towpath::manifest::{LOCAL, Manifest};
use towpath::release::Phase;
use towpath::release::{Collected, Explained, ExplainedStep, Garbage};

use crate::place::Place;
use crate::{out, times};

/// A table of left-aligned columns, two spaces apart.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let columns = header.len();
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |cells: Vec<String>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head = line(header.iter().map(|cell| (*cell).to_owned()).collect());
    let body = rows.iter().map(|row| line(row.clone()));
    std::iter::once(head)
        .chain(body)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Which environment this is: its name first, in a colour that says how dear it is where colours are wanted.
pub fn place(place: &Place) -> String {
    let name = &place.environment;
    let name = match out::is_colourful() {
        true => format!("\u{1b}[1;{}m{name}\u{1b}[0m", colour(place)),
        false => name.clone(),
    };
    format!("{name} ({}, {})", place.app.name, place.whereabouts())
}

/// Green for the source tree, red where the way of a release ends, yellow for what lies between.
fn colour(place: &Place) -> u8 {
    let (manifest, _) = Manifest::read("tow.toml", &place.app.text);
    let promote = manifest
        .as_ref()
        .and_then(|manifest| manifest.get("promote"));
    let last = promote.and_then(|promote| promote.items().last()?.as_text());
    match place.environment.as_str() {
        LOCAL => 32,
        name if name == last.unwrap_or("production") => 31,
        _ => 33,
    }
}

/// One line of at most `width` characters; what is cut off is shown to be.
pub fn short(text: &str, width: usize) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= width {
        return line;
    }
    line.chars()
        .take(width.saturating_sub(3))
        .chain("...".chars())
        .collect()
}

/// What serves, what is warm, what is under way, and what to do.
pub fn status(status: &Status) -> String {
    let mut lines = vec![headline(status)];
    lines.extend(maintenance(status));
    lines.extend(services(status));
    lines.extend(resources(status));
    lines.extend(status.jobs.iter().map(job));
    lines.extend(status.certificates.iter().map(certificate));
    lines.extend(run(status));
    lines.extend(advice(status));
    lines.join("\n")
}

fn headline(status: &Status) -> String {
    let mut parts = vec![format!(
        "{} {}",
        status.environment,
        status.verdict.to_uppercase()
    )];
    if let Some(live) = &status.live {
        parts.push(format!("{} for {}", live.name, times::age(live.since_ms)));
    }
    if let Some(warm) = &status.warm {
        parts.push(format!(
            "{} warm for {}",
            warm.name,
            times::span(warm.left_ms.unwrap_or(0))
        ));
    }
    match (&status.https, &status.listen) {
        (Some(https), _) => parts.push(https.clone()),
        (None, Some(listen)) => parts.push(format!("http://{listen}")),
        _ => {}
    }
    parts.join("   ")
}

/// Nobody is served meanwhile, whatever is ready.
fn maintenance(status: &Status) -> Option<String> {
    let now = status.maintenance.as_ref()?;
    let says = now
        .message
        .as_ref()
        .map_or(String::new(), |text| format!(": {text:?}"));
    Some(format!(
        "  maintenance for {}, by {}{says}   tow maintenance off -e {}",
        times::age(now.since_ms),
        now.actor,
        status.environment
    ))
}

fn job(one: &JobStatus) -> String {
    let now = times::now_ms();
    let next = one.next_ms.map(|next| match u64::try_from(next - now) {
        Ok(left) => format!("next in {}", times::span(left)),
        Err(_) => "next now".to_owned(),
    });
    let running = (!one.running.is_empty()).then(|| format!("{} running", one.running.len()));
    let last = one.last.as_ref().map(|last| {
        let what = if last.good { "" } else { "warning: " };
        let (ago, took) = (times::ago(last.began_ms), times::span(last.took_ms));
        format!("{what}the last, {ago}, {} after {took}", last.how)
    });
    let skipped = (one.skipped > 0).then(|| format!("{} left out, as one still ran", one.skipped));
    let parts: Vec<String> = [running, next, last, skipped]
        .into_iter()
        .flatten()
        .collect();
    format!("  {}  {}", one.service, parts.join("; "))
}

fn certificate(one: &CertificateStatus) -> String {
    let now = times::now_ms();
    let left = |until: i64| u64::try_from(until - now).map(times::span);
    let until = match one.until_ms.map(left) {
        Some(Ok(left)) => format!("certificate good for {left}"),
        Some(Err(_)) => "certificate has expired".to_owned(),
        None => "no certificate".to_owned(),
    };
    let problem = one
        .problem
        .as_ref()
        .map(|text| format!("   warning: {text}"));
    let next = one.next_ms.map(|next| match left(next) {
        Ok(left) => format!("; next attempt in {left}"),
        Err(_) => "; next attempt now".to_owned(),
    });
    let more = problem.unwrap_or_default() + &next.unwrap_or_default();
    format!("  {}  {until}{more}", one.host)
}

fn services(status: &Status) -> Vec<String> {
    let live: Vec<&InstanceStatus> = status
        .instances
        .iter()
        .filter(|one| one.side == "live")
        .collect();
    let mut names: Vec<&String> = live.iter().map(|one| &one.service).collect();
    names.sort();
    names.dedup();
    let of = |name: &String| {
        let all: Vec<_> = live.iter().filter(|one| one.service == *name).collect();
        let ready = all.iter().filter(|one| one.state == "ready").count();
        let error = all
            .iter()
            .filter(|one| one.state != "ready")
            .find_map(|one| one.error.clone());
        let health = status.health.as_ref();
        let health = health.and_then(|health| health.components.get(name));
        let more = match health.filter(|one| one.status != Word::Healthy) {
            Some(component) => ill(component),
            None => error.unwrap_or_default(),
        };
        let traffic = status.traffic.get(name).map(traffic);
        let more: Vec<String> = [Some(more), traffic].into_iter().flatten().collect();
        let more = more.iter().filter(|part| !part.is_empty());
        let more = more.map(String::as_str).collect::<Vec<_>>().join("   ");
        format!("  {name}  {ready}/{} ready   {more}", all.len())
            .trim_end()
            .to_owned()
    };
    names.into_iter().map(of).collect()
}

/// The last minute: `12.5 requests/s, 0 errors/s, p50 3 ms, p95 12 ms`.
fn traffic(one: &TrafficStatus) -> String {
    let rate = |number: f64| match number {
        0.0 => "0".to_owned(),
        _ => format!("{number:.1}"),
    };
    format!(
        "{} requests/s, {} errors/s, p50 {:.0} ms, p95 {:.0} ms",
        rate(one.requests_per_second),
        rate(one.errors_per_second),
        one.p50_ms.ceil(),
        one.p95_ms.ceil()
    )
}

/// Resources, and the gateway where something is the matter with it.
fn resources(status: &Status) -> Vec<String> {
    let Some(health) = &status.health else {
        return Vec::new();
    };
    let resources = health.components.iter();
    let resources = resources.filter(|(_, one)| one.kind == "resource");
    let line = |name: &str, one: &Component| match one.status {
        Word::Healthy => format!("  {name}  {}", word(one.status)),
        _ => format!("  {name}  {}", ill(one)),
    };
    let gateway = Some(&health.gateway).filter(|one| one.status != Word::Healthy);
    resources
        .map(|(name, one)| line(name, one))
        .chain(gateway.map(|one| line("gateway", one)))
        .collect()
}

/// `unhealthy for 12 s, optional: PING at 127.0.0.1:6379: nothing listens there`.
fn ill(one: &Component) -> String {
    let (word, age) = (word(one.status), times::age(one.since_ms));
    let optional = if one.critical { "" } else { ", optional" };
    let error = one.error.as_deref().unwrap_or("no reason is shown here");
    format!("{word} for {age}{optional}: {}", short(error, 300))
}

/// The word, in a colour beside where colours are wanted.
fn word(word: Word) -> String {
    let colour = match word {
        Word::Healthy => 32,
        Word::Degraded => 33,
        Word::Unhealthy => 31,
    };
    match out::paints() {
        true => format!("\u{1b}[{colour}m{}\u{1b}[0m", word.text()),
        false => word.text().to_owned(),
    }
}

fn run(status: &Status) -> Vec<String> {
    let Some(run) = &status.run else {
        return Vec::new();
    };
    let step = run
        .step
        .clone()
        .map_or(String::new(), |step| format!(", at {step}"));
    let phase = serde_json::to_value(run.phase)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned));
    let mut lines = vec![format!(
        "  {}: {} by {}, {}, begun {}{step}",
        run.run,
        run.operation,
        run.actor,
        phase.unwrap_or_default(),
        times::ago(run.since_ms)
    )];
    if let Some(failure) = &run.failure {
        lines.push(format!("    {}", failure.message));
        if run.phase == Phase::Stuck {
            let notes = failure.notes.iter().flat_map(|note| note.lines());
            lines.extend(notes.map(|line| format!("      {line}")));
            lines.extend(failure.help.iter().map(|help| format!("    {help}")));
        }
    }
    lines
}

fn advice(status: &Status) -> Option<String> {
    let environment = &status.environment;
    match (&status.run, &status.warm, status.verdict.as_str()) {
        (Some(run), _, _) if run.phase == Phase::Stuck => Some(format!(
            "  tow cancel -e {environment}     # goes on, when what stands in its way is mended"
        )),
        (Some(_), _, _) => Some(format!(
            "  tow cancel -e {environment}     # undoes what is under way"
        )),
        (None, Some(warm), _) => Some(format!(
            "  tow rollback -e {environment}     # back to {}, warm: traffic turns at once",
            warm.name
        )),
        (None, None, "failing" | "degraded") => Some(format!("  tow logs -e {environment}")),
        _ => None,
    }
}

/// A plan: its steps with what each means for the way back, and where there is none any more.
pub fn explained(explained: &Explained) -> String {
    let row = |(number, step): (usize, &ExplainedStep)| {
        let class = match &step.loses {
            Some(what) => format!("loses {what}"),
            None => step.class.clone(),
        };
        vec![
            (number + 1).to_string(),
            step.step.clone(),
            class,
            step.undo.clone(),
        ]
    };
    let rows: Vec<_> = explained.steps.iter().enumerate().map(row).collect();
    let lines = explained.no_return.iter().cloned();
    let table = table(&["", "STEP", "CLASS", "UNDO"], &rows);
    std::iter::once(table)
        .chain(lines)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Instances, one a line.
pub fn instances(status: &Status) -> String {
    let row = |one: &InstanceStatus| {
        vec![
            one.id.to_string(),
            one.version.clone(),
            one.side.clone(),
            one.state.clone(),
            one.port.map_or("-".to_owned(), |port| port.to_string()),
            one.pid.map_or("-".to_owned(), |pid| pid.to_string()),
            one.restarts.to_string(),
            format!("{:.1} s", one.cpu_ms as f64 / 1000.0),
            times::bytes(one.rss_bytes),
            one.error.clone().unwrap_or_default(),
        ]
    };
    let header = [
        "INSTANCE", "VERSION", "SIDE", "STATE", "PORT", "PID", "RESTARTS", "CPU", "MEMORY", "",
    ];
    table(
        &header,
        &status.instances.iter().map(row).collect::<Vec<_>>(),
    )
}

/// Releases, newest first.
pub fn releases(releases: &[ReleaseStatus]) -> String {
    let row = |release: &ReleaseStatus| {
        vec![
            release.release.to_string(),
            release.state.clone(),
            times::ago(release.kept_ms),
            release.built_in.clone(),
            release.source.commit.chars().take(10).collect(),
            release.source.subject.clone(),
            release.digest.short(),
        ]
    };
    let header = [
        "RELEASE", "STATE", "KEPT", "BUILT IN", "COMMIT", "SUBJECT", "DIGEST",
    ];
    table(&header, &releases.iter().map(row).collect::<Vec<_>>())
}

/// What was removed, or would be, and how much that frees.
pub fn collected(collected: &Collected, dry_run: bool) -> String {
    let row = |one: &Garbage| vec![one.kind.clone(), one.name.clone(), times::bytes(one.bytes)];
    let kept: Vec<String> = collected.kept.iter().map(ToString::to_string).collect();
    let kept = match kept.is_empty() {
        true => "no release is here yet".to_owned(),
        false => format!("the files of {} stay", kept.join(", ")),
    };
    if collected.removed.is_empty() {
        return format!("nothing is there that is not needed; {kept}");
    }
    let rows: Vec<_> = collected.removed.iter().map(row).collect();
    let what = table(&["KIND", "NAME", "SIZE"], &rows);
    let verb = if dry_run { "would free" } else { "freed" };
    format!(
        "{what}\n{verb} {}; {kept}",
        times::bytes(collected.freed_bytes)
    )
}
