//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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

/// The arguments of each command.
pub mod commands {
    use super::{Args, Here, PathBuf, Subcommand, There, ValueEnum};
    use clap_complete::Shell;

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
    #[command(
        after_help = "Examples:\n  tow secrets set JWT_SECRET -e staging\n  tow secrets set JWT_SECRET -e staging < file\n  tow secrets rotate JWT_SECRET -e production\n  tow secrets people add bob age1... -e staging\n  tow secrets audit -e production --verify"
    )]
    pub struct Secrets {
        #[command(subcommand)]
        pub command: SecretsCommand,
    }

    #[derive(Subcommand)]
    pub enum SecretsCommand {
        /// Set a secret: its value comes from a prompt, or from standard input.
        Set(Set),
        /// Print a secret.
        Get {
            /// Its name.
            name: String,
            /// Environment.
            #[arg(short, long = "env", value_name = "ENV")]
            environment: String,
        },
        /// List secrets, without their values; also those that services ask for and nobody has set.
        List {
            /// Environment.
            #[arg(short, long = "env", value_name = "ENV", default_value = "local")]
            environment: String,
            /// Print JSON.
            #[arg(long)]
            json: bool,
        },
        /// Put a new value in the place of a secret's while the old one is still good; goes on with one that was begun.
        Rotate(Rotate),
        /// Take a secret out.
        Remove {
            /// Its name.
            name: String,
            /// Environment.
            #[arg(short, long = "env", value_name = "ENV")]
            environment: String,
        },
        /// Sign an environment's secrets as they are now: after a merge of two branches.
        Sign {
            /// Environment.
            #[arg(short, long = "env", value_name = "ENV")]
            environment: String,
        },
        /// Give the secrets the name that the application has in tow.toml now: all of them are encrypted and signed anew.
        Rename,
        /// Print what others need to let you read: your recipient, and the key of your signatures.
        Key,
        /// Who reads which environment.
        People(People),
        /// Who looked at which secret, and when.
        Audit {
            /// Environment.
            #[arg(short, long = "env", value_name = "ENV", default_value = "local")]
            environment: String,
            /// Check that no row was changed, added, taken out or cut off.
            #[arg(long)]
            verify: bool,
            /// Print JSON.
            #[arg(long)]
            json: bool,
        },
    }

    #[derive(Args)]
    pub struct Set {
        /// Its name: that of the environment variable.
        pub name: String,
        /// Environment.
        #[arg(short, long = "env", value_name = "ENV")]
        pub environment: String,
        /// Take the value from standard input or a prompt; what `set` does anyhow.
        #[arg(long)]
        pub stdin: bool,
        /// Taken only to be refused with a reason.
        #[arg(hide = true, num_args = 0..)]
        pub value: Vec<String>,
    }

    #[derive(Args)]
    pub struct Rotate {
        /// Its name.
        pub name: String,
        /// Environment.
        #[arg(short, long = "env", value_name = "ENV")]
        pub environment: String,
        /// Take the new value from standard input or a prompt, instead of making a random one.
        #[arg(long, conflicts_with = "undo")]
        pub stdin: bool,
        /// Go back to the old value.
        #[arg(long)]
        pub undo: bool,
        /// Wait until the overlap is over, and revoke the old value then.
        #[arg(long)]
        pub wait: bool,
        /// Stop the version that is warm for the way back: it knows the old value only.
        #[arg(long)]
        pub end_window: bool,
        /// Rotate one that services know a single value of: the old one is refused from the switch on.
        #[arg(long)]
        pub interrupt: bool,
        /// A planted fault; only where the agent is a rehearsal's.
        #[arg(long, hide = true, value_parser = ["early-revoke"])]
        pub sabotage: Option<String>,
        /// Taken only to be refused with a reason.
        #[arg(hide = true, num_args = 0..)]
        pub value: Vec<String>,
    }

    #[derive(Args)]
    pub struct People {
        #[command(subcommand)]
        pub command: Option<PeopleCommand>,
    }

    #[derive(Subcommand)]
    pub enum PeopleCommand {
        /// Let somebody read an environment: a person, a CI; `agent` is the environment's own.
        Add {
            /// Name.
            name: String,
            /// What `tow secrets key` prints where they work, or an age recipient.
            contact: Option<String>,
            /// Environment.
            #[arg(short, long = "env", value_name = "ENV")]
            environment: String,
        },
        /// Encrypt an environment's secrets to somebody no more.
        Remove {
            /// Name.
            name: String,
            /// Environment.
            #[arg(short, long = "env", value_name = "ENV")]
            environment: String,
        },
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
        #[command(
            after_help = "Examples:\n  tow migrate up --dry-run\n  tow migrate up -e staging"
        )]
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
    #[command(
        after_help = "Examples:\n  tow setup -e staging --dry-run\n  tow setup -e staging\n  tow setup -e staging --user"
    )]
    pub struct Setup {
        #[command(flatten)]
        pub there: There,
        /// For the ssh user alone: no root's rights, and ports above 1023.
        #[arg(long)]
        pub user: bool,
        /// Do it without asking.
        #[arg(short, long)]
        pub yes: bool,
        /// Where no systemd runs, start `tow server run` now.
        #[arg(long)]
        pub start: bool,
        /// Program to install, instead of this one: for another processor or C library.
        #[arg(long, value_name = "PATH")]
        pub binary: Option<PathBuf>,
    }

    #[derive(Args)]
    pub struct Server {
        #[command(subcommand)]
        pub command: ServerCommand,
    }

    #[derive(Subcommand)]
    pub enum ServerCommand {
        /// Have an environment's agent and gateway become this build, under load.
        Upgrade {
            #[command(flatten)]
            here: Here,
            /// Program to bring to the environment's server, instead of this one.
            #[arg(long, value_name = "PATH")]
            binary: Option<PathBuf>,
        },
        /// Keep an agent running for every environment of this machine; what a server starts when
        /// it comes up.
        Run,
        /// Keys that may deploy one environment, and nothing else.
        Key(Key),
    }

    #[derive(Args)]
    pub struct Key {
        #[command(subcommand)]
        pub command: KeyCommand,
    }

    #[derive(Subcommand)]
    pub enum KeyCommand {
        /// Let the public key on standard input deploy an environment.
        #[command(after_help = "Example:\n  tow server key add -e staging --name ci < ci.pub")]
        Add(KeyName),
        /// Take that back.
        Remove(KeyName),
    }

    #[derive(Args)]
    pub struct KeyName {
        /// Environment.
        #[arg(short, long = "env", value_name = "ENV")]
        pub environment: String,
        /// Name of the key, for the journal.
        #[arg(long)]
        pub name: String,
        /// Print the line of `authorized_keys`, and change nothing.
        #[arg(long)]
        pub print: bool,
    }

    #[derive(Args)]
    #[command(after_help = "Example:\n  tow completion bash > /etc/bash_completion.d/tow")]
    pub struct Completion {
        /// Shell.
        pub shell: Shell,
    }

    #[derive(Args)]
    #[command(args_conflicts_with_subcommands = true)]
    pub struct Agent {
        #[command(subcommand)]
        pub command: Option<AgentCommand>,
        #[command(flatten)]
        pub serve: Option<Serve>,
    }

    #[derive(Subcommand)]
    pub enum AgentCommand {
        /// Become a connection to the agent of an environment on this machine.
        Dial(Dial),
    }

    #[derive(Args)]
    pub struct Serve {
        #[arg(long)]
        pub app: String,
        #[arg(long)]
        pub environment: String,
        #[arg(long)]
        pub dir: PathBuf,
        #[arg(long)]
        pub rehearsal: bool,
        /// Seconds that it outlives what it hears last; everything goes with it then.
        #[arg(long, requires = "rehearsal")]
        pub lasts: Option<u64>,
    }

    #[derive(Args)]
    pub struct Dial {
        /// Application.
        #[arg(long)]
        pub app: String,
        /// Environment.
        #[arg(long)]
        pub environment: String,
        /// Whoever dials may do only this.
        #[arg(long, requires = "key")]
        pub only: Option<Only>,
        /// Name of the key that dials.
        #[arg(long, requires = "only")]
        pub key: Option<String>,
        /// Name of the rehearsal that the environment is of.
        #[arg(long, requires = "lasts", conflicts_with = "only")]
        pub rehearsal: Option<String>,
        /// Seconds that its agent outlives what it hears last.
        #[arg(long)]
        pub lasts: Option<u64>,
        /// Make the environment where it is not there.
        #[arg(long, requires = "rehearsal")]
        pub begins: bool,
    }

    #[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
    pub enum Only {
        /// Bring releases in, and follow that.
        Deploy,
    }

    #[derive(Args)]
    pub struct Gateway {
        pub socket: PathBuf,
        pub state: PathBuf,
        pub certificates: Option<PathBuf>,
    }

    #[derive(Args)]
    pub struct Shim {
        pub dir: PathBuf,
    }
}
