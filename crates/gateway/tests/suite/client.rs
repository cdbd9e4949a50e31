//! A client small enough to see what it does: it retries nothing.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const ANSWER: std::time::Duration = std::time::Duration::from_secs(40);

#[derive(Debug)]
pub enum Fault {
    BeforeAnswer(io::Error),
    InAnswer(io::Error),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BeforeAnswer(error) => write!(f, "before the answer: {error}"),
            Self::InAnswer(error) => write!(f, "in the answer: {error}"),
        }
    }
}

/// A connection, with TLS or without.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

pub struct Conn {
    pub stream: BufReader<Box<dyn Duplex>>,
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Conn {
    pub async fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    pub fn over(stream: impl Duplex + 'static) -> Self {
        Self {
            stream: BufReader::new(Box::new(stream)),
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    pub async fn get(&mut self, path: &str) -> Result<Response, Fault> {
        self.ask("GET", path, "", b"").await
    }

    pub async fn get_of(&mut self, host: &str, path: &str) -> Result<Response, Fault> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.send(head.as_bytes())
            .await
            .map_err(Fault::BeforeAnswer)?;
        self.receive(false).await
    }

    /// `more` is whole header lines.
    pub async fn ask(
        &mut self,
        method: &str,
        path: &str,
        more: &str,
        body: &[u8],
    ) -> Result<Response, Fault> {
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: app.test\r\n{length}{more}\r\n")
            .into_bytes();
        bytes.extend(body);
        self.send(&bytes).await.map_err(Fault::BeforeAnswer)?;
        self.receive(method == "HEAD").await
    }

    pub async fn receive(&mut self, head_only: bool) -> Result<Response, Fault> {
        let mut response = self.head().await?;
        if !head_only {
            response.body = self.body(&response).await.map_err(Fault::InAnswer)?;
        }
        Ok(response)
    }

    pub async fn head(&mut self) -> Result<Response, Fault> {
        // An answer that never comes must fail the test, not hang it.
        let first = tokio::time::timeout(ANSWER, self.stream.fill_buf()).await;
        let first = first.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if first.map_err(Fault::BeforeAnswer)?.is_empty() {
            return Err(Fault::BeforeAnswer(io::ErrorKind::UnexpectedEof.into()));
        }
        let line = self.line().await.map_err(Fault::InAnswer)?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        let mut headers = Vec::new();
        loop {
            let line = self.line().await.map_err(Fault::InAnswer)?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Response {
            status,
            headers,
            body: Vec::new(),
        })
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    async fn body(&mut self, response: &Response) -> io::Result<Vec<u8>> {
        if response.status == 204 {
            return Ok(Vec::new());
        }
        if let Some(length) = response.header("content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut body).await?;
            return Ok(body);
        }
        let mut body = Vec::new();
        while let Some(piece) = self.chunk().await? {
            body.extend(piece);
        }
        Ok(body)
    }

    /// The next chunk of a chunked body, none at its end.
    pub async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = usize::from_str_radix(&self.line().await?, 16).map_err(io::Error::other)?;
        let mut piece = vec![0; size + 2];
        self.stream.read_exact(&mut piece).await?;
        piece.truncate(size);
        Ok((size > 0).then_some(piece))
    }

    /// Everything until the other side closes.
    pub async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }
}
