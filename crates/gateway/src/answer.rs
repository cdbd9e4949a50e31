//! The answer of a server that was asked whether it works. Its status decides. The rest is read to its end before the
//! connection is closed, bounded in size and time: a server whose answer is left unread is reset, and complains of it.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

/// Most that is read of an answer, bytes.
const MOST: usize = 64 << 10;

/// `HTTP/1.1 200`
const STATUS: usize = 12;

/// An answer, as far as it has come.
#[derive(Debug)]
pub struct Answer<S> {
    stream: S,
    bytes: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Answer<S> {
    /// Waits for the status, or for the end of what is said instead.
    ///
    /// # Errors
    /// When the connection breaks before that.
    pub async fn begin(mut stream: S) -> io::Result<Self> {
        let mut bytes = Vec::new();
        while bytes.len() < STATUS && stream.read_buf(&mut bytes).await? > 0 {}
        Ok(Self { stream, bytes })
    }

    /// Its status; nothing where it is no HTTP.
    pub fn status(&self) -> Option<u16> {
        let line = self.bytes.get(..STATUS)?;
        let code = line.strip_prefix(b"HTTP/1.")?.get(2..)?;
        std::str::from_utf8(code).ok()?.parse().ok()
    }

    /// Reads what is left of it, until it is whole, too long, or `until` has come.
    pub async fn drain(&mut self, until: Instant) {
        let mut head = None;
        while self.bytes.len() < MOST {
            head = head.or_else(|| Head::read(&self.bytes));
            if head.as_ref().is_some_and(|head| head.is_whole(&self.bytes)) {
                return;
            }
            match timeout_at(until, self.stream.read_buf(&mut self.bytes)).await {
                Ok(Ok(1..)) => {}
                _ => return,
            }
        }
    }

    /// What has come of it, head and body.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Where an answer's body begins, and what ends it.
struct Head {
    len: usize,
    end: End,
}

/// What ends a body.
enum End {
    Length(usize),
    Chunk,
    Close,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Head> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(bytes.get(..end)?).to_ascii_lowercase();
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            lines.find_map(|(known, value)| (known == name).then(|| value.trim().to_owned()))
        };
        let has_none = ["204", "304"].contains(&head.get(9..STATUS).unwrap_or_default());
        let length = field("content-length").and_then(|length| length.parse().ok());
        let end_of_body = match (field("transfer-encoding"), length) {
            _ if has_none => End::Length(0),
            (Some(coding), _) if coding.ends_with("chunked") => End::Chunk,
            (None, Some(length)) => End::Length(length),
            _ => End::Close,
        };
        Some(Head {
            len: end + 4,
            end: end_of_body,
        })
    }

    fn is_whole(&self, bytes: &[u8]) -> bool {
        let body = bytes.get(self.len..).unwrap_or_default();
        match self.end {
            End::Length(length) => body.len() >= length,
            End::Chunk => body.ends_with(b"\r\n") && has_last_chunk(body),
            End::Close => false,
        }
    }
}

fn has_last_chunk(mut body: &[u8]) -> bool {
    loop {
        let Some(line) = body.windows(2).position(|two| two == b"\r\n") else {
            return false;
        };
        let digits = body.iter().take_while(|byte| byte.is_ascii_hexdigit());
        let digits = String::from_utf8_lossy(body.get(..digits.count()).unwrap_or_default());
        let Ok(size) = usize::from_str_radix(&digits, 16) else {
            return false;
        };
        if size == 0 {
            // After it come fields, perhaps, and an empty line.
            return body.ends_with(b"\r\n\r\n");
        }
        match body.get(line.saturating_add(size).saturating_add(4)..) {
            Some(rest) => body = rest,
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// What is read of an answer by the time that its reader is content, where the server says these parts and then
    /// keeps the connection open.
    async fn read(parts: &[&str]) -> (Option<u16>, String) {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        for part in parts {
            far.write_all(part.as_bytes()).await.unwrap();
        }
        let mut answer = Answer::begin(near).await.unwrap();
        answer.drain(Instant::now() + Duration::from_secs(60)).await;
        let text = String::from_utf8_lossy(answer.bytes()).into_owned();
        (answer.status(), text)
    }

    #[tokio::test]
    async fn an_answer_is_whole_without_a_close() {
        for (head, body) in [
            ("200 OK\r\nContent-Length: 4\r\n\r\n", "fine"),
            ("404 No\r\ncontent-length:0\r\n\r\n", ""),
            ("204 No Content\r\n\r\n", ""),
            (
                "503 No\r\nTransfer-Encoding: chunked\r\n\r\n",
                "4;a=b\r\nfi\r\n\r\n3\r\nne.\r\n0\r\nx: 1\r\n\r\n",
            ),
        ] {
            let whole = format!("HTTP/1.1 {head}{body}");
            let parts = [whole.as_str()];
            let read = tokio::time::timeout(Duration::from_secs(30), read(&parts));
            let (status, text) = read.await.expect(head);
            assert_eq!(
                status.map(|code| code.to_string()),
                head.get(..3).map(str::to_owned)
            );
            assert_eq!(text, whole);
        }
    }

    #[tokio::test]
    async fn an_endless_answer_is_left_and_its_status_stands() {
        let long = "x".repeat(MOST);
        let (status, text) = read(&["HTTP/1.0 200 OK\r\n\r\n", &long, &long]).await;
        assert_eq!(status, Some(200));
        assert!(text.len() < 2 * MOST, "{}", text.len());
    }

    #[tokio::test]
    async fn a_slow_answer_is_left_when_its_time_is_over() {
        let (near, mut far) = tokio::io::duplex(1024);
        let slow = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nslow";
        far.write_all(slow).await.unwrap();
        let mut answer = Answer::begin(near).await.unwrap();
        let soon = answer.drain(Instant::now() + Duration::from_millis(50));
        let ended = tokio::time::timeout(Duration::from_secs(30), soon).await;
        assert!(ended.is_ok(), "it hangs");
        assert_eq!((answer.status(), answer.bytes()), (Some(200), &slow[..]));
        drop(far);
    }

    #[tokio::test]
    async fn what_is_no_http_has_no_status() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b"220 mail").await.unwrap();
        drop(far);
        let answer = Answer::begin(near).await.unwrap();
        assert_eq!(answer.status(), None);
        assert_eq!(answer.bytes(), b"220 mail");
    }
}
