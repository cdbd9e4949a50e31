//! A small application that deployments are tested with: `app web` and `app worker`.
//!
//! What it is to do stands in files of its folder: `version`, and `mode` and `worker-mode`, which
//! name a fault. What it writes goes to the folder `$DATA`, which all versions share.

#![allow(clippy::print_stdout)] // its output is what is tested

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often a worker shows that it works.
const TICK: Duration = Duration::from_millis(20);

fn main() -> std::io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("worker") => worker(),
        _ => web(),
    }
}

fn data(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("DATA").unwrap_or_default()).join(name)
}

fn word(file: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.trim().to_owned()
}

fn append(name: &str) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(data(name))
}

/// One line, in one write, so that lines of two workers do not mix.
fn line(file: &mut File, text: &str) -> std::io::Result<()> {
    file.write_all(format!("{text}\n").as_bytes())
}

fn worker() -> std::io::Result<()> {
    let (pid, version) = (std::process::id(), word("version"));
    // A version can be made to fail after it was deployed: then only a file in the data says so.
    if word("worker-mode") == "die" || data(&format!("worker-dies-{version}")).exists() {
        return Err(std::io::Error::other("no such queue: reminders"));
    }
    let mut file = append("worker")?;
    line(&mut file, &format!("start {pid} {version}"))?;
    println!("works on {version}");
    loop {
        std::thread::sleep(TICK);
        line(&mut file, &format!("tick {pid}"))?;
    }
}

struct Web {
    version: String,
    mode: String,
    writes: Mutex<File>,
}

fn web() -> std::io::Result<()> {
    let mode = word("mode");
    if mode == "flood-log" {
        flood();
    }
    let port = std::env::var("PORT").unwrap_or_default();
    let host = std::env::var("HOST").unwrap_or("127.0.0.1".to_owned());
    let listener = TcpListener::bind(format!("{host}:{port}"))?;
    println!("listens on {port}");
    if std::env::var_os("KEY").is_some() {
        println!("the key is {}", key());
    }
    let web = Arc::new(Web {
        version: word("version"),
        mode,
        writes: Mutex::new(append("writes")?),
    });
    for stream in listener.incoming().flatten() {
        let web = Arc::clone(&web);
        std::thread::spawn(move || converse(&web, stream));
    }
    Ok(())
}

/// What it was given of a secret `KEY`: its value, and the one before.
fn key() -> String {
    let value = |name| std::env::var(name).unwrap_or_default();
    format!("{} {}", value("KEY"), value("KEY_PREVIOUS"))
}

/// Sixteen megabytes of it.
fn flood() {
    let text = "a".repeat(1023);
    (0..16 * 1024).for_each(|_| println!("{text}"));
}

/// Requests of one connection, until it is closed or nonsense comes.
fn converse(web: &Web, mut stream: TcpStream) -> Option<()> {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let asked = request(&mut reader)?;
        let (status, text) = answer(web, &asked.method, &asked.path, &asked.body);
        let length = text.len();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\ncontent-type: text/plain\r\n\r\n"
        );
        stream.write_all((head + &text).as_bytes()).ok()?;
        if asked.is_last {
            return None;
        }
    }
}

struct Asked {
    method: String,
    path: String,
    body: String,
    is_last: bool,
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut length, mut is_last) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        is_last |= header == "connection: close";
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        body: String::from_utf8(body).ok()?,
        is_last,
    })
}

fn answer(web: &Web, method: &str, path: &str, body: &str) -> (u16, String) {
    match (method, path) {
        ("GET", "/health") if web.mode == "never-ready" => {
            (503, "database: connection refused".to_owned())
        }
        ("GET", "/health") => (200, "well".to_owned()),
        ("GET", "/version") => (200, web.version.clone()),
        ("GET", "/count") => (200, lines().to_string()),
        ("GET", "/key") => (200, key()),
        ("GET", "/workers") => (200, workers()),
        ("GET", path) if path.starts_with("/write/") => found(&path["/write/".len()..]),
        ("POST", "/write") => match write(web, body) {
            Ok(()) => (201, String::new()),
            Err(error) => (500, error.to_string()),
        },
        _ => match path.strip_prefix("/slow?ms=").map(str::parse) {
            Some(Ok(ms)) => {
                std::thread::sleep(Duration::from_millis(ms));
                (200, "slow".to_owned())
            }
            _ => (404, String::new()),
        },
    }
}

/// Synced before it is acknowledged.
fn write(web: &Web, id: &str) -> std::io::Result<()> {
    let mut file = web
        .writes
        .lock()
        .map_err(|_| std::io::Error::other("poisoned"))?;
    line(&mut file, id)?;
    file.sync_data()
}

/// How often a write is there.
fn found(id: &str) -> (u16, String) {
    let text = std::fs::read_to_string(data("writes")).unwrap_or_default();
    match text.lines().filter(|line| *line == id).count() {
        0 => (404, String::new()),
        count => (200, format!("{{\"count\": {count}}}")),
    }
}

/// How many workers there were, and how many of them worked while a later one did.
fn workers() -> String {
    let text = std::fs::read_to_string(data("worker")).unwrap_or_default();
    let (mut now, mut starts, mut doubled) = ("", 0, BTreeSet::new());
    for line in text.lines() {
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("start"), Some(pid)) => (now, starts) = (pid, starts + 1),
            (Some("tick"), Some(pid)) if pid != now => drop(doubled.insert(pid)),
            _ => {}
        }
    }
    format!("{{\"doubled\": {}, \"all\": {starts}}}", doubled.len())
}

fn lines() -> usize {
    std::fs::read_to_string(data("writes"))
        .unwrap_or_default()
        .lines()
        .count()
}
