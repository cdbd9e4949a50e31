//! The processes that Towpath starts itself.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use rustix::fs::Mode;
use towpath::agent::api::Trouble;
use towpath::agent::{End, Error, Options, serve};
use towpath::diagnostic::Diagnostic;

use super::Ending;
use crate::cli::commands::{Gateway, Serve, Shim};
use crate::{out, version};

/// A failure with nothing to add.
pub fn failed(error: &dyn std::fmt::Display) -> Trouble {
    Trouble {
        exit: 1,
        diagnostic: Diagnostic::error("tow::failed", error.to_string()),
    }
}

/// Exit code 2: what was typed cannot be meant.
pub fn usage(text: impl Into<String>) -> Trouble {
    Trouble {
        exit: 2,
        diagnostic: Diagnostic::error("tow::usage", text),
    }
}

/// The parent of one process tree.
pub fn shim(arguments: &Shim) -> Ending {
    towpath::supervise::shim(&arguments.dir)
        .map(|()| 0)
        .map_err(|error| failed(&error))
}

/// What the shim of a container runs: ends with the container's exit code.
pub fn container(arguments: &Shim) -> Ending {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    let say = |text: &str| out::note(format!("towpath: {text}"));
    let ended = runtime.block_on(towpath::container::run(&arguments.dir, &say));
    ended.map_err(|error| failed(&error))
}

/// The gateway of one environment.
pub fn gateway(arguments: &Gateway) -> Ending {
    let Gateway {
        socket,
        state,
        certificates,
    } = arguments;
    towpath::release::gateway(socket, state, certificates.clone(), version())
        .map(|()| 0)
        .map_err(|error| failed(&error))
}

/// The agent of one environment.
pub async fn agent(arguments: &Serve) -> Ending {
    // A session of its own: it must not end with the terminal that happened to start it.
    let _ = rustix::process::setsid();
    // Whatever the umask of whoever started it: what it writes is for nobody else to change.
    let mask = rustix::process::umask(Mode::all());
    rustix::process::umask(mask | Mode::from_raw_mode(0o022));
    let tow = std::env::current_exe().map_err(|error| failed(&error))?;
    let options = Options {
        app: arguments.app.clone(),
        environment: arguments.environment.clone(),
        state: arguments.dir.clone(),
        tow,
        version: version().to_owned(),
        rehearsal: arguments.rehearsal,
        lasts: arguments.lasts.map(Duration::from_secs),
    };
    match serve(options).await {
        Ok(End::Exit) => Ok(0),
        Ok(End::Become(program)) => {
            // The process stays the same, so its children stay its own.
            let error = std::process::Command::new(program)
                .args(std::env::args_os().skip(1))
                .exec();
            Err(failed(&error))
        }
        Err(error @ Error::State(towpath::state::Error::Taken { .. })) => Err(Trouble {
            exit: 4,
            diagnostic: Diagnostic::error("agent::taken", error.to_string())
                .note("nothing was touched")
                .help(format!(
                    "`tow status -e {}` asks that agent; when it ends, what it runs goes on",
                    arguments.environment
                )),
        }),
        Err(error) => Err(failed(&error)),
    }
}
