//! Certificates from an issuer: issued, renewed under load, and everything that goes wrong.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use towpath::agent::api::{CertificateStatus, Status};

use crate::fixture::{Fixture, MANIFEST, STAGING};
use crate::machine::kill;
use crate::pebble::{Names, Pebble};
use crate::tls_client::{Authority, Https};

/// Life of a certificate in the part about renewal, seconds.
const LIFE: u64 = 24;
const RENEWALS: usize = 3;
const CONNECTIONS: usize = 8;

/// An environment with three hosts, and the issuer that is to be asked.
pub fn with_issuer() -> (Fixture, Names, Pebble) {
    let pebble = Pebble::new();
    let tls = format!(
        "domain = \"a.test\"\nlisten = \"LISTEN\"\nlisten_tls = \"SECURE\"\n\
         acme = {{ directory = \"https://{}/dir\", ca = \"{}\" }}\n",
        pebble.directory,
        pebble.ca().display()
    );
    let hosts = "routes = [\"/\", { path = \"/\", host = \"b.test\" }, { path = \"/\", host = \"c.test\" }]";
    let manifest = MANIFEST
        .replace("replicas = 2", hosts)
        .replace(
            "[environments.staging]\n",
            &format!("[environments.staging]\n{tls}"),
        )
        .replace("[environments.local]\nlisten = \"LISTEN\"\n", "");
    let fixture = Fixture::with(&manifest);
    let names = Names::start(&fixture);
    (fixture, names, pebble)
}

fn of<'a>(status: &'a Status, host: &str) -> &'a CertificateStatus {
    status
        .certificates
        .iter()
        .find(|one| one.host == host)
        .unwrap()
}

/// Orders take longer than anything else here.
pub fn until_of(
    fixture: &Fixture,
    what: &str,
    host: &str,
    holds: impl Fn(&CertificateStatus) -> bool,
) -> CertificateStatus {
    let deadline = Instant::now() + Duration::from_secs(90);
    let mut last = None;
    while Instant::now() < deadline {
        if let Some(status) = fixture.seen(STAGING) {
            let one = of(&status, host).clone();
            if holds(&one) {
                return one;
            }
            last = Some(one);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("did not happen: {what}: {last:?}");
}

/// Requests over connections of their own, as a client that checks certificates makes them.
struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; 2]>,
    tasks: Vec<std::thread::JoinHandle<()>>,
    started: Instant,
}

impl Load {
    fn start(client: &Https, addr: SocketAddr) -> Load {
        let (stop, counts) = (
            Arc::new(AtomicBool::new(false)),
            Arc::<[AtomicU64; 2]>::default(),
        );
        let task = |index: usize| {
            let (client, stop, counts) = (client.clone(), Arc::clone(&stop), Arc::clone(&counts));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                let host = if index.is_multiple_of(2) {
                    "a.test"
                } else {
                    "b.test"
                };
                while !stop.load(SeqCst) {
                    counts[0].fetch_add(1, SeqCst);
                    let answer = runtime.block_on(client.get(addr, host, "/version"));
                    if !answer.as_ref().is_ok_and(|(status, _)| *status == 200) {
                        println!("{host}: {answer:?}");
                        counts[1].fetch_add(1, SeqCst);
                    }
                }
            })
        };
        Load {
            tasks: (0..CONNECTIONS).map(task).collect(),
            stop,
            counts,
            started: Instant::now(),
        }
    }

    fn stop(self, what: &str) -> u64 {
        self.stop.store(true, SeqCst);
        self.tasks.into_iter().for_each(|task| task.join().unwrap());
        let [requests, failed] = [0, 1].map(|index| self.counts[index].load(SeqCst));
        let rate = requests as f64 / self.started.elapsed().as_secs_f64();
        println!(
            "{what}: {failed} failed of {requests}, {rate:.0}/s, each over a connection of its own"
        );
        assert!(requests > 500, "{requests}");
        failed
    }
}

#[test]
fn certificates_are_issued_renewed_under_load_and_what_goes_wrong_is_said() {
    let (mut fixture, names, mut pebble) = with_issuer();
    pebble.start(&fixture, &names, 86_400);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    for host in ["a.test", "b.test", "c.test"] {
        until_of(&fixture, "issued", host, |one| {
            one.good && one.problem.is_none()
        });
    }
    println!("issued: 3 of 3");
    let own = own_certificate(&fixture);
    renewed_under_load(&mut fixture, &names, &mut pebble);
    down_and_expired(&fixture, &mut pebble);
    serves(&fixture, &own, "c.test");
    pebble.start(&fixture, &names, 86_400);
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    // The one of before may be good still, with its order under way.
    let lives_long = |one: &CertificateStatus| one.until_ms > Some(now_ms() + 3_600_000);
    for host in ["a.test", "b.test"] {
        until_of(&fixture, "issued again", host, |one| {
            one.good && one.problem.is_none() && lives_long(one)
        });
    }
    println!("pebble back with another memory: issued again at the next deployment");
    wrong_name(&mut fixture, &names, &pebble);
    torn_file(&fixture, &pebble);
    serves(&fixture, &own, "c.test");
    account_is_private(&fixture);
    fixture.down(STAGING);
}

/// One host has a certificate from elsewhere, which lives long.
fn own_certificate(fixture: &Fixture) -> Https {
    let authority = Authority::new();
    let file = fixture.state(STAGING).join("certificates/c.test.pem");
    std::fs::write(&file, authority.issue("c.test")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let client = authority.client();
    crate::machine::until("the file is noticed", || {
        fixture
            .run(client.get(fixture.secure, "c.test", "/version"))
            .ok()
    });
    client
}

fn serves(fixture: &Fixture, client: &Https, host: &str) {
    let answer = fixture.run(client.get(fixture.secure, host, "/version"));
    assert_eq!(answer.unwrap().0, 200, "{host}");
}

fn renewed_under_load(fixture: &mut Fixture, names: &Names, pebble: &mut Pebble) {
    // A new issuer has another root: so certificates have to be asked for anew before the load begins.
    pebble.start(fixture, names, LIFE);
    for host in ["a.test", "b.test"] {
        std::fs::remove_file(
            fixture
                .state(STAGING)
                .join(format!("certificates/{host}.pem")),
        )
        .unwrap();
    }
    let short = |one: &CertificateStatus| {
        one.until_ms
            .is_some_and(|until| until < now_ms() + 2_000 * LIFE as i64)
    };
    for host in ["a.test", "b.test"] {
        until_of(fixture, "a short life", host, short);
    }
    let load = Load::start(&pebble.client(fixture), fixture.secure);
    let mut until = 0;
    for _ in 0..=RENEWALS {
        let later = |one: &CertificateStatus| one.until_ms > Some(until);
        let next = until_of(fixture, "renewed", "a.test", later);
        until = next.until_ms.unwrap();
    }
    let failed = load.stop(&format!("{RENEWALS} renewals, lives of {LIFE} s"));
    assert_eq!(failed, 0);
    // Not even a killed gateway forgets them.
    let pid = fixture.status(STAGING).gateway.unwrap().pid;
    kill(pid);
    let client = pebble.client(fixture);
    crate::machine::until("it serves after a kill", || {
        fixture
            .run(client.get(fixture.secure, "a.test", "/version"))
            .ok()
    });
}

fn now_ms() -> i64 {
    towpath::clock::Clock::system().wall_ms()
}

fn down_and_expired(fixture: &Fixture, pebble: &mut Pebble) {
    let root = pebble.root_pem(fixture);
    pebble.stop();
    let said = until_of(fixture, "the failure is told", "a.test", |one| {
        one.next_ms.is_some()
    });
    assert!(said.good, "the old one is served on: {said:?}");
    serves(fixture, &Https::trusting(&root), "a.test");
    println!("pebble down: {}", said.problem.unwrap());
    let said = until_of(fixture, "the end is told", "a.test", |one| !one.good);
    println!("expired: {}", said.problem.unwrap());
    // A client that was here before resumes its session, and looks at no certificate.
    let client = Https::trusting(&root);
    let refused = fixture.run(client.get(fixture.secure, "a.test", "/"));
    let refused = refused.unwrap_err();
    assert!(
        refused.to_string().to_lowercase().contains("expired"),
        "{refused}"
    );
    let text = fixture.tow(&["status", "-e", STAGING]).expect(0).out;
    assert!(
        text.contains("a.test  certificate has expired   warning: it has expired; the issuer: "),
        "{text}"
    );
}

fn wrong_name(fixture: &mut Fixture, names: &Names, pebble: &Pebble) {
    // Nobody listens there.
    names.lead("b.test", Some("127.9.9.9"));
    std::fs::remove_file(fixture.state(STAGING).join("certificates/b.test.pem")).unwrap();
    let said = until_of(fixture, "the wrong name is told", "b.test", |one| {
        one.next_ms.is_some()
    });
    let words = said.problem.unwrap();
    assert!(
        !said.good && words.contains("could not see that the name leads here"),
        "{words}"
    );
    println!("wrong name: {words}");
    serves(fixture, &pebble.client(fixture), "a.test");
    names.lead("b.test", None);
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    until_of(fixture, "issued when it leads here", "b.test", |one| {
        one.good && one.problem.is_none()
    });
    // A certificate for another name in its place is found out, and another one asked for.
    let folder = fixture.state(STAGING).join("certificates");
    std::fs::copy(folder.join("a.test.pem"), folder.join("b.test.pem")).unwrap();
    let client = pebble.client(fixture);
    healed(fixture, "b.test");
    serves(fixture, &client, "b.test");
}

fn torn_file(fixture: &Fixture, pebble: &Pebble) {
    let file = fixture.state(STAGING).join("certificates/a.test.pem");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    serves(fixture, &pebble.client(fixture), "a.test");
    healed(fixture, "a.test");
    println!("torn file, file of another name: each replaced by a new certificate");
}

/// The file is one for its host again.
fn healed(fixture: &Fixture, host: &str) {
    let file = fixture
        .state(STAGING)
        .join(format!("certificates/{host}.pem"));
    let before = std::fs::read(&file).unwrap();
    let deadline = Instant::now() + Duration::from_secs(90);
    while std::fs::read(&file).unwrap() == before {
        assert!(Instant::now() < deadline, "{host} is as it was");
        std::thread::sleep(Duration::from_millis(20));
    }
    until_of(fixture, "healed", host, |one| {
        one.good && one.problem.is_none()
    });
}

fn account_is_private(fixture: &Fixture) {
    let mode = |path: &str| {
        let meta = std::fs::metadata(fixture.state(STAGING).join(path)).unwrap();
        meta.permissions().mode() & 0o777
    };
    let modes = [
        "acme",
        "acme/account.json",
        "certificates",
        "certificates/a.test.pem",
    ]
    .map(mode);
    assert_eq!(modes, [0o700, 0o600, 0o700, 0o600]);
}
