//! Logs of instances, as they are written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use tokio::sync::mpsc;

use super::answer::{Body, Failure, channel, line, unknown, wrong};
use super::api::LogLine;
use crate::diagnostic::{Diagnostic, closest};
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
    /// Where who followed before goes on.
    from: BTreeMap<InstanceId, Place>,
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
            ("from", value) => {
                let (instance, place) = value
                    .split_once('@')
                    .and_then(|(instance, place)| Some((instance, Place::parse(place)?)))
                    .ok_or_else(|| wrong(format!("`{value}` is no place in a log")))?;
                asked.from.insert(InstanceId(instance.to_owned()), place);
            }
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
        return Err(none(world, service, &logs));
    }
    let (sender, response) = channel();
    tokio::spawn(send(logs, asked, sender));
    Ok(response)
}

fn none(world: &World, service: &str, logs: &Path) -> Failure {
    let entries = std::fs::read_dir(logs).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> = folders
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let near = closest(service, names.iter().map(String::as_str));
    let near = near.map_or(String::new(), |name| format!("did you mean `{name}`? "));
    let text = format!("`{service}` has written no log in {}", world.environment);
    let help = match names.is_empty() {
        true => "nothing has written one there yet".to_owned(),
        false => format!("{near}there are logs of {}", names.join(", ")),
    };
    unknown(Diagnostic::error("logs::none", text).help(help))
}

async fn send(logs: PathBuf, asked: Asked, sender: mpsc::Sender<Bytes>) {
    // None when whoever asked has gone.
    let _ = send_all(&logs, &asked, &sender).await;
}

async fn send_all(logs: &Path, asked: &Asked, sender: &mpsc::Sender<Bytes>) -> Option<()> {
    let mut places = BTreeMap::new();
    match asked.from.is_empty() {
        true => first(logs, asked, sender, &mut places).await?,
        // A log that was not there yet is read from its beginning.
        false => {
            for (instance, path) in files(logs, asked.service.as_deref()) {
                let place = asked.from.get(&instance).cloned().unwrap_or_default();
                places.insert(path, place);
            }
        }
    }
    if !asked.follow {
        return Some(());
    }
    loop {
        for (instance, path) in files(logs, asked.service.as_deref()) {
            let place = places.entry(path.clone()).or_default();
            for (text, at) in grown(&path, place) {
                let line = line(&LogLine {
                    instance: instance.clone(),
                    line: text,
                    at: Some(at),
                    only_place: false,
                });
                sender.send(line).await.ok()?;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = sender.closed() => return None,
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
        // What is written in between is heard twice rather than not at all.
        let place = Place::end_of(&path);
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
        let line = line(&LogLine {
            instance,
            line: text,
            at: None,
            only_place: false,
        });
        sender.send(line).await.ok()?;
    }
    if !asked.follow {
        return Some(());
    }
    for (instance, path) in files(logs, asked.service.as_deref()) {
        let Some(place) = places.get(&path) else {
            continue;
        };
        let mark = line(&LogLine {
            instance,
            line: String::new(),
            at: Some(place.text(place.offset)),
            only_place: true,
        });
        sender.send(mark).await.ok()?;
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
#[derive(Debug, Clone, Default, PartialEq)]
struct Place {
    inode: u64,
    offset: u64,
    partial: Vec<u8>,
}

impl Place {
    fn parse(text: &str) -> Option<Place> {
        let (inode, offset) = text.split_once(':')?;
        Some(Place {
            inode: inode.parse().ok()?,
            offset: offset.parse().ok()?,
            partial: Vec::new(),
        })
    }

    fn text(&self, offset: u64) -> String {
        format!("{}:{offset}", self.inode)
    }

    /// Behind the last whole line.
    fn end_of(path: &Path) -> Place {
        const WINDOW: u64 = 64 * 1024;
        let Ok(mut file) = File::open(path) else {
            return Place::default();
        };
        let Ok(found) = file.metadata() else {
            return Place::default();
        };
        let start = found.len().saturating_sub(WINDOW);
        let mut bytes = Vec::new();
        let read = file
            .seek(SeekFrom::Start(start))
            .and_then(|_| file.take(WINDOW).read_to_end(&mut bytes));
        let end = bytes.iter().rposition(|byte| *byte == b'\n');
        Place {
            inode: found.ino(),
            offset: match (read, end) {
                (Ok(_), Some(end)) => start + end as u64 + 1,
                _ => start,
            },
            partial: Vec::new(),
        }
    }
}

/// Whole lines written since, each with the place behind it; a file that was rotated away is read
/// from its new beginning.
fn grown(path: &Path, place: &mut Place) -> Vec<(String, String)> {
    let Ok(mut file) = File::open(path) else {
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
    let mut offset = place.offset - place.partial.len() as u64;
    place.offset += bytes.len() as u64;
    place.partial.extend(bytes);
    let mut lines = Vec::new();
    while let Some(end) = place.partial.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = place.partial.drain(..=end).collect();
        offset += line.len() as u64;
        let text = String::from_utf8_lossy(&line[..end]).into_owned();
        lines.push((text, place.text(offset)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_on_at_a_place_hears_every_line_once() {
        let name = format!("towpath-logs-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "1 a\n2 b\nhalf").unwrap();
        let mut place = Place::end_of(&path);
        assert_eq!((place.offset, grown(&path, &mut place).len()), (8, 0));
        std::fs::write(&path, "1 a\n2 b\nhalf a line\n4 d\n5").unwrap();
        let heard = grown(&path, &mut place);
        let texts: Vec<&str> = heard.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["half a line", "4 d"]);
        let mut again = Place::parse(&heard[0].1).unwrap();
        let rest = grown(&path, &mut again);
        assert_eq!((rest.len(), rest[0].0.as_str()), (1, "4 d"));
        assert_eq!(Place::parse(&rest[0].1), Place::parse(&heard[1].1));
        std::fs::remove_file(path).unwrap();
    }
}
