//! The table, checked and made ready for look-ups.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::api;
use crate::edge::{self, Edge, Limiter};
use crate::metrics::Label;
use crate::spelling;
use crate::target::Target;
use crate::trust::Network;

/// Why a table is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid(String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A table in force.
#[derive(Debug)]
pub(crate) struct Table {
    /// As it was given.
    pub(crate) source: api::Table,
    /// In the order they are tried: with a host first, then the longer path.
    pub(crate) routes: Vec<Route>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) edge: Edge,
    trust: Vec<Network>,
}

/// A route made ready.
#[derive(Debug)]
pub(crate) struct Route {
    host: Option<String>,
    /// Without the `/` at its end: `/` is empty here.
    prefix: String,
    /// The prefix, spelled plainly.
    plain: Vec<u8>,
    pub(crate) strip: bool,
    pub(crate) stream: bool,
    pub(crate) idempotency_key: bool,
    /// Of this route alone.
    pub(crate) limiter: Option<Arc<Limiter>>,
    pub(crate) unlimited: bool,
    pub(crate) cache: Option<api::Cache>,
    pub(crate) pool: usize,
    pub(crate) label: Arc<Label>,
}

/// A pool made ready.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: String,
    pub(crate) targets: Vec<Arc<Target>>,
    pub(crate) health: Option<api::Health>,
}

impl Table {
    /// Check a table and make it ready; targets that `before` has too are kept with what is known of them.
    pub(crate) fn new(source: api::Table, before: Option<&Table>) -> Result<Self, Invalid> {
        check(&source)?;
        let pools: Vec<Pool> = source
            .pools
            .iter()
            .map(|(name, pool)| Pool::new(name, pool, before))
            .collect();
        let mut routes: Vec<Route> = source
            .routes
            .iter()
            .map(|route| Route::new(route, &source.pools, before))
            .collect::<Result<_, _>>()?;
        routes.sort_by_key(|route| (route.host.is_none(), std::cmp::Reverse(route.prefix.len())));
        Ok(Self {
            edge: Edge::new(&source, before).map_err(|fault| Invalid(format!("edge: {fault}")))?,
            trust: networks(&source.front.trust)?,
            source,
            routes,
            pools,
        })
    }

    /// A table that serves nothing.
    pub(crate) fn empty() -> Self {
        Self {
            source: api::Table::default(),
            routes: Vec::new(),
            pools: Vec::new(),
            edge: Edge::default(),
            trust: Vec::new(),
        }
    }

    /// The index of the route for a host (without port) and a path.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<usize> {
        self.routes
            .iter()
            .position(|route| route.matches(host, path))
    }

    /// The index of the route that a path leads to for an application that reads it less strictly: see
    /// [`spelling::plain`]. Where two are spelled alike it is the one that `find` has found.
    pub(crate) fn find_plain(&self, host: &str, path: &str, found: Option<usize>) -> Option<usize> {
        let plain = spelling::plain(path);
        let routes = self.routes.iter().enumerate();
        let fitting = routes.filter(|(_, route)| route.matches_plain(host, &plain));
        let rank = |(index, route): &(usize, &Route)| {
            let is_found = found == Some(*index);
            let (length, limited) = (route.plain.len(), route.limiter.is_some());
            (route.host.is_some(), length, is_found, limited)
        };
        fitting.max_by_key(rank).map(|(index, _)| index)
    }

    /// Whether this peer is a proxy that is believed.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.trust.iter().any(|network| network.holds(peer))
    }

    /// Every target with its pool's health check.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (&Arc<Target>, Option<&api::Health>)> {
        self.pools.iter().flat_map(|pool| {
            pool.targets
                .iter()
                .map(|target| (target, pool.health.as_ref()))
        })
    }
}

impl Route {
    fn new(
        route: &api::Route,
        pools: &BTreeMap<String, api::Pool>,
        before: Option<&Table>,
    ) -> Result<Self, Invalid> {
        Ok(Self {
            host: route.host.as_ref().map(|host| host.to_ascii_lowercase()),
            prefix: route.path.trim_end_matches('/').to_owned(),
            plain: spelling::plain(&route.path),
            strip: route.strip,
            stream: route.stream,
            idempotency_key: route.idempotency_key,
            limiter: limiter_of(route, before)?,
            unlimited: route.unlimited,
            cache: route.cache,
            pool: pools
                .keys()
                .position(|name| *name == route.pool)
                .unwrap_or_default(),
            label: Label::new(&route.pool, &route.path),
        })
    }

    fn is_of(&self, host: &str) -> bool {
        let wanted = self.host.as_ref();
        wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(host))
    }

    fn matches_plain(&self, host: &str, plain: &[u8]) -> bool {
        let rest = plain.strip_prefix(self.plain.as_slice());
        self.is_of(host) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    fn matches(&self, host: &str, path: &str) -> bool {
        self.is_of(host)
            && path
                .strip_prefix(self.prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The path and query to ask the instance for, or none when they stay as they are.
    pub(crate) fn rewritten(&self, path_and_query: &str) -> Option<String> {
        if !self.strip || self.prefix.is_empty() {
            return None;
        }
        let rest = path_and_query.strip_prefix(self.prefix.as_str())?;
        Some(if rest.starts_with('/') {
            rest.to_owned()
        } else {
            format!("/{rest}")
        })
    }
}

impl Pool {
    fn new(name: &str, pool: &api::Pool, before: Option<&Table>) -> Self {
        let targets = pool
            .targets
            .iter()
            .map(|target| keep_or_make(target, before))
            .collect();
        Self {
            name: name.to_owned(),
            targets,
            health: pool.health.clone(),
        }
    }
}

/// A limit that the same route had before goes on counting.
fn limiter_of(route: &api::Route, before: Option<&Table>) -> Result<Option<Arc<Limiter>>, Invalid> {
    let Some(limit) = route.limit else {
        return Ok(None);
    };
    let host = route.host.as_ref().map(|host| host.to_ascii_lowercase());
    let is_same = |known: &&Route| known.host == host && known.label.route == route.path;
    let known = before.and_then(|table| table.routes.iter().find(is_same));
    let known = known.and_then(|route| route.limiter.as_ref());
    let made = edge::limiter(limit, known);
    made.map(Some)
        .map_err(|fault| Invalid(format!("route {}: {fault}", named(route))))
}

fn keep_or_make(target: &api::Target, before: Option<&Table>) -> Arc<Target> {
    let known = before.and_then(|table| {
        table
            .targets()
            .find(|(known, _)| known.id == target.id && known.addr == target.addr)
    });
    known.map_or_else(
        || Arc::new(Target::new(target)),
        |(known, _)| Arc::clone(known),
    )
}

fn networks(texts: &[String]) -> Result<Vec<Network>, Invalid> {
    let network = |text: &String| {
        Network::parse(text).ok_or_else(|| Invalid(format!("{text:?} is no network")))
    };
    texts.iter().map(network).collect()
}

fn check(table: &api::Table) -> Result<(), Invalid> {
    let mut seen = BTreeSet::new();
    for route in &table.routes {
        check_route(route, table)?;
        let host = route.host.as_ref().map(|host| host.to_ascii_lowercase());
        if !seen.insert((host, route.path.trim_end_matches('/'))) {
            return Err(Invalid(format!("route {} is there twice", named(route))));
        }
    }
    check_own(table)?;
    table
        .pools
        .iter()
        .try_for_each(|(name, pool)| check_pool(name, pool))
}

/// What is answered here is not the instances' as well.
fn check_own(table: &api::Table) -> Result<(), Invalid> {
    let api::OwnPaths { live, ready } = &table.front.own;
    for path in [live, ready].into_iter().flatten() {
        let mut routes = table.routes.iter();
        let is_route =
            routes.any(|route| route.path.trim_end_matches('/') == path.trim_end_matches('/'));
        let is_path = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
        if is_route || !is_path || live == ready {
            return Err(Invalid(format!("own path {path:?} is taken, or no path")));
        }
    }
    Ok(())
}

fn check_route(route: &api::Route, table: &api::Table) -> Result<(), Invalid> {
    let path = &route.path;
    if !path.starts_with('/')
        || path
            .bytes()
            .any(|b| !b.is_ascii_graphic() || b == b'?' || b == b'#')
    {
        return Err(Invalid(format!(
            "route {path:?}: a path begins with '/' and has no '?', '#', space or control"
        )));
    }
    if let Some(host) = &route.host
        && (host.is_empty()
            || host.contains(|c: char| !c.is_ascii_graphic() || "/:@?#".contains(c)))
    {
        return Err(Invalid(format!(
            "route {path:?}: {host:?} is no host name without port"
        )));
    }
    if route.unlimited && route.limit.is_some() {
        let text = format!("route {} has a limit, and has none", named(route));
        return Err(Invalid(text));
    }
    if !table.pools.contains_key(&route.pool) {
        let known: Vec<&str> = table.pools.keys().map(String::as_str).collect();
        return Err(Invalid(format!(
            "route {}: no pool {:?}; there are: {}",
            named(route),
            route.pool,
            known.join(", ")
        )));
    }
    Ok(())
}

fn check_pool(name: &str, pool: &api::Pool) -> Result<(), Invalid> {
    let mut ids = BTreeSet::new();
    let mut addrs = BTreeSet::new();
    for target in &pool.targets {
        if !ids.insert(&target.id) || !addrs.insert(target.addr) {
            return Err(Invalid(format!(
                "pool {name:?}: target {:?} at {} is there twice",
                target.id, target.addr
            )));
        }
        if target.addr.port() == 0 {
            return Err(Invalid(format!(
                "pool {name:?}: target {:?} has no port",
                target.id
            )));
        }
    }
    pool.health
        .as_ref()
        .map_or(Ok(()), |health| check_health(name, health))
}

fn check_health(name: &str, health: &api::Health) -> Result<(), Invalid> {
    if health.interval_ms == 0
        || health.timeout_ms == 0
        || health.passes == 0
        || health.failures == 0
    {
        return Err(Invalid(format!(
            "pool {name:?}: times and counts of its health check are at least 1"
        )));
    }
    match &health.path {
        Some(path) if !path.starts_with('/') || path.bytes().any(|b| !b.is_ascii_graphic()) => {
            Err(Invalid(format!(
                "pool {name:?}: health path {path:?} does not begin with '/', or has a space"
            )))
        }
        _ => Ok(()),
    }
}

fn named(route: &api::Route) -> String {
    match &route.host {
        Some(host) => format!("{:?} of host {host}", route.path),
        None => format!("{:?}", route.path),
    }
}
