//! Certificates made on the spot, and a client over TLS that retries nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const ANSWER: Duration = Duration::from_secs(20);

/// Who signs.
pub struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap().pem();
        Authority(Issuer::new(params, key), own)
    }

    /// Chain and key for a host.
    pub fn issue(&self, host: &str) -> String {
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.0).unwrap();
        format!("{}{}", made.pem(), key.serialize_pem())
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.1
    }

    /// A client that trusts it.
    pub fn client(&self) -> Https {
        Https::trusting(&self.1)
    }
}

/// A client.
#[derive(Clone)]
pub struct Https(TlsConnector);

impl Https {
    /// One that trusts who these certificates are of.
    pub fn trusting(pem: &str) -> Https {
        let mut roots = RootCertStore::empty();
        for one in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(one.unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Https(TlsConnector::from(Arc::new(config)))
    }

    pub async fn open(&self, addr: SocketAddr, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        self.0.connect(name, TcpStream::connect(addr).await?).await
    }

    /// Status and body of a GET over a connection of its own.
    pub async fn get(&self, addr: SocketAddr, host: &str, path: &str) -> io::Result<(u16, String)> {
        let ask = async {
            let mut stream = self.open(addr, host).await?;
            let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            let (head, body) = answer
                .split_once("\r\n\r\n")
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
            Ok((status.unwrap_or(0), body.to_owned()))
        };
        // An answer that never comes must fail the test, not hang it.
        let answer = tokio::time::timeout(ANSWER, ask).await;
        answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
