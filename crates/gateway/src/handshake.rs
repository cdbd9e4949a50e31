//! The beginning of a TLS connection: which certificate, and a plain answer when there is none.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate::Certificate;
use crate::keyring::Keyring;
use crate::metrics::{Failure, Metrics};
use crate::socket::Socket;

/// Time for a whole handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A fatal alert, `unrecognized_name`, as a record of its own.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// What was agreed on.
pub(crate) struct Secured {
    pub(crate) stream: TlsStream<Socket>,
    pub(crate) session: Session,
    pub(crate) http2: bool,
}

/// What the requests of the connection are held to.
pub(crate) struct Session {
    /// The name that the client asked for.
    name: Option<String>,
    certificate: Arc<Certificate>,
}

impl Session {
    /// Whether the connection is one to this host: the client has seen a certificate for it.
    pub(crate) fn is_for(&self, host: &str) -> bool {
        let named = self.name.as_ref();
        named.is_some_and(|name| name.eq_ignore_ascii_case(host)) || self.certificate.covers(host)
    }
}

/// Shake hands; none when it failed, and the client was told why.
pub(crate) async fn shake(stream: Socket, keyring: &Keyring, metrics: &Metrics) -> Option<Secured> {
    match tokio::time::timeout(HANDSHAKE, attempt(stream, keyring)).await {
        Ok(Ok(Some(secured))) => Some(secured),
        Ok(Ok(None)) => {
            metrics.failed(Failure::NoCertificate);
            None
        }
        _ => {
            metrics.failed(Failure::Handshake);
            None
        }
    }
}

async fn attempt(stream: Socket, keyring: &Keyring) -> io::Result<Option<Secured>> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let name = start.client_hello().server_name().map(str::to_owned);
    let Some(certificate) = keyring.find(name.as_deref()) else {
        start.io.write_all(&UNRECOGNIZED_NAME).await?;
        start.io.shutdown().await?;
        return Ok(None);
    };
    let stream = start.into_stream(Arc::clone(&certificate.config)).await?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let session = Session { name, certificate };
    Ok(Some(Secured {
        stream,
        session,
        http2,
    }))
}
