//! Of what is done to a server, and of the processes that run there.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Here, There};

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
