//! As much HTTP as the tests need: one request a connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// An answer.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

/// Sends a request and does not wait for the answer.
pub fn send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[&str],
    body: Option<&Value>,
) -> TcpStream {
    try_send(address, method, path, headers, body).unwrap()
}

/// The same to an instance that may be gone.
pub fn try_send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[&str],
    body: Option<&Value>,
) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
    text += &format!("Content-Length: {}\r\n", body.len());
    if !body.is_empty() {
        text += "Content-Type: application/json\r\n";
    }
    for header in headers {
        text += &format!("{header}\r\n");
    }
    text += "\r\n";
    stream.write_all((text + &body).as_bytes())?;
    Ok(stream)
}

/// Reads the answer of a connection that ends with it.
pub fn receive(stream: TcpStream) -> Answer {
    try_receive(stream).unwrap()
}

/// The same from an instance that may be gone.
pub fn try_receive(mut stream: TcpStream) -> io::Result<Answer> {
    let mut whole = String::new();
    stream.read_to_string(&mut whole)?;
    let (head, text) = whole
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Answer {
        status,
        head: head.to_owned(),
        text: text.to_owned(),
    })
}

/// One request, on a connection of its own.
pub fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[&str],
    body: Option<&Value>,
) -> Answer {
    let headers = [&["Connection: close"], headers].concat();
    receive(send(address, method, path, &headers, body))
}
