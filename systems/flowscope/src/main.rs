//! FlowScope: traces and prompts of LLM applications, one service on one SQLite file.

mod account;
mod api;
mod clock;
mod db;
mod live;
mod prompt;
mod rollup;
mod schema;
mod search;
mod server;
mod settings;
mod trace;
mod version;

use std::process::ExitCode;

fn main() -> ExitCode {
    match settings::Settings::from_env()
        .map_err(|error| error.to_string())
        .and_then(|settings| server::run(settings).map_err(|error| error.to_string()))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flowscope: {error}");
            ExitCode::FAILURE
        }
    }
}
