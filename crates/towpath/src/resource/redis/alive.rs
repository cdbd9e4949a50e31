//! Whether a Redis answers: a connection of its own each time, who we are, and `PING`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::resource::kept::Engine;
use crate::resource::{reach, url};

/// No answer that is meant here is longer, bytes.
const LONGEST: usize = 512;

/// The authorities that Debian's machines believe.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Who is to be asked, and as whom.
pub struct Question {
    places: Vec<SocketAddr>,
    host: String,
    shown: String,
    tls: Option<TlsConnector>,
    /// User and password; the user is empty where there is none.
    sign_in: Option<(String, String)>,
}

/// Reads a URL, and finds where that is. Blocking.
///
/// # Errors
/// What is wrong with it, without quoting it; or that it leads where nobody is to be asked.
pub fn question(text: &str) -> Result<Question, String> {
    let wrong = || "its URL is none of Redis".to_owned();
    let parts = url::of_url(Engine::Redis, text).ok_or_else(wrong)?;
    let host = parts["host"].clone();
    let port: u16 = parts["port"].parse().map_err(|_| wrong())?;
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let place = rest.split(['/', '?']).next().unwrap_or_default();
    let sign_in = place.rsplit_once('@').map(|(user, _)| {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        (decoded(user), decoded(password))
    });
    Ok(Question {
        places: reach::addresses(&host, port)?,
        shown: format!("{host}:{port}"),
        host,
        tls: (scheme == "rediss").then(connector).transpose()?,
        sign_in: sign_in.filter(|(_, password)| !password.is_empty()),
    })
}

/// The characters that `%2F` and its like stand for.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut at, mut decoded) = (0, Vec::with_capacity(bytes.len()));
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Who is not whom he says he is gets no password.
fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if Path::new(SYSTEM).is_file() {
        let found = CertificateDer::pem_file_iter(SYSTEM);
        let found = found.map_err(|error| format!("{SYSTEM}: {error}"))?;
        roots.add_parsable_certificates(found.filter_map(Result::ok));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Asks. It does not end by itself; who drops it has nothing left open.
///
/// # Errors
/// What came instead of `PONG`, in the server's words where there are some.
pub async fn ask(question: Question) -> Result<(), String> {
    let wrong = |why: String| format!("PING at {}: {why}", question.shown);
    let stream = connect(&question.places).await;
    let stream = stream.map_err(|error| wrong(reason(&error)))?;
    let asked = match &question.tls {
        None => talk(stream, question.sign_in.as_ref()).await,
        Some(tls) => {
            let name = ServerName::try_from(question.host.clone());
            let name = name.map_err(|_| wrong("its name is none for TLS".to_owned()))?;
            let stream = tls.connect(name, stream).await;
            let stream = stream.map_err(|error| wrong(format!("TLS with it fails: {error}")))?;
            talk(stream, question.sign_in.as_ref()).await
        }
    };
    asked.map_err(wrong)
}

async fn connect(places: &[SocketAddr]) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("it has no address");
    for place in places {
        match TcpStream::connect(place).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        _ => error.to_string(),
    }
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    sign_in: Option<&(String, String)>,
) -> Result<(), String> {
    if let Some((user, password)) = sign_in {
        // Before version 6 there were no users, and later `default` is who is nobody else.
        let words: &[&str] = match user.as_str() {
            "" | "default" => &["AUTH", password],
            user => &["AUTH", user, password],
        };
        expect(&mut stream, words, "OK").await?;
    }
    expect(&mut stream, &["PING"], "PONG").await
}

async fn expect(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    words: &[&str],
    wanted: &str,
) -> Result<(), String> {
    let mut asked = format!("*{}\r\n", words.len());
    for word in words {
        asked.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    let io = |error: std::io::Error| error.to_string();
    stream.write_all(asked.as_bytes()).await.map_err(io)?;
    stream.flush().await.map_err(io)?;
    let answer = line(stream).await.map_err(io)?;
    match answer.strip_prefix('+') {
        Some(answer) if answer == wanted => Ok(()),
        _ => Err(shown(&answer)),
    }
}

/// One line; what there is of it where the connection ends before.
async fn line(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut line = Vec::new();
    while line.len() < LONGEST && !line.ends_with(b"\r\n") {
        match stream.read_u8().await {
            Ok(byte) => line.push(byte),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Anything may listen there, and say anything.
fn shown(answer: &str) -> String {
    let words: String = answer
        .trim_start_matches('-')
        .chars()
        .filter(|char| !char.is_control())
        .take(120)
        .collect();
    match words.is_empty() {
        true => "it closed the connection".to_owned(),
        false => format!("{words:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_we_are_stands_in_the_url() {
        let sign_in = |url: &str| question(url).map(|question| question.sign_in);
        let signed = |user: &str, password: &str| Ok(Some((user.to_owned(), password.to_owned())));
        assert_eq!(sign_in("redis://127.0.0.1:1"), Ok(None));
        assert_eq!(sign_in("redis://:a%2Fb%@127.0.0.1:1"), signed("", "a/b%"));
        assert_eq!(sign_in("redis://ana:x@127.0.0.1"), signed("ana", "x"));
        assert_eq!(sign_in("redis://ana@127.0.0.1/2"), Ok(None));
        assert!(sign_in("redis://").is_err());
        let refused = sign_in("redis://:secret@169.254.169.254:80/").unwrap_err();
        let says_why = refused.contains("169.254.169.254") && !refused.contains("secret");
        assert!(says_why, "{refused}");
    }
}
