//! Requests to an issuer: HTTP/1.1 over TLS, a connection each.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Error;
use crate::config::Acme;

/// Time for one request and its answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Largest answer.
const LARGEST: usize = 1 << 20;

/// A client of one issuer.
pub(super) struct Http(TlsConnector);

impl Http {
    pub(super) fn new(acme: &Acme) -> Result<Http, Error> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Issuer(error.to_string()))?
            .with_root_certificates(roots(acme)?)
            .with_no_client_auth();
        Ok(Http(TlsConnector::from(Arc::new(config))))
    }
}

/// Most bytes of a file of roots.
const ROOTS_LIMIT: u64 = 256 << 10;

/// A regular file of a sane size: a manifest names it, and it is read in the agent.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() || found.len() > ROOTS_LIMIT {
        return Err(io::Error::other("it is no file of certificates"));
    }
    std::fs::read(path)
}

/// Who may sign for the issuer's own name.
fn roots(acme: &Acme) -> Result<RootCertStore, Error> {
    let Some(path) = &acme.ca else {
        return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
    };
    let io = |error: io::Error| Error::Io(path.clone(), error);
    let text = read(path).map_err(io)?;
    let mut roots = RootCertStore::empty();
    for one in CertificateDer::pem_slice_iter(&text) {
        let one = one.map_err(|error| io(io::Error::other(error.to_string())))?;
        roots
            .add(one)
            .map_err(|error| io(io::Error::other(error)))?;
    }
    match roots.is_empty() {
        true => Err(io(io::Error::other("it holds no certificate"))),
        false => Ok(roots),
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let connector = self.0.clone();
        Box::pin(async move {
            let uri = request.uri().clone();
            let answer = timeout(ANSWER, exchange(connector, request)).await;
            let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            answer.map_err(|error| instant_acme::Error::Other(format!("{uri}: {error}").into()))
        })
    }
}

async fn exchange(
    connector: TlsConnector,
    mut request: Request<BodyWrapper<Bytes>>,
) -> io::Result<BytesResponse> {
    let (host, port) = place(request.uri())?;
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    let stream = connector.connect(name, stream).await?;
    let authority = request.uri().authority().map(ToString::to_string);
    let authority =
        HeaderValue::try_from(authority.unwrap_or_default()).map_err(io::Error::other)?;
    request.headers_mut().insert(HOST, authority);
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // It ends with the sender, or with the other side.
    tokio::spawn(connection);
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, LARGEST).collect().await;
    let body = body.map_err(io::Error::other)?.to_bytes();
    Ok(BytesResponse {
        parts,
        body: Box::new(body),
    })
}

fn place(uri: &Uri) -> io::Result<(String, u16)> {
    let https = uri.scheme_str() == Some("https");
    let host = uri.host().filter(|_| https);
    let host = host.ok_or_else(|| io::Error::other("not an https URL"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), uri.port_u16().unwrap_or(443)))
}
