//! The load generator against a real server on loopback that can be told to fail: every planted fault is found, and counted exactly.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "load/server.rs"]
mod server;

use std::future::Future;
use std::time::Duration;

use tokio::net::TcpSocket;
use towpath::config::{SignIn, Traffic, TrafficRequest, TrafficWrite, TrafficZero};
use towpath::load::{
    ConnectionKind, Error, FailureKind, Load, Report, Requests, Zero, read_back, sign_in, zeros,
};

use server::{Faults, Server, number};

fn read(weight: u32, path: &str) -> TrafficRequest {
    TrafficRequest {
        weight,
        get: path.into(),
        expect: vec![200],
    }
}

/// Two reads and a write in ten, two and five.
fn traffic() -> Traffic {
    Traffic {
        rate: 1000,
        connections: 8,
        fresh: 0.1,
        sign_in: Some(SignIn {
            post: "/sign-in".into(),
            body: r#"{"who":"ana"}"#.into(),
            token: "/session/token".into(),
        }),
        requests: vec![read(10, "/"), read(2, "/list?page=2")],
        write: Some(TrafficWrite {
            weight: 5,
            post: "/writes".into(),
            body: r#"{"id":"${id}","n":${n}}"#.into(),
            expect: vec![201],
            read: "/writes/${id}".into(),
            count: Some("/found/times".into()),
        }),
        zeros: Vec::new(),
    }
}

/// Reads over kept connections only, without sign-in.
fn kept_reads() -> Traffic {
    Traffic {
        fresh: 0.0,
        sign_in: None,
        requests: vec![read(1, "/")],
        write: None,
        ..traffic()
    }
}

/// Waits for an event, half a minute at most.
async fn within<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), event)
        .await
        .expect("it did not happen in 30 s")
}

async fn run(server: &Server, traffic: &Traffic, requests: u64, writes: u64) -> Report {
    let load = Load::start(server.addr, None, traffic.clone())
        .await
        .unwrap();
    within(load.reached(requests, writes)).await;
    within(load.stop()).await
}

fn failed(requests: &Requests, kind: FailureKind) -> u64 {
    requests.failed_by.get(&kind).copied().unwrap_or(0)
}

#[tokio::test]
async fn a_server_without_fault_gives_zeros_with_their_denominators() {
    let server = Server::start(Faults::default()).await;
    let report = run(&server, &traffic(), 2000, 500).await;
    let requests = &report.requests;
    assert!(
        requests.total >= 2000 && report.writes.len() >= 500,
        "{} requests",
        requests.total
    );
    assert_eq!(requests.failed, 0, "{:?}", requests.failures);
    assert_eq!((requests.resent.unsent, requests.resent.repeated), (0, 0));
    let back = read_back(
        server.addr,
        None,
        &traffic(),
        report.token.as_ref(),
        &report.writes,
    )
    .await
    .unwrap();
    assert!(back.is_whole(), "{back:?}");
    assert_eq!(back.acknowledged, report.writes.len() as u64);
    let seen = server.seen.lock().unwrap();
    assert_eq!(
        seen.requests, requests.total,
        "every request counted was sent, and none besides"
    );
    assert_eq!(seen.stored.len(), report.writes.len());
    assert_eq!(seen.unauthorized, 0, "of {}", seen.requests);
    assert_eq!(seen.asked_to_close, requests.fresh);
    assert_eq!(requests.kept + requests.fresh, requests.total);
    assert_eq!(seen.host, server.addr.to_string());
    let slots: u64 = requests.timeline.iter().map(|slot| slot.total).sum();
    assert_eq!(slots, requests.total);
}

#[tokio::test]
async fn the_mix_is_as_declared() {
    let server = Server::start(Faults::default()).await;
    let report = run(&server, &traffic(), 1700, 0).await;
    let seen = server.seen.lock().unwrap();
    for (kind, weight) in report.requests.kinds.iter().zip([10, 2, 5]) {
        assert_eq!(seen.reads[&kind.request], kind.total);
        let (found, exact) = (kind.total * 17, report.requests.total * weight);
        // Only the last period is not whole, and only its last requests, one a connection, may not have been sent.
        assert!(
            found.abs_diff(exact) <= 17 * (17 + 8),
            "{}: {} of {}",
            kind.request,
            kind.total,
            report.requests.total
        );
        assert!(kind.latency.p50 <= kind.latency.p99 && kind.latency.p99 <= kind.latency.max);
    }
    let fresh = report.requests.fresh * 10;
    assert!(
        fresh.abs_diff(report.requests.total) <= 10 * (3 + 8),
        "{fresh} of {}",
        report.requests.total
    );
    // One for the sign-in, one a worker, and those asked to close.
    assert_eq!(seen.connections, 1 + 8 + report.requests.fresh);
}

#[tokio::test]
async fn lost_and_doubled_writes_are_found_by_name() {
    let server = Server::start(Faults {
        drop_write: 7,
        double_write: 11,
        ..Faults::default()
    })
    .await;
    let report = run(&server, &traffic(), 0, 300).await;
    assert_eq!(
        report.requests.failed, 0,
        "a dropped write is acknowledged like any other"
    );
    let back = read_back(
        server.addr,
        None,
        &traffic(),
        report.token.as_ref(),
        &report.writes,
    )
    .await
    .unwrap();
    assert!(server.planted("drop_write") >= 42 && server.planted("double_write") >= 24);
    assert_eq!(back.lost, server.planted("drop_write"));
    assert_eq!(back.doubled, server.planted("double_write"));
    assert_eq!((back.unreadable, back.is_whole()), (0, false));
    assert_eq!((back.lost_ids.len(), back.doubled_ids.len()), (20, 20));
    assert!(
        back.lost_ids.iter().all(|id| number(id).is_multiple_of(7)),
        "{:?}",
        back.lost_ids
    );
    let json = serde_json::to_value(&back).unwrap();
    assert_eq!(json["lost"], server.planted("drop_write"));
}

#[tokio::test]
async fn a_write_that_cannot_be_read_is_asked_for_four_times_and_is_not_called_found() {
    let server = Server::start(Faults {
        shaky_read: 10,
        dead_read: 25,
        ..Faults::default()
    })
    .await;
    let report = run(&server, &traffic(), 0, 100).await;
    let back = read_back(
        server.addr,
        None,
        &traffic(),
        report.token.as_ref(),
        &report.writes,
    )
    .await
    .unwrap();
    let dead = report
        .writes
        .iter()
        .filter(|id| number(id).is_multiple_of(25))
        .count();
    assert_eq!(
        (back.lost, back.doubled, back.unreadable),
        (0, 0, dead as u64)
    );
    assert!(back.unreadable_detail.unwrap().contains("500"));
    let seen = server.seen.lock().unwrap();
    for id in &report.writes {
        let n = number(id);
        let asked = if n.is_multiple_of(25) {
            4
        } else if n.is_multiple_of(10) {
            3
        } else {
            1
        };
        assert_eq!(seen.asked[id], asked, "{id}");
    }
}

#[tokio::test]
async fn wrong_statuses_cut_bodies_and_garbage_are_counted_by_kind() {
    let faults = Faults {
        error: 20,
        cut: 33,
        garble: 47,
        ..Faults::default()
    };
    let server = Server::start(faults).await;
    let report = run(&server, &traffic(), 1500, 0).await;
    let requests = &report.requests;
    assert!(requests.total >= 1500);
    assert_eq!(
        failed(requests, FailureKind::Status),
        server.planted("error")
    );
    assert_eq!(failed(requests, FailureKind::Reset), server.planted("cut"));
    assert_eq!(
        failed(requests, FailureKind::Malformed),
        server.planted("garble")
    );
    assert_eq!(requests.failed, requests.failed_by.values().sum::<u64>());
    assert_eq!(
        requests.failed,
        requests.kinds.iter().map(|kind| kind.failed).sum::<u64>()
    );
    assert_eq!(
        requests.failed,
        requests
            .timeline
            .iter()
            .map(|slot| slot.failed)
            .sum::<u64>()
    );
    assert!(requests.failed > 100 && requests.failures.len() == 100);
    let error = requests
        .failures
        .iter()
        .find(|failure| failure.kind == FailureKind::Status)
        .unwrap();
    assert!(
        error.detail.starts_with("500") && error.detail.ends_with("out of order"),
        "{error:?}"
    );
    let seen = server.seen.lock().unwrap();
    assert_eq!(
        seen.stored.len(),
        report.writes.len(),
        "only whole answers acknowledge"
    );
}

#[tokio::test]
async fn a_closed_idle_connection_is_no_failure() {
    let server = Server::start(Faults {
        close_idle: 3,
        ..Faults::default()
    })
    .await;
    let report = run(&server, &kept_reads(), 1000, 0).await;
    assert!(server.planted("close_idle") >= 300);
    assert_eq!(
        report.requests.failed, 0,
        "of {}: {:?}",
        report.requests.total, report.requests.failures
    );
    let seen = server.seen.lock().unwrap();
    let closed = seen.planted["close_idle"];
    assert!(
        seen.connections.abs_diff(closed) <= 8,
        "{} for {closed}",
        seen.connections
    );
}

#[tokio::test]
async fn a_read_without_an_answer_goes_again_once_and_only_over_a_kept_connection() {
    let server = Server::start(Faults {
        swallow: 4,
        ..Faults::default()
    })
    .await;
    let traffic = Traffic {
        fresh: 0.4,
        connections: 1,
        ..kept_reads()
    };
    let report = run(&server, &traffic, 800, 0).await;
    let requests = &report.requests;
    let swallowed = server.planted("swallow");
    assert!(requests.resent.repeated >= 10, "{:?}", requests.resent);
    assert_eq!(requests.failed + requests.resent.repeated, swallowed);
    assert_eq!(requests.failed, failed(requests, FailureKind::Reset));
    assert_eq!(
        requests.total + requests.resent.repeated,
        server.seen.lock().unwrap().requests
    );
    // Of a connection of its own a request has no such excuse.
    assert!(
        requests
            .failures
            .iter()
            .any(|failure| failure.connection == ConnectionKind::Fresh)
    );
}

#[tokio::test]
async fn a_write_without_an_answer_is_never_repeated() {
    let server = Server::start(Faults {
        swallow: 5,
        ..Faults::default()
    })
    .await;
    let writes = Traffic {
        fresh: 0.2,
        requests: Vec::new(),
        ..traffic()
    };
    let report = run(&server, &writes, 600, 0).await;
    let requests = &report.requests;
    assert!(server.planted("swallow") >= 120);
    assert_eq!(requests.failed, server.planted("swallow"));
    assert_eq!(requests.resent.repeated, 0);
    assert_eq!(report.writes.len() as u64, requests.total - requests.failed);
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.arrived.len() as u64, requests.total);
    assert!(
        seen.arrived.values().all(|times| *times == 1),
        "a write arrived twice"
    );
}

#[tokio::test]
async fn a_stall_shows_in_the_latency_of_those_that_were_due() {
    let server = Server::start(Faults {
        stall_at: 50,
        ..Faults::default()
    })
    .await;
    let traffic = Traffic {
        rate: 200,
        connections: 2,
        ..kept_reads()
    };
    let report = run(&server, &traffic, 500, 0).await;
    let kind = &report.requests.kinds[0];
    assert_eq!(report.requests.failed, 0, "{:?}", report.requests.failures);
    assert!(
        kind.latency.max >= Duration::from_secs(1) && kind.service.max >= Duration::from_secs(1)
    );
    // 200 were due in that second; at most two of them had been sent.
    assert!(
        kind.latency.p90 >= Duration::from_millis(250),
        "{:?}",
        kind.latency
    );
    let slow = report
        .requests
        .timeline
        .iter()
        .filter(|slot| slot.slowest >= Duration::from_millis(500));
    assert!(slow.count() >= 1);
}

#[tokio::test]
async fn some_writes_come_slowly_where_there_are_connections_for_it() {
    for (connections, some) in [(8, true), (7, false)] {
        let server = Server::start(Faults::default()).await;
        let traffic = Traffic {
            rate: 200,
            connections,
            ..traffic()
        };
        let report = run(&server, &traffic, 300, 0).await;
        let halves = server.seen.lock().unwrap().halves;
        assert_eq!(halves > 0, some, "{halves} with {connections} connections");
        assert_eq!(report.requests.failed, 0, "{:?}", report.requests.failures);
    }
}

#[tokio::test]
async fn refused_connections_fail_at_once_and_work_again_afterwards() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    let load = Load::start(addr, None, kept_reads()).await.unwrap();
    within(load.reached(100, 0)).await;
    assert_eq!(load.progress().failed, load.progress().total);
    let refused = load.progress().failed;
    let server = Server::serve(socket.listen(1024).unwrap(), Faults::default());
    within(load.reached(refused + 200, 0)).await;
    let requests = within(load.stop()).await.requests;
    let answered = server.seen.lock().unwrap().requests;
    assert!(answered >= 100 && requests.failed >= refused);
    assert_eq!(requests.failed, requests.total - answered);
    assert_eq!(failed(&requests, FailureKind::Connect), requests.failed);
    assert!(
        requests.failures[0].detail.contains("refused"),
        "{:?}",
        requests.failures[0]
    );
}

#[tokio::test]
async fn no_answer_in_ten_seconds_is_a_failure() {
    let server = Server::start(Faults::default()).await;
    let shut = server.gate.lock().await;
    let traffic = Traffic {
        connections: 3,
        ..kept_reads()
    };
    let load = Load::start(server.addr, None, traffic).await.unwrap();
    within(load.reached(3, 0)).await;
    drop(shut);
    within(load.reached(100, 0)).await;
    let requests = within(load.stop()).await.requests;
    let late = failed(&requests, FailureKind::TimeOut);
    // Each of the three waits; the first to give up may begin another before the gate opens, and gets its answer.
    assert_eq!((requests.failed, late), (3, 3), "{:?}", requests.failures);
    assert!(requests.kinds[0].service.max >= Duration::from_secs(10));
}

#[tokio::test]
async fn stopping_waits_for_what_is_under_way_and_says_what_was_never_sent() {
    let server = Server::start(Faults::default()).await;
    let shut = server.gate.lock().await;
    let traffic = Traffic {
        connections: 4,
        ..kept_reads()
    };
    let load = Load::start(server.addr, None, traffic).await.unwrap();
    let busy = async {
        let connections = || server.seen.lock().unwrap().connections;
        while connections() < 4 || load.progress().elapsed < Duration::from_millis(300) {
            tokio::task::yield_now().await;
        }
    };
    within(busy).await;
    // The stop is polled first, so it is on its way when the gate opens.
    let (report, ()) =
        within(async { tokio::join!(biased; load.stop(), async { drop(shut) }) }).await;
    let requests = report.requests;
    assert_eq!(
        (requests.total, requests.failed),
        (4, 0),
        "{:?}",
        requests.failures
    );
    assert!(
        requests.overdue >= 296,
        "{} of 300 were due and not sent",
        requests.overdue
    );
}

#[tokio::test]
async fn the_applications_own_counts_are_read_with_their_denominator() {
    let server = Server::start(Faults::default()).await;
    let zero = TrafficZero {
        name: "doubled roll-ups".into(),
        get: "/counts".into(),
        value: "/rollups/doubled".into(),
        of: "/rollups/all".into(),
    };
    let mut traffic = Traffic {
        zeros: vec![zero],
        ..traffic()
    };
    let token = sign_in(server.addr, None, &traffic).await.unwrap();
    let read = zeros(
        server.addr,
        Some("notes.example.com"),
        &traffic,
        token.as_ref(),
    )
    .await
    .unwrap();
    assert_eq!(
        read,
        [Zero {
            name: "doubled roll-ups".into(),
            value: 3,
            of: 250
        }]
    );
    assert!(
        !read[0].holds()
            && !Zero {
                value: 0,
                of: 0,
                ..read[0].clone()
            }
            .holds()
    );
    assert_eq!(server.seen.lock().unwrap().host, "notes.example.com");
    assert_eq!(server.seen.lock().unwrap().unauthorized, 0);
    traffic.zeros[0].of = "/rollups/none".into();
    let error = zeros(server.addr, None, &traffic, token.as_ref())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`doubled roll-ups` cannot be read: nothing at `/rollups/none`"
    );
}

#[tokio::test]
async fn a_refused_sign_in_quotes_the_answer() {
    let server = Server::start(Faults::default()).await;
    let mut traffic = traffic();
    traffic.sign_in.as_mut().unwrap().body = "{}".into();
    match Load::start(server.addr, None, traffic.clone()).await {
        Err(Error::SignInRefused { status: 403, body }) => assert_eq!(body, "n".repeat(200)),
        other => panic!("{other:?}"),
    }
    traffic.sign_in.as_mut().unwrap().body = r#"{"who":"ana"}"#.into();
    traffic.sign_in.as_mut().unwrap().token = "/nowhere".into();
    let error = Load::start(server.addr, None, traffic).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "sign-in answered without a token at `/nowhere`"
    );
}

#[tokio::test]
async fn traffic_that_cannot_be_sent_is_refused_before_it_starts() {
    let addr = "127.0.0.1:9".parse().unwrap();
    let empty = Traffic {
        requests: Vec::new(),
        ..kept_reads()
    };
    assert!(matches!(
        Load::start(addr, None, empty).await,
        Err(Error::NothingDeclared)
    ));
    let idle = Traffic {
        rate: 0,
        ..kept_reads()
    };
    assert!(matches!(
        Load::start(addr, None, idle).await,
        Err(Error::NothingDeclared)
    ));
    let odd = Traffic {
        requests: vec![read(1, "/a b")],
        ..kept_reads()
    };
    assert!(matches!(
        Load::start(addr, None, odd).await,
        Err(Error::Request(..))
    ));
}

#[tokio::test]
async fn the_report_in_json_holds_the_numbers_and_not_the_token() {
    let server = Server::start(Faults {
        error: 100,
        ..Faults::default()
    })
    .await;
    let report = run(&server, &traffic(), 300, 0).await;
    let text = serde_json::to_string(&report).unwrap();
    assert!(!text.contains("t0ken") && !format!("{report:?}").contains("t0ken"));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["requests"]["total"], report.requests.total);
    assert_eq!(json["requests"]["failed"], server.planted("error"));
    assert_eq!(
        json["requests"]["failed_by"]["status"],
        server.planted("error")
    );
    assert_eq!(json["acknowledged"], report.writes.len());
    assert!(json["requests"]["rate"].as_f64().unwrap() > 0.0);
}
