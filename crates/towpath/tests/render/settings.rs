// Written by `tow config render --format rust`: change `tow.toml` instead.
//! What the environment gives, typed: `Settings::read` says everything that is wrong at once.
#![allow(dead_code, non_snake_case)]

use std::time::Duration;

#[derive(Clone)]
pub struct Settings {
    /// number
    pub CREDITS: f64,
    /// url
    pub DSN: Option<String>,
    /// one of info, say "hi"
    pub LEVEL: String,
    /// largest upload * / of all (size)
    pub MAX_FILE_SIZE: u64,
    /// list
    pub ORIGINS: Vec<String>,
    /// url
    pub PUBLIC_URL: String,
    /// duration
    pub WAIT: Duration,
    /// integer
    pub WORKERS: i64,
    /// string
    pub class: String,
    /// boolean
    pub type_: bool,
}

fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = (text[..end].parse::<u64>().ok()?, text[end..].trim_start_matches(' '));
    if count == 0 && unit.is_empty() {
        return Some(0);
    }
    let (_, factor) = units.iter().find(|(known, _)| *known == unit)?;
    count.checked_mul(*factor)
}

fn duration(text: &str) -> Option<Duration> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    amount(text, &units).map(Duration::from_millis)
}

fn size(text: &str) -> Option<u64> {
    let units = [
        ("B", 1),
        ("KB", 1_000),
        ("KiB", 1 << 10),
        ("MB", 1_000_000),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("GiB", 1 << 30),
    ];
    amount(text, &units)
}

fn plain(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn url(text: &str) -> Option<String> {
    text.contains("://").then(|| text.to_owned())
}

fn one_of(text: &str, words: &[&str]) -> Option<String> {
    words.contains(&text).then(|| text.to_owned())
}

fn items(text: &str) -> Option<Vec<String>> {
    let items = text.split(',').filter(|_| !text.is_empty());
    Some(items.map(str::to_owned).collect())
}

fn read<T>(
    source: &dyn Fn(&str) -> Option<String>,
    wrong: &mut Vec<String>,
    (name, always): (&str, bool),
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let Some(text) = source(name) else {
        if always {
            wrong.push(format!("{name} is missing"));
        }
        return None;
    };
    let value = parse(&text);
    if value.is_none() {
        wrong.push(format!("{name} is of the wrong form"));
    }
    value
}

impl Settings {
    /// Reads what `source` gives under each name: `|name| std::env::var(name).ok()`.
    pub fn read(source: &dyn Fn(&str) -> Option<String>) -> Result<Settings, Vec<String>> {
        let mut wrong = Vec::new();
        let v_CREDITS = read(source, &mut wrong, ("CREDITS", true), |text| text.parse::<f64>().ok().filter(|number| number.is_finite()));
        let v_DSN = read(source, &mut wrong, ("DSN", false), url);
        let v_LEVEL = read(source, &mut wrong, ("LEVEL", true), |text| one_of(text, &["info", "say \"hi\""]));
        let v_MAX_FILE_SIZE = read(source, &mut wrong, ("MAX_FILE_SIZE", true), size);
        let v_ORIGINS = read(source, &mut wrong, ("ORIGINS", true), items);
        let v_PUBLIC_URL = read(source, &mut wrong, ("PUBLIC_URL", true), url);
        let v_WAIT = read(source, &mut wrong, ("WAIT", true), duration);
        let v_WORKERS = read(source, &mut wrong, ("WORKERS", true), |text| text.parse::<i64>().ok());
        let v_class = read(source, &mut wrong, ("class", true), plain);
        let v_type = read(source, &mut wrong, ("type", true), |text| text.parse::<bool>().ok());
        match (wrong.is_empty(), v_CREDITS, v_LEVEL, v_MAX_FILE_SIZE, v_ORIGINS, v_PUBLIC_URL, v_WAIT, v_WORKERS, v_class, v_type,) {
            (true, Some(v_CREDITS), Some(v_LEVEL), Some(v_MAX_FILE_SIZE), Some(v_ORIGINS), Some(v_PUBLIC_URL), Some(v_WAIT), Some(v_WORKERS), Some(v_class), Some(v_type),) => Ok(Settings {
                CREDITS: v_CREDITS,
                DSN: v_DSN,
                LEVEL: v_LEVEL,
                MAX_FILE_SIZE: v_MAX_FILE_SIZE,
                ORIGINS: v_ORIGINS,
                PUBLIC_URL: v_PUBLIC_URL,
                WAIT: v_WAIT,
                WORKERS: v_WORKERS,
                class: v_class,
                type_: v_type,
            }),
            _ => Err(wrong),
        }
    }
}
