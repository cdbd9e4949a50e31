//! Environments on servers, over a link that is cut, and whose far side may be anything. What
//! stands in for ssh runs the remote command in a folder; the real sshd is for `make servers`.

use std::fs;
use std::path::PathBuf;

use crate::fixture::{Fixture, MANIFEST, PRODUCTION, STAGING, Said, example, tow};
use crate::machine;
use crate::whole::whole;

const DEPLOY: [&str; 3] = ["deploy", "-e", STAGING];

/// An application whose environments are on servers, and the link to them.
pub struct Linked {
    /// The application.
    pub fixture: Fixture,
    /// The folder of the link.
    pub dir: PathBuf,
}

impl Linked {
    /// One with nothing deployed.
    pub fn new() -> Linked {
        let manifest = MANIFEST
            .replace(
                "[environments.staging]",
                "[environments.staging]\nserver = \"me@staging.test:2222\"",
            )
            .replace(
                "[environments.production]",
                "[environments.production]\nserver = \"me@production.test\"",
            );
        let mut fixture = Fixture::with(&manifest);
        let dir = fixture.dir.join("link");
        for folder in ["channels", "bytes", "root/usr/local/bin", "root/home"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        for environment in [STAGING, PRODUCTION] {
            fs::create_dir_all(fixture.state(environment)).unwrap();
        }
        let linked = dir.join("root/usr/local/bin/tow");
        std::os::unix::fs::symlink(tow(), linked).unwrap();
        let states = fixture.dir.join("states").display().to_string();
        fs::write(dir.join("states"), states).unwrap();
        fixture.env = vec![
            ("TOWPATH_SSH", example("ssh")),
            ("TOWPATH_TEST_LINK", dir.clone()),
            ("TOWPATH_STATE", fixture.dir.join("here")),
            ("TOWPATH_PATIENCE", "20".into()),
        ];
        Linked { fixture, dir }
    }

    /// Says what is to go wrong from now on.
    pub fn set(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.dir.join(name), text).unwrap();
    }

    /// Takes that back.
    pub fn unset(&self, name: &str) {
        let _ = fs::remove_file(self.dir.join(name));
    }

    /// What each connection so far was called with; they are counted anew from here.
    fn channels(&self) -> Vec<(String, u64, u64)> {
        let mut channels = Vec::new();
        for number in 1.. {
            let path = self.dir.join("channels").join(number.to_string());
            let Ok(said) = fs::read_to_string(&path) else {
                break;
            };
            fs::remove_file(path).unwrap();
            let count = |way: &str| {
                let path = self.dir.join("bytes").join(format!("{number}.{way}"));
                let count = fs::read_to_string(&path).unwrap_or_default();
                let _ = fs::remove_file(path);
                count.parse().unwrap_or(0)
            };
            channels.push((said, count("in"), count("out")));
        }
        channels
    }

    /// Runs the command to its end.
    pub fn tow(&self, arguments: &[&str]) -> Said {
        self.fixture.tow(arguments)
    }

    /// The code of what the command was refused with.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let said = self.tow(arguments).expect(1);
        let code = said.err.split_once("error[").map(|(_, rest)| rest);
        let code = code.and_then(|rest| rest.split(']').next());
        code.unwrap_or_else(|| panic!("{said:?}")).to_owned()
    }
}

#[test]
fn every_command_works_over_a_link() {
    let mut linked = Linked::new();
    linked.tow(&DEPLOY).expect(0);
    linked.tow(&["promote", "-e", PRODUCTION]).expect(0);
    whole(&linked.fixture, PRODUCTION, "v1").unwrap();
    linked.fixture.migration();
    linked.fixture.commit();
    linked.tow(&DEPLOY).expect(0);
    linked.tow(&["promote", "-e", PRODUCTION]).expect(0);
    whole(&linked.fixture, PRODUCTION, "v2").unwrap();
    linked.tow(&["rollback", "-e", PRODUCTION]).expect(0);
    whole(&linked.fixture, PRODUCTION, "v1").unwrap();
    for look in [&["status"][..], &["ps"], &["releases"], &["logs", "web"]] {
        let said = linked.tow(&[look, &["-e", STAGING]].concat()).expect(0);
        assert!(!said.out.is_empty(), "{look:?}");
    }
    assert_eq!(linked.tow(&["cancel", "-e", STAGING]).code, 4);
    let here = linked.fixture.dir.join("here");
    assert!(!here.exists(), "something was done on this machine");
    let (said, ..) = linked.channels().remove(0);
    for word in [
        "-p\n2222\n-l\nme\n--\nstaging.test\n",
        "BatchMode=yes",
        "ControlMaster=auto",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    for environment in [STAGING, PRODUCTION] {
        linked.tow(&["down", "-e", environment]).expect(0);
        assert!(machine::members(&linked.fixture.state(environment)).is_empty());
    }
}

#[test]
fn what_is_wrong_with_a_server_is_named() {
    let linked = Linked::new();
    let cases = [
        (
            "ssh: Could not resolve hostname staging.test: Name or service not known",
            "link::unreachable",
        ),
        (
            "ssh: connect to host staging.test port 2222: Connection refused",
            "link::unreachable",
        ),
        (
            "No ED25519 host key is known for x.\nHost key verification failed.",
            "link::host-key-unknown",
        ),
        (
            "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.",
            "link::host-key-changed",
        ),
        (
            "me@staging.test: Permission denied (publickey).",
            "link::denied",
        ),
    ];
    for (text, code) in cases {
        linked.set("refuse", text);
        assert_eq!(linked.refused(&["status", "-e", STAGING]), code);
    }
    linked.unset("refuse");
    let program = linked.dir.join("root/usr/local/bin/tow");
    fs::remove_file(&program).unwrap();
    assert_eq!(linked.refused(&DEPLOY), "link::no-tow");
    let own = linked.dir.join("root/home/.local/bin");
    fs::create_dir_all(&own).unwrap();
    std::os::unix::fs::symlink(tow(), own.join("tow")).unwrap();
    linked.tow(&["status", "-e", STAGING]).expect(0);
    fs::remove_dir_all(linked.fixture.state(PRODUCTION)).unwrap();
    assert_eq!(
        linked.refused(&["status", "-e", PRODUCTION]),
        "link::not-set-up"
    );
}

#[test]
fn a_far_side_that_is_something_else_is_refused() {
    let linked = Linked::new();
    let preface = |protocol: u32| {
        format!(
            "towpath-dial {{\"protocol\":{protocol},\"version\":\"9.1.0\",\"platform\":{{\"os\":\"linux\",\
             \"architecture\":\"x86_64\",\"libc\":\"gnu\"}},\"app\":\"fixture\",\"environment\":\"staging\",\"tow\":\"/usr/local/bin/tow\"}}\n"
        )
    };
    let now = towpath::link::PROTOCOL;
    let endless = "x".repeat(1 << 20);
    let answer = |body: &str, length: usize| {
        format!(
            "{}HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}",
            preface(now)
        )
    };
    let cases = [
        ("Welcome to Debian\n".to_owned(), "link::not-towpath"),
        (endless.clone(), "link::not-towpath"),
        (format!("towpath-dial {endless}"), "link::not-towpath"),
        ("towpath-dial {}\n".to_owned(), "link::not-towpath"),
        (preface(now + 2), "link::version"),
        (
            format!("{}garbage\r\n\r\n", preface(now)),
            "agent::nonsense",
        ),
        (answer("{}", 2), "agent::nonsense"),
        (answer("\u{0}\u{1}", 2), "agent::nonsense"),
    ];
    for (text, code) in cases {
        linked.set("say", &text);
        assert_eq!(
            linked.refused(&["status", "-e", STAGING]),
            code,
            "{text:.100}"
        );
    }
    linked.set("say", preface(now + 2));
    assert_eq!(linked.refused(&DEPLOY), "link::version");
}

/// Points at which a connection is cut: the direction, and the bytes that pass before. Where all
/// of a request has gone in, or all but a byte of its answer has come, nobody knows whether it was
/// heard.
fn points(inward: u64, outward: u64) -> Vec<(&'static str, u64)> {
    if std::env::var_os("TOWPATH_KILL_ALL").is_none() {
        // Half of a request is worth a try where it is a long one.
        let half = (inward > 10_000).then_some(("in", inward / 2));
        // What is asked first, and there is nothing to ask, is half a line that says who speaks.
        let answer = match inward {
            0 => ("out", outward / 2),
            _ => ("out", outward.saturating_sub(1)),
        };
        return half.into_iter().chain([("in", inward), answer]).collect();
    }
    let within = |bytes: u64| (0..=8).map(move |part| bytes * part / 8);
    let inward = within(inward).map(|at| ("in", at));
    let mut points: Vec<_> = inward
        .chain(within(outward).map(|at| ("out", at)))
        .collect();
    points.dedup();
    points
}

/// Brings version after version in, each with the link cut at another point of another connection.
fn cut_everywhere(arguments: &[&str], prepare: impl Fn(&mut Linked) -> String, environment: &str) {
    let servers = if environment == PRODUCTION { 2 } else { 1 };
    let mut linked = Linked::new();
    linked.fixture.write("ballast", &noise(400_000));
    prepare(&mut linked);
    linked.tow(arguments).expect(0);
    prepare(&mut linked);
    linked.channels();
    linked.tow(arguments).expect(0);
    let channels = linked.channels();
    assert!(channels.len() > 4, "{}", channels.len());
    let mut cases = 0;
    for (number, (_, inward, outward)) in channels.iter().enumerate() {
        for (way, at) in points(*inward, *outward) {
            let version = prepare(&mut linked);
            linked.channels();
            let before = last_run(&linked, environment);
            linked.set("cut", format!("{} {way} {at}", number + 1));
            let said = linked.tow(arguments);
            linked.unset("cut");
            let case = format!("connection {} cut {way} after {at}: {said:?}", number + 1);
            // The first of each server may find nobody there, and nothing has begun then.
            let began = number >= servers || said.code == 0;
            assert_eq!(said.code, i32::from(!began), "{case}");
            if !began {
                linked.tow(arguments).expect(0);
            }
            whole(&linked.fixture, environment, &version).unwrap();
            let after = last_run(&linked, environment);
            assert_eq!(after, before + 1, "one run: {case}");
            if *inward > 10_000 && at == inward / 2 {
                let sent: u64 = linked.channels().iter().map(|channel| channel.1).sum();
                assert!(sent < inward * 5 / 4, "{sent} bytes sent: {case}");
            }
            let left = fs::read_dir(linked.fixture.state(environment).join("blobs/partial"));
            let left = left.map_or(0, |entries| entries.count());
            assert_eq!(left, 0, "{case}");
            cases += 1;
        }
    }
    println!(
        "{arguments:?}: {} connections, {cases} cuts",
        channels.len()
    );
}

fn last_run(linked: &Linked, environment: &str) -> u64 {
    let status = linked.fixture.seen(environment).unwrap();
    status.ended.first().map_or(0, |ended| ended.run.0)
}

/// Text that does not compress, the same every time.
fn noise(letters: usize) -> String {
    let mut state = 1_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + u8::try_from(state % 26).unwrap())
    };
    std::iter::repeat_with(next).take(letters).collect()
}

#[test]
fn a_link_cut_under_logs_loses_and_doubles_no_line() {
    let linked = Linked::new();
    linked.tow(&["status", "-e", STAGING]).expect(0);
    let folder = linked.fixture.state(STAGING).join("logs/web");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("web-1.log");
    let line = |number: u32| format!("2026-01-01T00:00:00.{number:03}Z out line {number}\n");
    let write = |lines: std::ops::Range<u32>| {
        use std::io::Write;
        let mut file = fs::File::options().create(true).append(true).open(&file);
        let text: String = lines.map(line).collect();
        file.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    };
    write(0..40);
    linked.channels();
    // The second is cut within what was written before, the third behind it, the fourth later on.
    linked.set("cut", "2 out 2000\n3 out 4700\n4 out 1500\n");
    let arguments = ["logs", "web", "-e", STAGING, "--follow", "-n", "30"];
    let mut running = linked.fixture.start(&arguments);
    let mut out = std::io::BufReader::new(running.0.stdout.take().unwrap());
    let mut heard = Vec::new();
    let mut next = || {
        use std::io::BufRead;
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        line
    };
    heard.extend((0..30).map(|_| next()));
    write(40..90);
    heard.extend((0..50).map(|_| next()));
    machine::kill(running.0.id());
    running.0.wait().unwrap();
    let expected: Vec<_> = (10..90)
        .map(|number| format!("web-1 | {}", line(number)))
        .collect();
    assert_eq!(heard, expected);
    assert_eq!(linked.channels().len(), 5, "cut three times");
}

#[test]
fn a_link_that_stays_cut_is_given_up_and_the_run_goes_on() {
    let mut linked = Linked::new();
    linked
        .fixture
        .env
        .retain(|(name, _)| *name != "TOWPATH_PATIENCE");
    linked.fixture.env.push(("TOWPATH_PATIENCE", "1".into()));
    linked.tow(&DEPLOY).expect(0);
    linked.fixture.commit();
    linked.channels();
    // Everything from the connection on that follows the run.
    let cuts: String = (5..40).map(|number| format!("{number} out 0\n")).collect();
    linked.set("cut", cuts);
    let said = linked.tow(&DEPLOY).expect(1);
    assert!(said.err.contains("tow status -e staging"), "{said:?}");
    linked.unset("cut");
    whole(&linked.fixture, STAGING, "v2").unwrap();
}

#[test]
fn a_command_that_is_told_to_leave_leaves_the_run() {
    let mut linked = Linked::new();
    linked.tow(&DEPLOY).expect(0);
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let version = linked.fixture.commit();
        let running = linked.fixture.start(&DEPLOY);
        machine::until("the run begins", || {
            linked.fixture.seen(STAGING)?.run.map(drop)
        });
        let pid = rustix::process::Pid::from_raw(running.0.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let said = linked.fixture.end(running);
        // It may have been over by then.
        if said.code != 0 {
            assert_eq!(said.code, 1, "{said:?}");
            assert!(said.err.contains("tow cancel -e staging"), "{said:?}");
        }
        whole(&linked.fixture, STAGING, &version).unwrap();
    }
}

#[test]
fn a_link_cut_anywhere_in_a_deployment_is_made_anew() {
    let prepare = |linked: &mut Linked| linked.fixture.commit();
    cut_everywhere(&DEPLOY, prepare, STAGING);
}

#[test]
fn a_link_cut_anywhere_in_a_promotion_is_made_anew() {
    let prepare = |linked: &mut Linked| {
        let version = linked.fixture.commit();
        linked.tow(&DEPLOY).expect(0);
        version
    };
    cut_everywhere(&["promote", "-e", PRODUCTION], prepare, PRODUCTION);
}
