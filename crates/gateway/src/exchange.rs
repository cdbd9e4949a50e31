//! One request's way to an instance and back: which one, over which connection, and what may be tried again.
//!
//! Nothing sent: any method, another target, for as long as `PATIENCE`. Sent without a byte of an answer: idempotent
//! methods whose body can be repeated, once. A byte of an answer: never. Always within the table it was let in by.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use tokio::sync::watch;

use crate::body::{Outgoing, Source};
use crate::edge::Look;
use crate::front::Front;
use crate::metrics::{Failure, Label, Metrics};
use crate::pool::{Pool, Upstream};
use crate::request::idempotent;
use crate::target::{Load, Target, pick};
use crate::traffic::{Admitted, Door};

/// How long a request waits for an instance that refuses connections, so that a restart loses none.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between rounds over targets that all refuse: short at first, as most restarts are.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// Times a request is sent when the first was not answered by a byte.
const SENDS: u32 = 2;

/// What one thread works with.
pub(crate) struct Line {
    pub(crate) door: Door,
    pub(crate) front: Arc<Front>,
    pub(crate) pool: Pool,
    pub(crate) metrics: Arc<Metrics>,
}

/// Counts one request when it is over.
pub(crate) struct Meter {
    metrics: Arc<Metrics>,
    label: Option<Arc<Label>>,
    method: Method,
    started: Instant,
    status: u16,
}

impl Meter {
    pub(crate) fn new(metrics: &Arc<Metrics>, method: Method) -> Self {
        // Until a status is sent the client may leave, which nginx has given a number.
        Self {
            metrics: Arc::clone(metrics),
            label: None,
            method,
            started: Instant::now(),
            status: 499,
        }
    }

    pub(crate) fn set_label(&mut self, label: &Arc<Label>) {
        self.label = Some(Arc::clone(label));
    }

    pub(crate) fn set_status(&mut self, status: u16) {
        self.status = status;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let label = self.label.take().unwrap_or_else(|| Label::own("none"));
        if self.status == 499 {
            self.metrics.failed(Failure::ClientLeft);
        }
        self.metrics
            .answered(&label, &self.method, self.status, self.started.elapsed());
    }
}

/// A request as it is to be sent, as often as needed.
pub(crate) struct Outbound {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) source: Option<Rc<Source>>,
}

impl Outbound {
    fn request(&self, target: &Target) -> Request<Outgoing> {
        let mut request = Request::new(Outgoing::new(self.source.as_ref()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = self.headers.clone();
        if !self.headers.contains_key(header::HOST)
            && let Ok(host) = HeaderValue::from_str(&target.addr.to_string())
        {
            request.headers_mut().insert(header::HOST, host);
        }
        request
    }

    fn replayable(&self) -> bool {
        self.source
            .as_ref()
            .is_none_or(|source| source.replayable())
    }
}

/// Why there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    NoHealthyInstance,
    UpstreamClosed,
    ClientBody,
    StreamClosed,
}

/// A request that is let in, until its response was sent.
pub(crate) struct Exchange {
    line: Rc<Line>,
    upstream: Option<Upstream>,
    source: Option<Rc<Source>>,
    load: Option<Load>,
    pub(crate) meter: Meter,
    closing: Option<watch::Receiver<u64>>,
    // Last: it is counted as long as anything above exists.
    admitted: Admitted,
}

impl Exchange {
    pub(crate) fn new(line: &Rc<Line>, mut admitted: Admitted, mut meter: Meter) -> Self {
        meter.set_label(&admitted.table().routes[admitted.route].label);
        let closing = admitted.closing.take();
        Self {
            line: Rc::clone(line),
            upstream: None,
            source: None,
            load: None,
            meter,
            closing,
            admitted,
        }
    }

    /// For streams, once: changes when they are to close.
    pub(crate) fn take_closing(&mut self) -> Option<watch::Receiver<u64>> {
        self.closing.take()
    }

    /// What there is for it already.
    pub(crate) fn look(&self, outbound: &Outbound) -> Look {
        let table = self.admitted.table();
        let rule = table.routes[self.admitted.route].cache;
        match (&table.edge.cache, rule) {
            // A stream has no end that could be kept.
            (Some(cache), Some(rule)) if outbound.source.is_none() && self.closing.is_none() => {
                let Outbound {
                    method,
                    uri,
                    headers,
                    ..
                } = outbound;
                cache.look(rule, self.pool_name(), method, uri, headers)
            }
            _ => Look::Never,
        }
    }

    /// An instance has answered it: what it may have changed is not kept any longer.
    pub(crate) fn heard(&self, outbound: &Outbound, status: StatusCode) {
        let table = self.admitted.table();
        let rule = table.routes[self.admitted.route].cache;
        if let Some(cache) = table.edge.cache.as_ref().filter(|_| rule.is_some()) {
            cache.heard(&outbound.method, &outbound.uri, &outbound.headers, status);
        }
    }

    /// The name of the pool that serves it.
    pub(crate) fn pool_name(&self) -> &str {
        let table = self.admitted.table();
        &table.pools[table.routes[self.admitted.route].pool].name
    }

    /// The name of the service that serves it.
    pub(crate) fn service(&self) -> &str {
        &self.admitted.table().routes[self.admitted.route]
            .label
            .service
    }

    /// Send the request and wait for the head of the response.
    pub(crate) async fn send(&mut self, outbound: &Outbound) -> Result<Response<Incoming>, Failed> {
        let Some(mut closing) = self.closing.clone() else {
            return self.attempts(outbound).await;
        };
        tokio::select! {
            response = self.attempts(outbound) => response,
            _ = closing.changed() => Err(Failed::StreamClosed),
        }
    }

    async fn attempts(&mut self, outbound: &Outbound) -> Result<Response<Incoming>, Failed> {
        self.source = outbound.source.clone();
        let mut attempts = Attempts::new(self, outbound);
        loop {
            let (target, mut upstream) = self.reach(&mut attempts).await?;
            let load = Load::on(&target);
            match upstream
                .sender
                .try_send_request(outbound.request(&target))
                .await
            {
                Ok(response) => {
                    self.load = Some(load);
                    self.upstream = Some(upstream);
                    return Ok(response);
                }
                Err(error) => {
                    let unsent = error.message().is_some() || upstream.unwritten();
                    attempts.failed(outbound, &target, &upstream, unsent)?;
                    self.line.pool.forget(target.addr);
                }
            }
        }
    }

    /// A connection to some target; waits while all refuse.
    async fn reach(&self, attempts: &mut Attempts) -> Result<(Arc<Target>, Upstream), Failed> {
        let table = self.admitted.table();
        let targets = &table.pools[table.routes[self.admitted.route].pool].targets;
        attempts.alone = targets.len() == 1;
        loop {
            let Some(target) = pick(targets, &attempts.avoid) else {
                attempts.pause(targets).await?;
                continue;
            };
            match self.open(target.addr, attempts).await {
                Ok(upstream) => {
                    target.cleared();
                    return Ok((Arc::clone(target), upstream));
                }
                Err(error) => {
                    target.suspect(&format!("connect: {error}"));
                    attempts.avoid.push(target.addr);
                }
            }
        }
    }

    async fn open(&self, addr: SocketAddr, attempts: &Attempts) -> io::Result<Upstream> {
        if !attempts.fresh
            && let Some(upstream) = self.line.pool.reuse(addr, !attempts.idempotent).await
        {
            return Ok(upstream);
        }
        self.line.pool.connect(addr).await
    }

    /// The whole response was read.
    pub(crate) fn finish(mut self) {
        if self.source.as_ref().is_none_or(|source| source.ended())
            && let Some(upstream) = self.upstream.take()
        {
            self.line.pool.keep(upstream);
        }
    }

    /// The instance broke off its response.
    pub(crate) fn cut(self) {
        self.line.metrics.failed(Failure::ResponseCut);
    }

    /// A stream was ended because its time was up.
    pub(crate) fn stream_closed(self) {
        self.line.metrics.failed(Failure::StreamClosed);
    }

    /// It is over without a response of an instance; what is left is to answer.
    pub(crate) fn into_meter(self) -> Meter {
        self.meter
    }

    /// The thread's counters.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.line.metrics
    }
}

/// What was tried so far.
struct Attempts {
    idempotent: bool,
    /// Only over a new connection from now on.
    fresh: bool,
    /// Targets that failed this request, in this round.
    avoid: Vec<SocketAddr>,
    /// There is one target only.
    alone: bool,
    sends: u32,
    pause: Duration,
    started: Instant,
}

impl Attempts {
    fn new(exchange: &Exchange, outbound: &Outbound) -> Self {
        let route = &exchange.admitted.table().routes[exchange.admitted.route];
        Self {
            idempotent: idempotent(&outbound.method, &outbound.headers, route.idempotency_key),
            fresh: false,
            avoid: Vec::new(),
            alone: false,
            sends: 0,
            pause: PAUSE,
            started: Instant::now(),
        }
    }

    /// Sending failed: an error unless the request may be sent again.
    fn failed(
        &mut self,
        outbound: &Outbound,
        target: &Target,
        upstream: &Upstream,
        unsent: bool,
    ) -> Result<(), Failed> {
        if outbound
            .source
            .as_ref()
            .is_some_and(|source| source.failed())
        {
            return Err(Failed::ClientBody);
        }
        self.sends += u32::from(!unsent);
        let again = unsent || (upstream.silent() && self.idempotent && self.sends < SENDS);
        if !again || !outbound.replayable() || self.started.elapsed() > PATIENCE {
            return Err(Failed::UpstreamClosed);
        }
        self.fresh = true;
        // A reused connection may only have been idle for too long, or the instance may be dying:
        // where there is another, that goes first.
        if !(upstream.reused && self.alone) {
            self.avoid.push(target.addr);
        }
        Ok(())
    }

    /// Every target refused: wait a little and begin again, unless patience is at its end.
    async fn pause(&mut self, targets: &[Arc<Target>]) -> Result<(), Failed> {
        if targets.is_empty() || self.started.elapsed() > PATIENCE {
            return Err(Failed::NoHealthyInstance);
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.avoid.clear();
        Ok(())
    }
}
