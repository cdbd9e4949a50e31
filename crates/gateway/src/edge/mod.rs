//! What the gateway does with requests and answers by itself, before and after the instances.
//!
//! A request's [`Visit`] begins when its head is there: it gets its id, is answered where no instance is needed (a
//! preflight, maintenance, a limit), and when its answer is there, whosesoever that is, the answer is dressed. What an
//! instance says of its own is kept, but for what it says of other origins.

mod asker;
mod cache;
mod cors;
mod limit;
mod page;
mod request_id;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;

use crate::api;
use crate::metrics::Failure;
use crate::request::{Checked, FORWARDED_PROTO, Peer};
use crate::table::Table;
use crate::traffic::View;
use crate::trust;

pub(crate) use cache::{Cache, Filling, Look, Wanted};
use cors::Cors;
pub use cors::is_origin;
pub(crate) use limit::Limiter;
use limit::{Standing, seconds};
use page::Maintenance;

/// What the answers that are kept may take together, bytes.
const CACHE: u64 = 64 << 20;

/// Rules in force.
#[derive(Debug, Default)]
pub(crate) struct Edge {
    limiter: Option<Arc<Limiter>>,
    cors: Option<Cors>,
    headers: Vec<(HeaderName, HeaderValue)>,
    hsts: Option<HeaderValue>,
    request_id: bool,
    maintenance: Option<Maintenance>,
    /// Where a route keeps answers.
    pub(crate) cache: Option<Arc<Cache>>,
    /// Whether a route has a limit of its own.
    routes_limit: bool,
}

impl Edge {
    /// Make rules ready; a limit that was there `before` goes on counting. Or what is wrong with them.
    pub(crate) fn new(source: &api::Table, before: Option<&Table>) -> Result<Self, String> {
        let edge = &source.front.edge;
        let known = before.and_then(|table| table.edge.limiter.as_ref());
        let header = |(name, value): (&String, &String)| {
            let name = HeaderName::from_lowercase(name.as_bytes())
                .map_err(|_| format!("{name:?} is no header's name in lower case"))?;
            Ok((name, value_of(value)?))
        };
        let maintenance = source.front.maintenance.as_ref();
        Ok(Self {
            limiter: edge.limit.map(|limit| limiter(limit, known)).transpose()?,
            cors: edge.cors.as_ref().map(Cors::new).transpose()?,
            headers: edge
                .headers
                .iter()
                .map(header)
                .collect::<Result<_, String>>()?,
            hsts: edge.hsts.as_deref().map(value_of).transpose()?,
            request_id: edge.request_id,
            maintenance: maintenance.map(Maintenance::new).transpose()?,
            cache: cache(source, before),
            routes_limit: source.routes.iter().any(|route| route.limit.is_some()),
        })
    }
}

/// Where answers are kept: where they were before, if they may take the same.
fn cache(source: &api::Table, before: Option<&Table>) -> Option<Arc<Cache>> {
    if source.routes.iter().all(|route| route.cache.is_none()) {
        return None;
    }
    let most = source.front.edge.cache_bytes.unwrap_or(CACHE);
    let known = before.and_then(|table| table.edge.cache.as_ref());
    let same = known.filter(|cache| cache.most == most);
    Some(same.map_or_else(|| Arc::new(Cache::new(most)), Arc::clone))
}

/// The limiter of a limit: the one before, if it is the same.
pub(crate) fn limiter(
    limit: api::Limit,
    before: Option<&Arc<Limiter>>,
) -> Result<Arc<Limiter>, String> {
    if let Some(fault) = limit::fault(limit) {
        return Err(format!("limit: {fault}"));
    }
    let same = before.filter(|known| known.limit == limit);
    Ok(same.map_or_else(|| Arc::new(Limiter::new(limit)), Arc::clone))
}

fn value_of(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| format!("{text:?} is no value of a header"))
}

/// One request, from its head until its answer.
pub(crate) struct Visit {
    view: View,
    id: Option<HeaderValue>,
    /// Where the page is from that asks.
    origin: Option<HeaderValue>,
    preflight: bool,
    /// By https, as far as the client sees.
    secure: bool,
    standing: Option<Standing>,
}

/// An answer without an instance.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) reason: Option<Failure>,
    /// Index of its route, if that was looked for.
    pub(crate) route: Option<usize>,
}

impl Visit {
    /// A request comes in: the id that it has or gets is in its head afterwards.
    pub(crate) fn begin(view: View, parts: &mut Parts, peer: &Peer, secure: bool) -> Self {
        let edge = &view.table().edge;
        let id = edge
            .request_id
            .then(|| request_id::give(&mut parts.headers));
        let origin = edge
            .cors
            .as_ref()
            .and_then(|_| parts.headers.get(header::ORIGIN).cloned());
        let secure = edge.hsts.is_some() && (secure || says_https(view.table(), parts, peer));
        Self {
            id,
            origin,
            preflight: false,
            secure,
            standing: None,
            view,
        }
    }

    /// The rules in force.
    pub(crate) fn table(&self) -> &Table {
        self.view.table()
    }

    /// What is answered here; none when it goes on to an instance.
    pub(crate) fn meet(&mut self, parts: &Parts, checked: &Checked, peer: &Peer) -> Option<Answer> {
        self.preflight(parts)
            .or_else(|| maintain(self.table(), parts, peer))
            .or_else(|| self.limit(parts, checked, peer))
    }

    fn preflight(&mut self, parts: &Parts) -> Option<Answer> {
        let cors = self.view.table().edge.cors.as_ref()?;
        if !cors::is_preflight(parts) {
            return None;
        }
        self.preflight = true;
        let allowed = self.origin.as_ref().is_some_and(|one| cors.allows(one));
        Some(match allowed {
            true => Answer::new(StatusCode::NO_CONTENT, ""),
            false => Answer {
                reason: Some(Failure::ForeignOrigin),
                ..Answer::new(StatusCode::FORBIDDEN, "this origin may not ask\n")
            },
        })
    }

    /// What is answered here after all: another table may be in force once the request is let in. It was counted before.
    pub(crate) fn meet_again(&self, table: &Table, parts: &Parts, peer: &Peer) -> Option<Answer> {
        match std::ptr::eq(table, self.table()) {
            true => None,
            false => maintain(table, parts, peer),
        }
    }

    fn limit(&mut self, parts: &Parts, checked: &Checked, peer: &Peer) -> Option<Answer> {
        let table = self.view.table();
        let edge = &table.edge;
        if edge.limiter.is_none() && !edge.routes_limit {
            return None;
        }
        let (host, path) = (checked.host_name(), parts.uri.path());
        let found = table.find(host, path);
        let plain = table.find_plain(host, path, found);
        let client = client(table, parts, peer);
        let standing = limiters(table, found, plain)
            .map(|limiter| limiter.take(client))
            .reduce(Standing::tighter)?;
        self.standing = Some(standing);
        let wait = seconds(standing.wait?);
        let mut answer = Answer::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!("too many requests; try again in {wait} s\n"),
        );
        answer
            .headers
            .insert(header::RETRY_AFTER, HeaderValue::from(wait));
        answer.reason = Some(Failure::RateLimited);
        answer.route = found;
        Some(answer)
    }

    /// The answer goes out.
    pub(crate) fn end(self, status: StatusCode, headers: &mut HeaderMap) {
        if let Some(id) = self.id {
            headers.insert(request_id::REQUEST_ID, id);
        }
        // What follows a switch of protocols is no answer.
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let edge = &self.view.table().edge;
        if let Some(cors) = &edge.cors {
            cors.dress(headers, self.origin.as_ref(), self.preflight);
        }
        for (name, value) in &edge.headers {
            headers.entry(name).or_insert_with(|| value.clone());
        }
        if let Some(hsts) = edge.hsts.as_ref().filter(|_| self.secure) {
            headers
                .entry(header::STRICT_TRANSPORT_SECURITY)
                .or_insert_with(|| hsts.clone());
        }
        if let Some(standing) = self.standing {
            standing.dress(headers);
        }
    }
}

fn maintain(table: &Table, parts: &Parts, peer: &Peer) -> Option<Answer> {
    let maintenance = table.edge.maintenance.as_ref()?;
    if maintenance.passes(parts.uri.path())
        || (maintenance.admits_some() && maintenance.admits(client(table, parts, peer)))
    {
        return None;
    }
    let mut answer = Answer::new(StatusCode::SERVICE_UNAVAILABLE, "");
    answer.body = maintenance.page(&parts.headers, &mut answer.headers);
    answer.reason = Some(Failure::Maintenance);
    Some(answer)
}

fn client(table: &Table, parts: &Parts, peer: &Peer) -> IpAddr {
    trust::client(peer.ip, &parts.headers, |address| table.trusts(address))
}

/// What counts a request whose path leads to one route as it is written, and to the same or another one as some
/// applications read it: every limit that either has, once.
fn limiters(
    table: &Table,
    found: Option<usize>,
    plain: Option<usize>,
) -> impl Iterator<Item = &Arc<Limiter>> {
    let of = |index: Option<usize>| match index.map(|index| &table.routes[index]) {
        Some(route) if route.unlimited => None,
        Some(route) => route.limiter.as_ref().or(table.edge.limiter.as_ref()),
        // Who asks for what is not here is counted too.
        None => table.edge.limiter.as_ref(),
    };
    let first = of(found);
    let other = of(plain).filter(|other| first.is_none_or(|first| !Arc::ptr_eq(first, other)));
    first.into_iter().chain(other)
}

impl Answer {
    fn new(status: StatusCode, text: impl Into<Bytes>) -> Self {
        let body = text.into();
        let mut headers = HeaderMap::new();
        if !body.is_empty() {
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.insert(header::CONTENT_TYPE, kind);
        }
        Self {
            status,
            headers,
            body,
            reason: None,
            route: None,
        }
    }
}

/// Whether a proxy that is believed has taken https off.
fn says_https(table: &Table, parts: &Parts, peer: &Peer) -> bool {
    let said = parts.headers.get(FORWARDED_PROTO);
    said.is_some_and(|said| said.as_bytes().eq_ignore_ascii_case(b"https")) && table.trusts(peer.ip)
}
