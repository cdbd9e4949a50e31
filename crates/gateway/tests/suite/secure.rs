//! Certificates made on the spot, gateways that speak TLS, and clients of theirs.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use towpath_gateway::api::{Apply, CertificateState, Front, Table};
use towpath_gateway::certificate;

use crate::client::Conn;
use crate::support::{Bounds, Folder, Process};

/// Who signs the certificates of a test.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: RootCertStore,
}

/// A day, in seconds.
pub const DAY: i64 = 86_400;

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            roots,
        }
    }

    /// Chain and key for a host, valid from and to so many seconds from now.
    pub fn issue(&self, host: &str, from: i64, to: i64) -> String {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = at(from).into();
        params.not_after = at(to).into();
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        format!("{}{}", made.pem(), key.serialize_pem())
    }

    /// Chain and key for a host, valid now.
    pub fn good(&self, host: &str) -> String {
        self.issue(host, -DAY, DAY)
    }

    /// A client that offers these protocols.
    pub fn client(&self, protocols: &[&str]) -> TlsConnector {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        TlsConnector::from(Arc::new(config))
    }
}

fn at(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    match seconds < 0 {
        true => SystemTime::now() - distance,
        false => SystemTime::now() + distance,
    }
}

/// A gateway with a plain listener and one for TLS.
pub struct SecureGateway {
    pub process: Process,
    pub listeners: [TcpListener; 2],
    pub plain: SocketAddr,
    pub secure: SocketAddr,
    pub authority: Authority,
    pub folder: Folder,
}

impl SecureGateway {
    /// One with certificates for these hosts, and plain requests served as they are.
    pub async fn serving(hosts: &[&str], table: Table) -> Self {
        Self::within(hosts, table, Bounds::default()).await
    }

    /// The same, with bounds of the test's own.
    pub async fn within(hosts: &[&str], table: Table, bounds: Bounds<'_>) -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let folder = Folder::new();
        std::fs::create_dir(folder.path().join("certificates")).unwrap();
        let authority = Authority::new();
        let socket = folder.path().join("c");
        let process = Process::secure_within(&listeners, &socket, folder.path(), bounds).await;
        let [plain, secure] = listeners.each_ref().map(|one| one.local_addr().unwrap());
        let gateway = Self {
            process,
            listeners,
            plain,
            secure,
            authority,
            folder,
        };
        for host in hosts {
            gateway.renew(host).await;
        }
        gateway.switch(table).await;
        gateway
    }

    /// The same, but plain requests are sent to https.
    pub async fn redirecting(hosts: &[&str], mut table: Table) -> Self {
        table.front = Front {
            https: Some(443),
            ..Front::default()
        };
        Self::serving(hosts, table).await
    }

    pub async fn switch(&self, table: Table) {
        let apply = Apply {
            label: "test".to_owned(),
            expect: None,
            table,
        };
        self.process.control.apply(&apply).await.unwrap();
    }

    pub fn file(&self, host: &str) -> PathBuf {
        self.folder.path().join(format!("certificates/{host}.pem"))
    }

    /// Give a host a new certificate, as its owner would; the PEM text.
    pub async fn renew(&self, host: &str) -> String {
        let pem = self.authority.good(host);
        certificate::write(
            &self.folder.path().join("certificates"),
            host,
            pem.as_bytes(),
        )
        .unwrap();
        self.process.control.certificates().await.unwrap();
        pem
    }

    /// What the gateway says of a host after it has read the folder.
    pub async fn state_of(&self, host: &str) -> CertificateState {
        let certificates = self.process.control.certificates().await.unwrap();
        certificates.hosts[host].clone()
    }

    pub async fn restart(&mut self) {
        self.process.kill();
        let socket = self.folder.path().join("c");
        self.process = Process::secure(&self.listeners, &socket, self.folder.path()).await;
    }

    /// A connection that speaks HTTP/1.
    pub async fn connect(&self, host: &str) -> io::Result<Conn> {
        let client = self.authority.client(&["http/1.1"]);
        shake(self.secure, &client, host).await.map(Conn::over)
    }

    /// A connection that speaks HTTP/2.
    pub async fn http2(&self, host: &str) -> io::Result<Http2> {
        let client = self.authority.client(&["h2", "http/1.1"]);
        Http2::open(self.secure, &client, host).await
    }

    /// The leaf that is shown for a host.
    pub async fn shown(&self, host: &str) -> io::Result<Vec<u8>> {
        let stream = shake(self.secure, &self.authority.client(&[]), host).await?;
        let chain = stream.get_ref().1.peer_certificates();
        Ok(chain.unwrap().first().unwrap().to_vec())
    }
}

pub async fn shake(
    addr: SocketAddr,
    client: &TlsConnector,
    host: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    client.connect(name, stream).await
}

/// An HTTP/2 connection.
#[derive(Clone)]
pub struct Http2 {
    pub sender: SendRequest<Full<Bytes>>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Http2 {
    pub async fn open(addr: SocketAddr, client: &TlsConnector, host: &str) -> io::Result<Self> {
        let builder = http2::Builder::new(TokioExecutor::new());
        Self::built(addr, client, host, builder).await
    }

    /// One that takes so many bytes of a stream before it has read any.
    pub async fn within(
        addr: SocketAddr,
        client: &TlsConnector,
        host: &str,
        window: u32,
    ) -> io::Result<Self> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window);
        Self::built(addr, client, host, builder).await
    }

    async fn built(
        addr: SocketAddr,
        client: &TlsConnector,
        host: &str,
        builder: http2::Builder<TokioExecutor>,
    ) -> io::Result<Self> {
        let stream = shake(addr, client, host).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let opened = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    pub async fn get(&mut self, uri: &str) -> hyper::Result<Answer> {
        let request = Request::get(uri).body(Full::default()).unwrap();
        self.send(request).await
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await?.to_bytes(),
        })
    }
}
