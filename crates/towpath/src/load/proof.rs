//! After the load: every acknowledged write is asked for again, and the application's own counts are read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::Value;
use tokio::task::JoinSet;

use super::client::{Ask, Client, Target};
use super::report::{ReadBack, Zero};
use super::shape::read_path;
use super::{Error, Token, excerpt};
use crate::config::{Traffic, TrafficWrite, TrafficZero};

/// Asks after the first that gave no clear answer.
const RETRIES: u32 = 3;
/// Pause before each of them.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of an answer that are read as JSON.
const ANSWER: usize = 1 << 20;
/// Identifiers named in the result.
const NAMED: usize = 20;

/// What a clear answer says of a write.
#[derive(Debug)]
enum Verdict {
    Found,
    Lost,
    Doubled,
    Unreadable(String),
}

/// Asks for each of these writes over `traffic.connections` connections, and counts what is lost, doubled or unreadable.
///
/// # Errors
/// No write is declared while there are identifiers, or host or token cannot be sent. An application that does not answer is no
/// error: its writes are unreadable.
pub async fn read_back(
    addr: SocketAddr,
    host: Option<&str>,
    traffic: &Traffic,
    token: Option<&Token>,
    ids: &[String],
) -> Result<ReadBack, Error> {
    let target = Arc::new(Target::new(addr, host, token)?);
    let Some(write) = &traffic.write else {
        return if ids.is_empty() {
            Ok(ReadBack::default())
        } else {
            Err(Error::NothingDeclared)
        };
    };
    let work = Arc::new(Work {
        write: write.clone(),
        ids: ids.to_vec(),
        next: AtomicUsize::new(0),
    });
    let mut workers = JoinSet::new();
    for _ in 0..traffic.connections.max(1) {
        workers.spawn(Arc::clone(&work).drain(Client::new(Arc::clone(&target))));
    }
    let mut verdicts: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    verdicts.sort_by_key(|(index, _)| *index);
    Ok(summary(ids, verdicts))
}

/// The identifiers still to be asked for.
struct Work {
    write: TrafficWrite,
    ids: Vec<String>,
    next: AtomicUsize,
}

impl Work {
    /// Takes identifiers until there are none; gives back those that were not simply found.
    async fn drain(self: Arc<Self>, mut client: Client) -> Vec<(usize, Verdict)> {
        let mut verdicts = Vec::new();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(id) = self.ids.get(index) else {
                return verdicts;
            };
            match judge(&mut client, &self.write, id).await {
                Verdict::Found => {}
                verdict => verdicts.push((index, verdict)),
            }
        }
    }
}

fn summary(ids: &[String], verdicts: Vec<(usize, Verdict)>) -> ReadBack {
    let mut back = ReadBack {
        acknowledged: ids.len() as u64,
        ..ReadBack::default()
    };
    for (index, verdict) in verdicts {
        match verdict {
            Verdict::Found => {}
            Verdict::Lost => name(&mut back.lost, &mut back.lost_ids, &ids[index]),
            Verdict::Doubled => name(&mut back.doubled, &mut back.doubled_ids, &ids[index]),
            Verdict::Unreadable(detail) => {
                back.unreadable += 1;
                back.unreadable_detail.get_or_insert(detail);
            }
        }
    }
    back
}

fn name(count: &mut u64, ids: &mut Vec<String>, id: &str) {
    *count += 1;
    if ids.len() < NAMED {
        ids.push(id.to_owned());
    }
}

async fn judge(client: &mut Client, write: &TrafficWrite, id: &str) -> Verdict {
    let path = read_path(&write.read, id);
    let judged = ask(client, &path, |status, body| match status {
        StatusCode::NOT_FOUND => Ok(Verdict::Lost),
        StatusCode::OK => times(write, body).map(by_times),
        _ => Err(format!("{status}: {}", excerpt(body))),
    });
    judged.await.unwrap_or_else(Verdict::Unreadable)
}

fn times(write: &TrafficWrite, body: &[u8]) -> Result<u64, String> {
    match &write.count {
        Some(pointer) => number(&json(body)?, pointer),
        None => Ok(1),
    }
}

fn by_times(times: u64) -> Verdict {
    match times {
        0 => Verdict::Lost,
        1 => Verdict::Found,
        _ => Verdict::Doubled,
    }
}

/// Reads the numbers that the application counts itself, in their order.
///
/// # Errors
/// A number that cannot be read in four asks: what is not known is not zero.
pub async fn zeros(
    addr: SocketAddr,
    host: Option<&str>,
    traffic: &Traffic,
    token: Option<&Token>,
) -> Result<Vec<Zero>, Error> {
    let mut client = Client::new(Arc::new(Target::new(addr, host, token)?));
    let mut zeros = Vec::new();
    for declared in &traffic.zeros {
        zeros.push(read_zero(&mut client, declared).await?);
    }
    Ok(zeros)
}

async fn read_zero(client: &mut Client, declared: &TrafficZero) -> Result<Zero, Error> {
    let read = ask(client, &declared.get, |status, body| {
        if !status.is_success() {
            return Err(format!("{status}: {}", excerpt(body)));
        }
        let answer = json(body)?;
        Ok((
            number(&answer, &declared.value)?,
            number(&answer, &declared.of)?,
        ))
    });
    let (value, of) = read.await.map_err(|detail| Error::Zero {
        name: declared.name.clone(),
        detail,
    })?;
    Ok(Zero {
        name: declared.name.clone(),
        value,
        of,
    })
}

/// GETs until the answer makes sense, at most four times; the last reason when it never does.
async fn ask<T>(
    client: &mut Client,
    path: &str,
    understand: impl Fn(StatusCode, &[u8]) -> Result<T, String>,
) -> Result<T, String> {
    let mut retries = 0;
    loop {
        let answered = client
            .send(&Ask::get(path), ANSWER)
            .await
            .map_err(|fault| fault.detail);
        let understood = answered.and_then(|answer| understand(answer.status, &answer.body));
        if understood.is_ok() || retries == RETRIES {
            return understood;
        }
        retries += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

fn json(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| format!("answer is not JSON: {error}"))
}

fn number(answer: &Value, pointer: &str) -> Result<u64, String> {
    let found = answer
        .pointer(pointer)
        .ok_or_else(|| format!("nothing at `{pointer}`"))?;
    found
        .as_u64()
        .ok_or_else(|| format!("`{pointer}` is {found}, not a count"))
}
