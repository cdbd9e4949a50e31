//! The WebSocket, by hand: a handshake and frames.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::harness::{Database, Engine, Instance, Session};
use crate::{http, on_both};

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

fn handshake(session: &Session, more: &[&str]) -> (TcpStream, String) {
    let bearer = format!("Authorization: Bearer {}", session.token);
    let upgrade = [
        bearer.as_str(),
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let headers = [&upgrade[..], more].concat();
    let mut stream = http::send(&session.address, "GET", "/api/live", &headers, None);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).unwrap())
}

fn open(session: &Session) -> TcpStream {
    let (stream, head) = handshake(session, &[]);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    // The answer to the key above, by the standard's own example.
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    stream
}

/// The next frame that is not a ping.
fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        let mut length = u64::from(head[1]);
        if length == 126 {
            let mut long = [0; 2];
            stream.read_exact(&mut long).unwrap();
            length = u64::from(u16::from_be_bytes(long));
        }
        let mut body = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut body).unwrap();
        if head[0] & 0xf != PING {
            return (head[0] & 0xf, body);
        }
    }
}

on_both!(
    traces_of_another_instance_are_pushed_in_order,
    a_stop_closes_sockets_with_service_restart,
    a_page_of_another_site_gets_no_socket,
);

fn traces_of_another_instance_are_pushed_in_order(engine: Engine) {
    let database = Database::migrated(engine);
    let (one, other) = (Instance::ready(&database), Instance::ready(&database));
    let session = one.sign_in();
    let mut socket = open(&session);
    for round in 0..4 {
        for n in 0..5 {
            other
                .session(&session.token)
                .trace("live", &format!("t{round}-{n}"));
        }
        for n in 0..5 {
            let (kind, body) = frame(&mut socket);
            let message: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((kind, &message["type"]), (TEXT, &Value::from("trace")));
            assert_eq!(message["trace"]["id"], format!("t{round}-{n}"));
        }
    }
}

fn a_stop_closes_sockets_with_service_restart(engine: Engine) {
    let database = Database::migrated(engine);
    let mut instance = Instance::ready(&database);
    let session = instance.sign_in();
    let mut sockets: Vec<_> = (0..50).map(|_| open(&session)).collect();
    instance.process.terminate();
    for socket in &mut sockets {
        let (kind, body) = frame(socket);
        let code = u16::from_be_bytes([body[0], body[1]]);
        assert_eq!((kind, code), (CLOSE, 1012));
    }
    assert!(instance.process.runs(), "it waits for the answers");
    for socket in &mut sockets {
        // A masked close frame, as a client sends it.
        let answer = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4];
        socket.write_all(&answer).unwrap();
    }
    assert!(instance.process.ended().success());
}

fn a_page_of_another_site_gets_no_socket(engine: Engine) {
    let database = Database::migrated(engine);
    let instance = Instance::ready(&database);
    let session = instance.sign_in();
    let (_, head) = handshake(&session, &["Origin: http://elsewhere.example"]);
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    let (_, head) = handshake(&session, &[&format!("Origin: http://{}", session.address)]);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let nobody = instance.session("0000");
    let (_, head) = handshake(&nobody, &[]);
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
}
