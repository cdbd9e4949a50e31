//! Getting the files of what is brought in, before anything is planned.

use std::path::{Path, PathBuf};

use super::collect;
use super::effect::builds;
use super::planner::Result;
use super::version::Seed;
use super::world::state_trouble;
use super::{Bring, Plan, Record, Refusal, World};
use crate::build::{self, Source};
use crate::diagnostic::Diagnostic;
use crate::id::{Digest, ReleaseId};

/// More than anybody writes, bytes.
const LONGEST_MANIFEST: u64 = 1 << 20;

/// The files of what is brought in, in their folder, and what they are. Blocking.
pub(super) struct Prepared {
    pub root: PathBuf,
    pub manifest: String,
    pub release: Option<ReleaseId>,
    pub seed: Option<Seed>,
    pub dev: bool,
}

/// Puts it there.
///
/// # Errors
/// [`Refusal`]; of a folder that was begun nothing is left then.
pub(super) fn prepare(world: &World, what: Bring) -> Result<Prepared> {
    match what {
        Bring::Tree { root, manifest } => Ok(Prepared {
            root,
            manifest,
            release: None,
            seed: None,
            dev: true,
        }),
        Bring::Archive { tree, source } => prepare_archive(world, tree, source),
        Bring::Release(id) => {
            let record = record(world, id)?;
            let root = build::folder(&world.state(), record.build);
            let gone = |digest: &Digest| !world.blobs.has_for_use(*digest);
            let artifacts = record.artifacts_in(&world.environment);
            if !build::is_built(&root) && artifacts.values().any(gone) {
                return Err(removed(world, id));
            }
            let unpacked = builds::unpack(&world.blobs, &artifacts, &root);
            unpacked.map_err(|error| {
                remove_unbuilt(&root);
                unpackable(&error, &format!("an artifact of {id}"))
            })?;
            Ok(Prepared {
                root,
                manifest: record.manifest,
                release: Some(id),
                seed: None,
                dev: false,
            })
        }
    }
}

pub(super) fn record(world: &World, id: ReleaseId) -> Result<Record> {
    let stored = world
        .store
        .release(id)
        .map_err(|error| Refusal::Failed(state_trouble(error)))?;
    let stored = stored.ok_or_else(|| {
        let text = format!("{} has no release {id}", world.environment);
        Refusal::Invalid(
            Diagnostic::error("release::unknown", text).help("`tow releases` lists them"),
        )
    })?;
    serde_json::from_str(&stored.record).map_err(|error| {
        Refusal::Invalid(Diagnostic::error(
            "release::unreadable",
            format!("the record of {id}: {error}"),
        ))
    })
}

fn prepare_archive(world: &World, tree: Digest, source: Source) -> Result<Prepared> {
    // The environment is part of it: a build may take in what differs from one to the next.
    let key = format!(
        "{tree}\n{}\n{}",
        world.environment,
        super::record::platform()
    );
    let build = Digest::of(key.as_bytes());
    let root = build::folder(&world.state(), build);
    let manifest = unpack(world, tree, &root).inspect_err(|_| remove_unbuilt(&root))?;
    let seed = Some(Seed {
        source,
        tree,
        build,
    });
    Ok(Prepared {
        root,
        manifest,
        release: None,
        seed,
        dev: false,
    })
}

/// Unpacks the source, unless it is there as a finished build; gives its manifest.
fn unpack(world: &World, tree: Digest, root: &Path) -> Result<String> {
    let what = "the source";
    if !build::is_built(root) {
        collect::clear(root)
            .map_err(|error| unpackable(&build::Error::Io(root.to_owned(), error), what))?;
        let path = world.blobs.path(tree);
        let file = std::fs::File::open(&path)
            .map_err(|error| unpackable(&build::Error::Io(path.clone(), error), what))?;
        let plain = build::plain(std::io::BufReader::new(file))
            .map_err(|error| unpackable(&build::Error::Io(path, error), what))?;
        if let Err(error) = build::unpack(plain, root) {
            if matches!(error, build::Error::Hostile(_)) {
                let _ = std::fs::remove_file(world.blobs.path(tree));
            }
            return Err(unpackable(&error, what));
        }
    }
    let missing = |why: &dyn std::fmt::Display| {
        let text = format!("`tow.toml` of the commit: {why}");
        Refusal::Invalid(Diagnostic::error("manifest::missing", text))
    };
    // A build that was finished may have put something else in its place.
    let text = build::read(root, Path::new("tow.toml"), LONGEST_MANIFEST);
    let text = text.map_err(|error| missing(&error))?;
    String::from_utf8(text).map_err(|error| missing(&error))
}

fn removed(world: &World, id: ReleaseId) -> Refusal {
    let text =
        format!("the files of {id} are not here any more: newer releases have taken their place");
    Refusal::Refused(
        Diagnostic::error("release::removed", text)
            .note(format!(
                "`keep` in tow.toml says how many {} keeps",
                world.environment
            ))
            .note("nothing was touched")
            .help("bring its commit in again, by `tow deploy` and `tow promote`"),
    )
}

fn unpackable(error: &build::Error, what: &str) -> Refusal {
    let text = format!("{what}: {error}");
    match error {
        build::Error::Hostile(_) => Refusal::Invalid(
            Diagnostic::error("build::hostile", text)
                .note("nothing was touched, and nothing of it is kept")
                .help("files, folders and links that stay inside the tree can be carried"),
        ),
        _ => Refusal::Failed(Diagnostic::error("build::source", text)),
    }
}

/// Removes what was unpacked for a plan that nobody carries out.
pub fn discard(plan: &Plan) {
    if let Some(version) = plan.new.as_ref().filter(|version| !version.dev) {
        remove_unbuilt(&version.root);
    }
}

/// A finished build is not a refused plan's to remove.
pub(super) fn remove_unbuilt(root: &Path) {
    if !build::is_built(root) {
        // What is left of it is in nobody's way, and is removed with the next that comes there.
        let _ = collect::clear(root);
    }
}
