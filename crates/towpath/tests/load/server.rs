//! A small HTTP server on a real socket that fails as it is told to, and keeps count of what it did.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What the server does wrong: every so many-th request of its kind; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Writes acknowledged and not stored.
    pub drop_write: u64,
    /// Writes stored twice.
    pub double_write: u64,
    /// Requests answered with 500.
    pub error: u64,
    /// Requests whose answer ends in the middle of its body.
    pub cut: u64,
    /// Requests read, and answered with closing.
    pub swallow: u64,
    /// Answers that are not HTTP.
    pub garble: u64,
    /// Answers after which the connection is closed without a word.
    pub close_idle: u64,
    /// The request, by number, before which everything waits for a second.
    pub stall_at: u64,
    /// What is read back: ids whose number is divisible by this get 500 the first two times.
    pub shaky_read: u64,
    /// The same, every time.
    pub dead_read: u64,
}

#[derive(Debug, Default)]
pub struct Seen {
    /// Requests read whole, reads of writes excepted.
    pub requests: u64,
    pub reads: BTreeMap<String, u64>,
    /// Connections, and those of them with more than one request.
    pub connections: u64,
    pub asked_to_close: u64,
    pub unauthorized: u64,
    /// Bodies of which only a part had come at first.
    pub halves: u64,
    pub stored: BTreeMap<String, u64>,
    /// How often each write arrived, stored or not.
    pub arrived: BTreeMap<String, u64>,
    pub asked: BTreeMap<String, u64>,
    pub planted: BTreeMap<&'static str, u64>,
    pub host: String,
}

type Gate = tokio::sync::Mutex<()>;

pub struct Server {
    pub addr: SocketAddr,
    pub seen: Arc<Mutex<Seen>>,
    /// Nothing is answered while this is locked.
    pub gate: Arc<Gate>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub async fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener, faults)
    }

    pub fn serve(listener: TcpListener, faults: Faults) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let addr = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let gate = Arc::new(Gate::default());
        tasks.spawn(accept(
            listener,
            faults,
            Arc::clone(&seen),
            Arc::clone(&gate),
        ));
        Self {
            addr,
            seen,
            gate,
            _tasks: tasks,
        }
    }

    pub fn planted(&self, fault: &str) -> u64 {
        self.seen
            .lock()
            .unwrap()
            .planted
            .get(fault)
            .copied()
            .unwrap_or(0)
    }
}

async fn accept(listener: TcpListener, faults: Faults, seen: Arc<Mutex<Seen>>, gate: Arc<Gate>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        seen.lock().unwrap().connections += 1;
        connections.spawn(talk(stream, faults, Arc::clone(&seen), Arc::clone(&gate)));
    }
}

/// What is to be done after a request was read.
enum Reply {
    Whole(u16, String),
    Cut(u16),
    Swallow,
    Garble,
    WholeThenClose(String),
}

async fn talk(mut stream: TcpStream, faults: Faults, seen: Arc<Mutex<Seen>>, gate: Arc<Gate>) {
    while let Some(request) = Request::read(&mut stream, &seen).await {
        let stall = {
            let mut seen = seen.lock().unwrap();
            seen.requests + 1 == faults.stall_at && seen.planted.insert("stall", 1).is_none()
        };
        if stall {
            let _closed = gate.lock().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        drop(gate.lock().await);
        let reply = seen.lock().unwrap().reply(&request, &faults);
        let (bytes, go_on) = match reply {
            Reply::Whole(status, body) => (whole(status, &body), !request.close),
            Reply::WholeThenClose(body) => (whole(200, &body), false),
            Reply::Cut(status) => (cut(status), false),
            Reply::Swallow => (Vec::new(), false),
            Reply::Garble => (b"ceci n'est pas HTTP\r\n\r\n".to_vec(), false),
        };
        if stream.write_all(&bytes).await.is_err() || !go_on {
            return;
        }
    }
}

/// Half an answer, with the status that would have made it a good one.
fn cut(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} As It Is\r\nContent-Length: 100\r\n\r\nhalf").into_bytes()
}

fn whole(status: u16, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} As It Is\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

struct Request {
    line: String,
    head: String,
    body: String,
    close: bool,
}

impl Request {
    async fn read(stream: &mut TcpStream, seen: &Mutex<Seen>) -> Option<Self> {
        let mut bytes = Vec::with_capacity(4096);
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            (stream.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length = header(&head, "content-length").map_or(0, |value| value.parse().unwrap());
        let half = bytes.len() > end && bytes.len() < end + length;
        seen.lock().unwrap().halves += u64::from(half);
        while bytes.len() < end + length {
            (stream.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
        }
        Some(Self {
            line: head
                .lines()
                .next()?
                .trim_end_matches(" HTTP/1.1")
                .to_owned(),
            body: String::from_utf8(bytes[end..].to_vec()).unwrap(),
            close: header(&head, "connection") == Some("close"),
            head,
        })
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = head.lines().filter_map(|line| line.split_once(": "));
    pairs
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// The number at the end of an id.
pub fn number(id: &str) -> u64 {
    id.rsplit('-').next().unwrap().parse().unwrap()
}

fn hits(every: u64, count: u64) -> bool {
    every > 0 && count.is_multiple_of(every)
}

impl Seen {
    fn plant(&mut self, fault: &'static str) {
        *self.planted.entry(fault).or_default() += 1;
    }

    fn reply(&mut self, request: &Request, faults: &Faults) -> Reply {
        if request.line == "POST /sign-in" {
            return sign_in_reply(&request.body);
        }
        if let Some(id) = request.line.strip_prefix("GET /writes/") {
            return self.find(id, faults);
        }
        self.requests += 1;
        self.host = header(&request.head, "host").unwrap_or_default().to_owned();
        self.asked_to_close += u64::from(request.close);
        let authorized = header(&request.head, "authorization") == Some("Bearer t0ken");
        self.unauthorized += u64::from(!authorized);
        *self.reads.entry(request.line.clone()).or_default() += 1;
        if request.line == "POST /writes" {
            *self.arrived.entry(id_of(&request.body)).or_default() += 1;
        }
        match self.fault(request, faults) {
            Some(reply) => reply,
            None => self.proper(request, faults),
        }
    }

    fn fault(&mut self, request: &Request, faults: &Faults) -> Option<Reply> {
        let good = if request.line == "POST /writes" {
            201
        } else {
            200
        };
        let choices = [
            (
                "error",
                faults.error,
                Reply::Whole(500, "out of order".into()),
            ),
            ("cut", faults.cut, Reply::Cut(good)),
            ("swallow", faults.swallow, Reply::Swallow),
            ("garble", faults.garble, Reply::Garble),
        ];
        let (name, _, reply) = choices
            .into_iter()
            .find(|(_, every, _)| hits(*every, self.requests))?;
        self.plant(name);
        Some(reply)
    }

    fn proper(&mut self, request: &Request, faults: &Faults) -> Reply {
        if request.line == "POST /writes" {
            self.store(id_of(&request.body), faults);
            return Reply::Whole(201, "{}".into());
        }
        if request.line == "GET /counts" {
            return Reply::Whole(200, r#"{"rollups":{"doubled":3,"all":250}}"#.into());
        }
        if hits(faults.close_idle, self.requests) {
            self.plant("close_idle");
            return Reply::WholeThenClose("bye".into());
        }
        Reply::Whole(200, "x".repeat(20_000))
    }

    fn store(&mut self, id: String, faults: &Faults) {
        let n = number(&id);
        if hits(faults.drop_write, n) {
            return self.plant("drop_write");
        }
        let times = if hits(faults.double_write, n) { 2 } else { 1 };
        self.stored.insert(id, times);
        if times == 2 {
            self.plant("double_write");
        }
    }

    fn find(&mut self, id: &str, faults: &Faults) -> Reply {
        let asked = self.asked.entry(id.to_owned()).or_default();
        *asked += 1;
        let n = number(id);
        if hits(faults.dead_read, n) || hits(faults.shaky_read, n) && *asked <= 2 {
            return Reply::Whole(500, "not now".into());
        }
        match self.stored.get(id) {
            Some(times) => Reply::Whole(200, format!(r#"{{"found":{{"times":{times}}}}}"#)),
            None => Reply::Whole(404, String::new()),
        }
    }
}

fn sign_in_reply(body: &str) -> Reply {
    match body {
        r#"{"who":"ana"}"# => Reply::Whole(200, r#"{"session":{"token":"t0ken"}}"#.into()),
        _ => Reply::Whole(403, "n".repeat(500)),
    }
}

fn id_of(body: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        json["n"].as_u64(),
        Some(number(json["id"].as_str().unwrap())),
        "{body}"
    );
    json["id"].as_str().unwrap().to_owned()
}
