//! A gateway as a process of its own: `gateway SOCKET STATE [THREADS [CERTIFICATES LISTENERS]]`, listeners by
//! `LISTEN_FDS`.

use std::process::ExitCode;

use towpath_gateway::{Options, Secure, run};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(socket), Some(state)) = (args.next(), args.next()) else {
        return ExitCode::from(2);
    };
    let threads = args
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(0);
    let secure = args
        .next()
        .zip(args.next().and_then(|count| count.parse().ok()));
    let version = std::env::var("GATEWAY_VERSION").unwrap_or_else(|_| "example".to_owned());
    match run(Options {
        socket: socket.into(),
        state: state.into(),
        version,
        threads,
        secure: secure.map(|(certificates, listeners)| Secure {
            certificates: certificates.into(),
            listeners,
        }),
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "gateway: {error}");
            ExitCode::FAILURE
        }
    }
}
