//! Connections by TLS to a real server, whose certificates are made here.

use std::net::TcpListener;
use std::path::Path;

use postgres::Client;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use towpath::resource::postgres::{binaries, connect_to, dump, said, target};

use crate::server::Server;

/// Who signs.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap().pem();
        Authority(Issuer::new(params, key), own)
    }
}

/// The server comes up anew on `port` with a certificate for `localhost`, one that is over or not; without any where
/// there is no authority.
fn serve(server: &Server, port: u16, by: Option<&Authority>, is_over: bool) {
    server.kill();
    let mut settings = vec!["listen_addresses=localhost"];
    if let Some(by) = by {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        // Else it has the name of who signs it, and is taken for its own authority.
        params
            .distinguished_name
            .push(DnType::CommonName, "a server");
        if is_over {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &by.0).unwrap();
        server.write("data/server.crt", &made.pem());
        server.write("data/server.key", &key.serialize_pem());
        settings.push("ssl=on");
    }
    server.start_with(port, &settings);
}

/// Whether the connection is by TLS, as the server sees it; or why there is none.
fn connect(url: &str) -> Result<bool, String> {
    let mut client: Client = connect_to(target(url)?, "test").map_err(|error| said(&error))?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(client.query_one(sql, &[]).unwrap().get(0))
}

fn refused(url: &str, why: &str) {
    let said = connect(url);
    assert!(
        matches!(&said, Err(text) if text.contains(why)),
        "{url}: {said:?}"
    );
}

#[test]
fn a_connection_is_what_its_url_wants_or_none() {
    let Some(server) = Server::own() else { return };
    let (right, wrong) = (Authority::new(), Authority::new());
    let right_file = server.write("right.pem", &right.1).display().to_string();
    let wrong_file = server.write("wrong.pem", &wrong.1).display().to_string();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let url = |host: &str, more: &str| format!("postgres://postgres@{host}:{port}/postgres?{more}");

    serve(&server, port, Some(&right), false);
    for (host, more, by_tls) in [
        ("localhost", "a=b".to_owned(), true),
        ("localhost", "sslmode=prefer".to_owned(), true),
        ("localhost", "sslmode=disable".to_owned(), false),
        ("localhost", "sslmode=require".to_owned(), true),
        (
            "localhost",
            format!("sslmode=require&sslrootcert={right_file}"),
            true,
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={right_file}"),
            true,
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&sslrootcert={right_file}"),
            true,
        ),
    ] {
        assert_eq!(connect(&url(host, &more)), Ok(by_tls), "{host} {more}");
    }
    let nobody = "by nobody that `sslrootcert` believes";
    for mode in ["require", "verify-ca", "verify-full"] {
        refused(
            &url(
                "localhost",
                &format!("sslmode={mode}&sslrootcert={wrong_file}"),
            ),
            nobody,
        );
    }
    refused(
        &url(
            "127.0.0.1",
            &format!("sslmode=verify-full&sslrootcert={right_file}"),
        ),
        "not for `127.0.0.1`: it is for",
    );
    the_password_is_tied_to_it(&server, port);
    a_dump_is_taken_by_it(
        &server,
        &url(
            "localhost",
            &format!("sslmode=verify-full&sslrootcert={right_file}"),
        ),
    );

    serve(&server, port, Some(&right), true);
    for mode in ["require", "verify-full"] {
        let more = format!("sslmode={mode}&sslrootcert={right_file}");
        refused(&url("localhost", &more), "not valid any more");
    }
    serve(&server, port, None, false);
    refused(&url("localhost", "sslmode=require"), "offers no TLS");
    assert_eq!(connect(&url("localhost", "sslmode=prefer")), Ok(false));
}

/// The server refuses a proof that was made for another certificate.
fn the_password_is_tied_to_it(server: &Server, port: u16) {
    let rules =
        "hostssl all bound all scram-sha-256\nhost all all all trust\nlocal all all trust\n";
    server.write("data/pg_hba.conf", rules);
    let mut root = server.root("postgres");
    root.batch_execute("CREATE ROLE bound LOGIN PASSWORD 'secret'; SELECT pg_reload_conf()")
        .unwrap();
    let url = |password: &str| {
        format!(
            "postgres://bound:{password}@localhost:{port}/postgres?sslmode=require&channel_binding=require"
        )
    };
    crate::server::until("the new rules", || {
        connect(&url("wrong")).is_err().then_some(())
    });
    assert_eq!(connect(&url("secret")), Ok(true));
    refused(&url("wrong"), "password authentication failed");
}

fn a_dump_is_taken_by_it(server: &Server, url: &str) {
    let Some(program) = binaries::client("pg_dump", 1) else {
        return;
    };
    let file = server.write("dump", "");
    let command = dump::dump(&program, url, Path::new(&file));
    let ended = std::process::Command::new(&command.argv[0])
        .args(&command.argv[1..])
        .env_clear()
        .envs(&command.env)
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
}
