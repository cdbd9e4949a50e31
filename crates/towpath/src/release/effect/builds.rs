//! Building, packing and unpacking.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use towpath_shim::protocol::{Policy, Restart, Stop};

use super::{Result, blocking, version};
use crate::build;
use crate::config::{Config, Service};
use crate::diagnostic::Diagnostic;
use crate::id::{Digest, InstanceId};
use crate::release::record::{Record, platform};
use crate::release::version::shell;
use crate::release::world::state_trouble;
use crate::release::{OpenRun, Presence, Side, World};
use crate::state::Blobs;
use crate::supervise::{Process, tail};

/// Names of variables that builds get from the agent's own environment: tools, their caches and
/// registries, proxies. Everything else stays out.
const PASSED: [&str; 14] = [
    "PATH", "HOME", "USER", "LANG", "TMPDIR", "CARGO_", "RUSTUP_", "NPM_", "npm_", "PIP_", "UV_",
    "GO", "JAVA_", "SSL_",
];
const PROXIES: [&str; 6] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];

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
    let (state, dir) = (world.state(), version.root.join(&service.dir));
    let (cache, keep) = (service.cache.clone(), (state.clone(), dir.clone()));
    if !version.dev {
        blocking(move || for_each(&cache, |folder| build::restore(&keep.0, &keep.1, folder)))
            .await?;
    }
    let process = process(run, name, service, command, &dir);
    let ended = world
        .supervisor
        .run_once(&process)
        .await
        .map_err(|error| trouble(&error.to_string()))?;
    let exit = ended.last_exit.as_ref();
    if exit.and_then(|exit| exit.code) != Some(0) {
        let log = world.supervisor.places().log("build", &process.id);
        return Err(failed(name, command, exit, &tail(&log, 20), &log));
    }
    let (cache, keep) = (service.cache.clone(), (state, dir));
    if !version.dev {
        blocking(move || for_each(&cache, |folder| build::store(&keep.0, &keep.1, folder))).await?;
    }
    let _ = world.supervisor.stop(&process.id, None).await;
    Ok(json!({ "cpu_ms": ended.cpu_ms }))
}

fn buildable<'a>(config: &'a Config, name: &str) -> Option<(&'a Service, &'a str)> {
    let service = config.services.get(name)?;
    Some((service, service.build.as_deref()?))
}

fn for_each(
    folders: &[PathBuf],
    work: impl Fn(&Path) -> std::result::Result<(), build::Error>,
) -> Result<()> {
    folders
        .iter()
        .try_for_each(|folder| work(folder))
        .map_err(|error| trouble(&error.to_string()))
}

fn id(run: &OpenRun, name: &str) -> InstanceId {
    InstanceId(format!("build-{name}-{}", run.plan.run))
}

fn process(run: &OpenRun, name: &str, service: &Service, command: &str, dir: &Path) -> Process {
    let passed = std::env::vars().filter(|(name, _)| {
        PASSED.iter().any(|prefix| {
            name == prefix || (prefix.ends_with(['_', 'O']) && name.starts_with(prefix))
        }) || PROXIES.contains(&name.as_str())
    });
    let mut env: BTreeMap<String, String> = passed.collect();
    env.extend(service.build_env.clone());
    Process {
        id: id(run, name),
        service: "build".to_owned(),
        argv: shell(command),
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
            let _ = std::fs::remove_dir_all(&version.root);
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
    let artifacts = blocking(move || {
        let packed = artifacts(&config, &root, &blobs)?;
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
    };
    let text = serde_json::to_string(&record).map_err(|error| trouble(&error.to_string()))?;
    let signature = world.key.sign(&text);
    let stored = world
        .store
        .add_release(&text, &signature, &world.key.public())
        .map_err(state_trouble)?;
    Ok(json!({ "release": stored.id, "digest": stored.digest }))
}

/// One artifact a service, one a folder of migrations; services that share a folder and its paths
/// share the artifact's bytes, and so the blob.
fn artifacts(config: &Config, root: &Path, blobs: &Blobs) -> Result<BTreeMap<String, Digest>> {
    let services = config.services.iter().map(|(name, service)| {
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
    let _ = std::fs::remove_dir_all(root);
    for digest in artifacts.values() {
        let path = blobs.path(*digest);
        let file = File::open(&path).map_err(|error| build::Error::Io(path, error))?;
        let plain = flate2::read::GzDecoder::new(BufReader::new(file));
        build::unpack(plain, root)?;
    }
    build::mark_built(root)
}

fn trouble(why: &str) -> Diagnostic {
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
