//! From a client's request to the response it gets.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Uri, Version};
use tokio::sync::watch;

use crate::body::{Forwarded, Reply, Source};
use crate::connection::Place;
use crate::edge::{Answer, Look, Visit, Wanted};
use crate::exchange::{Exchange, Failed, Line, Meter, Outbound};
use crate::front::Greeting;
use crate::handshake::Session;
use crate::metrics::Failure;
use crate::readiness;
use crate::request::{self, Checked, Peer};
use crate::streams::{Stream, Streams};
use crate::traffic::Turned;
use crate::tunnel;
use crate::worker::Phase;

/// One client connection, as its requests see it.
pub(crate) struct Client {
    pub(crate) line: Rc<Line>,
    pub(crate) peer: Peer,
    pub(crate) phase: watch::Receiver<Phase>,
    /// Kept by a tunnel when the connection becomes one.
    pub(crate) place: Rc<Place>,
    /// Over TLS.
    pub(crate) session: Option<Session>,
    /// Over HTTP/2.
    pub(crate) streams: Rc<Streams>,
}

impl Client {
    /// Answer one request.
    pub(crate) async fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Reply>, Infallible> {
        let meter = Meter::new(&self.line.metrics, request.method().clone());
        let (mut parts, body) = request.into_parts();
        let http2 = parts.version == Version::HTTP_2;
        let view = self.line.door.view();
        let mut visit = Visit::begin(view, &mut parts, &self.peer, self.session.is_some());
        let (mut response, last) = match request::check(&parts) {
            Ok(checked) => {
                let upgrade = checked.upgrade;
                let taken_up = self.take_up(parts, body, checked, meter, &mut visit);
                (taken_up.await, upgrade)
            }
            Err((status, text)) => {
                self.line.metrics.failed(Failure::BadRequest);
                (own(meter, status, text), true)
            }
        };
        visit.end(response.status(), response.headers_mut());
        // HTTP/2 ends connections by frames of its own.
        Ok(if http2 {
            response
        } else {
            self.last(response, last)
        })
    }

    /// What is not the instances' to answer is answered here.
    async fn take_up(
        &self,
        parts: Parts,
        body: Incoming,
        checked: Checked,
        meter: Meter,
        visit: &mut Visit,
    ) -> Response<Reply> {
        if let Some(answer) = readiness::answer(&parts, visit.table(), &self.line.front) {
            return about_itself(meter, answer);
        }
        match &self.session {
            None => {
                let front = &self.line.front;
                if let Some(greeting) = front.greet(&parts, &checked, visit.table()) {
                    return greet(meter, greeting);
                }
            }
            // HTTP/1.0 may name no host.
            Some(session) if checked.host.is_some() && !session.is_for(checked.host_name()) => {
                self.line.metrics.failed(Failure::BadRequest);
                let text = "this connection is not for that host";
                return own(meter, StatusCode::MISDIRECTED_REQUEST, text);
            }
            Some(_) => {}
        }
        if let Some(answer) = visit.meet(&parts, &checked, &self.peer) {
            return self.edge(answer, visit, meter);
        }
        let stream = match parts.version {
            Version::HTTP_2 => match self.streams.open(&self.place) {
                Some(stream) => Some(stream),
                None => return self.turned(Turned::Full, meter),
            },
            _ => None,
        };
        self.pass(parts, body, checked, meter, visit, stream).await
    }

    /// An answer of the edge.
    fn edge(&self, answer: Answer, visit: &Visit, mut meter: Meter) -> Response<Reply> {
        if let Some(reason) = answer.reason {
            self.line.metrics.failed(reason);
        }
        if let Some(route) = answer.route {
            meter.set_label(&visit.table().routes[route].label);
        }
        meter.set_status(answer.status.as_u16());
        let mut response = Response::new(Reply::Text(answer.body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response
    }

    /// End the connection with this response if it must be the last, or the gateway retires.
    fn last(&self, mut response: Response<Reply>, last: bool) -> Response<Reply> {
        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if !switching && (last || *self.phase.borrow() != Phase::Serving) {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn pass(
        &self,
        mut parts: Parts,
        body: Incoming,
        checked: Checked,
        meter: Meter,
        visit: &Visit,
        stream: Option<Rc<Stream>>,
    ) -> Response<Reply> {
        let entered = self
            .line
            .door
            .enter(checked.host_name(), parts.uri.path(), checked.websocket)
            .await;
        let admitted = match entered {
            Ok(admitted) => admitted,
            Err(turned) => return self.turned(turned, meter),
        };
        if let Some(answer) = visit.meet_again(admitted.table(), &parts, &self.peer) {
            return self.edge(answer, visit, meter);
        }
        let client = parts
            .extensions
            .remove::<OnUpgrade>()
            .filter(|_| checked.websocket);
        let trusted = admitted.table().trusts(self.peer.ip);
        request::dress(&mut parts.headers, &checked, &self.peer, trusted);
        let rewritten = admitted.table().routes[admitted.route].rewritten(path_of(&parts.uri));
        let uri = origin_form(&parts.uri, rewritten);
        let source = (!body.is_end_stream()).then(|| Source::new(body));
        let outbound = Outbound {
            method: parts.method,
            uri,
            headers: parts.headers,
            source,
        };
        let mut exchange = Exchange::new(&self.line, admitted, meter);
        let wanted = match exchange.look(&outbound) {
            Look::Hit(headers, body) => {
                return kept(headers, Reply::Kept { body, stream }, exchange.into_meter());
            }
            Look::Miss(wanted) => Some(wanted),
            Look::Never => None,
        };
        match exchange.send(&outbound).await {
            Ok(response) => {
                exchange.heard(&outbound, response.status());
                self.respond(response, exchange, client, stream, wanted)
            }
            Err(failed) => self.failed(failed, exchange),
        }
    }

    fn respond(
        &self,
        response: Response<Incoming>,
        mut exchange: Exchange,
        client: Option<OnUpgrade>,
        stream: Option<Rc<Stream>>,
        wanted: Option<Box<Wanted>>,
    ) -> Response<Reply> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match client {
                Some(client) => self.switch(response, exchange, client),
                None => self.failed(Failed::UpstreamClosed, exchange),
            };
        }
        exchange.meter.set_status(response.status().as_u16());
        let (mut parts, incoming) = response.into_parts();
        // A version is of one hop (RFC 9110, 2.5); HTTP/2 says none.
        if stream.is_none() {
            parts.version = Version::HTTP_11;
        }
        // One that ends with its connection may have been broken off.
        let ends = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
            .iter()
            .any(|name| parts.headers.contains_key(name));
        request::remove_hop(&mut parts.headers);
        let wanted = wanted.filter(|_| ends);
        let filling = wanted.and_then(|wanted| wanted.begin(parts.status, &mut parts.headers));
        let forwarded = Forwarded::new(incoming, exchange, stream, filling);
        Response::from_parts(parts, Reply::Forwarded(Box::new(forwarded)))
    }

    /// The instance has accepted a WebSocket: only now may bytes flow.
    fn switch(
        &self,
        mut response: Response<Incoming>,
        mut exchange: Exchange,
        client: OnUpgrade,
    ) -> Response<Reply> {
        exchange
            .meter
            .set_status(StatusCode::SWITCHING_PROTOCOLS.as_u16());
        let instance = hyper::upgrade::on(&mut response);
        let place = Rc::clone(&self.place);
        tokio::task::spawn_local(async move {
            let _place = place;
            if let (Ok(client), Ok(instance)) = (client.await, instance.await) {
                tunnel::run(client, instance, exchange).await;
            }
        });
        let (mut parts, _) = response.into_parts();
        parts.version = Version::HTTP_11;
        request::remove_hop(&mut parts.headers);
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts
            .headers
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        Response::from_parts(parts, Reply::Empty)
    }

    fn turned(&self, turned: Turned, meter: Meter) -> Response<Reply> {
        let (reason, status, text) = match turned {
            Turned::Closed => (
                Failure::Closed,
                StatusCode::SERVICE_UNAVAILABLE,
                "closed for maintenance",
            ),
            Turned::Full => (
                Failure::QueueFull,
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests are waiting",
            ),
            Turned::NoRoute => (Failure::NoRoute, StatusCode::NOT_FOUND, "no route"),
        };
        self.line.metrics.failed(reason);
        own(meter, status, text)
    }

    fn failed(&self, failed: Failed, exchange: Exchange) -> Response<Reply> {
        let pool = exchange.pool_name();
        let (reason, status, text) = match failed {
            Failed::NoHealthyInstance => {
                let text = format!("no healthy instance of pool {pool}");
                (
                    Failure::NoHealthyInstance,
                    StatusCode::SERVICE_UNAVAILABLE,
                    text,
                )
            }
            Failed::UpstreamClosed => {
                let text =
                    format!("an instance of pool {pool} closed the connection without a response");
                (Failure::UpstreamClosed, StatusCode::BAD_GATEWAY, text)
            }
            Failed::ClientBody => (
                Failure::ClientBody,
                StatusCode::BAD_REQUEST,
                "bad request body".to_owned(),
            ),
            Failed::StreamClosed => (
                Failure::StreamClosed,
                StatusCode::SERVICE_UNAVAILABLE,
                "the stream was closed".to_owned(),
            ),
        };
        self.line.metrics.failed(reason);
        let mut meter = exchange.into_meter();
        meter.set_status(status.as_u16());
        own(meter, status, &text)
    }
}

/// A response that was given before.
fn kept(headers: HeaderMap, reply: Reply, mut meter: Meter) -> Response<Reply> {
    meter.set_status(StatusCode::OK.as_u16());
    let mut response = Response::new(reply);
    *response.headers_mut() = headers;
    response
}

/// A response of the gateway itself: one line.
fn own(mut meter: Meter, status: StatusCode, text: &str) -> Response<Reply> {
    meter.set_status(status.as_u16());
    let mut response = Response::new(Reply::Text(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Asked of the gateway itself.
fn about_itself(mut meter: Meter, answer: readiness::Answer) -> Response<Reply> {
    meter.set_label(&answer.label);
    let mut response = own(meter, answer.status, "");
    *response.body_mut() = Reply::Text(answer.body);
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn greet(meter: Meter, greeting: Greeting) -> Response<Reply> {
    match greeting {
        Greeting::Challenge(answer) => {
            let mut response = own(meter, StatusCode::OK, "");
            *response.body_mut() = Reply::Text(Bytes::from(answer));
            response
        }
        Greeting::Redirect(place) => {
            let mut response = own(meter, StatusCode::PERMANENT_REDIRECT, "by https");
            response.headers_mut().insert(header::LOCATION, place);
            response
        }
        Greeting::Refused(status, text) => own(meter, status, &text),
    }
}

fn path_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |path| path.as_str())
}

/// The URI as an instance is asked: path and query only.
fn origin_form(uri: &Uri, rewritten: Option<String>) -> Uri {
    match rewritten {
        Some(path) => Uri::try_from(path).unwrap_or_else(|_| uri.clone()),
        None if uri.scheme().is_none() && uri.authority().is_none() => uri.clone(),
        None => uri
            .path_and_query()
            .cloned()
            .map_or_else(Uri::default, Uri::from),
    }
}
