//! TLS to a PostgreSQL, as its own clients mean it: `sslmode` says whether, and `sslrootcert` who is believed.
//!
//! | `sslmode` | |
//! | --- | --- |
//! | `disable` | never |
//! | none, `allow`, `prefer` | where the server offers it; nobody is verified |
//! | `require` | or no connection; nobody is verified, unless there is an `sslrootcert` |
//! | `verify-ca` | and the certificate is by an authority in `sslrootcert` |
//! | `verify-full` | and it is for the host of the URL |

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postgres::config::SslMode;
use rustix::fs::OFlags;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::connector::Connector;

/// More is no file of certificates.
const LONGEST: u64 = 4 << 20;

/// Where systems keep the authorities that they believe; the first that is there.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whether a connection is by TLS, and who is believed.
#[derive(Clone)]
pub(super) struct Tls {
    /// Whether.
    pub mode: SslMode,
    /// How.
    pub connector: Connector,
}

/// Who is believed.
enum Believed {
    Anybody,
    Authority(PathBuf),
    Name(PathBuf),
}

/// What the parameters of a URL say.
///
/// # Errors
/// What is wrong with them, without quoting what may be a secret.
pub(super) fn read(url: &str) -> Result<Tls, String> {
    let (mode, believed) = asked(url)?;
    let fault = |error: Error| format!("TLS cannot be set up: {error}");
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier {
        authorities: match &believed {
            Believed::Anybody => None,
            Believed::Authority(path) | Believed::Name(path) => {
                let roots = Arc::new(authorities(path)?);
                let built =
                    WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
                Some(built.map_err(|error| format!("TLS cannot be set up: {error}"))?)
            }
        },
        is_by_name: matches!(believed, Believed::Name(_)),
        provider: provider.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(fault)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Tls {
        mode,
        connector: Connector(Arc::new(config)),
    })
}

fn asked(url: &str) -> Result<(SslMode, Believed), String> {
    if parameter(url, "sslcert").is_some() || parameter(url, "sslkey").is_some() {
        return Err("its URL names a certificate of the client's (`sslcert`), which is not carried out by this version".to_owned());
    }
    let root = parameter(url, "sslrootcert").map(place).transpose()?;
    let named = |mode: &str| {
        root.clone().ok_or_else(|| {
            format!("its URL wants `sslmode={mode}` and has no `sslrootcert`: a file of certificates, or `system`")
        })
    };
    Ok(match parameter(url, "sslmode") {
        Some("disable") => (SslMode::Disable, Believed::Anybody),
        None | Some("allow" | "prefer") => (SslMode::Prefer, Believed::Anybody),
        Some("require") => match root {
            Some(root) => (SslMode::Require, Believed::Authority(root)),
            None => (SslMode::Require, Believed::Anybody),
        },
        Some("verify-ca") => (SslMode::Require, Believed::Authority(named("verify-ca")?)),
        Some("verify-full") => (SslMode::Require, Believed::Name(named("verify-full")?)),
        Some(_) => {
            return Err("the `sslmode` of its URL is none of `disable`, `allow`, `prefer`, `require`, `verify-ca`, `verify-full`".to_owned());
        }
    })
}

/// The last of that name counts, as for PostgreSQL's own clients.
pub(super) fn parameter<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = url.split_once('?')?;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(key, _)| *key == name);
    found.next_back().map(|(_, value)| value)
}

fn place(text: &str) -> Result<PathBuf, String> {
    if text == "system" {
        return system().ok_or_else(|| {
            "its URL wants `sslrootcert=system`, and this machine has no file of authorities; Debian's is in the package `ca-certificates`".to_owned()
        });
    }
    match text.starts_with('/') && !text.contains('%') {
        true => Ok(PathBuf::from(text)),
        false => Err("the `sslrootcert` of its URL is neither `system` nor an absolute path of plain characters".to_owned()),
    }
}

/// The authorities that this machine believes.
pub(super) fn system() -> Option<PathBuf> {
    let mut places = SYSTEM.iter().map(PathBuf::from);
    places.find(|path| path.is_file())
}

fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let wrong = |why: String| format!("its `sslrootcert` {}: {why}", path.display());
    let io = |error: std::io::Error| wrong(error.to_string());
    // It is named by a manifest: it must not keep us waiting, nor fill our memory.
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(wrong("it is not a file".to_owned()));
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).map_err(io)?;
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
    let (added, _) = roots.add_parsable_certificates(found);
    match added {
        0 => Err(wrong("there is no certificate in it".to_owned())),
        _ => Ok(roots),
    }
}

/// Believes whom it is told to. That the server has the key of its certificate is seen to in any case.
#[derive(Debug)]
struct Verifier {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    is_by_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        match authorities.verify_server_cert(certificate, between, name, ocsp, now) {
            // The name is looked at last, when all else is right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.is_by_name => Ok(ServerCertVerified::assertion()),
            // By somebody who only has the name of an authority.
            Err(Error::InvalidCertificate(CertificateError::BadSignature)) => {
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = &self.provider.signature_verification_algorithms;
        known.supported_schemes()
    }
}

/// Why there is no connection by TLS, where that is what is the matter.
pub(super) fn why(error: &postgres::Error) -> Option<String> {
    let source = std::error::Error::source(error)?;
    if source.to_string() == "server does not support TLS" {
        return Some("it offers no TLS, and the `sslmode` of its URL wants it".to_owned());
    }
    let io = source.downcast_ref::<std::io::Error>()?;
    let told = io.get_ref()?.downcast_ref::<Error>()?;
    let Error::InvalidCertificate(why) = told else {
        return Some(format!("TLS with it fails: {told}"));
    };
    Some(match why {
        CertificateError::UnknownIssuer => {
            "its certificate is by nobody that `sslrootcert` believes".to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names = presented.join(", ");
            format!(
                "its certificate is not for `{}`: it is for {names}",
                expected.to_str()
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate is not valid any more".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: see that the clocks are right".to_owned()
        }
        other => format!("its certificate is refused: {other}"),
    })
}
