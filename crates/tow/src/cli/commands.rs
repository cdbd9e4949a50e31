//! The arguments of each command.

mod secrets;
mod server;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::{Here, There};

pub use secrets::*;
pub use server::*;

#[derive(Args)]
#[command(
    after_help = "Reads Procfile, process-compose.yaml, supervisord.conf, fly.toml, kamal's config/deploy.yml,\ncompose.yaml, Dockerfile, package.json, Cargo.toml, pyproject.toml, requirements.txt, .env.\n\nExamples:\n  tow init\n  tow init --dry-run\n  tow init --print > tow.toml.new\n  tow -C ../shop init --without docker-compose.yml"
)]
pub struct Init {
    /// Say what would be written, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Print the manifest on standard output, and write nothing.
    #[arg(long)]
    pub print: bool,
    /// File that is not read; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub without: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Check {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  tow doctor\n  tow doctor -e staging\n  tow doctor -e staging --json\n\nExit code 1 when something is missing."
)]
pub struct Doctor {
    #[command(flatten)]
    pub here: Here,
}

#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  tow config -e staging\n  tow config -e staging --explain MAX_FILE_SIZE\n  tow config diff staging production\n  tow config render --format env-example > .env.example"
)]
pub struct Config {
    #[command(subcommand)]
    pub command: Option<ConfigCommand>,
    #[command(flatten)]
    pub here: Here,
    /// Say where each value comes from, and what it stands in the place of: all, or one KEY.
    #[arg(long, value_name = "KEY", num_args = 0..=1)]
    pub explain: Option<Option<String>>,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Show what differs between two environments.
    Diff {
        /// One environment.
        #[arg(value_name = "ENV")]
        one: String,
        /// The other.
        #[arg(value_name = "OTHER")]
        other: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show where what is typed here, what is applied and what each instance runs with differ; no values.
    Drift {
        #[command(flatten)]
        here: Here,
    },
    /// Print what applications read: `.env.example`, or typed bindings.
    Render {
        /// What is printed.
        #[arg(long)]
        format: Format,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `.env.example`: every name, what it is, and what it is here; no secrets.
    EnvExample,
    /// A module of TypeScript.
    Ts,
    /// A module of Python.
    Python,
    /// A module of Rust.
    Rust,
}

#[derive(Args)]
pub struct Env {
    #[command(subcommand)]
    pub command: EnvCommand,
}

#[derive(Subcommand)]
pub enum EnvCommand {
    /// Write a new environment into the manifest that says what another says.
    Clone(CloneEnvironment),
}

#[derive(Args)]
#[command(after_help = "Example:\n  tow env clone production dev --set MAX_FILE_SIZE_MB=10")]
pub struct CloneEnvironment {
    /// Environment that is copied.
    pub from: String,
    /// Name of the new one.
    pub to: String,
    /// Give a variable another value in the new one.
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Print the manifest as it would be, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args)]
pub struct Up {
    #[command(flatten)]
    pub here: Here,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args)]
pub struct Down {
    #[command(flatten)]
    pub here: Here,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args)]
pub struct Ps {
    #[command(flatten)]
    pub here: Here,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  tow logs web\n  tow logs web -e production --follow")]
pub struct Logs {
    /// Service; all of them when not given. `gateway` and `build` have logs too.
    pub service: Option<String>,
    #[command(flatten)]
    pub here: Here,
    /// Go on with what is written from now on.
    #[arg(short, long)]
    pub follow: bool,
    /// Lines shown.
    #[arg(short = 'n', long, default_value_t = 100)]
    pub lines: usize,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  tow deploy -e staging\n  tow deploy -e staging --commit v1.4 --wait\n  tow deploy -e staging --dry-run"
)]
pub struct Deploy {
    #[command(flatten)]
    pub there: There,
    /// Commit to build, instead of HEAD: an id, a tag, a branch.
    #[arg(long, value_name = "REF", conflicts_with_all = ["release", "allow_dirty"])]
    pub commit: Option<String>,
    /// Bring in a release that the environment has, instead of building one: its number or digest.
    #[arg(long, value_name = "RELEASE", conflicts_with = "allow_dirty")]
    pub release: Option<String>,
    /// Deploy HEAD although there are changes that are not committed.
    #[arg(long)]
    pub allow_dirty: bool,
    /// Also when this very release serves already: start its instances anew.
    #[arg(long)]
    pub again: bool,
    /// Return only when the window is over.
    #[arg(long)]
    pub wait: bool,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  tow maintenance on -e production --message \"Back at 14:00 UTC\" --retry-after 30m\n  tow maintenance off -e production"
)]
pub struct Maintenance {
    #[command(subcommand)]
    pub command: MaintenanceCommand,
}

#[derive(Subcommand)]
pub enum MaintenanceCommand {
    /// Answer requests with a page that says so, and 503.
    On {
        #[command(flatten)]
        there: There,
        /// What the page says.
        #[arg(long, value_name = "TEXT")]
        message: Option<String>,
        /// When clients are told to come again.
        #[arg(long, value_name = "DURATION", default_value = "5m")]
        retry_after: String,
    },
    /// Serve again.
    Off {
        #[command(flatten)]
        there: There,
    },
}

#[derive(Args)]
#[command(after_help = "Example:\n  tow promote -e production")]
pub struct Promote {
    #[command(flatten)]
    pub there: There,
    /// Also when this very release serves already: start its instances anew.
    #[arg(long)]
    pub again: bool,
    /// Return only when the window is over.
    #[arg(long)]
    pub wait: bool,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  tow rollback -e production\n  tow rollback r41 -e production --dry-run"
)]
pub struct Rollback {
    /// Release, as in `r41`; the last good one when not given.
    #[arg(value_name = "RELEASE")]
    pub to: Option<String>,
    #[command(flatten)]
    pub there: There,
}

#[derive(Args)]
pub struct Plan {
    #[command(subcommand)]
    pub command: PlanCommand,
}

#[derive(Subcommand)]
pub enum PlanCommand {
    /// Explain the steps of a run, what undoes each, and the point of no return.
    Explain(Explain),
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  tow plan explain -e staging\n  tow plan explain rollback -e production"
)]
pub struct Explain {
    /// What would be begun; when not given, the run under way, or else what brings a release in.
    pub operation: Option<Explains>,
    #[command(flatten)]
    pub here: Here,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Explains {
    /// As `tow up` would.
    Up,
    /// As `tow down` would.
    Down,
    /// As `tow deploy` would.
    Deploy,
    /// As `tow promote` would.
    Promote,
    /// As `tow rollback` would.
    Rollback,
}

#[derive(Args)]
pub struct Cancel {
    /// Environment.
    #[arg(short, long = "env", value_name = "ENV")]
    pub environment: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "Example:\n  tow gc -e staging --dry-run")]
pub struct Gc {
    #[command(flatten)]
    pub there: There,
}

#[derive(Args)]
pub struct Migrate {
    #[command(subcommand)]
    pub command: MigrateCommand,
}

#[derive(Subcommand)]
pub enum MigrateCommand {
    /// Apply what is pending, after a backup.
    #[command(after_help = "Examples:\n  tow migrate up --dry-run\n  tow migrate up -e staging")]
    Up(Migration),
    /// Take back what is above a number, after a backup.
    #[command(after_help = "Example:\n  tow migrate down 3")]
    Down {
        /// Number of the last migration that stays; 0 takes all back.
        #[arg(value_name = "VERSION")]
        to: u64,
        #[command(flatten)]
        migration: Migration,
    },
    /// Show what is applied, what is pending, and where the schema differs from its migrations.
    Status {
        #[command(flatten)]
        here: Here,
    },
    /// Count an existing schema as migrated up to a number.
    #[command(after_help = "Example:\n  tow migrate baseline 4 -e production")]
    Baseline {
        /// Number of the last migration that counts.
        version: u64,
        #[command(flatten)]
        migration: Migration,
    },
    /// Write the two files of a new migration.
    #[command(
        after_help = "Examples:\n  tow migrate new add_tags\n  tow migrate new search --engine postgres"
    )]
    New {
        /// Name: small letters, digits and `_`.
        name: String,
        /// Only for this kind of database; in a sub-folder of its own.
        #[arg(long)]
        engine: Option<Engine>,
        /// Whose migrations, where there are several databases.
        #[arg(long, value_name = "NAME")]
        resource: Option<String>,
    },
}

#[derive(Args)]
pub struct Migration {
    #[command(flatten)]
    pub here: Here,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Whose migrations, where there are several databases.
    #[arg(long, value_name = "NAME")]
    pub resource: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// A SQLite file.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

#[derive(Args)]
pub struct Releases {
    #[command(flatten)]
    pub here: Here,
}

#[derive(Args)]
pub struct Metrics {
    /// Environment.
    #[arg(short, long = "env", value_name = "ENV", default_value = "local")]
    pub environment: String,
}

#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    pub here: Here,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  tow rehearse\n  tow rehearse --prove\n  tow rehearse --sabotage skip-drain\n  tow rehearse --servers\n  tow rehearse --servers production=deploy@spare.example.com"
)]
pub struct Rehearse {
    /// Plant a fault, to see that it is found: the rehearsal must fail.
    #[arg(long, value_name = "FAULT", value_parser = ["drop-write", "early-kill", "skip-drain", "double-worker"])]
    pub sabotage: Option<String>,
    /// After the rehearsal, plant every fault in turn and see that each is found.
    #[arg(long, conflicts_with = "sabotage")]
    pub prove: bool,
    /// Requests at least; by default as declared in `[rehearse]`.
    #[arg(long)]
    pub requests: Option<u64>,
    /// Acknowledged writes at least; by default as declared in `[rehearse]`.
    #[arg(long)]
    pub writes: Option<u64>,
    /// The next version in and back so often, one after the other, each time with so many requests and writes.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Folder to work in, which must not exist; by default a temporary one.
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Leave the scratch folder, for looking at.
    #[arg(long)]
    pub keep: bool,
    /// Leave out running the source tree first.
    #[arg(long)]
    pub skip_local: bool,
    /// Rehearse on servers: those that the manifest names, and what is said here instead.
    #[arg(long, value_name = "ENV=USER@HOST", num_args = 0.., value_delimiter = ',')]
    pub servers: Option<Vec<String>>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "Example:\n  tow completion bash > /etc/bash_completion.d/tow")]
pub struct Completion {
    /// Shell.
    pub shell: Shell,
}
