//! Logs of instances, as they are written.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use tokio::sync::mpsc;

use super::answer::{Body, Failure, channel, line, wrong};
use super::api::LogLine;
use crate::id::InstanceId;
use crate::release::World;
use crate::supervise::tail;

/// Time between looks at files that grow.
const LOOK: Duration = Duration::from_millis(150);

/// What of the logs is asked for.
#[derive(Default)]
struct Asked {
    service: Option<String>,
    lines: usize,
    follow: bool,
}

fn parse(query: &str) -> Result<Asked, Failure> {
    let mut asked = Asked {
        lines: 100,
        ..Asked::default()
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("service", name) if is_name(name) => asked.service = Some(name.to_owned()),
            ("lines", number) => asked.lines = number.parse().map_err(wrong)?,
            ("follow", value) => asked.follow = value == "1",
            (key, value) => return Err(wrong(format!("`{key}={value}` is not understood"))),
        }
    }
    Ok(asked)
}

/// A name that is one folder below `logs`, and no way out of it.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

pub(super) fn answer(world: &Arc<World>, query: &str) -> Result<Response<Body>, Failure> {
    let asked = parse(query)?;
    let logs = world.state().join("logs");
    if let Some(service) = &asked.service
        && !logs.join(service).is_dir()
    {
        return Err(wrong(format!("`{service}` has written no log here")));
    }
    let (sender, response) = channel();
    tokio::spawn(send(logs, asked, sender));
    Ok(response)
}

async fn send(logs: PathBuf, asked: Asked, sender: mpsc::Sender<Bytes>) {
    let mut places = BTreeMap::new();
    if first(&logs, &asked, &sender, &mut places).await.is_none() {
        return;
    }
    if !asked.follow {
        return;
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = sender.closed() => return,
        }
        for (instance, path) in files(&logs, asked.service.as_deref()) {
            let place = places.entry(path.clone()).or_default();
            for text in grown(&path, place) {
                if sender
                    .send(line(&LogLine {
                        instance: instance.clone(),
                        line: text,
                    }))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    }
}

/// The last lines of all files together, by their times.
async fn first(
    logs: &Path,
    asked: &Asked,
    sender: &mpsc::Sender<Bytes>,
    places: &mut BTreeMap<PathBuf, Place>,
) -> Option<()> {
    let mut lines = Vec::new();
    for (instance, path) in files(logs, asked.service.as_deref()) {
        let mut place = Place::default();
        grown(&path, &mut place);
        lines.extend(
            tail(&path, asked.lines)
                .into_iter()
                .map(|text| (text, instance.clone())),
        );
        places.insert(path, place);
    }
    lines.sort_by(|a, b| a.0.split(' ').next().cmp(&b.0.split(' ').next()));
    let skip = lines.len().saturating_sub(asked.lines);
    for (text, instance) in lines.drain(skip..) {
        sender
            .send(line(&LogLine {
                instance,
                line: text,
            }))
            .await
            .ok()?;
    }
    Some(())
}

fn files(logs: &Path, service: Option<&str>) -> Vec<(InstanceId, PathBuf)> {
    let entries = |path: &Path| {
        std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    let folders = entries(logs).filter(|path| match service {
        Some(service) => path.file_name().is_some_and(|name| name == service),
        None => true,
    });
    let files = folders.flat_map(|folder| entries(&folder).collect::<Vec<_>>());
    let current = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    current
        .map(|path| {
            (
                InstanceId(
                    path.file_stem()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned(),
                ),
                path,
            )
        })
        .collect()
}

/// How far a file has been read.
#[derive(Default)]
struct Place {
    inode: u64,
    offset: u64,
    partial: Vec<u8>,
}

/// Whole lines written since; a file that was rotated away is read from its new beginning.
fn grown(path: &Path, place: &mut Place) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let Ok(mut file) = std::fs::File::open(path) else {
        return Vec::new();
    };
    let inode = file.metadata().map_or(0, |found| found.ino());
    if inode != place.inode {
        *place = Place {
            inode,
            ..Place::default()
        };
    }
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(place.offset)).is_err()
        || file.take(1 << 20).read_to_end(&mut bytes).is_err()
    {
        return Vec::new();
    }
    place.offset += bytes.len() as u64;
    place.partial.extend(bytes);
    let whole = place
        .partial
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let lines: Vec<u8> = place.partial.drain(..whole).collect();
    String::from_utf8_lossy(&lines)
        .lines()
        .map(str::to_owned)
        .collect()
}
