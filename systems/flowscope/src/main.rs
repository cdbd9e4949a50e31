//! FlowScope: traces and prompts of LLM applications, one service on SQLite or PostgreSQL.

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
mod worker;

use std::process::ExitCode;

use settings::Settings;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flowscope: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let settled = |error: settings::SettingsError| error.to_string();
    match (words.as_slice(), arguments.len()) {
        ([], 0) => server::run(Settings::from_env().map_err(settled)?),
        (["rollup"], 1) => server::roll_up(&settings::database().map_err(settled)?),
        _ => return Err("it is `flowscope`, which serves, or `flowscope rollup`".to_owned()),
    }
    .map_err(|error| error.to_string())
}
