//! A gateway as a process of its own: `gateway SOCKET STATE [THREADS [CERTIFICATES LISTENERS]]`, listeners by
//! `LISTEN_FDS`. `GATEWAY_STALL_MS` is how long a client is waited for that takes nothing.

use std::process::ExitCode;
use std::time::Duration;

use towpath_gateway::{Limits, Options, Secure, run_within};

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
    let options = Options {
        socket: socket.into(),
        state: state.into(),
        version,
        threads,
        secure: secure.map(|(certificates, listeners)| Secure {
            certificates: certificates.into(),
            listeners,
        }),
    };
    match run_within(options, limits()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn limits() -> Limits {
    let stall = std::env::var("GATEWAY_STALL_MS").ok();
    let stall = stall.and_then(|stall| stall.parse().ok());
    stall.map_or_else(Limits::default, |stall| Limits {
        stall: Duration::from_millis(stall),
    })
}
