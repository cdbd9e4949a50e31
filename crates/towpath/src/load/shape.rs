//! The requests that an application declares, in the form they are sent in.

use bytes::Bytes;
use hyper::Method;

use super::client::Ask;
use super::mix::Ticket;
use crate::config::Traffic;

/// One declared request.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) weight: u32,
    path: String,
    pub(super) expect: Vec<u16>,
    /// The body of the write, with its references; `None` for a read.
    body: Option<String>,
}

impl Shape {
    /// The reads in their order, then the write.
    pub(super) fn all(traffic: &Traffic) -> Vec<Self> {
        let reads = traffic.requests.iter().map(|read| Self {
            weight: read.weight,
            path: read.get.clone(),
            expect: read.expect.clone(),
            body: None,
        });
        let write = traffic.write.iter().map(|write| Self {
            weight: write.weight,
            path: write.post.clone(),
            expect: write.expect.clone(),
            body: Some(write.body.clone()),
        });
        reads.chain(write).collect()
    }

    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method(), self.path)
    }

    pub(super) fn is_write(&self) -> bool {
        self.body.is_some()
    }

    fn method(&self) -> Method {
        if self.is_write() {
            Method::POST
        } else {
            Method::GET
        }
    }

    pub(super) fn ask(&self, ticket: &Ticket, run: &str) -> Ask<'_> {
        let body = self.body.as_deref().map(|body| fill(body, run, ticket.nth));
        Ask {
            method: self.method(),
            path: &self.path,
            body: body.map(Bytes::from).unwrap_or_default(),
            fresh: ticket.fresh,
            slow: false,
        }
    }
}

/// The identifier of a run's n-th write: plain letters, so it needs no escaping in JSON or a path.
pub(super) fn write_id(run: &str, n: u64) -> String {
    format!("{run}-{n}")
}

/// The path that finds a write.
pub(super) fn read_path(template: &str, id: &str) -> String {
    template.replace("${id}", id)
}

fn fill(template: &str, run: &str, n: u64) -> String {
    template
        .replace("${id}", &write_id(run, n))
        .replace("${n}", &n.to_string())
}
