//! The commands, one file each where there is more to it than a question and an answer.

mod check;
mod config;
mod deploy;
mod dial;
mod doctor;
mod drift;
mod env;
mod gc;
mod init;
mod inner;
mod key;
mod local;
mod look;
mod maintenance;
mod migrate;
mod plan;
mod rehearsals;
mod rehearse;
mod secrets;
mod server;
mod setup;

use std::process::ExitCode;

use clap::Parser;
use towpath::agent::api::Trouble;

use crate::cli::commands::AgentCommand;
use crate::cli::{Cli, Command};
use crate::out;

/// How a command ends: an exit code that is no failure of the command's own, or what failed.
type Ending = Result<u8, Trouble>;

/// Reads the arguments, runs the command, gives its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let as_json = wants_json(&cli.command);
    let ended = run(cli);
    ExitCode::from(ended.unwrap_or_else(|trouble| {
        out::trouble(&trouble, as_json);
        trouble.exit
    }))
}

fn run(cli: Cli) -> Ending {
    match &cli.command {
        // These are many and long-lived, or must not have an event loop of their own.
        Command::Shim(arguments) => return inner::shim(arguments),
        Command::Container(arguments) => return inner::container(arguments),
        Command::Gateway(arguments) => return inner::gateway(arguments),
        Command::Completion(arguments) => {
            let mut script = Vec::new();
            clap_complete::generate(arguments.shell, &mut Cli::for_people(), "tow", &mut script);
            out::say(String::from_utf8_lossy(&script).trim_end());
            return Ok(0);
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| inner::failed(&error))?;
    let ended = runtime.block_on(dispatch(&cli));
    runtime.shutdown_background();
    ended
}

async fn dispatch(cli: &Cli) -> Ending {
    match &cli.command {
        Command::Init(arguments) => init::init(cli, arguments),
        Command::Check(arguments) => check::check(cli, arguments),
        Command::Doctor(arguments) => doctor::doctor(cli, arguments),
        Command::Config(arguments) => config::config(cli, arguments).await,
        Command::Secrets(arguments) => secrets::secrets(cli, arguments).await,
        Command::Env(arguments) => env::env(cli, arguments),
        Command::Schema => check::schema(),
        Command::Up(arguments) => local::up(cli, arguments).await,
        Command::Down(arguments) => local::down(cli, arguments).await,
        Command::Ps(arguments) => look::ps(cli, arguments).await,
        Command::Logs(arguments) => look::logs(cli, arguments).await,
        Command::Status(arguments) => look::status(cli, arguments).await,
        Command::Metrics(arguments) => look::metrics(cli, arguments).await,
        Command::Releases(arguments) => look::releases(cli, arguments).await,
        Command::Deploy(arguments) => deploy::deploy(cli, arguments).await,
        Command::Promote(arguments) => deploy::promote(cli, arguments).await,
        Command::Rollback(arguments) => deploy::rollback(cli, arguments).await,
        Command::Plan(arguments) => plan::plan(cli, arguments).await,
        Command::Cancel(arguments) => deploy::cancel(cli, arguments).await,
        Command::Maintenance(arguments) => maintenance::maintenance(cli, arguments).await,
        Command::Gc(arguments) => gc::gc(cli, arguments).await,
        Command::Migrate(arguments) => migrate::migrate(cli, arguments).await,
        Command::Rehearse(arguments) => rehearse::rehearse(cli, arguments).await,
        Command::Setup(arguments) => setup::setup(cli, arguments).await,
        Command::Server(arguments) => server::server(cli, arguments).await,
        Command::Agent(arguments) => match (&arguments.command, &arguments.serve) {
            (Some(AgentCommand::Dial(arguments)), _) => dial::dial(cli, arguments).await,
            (None, Some(arguments)) => inner::agent(arguments).await,
            (None, None) => Err(inner::usage("`tow agent` is started by other commands")),
        },
        Command::Completion(_) | Command::Gateway(_) | Command::Shim(_) | Command::Container(_) => {
            Ok(0)
        }
    }
}

fn wants_json(command: &Command) -> bool {
    match command {
        Command::Init(arguments) => arguments.json,
        Command::Check(arguments) => arguments.json,
        Command::Doctor(arguments) => arguments.here.json,
        Command::Config(arguments) => config::wants_json(arguments),
        Command::Secrets(arguments) => secrets::wants_json(arguments),
        Command::Up(arguments) => arguments.here.json,
        Command::Down(arguments) => arguments.here.json,
        Command::Ps(arguments) => arguments.here.json,
        Command::Logs(arguments) => arguments.here.json,
        Command::Status(arguments) => arguments.here.json,
        Command::Releases(arguments) => arguments.here.json,
        Command::Deploy(arguments) => arguments.there.json,
        Command::Promote(arguments) => arguments.there.json,
        Command::Rollback(arguments) => arguments.there.json,
        Command::Plan(arguments) => plan::wants_json(arguments),
        Command::Cancel(arguments) => arguments.json,
        Command::Maintenance(arguments) => maintenance::wants_json(arguments),
        Command::Gc(arguments) => arguments.there.json,
        Command::Migrate(arguments) => migrate::wants_json(arguments),
        Command::Rehearse(arguments) => arguments.json,
        Command::Setup(arguments) => arguments.there.json,
        _ => false,
    }
}
