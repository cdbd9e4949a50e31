//! Steady health checks: one task a target of the table in force, on the control thread.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::answer::Answer;
use crate::api::Health;
use crate::table::Table;
use crate::target::Target;

/// The checks of one table; dropping them ends them.
pub(crate) struct Checks {
    _tasks: JoinSet<()>,
}

impl Checks {
    /// Begin to check the targets of a table.
    pub(crate) fn start(table: &Table) -> Self {
        let mut tasks = JoinSet::new();
        for (target, health) in table.targets() {
            match health {
                Some(health) => {
                    tasks.spawn_local(watch(Arc::clone(target), health.clone()));
                }
                // Whatever an earlier table's checks had found is nobody's opinion any more.
                None => target.set_healthy(true),
            }
        }
        Self { _tasks: tasks }
    }
}

async fn watch(target: Arc<Target>, health: Health) {
    let mut every = tokio::time::interval(Duration::from_millis(health.interval_ms));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut passed, mut failed) = (0, 0);
    loop {
        every.tick().await;
        match check(&target, &health).await {
            Ok(()) => {
                (passed, failed) = (passed + 1, 0);
                if passed >= health.passes {
                    target.set_healthy(true);
                    target.cleared();
                }
            }
            Err(error) => {
                (passed, failed) = (0, failed + 1);
                target.note(&error.to_string());
                if failed >= health.failures {
                    target.set_healthy(false);
                }
            }
        }
    }
}

async fn check(target: &Target, health: &Health) -> io::Result<()> {
    let until = Instant::now() + Duration::from_millis(health.timeout_ms);
    let asked = timeout_at(until, ask(target, health.path.as_deref())).await;
    let asked = asked.map_err(|_| {
        io::Error::other(format!("check: no answer within {} ms", health.timeout_ms))
    })?;
    let (Some(mut answer), Some(path)) = (asked?, &health.path) else {
        return Ok(());
    };
    answer.drain(until).await;
    match answer.status() {
        Some(200..400) => Ok(()),
        Some(code) => Err(io::Error::other(format!("GET {path} -> {code}"))),
        None => Err(io::Error::other(format!("GET {path} -> no HTTP"))),
    }
}

/// Connects, and asks where there is a path to ask for.
async fn ask(target: &Target, path: Option<&str>) -> io::Result<Option<Answer<TcpStream>>> {
    let mut stream = TcpStream::connect(target.addr)
        .await
        .map_err(|error| io::Error::other(format!("connect: {error}")))?;
    let Some(path) = path else { return Ok(None) };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        target.addr
    );
    stream.write_all(request.as_bytes()).await?;
    Answer::begin(stream).await.map(Some)
}
