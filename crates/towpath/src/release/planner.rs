//! Deciding what a run does, before anything is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::containers::{containers, engine};
use super::gateway::{keeps_address, kept_address, listen_of, tls_of};
use super::hold::Hold;
use super::prepare::{self, Prepared};
use super::schema;
use super::version::millis;
use super::way::admit;
use super::{
    Environment, Instance, Operation, Plan, Sabotage, Side, Step, Version, World, baked, resources,
    secrets, toolchain,
};
use crate::build::Source;
use crate::config::{Config, Purpose, Role};
use crate::diagnostic::{Diagnostic, Report};
use crate::id::{Digest, InstanceId, ReleaseId, RunId};
use crate::secret::File;
use crate::supervise::free_port;
use crate::{config, manifest::Manifest};

/// Longest wait for the requests of a version that goes; its streams are closed then. A request
/// that takes longer goes on: the version stays warm, or has the grace of its instances.
const DRAIN_MS: u64 = 10_000;

/// Why nothing was begun.
#[derive(Debug)]
pub enum Refusal {
    /// The manifest, a migration or a record is invalid.
    Invalid(Diagnostic),
    /// A lock or a policy stands against it.
    Refused(Diagnostic),
    /// Something outside failed.
    Failed(Diagnostic),
    /// It serves already.
    Already(ReleaseId),
}

/// How a run is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// On whose behalf.
    pub actor: &'a str,
    /// A planted fault.
    pub sabotage: Option<Sabotage>,
    /// Also where the very release serves already: its instances are started anew.
    pub again: bool,
    /// Secrets to plan with in the place of those that are kept: a dry run's, which are not taken.
    pub secrets: Option<&'a File>,
}

/// Which version is left for the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// The one that served.
    Old,
    /// The one that was warm before, since the one that served is the same release.
    Warm,
    /// None.
    Nothing,
}

/// What is brought in.
#[derive(Debug, Clone)]
pub enum Bring {
    /// A source tree, run where it is.
    Tree {
        /// Its folder.
        root: PathBuf,
        /// Its manifest.
        manifest: String,
    },
    /// A source archive among the blobs, to be built here.
    Archive {
        /// Its digest.
        tree: Digest,
        /// Where it came from.
        source: Source,
    },
    /// A release that is kept here.
    Release(ReleaseId),
}

pub(super) type Result<T> = std::result::Result<T, Refusal>;

/// What the manifest means here. A release was checked against its tree when it was made.
fn resolve(world: &World, prepared: &Prepared, purpose: Purpose) -> Result<Config> {
    let here = world.environment.as_str();
    let config = Manifest::parse("tow.toml", &prepared.manifest).and_then(|manifest| {
        let config = config::resolve_for(&manifest, here, purpose)?;
        let report = match prepared.release {
            None => config::check_tree(&manifest, &[here], &prepared.root),
            Some(_) => Report::default(),
        };
        match report.has_errors() {
            true => Err(report),
            false => Ok(config),
        }
    });
    config.map_err(|report| {
        let text = "the manifest is invalid for this environment";
        Refusal::Invalid(Diagnostic::error("manifest::invalid", text).note(report.render(false)))
    })
}

/// Plans bringing a version in: beside the old one, then in its place. Blocking.
///
/// # Errors
/// [`Refusal`]; nothing is touched then.
pub fn bring(
    world: &World,
    now: &Environment,
    operation: Operation,
    what: Bring,
    order: Order<'_>,
) -> Result<Plan> {
    let prepared = prepare::prepare(world, what)?;
    let root = (!prepared.dev).then(|| prepared.root.clone());
    let plan = plan(world, now, operation, prepared, order);
    if let (Err(_), Some(root)) = (&plan, root) {
        prepare::remove_unbuilt(&root);
    }
    plan.map(|plan| plan.sabotaged(order.sabotage))
}

fn plan(
    world: &World,
    now: &Environment,
    operation: Operation,
    prepared: Prepared,
    order: Order<'_>,
) -> Result<Plan> {
    let purpose = world.purpose();
    let config = resolve(world, &prepared, purpose)?;
    admit(world, now, &config, operation)?;
    let containers = containers(&config, prepared.dev);
    let serving = serving(world, now, operation, &prepared)?;
    if let (Some(release), false) = (serving, order.again) {
        return Err(Refusal::Already(release));
    }
    engine(&containers)?;
    secrets::check(world, &config, operation, order)?;
    if operation == Operation::Promote && config.promote.last() == Some(&config.environment) {
        resources::encrypted(world, &config).map_err(Refusal::Refused)?;
    }
    if let (Some(release), Operation::Promote) = (prepared.release, operation) {
        baked::check(world, &config, &prepare::record(world, release)?)?;
    }
    let run = RunId(now.last_run + 1);
    let mut taken = taken(world, now);
    let provides = steps_of_resources(world, &config, &mut taken)?;
    let mut steps: Vec<Step> = steps_of_gateway(world, now, &config, operation, &mut taken)?
        .into_iter()
        .collect();
    let builds = steps_of_build(world, &config, &prepared, &containers)?;
    let keeps = match operation {
        Operation::Rollback => Keeps::Nothing,
        Operation::Restart => Keeps::Warm,
        _ if serving.is_some() => Keeps::Warm,
        _ if config.window.is_zero() => Keeps::Nothing,
        _ => Keeps::Old,
    };
    let needs = schema::needs(world, now, &config, &prepared, operation)?;
    // What is rewritten the old version cannot go back to.
    let keeps = if needs.hold == Hold::UntilSwitch {
        Keeps::Nothing
    } else {
        keeps
    };
    let new = Version {
        run,
        release: prepared.release,
        root: prepared.root,
        dev: prepared.dev,
        manifest: prepared.manifest,
        instances: instances(world, &config, run, &mut taken)?,
        seed: prepared.seed,
        images: BTreeMap::new(),
        purpose,
    };
    let turn = steps_of_turn(world, now, &config, &new, keeps)?;
    let changes = needs.changes.clone();
    let commands = steps_of_release(&config, operation);
    steps.extend(builds.into_iter().chain(provides));
    steps.extend(needs.around(commands, turn));
    Ok(Plan {
        run,
        operation,
        actor: order.actor.to_owned(),
        new: Some(new),
        old: now.live.clone(),
        warm: now.warm.clone().map(|warm| warm.version),
        window_ms: match keeps {
            Keeps::Old => millis(config.window),
            _ => 0,
        },
        drain_ms: DRAIN_MS,
        steps,
        sabotage: None,
        changes,
    })
}

/// The release that serves, when it is the very one that would be brought in, and means the same.
fn serving(
    world: &World,
    now: &Environment,
    operation: Operation,
    prepared: &Prepared,
) -> Result<Option<ReleaseId>> {
    let live = now.live.as_ref();
    let brings = matches!(
        operation,
        Operation::Deploy | Operation::Promote | Operation::Restart
    );
    let Some((live, release)) = live.and_then(|live| Some((live, live.release?))) else {
        return Ok(None);
    };
    let same = match (prepared.release, &prepared.seed) {
        (Some(id), _) => id == release,
        (None, Some(seed)) => prepare::record(world, release)?.build == seed.build,
        (None, None) => false,
    };
    Ok((brings && same && live.manifest == prepared.manifest).then_some(release))
}

/// What it will listen on counts as taken: nothing listens there before the step has acted.
fn steps_of_gateway(
    world: &World,
    now: &Environment,
    config: &Config,
    operation: Operation,
    taken: &mut BTreeSet<u16>,
) -> Result<Option<Step>> {
    let listen_tls = tls_of(world, config).map(|tls| tls.listen.to_string());
    match &now.gateway {
        // The way back has to be free: the gateway goes on where it listens.
        Some(_) if operation == Operation::Rollback => return Ok(None),
        Some(_) => return keeps_address(world, now, config).map(|()| None),
        None => {}
    }
    let listen = match listen_of(world, config) {
        Some(listen) => listen,
        None => ([127, 0, 0, 1], port(world, 0, taken)?).into(),
    };
    taken.insert(listen.port());
    Ok(Some(Step::Gateway {
        listen: listen.to_string(),
        listen_tls,
    }))
}

/// What this machine lacks for them is said before anything is touched.
fn steps_of_resources(
    world: &World,
    config: &Config,
    taken: &mut BTreeSet<u16>,
) -> Result<Vec<Step>> {
    resources::reach(world, config).map_err(Refusal::Invalid)?;
    let mut steps = Vec::new();
    for (name, resource) in resources::run(config) {
        resources::check(world, name, resource).map_err(Refusal::Refused)?;
        let start = place(world).wrapping_add(7);
        let port = resources::port(world, name, start, taken).map_err(Refusal::Failed)?;
        taken.insert(port);
        steps.push(Step::Provide {
            resource: name.to_owned(),
            port,
        });
    }
    Ok(steps)
}

/// A release was built before, and needs no more than its images.
fn steps_of_build(
    world: &World,
    config: &Config,
    prepared: &Prepared,
    containers: &[String],
) -> Result<Vec<Step>> {
    let builder = world
        .builder()
        .filter(|_| !prepared.dev && prepared.release.is_none());
    if let Some(told) = builder.and_then(|user| toolchain::out_of_reach(config, user)) {
        return Err(Refusal::Failed(told));
    }
    let to_build = config.order.iter().filter(|name| {
        let service = &config.services[*name];
        let is_new = prepared.release.is_none();
        is_new && service.build.is_some() && !(prepared.dev && service.dev.is_some())
    });
    let builds = to_build.map(|name| Step::Build {
        service: name.clone(),
    });
    let images = containers.iter().map(|name| Step::Image {
        service: name.clone(),
    });
    let pack = (prepared.release.is_none() && !prepared.dev).then_some(Step::Pack);
    let bakes = baked::steps(world, config, prepared);
    Ok(builds.chain(bakes).chain(images).chain(pack).collect())
}

/// What comes back, or is started anew, had them already.
fn steps_of_release(config: &Config, operation: Operation) -> Vec<Step> {
    let with = |name: &&String| config.services[*name].release.is_some();
    let names = config.order.iter().filter(with);
    names
        .filter(|_| !matches!(operation, Operation::Rollback | Operation::Restart))
        .map(|name| Step::Release {
            service: name.clone(),
        })
        .collect()
}

/// From the first launch to the last retirement.
fn steps_of_turn(
    world: &World,
    now: &Environment,
    config: &Config,
    new: &Version,
    keeps: Keeps,
) -> Result<Vec<Step>> {
    let webs = config
        .order
        .iter()
        .filter(|name| config.services[*name].role == Role::Web);
    let mut steps: Vec<Step> = webs
        .flat_map(|name| {
            [
                Step::Launch {
                    service: name.clone(),
                },
                Step::Ready {
                    service: name.clone(),
                },
            ]
        })
        .collect();
    let old_workers = match &now.live {
        Some(old) => has_workers(old, world)?,
        None => false,
    };
    if old_workers {
        steps.push(Step::StopWorkers);
    }
    if new.of_role(config, Role::Worker).next().is_some() {
        steps.push(Step::StartWorkers);
    }
    steps.push(Step::Switch);
    if now.live.is_some() {
        steps.push(Step::Drain);
    }
    if now.warm.is_some() && keeps != Keeps::Warm {
        steps.push(Step::Retire { side: Side::Warm });
    }
    if now.live.is_some() && keeps != Keeps::Old {
        steps.push(Step::Retire { side: Side::Old });
    }
    Ok(steps)
}

fn has_workers(version: &Version, world: &World) -> Result<bool> {
    let config = version
        .config(&world.environment)
        .map_err(Refusal::Failed)?;
    Ok(version.of_role(&config, Role::Worker).next().is_some())
}

fn taken(world: &World, now: &Environment) -> BTreeSet<u16> {
    let versions = now
        .live
        .iter()
        .chain(now.warm.iter().map(|warm| &warm.version));
    versions
        .flat_map(|version| &version.instances)
        .filter_map(|instance| instance.port)
        .chain(resources::ports(world))
        .collect()
}

/// Where this environment looks for ports first.
fn place(world: &World) -> u64 {
    let place = Digest::of(world.state().as_os_str().as_encoded_bytes()).0;
    u64::from(u16::from_be_bytes([place[0], place[1]]))
}

/// A free port, searched from a place of this environment's own, so that agents on one machine
/// seldom look at the same one.
fn port(world: &World, run: u64, taken: &mut BTreeSet<u16>) -> Result<u16> {
    let start = place(world) + run * 17;
    let port = free_port(start, taken).ok_or_else(|| {
        Refusal::Failed(Diagnostic::error(
            "supervise::no-port",
            "every port from 20000 to 31999 is taken",
        ))
    })?;
    taken.insert(port);
    Ok(port)
}

fn instances(
    world: &World,
    config: &Config,
    run: RunId,
    taken: &mut BTreeSet<u16>,
) -> Result<Vec<Instance>> {
    let mut instances = Vec::new();
    for (name, service) in &config.services {
        for number in 1..=service.replicas {
            let port = match service.role {
                Role::Web => Some(port(world, run.0, taken)?),
                Role::Worker => None,
                // Its runs are not known beforehand.
                Role::Job => break,
            };
            instances.push(Instance {
                id: InstanceId::new(name, run, number),
                service: name.clone(),
                port,
            });
        }
    }
    Ok(instances)
}

/// Plans the way back: to the warm version when `to` is its release or nothing was asked for, else
/// to a release that is launched anew. Blocking.
///
/// # Errors
/// [`Refusal`] when there is no version to go back to.
pub fn roll_back(
    world: &World,
    now: &Environment,
    to: Option<ReleaseId>,
    order: Order<'_>,
) -> Result<Plan> {
    let live = now.live.as_ref().and_then(|live| live.release);
    if to.is_some() && to == live {
        return Err(nothing_to_do(world, "this release serves already"));
    }
    match (&now.warm, to.or_else(|| last_good(now))) {
        // With nothing named it is the warm one, as the status says.
        (Some(warm), target) if to.is_none() || warm.version.release == target => {
            Ok(to_warm(world, now, &warm.version, order.actor)?.sabotaged(order.sabotage))
        }
        (_, Some(release)) => bring(
            world,
            now,
            Operation::Rollback,
            Bring::Release(release),
            order,
        ),
        (_, None) => Err(nothing_to_do(world, "no earlier release has served here")),
    }
}

fn nothing_to_do(world: &World, why: &str) -> Refusal {
    let text = format!("{} cannot be rolled back: {why}", world.environment);
    Refusal::Refused(
        Diagnostic::error("rollback::nothing", text)
            .note("nothing was touched")
            .help(format!(
                "`tow releases -e {}` lists what there is",
                world.environment
            )),
    )
}

fn last_good(now: &Environment) -> Option<ReleaseId> {
    let live = now.live.as_ref().and_then(|live| live.release);
    now.history
        .iter()
        .rev()
        .find(|release| Some(**release) != live)
        .copied()
}

/// Traffic first: the warm version serves before anything else is touched.
fn to_warm(world: &World, now: &Environment, warm: &Version, actor: &str) -> Result<Plan> {
    let mut steps = vec![Step::Switch];
    if now
        .live
        .as_ref()
        .map_or(Ok(false), |live| has_workers(live, world))?
    {
        steps.push(Step::StopWorkers);
    }
    if has_workers(warm, world)? {
        steps.push(Step::StartWorkers);
    }
    // Open streams may make this last; the workers do not wait for it.
    steps.extend([Step::Drain, Step::Retire { side: Side::Old }]);
    Ok(Plan {
        run: RunId(now.last_run + 1),
        operation: Operation::Rollback,
        actor: actor.to_owned(),
        new: Some(warm.clone()),
        old: now.live.clone(),
        warm: None,
        window_ms: 0,
        drain_ms: DRAIN_MS,
        steps,
        sabotage: None,
        changes: Vec::new(),
    })
}

/// What going back costs, in one line.
#[must_use]
pub fn price(world: &World, now: &Environment, plan: &Plan) -> String {
    let name = |version: Option<&Version>| version.map_or("nothing".to_owned(), Version::name);
    let is_warm =
        now.warm.as_ref().map(|warm| warm.version.run) == plan.new.as_ref().map(|new| new.run);
    let how = if is_warm {
        "warm: traffic turns back at once"
    } else {
        "cold: it is launched and becomes ready first"
    };
    let schema = schema::stays(world, plan);
    let kept = plan
        .new
        .as_ref()
        .and_then(|new| kept_address(world, now, new));
    format!(
        "{} -> {}, {how}; {schema}; rows written since stay{}",
        name(plan.old.as_ref()),
        name(plan.new.as_ref()),
        kept.map(|kept| format!("; {kept}")).unwrap_or_default()
    )
}

/// Plans stopping everything.
///
/// # Errors
/// When the versions that run cannot be read.
pub fn down(world: &World, now: &Environment, actor: &str) -> Result<Plan> {
    let mut steps = Vec::new();
    if let Some(live) = &now.live {
        if has_workers(live, world)? {
            steps.push(Step::StopWorkers);
        }
        steps.extend([Step::Close, Step::Drain, Step::Retire { side: Side::Old }]);
    }
    if now.warm.is_some() {
        steps.push(Step::Retire { side: Side::Warm });
    }
    if now.gateway.is_some() {
        steps.push(Step::StopGateway);
    }
    if !now.provided.is_empty() {
        steps.push(Step::StopResources);
    }
    Ok(quiet(now, Operation::Down, actor, steps))
}

/// Plans stopping the version whose window is over.
#[must_use]
pub fn retire(now: &Environment) -> Plan {
    quiet(
        now,
        Operation::Retire,
        "towpath",
        vec![Step::Retire { side: Side::Warm }],
    )
}

pub(super) fn quiet(
    now: &Environment,
    operation: Operation,
    actor: &str,
    steps: Vec<Step>,
) -> Plan {
    Plan {
        run: RunId(now.last_run + 1),
        operation,
        actor: actor.to_owned(),
        new: None,
        old: now.live.clone(),
        warm: now.warm.clone().map(|warm| warm.version),
        window_ms: 0,
        drain_ms: DRAIN_MS,
        steps,
        sabotage: None,
        changes: Vec::new(),
    }
}
