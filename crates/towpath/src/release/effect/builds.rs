//! Building, packing and unpacking.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use towpath_shim::protocol::{Policy, Restart, Stop};

use super::{Result, blocking, images, version};
use crate::build::{self, Cache};
use crate::config::{Config, Service};
use crate::diagnostic::Diagnostic;
use crate::id::{Digest, InstanceId};
use crate::release::collect;
use crate::release::record::{Record, is_files, platform};
use crate::release::version::shell;
use crate::release::world::state_trouble;
use crate::release::{OpenRun, Presence, Side, Version, World, toolchain};
use crate::state::Blobs;
use crate::supervise::{Process, tail};

pub(super) fn probe(run: &OpenRun) -> Presence {
    match run
        .plan
        .new
        .as_ref()
        .is_some_and(|version| build::is_built(&version.root))
    {
        true => Presence::Present,
        false => Presence::Partial,
    }
}

pub(super) async fn build(world: &World, run: &OpenRun, name: &str) -> Result<Value> {
    let version = version(run, Side::New)?;
    if build::is_built(&version.root) {
        return Ok(json!({ "reused": true }));
    }
    let config = version.config(&world.environment)?;
    let Some((service, command)) = buildable(&config, name) else {
        return Ok(Value::Null);
    };
    let id = id(run, name);
    build_in(world, &version, id, (name, service), command).await
}

/// Runs the build of a service in the tree of `version`.
pub(super) async fn build_in(
    world: &World,
    version: &Version,
    id: InstanceId,
    (name, service): (&str, &Service),
    command: &str,
) -> Result<Value> {
    let caches: Vec<Cache> = if version.dev {
        Vec::new()
    } else {
        give(world, version).await?;
        caches(world, version, service)
    };
    let kept = caches.clone();
    blocking(move || for_each(&kept, Cache::restore)).await?;
    let process = process(world, id, service, command, version);
    let ended = world
        .supervisor
        .run_once(&process)
        .await
        .map_err(|error| trouble(&error.to_string()))?;
    let exit = ended.last_exit.as_ref();
    if exit.and_then(|exit| exit.code) != Some(0) {
        let log = world.supervisor.places().log("build", &process.id);
        let failed = failed(name, command, exit, &tail(&log, 20), &log);
        // A shell says so of a program that is not found, or may not be run.
        let lacks = matches!(exit.and_then(|exit| exit.code), Some(126 | 127));
        return Err(match process.user.filter(|_| lacks) {
            Some(user) => failed.note(format!("builds run as user {} here", user.uid)),
            None => failed,
        });
    }
    let _ = world.supervisor.stop(&process.id, None).await;
    blocking(move || for_each(&caches, Cache::store)).await?;
    Ok(json!({ "cpu_ms": ended.cpu_ms }))
}

pub(super) fn buildable<'a>(config: &'a Config, name: &str) -> Option<(&'a Service, &'a str)> {
    let service = config.services.get(name)?;
    Some((service, service.build.as_deref()?))
}

/// Hands the tree to whoever builds in it.
async fn give(world: &World, version: &Version) -> Result<()> {
    let Some(user) = world.builder() else {
        return Ok(());
    };
    let root = version.root.clone();
    blocking(move || build::give(&root, user).map_err(|error| trouble(&error.to_string()))).await
}

fn caches(world: &World, version: &Version, service: &Service) -> Vec<Cache> {
    let (state, user) = (world.state(), world.builder());
    let dir = normal(&service.dir);
    let folders = service.cache.iter();
    let caches = folders.map(|folder| Cache::new(&state, (&version.root, &dir), folder, user));
    caches.collect()
}

fn for_each(
    caches: &[Cache],
    work: impl Fn(&Cache) -> std::result::Result<(), build::Error>,
) -> Result<()> {
    caches
        .iter()
        .try_for_each(work)
        .map_err(|error| trouble(&error.to_string()))
}

fn id(run: &OpenRun, name: &str) -> InstanceId {
    InstanceId(format!("build-{name}-{}", run.plan.run))
}

fn process(
    world: &World,
    id: InstanceId,
    service: &Service,
    command: &str,
    version: &Version,
) -> Process {
    let user = world.builder().filter(|_| !version.dev);
    let mut env = toolchain::variables(&world.state(), user);
    env.extend(service.build_env.clone());
    Process {
        user,
        ..once(id, shell(command), env, &version.root.join(&service.dir))
    }
}

/// A process that runs to its end, once, with its log among those of builds.
pub(super) fn once(
    id: InstanceId,
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    dir: &Path,
) -> Process {
    Process {
        id,
        service: "build".to_owned(),
        argv,
        env,
        cwd: dir.to_owned(),
        user: None,
        listen: Vec::new(),
        port: None,
        restart: Restart {
            policy: Policy::Never,
            backoff_ms: 0,
            backoff_max_ms: 0,
            limit: 0,
            within_ms: 0,
        },
        stop: Stop {
            signal: 15,
            grace_ms: 2_000,
        },
        log: (8 << 20, 1),
        ready: None,
        alive: None,
        secrets: Vec::new(),
        container: None,
    }
}

pub(super) async fn undo_build(world: &World, run: &OpenRun, name: &str) -> Result<()> {
    world
        .supervisor
        .stop(&id(run, name), None)
        .await
        .map_err(|error| trouble(&error.to_string()))?;
    let Some(version) = run.plan.new.clone().filter(|version| !version.dev) else {
        return Ok(());
    };
    blocking(move || {
        if !build::is_built(&version.root) {
            // What is left of it counts for nothing, and goes before the next build there.
            let _ = collect::clear(&version.root);
        }
        Ok(())
    })
    .await
}

/// Packs what was built, marks the folder whole, signs the record and keeps the release.
pub(super) async fn pack(world: &World, run: &OpenRun) -> Result<Value> {
    let version = version(run, Side::New)?;
    let config = version.config(&world.environment)?;
    let seed = run
        .plan
        .new
        .as_ref()
        .and_then(|version| version.seed.clone());
    let seed = seed.ok_or_else(|| trouble("the plan has no source"))?;
    let (blobs, root) = (world.blobs.clone(), version.root.clone());
    let (images, archives) = images::packed(run);
    let builder = world.builder();
    let artifacts = blocking(move || {
        if let Some(user) = builder {
            build::take(&root, user).map_err(|error| trouble(&error.to_string()))?;
        }
        stays(&config, &root)?;
        let mut packed = artifacts(&config, &root, &blobs, &|_| true)?;
        packed.extend(archives);
        build::mark_built(&root).map_err(|error| trouble(&error.to_string()))?;
        Ok(packed)
    })
    .await?;
    let record = Record {
        app: world.app.clone(),
        built_in: world.environment.clone(),
        source: seed.source,
        tree: seed.tree,
        build: seed.build,
        platform: platform(),
        manifest: version.manifest.clone(),
        artifacts,
        baked: super::bakes::baked(run),
        images,
    };
    let text = serde_json::to_string(&record).map_err(|error| trouble(&error.to_string()))?;
    let signature = world.key.sign(&text);
    let stored = world
        .store
        .add_release(&text, &signature, &world.key.public())
        .map_err(state_trouble)?;
    Ok(json!({ "release": stored.id, "digest": stored.digest }))
}

/// What a build has put in the place of migrations is refused here, before anything is migrated.
fn stays(config: &Config, root: &Path) -> Result<()> {
    let folders = config
        .resources
        .values()
        .filter_map(|resource| resource.migrations());
    folders
        .filter(|folder| root.join(folder).symlink_metadata().is_ok())
        .try_for_each(|folder| build::migrations_in(root, folder).map(drop))
        .map_err(|error| trouble(&error.to_string()))
}

/// One artifact a service, one a folder of migrations; services that share a folder and its paths
/// share the artifact's bytes, and so the blob.
pub(super) fn artifacts(
    config: &Config,
    root: &Path,
    blobs: &Blobs,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<BTreeMap<String, Digest>> {
    let processes = config.services.iter();
    let processes = processes.filter(|(_, service)| service.container.is_none());
    let services = processes.map(|(name, service)| {
        let whole = vec![service.dir.clone()];
        let chosen = service
            .artifact
            .iter()
            .map(|path| service.dir.join(path))
            .collect();
        (
            name.clone(),
            if service.artifact.is_empty() {
                whole
            } else {
                chosen
            },
        )
    });
    let migrations = config.resources.iter().filter_map(|(name, resource)| {
        let folder = resource
            .migrations()
            .map(Path::to_owned)
            .filter(|folder| root.join(folder).is_dir())?;
        Some((format!("migrations/{name}"), vec![folder]))
    });
    services
        .chain(migrations)
        .filter(|(name, _)| is_wanted(name))
        .map(|(name, paths)| Ok((name, pack_one(root, &paths, blobs)?)))
        .collect()
}

fn pack_one(root: &Path, paths: &[PathBuf], blobs: &Blobs) -> Result<Digest> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| normal(path)).collect();
    let mut incoming = blobs.incoming().map_err(state_trouble)?;
    build::pack(root, &paths, &mut incoming).map_err(|error| trouble(&error.to_string()))?;
    incoming.finish(None).map_err(state_trouble)
}

/// `./a` and `a` are one path; the whole tree is `.`.
fn normal(path: &Path) -> PathBuf {
    let short: PathBuf = path
        .components()
        .filter(|part| !matches!(part, std::path::Component::CurDir))
        .collect();
    if short.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        short
    }
}

/// Lays the artifacts of a release that was built elsewhere into its folder; what a cut-off attempt
/// left is removed first. Blocking.
///
/// # Errors
/// When an artifact is not here, or must not be unpacked.
pub(in crate::release) fn unpack(
    blobs: &Blobs,
    artifacts: &BTreeMap<String, Digest>,
    root: &Path,
) -> std::result::Result<(), build::Error> {
    if build::is_built(root) {
        return Ok(());
    }
    collect::clear(root).map_err(|error| build::Error::Io(root.to_owned(), error))?;
    std::fs::create_dir_all(root).map_err(|error| build::Error::Io(root.to_owned(), error))?;
    let files = artifacts.iter().filter(|(name, _)| is_files(name));
    for (_, digest) in files {
        let path = blobs.path(*digest);
        let file = File::open(&path).map_err(|error| build::Error::Io(path, error))?;
        let plain = flate2::read::GzDecoder::new(BufReader::new(file));
        build::unpack(plain, root)?;
    }
    build::mark_built(root)
}

pub(super) fn trouble(why: &str) -> Diagnostic {
    Diagnostic::error("build::failed", why)
}

fn failed(
    service: &str,
    command: &str,
    exit: Option<&towpath_shim::protocol::Exit>,
    tail: &[String],
    log: &Path,
) -> Diagnostic {
    let how = super::super::trouble::ending(exit);
    let mut diagnostic =
        Diagnostic::error("build::failed", format!("the build of `{service}` {how}"))
            .note(format!("it ran `{command}`"));
    if !tail.is_empty() {
        diagnostic = diagnostic.note(format!("its last lines:\n{}", tail.join("\n")));
    }
    diagnostic
        .note("nothing was switched")
        .help(format!("the whole log is {}", log.display()))
}
