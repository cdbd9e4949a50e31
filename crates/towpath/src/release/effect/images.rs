//! The images of containers: having them here, and knowing which they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use towpath_shim::protocol::{Exit, User};

use super::{Result, blocking, builds, version};
use crate::container::{self, Engine, Found};
use crate::diagnostic::Diagnostic;
use crate::id::{Digest, InstanceId, ReleaseId, RunId};
use crate::release::record::{Image, image_artifact};
use crate::release::world::state_trouble;
use crate::release::{OpenRun, Side, Step, StepState, Version, World, prepare};
use crate::supervise::tail;
use crate::{build, config};

/// The process that pulls or builds the image of a service.
#[must_use]
pub fn image_id(run: RunId, service: &str) -> InstanceId {
    InstanceId(format!("image-{service}-{run}"))
}

/// What the step is about.
struct Wanted<'a> {
    world: &'a World,
    run: &'a OpenRun,
    engine: Engine,
    service: &'a str,
}

/// Has the image here: built or pulled where the release is made, else pulled by its digest or loaded
/// from the archive that came with it.
pub(super) async fn have(world: &World, run: &OpenRun, service: &str) -> Result<Value> {
    let version = version(run, Side::New)?;
    let config = version.config(&world.environment)?;
    let wanted = Wanted {
        world,
        run,
        engine: Engine::find().map_err(|error| container::missing(&error))?,
        service,
    };
    let found = match (version.release, config.services.get(service)) {
        (Some(release), _) => wanted.kept(release).await,
        (None, Some(found)) => wanted.made(&version, found).await,
        (None, None) => return Ok(Value::Null),
    };
    let id = image_id(run.plan.run, service);
    // What it said is in its log; of the folder nothing is needed.
    let _ = world.supervisor.stop(&id, None).await;
    found
}

/// What is begun is ended; an image stays, unused.
pub(super) async fn undo(world: &World, run: &OpenRun, service: &str) -> Result<()> {
    let id = image_id(run.plan.run, service);
    let stopped = world.supervisor.stop(&id, None).await;
    stopped.map_err(|error| Diagnostic::error("supervise::failed", error.to_string()))
}

/// The images that a run has had made, and the archives of those that are carried.
pub(super) fn packed(run: &OpenRun) -> (BTreeMap<String, Image>, Vec<(String, Digest)>) {
    let (mut images, mut archives) = (BTreeMap::new(), Vec::new());
    for step in &run.plan.steps {
        let (Step::Image { service }, Some(StepState::Ok(gave))) =
            (step, run.steps.get(&step.to_string()))
        else {
            continue;
        };
        if let Ok(image) = serde_json::from_value(gave.clone()) {
            images.insert(service.clone(), image);
        }
        if let Ok(digest) = serde_json::from_value(gave["archive"].clone()) {
            archives.push((image_artifact(service), digest));
        }
    }
    (images, archives)
}

impl Wanted<'_> {
    /// Where the release is made.
    async fn made(&self, version: &Version, service: &config::Service) -> Result<Value> {
        let Some(container) = version.containers(service) else {
            return Ok(Value::Null);
        };
        let (found, reference) = match &container.from {
            config::Image::Image(name) => {
                let found = self.named(name, version.dev).await?;
                let reference = reference(name, &found);
                (found, reference)
            }
            config::Image::Dockerfile(file) => {
                let found = self.built(version, &service.dir, file).await?;
                (found, None)
            }
        };
        let archive = match version.dev || reference.is_some() {
            true => None,
            false => Some(self.archived(&found.id).await?),
        };
        Ok(json!({ "id": found.id, "reference": reference, "archive": archive }))
    }

    /// What the registry has under that name now. A source tree takes what is here.
    async fn named(&self, name: &str, dev: bool) -> Result<Found> {
        let here = self.image(name).await?;
        if let Some(found) = &here
            && (dev || name.contains('@'))
        {
            return Ok(found.clone());
        }
        let pulled = self.pull(name).await;
        match (pulled, here) {
            (Ok(()), _) => self.image(name).await?.ok_or_else(|| {
                trouble(self.service, &format!("`{name}` was pulled, and is not here"))
            }),
            // No registry has ever had it.
            (Err(_), Some(found)) if found.digests.is_empty() => Ok(found),
            (Err(diagnostic), Some(_)) => Err(diagnostic.help(
                "to take the image that is here, name it by its digest: `image = \"repo@sha256:...\"`",
            )),
            (Err(diagnostic), None) => Err(diagnostic),
        }
    }

    async fn pull(&self, name: &str) -> Result<()> {
        let argv = ["pull", "--quiet", name].map(str::to_owned).to_vec();
        self.once(argv, &self.world.state()).await
    }

    async fn built(&self, version: &Version, dir: &Path, file: &Path) -> Result<Found> {
        let id = image_id(self.run.plan.run, self.service);
        let told = self.world.supervisor.places().run(&id).join("image");
        // What builds before it left in the tree is theirs: the engine reads it with root's rights.
        let builder = self.world.builder().filter(|_| !version.dev);
        let (root, wanted, file) = (version.root.clone(), dir.to_owned(), dir.join(file));
        let taken = blocking(move || taken(&root, builder, &wanted, &file));
        let (dir, file) = taken.await?;
        let dir = dir.as_path();
        let argv = ["build", "--file", &file.to_string_lossy(), "--iidfile"]
            .map(str::to_owned)
            .into_iter()
            .chain([told.display().to_string(), dir.display().to_string()]);
        self.once(argv.collect(), dir).await?;
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        let found = self.image(text.trim()).await?;
        found.ok_or_else(|| trouble(self.service, "it was built, and is not here"))
    }

    /// Runs the engine once, under a shim: a killed agent does not cut it off.
    async fn once(&self, argv: Vec<String>, dir: &Path) -> Result<()> {
        let id = image_id(self.run.plan.run, self.service);
        let program = self.engine.program().display().to_string();
        let said = format!("{} {}", self.engine.name(), argv.join(" "));
        let argv = std::iter::once(program).chain(argv).collect();
        let process = builds::once(id, argv, container::client_environment(), dir);
        let ended = self.world.supervisor.run_once(&process).await;
        let ended = ended.map_err(|error| trouble(self.service, &error.to_string()))?;
        let exit = ended.last_exit.as_ref();
        if exit.and_then(|exit| exit.code) == Some(0) {
            return Ok(());
        }
        let log = self.world.supervisor.places().log("build", &process.id);
        Err(failed(self.service, &said, exit, &log))
    }

    async fn image(&self, name: &str) -> Result<Option<Found>> {
        let (engine, name) = (self.engine.clone(), name.to_owned());
        let service = self.service.to_owned();
        let look = move || {
            let found = engine.image(&name);
            found.map_err(|error| trouble(&service, &error.to_string()))
        };
        blocking(look).await
    }

    async fn archived(&self, id: &str) -> Result<Digest> {
        let (engine, id, blobs) = (self.engine.clone(), id.to_owned(), self.world.blobs.clone());
        let service = self.service.to_owned();
        let work = move || {
            let incoming = blobs.incoming().map_err(state_trouble)?;
            let gzip = flate2::GzBuilder::new().mtime(0);
            let mut gzip = gzip.write(incoming, flate2::Compression::fast());
            let saved = engine.save(&id, &mut gzip);
            saved.map_err(|error| trouble(&service, &error.to_string()))?;
            let whole = gzip.finish();
            let whole = whole.map_err(|error| trouble(&service, &error.to_string()))?;
            whole.finish(None).map_err(state_trouble)
        };
        blocking(work).await
    }

    /// Of a release that was made before.
    async fn kept(&self, release: ReleaseId) -> Result<Value> {
        let record = prepare::record(self.world, release);
        let record = record.map_err(|_| trouble(self.service, "the record cannot be read"))?;
        let missing = || {
            let text = format!("the record of {release} has no image of it");
            trouble(self.service, &text)
        };
        let wanted = record.images.get(self.service).ok_or_else(missing)?;
        if let Some(found) = self.image(&wanted.id).await? {
            return Ok(json!({ "id": found.id, "reused": true }));
        }
        if let Some(reference) = &wanted.reference {
            if self.image(reference).await?.is_none() {
                self.pull(reference).await?;
            }
            let found = self.image(reference).await?.ok_or_else(missing)?;
            return Ok(json!({ "id": found.id, "pulled": reference }));
        }
        let archive = record.artifacts.get(&image_artifact(self.service));
        self.loaded(*archive.ok_or_else(missing)?, &wanted.id)
            .await?;
        Ok(json!({ "id": wanted.id, "loaded": archive }))
    }

    async fn loaded(&self, archive: Digest, id: &str) -> Result<()> {
        let (engine, id) = (self.engine.clone(), id.to_owned());
        let (path, service) = (self.world.blobs.path(archive), self.service.to_owned());
        let load = move || {
            let loaded = engine.load(&path, &id);
            loaded.map_err(|error| trouble(&service, &error.to_string()))
        };
        blocking(load).await
    }
}

/// Where the folder and the file really are, in a tree that nobody but root changes any more.
fn taken(
    root: &Path,
    builder: Option<User>,
    dir: &Path,
    file: &Path,
) -> Result<(PathBuf, PathBuf)> {
    let hostile = |error: build::Error| {
        Diagnostic::error("image::hostile", error.to_string()).note("nothing was switched")
    };
    if let Some(user) = builder {
        build::take(root, user).map_err(hostile)?;
    }
    let dir = build::inside(root, dir).map_err(hostile)?;
    Ok((dir, build::inside(root, file).map_err(hostile)?))
}

/// What every machine knows the image by, when a registry gave it: by the name that was asked for,
/// if there are several.
fn reference(name: &str, found: &Found) -> Option<String> {
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let end = name[slash..]
        .find([':', '@'])
        .map_or(name.len(), |at| slash + at);
    let repo = &name[..end];
    let is_asked_for = |digest: &&String| {
        let known = digest.split('@').next().unwrap_or_default();
        known == repo || known.ends_with(&format!("/{repo}"))
    };
    let mut digests = found.digests.iter();
    digests
        .find(is_asked_for)
        .or(found.digests.first())
        .cloned()
}

fn trouble(service: &str, why: &str) -> Diagnostic {
    Diagnostic::error(
        "container::image",
        format!("the image of `{service}`: {why}"),
    )
    .note("nothing was switched")
}

fn failed(service: &str, said: &str, exit: Option<&Exit>, log: &Path) -> Diagnostic {
    let how = super::super::trouble::ending(exit);
    let mut diagnostic = Diagnostic::error(
        "container::image",
        format!("the image of `{service}` {how}"),
    )
    .note(format!("it ran `{said}`"));
    let tail = tail(log, 20);
    if !tail.is_empty() {
        diagnostic = diagnostic.note(format!("its last lines:\n{}", tail.join("\n")));
    }
    diagnostic
        .note("nothing was switched")
        .help(format!("the whole log is {}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree as a hostile build has left it, and a file that is nobody's but root's.
    fn tree(name: &str) -> (PathBuf, PathBuf) {
        let top = std::env::temp_dir().join(format!("towpath-{name}-{}", std::process::id()));
        let (root, secret) = (top.join("tree"), top.join("secret"));
        std::fs::create_dir_all(root.join("web")).unwrap();
        std::fs::create_dir_all(&secret).unwrap();
        std::fs::write(secret.join("Dockerfile"), "FROM scratch").unwrap();
        (root, secret)
    }

    #[test]
    fn the_engine_is_led_nowhere_out_of_the_tree() {
        use std::os::unix::fs::symlink;
        let (root, secret) = tree("led");
        let asked = |dir: &str, file: &str| taken(&root, None, Path::new(dir), Path::new(file));
        std::fs::write(root.join("web/Dockerfile"), "FROM scratch").unwrap();
        symlink("Dockerfile", root.join("web/inside")).unwrap();
        symlink(secret.join("Dockerfile"), root.join("web/outside")).unwrap();
        symlink(&secret, root.join("folder")).unwrap();
        let real = root.canonicalize().unwrap();
        let good = asked("web", "web/inside");
        let (dir, file) = good.unwrap_or_else(|why| panic!("{why:?}"));
        assert_eq!((dir, file), (real.join("web"), real.join("web/Dockerfile")));
        for (dir, file) in [
            ("web", "web/outside"),
            ("folder", "folder/Dockerfile"),
            ("web", "folder/Dockerfile"),
            ("..", "../secret/Dockerfile"),
        ] {
            let why = asked(dir, file).expect_err("a way out");
            assert_eq!(why.code, "image::hostile", "{dir} {file}");
        }
        std::fs::remove_dir_all(root.parent().unwrap()).unwrap();
    }

    #[test]
    fn the_builder_cannot_change_what_the_engine_reads() {
        use std::os::unix::fs::{MetadataExt, chown};
        // Only root gives files away.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (root, secret) = tree("taken");
        let user = User {
            uid: 61_999,
            gid: 61_999,
        };
        std::fs::write(root.join("web/Dockerfile"), "FROM scratch").unwrap();
        for place in [root.clone(), root.join("web"), root.join("web/Dockerfile")] {
            chown(&place, Some(user.uid), Some(user.gid)).unwrap();
        }
        // A second name of a file elsewhere would be changed with it.
        std::fs::hard_link(secret.join("Dockerfile"), root.join("web/linked")).unwrap();
        let (dir, file) = (Path::new("web"), Path::new("web/Dockerfile"));
        let taken = taken(&root, Some(user), dir, file);
        let owners = [root.clone(), root.join("web"), root.join("web/Dockerfile")]
            .map(|place| std::fs::metadata(place).unwrap())
            .map(|found| (found.uid(), found.mode() & 0o022));
        std::fs::remove_dir_all(root.parent().unwrap()).unwrap();
        assert!(
            owners.iter().all(|(uid, mode)| (*uid, *mode) == (0, 0)),
            "{owners:?} {taken:?}"
        );
    }

    #[test]
    fn an_image_is_pinned_by_the_name_it_was_asked_for() {
        let found = |digests: &[&str]| Found {
            id: "sha256:1".to_owned(),
            digests: digests.iter().map(|one| (*one).to_owned()).collect(),
        };
        let both = found(&[
            "mirror.example/a/notes@sha256:1",
            "host:5000/notes@sha256:2",
        ]);
        let asked = |name: &str| reference(name, &both).unwrap_or_default();
        assert_eq!(asked("host:5000/notes:1"), "host:5000/notes@sha256:2");
        assert_eq!(asked("a/notes"), "mirror.example/a/notes@sha256:1");
        assert_eq!(reference("notes", &found(&[])), None);
        let hub = found(&["docker.io/library/notes@sha256:3"]);
        let name = "notes@sha256:3";
        assert_eq!(reference(name, &hub).unwrap_or_default(), hub.digests[0]);
    }
}
