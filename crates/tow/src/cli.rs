//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  tow init                       write a manifest from what the project has
  tow check                      is the manifest right, for every environment?
  tow up                         run the source tree here
  tow deploy -e staging          build the committed tree and bring it into staging
  tow promote -e production      bring what runs in staging into production
  tow rollback -e production     go back to the version before
  tow rehearse                   all of that in a scratch folder, under load

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 invalid (nothing touched),
4 refused (nothing touched), 5 failed and undone, 6 stuck (a person is needed).";

/// Carries an application from this machine to production, and back.
#[derive(Parser)]
#[command(name = "tow", version = crate::version(), after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    /// Folder of the application; by default the nearest one upwards with a `tow.toml`.
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Folder that holds the state of environments on this machine (`APP/ENV` below it).
    #[arg(
        long,
        global = true,
        env = "TOWPATH_STATE",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub state: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What there is for people: without the commands that Towpath starts itself.
    pub fn for_people() -> clap::Command {
        let all = <Cli as clap::CommandFactory>::command();
        let shown = all.get_subcommands().filter(|one| !one.is_hide_set());
        clap::Command::new("tow")
            .about(all.get_about().cloned().unwrap_or_default())
            .args(all.get_arguments().cloned())
            .subcommands(shown.cloned())
    }
}

/// The environment a command is about, where `local` is meant when nothing is said.
#[derive(Args, Clone)]
pub struct Here {
    /// Environment.
    #[arg(short, long = "env", value_name = "ENV", default_value = "local")]
    pub environment: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The environment a command changes; it must be said.
#[derive(Args, Clone)]
pub struct There {
    /// Environment.
    #[arg(short, long = "env", value_name = "ENV")]
    pub environment: String,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Write a manifest from what the project has already.
    Init(commands::Init),
    /// Check the manifest for every environment; nothing is started.
    Check(commands::Check),
    /// Say what this machine lacks for an environment; nothing is changed, and nobody asked.
    Doctor(commands::Doctor),
    /// Show what the manifest means in one environment.
    Config(commands::Config),
    /// Work on the environments of the manifest.
    Env(commands::Env),
    /// Set, look at and rotate secrets.
    Secrets(commands::Secrets),
    /// Run the source tree on this machine.
    Up(commands::Up),
    /// Stop everything; data stays.
    Down(commands::Down),
    /// Show instances: state, port, CPU, memory.
    Ps(commands::Ps),
    /// Show logs.
    Logs(commands::Logs),
    /// Build the committed tree and bring it in.
    Deploy(commands::Deploy),
    /// Bring in the very release that runs in the environment before.
    Promote(commands::Promote),
    /// Go back to the version before, or to a named release.
    Rollback(commands::Rollback),
    /// Say what a run does, step by step, and from where on there is no way back.
    Plan(commands::Plan),
    /// Undo the run under way.
    Cancel(commands::Cancel),
    /// List releases.
    Releases(commands::Releases),
    /// Show what serves, what is warm, what is under way, and what to do.
    Status(commands::Status),
    /// Answer every request with a page that says so, or serve again.
    Maintenance(commands::Maintenance),
    /// Print what is counted of requests, connections and health, as Prometheus reads it.
    Metrics(commands::Metrics),
    /// Apply, look at and write migrations.
    Migrate(commands::Migrate),
    /// Remove builds, artifacts and backups that no way back needs.
    Gc(commands::Gc),
    /// Rehearse the whole way in a scratch folder, under the declared load.
    Rehearse(commands::Rehearse),
    /// Make a server ready for an environment, over ssh.
    Setup(commands::Setup),
    /// Work on agents, here and on servers.
    Server(commands::Server),
    /// Print the completion script of a shell.
    Completion(commands::Completion),
    /// Print the JSON Schema of `tow.toml`.
    Schema,
    #[command(hide = true)]
    Agent(commands::Agent),
    #[command(hide = true)]
    Gateway(commands::Gateway),
    #[command(hide = true)]
    Shim(commands::Shim),
    /// Keep the container of one instance.
    #[command(hide = true)]
    Container(commands::Shim),
}

pub mod commands;
