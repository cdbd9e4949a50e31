//! A WebSocket after the instance's 101: bytes both ways, and a close frame when its time is up.
//!
//! The frames towards the client are followed just far enough to know where one ends, because a close frame may only
//! stand between two.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::exchange::Exchange;
use crate::metrics::{Failure, Metrics};

/// An unmasked close frame with code 1012, "service restart".
const CLOSE_1012: [u8; 4] = [0x88, 0x02, 0x03, 0xf4];
/// How long the rest of a frame that has begun may take when the tunnel is to close.
const FRAME_END: Duration = Duration::from_millis(500);
/// How long a client may take to answer a close frame.
const LINGER: Duration = Duration::from_secs(1);
const BUFFER: usize = 16 * 1024;

/// Counts an open WebSocket.
struct Open(Arc<Metrics>, String);

impl Open {
    fn new(metrics: &Arc<Metrics>, service: &str) -> Self {
        metrics.websocket_opened(service);
        Self(Arc::clone(metrics), service.to_owned())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.websocket_closed(&self.1);
    }
}

/// Carry bytes until one side ends, or the exchange's stream is to close.
pub(crate) async fn run(client: Upgraded, instance: Upgraded, mut exchange: Exchange) {
    let metrics = Arc::clone(exchange.metrics());
    let open = Open::new(&metrics, exchange.service());
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_instance, mut to_instance) = tokio::io::split(TokioIo::new(instance));
    let mut frames = Frames::default();
    let Some(mut closing) = exchange.take_closing() else {
        return;
    };
    let ended = tokio::select! {
        _ = both(&mut from_client, &mut to_client, &mut from_instance, &mut to_instance, &mut frames) => true,
        _ = closing.changed() => false,
    };
    if ended {
        return;
    }
    // Nothing more goes to the instance, and what it has begun to say is said to its end.
    let _ = tokio::time::timeout(
        FRAME_END,
        finish_frame(&mut from_instance, &mut to_client, &mut frames),
    )
    .await;
    drop((from_instance, to_instance));
    metrics.failed(Failure::StreamClosed);
    drop((exchange, open));
    if frames.between() {
        let _ = tokio::time::timeout(LINGER, say_goodbye(&mut from_client, &mut to_client)).await;
    }
}

async fn both(
    from_client: &mut (impl AsyncRead + Unpin),
    to_client: &mut (impl AsyncWrite + Unpin),
    from_instance: &mut (impl AsyncRead + Unpin),
    to_instance: &mut (impl AsyncWrite + Unpin),
    frames: &mut Frames,
) -> io::Result<()> {
    let up = async {
        tokio::io::copy(from_client, to_instance).await?;
        to_instance.shutdown().await
    };
    let down = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = from_instance.read(&mut buffer).await?;
            if count == 0 {
                return to_client.shutdown().await;
            }
            // A write that is given up in its middle must not look like a boundary.
            frames.follow(&buffer[..count]);
            frames.torn = true;
            to_client.write_all(&buffer[..count]).await?;
            frames.torn = false;
        }
    };
    tokio::try_join!(up, down).map(|_| ())
}

async fn finish_frame(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    frames: &mut Frames,
) -> io::Result<()> {
    while !frames.between() {
        let mut byte = [0; 1];
        let wanted = frames.payload.min(BUFFER as u64);
        if wanted == 0 {
            from.read_exact(&mut byte).await?;
            frames.follow(&byte);
            to.write_all(&byte).await?;
        } else {
            let mut piece = vec![0; wanted as usize];
            from.read_exact(&mut piece).await?;
            frames.follow(&piece);
            to.write_all(&piece).await?;
        }
    }
    Ok(())
}

async fn say_goodbye(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    to.write_all(&CLOSE_1012).await?;
    to.shutdown().await?;
    // Reading to the end: bytes left unread would make the kernel reset the connection and lose the frame.
    tokio::io::copy(from, &mut tokio::io::sink())
        .await
        .map(|_| ())
}

/// Where in the frames of one direction the next byte stands.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: [u8; 14],
    head_len: usize,
    /// Payload bytes still to come.
    payload: u64,
    /// A write was given up in its middle.
    torn: bool,
}

impl Frames {
    /// Whether the next byte begins a frame.
    fn between(&self) -> bool {
        self.head_len == 0 && self.payload == 0 && !self.torn
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let skip = self.payload.min(bytes.len() as u64);
                self.payload -= skip;
                bytes = &bytes[skip as usize..];
                continue;
            }
            self.head[self.head_len] = *first;
            self.head_len += 1;
            bytes = rest;
            if let Some(payload) = self.payload_length() {
                self.payload = payload;
                self.head_len = 0;
            }
        }
    }

    /// The length of the payload when the head is complete.
    fn payload_length(&self) -> Option<u64> {
        let head = &self.head[..self.head_len];
        let second = *head.get(1)?;
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if head.len() < 2 + extended + mask {
            return None;
        }
        Some(match extended {
            0 => u64::from(second & 0x7f),
            _ => head[2..2 + extended]
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
        })
    }
}
