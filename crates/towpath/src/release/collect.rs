//! Removing what no way back needs any more.
//!
//! Needed are the files of what serves and of what is warm, of the last releases that served, and of
//! the newest, as many as `keep` says. What is not needed is first renamed, all of it at once while
//! no run is under way, and removed afterwards: whoever looks for a build finds all of it or none,
//! and what a SIGKILL leaves is removed the next time. The records of releases stay.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::world::state_trouble;
use super::{Environment, Record, World, carried};
use crate::build;
use crate::diagnostic::Diagnostic;
use crate::id::{ReleaseId, RunId};
use crate::manifest::Manifest;

/// What a thing is renamed to before it is removed.
const DOOMED: &str = ".gc-";
/// As `keep` says by default.
const KEEP: usize = 5;
/// Folders in folders that are looked into.
const LEVELS: u32 = 250;
/// Longest wait for a removal: a folder of dependencies takes minutes, and nobody needs to stand by.
const CLEARED: Duration = Duration::from_secs(2);
/// The folder of blobs that are still coming in.
const PARTS: &str = "partial";

/// Something that is not needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// `build`, `blob`, `backup`.
    pub kind: String,
    /// Its name in its folder.
    pub name: String,
    /// What it takes on the disk, bytes.
    pub bytes: u64,
}

/// What was, or would be, removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Each of it.
    pub removed: Vec<Garbage>,
    /// All of it together, bytes.
    pub freed_bytes: u64,
    /// Releases whose files stay.
    pub kept: Vec<ReleaseId>,
}

/// What is needed, by name.
struct Needed {
    releases: BTreeSet<ReleaseId>,
    builds: BTreeSet<String>,
    blobs: BTreeSet<String>,
    backups: BTreeSet<RunId>,
}

/// What is not needed now. Blocking; only while no run is under way, nor can begin.
///
/// # Errors
/// When a run is open, or a record cannot be read: then nobody knows what is needed.
pub fn garbage(world: &World) -> Result<Collected, Diagnostic> {
    let now = world.environment()?;
    if now.open.is_some() {
        return Err(Diagnostic::error("gc::busy", "a run is under way").note("nothing was removed"));
    }
    let needed = needed(world, &now)?;
    let is_garbage = |kind: &str, path: &Path, name: &str| match kind {
        _ if name.starts_with(DOOMED) => true,
        "build" => !needed.builds.contains(name),
        // What is still coming in has an age of its own.
        "blob" if name == PARTS => false,
        "blob" => !needed.blobs.contains(name) && !world.blobs.is_fresh(path),
        _ => run_of(name).is_some_and(|run| !needed.backups.contains(&run)),
    };
    let mut removed = Vec::new();
    for (kind, folder) in folders(world) {
        for path in entries(&folder) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if is_garbage(kind, &path, &name) {
                removed.push(Garbage {
                    kind: kind.to_owned(),
                    bytes: size(&path, LEVELS),
                    name: name.into_owned(),
                });
            }
        }
    }
    Ok(Collected {
        freed_bytes: removed.iter().map(|one| one.bytes).sum(),
        removed,
        kept: needed.releases.into_iter().collect(),
    })
}

/// What the whole blobs weigh that belong to no release, bytes.
///
/// # Errors
/// When a record cannot be read.
pub fn of_no_release(world: &World) -> Result<u64, Diagnostic> {
    let mut needed = BTreeSet::new();
    for (_, record) in records(world)? {
        needed.insert(record.tree);
        needed.extend(carried(&record, &world.environment));
    }
    Ok(world.blobs.unneeded(&needed))
}

/// Takes it out of the way, in no time; gives what is to be removed. What cannot be renamed stays.
#[must_use]
pub fn doom(world: &World, collected: &Collected) -> Vec<PathBuf> {
    let places = folders(world);
    let doomed = collected.removed.iter().filter_map(|one| {
        let (_, folder) = places.iter().find(|(kind, _)| *kind == one.kind)?;
        let path = folder.join(&one.name);
        if one.name.starts_with(DOOMED) {
            return Some(path);
        }
        let beside = folder.join(format!("{DOOMED}{}", one.name));
        std::fs::rename(&path, &beside).ok().map(|()| beside)
    });
    doomed.collect()
}

/// Removes what was taken out of the way. Blocking, for as long as the disk takes.
///
/// # Errors
/// From the file system, at the first that cannot be removed.
pub fn remove(doomed: &[PathBuf]) -> std::io::Result<()> {
    for path in doomed {
        build::remove(path)?;
    }
    Ok(())
}

/// Clears a folder of builds away, however much is in it: it is out of the way at once, and what is not removed soon is
/// removed in the background. What is left of it when the agent is killed goes with the next garbage.
///
/// # Errors
/// When it can neither be renamed nor removed.
pub(super) fn clear(path: &Path) -> std::io::Result<()> {
    let aside = match aside(path) {
        Ok(None) => return Ok(()),
        Ok(Some(aside)) => aside,
        Err(_) => return build::remove(path),
    };
    let (done, ends) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = build::remove(&aside);
        let _ = done.send(());
    });
    let _ = ends.recv_timeout(CLEARED);
    Ok(())
}

/// Renames it to a name that is nobody's; `None` when it is not there.
fn aside(path: &Path) -> std::io::Result<Option<PathBuf>> {
    use std::io::ErrorKind::{DirectoryNotEmpty, NotADirectory, NotFound};
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut number = 0;
    loop {
        let aside = path.with_file_name(format!("{DOOMED}{name}-{number}"));
        match std::fs::rename(path, &aside) {
            Ok(()) => return Ok(Some(aside)),
            Err(error) if error.kind() == NotFound => return Ok(None),
            // One that was set aside before is still there.
            Err(error) if matches!(error.kind(), DirectoryNotEmpty | NotADirectory) => number += 1,
            Err(error) => return Err(error),
        }
    }
}

fn folders(world: &World) -> [(&'static str, PathBuf); 3] {
    let folders = [
        ("build", "builds"),
        ("blob", "blobs"),
        ("backup", "backups"),
    ];
    folders.map(|(kind, name)| (kind, world.state().join(name)))
}

fn records(world: &World) -> Result<Vec<(ReleaseId, Record)>, Diagnostic> {
    let stored = world.store.releases().map_err(state_trouble)?;
    let records = stored.iter().map(|one| {
        let record = serde_json::from_str::<Record>(&one.record);
        record.map(|record| (one.id, record)).map_err(|error| {
            Diagnostic::error(
                "release::unreadable",
                format!("the record of {}: {error}", one.id),
            )
            .note("nothing was removed")
        })
    });
    records.collect()
}

fn needed(world: &World, now: &Environment) -> Result<Needed, Diagnostic> {
    let records = records(world)?;
    // Less than two would leave no way back once the window is over.
    let keep = keep(world, now, &records).max(2);
    let releases = releases(now, &records, keep);
    let kept = records.iter().filter(|(id, _)| releases.contains(id));
    let (mut builds, mut blobs) = (BTreeSet::new(), BTreeSet::new());
    for (_, record) in kept {
        let folder = build::folder(&world.state(), record.build);
        builds.extend(
            folder
                .file_name()
                .map(|name| name.to_string_lossy().into_owned()),
        );
        let carried = carried(record, &world.environment);
        blobs.extend(carried.iter().map(ToString::to_string));
        blobs.insert(record.tree.to_string());
    }
    let running = now
        .live
        .iter()
        .chain(now.warm.iter().map(|warm| &warm.version));
    builds.extend(running.filter_map(|version| {
        let folder = version
            .root
            .strip_prefix(world.state().join("builds"))
            .ok()?;
        let first = folder.components().next()?;
        Some(first.as_os_str().to_string_lossy().into_owned())
    }));
    let backups = backups(world, now, &releases, keep);
    Ok(Needed {
        releases,
        builds,
        blobs,
        backups,
    })
}

/// What serves, what is warm, the last that served, the newest.
fn releases(
    now: &Environment,
    records: &[(ReleaseId, Record)],
    keep: usize,
) -> BTreeSet<ReleaseId> {
    let running = now
        .live
        .iter()
        .chain(now.warm.iter().map(|warm| &warm.version));
    let mut kept: BTreeSet<ReleaseId> = running.filter_map(|version| version.release).collect();
    let mut served = BTreeSet::new();
    for release in now.history.iter().rev() {
        if served.len() < keep {
            served.insert(*release);
        }
    }
    kept.extend(served);
    // One that was carried here, or whose deployment failed, may be wanted next.
    kept.extend(records.iter().rev().take(keep).map(|(id, _)| *id));
    kept
}

/// Runs whose backups stay: those that brought in a release that stays, and the last.
fn backups(
    world: &World,
    now: &Environment,
    releases: &BTreeSet<ReleaseId>,
    keep: usize,
) -> BTreeSet<RunId> {
    let of_release = now.ended.iter().filter(|ended| {
        ended
            .release
            .is_some_and(|release| releases.contains(&release))
    });
    let mut kept: BTreeSet<RunId> = of_release.map(|ended| ended.run).collect();
    let folder = world.state().join("backups");
    let all: BTreeSet<RunId> = entries(&folder)
        .iter()
        .filter_map(|path| run_of(&path.file_name()?.to_string_lossy()))
        .collect();
    kept.extend(all.into_iter().rev().take(keep));
    kept
}

/// As the manifest of what serves says, or of the last that did.
fn keep(world: &World, now: &Environment, records: &[(ReleaseId, Record)]) -> usize {
    let last = now.history.last();
    let record = records.iter().find(|(id, _)| Some(id) == last);
    let text = match &now.live {
        Some(live) => Some(live.manifest.as_str()),
        None => record.map(|(_, record)| record.manifest.as_str()),
    };
    let manifest = text.and_then(|text| Manifest::parse("tow.toml", text).ok());
    let config =
        manifest.and_then(|manifest| crate::config::resolve(&manifest, &world.environment).ok());
    config.map_or(KEEP, |config| usize::try_from(config.keep).unwrap_or(KEEP))
}

/// `d7-db.db` is of `d7`.
fn run_of(backup: &str) -> Option<RunId> {
    backup.split_once('-')?.0.parse().ok()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// What it takes on the disk; links are not followed, and what lies deeper than any build may is not
/// counted.
fn size(path: &Path, levels: u32) -> u64 {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    let below = match found.is_dir() && levels > 0 {
        true => entries(path)
            .iter()
            .map(|path| size(path, levels - 1))
            .sum(),
        false => 0,
    };
    below + found.blocks() * 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cleared_away_is_gone_at_once_and_whatever_was_left_before_is_in_nobodys_way() {
        let dir = std::env::temp_dir().join(format!("tow-clear-{}", std::process::id()));
        let (build, left) = (dir.join("b1"), dir.join(".gc-b1-0"));
        for folder in [build.join("deep/er"), left.join("of-a-killed-agent")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let aside = aside(&build).unwrap().unwrap();
        assert!(!build.exists() && aside.join("deep/er").is_dir());
        assert!(
            aside
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(DOOMED)
        );
        assert!(left.join("of-a-killed-agent").is_dir());
        clear(&build).unwrap();
        std::fs::create_dir_all(build.join("deep")).unwrap();
        clear(&build).unwrap();
        assert!(!build.exists());
        // Several may remove the same.
        let removals = [(); 4].map(|()| {
            let dir = dir.clone();
            std::thread::spawn(move || build::remove(&dir))
        });
        let _ = removals.map(|removal| removal.join().unwrap());
        build::remove(&dir).unwrap();
        assert!(!dir.exists());
    }
}
