//! An issuer of one's own, and the names that lead to it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::fixture::Fixture;
use crate::machine::until;
use crate::tls_client::{Authority, Https};

/// A process that is killed when dropped.
pub struct Program(Child);

impl Program {
    pub fn start(command: &mut Command, log: &Path) -> Program {
        let log = fs::File::create(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Program(
            child.unwrap_or_else(|error| panic!("{command:?}: {error}; `make tls` installs it")),
        )
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// The names: all lead to this machine, unless said otherwise.
pub struct Names {
    dns: SocketAddr,
    control: SocketAddr,
    _program: Program,
}

impl Names {
    pub fn start(fixture: &Fixture) -> Names {
        let (dns, control) = (free(), free());
        let mut command = Command::new("pebble-challtestsrv");
        command.args([
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
        ]);
        command.args([
            "-dns01",
            &dns.to_string(),
            "-management",
            &control.to_string(),
        ]);
        let program = Program::start(&mut command, &fixture.dir.join("names.log"));
        until("the names answer", || {
            std::net::TcpStream::connect(control).ok()
        });
        Names {
            dns,
            control,
            _program: program,
        }
    }

    /// Leads a name somewhere else, or home again.
    pub fn lead(&self, host: &str, address: Option<&str>) {
        let (path, body) = match address {
            Some(address) => (
                "add-a",
                format!("{{\"host\":\"{host}.\",\"addresses\":[\"{address}\"]}}"),
            ),
            None => ("clear-a", format!("{{\"host\":\"{host}.\"}}")),
        };
        let url = format!("http://{}/{path}", self.control);
        let done = Command::new("curl")
            .args(["-sSf", "-d", &body, &url])
            .status()
            .unwrap();
        assert!(done.success(), "{path} {host}");
    }
}

/// The issuer.
pub struct Pebble {
    pub directory: SocketAddr,
    ca: PathBuf,
    control: SocketAddr,
    authority: Authority,
    program: Option<Program>,
}

impl Pebble {
    /// One that is not started yet. It signs for its own address with an authority that only the manifest names.
    pub fn new() -> Pebble {
        let authority = Authority::new();
        let directory = free();
        let ca = format!("tow-tls-{}-{}.pem", std::process::id(), directory.port());
        let ca = std::env::temp_dir().join(ca);
        fs::write(&ca, authority.pem()).unwrap();
        Pebble {
            directory,
            ca,
            control: free(),
            authority,
            program: None,
        }
    }

    /// The file that says who signs for its address.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Starts it anew; it forgets everything. It asks on this port, and issues for so many seconds.
    pub fn start(&mut self, fixture: &Fixture, names: &Names, seconds: u64) {
        self.program = None;
        let pair = self.authority.issue("127.0.0.1");
        let file = |name: &str| fixture.dir.join(name);
        fs::write(file("issuer.pem"), pair).unwrap();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": self.directory, "managementListenAddress": self.control,
            "certificate": file("issuer.pem"), "privateKey": file("issuer.pem"),
            "httpPort": fixture.listen_port(), "tlsPort": 1, "certificateValidityPeriod": seconds,
        } });
        fs::write(file("pebble.json"), config.to_string()).unwrap();
        let mut command = Command::new("pebble");
        command.arg("-config").arg(file("pebble.json"));
        command.args(["-dnsserver", &names.dns.to_string()]);
        // A name that was seen to lead here a moment ago is looked at again.
        command
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0");
        self.program = Some(Program::start(&mut command, &file("pebble.log")));
        until("the issuer answers", || self.root(fixture));
    }

    pub fn stop(&mut self) {
        self.program = None;
    }

    fn root(&self, fixture: &Fixture) -> Option<String> {
        let got = fixture.run(
            self.authority
                .client()
                .get(self.control, "127.0.0.1", "/roots/0"),
        );
        got.ok()
            .filter(|(status, _)| *status == 200)
            .map(|(_, body)| body)
    }

    /// Who signs what it issues.
    pub fn root_pem(&self, fixture: &Fixture) -> String {
        self.root(fixture).unwrap()
    }

    /// A client that trusts what it issues.
    pub fn client(&self, fixture: &Fixture) -> Https {
        Https::trusting(&self.root_pem(fixture))
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.ca);
    }
}
