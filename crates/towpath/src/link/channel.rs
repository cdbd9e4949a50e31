//! One connection to an agent: the streams of an `ssh` child.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Join, ReadBuf, join};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::timeout;

use super::fault::{self, Fault};
use super::{Malformed, Preface, Route};

/// Longest wait for the far side's first line: it may have to start an agent, which adopts first.
/// With somebody there, a passphrase may have to be typed before.
const SAYS_WHO: Duration = Duration::from_secs(60);

/// Longest wait for the child's end, once its output has ended.
const ENDS: Duration = Duration::from_secs(2);

/// As much of what it says on standard error is kept.
const ERRORS: usize = 8 << 10;

/// A connection; it is cut when this is dropped.
pub struct Channel {
    streams: Join<ChildStdout, ChildStdin>,
    // Dropped with the rest: it is killed then.
    _child: Child,
}

/// What the child says on standard error; a shared connection may keep that stream open for long.
type Errors = Arc<Mutex<Vec<u8>>>;

impl Channel {
    /// Dials; gives what the far side says of itself, too. With `any_version` the far side may be
    /// of any version.
    ///
    /// # Errors
    /// [`Fault`], which says why nobody is there.
    pub async fn open(route: &Route, any_version: bool) -> Result<(Channel, Preface), Fault> {
        let spawned = route.ssh.command(&route.remote()).spawn();
        let mut child = spawned.map_err(|error| fault::no_ssh(route, &error))?;
        let errors = Errors::default();
        let (Some(stdin), Some(mut stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(fault::no_ssh(route, &std::io::Error::other("no pipes")));
        };
        let reader = tokio::spawn(keep(stderr, errors.clone()));
        let read = timeout(SAYS_WHO, Preface::read(&mut stdout)).await;
        let preface = match read {
            Ok(Ok(preface)) => preface,
            Ok(Err(Malformed::Other(text))) => return Err(fault::chatty(route, &text)),
            Ok(Err(Malformed::Ended(_) | Malformed::Io(_))) => {
                return Err(ended(route, &mut child, reader, &errors).await);
            }
            Err(_) => return Err(fault::silent(route, &text(&errors), SAYS_WHO)),
        };
        if let Some(refused) = preface.trouble {
            return Err(Fault::Refused(refused));
        }
        fault::refuse_other(route, &preface)?;
        if !any_version {
            fault::refuse_skew(route, &preface)?;
        }
        let channel = Channel {
            streams: join(stdout, stdin),
            _child: child,
        };
        Ok((channel, preface))
    }
}

/// Why it ended before it had said who speaks.
async fn ended(
    route: &Route,
    child: &mut Child,
    reader: tokio::task::JoinHandle<()>,
    errors: &Errors,
) -> Fault {
    let status = timeout(ENDS, child.wait()).await;
    let _ = timeout(ENDS / 10, reader).await;
    let code = status.ok().and_then(Result::ok).and_then(|end| end.code());
    fault::ended(route, code, &text(errors))
}

async fn keep(mut stderr: ChildStderr, errors: Errors) {
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut piece).await {
        let mut kept = errors.lock().unwrap_or_else(PoisonError::into_inner);
        let room = ERRORS.saturating_sub(kept.len());
        kept.extend_from_slice(&piece[..read.min(room)]);
    }
}

fn text(errors: &Errors) -> String {
    let kept = errors.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&kept).trim().to_owned()
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.streams).poll_read(context, buffer)
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.streams).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.streams).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.streams).poll_shutdown(context)
    }
}
