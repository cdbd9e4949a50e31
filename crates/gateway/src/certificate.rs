//! One certificate with its key: read, judged, written.
//!
//! A file holds the chain, leaf first, and then the key. So a file that was cut off anywhere has no key, or half of
//! one, and is found out.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::validity::{Validity, validity};

/// Largest file that is read.
const LARGEST: u64 = 256 * 1024;
/// What a client may speak, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why a certificate cannot be used for its host.
#[derive(Debug)]
pub enum Unusable {
    /// The host's name is none that a file may be called by.
    Host(String),
    /// The file cannot be read or written.
    Io(io::Error),
    /// It is no file, or too large to be one of a certificate.
    NoFile,
    /// There is no certificate in it.
    NoCertificate,
    /// There is no key in it.
    NoKey,
    /// It ends in the middle.
    CutOff,
    /// What is in it cannot be read.
    Broken(String),
    /// The key is not the certificate's.
    OtherKey,
    /// The certificate is of other names.
    OtherName(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "`{host}` is no host name"),
            Self::Io(error) => write!(f, "the file: {error}"),
            Self::NoFile => f.write_str("it is no file of a certificate"),
            Self::NoCertificate => f.write_str("the file has no certificate"),
            Self::NoKey => f.write_str("the file has no key after its certificates: it is cut off"),
            Self::CutOff => f.write_str("the file is cut off"),
            Self::Broken(error) => write!(f, "the file cannot be read: {error}"),
            Self::OtherKey => f.write_str("the key is not that of the certificate"),
            Self::OtherName(host) => write!(f, "the certificate is not for {host}"),
        }
    }
}

impl std::error::Error for Unusable {}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A certificate that can be served.
#[derive(Debug)]
pub(crate) struct Certificate {
    leaf: CertificateDer<'static>,
    pub(crate) validity: Validity,
    /// Sessions are resumed only with the very certificate that they began with.
    pub(crate) config: Arc<ServerConfig>,
}

impl Certificate {
    /// Read what the PEM text says, for a host.
    pub(crate) fn read(host: &str, pem: &[u8]) -> Result<Self, Unusable> {
        let broken = |error: &dyn fmt::Display| Unusable::Broken(error.to_string());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(unread)?;
        let leaf = chain.first().cloned().ok_or(Unusable::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(unread)?;
        let provider = Arc::new(ring::default_provider());
        let pair = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Unusable::OtherKey,
            error => broken(&error),
        })?;
        let validity = validity(&leaf).ok_or_else(|| broken(&"it says no time"))?;
        let config = configure(provider, pair).map_err(|error| broken(&error))?;
        let certificate = Self {
            leaf,
            validity,
            config: Arc::new(config),
        };
        match certificate.covers(host) {
            true => Ok(certificate),
            false => Err(Unusable::OtherName(host.to_owned())),
        }
    }

    /// Whether it is for this host name too.
    pub(crate) fn covers(&self, host: &str) -> bool {
        let Ok(name) = ServerName::try_from(host) else {
            return false;
        };
        ParsedCertificate::try_from(&self.leaf)
            .is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
    }

    /// What a client would have against it now.
    pub(crate) fn out_of_time(&self) -> Option<&'static str> {
        let now = now();
        if now > self.validity.not_after {
            Some("it has expired")
        } else if now < self.validity.not_before {
            Some("it is not valid yet")
        } else {
            None
        }
    }
}

fn unread(error: pem::Error) -> Unusable {
    match error {
        pem::Error::MissingSectionEnd { .. } => Unusable::CutOff,
        pem::Error::NoItemsFound => Unusable::NoKey,
        error => Unusable::Broken(error.to_string()),
    }
}

fn configure(
    provider: Arc<CryptoProvider>,
    pair: CertifiedKey,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// The file of a host's certificate.
///
/// # Errors
/// When no file may be called by that name.
pub fn file(folder: &Path, host: &str) -> Result<PathBuf, Unusable> {
    match is_host(host) {
        true => Ok(folder.join(format!("{host}.pem"))),
        false => Err(Unusable::Host(host.to_owned())),
    }
}

/// The host that a file of the folder is for; none when it is no certificate's.
pub(crate) fn host_of(path: &Path) -> Option<&str> {
    let host = path.file_name()?.to_str()?.strip_suffix(".pem")?;
    is_host(host).then_some(host)
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && !host.starts_with('.')
        && host
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
}

/// Read the file of a host's certificate, and whether others than its owner may read it.
pub(crate) fn load(path: &Path, host: &str) -> Result<(Certificate, bool), Unusable> {
    // A pipe would make whoever opens it wait.
    let meta = fs::metadata(path)?;
    if !meta.is_file() || meta.len() > LARGEST {
        return Err(Unusable::NoFile);
    }
    let mut pem = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut pem)?;
    let open = meta.permissions().mode() & 0o077 != 0;
    Certificate::read(host, &pem).map(|certificate| (certificate, open))
}

/// Put a host's certificate and key in its place: chain and key in PEM, in this order. It is looked at first; what
/// cannot be served is not written. Durable on return, and never half there.
///
/// # Errors
/// When it cannot be used, or not be written; the file is as it was then.
pub fn write(folder: &Path, host: &str, pem: &[u8]) -> Result<(), Unusable> {
    let path = file(folder, host)?;
    Certificate::read(host, pem)?;
    let beside = path.with_extension("pem.new");
    let written = write_beside(&beside, pem).and_then(|()| fs::rename(&beside, &path));
    if let Err(error) = written {
        let _ = fs::remove_file(&beside);
        return Err(error.into());
    }
    Ok(File::open(folder)?.sync_all()?)
}

fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What a dead writer left may have another mode.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
